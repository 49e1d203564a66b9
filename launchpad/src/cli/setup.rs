//! The command lines for what a run needs round it: `plan`, `driver`, `formulae`, `doctor`, `completions`, `man` and `local`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use common::task::RunId;

use super::values::{above_zero, below_one, from_zero, share};
use crate::formulae::HEAVY_ATOMS_MAX;

/// What to do with driver scripts.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  launchpad driver list
  launchpad driver show descriptors.py > mine.py
  launchpad driver publish mine.py
  launchpad driver diff mine.py first")]
pub enum Driver {
    /// List the scripts that ship with launchpad
    List,
    /// Print one of them
    Show {
        /// Its name
        name: String,
    },
    /// Put a script into the store, where `push --driver` finds it by its digest
    Publish {
        /// The script
        file: PathBuf,
    },
    /// Compare a script with the one that a run is pinned to; exit code 65 if they differ
    Diff {
        /// The script
        file: PathBuf,
        /// The run
        run: RunId,
    },
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad plan --hours 7 --preempted-per-hour 0.05
  launchpad plan --hours 7 --usd-per-hour 0.21 --on-demand-usd-per-hour 0.71 --tasks 13000 --slots 500
  launchpad plan --hours 1.5 --announced 0.9 --json | jq .advised

A machine is as likely to be lost in any hour as in any other (Daly 2006, doi:10.1016/j.future.2004.11.016).")]
pub struct Plan {
    /// How long a task takes if nothing happens, in hours
    #[arg(long, value_name = "HOURS", value_parser = above_zero)]
    pub hours: f64,
    /// The probability that a machine is lost within an hour
    #[arg(long, value_name = "SHARE", default_value = "0.05", value_parser = below_one)]
    pub preempted_per_hour: f64,
    /// The share of losses with a notice, in time for a last checkpoint
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub announced: f64,
    /// How long a task then waits until somebody goes on with it
    #[arg(long, value_name = "MINUTES", default_value = "2", value_parser = from_zero)]
    pub restart_minutes: f64,
    /// Work between two checkpoints; 600 s and half of 0 to 119 s by default
    #[arg(long, value_name = "MINUTES", default_value = "11", value_parser = above_zero)]
    pub checkpoint_minutes: f64,
    /// How long an engine is held up by each
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = from_zero)]
    pub checkpoint_cost_seconds: f64,
    /// What a slot costs on a machine that may be lost, in USD
    #[arg(long, value_name = "USD", value_parser = from_zero)]
    pub usd_per_hour: Option<f64>,
    /// What it costs on one that stays
    #[arg(long, value_name = "USD", value_parser = from_zero)]
    pub on_demand_usd_per_hour: Option<f64>,
    /// How many tasks there are
    #[arg(long, value_name = "N", requires = "slots")]
    pub tasks: Option<u64>,
    /// How many run side by side
    #[arg(long, value_name = "N", requires = "tasks", value_parser = clap::value_parser!(u64).range(1..))]
    pub slots: Option<u64>,
}

/// Arguments of `formulae`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad formulae --heavy-atoms 5 --count
  launchpad formulae --heavy-atoms 9 -o formulae.txt
  launchpad formulae --heavy-atoms 6 --json | jq -r 'select(.heavy_atoms == 6).formula'

Elements C N O S F Cl Br I with valences 4 3 2 2 1 1 1 1; every number of hydrogens from saturated down by twos.
In the order of Hill, one per line; with --json one object per line.")]
pub struct Formulae {
    /// Atoms other than hydrogen, at most
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(HEAVY_ATOMS_MAX)))]
    pub heavy_atoms: u32,
    /// Only say how many there are
    #[arg(long, conflicts_with = "output")]
    pub count: bool,
    /// Write them to this file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad doctor
  launchpad doctor --tasks 100000 --workers 500   # before a large push
  launchpad doctor first --json | jq '.checks[] | select(.verdict != \"ok\")'

It writes, reads and deletes one small object of its own in the store and changes nothing else.
Exit codes: 0 all is fine; 69 Redis or the store does not answer; 78 something has to be changed.")]
pub struct Doctor {
    /// Check for what is left of this run, and its own store
    pub run: Option<RunId>,
    /// Check whether a run of so many tasks has room
    #[arg(long, value_name = "N", conflicts_with = "run")]
    pub tasks: Option<u64>,
    /// Workers that connect [default: those seen in the last 90 s]
    #[arg(long, value_name = "N")]
    pub workers: Option<u64>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(launchpad completions bash)
  launchpad completions zsh > ~/.zfunc/_launchpad
  launchpad completions fish > ~/.config/fish/completions/launchpad.fish")]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// A shell that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  launchpad man -o ~/.local/share/man/man1 && man launchpad-push")]
pub struct Man {
    /// Folder that the pages are written to; made if it is not there
    #[arg(long, short, value_name = "FOLDER")]
    pub output: PathBuf,
}

/// What to do with the private Redis.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  launchpad local up\n  launchpad local status\n  launchpad local down")]
pub enum Local {
    /// Start it, or say that it runs
    Up(LocalFolder),
    /// Stop it; its data stay
    Down(LocalFolder),
    /// Say whether it runs, and where
    Status(LocalFolder),
}

/// Whose private Redis.
#[derive(Debug, Args)]
pub struct LocalFolder {
    /// The folder that has or gets .molfleet
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}
