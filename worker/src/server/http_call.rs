//! A call of the engine `http`: which molecules are asked about together, and what an answer, or none, means for them.

use std::collections::BTreeSet;
use std::fs;

use common::task::{HttpOptions, MoleculeField};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::call::{Call, CallError, JobMolecule, Rows, local};
use super::http::{HttpClient, HttpServers, Reply};
use super::pool::{GaveUp, Pool, Trouble};
use super::{Endpoint, Protocol};
use crate::engine::RowReason;

/// After this share of a step's time a silent server is doubted.
const DOUBTFUL_SHARE: f64 = 0.8;

/// What an engine writes for a call of `http`.
#[derive(Deserialize)]
struct Job {
    options: HttpOptions,
    molecules: Vec<JobMolecule>,
}

/// What a server made of some molecules.
#[derive(Debug)]
enum Answered {
    /// Their rows, or some of them.
    Rows(Answer),
    /// It refuses one of them at least, and why.
    Refused(String),
}

/// A call of `http`.
#[derive(Debug)]
pub(super) struct HttpCall {
    options: HttpOptions,
    molecules: Vec<JobMolecule>,
    client: HttpClient,
    pool: Pool,
    rows: Rows,
    /// When a server that has not answered yet is asked whether it is well.
    doubt_at: Instant,
}

impl HttpCall {
    /// Reads the job and starts the file of rows.
    pub(super) fn begin(call: &Call) -> Result<Self, CallError> {
        let Job { options, molecules } = call.job()?;
        let rows = Rows::create(&options.rows().rows)?;
        let client = HttpClient::new(call.token_file()).map_err(CallError::Local)?;
        let doubt_at = Instant::now() + call.step().mul_f64(DOUBTFUL_SHARE);
        Ok(Self { options, molecules, client, pool: call.pool(Protocol::Http), rows, doubt_at })
    }

    /// Asks about all molecules at once, and about fewer where a server can't tell what is wrong with which. The rows of the others
    /// stand when one has none.
    pub(super) async fn run(&mut self) -> Result<(), CallError> {
        let mut open = vec![self.molecules.clone()];
        let mut nonsense = None;
        while let Some(mut molecules) = open.pop() {
            match self.ask(&molecules).await {
                Ok(Answered::Rows(answer)) => {
                    let lines: String = answer.lines.iter().flat_map(|line| [line, "\n"]).collect();
                    self.rows.write(&lines)?;
                    open.extend(missing(molecules, &answer.ids));
                }
                Ok(Answered::Refused(why)) if molecules.len() == 1 => {
                    tracing::warn!(molecule = molecules[0].id, "{why}");
                    self.rows.refuse(&molecules[0].id, RowReason::ServerRefused.name(), &why)?;
                }
                Err(CallError::Servers(error @ GaveUp::Nonsense { .. })) if molecules.len() == 1 => {
                    tracing::error!(molecule = molecules[0].id, "{error}");
                    nonsense = Some(error);
                }
                Ok(Answered::Refused(_)) | Err(CallError::Servers(GaveUp::Nonsense { .. })) => {
                    let half = molecules.split_off(molecules.len() / 2);
                    open.extend([half, molecules]);
                }
                Err(error) => return Err(error),
            }
        }
        nonsense.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Rows of these molecules, or why a server has none.
    async fn ask(&mut self, molecules: &[JobMolecule]) -> Result<Answered, CallError> {
        let json = request(&self.options, molecules)?;
        let (options, client, doubt_at) = (&self.options, &self.client, self.doubt_at);
        let health = HttpServers { client, health: &options.health };
        let request = async |endpoint: &Endpoint| {
            tracing::info!(server = %endpoint, molecules = molecules.len(), "asking");
            let mut posted = std::pin::pin!(client.post(endpoint, &options.path, json.clone()));
            let reply = tokio::select! {
                reply = &mut posted => reply?,
                why = unwell(client, endpoint, &options.health, doubt_at) => return Ok(Err(why)),
            };
            Ok(Ok(match reply {
                Reply::Refused(why) => Answered::Refused(why),
                Reply::Answer(text) => {
                    Answered::Rows(answer::read(&text, &options.answer).map_err(Trouble::Nonsense)?)
                }
            }))
        };
        self.pool.ask(&health, request).await?.map_err(CallError::Hangs)
    }
}

/// Waits until a server is in doubt, and then for ever if it is well. One that stands still and is not is away, whatever it was at: the
/// step's own limit would blame the molecule.
async fn unwell(client: &HttpClient, endpoint: &Endpoint, health: &str, doubt_at: Instant) -> String {
    tokio::time::sleep_until(doubt_at).await;
    match client.check(endpoint, health).await {
        Ok(()) | Err(Trouble::Busy { .. }) => std::future::pending().await,
        Err(trouble) => format!("{endpoint} stands still and is not well: {trouble}"),
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
