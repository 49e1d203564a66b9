//! The command lines that change how a run goes: `retry`, `cancel`, `pause`, `resume`, `set`, `drain` and `remove`.

use clap::Args;
use common::task::{RunId, TaskId, WorkerId};
use regex::Regex;

use super::{Label, Setting};

/// Arguments of `retry`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad retry first --dry-run
  launchpad retry first --reason 'engine_(crashed|timed_out)' --limit 100
  launchpad retry first --task 17 --task 18

Without a selector, all dead tasks are retried. Several selectors narrow each other, but --dead --cancelled means both. \
Bad molecules are not retried: `launchpad push --from` makes another run of them.")]
pub struct Retry {
    /// The run
    pub run: RunId,
    /// Dead tasks, which gave up [default, unless --task or --cancelled is given]
    #[arg(long)]
    pub dead: bool,
    /// Cancelled tasks
    #[arg(long)]
    pub cancelled: bool,
    /// Only tasks whose reason matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub reason: Option<Regex>,
    /// Only this task, if it is dead or cancelled; may be given several times
    #[arg(long = "task", value_name = "ID")]
    pub tasks: Vec<TaskId>,
    /// At most this many, the lowest task ids first
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Show what would be retried; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  launchpad cancel first\n  launchpad cancel first --task 17 --task 18 --yes\n\n\
Without a terminal nobody can be asked: --yes is needed then, unless each task is named."
)]
pub struct Cancel {
    /// The run
    pub run: RunId,
    /// Only this task; may be given several times
    #[arg(long = "task", value_name = "ID")]
    pub tasks: Vec<TaskId>,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("which").required(true).multiple(false),
    after_help = "\
Examples:
  launchpad drain b7tor3wa3nt7
  launchpad drain --label region=us-central1 --label machine_type=g2-standard-12
  launchpad drain --all

A worker that is told to leave leases nothing more, ends its engines, stores their checkpoints, hands its tasks back and leaves with 75. \
One that does not hear it, since it is not connected now, leaves once it is. What starts workers may start new ones. \
A name that `launchpad workers` does not list is refused, and nobody is told then.\n
Exit codes: 0 all heard it; 65 there is no such worker; 75 some did not hear it."
)]
pub struct Drain {
    /// Only these workers
    #[arg(value_name = "WORKER", group = "which")]
    pub workers: Vec<WorkerId>,
    /// All workers that show this in the registry, such as region=here; given several times, those that show all
    #[arg(long = "label", value_name = "NAME=VALUE", group = "which")]
    pub labels: Vec<Label>,
    /// All workers
    #[arg(long, group = "which")]
    pub all: bool,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  launchpad pause first --why 'wrong receptor?'")]
pub struct Pause {
    /// The run
    pub run: RunId,
    /// The reason, which `status` shows [default: the one that it is paused for already, or `paused by hand`]
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  launchpad resume first")]
pub struct Resume {
    /// The run
    pub run: RunId,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  launchpad set first parallelism=200\n  launchpad set first parallelism=0  # no limit"
)]
pub struct Set {
    /// The run
    pub run: RunId,
    /// What to change: parallelism=N, the tasks worked on at any time, 0 for no limit
    #[arg(value_name = "NAME=VALUE", required = true)]
    pub settings: Vec<Setting>,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  launchpad remove first\n  launchpad remove first --outputs --yes")]
pub struct Remove {
    /// The run
    pub run: RunId,
    /// Also delete its objects: inputs, logs, poses, shards and results
    #[arg(long)]
    pub outputs: bool,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}
