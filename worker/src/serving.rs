//! A run as a worker serves it: its spec, its engine, its store, and the programs that this machine has for it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Mutex;
use std::time::Duration;

use common::queue::{Queue, QueueError, RunInfo};
use common::storage::{RunStore, StorageError, Store};
use common::task::{EngineOptions, Provenance, RunId};
use tokio::time::Instant;

use crate::engine::{Engine, Step, engine_for};
use crate::patience::say_while_waiting;
use crate::process::{How, Launcher, engine_environment};
use crate::server::Servers;
use crate::slots::Need;

/// How long a program may take to tell its version.
const VERSION_TIME_LIMIT: Duration = Duration::from_mins(1);

/// Opens the store of a URL. Tests put a misbehaving one in its place.
pub type OpenStore = fn(&str) -> Result<Store, StorageError>;

/// Everything about a run that does not change while it goes.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) run: RunId,
    pub(crate) info: RunInfo,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) store: RunStore,
    /// Where runs share what their steps make.
    pub(crate) shared: RunStore,
    pub(crate) confirmed: Confirmed,
    /// Whether its tasks take a share of a GPU here.
    pub(crate) takes_gpu: bool,
    /// The `PATH` on which all programs of the engine were found.
    pub(crate) path: OsString,
    /// What every attempt of the run on this machine has in its provenance.
    pub(crate) provenance: Provenance,
}

/// How long a look at the store holds: no longer than an upload of some files takes, during which it may go away just as well.
const CONFIRMED_FOR: Duration = Duration::from_millis(100);

/// When the store was last found to be the run's.
#[derive(Debug, Default)]
pub(crate) struct Confirmed(Mutex<Option<Instant>>);

impl Confirmed {
    pub(crate) fn is_fresh(&self) -> bool {
        self.0.lock().expect("no holder panics").is_some_and(|at| at.elapsed() < CONFIRMED_FOR)
    }

    /// Notes a look that began then.
    pub(crate) fn note(&self, at: Instant) {
        *self.0.lock().expect("no holder panics") = Some(at);
    }
}

/// Why this worker can't serve a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServingError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Store(#[from] StorageError),
    #[error("the engine `{engine}` needs `{program}`, which does not work here: {found}")]
    Program { engine: String, program: String, found: String },
    #[error(
        "the engine `{engine}` needs a server, and this worker was told none that it speaks with (expected {schemes})"
    )]
    NoServer { engine: &'static str, schemes: &'static str },
    #[error("the engine `{engine}` needs a server, and none is well: {found}")]
    Servers { engine: &'static str, found: String },
    #[error("run `{run}` needs {needed} threads per task, this worker has {cores} cores")]
    Cores { run: RunId, needed: u32, cores: u32 },
    #[error("run `{run}` needs a GPU, this worker has none")]
    NoGpu { run: RunId },
}

impl ServingError {
    /// Whether asking again later may help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Queue(QueueError::NoSuchRun(_)) | Self::Servers { .. } => true,
            Self::Queue(error) => error.disposition() == common::queue::Disposition::Retry,
            Self::Store(error) => error.disposition() == common::storage::StorageDisposition::Retry,
            Self::NoServer { .. } | Self::Program { .. } | Self::Cores { .. } | Self::NoGpu { .. } => false,
        }
    }

    /// Whether the run is well, and this machine or its servers can't work for it.
    pub(crate) fn is_about_this_machine(&self) -> bool {
        matches!(self, Self::Servers { .. }) || !self.may_pass()
    }

    /// What a person could do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Queue(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Program { .. } => {
                Some("install it on this machine, or put its folder on the worker's PATH".to_owned())
            }
            Self::NoServer { .. } => Some("name one with --endpoint URL".to_owned()),
            Self::Servers { .. } => {
                Some("the run goes on as soon as one is; `worker doctor` shows each".to_owned())
            }
            Self::NoGpu { .. } => {
                Some("`worker doctor` shows this machine's GPUs, --gpus chooses among them".to_owned())
            }
            Self::Cores { .. } => {
                Some("give this worker more --cores, or push the run with fewer threads".to_owned())
            }
        }
    }
}

/// What a worker tells of its machine in every provenance.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) region: Option<String>,
    pub(crate) machine_type: Option<String>,
}

/// What serving a run takes on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) launcher: &'a Launcher,
    pub(crate) open_store: OpenStore,
    /// The store's URL as this machine sees it, where it differs from the run's.
    pub(crate) store_url: Option<&'a str>,
    pub(crate) path: &'a OsStr,
    pub(crate) servers: &'a Servers,
    pub(crate) cores: u32,
    pub(crate) has_gpu: bool,
    pub(crate) place: &'a Place,
}

impl Serving {
    /// Reads a run and finds out whether this machine can serve it.
    pub(crate) async fn begin(run: &RunId, means: Means<'_>) -> Result<Self, ServingError> {
        let info = means.queue.run_info(run).await?;
        let needed = info.spec.threads_per_task;
        if needed > means.cores {
            return Err(ServingError::Cores { run: run.clone(), needed, cores: means.cores });
        }
        if info.spec.needs_gpu && !means.has_gpu {
            return Err(ServingError::NoGpu { run: run.clone() });
        }
        let engine = engine_for(&info.spec.engine);
        let store = (means.open_store)(means.store_url.unwrap_or(&info.store))?;
        let (store, shared) = (store.run(run), store.shared());
        if let EngineOptions::Command(_) | EngineOptions::Http(_) | EngineOptions::Terachem(_) =
            info.spec.engine
        {
            // It names programs of its own, or says what servers are asked for in this worker's name: not on the word of Redis alone.
            say_while_waiting("the store", store.confirm(&info.digest)).await?;
        }
        check_servers(engine.as_ref(), info.spec.engine.name(), means.servers).await?;
        let (path, mut versions) =
            probe(engine.as_ref(), info.spec.engine.name(), means.launcher, means.path).await?;
        versions.insert("molfleet".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let pinned = info.spec.inputs.iter().chain(&info.spec.drivers);
        let provenance = Provenance {
            engine: info.spec.engine.name().to_owned(),
            versions,
            digests: pinned.map(|(role, object)| (role.clone(), object.sha256.clone())).collect(),
            seed: info.spec.seed,
            threads: needed,
            host: means.place.host.clone(),
            region: means.place.region.clone(),
            machine_type: means.place.machine_type.clone(),
            gpu: None,
        };
        let takes_gpu = means.has_gpu && (info.spec.needs_gpu || engine.wants_gpu());
        let (run, confirmed) = (run.clone(), Confirmed::default());
        Ok(Self { run, info, engine, store, shared, confirmed, takes_gpu, path, provenance })
    }

    /// What one of its tasks takes of this machine.
    pub(crate) fn need(&self) -> Need {
        Need { threads: self.info.spec.threads_per_task, gpu: self.takes_gpu }
    }

    /// The time limit of a step.
    pub(crate) fn step_limit(&self, step: &Step) -> Duration {
        Duration::from_secs(self.info.limits.seconds_of_step(&step.name))
    }

    /// How often this run wants a heartbeat.
    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.info.limits.heartbeat_ms)
    }
}

/// Whether an engine that needs a server has one that is well.
async fn check_servers(
    engine: &dyn Engine,
    name: &'static str,
    servers: &Servers,
) -> Result<(), ServingError> {
    let Some(service) = engine.server() else { return Ok(()) };
    if servers.speaking(service.protocol).is_empty() {
        return Err(ServingError::NoServer { engine: name, schemes: service.protocol.schemes() });
    }
    let checked = servers.any_is_well(service).await;
    checked.map_err(|found| ServingError::Servers { engine: name, found })
}

/// Asks every program of an engine for its version. A first `python3` without RDKit must not hide the system's one with it, so the
/// system's folders are tried in front, too.
pub(crate) async fn probe(
    engine: &dyn Engine,
    name: &str,
    launcher: &Launcher,
    path: &OsStr,
) -> Result<(OsString, BTreeMap<String, String>), ServingError> {
    let mut system_first = OsString::from("/usr/local/bin:/usr/bin:/bin:");
    system_first.push(path);
    let mut refusal = None;
    for path in [path.to_owned(), system_first] {
        match versions(engine, name, launcher, &path).await {
            Ok(versions) => return Ok((path, versions)),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.expect("two paths were tried and refused"))
}

async fn versions(
    engine: &dyn Engine,
    name: &str,
    launcher: &Launcher,
    path: &OsStr,
) -> Result<BTreeMap<String, String>, ServingError> {
    let mut versions = BTreeMap::new();
    for (program, argv) in engine.versions() {
        let env = engine_environment(path, std::path::Path::new("/tmp"), 1, &[]);
        let told = launcher.capture(argv, env, VERSION_TIME_LIMIT).await;
        let found = match told {
            Ok(ended) if ended.how == How::Exited(0) => {
                let output = [ended.stdout_tail.trim(), ended.stderr_tail.trim()];
                let line = output.iter().find(|text| !text.is_empty()).and_then(|text| text.lines().next());
                versions.insert(program.to_owned(), line.unwrap_or("unknown").to_owned());
                continue;
            }
            Ok(ended) => {
                ended.stderr_tail.lines().next_back().unwrap_or("it exits without a word").to_owned()
            }
            Err(error) => crate::heartbeat::chain(&error),
        };
        let engine = name.to_owned();
        return Err(ServingError::Program { engine, program: program.to_owned(), found });
    }
    Ok(versions)
}
