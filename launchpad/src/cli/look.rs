//! The command lines that look at runs and tasks: `status`, `show`, `tasks` and `logs`.

use clap::{Args, ValueEnum};
use common::task::{RunId, State, TaskId, WorkerId};
use regex::Regex;

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad status
  launchpad status first --watch
  launchpad status first --json | jq .why
  launchpad status first --until-drained && launchpad consolidate first -o results.csv")]
pub struct Status {
    /// The run; all runs without it
    pub run: Option<RunId>,
    /// Go on showing it until every task has ended
    #[arg(long, requires = "run")]
    pub watch: bool,
    /// Wait until every task has ended, then show it
    #[arg(long, requires = "run", conflicts_with = "watch")]
    pub until_drained: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  launchpad show first 42\n  launchpad show first benzene")]
pub struct Show {
    /// The run
    pub run: RunId,
    /// The task: its number in the manifest, from 0; or the id of one of its molecules
    pub task: String,
}

/// Arguments of `tasks`. Conditions of different flags must all hold; of one flag given several times, any.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad tasks first --state dead
  launchpad tasks first --with lapses --with failures
  launchpad tasks first --worker 4k2m9x7q1w3e --state leased
  launchpad tasks first --reason '^engine_|time_limit' --limit 20
  launchpad tasks first --with bad --json | jq .task")]
pub struct Tasks {
    /// The run
    pub run: RunId,
    /// Only tasks in this state: waiting, pending, delayed, leased, succeeded, dead or cancelled; may be given several times
    #[arg(long = "state", value_name = "STATE")]
    pub states: Vec<State>,
    /// Only tasks that have some of these; may be given several times
    #[arg(long, value_name = "WHAT")]
    pub with: Vec<Having>,
    /// Only tasks whose latest lease is this worker's
    #[arg(long, value_name = "ID")]
    pub worker: Option<WorkerId>,
    /// Only tasks whose reason matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub reason: Option<Regex>,
    /// At most so many, the first ones
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// What a task may have some of, by the names of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Having {
    /// It failed at least once
    Failures,
    /// A worker of it vanished at least once
    Lapses,
    /// It was handed back at least once
    Releases,
    /// Molecules that are ok
    Ok,
    /// Molecules that are bad
    Bad,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad logs first 42
  launchpad logs first 42 --attempt 1 | less
  launchpad logs first 42 -f
  launchpad logs first 42 --json | jq -r 'select(.stream == \"stderr\").text'

An attempt's logs are stored when it ends. Those of a worker that vanished went with it. -f shows what the task's programs
print now, from their last 16 KiB on, through all its attempts until the task has ended; Ctrl-C stops looking, not the task.")]
pub struct Logs {
    /// The run
    pub run: RunId,
    /// The task: its number in the manifest, from 0
    pub task: TaskId,
    /// The attempt's number, from 1 [default: the latest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub attempt: Option<u64>,
    /// Show what the task prints while it runs, until it has ended
    #[arg(long, short, conflicts_with = "attempt")]
    pub follow: bool,
}
