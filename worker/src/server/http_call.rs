//! A call of the engine `http`: which molecules are asked about together, and what an answer, or none, means for them.

use std::collections::BTreeSet;
use std::fs;

use common::task::{HttpOptions, MoleculeField};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::call::{Call, CallError, Findings, JobMolecule, local};
use super::http::{HttpClient, HttpServers, Reply};
use super::pool::{CRASHES_MAX, Pool, Trouble};
use super::{Endpoint, Protocol, Why};
use crate::engine::RowReason;

/// After this share of a step's time a silent server is doubted.
const DOUBTFUL_SHARE: f64 = 0.8;

/// What an engine writes for a call of `http`.
#[derive(Deserialize)]
struct Job {
    options: HttpOptions,
    molecules: Vec<JobMolecule>,
    /// Whether a server crashed over each of them, or over several of which it was one, in a former attempt.
    are_suspects: bool,
}

/// What a server made of some molecules.
#[derive(Debug)]
enum Answered {
    /// Their rows, or some of them.
    Rows(Answer),
    /// It refuses one of them at least, and why.
    Refused(String),
}

/// Molecules that are asked about together.
#[derive(Debug)]
struct Portion {
    molecules: Vec<JobMolecule>,
    /// Whether a server crashed over it and others.
    is_suspect: bool,
}

impl Portion {
    /// Its halves, in its order.
    fn halves(mut self, is_suspect: bool) -> [Self; 2] {
        let second = self.molecules.split_off(self.molecules.len() / 2);
        [self.molecules, second].map(|molecules| Self { molecules, is_suspect })
    }
}

/// A call of `http`.
#[derive(Debug)]
pub(super) struct HttpCall {
    options: HttpOptions,
    /// What is to be asked about, the first at the end.
    open: Vec<Portion>,
    client: HttpClient,
    pool: Pool,
    findings: Findings,
    /// When a server that has not answered yet is asked whether it is well.
    doubt_at: Instant,
    /// Until when suspects are asked about: many that are fast together may take longer than a step one by one, and none is to blame.
    until: Option<Instant>,
}

impl HttpCall {
    /// Reads the job and starts the file of rows.
    pub(super) fn begin(call: &Call) -> Result<Self, CallError> {
        let Job { options, molecules, are_suspects } = call.job()?;
        let at_once = if are_suspects { 1 } else { molecules.len().max(1) };
        let portion =
            |molecules: &[JobMolecule]| Portion { molecules: molecules.to_vec(), is_suspect: false };
        let open = molecules.chunks(at_once).rev().map(portion).collect();
        let findings = Findings::create(&options.rows().rows)?;
        let client = HttpClient::new(call.token_file()).map_err(CallError::Local)?;
        let doubt_at = Instant::now() + call.step().mul_f64(DOUBTFUL_SHARE);
        let until = are_suspects.then(|| Instant::now() + call.step() / 2);
        Ok(Self { options, open, client, pool: call.pool(Protocol::Http), findings, doubt_at, until })
    }

    /// Asks about all molecules at once unless they are suspects, and about fewer where a server can't tell what is wrong with which. The
    /// rows of the others stand when one has none.
    pub(super) async fn run(&mut self) -> Result<(), CallError> {
        let mut open = std::mem::take(&mut self.open);
        let (mut last, mut is_first) = (None, true);
        while let Some(portion) = open.pop() {
            if !std::mem::take(&mut is_first) && self.until.is_some_and(|until| Instant::now() > until) {
                let rest = open.iter().chain([&portion]).flat_map(|portion| &portion.molecules);
                self.findings.note(Why::NotAsked, &CallError::HalfTime, rest)?;
                return Err(CallError::HalfTime);
            }
            let alone = (portion.molecules.len() == 1).then(|| portion.molecules[0].id.clone());
            match (self.ask(&portion.molecules).await, alone) {
                (Ok(Answered::Rows(answer)), _) => {
                    let lines: String = answer.lines.iter().flat_map(|line| [line, "\n"]).collect();
                    self.findings.write(&lines)?;
                    open.extend(missing(portion, &answer.ids));
                }
                (Ok(Answered::Refused(why)), Some(molecule)) => {
                    tracing::warn!(molecule, "{why}");
                    self.findings.refuse(&molecule, RowReason::ServerRefused.name(), &why)?;
                }
                (Err(error), Some(molecule)) if error.is_about_what_was_asked() => {
                    tracing::error!(molecule, "{error}");
                    if let Some(why) = error.why() {
                        self.findings.note(why, &error, &portion.molecules)?;
                    }
                    last = Some(error);
                }
                (Ok(Answered::Refused(_)), None) => {
                    let is_suspect = portion.is_suspect;
                    open.extend(portion.halves(is_suspect).into_iter().rev());
                }
                (Err(error), None) if error.is_about_what_was_asked() => {
                    let is_suspect = portion.is_suspect || error.why().is_some();
                    open.extend(portion.halves(is_suspect).into_iter().rev());
                }
                (Err(error), _) => {
                    let is_suspect = portion.is_suspect || error.why().is_some();
                    open.push(Portion { is_suspect, ..portion });
                    let suspects = open.iter().filter(|portion| portion.is_suspect);
                    let suspects = suspects.flat_map(|portion| &portion.molecules);
                    self.findings.note(Why::Lost, &error, suspects)?;
                    return Err(error);
                }
            }
        }
        last.map_or(Ok(()), Err)
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
        // Of several, any may be the one: they are asked about apart at once.
        let crashes_max = if molecules.len() == 1 { CRASHES_MAX } else { 1 };
        self.pool.ask(&health, crashes_max, request).await?.map_err(CallError::Hangs)
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
fn missing(portion: Portion, found: &BTreeSet<String>) -> Vec<Portion> {
    let Portion { molecules, is_suspect } = portion;
    if molecules.len() == 1 {
        return Vec::new();
    }
    let missing = molecules.into_iter().filter(|molecule| !found.contains(&molecule.id));
    missing.map(|molecule| Portion { molecules: vec![molecule], is_suspect }).collect()
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
