//! The command lines for what a run needs round it: `driver`, `formulae`, `doctor`, `completions`, `man` and `local`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use common::task::RunId;

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
    /// Write them to this file
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
