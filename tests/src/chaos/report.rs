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
    /// Answers that got lost, of each script of a worker.
    pub(super) answers_lost: Vec<(&'static str, u32)>,
    /// Whether the scratch disk could be filled.
    pub(super) can_fill_disk: bool,
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

    /// The kinds of faults that did not take place, though they could have.
    pub fn missing(&self) -> Vec<Kind> {
        let redis_of_pair = [Kind::RedisFailedOver, Kind::RedisSplit];
        let redis_of_one = [Kind::RedisKilled, Kind::RedisFrozen, Kind::RedisFull, Kind::RedisReadOnly];
        let of_the_other: &[Kind] = if self.options.sentinel { &redis_of_one } else { &redis_of_pair };
        let all = KINDS.iter().map(|(kind, _)| *kind).filter(|kind| self.faults(*kind) == 0);
        all.filter(|kind| !of_the_other.contains(kind) && (*kind != Kind::DiskFull || self.can_fill_disk))
            .collect()
    }

    /// What the checker looked at.
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Looks of the witness at a task.
    pub const fn looks(&self) -> u64 {
        self.looks
    }

    /// How many answers got lost after the script had run, of each script that workers call.
    pub fn answers_lost(&self) -> &[(&'static str, u32)] {
        &self.answers_lost
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
            let cannot = *kind == Kind::DiskFull && !self.can_fill_disk;
            let why = if cannot { ": not done, this user may not mount one" } else { "" };
            writeln!(f, "  {:5}  {name}{why}", self.faults(*kind))?;
        }
        for (verb, lost) in &self.answers_lost {
            writeln!(f, "  {lost:5}  answers of `{verb}` lost after the script had run")?;
        }
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
            "  {} failures, {} deaths, {} dead, {} attempts went on from a checkpoint, {} groups came to their end\n  \
             {} lapses, {} of them faults of machines, {} releases, {} events\n  {:.0} s of faults with {rate:.1} tasks per s, drained after {:.0} s more",
            seen.failures,
            seen.deaths,
            seen.dead,
            seen.went_on,
            seen.groups,
            seen.lapses,
            seen.machine_faults,
            seen.releases,
            seen.events,
            self.seconds[0],
            self.seconds[1]
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
