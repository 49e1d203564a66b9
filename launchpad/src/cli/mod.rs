//! The command line: clap types and what they say in `--help`, one file per group of commands. Nothing is decided or done here.

mod look;
mod push;
mod results;
mod setup;
mod steer;
mod values;

use clap::{Parser, Subcommand};
use common::env;
use common::redis_flags::RedisFlags;

pub use look::{Having, Logs, Show, Status, Tasks};
pub use push::{Charges, CommandFlags, EngineName, Push, SolventName, Trial, Tune};
pub use results::{Audit, Consolidate, Export, Order, Poses, Prefer, Top};
pub use setup::{Completions, Doctor, Driver, Formulae, Local, LocalFolder, Man, Plan, Shell};
pub use steer::{Cancel, Drain, Pause, Remove, Resume, Retry, Set};
pub use values::{
    Argv, Center, DeclaredColumn, Edges, InputFile, InvalidValue, Label, MeasuredColumn, Setting, SideBySide,
};

/// Scores molecules on a fleet of workers: fills Redis with tasks, shows how they go, builds one table and proves it complete.
#[derive(Debug, Parser)]
#[command(name = "launchpad", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Print results as JSON
    #[arg(long, help_heading = OUTPUT, global = true)]
    pub json: bool,
    /// Print results and errors only, no progress
    #[arg(long, short, help_heading = OUTPUT, global = true)]
    pub quiet: bool,
    /// No colours and no symbols
    #[arg(long, help_heading = OUTPUT, global = true, env = env::NO_COLOR, hide_env_values = true, value_name = "1", num_args = 0..=1, require_equals = true,
        default_missing_value = "1")]
    pub no_color: Option<String>,
    /// What to log to standard error, such as `info` or `launchpad=debug`
    #[arg(long, help_heading = OUTPUT, global = true, env = env::LOG, default_value = "warn", hide_env_values = true, value_name = "FILTER")]
    pub log: String,
    /// Where Redis is [default: the private Redis of this folder or one above, then `redis://127.0.0.1:6379`]
    #[arg(long, help_heading = CONNECTION, global = true, env = env::REDIS, value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// How to get into it
    #[command(flatten, next_help_heading = CONNECTION)]
    pub redis_flags: RedisFlags,
    /// Where objects are, a URL or a folder [default: the store of the run, or .molfleet/store]
    #[arg(long, help_heading = CONNECTION, global = true, env = env::STORE, value_name = "URL")]
    pub store: Option<String>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The last sections of every help page.
const OUTPUT: &str = "Output";
const CONNECTION: &str = "Connection";

const EXAMPLES: &str = "\
Examples:
  launchpad local up
  launchpad push ligands.smi --run first --receptor receptor.pdb --box-ligand pose.sdf
  launchpad status first --watch
  launchpad consolidate first -o results.csv

Exit codes: 0 it worked; 64 the command line is wrong; 65 the input is bad, or a consolidation is incomplete;
69 Redis or the store can't be reached; 75 try again; 78 the configuration is wrong.";

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a run: read molecules, store the inputs, fill Redis with tasks
    Push(Box<Push>),
    /// Show all runs, or how one goes and why it waits
    Status(Status),
    /// Show a task: its molecules and every attempt with its log's end
    Show(Show),
    /// Push the first molecules as a run of their own, show their scores, and say how long all would take
    #[command(after_help = "\
Example:
  launchpad trial ligands.smi --run first --receptor receptor.pdb --box-ligand pose.sdf -n 3

It takes the flags of push, and --batch-size 1. The trial is the run first-trial; a worker has to be there, or to be started
meanwhile with `worker --run first-trial`. Exit codes: 0 a molecule was scored; 65 none was.")]
    Trial(Box<Trial>),
    /// Find out how many tasks are best run side by side on a machine, by trying some numbers
    #[command(after_help = "\
Example, the worker being the machine's only one:
  worker --run first-tune-1 --run first-tune-2 --run first-tune-4 --cores 4
  launchpad tune ligands.smi --run first --receptor receptor.pdb --box-ligand pose.sdf --side-by-side 1,2,4

It takes the flags of push, and --batch-size 1. Each number is a run of its own, in which all slots work on copies of the same
molecules. Measured is the pace while all of them are busy. Exit codes: 0 it knows; 65 nothing could be measured.")]
    Tune(Box<Tune>),
    /// Say what preemptions cost long tasks, with checkpoints and without
    Plan(Plan),
    /// List the tasks of a run, all or some
    Tasks(Tasks),
    /// Print the whole logs of an attempt, or follow a task while it runs
    Logs(Logs),
    /// List the workers: where they run and what they do
    #[command(
        after_help = "Examples:\n  launchpad workers\n  launchpad workers --json | jq '.[] | select(.seen_ms_ago > 60000)'"
    )]
    Workers,
    /// List the best molecules so far
    Top(Top),
    /// Write the poses of the best molecules to one file
    Poses(Poses),
    /// Write what every task took, as a table
    Export(Export),
    /// Build one table of all results and prove that it is complete
    Consolidate(Consolidate),
    /// Check whether Redis tells the truth about a run, after a fail-over or a change by hand, and put it right
    Audit(Audit),
    /// Let workers try dead or cancelled tasks again
    Retry(Retry),
    /// Stop a run, or some of its tasks; engines are told to end within a heartbeat
    Cancel(Cancel),
    /// Tell workers to leave; their tasks are handed over with their checkpoints
    Drain(Drain),
    /// Lease no more tasks of a run; what runs goes on
    Pause(Pause),
    /// Let a paused run go on
    Resume(Resume),
    /// Change how a run is driven while it goes
    Set(Set),
    /// Forget a run: its own keys in Redis and, if asked for, its objects
    Remove(Remove),
    /// List, show, publish and compare driver scripts
    #[command(subcommand)]
    Driver(Driver),
    /// List the molecular formulae of up to so many heavy atoms, which a structure generator starts from
    Formulae(Formulae),
    /// Check Redis and the store, and say what has to be changed
    Doctor(Doctor),
    /// Print the Redis keys and what they hold: a contract that scripts can rely on
    #[command(after_help = "Example:\n  launchpad schema | less")]
    Schema,
    /// Print what completes commands and flags in a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
    /// Start, stop or find a private Redis for this folder
    #[command(subcommand)]
    Local(Local),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn connection_flags_are_the_last_section_of_every_page() {
        let mut whole = Cli::command();
        whole.build();
        for command in whole.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let help = command.render_long_help().to_string();
            let sections: Vec<&str> =
                help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
            let last: Vec<&&str> = sections.iter().filter(|name| !name.starts_with("Example")).collect();
            let place = |name: &str| last.iter().position(|section| **section == name);
            assert_eq!(place("Connection:"), Some(last.len() - 1), "{}: {sections:?}", command.get_name());
            assert_eq!(place("Output:"), Some(last.len() - 2), "{}: {sections:?}", command.get_name());
            for flag in ["--redis-ca", "--store", "--log", "--no-color"] {
                assert!(help.contains(flag), "{}: {flag}", command.get_name());
            }
        }
        let push = whole.find_subcommand_mut("push").expect("a command").render_help().to_string();
        let places = [
            "Options:",
            "Input:",
            "Docking:",
            "GROMACS:",
            "Enumeration:",
            "Programs and servers:",
            "Running:",
            "Output:",
        ]
        .map(|section| push.find(&format!("\n{section}")));
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_help().to_string();
            assert!(help.contains("Example"), "{help}");
        }
    }
}
