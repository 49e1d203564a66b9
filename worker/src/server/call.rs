//! The program `call`: asks servers about the molecules of [`JOB`](super::JOB), writes a row as soon as it has one, and says by its exit
//! code what to think of the molecules that have none, as every driver does: 75 that no server could be asked, 70 that their answers are
//! none.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use common::task::{HttpOptions, MoleculeField};
use common::{env, exit_code};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engine::RowReason;

use super::answer::{self, Answer};
use super::http::{HttpClient, HttpServers, Reply};
use super::pool::{GaveUp, Patience, Pool, Trouble};
use super::{Endpoint, Protocol, Servers};

/// Arguments of `call`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Call {
    /// What to speak
    protocol: Protocol,
    /// The file that says what to ask
    job: PathBuf,
    /// The servers
    #[arg(long = "endpoint", env = env::ENDPOINTS, value_delimiter = ',')]
    endpoints: Vec<Endpoint>,
    /// The file of their token
    #[arg(long, env = env::ENDPOINT_TOKEN_FILE)]
    endpoint_token_file: Option<PathBuf>,
    /// How long all of it may take
    #[arg(long, env = env::STEP_SECONDS_MAX, default_value_t = 3600)]
    step_seconds_max: u64,
}

/// Why a call came to no good end.
#[derive(Debug, thiserror::Error)]
enum CallError {
    /// The servers.
    #[error(transparent)]
    Servers(#[from] GaveUp),
    /// A server neither answers nor is well shortly before the step's end.
    #[error("{0}")]
    Hangs(String),
    /// This machine.
    #[error("{0}")]
    Local(String),
}

impl CallError {
    /// What to think of the molecules without a row.
    const fn exit_code(&self) -> u8 {
        match self {
            Self::Servers(GaveUp::Nonsense { .. }) => exit_code::SOFTWARE,
            Self::Servers(GaveUp::Away { .. }) | Self::Hangs(_) | Self::Local(_) => exit_code::TRY_AGAIN,
        }
    }
}

/// Runs the program.
pub(crate) async fn call(call: Call) -> ExitCode {
    let called = match call.protocol {
        Protocol::Http => HttpCall::begin(&call),
    };
    let done = match called {
        Ok(mut called) => called.run().await,
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::from(exit_code::OK),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// What an engine writes for a call of `http`.
#[derive(Deserialize)]
struct Job {
    options: HttpOptions,
    molecules: Vec<JobMolecule>,
}

/// A molecule as `task.json` has it.
#[derive(Clone, Deserialize)]
struct JobMolecule {
    id: String,
    smiles: Option<String>,
    structure: Option<PathBuf>,
    seed: u32,
}

struct HttpCall {
    options: HttpOptions,
    molecules: Vec<JobMolecule>,
    client: HttpClient,
    pool: Pool,
    rows: File,
    step: Duration,
}

impl HttpCall {
    fn begin(call: &Call) -> Result<Self, CallError> {
        let text = fs::read_to_string(&call.job).map_err(|error| local("the job can't be read", &error))?;
        let Job { options, molecules } =
            serde_json::from_str(&text).map_err(|error| local("the job is none", &error))?;
        let rows =
            File::create(options.rows().rows).map_err(|error| local("no rows can be written", &error))?;
        let servers =
            Servers { endpoints: call.endpoints.clone(), token_file: call.endpoint_token_file.clone() };
        let client = HttpClient::new(servers.token_file.as_deref()).map_err(CallError::Local)?;
        let step = Duration::from_secs(call.step_seconds_max);
        let pool = Pool::new(servers.speaking(Protocol::Http), Patience::within(step));
        Ok(Self { options, molecules, client, pool, rows, step })
    }

    /// Asks about all molecules at once, and about fewer where a server can't tell what is wrong with which. The rows of the others
    /// stand when one has none.
    async fn run(&mut self) -> Result<(), CallError> {
        let mut open = vec![self.molecules.clone()];
        let mut nonsense = None;
        while let Some(mut molecules) = open.pop() {
            match self.ask(&molecules).await {
                Ok(Reply::Answer(lines)) => {
                    self.write(&lines)?;
                    let found = answer::read(&format!("[{}]", lines.trim_end().replace('\n', ",")), "");
                    let found = found.map(|answer| answer.ids).unwrap_or_default();
                    open.extend(missing(molecules, &found));
                }
                Ok(Reply::Refused(why)) if molecules.len() == 1 => {
                    tracing::warn!(molecule = molecules[0].id, "{why}");
                    let row = json!({
                        "molecule_id": molecules[0].id, "verdict": "bad", "reason": RowReason::ServerRefused.name(), "detail": why,
                    });
                    self.write(&format!("{row}\n"))?;
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

    fn write(&mut self, lines: &str) -> Result<(), CallError> {
        self.rows.write_all(lines.as_bytes()).map_err(|error| local("no row can be written", &error))
    }
}

fn local(what: &str, error: &dyn std::fmt::Display) -> CallError {
    CallError::Local(format!("{what}: {error}"))
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
