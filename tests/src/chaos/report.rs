//! What a chaos was and what was found.

use std::fmt;
use std::path::PathBuf;

use super::checker::{Seen, Violation};
use super::schedule::{KINDS, Kind};
use super::{Options, fleet::Notes};

/// How many violations are printed; the rest is counted.
const SHOWN: usize = 40;

/// The outcome of a chaos.
#[derive(Debug)]
pub struct Report {
    pub(super) options: Options,
    pub(super) notes: Notes,
    pub(super) seen: Seen,
    /// Answers of scripts that got lost.
    pub(super) answers_lost: u32,
    /// Bytes of acknowledged writes that fail-overs forgot.
    pub(super) forgotten: u64,
    pub(super) workers: u32,
    /// Looks of the witness at a task.
    pub(super) looks: u64,
    /// How long faults happened, and how long the fleet then needed to drain, in s.
    pub(super) seconds: [f64; 2],
    /// How many tasks had ended when the faults ended.
    pub(super) ended: u64,
    /// Where everything was left, if something was found.
    pub(super) kept: Vec<PathBuf>,
}

impl Report {
    /// What was found; empty if all promises were kept.
    pub fn violations(&self) -> &[Violation] {
        &self.notes.violations
    }

    /// How often a fault took place.
    pub fn faults(&self, kind: Kind) -> u32 {
        self.notes.faults.get(&kind).copied().unwrap_or(0)
    }

    /// How many tasks have succeeded.
    pub const fn succeeded(&self) -> u64 {
        self.seen.succeeded
    }

    /// How many bytes of acknowledged writes fail-overs forgot, at least.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The command that makes the same faults happen again.
    pub fn replay(&self) -> String {
        let Options { seed, length, sites, sentinel, .. } = &self.options;
        let (seconds, sentinel) = (length.as_secs(), if *sentinel { " --sentinel" } else { "" });
        format!(
            "cargo run --release -p tests --bin chaos -- --seconds {seconds} --seed {seed} --workers {sites}{sentinel}"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { notes, seen, .. } = self;
        writeln!(f, "faults injected")?;
        for (kind, name) in KINDS {
            writeln!(f, "  {:5}  {name}", self.faults(*kind))?;
        }
        writeln!(f, "  {:5}  answers lost after the script had run", self.answers_lost)?;
        writeln!(f, "  {:5}  bytes of acknowledged writes forgotten", self.forgotten)?;
        writeln!(f, "  {:5}  calls of launchpad repeated", notes.repeated)?;
        let rate = self.ended as f64 / self.seconds[0];
        writeln!(
            f,
            "fleet\n  {} workers, {} runs, {} tasks, {} succeeded",
            self.workers,
            notes.runs.len(),
            seen.tasks,
            seen.succeeded
        )?;
        writeln!(
            f,
            "  {} lapses, {} releases, {} events\n  {:.0} s of faults with {rate:.1} tasks per s, drained after {:.0} s more",
            seen.lapses, seen.releases, seen.events, self.seconds[0], self.seconds[1]
        )?;
        writeln!(
            f,
            "checked\n  {} files and {} events; {} looks at tasks meanwhile",
            seen.files, seen.events, self.looks
        )?;
        writeln!(f, "violations\n  {}", notes.violations.len())?;
        for violation in notes.violations.iter().take(SHOWN) {
            writeln!(f, "  {violation}")?;
        }
        for folder in &self.kept {
            writeln!(f, "  kept: {}", folder.display())?;
        }
        write!(f, "again\n  {}", self.replay())
    }
}
