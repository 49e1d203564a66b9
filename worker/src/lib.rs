//! The fleet member: lease → stage → run → judge → upload → complete.
//!
//! [`main`] is the whole program, so that a test binary can run it with another store.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, FromArgMatches as _};
use common::exit_code;
use common::queue::{Queue, QueueError};
use common::redis_flags::{SHOWN_PASSWORD, SHOWN_PASSWORD_HINT, shows_password};
use common::task::WorkerId;
use common::{telemetry, usage};

mod attempt;
mod bundle;
mod cache;
mod carry;
mod checkpoint;
mod claim;
mod completions;
mod config;
mod control;
mod cores;
mod dispatcher;
mod doctor;
pub mod engine;
mod evidence;
mod failure;
mod gpus;
mod group;
mod heartbeat;
mod live;
mod memory;
mod metadata;
mod mig;
mod objects;
mod output;
mod patience;
mod preemption;
pub mod process;
mod quarantine;
mod redis_clock;
mod runs;
mod scratch;
mod server;
mod serving;
mod share;
mod slots;
mod stage;
pub mod stream;
mod upload;
mod verdicts;
mod watchdog;

pub use config::{Arguments, Config, ConfigError, ExitWhen, WhenQuarantined};
pub use gpus::GpuChoice;
pub use preemption::{Notices, Platform};
pub use server::terachem_proto;
pub use server::{Endpoint, EndpointError, Protocol, Servers, Service};
pub use serving::OpenStore;

use attempt::Shared;
use cache::Cache;
use completions::Completions;
use config::{CommandLine, Doctor, Instead};
use cores::{CoreError, Cores};
use dispatcher::{Dispatcher, Left, Parts};
use gpus::{GpuError, Gpus};
use heartbeat::{Held, chain};
use process::{Guardian, Launcher, guardian};
use scratch::ScratchRoot;
use serving::Place;

/// The hidden first argument that makes this program a worker's guardian.
const GUARDIAN: &str = "guardian";

/// Runs the program with its own command line.
pub fn main(open_store: OpenStore) -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(GUARDIAN) {
        return match guardian::main_loop(std::io::stdin().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(exit_code::SOFTWARE),
        };
    }
    let parsed = CommandLine::command().try_get_matches();
    let parsed = parsed.and_then(|line| Ok((CommandLine::from_arg_matches(&line)?, shows_password(&line))));
    let (line, shows_password) = match parsed {
        Ok(parsed) => parsed,
        Err(told) => {
            // Nobody is left to tell if the terminal is gone.
            if told.use_stderr() {
                _ = std::io::stderr().write_all(usage::refusal(&told).as_bytes());
                return ExitCode::from(exit_code::CONFIG);
            }
            _ = told.print();
            return ExitCode::from(exit_code::OK);
        }
    };
    match line.instead {
        None => in_runtime(&line.arguments.clone(), shows_password, work(line.arguments, open_store)),
        Some(Instead::Doctor(doctor)) => {
            in_runtime(&doctor.arguments.clone(), shows_password, examine(*doctor, open_store))
        }
        Some(Instead::Call(arguments)) => in_runtime(&line.arguments, false, server::call(arguments)),
        Some(Instead::Man { output }) => man(&output),
    }
}

fn in_runtime(arguments: &Arguments, shows_password: bool, job: impl Future<Output = ExitCode>) -> ExitCode {
    telemetry::start(&arguments.log, arguments.log_format);
    if shows_password {
        tracing::warn!(hint = SHOWN_PASSWORD_HINT, "{SHOWN_PASSWORD}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&error, None),
    };
    let code = runtime.block_on(job);
    // Whatever still runs was told to end; a store that hangs must not keep the machine.
    runtime.shutdown_background();
    code
}

async fn work(arguments: Arguments, open_store: OpenStore) -> ExitCode {
    let config = match arguments.resolve() {
        Ok(config) => config,
        Err(error) => return refuse(&error, Some(error.hint())),
    };
    let worker = WorkerId::random(&mut rand::rng());
    let parts = match assemble(config, worker, open_store).await {
        Ok(parts) => parts,
        Err(error) => {
            let of_gpus = error.downcast_ref::<GpuError>().map(|error| error.hint().to_owned());
            let of_cores = error.downcast_ref::<CoreError>().map(|error| error.hint().to_owned());
            let hint = error.downcast_ref::<QueueError>().and_then(QueueError::hint).or(of_gpus).or(of_cores);
            return refuse(error.as_ref(), hint.as_deref());
        }
    };
    // A task like those that it listens to: each word from one of them would else have to wake this thread.
    let left = tokio::spawn(Dispatcher::new(parts).run()).await;
    match left.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())) {
        Ok(Left::Done) => {
            tracing::info!("nothing is left to do");
            ExitCode::from(exit_code::OK)
        }
        Ok(Left::WorkRemains) => {
            tracing::info!("left, work may remain");
            ExitCode::from(exit_code::TRY_AGAIN)
        }
        Ok(Left::Unfit(error)) => refuse(&error, error.hint().as_deref()),
        Err(error) => refuse(&error, None),
    }
}

/// Puts a worker together: connections, guardian, scratch and cache, heartbeat.
async fn assemble(
    mut config: Config,
    worker: WorkerId,
    open_store: OpenStore,
) -> Result<Parts, Box<dyn std::error::Error>> {
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let cores = Cores::take(&config)?;
    config.cores = cores.limit(config.cores);
    let (queue, wakes) = Queue::open_listening(config.redis.clone(), &worker)?;
    tracing::info!(
        %worker, %host, redis = queue.url(), cores = config.cores, runs = ?config.runs, exit_when = ?config.exit_when,
        scratch = %config.scratch.display(), cache = %config.cache.display(), "worker starts"
    );
    let launcher = Launcher::new(start_guardian(&worker).await?);
    let gpus = Gpus::take(&launcher, &config).await?;
    let held = Held::default();
    let heartbeats = Queue::open(config.redis.clone())?;
    let heard = heartbeat::start(heartbeats.clone(), worker.clone(), held.clone())?;
    let place = Place { host, region: config.region.clone(), machine_type: config.machine_type.clone() };
    let shared = Shared {
        completions: Completions::start(queue.clone()),
        queue,
        launcher,
        cores,
        gpus,
        cache: Cache::open(&config.cache),
        scratch: ScratchRoot::open(&config.scratch, &worker)?,
        config,
    };
    let shared = Arc::new(shared);
    let notices = preemption::listen(&shared);
    Ok(Parts { shared, worker, place, open_store, held, heard, wakes, heartbeats, notices })
}

async fn start_guardian(worker: &WorkerId) -> std::io::Result<Guardian> {
    Guardian::start(Path::new("/proc/self/exe"), &[GUARDIAN], worker.as_str()).await
}

/// Checks whether this machine can work, and says so.
async fn examine(doctor: Doctor, open_store: OpenStore) -> ExitCode {
    let config = match doctor.arguments.resolve() {
        Ok(config) => config,
        Err(error) => return refuse(&error, None),
    };
    let guardian = start_guardian(&WorkerId::random(&mut rand::rng())).await;
    let checkup = doctor::examine(&config, guardian, open_store).await;
    output::checkup(&checkup, doctor.json, doctor.no_color.is_some_and(|value| !value.is_empty()));
    ExitCode::from(if checkup.ok { exit_code::OK } else { exit_code::CONFIG })
}

/// Writes a manual page for the program and one for each of its commands.
fn man(folder: &PathBuf) -> ExitCode {
    let pages = || clap_mangen::generate_to(<CommandLine as clap::CommandFactory>::command(), folder);
    match std::fs::create_dir_all(folder).and_then(|()| pages()) {
        Ok(()) => ExitCode::from(exit_code::OK),
        Err(source) => {
            telemetry::start("error", telemetry::LogFormat::Text);
            refuse(&ConfigError::Folder { folder: folder.clone(), source }, None)
        }
    }
}

/// Says why the worker can't work, and gives the exit code for a configuration that has to be changed.
fn refuse(error: &(dyn std::error::Error + 'static), hint: Option<&str>) -> ExitCode {
    tracing::error!(hint, "the worker can't work: {}", chain(error));
    ExitCode::from(exit_code::CONFIG)
}
