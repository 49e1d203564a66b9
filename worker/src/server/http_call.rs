//! A call of the engine `http`: which molecules are asked about together, and what an answer, or none, means for them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use common::task::{HttpOptions, MoleculeField};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{self, Answer};
use super::call::{Call, CallError, JobMolecule, Rows, local};
use super::http::{HttpClient, HttpServers, Reply};
use super::pool::{GaveUp, Pool, Trouble};
use super::{Endpoint, Protocol};
use crate::engine::RowReason;

/// What an engine writes for a call of `http`.
#[derive(Deserialize)]
struct Job {
    options: HttpOptions,
    molecules: Vec<JobMolecule>,
}

/// A call of `http`.
#[derive(Debug)]
pub(super) struct HttpCall {
    options: HttpOptions,
    molecules: Vec<JobMolecule>,
    client: HttpClient,
    pool: Pool,
    rows: Rows,
    step: Duration,
}

impl HttpCall {
    /// Reads the job and starts the file of rows.
    pub(super) fn begin(call: &Call) -> Result<Self, CallError> {
        let Job { options, molecules } = call.job()?;
        let rows = Rows::create(&options.rows().rows)?;
        let client = HttpClient::new(call.token_file()).map_err(CallError::Local)?;
        Ok(Self { options, molecules, client, pool: call.pool(Protocol::Http), rows, step: call.step() })
    }

    /// Asks about all molecules at once, and about fewer where a server can't tell what is wrong with which. The rows of the others
    /// stand when one has none.
    pub(super) async fn run(&mut self) -> Result<(), CallError> {
        let mut open = vec![self.molecules.clone()];
        let mut nonsense = None;
        while let Some(mut molecules) = open.pop() {
            match self.ask(&molecules).await {
                Ok(Reply::Answer(lines)) => {
                    self.rows.write(&lines)?;
                    let found = answer::read(&format!("[{}]", lines.trim_end().replace('\n', ",")), "");
                    let found = found.map(|answer| answer.ids).unwrap_or_default();
                    open.extend(missing(molecules, &found));
                }
                Ok(Reply::Refused(why)) if molecules.len() == 1 => {
                    tracing::warn!(molecule = molecules[0].id, "{why}");
                    self.rows.refuse(&molecules[0].id, RowReason::ServerRefused.name(), &why)?;
                }
                Err(CallError::Servers(error @ GaveUp::Nonsense { .. })) if molecules.len() == 1 => {
                    tracing::error!(molecule = molecules[0].id, "{error}");
                    nonsense = Some(error);
                }
                Ok(Reply::Refused(_)) | Err(CallError::Servers(GaveUp::Nonsense { .. })) => {
                    let half = molecules.split_off(molecules.len() / 2);
                    open.extend([half, molecules]);
                }
                Err(error) => return Err(error),
            }
        }
        nonsense.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Rows of these molecules as lines, or why a server has none.
    async fn ask(&mut self, molecules: &[JobMolecule]) -> Result<Reply, CallError> {
        let json = request(&self.options, molecules)?;
        let (options, client) = (&self.options, &self.client);
        let health = HttpServers { client, health: &options.health };
        // A server that stands still and is not well is away, whatever it was at: the step's own limit would blame the molecule.
        let doubt = self.step.mul_f64(0.8);
        let request = async |endpoint: &Endpoint| {
            tracing::info!(server = %endpoint, molecules = molecules.len(), "asking");
            let mut posted = std::pin::pin!(client.post(endpoint, &options.path, json.clone()));
            let reply = tokio::select! {
                reply = &mut posted => reply?,
                () = tokio::time::sleep(doubt) => match client.check(endpoint, &options.health).await {
                    Err(Trouble::Away(why) | Trouble::Unwell(why)) => return Ok(Err(format!("{endpoint} has hung up: {why}"))),
                    _ => posted.await?,
                },
            };
            Ok(Ok(match reply {
                Reply::Refused(why) => Reply::Refused(why),
                Reply::Answer(text) => {
                    let Answer { lines, .. } =
                        answer::read(&text, &options.answer).map_err(Trouble::Nonsense)?;
                    Reply::Answer(lines.into_iter().map(|line| line + "\n").collect())
                }
            }))
        };
        self.pool.ask(&health, request).await?.map_err(CallError::Hangs)
    }
}

/// Those of several molecules that an answer forgot, each to be asked about alone.
fn missing(molecules: Vec<JobMolecule>, found: &BTreeSet<String>) -> Vec<Vec<JobMolecule>> {
    if molecules.len() == 1 {
        return Vec::new();
    }
    molecules
        .into_iter()
        .filter(|molecule| !found.contains(&molecule.id))
        .map(|molecule| vec![molecule])
        .collect()
}

/// The JSON of a request.
fn request(options: &HttpOptions, molecules: &[JobMolecule]) -> Result<String, CallError> {
    let list: Result<Vec<Value>, CallError> =
        molecules.iter().map(|molecule| described(options, molecule)).collect();
    let mut request = options.request.clone();
    request.insert(options.molecules.clone(), Value::Array(list?));
    Ok(Value::Object(request).to_string())
}

fn described(options: &HttpOptions, molecule: &JobMolecule) -> Result<Value, CallError> {
    let mut fields = Map::new();
    for (key, field) in &options.fields {
        let value = match field {
            MoleculeField::Id => json!(molecule.id),
            MoleculeField::Smiles => json!(molecule.smiles),
            MoleculeField::Seed => json!(molecule.seed),
            MoleculeField::Structure => match &molecule.structure {
                Some(path) => {
                    let record =
                        fs::read(path).map_err(|error| local("a structure can't be read", &error))?;
                    json!(String::from_utf8_lossy(&record))
                }
                None => Value::Null,
            },
        };
        fields.insert(key.clone(), value);
    }
    Ok(Value::Object(fields))
}
