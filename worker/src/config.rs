//! Flags and environment of a worker, resolved once into one checked struct. Nothing reads them later.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use common::env;
use common::local;
use common::queue::Access;
use common::redis_flags::RedisFlags;
use common::task::RunId;
use common::telemetry::LogFormat;
use url::Url;

use crate::gpus::GpuChoice;
use crate::preemption::{Notices, Platform};

use crate::server::{Call, EndpointError, Servers};

/// When a worker leaves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExitWhen {
    /// Every task of its runs is terminal. A run that is not there yet is waited for.
    Drained,
    /// Its runs have nothing to lease now, or are not there.
    Empty,
    /// Only when it is told to.
    Never,
}

/// What a quarantined worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenQuarantined {
    /// Stays without work until it is told to leave, so that its machine can be looked at.
    Stay,
    /// Leaves with exit code 75; `launchpad workers` shows it on.
    Leave,
}

/// A member of the fleet: leases tasks from Redis, runs their engines, uploads what they make, and says how it went.
#[derive(Debug, Clone, Parser)]
#[command(name = "worker", version, propagate_version = true, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct CommandLine {
    /// How it works
    #[command(flatten)]
    pub(crate) arguments: Arguments,
    /// What to do instead of working
    #[command(subcommand)]
    pub(crate) instead: Option<Instead>,
}

/// What the program does beside working.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Instead {
    /// Check whether this machine can work: engines, cores, GPUs, disks, Redis and, with --run, that run and its store
    Doctor(Box<Doctor>),
    /// Ask servers about the molecules of a step
    #[command(hide = true)]
    Call(Call),
    /// Write the manual pages
    #[command(hide = true)]
    Man {
        /// Folder that the pages are written to; made if it is not there
        #[arg(long, short, value_name = "FOLDER")]
        output: PathBuf,
    },
}

/// Arguments of `doctor`: those of the worker that it speaks for.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  worker doctor
  worker doctor --run t4l --cores 8
  worker doctor --json | jq '.checks[] | select(.hint)'

It leases nothing. In the store of a run it writes, reads and deletes one small object of its own.
Exit codes: 0 this machine can work; 78 something has to be changed.")]
pub(crate) struct Doctor {
    /// The worker's own flags
    #[command(flatten)]
    pub(crate) arguments: Arguments,
    /// Print the checks as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// No symbols
    #[arg(long, env = env::NO_COLOR, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub(crate) no_color: Option<String>,
}

/// The flags of a worker.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Redis, as a URL (default: the private Redis of `launchpad local up` in this folder or above, else <redis://127.0.0.1:6379>)
    #[arg(long, env = env::REDIS, value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,

    /// How to get into it
    #[command(flatten)]
    pub redis_flags: RedisFlags,

    /// The store as this machine sees it, where it differs from the URL in the run
    #[arg(long, env = env::STORE, value_name = "URL")]
    pub store: Option<String>,

    /// Work for this run only; can be given several times (default: all runs, the highest priority first)
    #[arg(long = "run", value_name = "RUN")]
    pub runs: Vec<RunId>,

    /// A server of engines that run in containers of their own, such as <http://10.0.0.7:8000> or <terachem://10.0.0.9>; can be given several times
    #[arg(long = "endpoint", env = env::ENDPOINTS, value_name = "URL", value_delimiter = ',')]
    pub endpoints: Vec<String>,

    /// The file of the token that these servers want to see
    #[arg(long, env = env::ENDPOINT_TOKEN_FILE, value_name = "FILE")]
    pub endpoint_token_file: Option<PathBuf>,

    /// When to leave
    #[arg(long, value_enum, default_value = "drained")]
    pub exit_when: ExitWhen,

    /// Cores to use: that many tasks of one thread run side by side (default: all)
    #[arg(long, value_name = "N")]
    pub cores: Option<u32>,

    /// Keep each task on cores of its own, which no other worker of the host pins tasks to
    #[arg(long)]
    pub pin_cores: bool,

    /// GPUs to use: all, none, or numbers such as 0,1; each goes to one worker of a host
    #[arg(long, value_name = "GPUS", default_value = "all")]
    pub gpus: GpuChoice,

    /// Tasks that share a GPU, where their engine computes on one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub tasks_per_gpu: u32,

    /// Where attempts get their scratch folders (default: molfleet-USERID/scratch in the folder for temporary files)
    #[arg(long, env = env::SCRATCH, value_name = "FOLDER")]
    pub scratch: Option<PathBuf>,

    /// Where staged inputs are kept, shared by the workers of this host (default: molfleet-USERID/cache in the folder for temporary files)
    #[arg(long, env = env::CACHE, value_name = "FOLDER")]
    pub cache: Option<PathBuf>,

    /// Lease nothing while the scratch disk has less free space than this
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub scratch_free_mib_min: u64,

    /// How long an engine may take to end after SIGTERM before it is killed (default: 10, and never more than leaving allows for)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub grace_seconds: Option<u64>,

    /// How long leaving may take in all: ending the engines, storing their checkpoints, handing their tasks back
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(AFTER_GRACE_SECONDS..=86_400))]
    pub leave_seconds_max: u64,

    /// How often at most to store the checkpoint of an engine that makes any (default: what the run says)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub checkpoint_seconds: Option<u64>,

    /// Up to how much longer, at random, so that a fleet does not store all at once (default: what the run says)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub checkpoint_jitter_seconds: Option<u64>,

    /// How long to go on without Redis while nothing runs, before leaving with exit code 75
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub unreachable_seconds_max: u64,

    /// How long to be given no task, a core being free, before connecting to Redis anew: the connection may lead nowhere
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub unfed_seconds_max: u64,

    /// Tasks in a row that come to nothing here while other workers succeed, before leasing no more; 0 for never
    #[arg(long, value_name = "TASKS", default_value_t = 3)]
    pub quarantine_after: usize,

    /// What to do then
    #[arg(long, value_enum, default_value = "stay")]
    pub when_quarantined: WhenQuarantined,

    /// Leave when the metadata server of this platform says that the machine is about to be preempted
    #[arg(long, value_enum, env = env::PREEMPTION, value_name = "PLATFORM")]
    pub preemption: Option<Platform>,

    /// That metadata server
    #[arg(long, env = env::METADATA, value_name = "URL", default_value = "http://169.254.169.254")]
    pub metadata_url: Url,

    /// Leave when this program ends with 0; it is run again 5 s after any other end
    #[arg(long, value_name = "PROGRAM")]
    pub notice_command: Option<PathBuf>,

    /// The region to report, such as us-central1
    #[arg(long, env = env::REGION)]
    pub region: Option<String>,

    /// The machine type to report, such as g2-standard-12
    #[arg(long, env = env::MACHINE_TYPE)]
    pub machine_type: Option<String>,

    /// What to log, such as info, debug or worker=debug
    #[arg(long, env = env::LOG, default_value = "info")]
    pub log: String,

    /// How log lines look
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// The default grace of engines, where leaving has that much time.
const GRACE_SECONDS: u64 = 10;
/// What leaving needs at least when the engines have ended: for their checkpoints, their tasks and the goodbye.
const AFTER_GRACE_SECONDS: u64 = 5;

const EXAMPLES: &str = "\
Examples:
  worker                                   all cores, all runs, until every task is terminal
  worker --run t4l --cores 8               one run, eight tasks of one thread side by side
  worker doctor --run t4l                  can this machine work for that run?
  worker --redis redis://worker@10.0.0.2 --redis-password-file /run/secrets/redis --exit-when never

Exit codes: 0 its runs are drained (or empty, with --exit-when empty); 75 it left with work remaining; 78 configuration.";

/// Says what is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Without a core, no task can run.
    #[error("--cores is 0 (expected 1 or more)")]
    NoCores,
    /// An engine that takes its grace would leave no time for what it leaves.
    #[error(
        "--grace-seconds is {grace} (expected {} at most, with --leave-seconds-max {leave})",
        leave - AFTER_GRACE_SECONDS
    )]
    Grace {
        /// What was asked for.
        grace: u64,
        /// How long leaving may take.
        leave: u64,
    },
    /// A folder can't be made or used.
    #[error("the folder `{}` can't be used", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A server that can't be one.
    #[error("an endpoint can't be used")]
    Endpoint(#[from] EndpointError),
    /// The current folder is gone.
    #[error("the current folder can't be read")]
    CurrentFolder(#[source] std::io::Error),
}

impl ConfigError {
    /// What a person could do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoCores => "without --cores, all cores are used",
            Self::Grace { .. } => "--leave-seconds-max is the time for all of it, the grace included",
            Self::Folder { .. } => "--scratch and --cache name folders that this user may write to",
            Self::Endpoint(_) => "--endpoint and MOLFLEET_ENDPOINTS take URLs such as http://10.0.0.7:8000",
            Self::CurrentFolder(_) => "start the worker in a folder that exists",
        }
    }
}

/// A worker's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Redis.
    pub redis: Access,
    /// The store as this machine sees it; `None` takes the run's own URL.
    pub store: Option<String>,
    /// The runs to work for; empty for all.
    pub runs: Vec<RunId>,
    /// Servers of engines that run in containers of their own.
    pub servers: Servers,
    /// When to leave.
    pub exit_when: ExitWhen,
    /// Cores to use, from 1.
    pub cores: u32,
    /// Whether tasks are kept on cores of their own.
    pub pin_cores: bool,
    /// GPUs to use.
    pub gpus: GpuChoice,
    /// Tasks that share a GPU, from 1.
    pub tasks_per_gpu: u32,
    /// What a program on a GPU has to know of the service by which they share it, of [`env::CUDA_MPS`].
    pub cuda_mps: Vec<(String, OsString)>,
    /// Where attempts get their scratch folders.
    pub scratch: PathBuf,
    /// Where staged inputs are kept.
    pub cache: PathBuf,
    /// Lease nothing below this.
    pub scratch_free_bytes_min: u64,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// From being told to leave to being gone; longer than the grace.
    pub leave_max: Duration,
    /// How often at most the checkpoint of a task is stored, in seconds; `None` for what its run says.
    pub checkpoint_seconds: Option<u64>,
    /// Up to how much longer, in seconds; `None` for what its run says.
    pub checkpoint_jitter_seconds: Option<u64>,
    /// How long to go on without Redis while nothing runs.
    pub unreachable_max: Duration,
    /// How long to be given no task before connecting anew.
    pub unfed_max: Duration,
    /// Tasks in a row that come to nothing here while others succeed, before leasing no more; 0 for never.
    pub quarantine_after: usize,
    /// What to do then.
    pub when_quarantined: WhenQuarantined,
    /// From where it hears that the machine is about to go.
    pub notices: Notices,
    /// The region to report.
    pub region: Option<String>,
    /// The machine type to report.
    pub machine_type: Option<String>,
    /// The worker's own `PATH`, where engines are looked for.
    pub path: OsString,
}

impl Arguments {
    /// Resolves defaults, makes the folders, and checks everything that can be checked without Redis.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let all_cores =
            || std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
        let cores = self.cores.unwrap_or_else(all_cores);
        if cores == 0 {
            return Err(ConfigError::NoCores);
        }
        let current = std::env::current_dir().map_err(ConfigError::CurrentFolder)?;
        let own = std::env::temp_dir().join(format!("molfleet-{}", nix::unistd::getuid()));
        Ok(Config {
            redis: self.redis_flags.access(self.redis.unwrap_or_else(|| local::default_redis_url(&current))),
            store: self.store,
            runs: self.runs,
            servers: Servers {
                endpoints: self
                    .endpoints
                    .iter()
                    .filter(|url| !url.is_empty())
                    .map(|url| url.parse())
                    .collect::<Result<_, _>>()?,
                // Calls run in folders of their own.
                token_file: self.endpoint_token_file.map(|file| current.join(file)),
            },
            exit_when: self.exit_when,
            cores,
            pin_cores: self.pin_cores,
            gpus: self.gpus,
            tasks_per_gpu: self.tasks_per_gpu,
            cuda_mps: cuda_mps(),
            scratch: usable(self.scratch.unwrap_or_else(|| own.join("scratch")))?,
            cache: usable(self.cache.unwrap_or_else(|| own.join("cache")))?,
            scratch_free_bytes_min: self.scratch_free_mib_min.saturating_mul(1024 * 1024),
            grace: Duration::from_secs(grace(self.grace_seconds, self.leave_seconds_max)?),
            leave_max: Duration::from_secs(self.leave_seconds_max),
            checkpoint_seconds: self.checkpoint_seconds,
            checkpoint_jitter_seconds: self.checkpoint_jitter_seconds,
            unreachable_max: Duration::from_secs(self.unreachable_seconds_max),
            unfed_max: Duration::from_secs(self.unfed_seconds_max),
            quarantine_after: self.quarantine_after,
            when_quarantined: self.when_quarantined,
            notices: Notices {
                platform: self.preemption,
                metadata: self.metadata_url,
                command: self.notice_command,
            },
            region: self.region,
            machine_type: self.machine_type,
            path: std::env::var_os("PATH").unwrap_or_default(),
        })
    }
}

/// The grace of engines, in seconds, which has to fit into the time for leaving.
fn grace(asked: Option<u64>, leave: u64) -> Result<u64, ConfigError> {
    let longest = leave.saturating_sub(AFTER_GRACE_SECONDS);
    match asked {
        Some(grace) if grace > longest => Err(ConfigError::Grace { grace, leave }),
        asked => Ok(asked.unwrap_or_else(|| GRACE_SECONDS.min(longest))),
    }
}

/// The variables of NVIDIA's Multi-Process Service that the worker's own environment has.
fn cuda_mps() -> Vec<(String, OsString)> {
    let value = |name: &str| std::env::var_os(name).map(|value| (name.to_owned(), value));
    env::CUDA_MPS.into_iter().filter_map(value).collect()
}

/// Makes a folder and gives its absolute path, without links: engines get it as an argument.
fn usable(folder: PathBuf) -> Result<PathBuf, ConfigError> {
    let made = std::fs::create_dir_all(&folder).and_then(|()| folder.canonicalize());
    made.map_err(|source| ConfigError::Folder { folder, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <CommandLine as clap::CommandFactory>::command().debug_assert();
    }

    fn arguments(flags: &[&str]) -> Arguments {
        CommandLine::parse_from([&["worker"], flags].concat()).arguments
    }

    #[test]
    fn the_doctor_takes_the_flags_of_the_worker_that_it_speaks_for() {
        let line = CommandLine::parse_from(["worker", "doctor", "--run", "r", "--cores", "3", "--json"]);
        let Some(Instead::Doctor(doctor)) = line.instead else { panic!("{line:?}") };
        assert_eq!((doctor.arguments.runs[0].as_str(), doctor.arguments.cores), ("r", Some(3)));
        assert!(doctor.json);
        // What stands in front of `doctor` would be lost.
        assert!(CommandLine::try_parse_from(["worker", "--cores", "3", "doctor"]).is_err());
    }

    #[test]
    fn a_worker_without_cores_is_refused() {
        let error = arguments(&["--cores", "0"]).resolve().unwrap_err();
        assert_eq!(error.to_string(), "--cores is 0 (expected 1 or more)");
    }

    #[test]
    fn a_grace_beyond_all_clocks_is_refused() {
        let parse = |seconds: &str| CommandLine::try_parse_from(["worker", "--grace-seconds", seconds]);
        assert!(parse("18446744073709551615").is_err());
        assert!(parse("86400").is_ok());
    }

    #[test]
    fn the_grace_fits_into_the_time_for_leaving() {
        let of = |flags: &[&str]| arguments(flags).resolve().map(|config| (config.grace, config.leave_max));
        let seconds = |grace, leave| (Duration::from_secs(grace), Duration::from_secs(leave));
        assert_eq!(of(&[]).unwrap(), seconds(10, 15));
        assert_eq!(of(&["--leave-seconds-max", "8"]).unwrap(), seconds(3, 8));
        assert_eq!(of(&["--leave-seconds-max", "60"]).unwrap(), seconds(10, 60));
        assert_eq!(of(&["--leave-seconds-max", "60", "--grace-seconds", "55"]).unwrap(), seconds(55, 60));
        let error = of(&["--grace-seconds", "11"]).unwrap_err().to_string();
        assert_eq!(error, "--grace-seconds is 11 (expected 10 at most, with --leave-seconds-max 15)");
    }

    #[test]
    fn a_file_is_no_scratch_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let arguments = arguments(&["--scratch", file.path().to_str().unwrap()]);
        assert!(matches!(arguments.resolve(), Err(ConfigError::Folder { .. })));
    }
}
