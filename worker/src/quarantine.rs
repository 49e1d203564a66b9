//! Whether it is this machine: attempts on several tasks that came to nothing in a row here, while other workers of the run succeed. Pure:
//! the dispatcher says how attempts ended and what the run's counters were, and acts on the verdict.

use std::collections::{BTreeSet, HashMap};

use common::queue::Progress;
use common::task::{RunId, TaskId};

/// How likely at most a sound worker is judged, by what attempts of the others come to.
const CHANCE_MAX: f64 = 1e-6;
/// Attempts that a verdict names at most, the latest ones.
const NAMED_MAX: usize = 5;

/// An attempt that came to nothing.
#[derive(Debug, Clone)]
pub(crate) struct Vain {
    pub(crate) task: TaskId,
    /// The task that stands for what this one is a part of, such as the first window of its molecule.
    pub(crate) first_part: TaskId,
    /// A stable short word.
    pub(crate) reason: String,
    /// Whether the task was charged a failure.
    pub(crate) charged: bool,
    /// Molecules that were found bad by it.
    pub(crate) molecules_bad: u64,
}

/// The attempts of one run that came to nothing since this worker's last success.
#[derive(Debug, Default)]
struct Streak {
    attempts: Vec<Vain>,
    /// The run's good molecules when the first of them had ended; `None` until they were read.
    good_at_first: Option<u64>,
}

/// The suspicion of one worker against its machine.
#[derive(Debug)]
pub(crate) struct Suspicion {
    /// Tasks in a row; 0 never suspects.
    tasks_min: usize,
    streaks: HashMap<RunId, Streak>,
}

impl Suspicion {
    pub(crate) fn new(tasks_min: usize) -> Self {
        Self { tasks_min, streaks: HashMap::new() }
    }

    /// An attempt had a success: this machine can do it.
    pub(crate) fn clear(&mut self) {
        self.streaks.clear();
    }

    /// An attempt came to nothing. Returns whether the run's counters are worth a look.
    pub(crate) fn note(&mut self, run: &RunId, vain: Vain) -> bool {
        if self.tasks_min == 0 {
            return false;
        }
        let streak = self.streaks.entry(run.clone()).or_default();
        streak.attempts.push(vain);
        streak.good_at_first.is_none() || streak.tasks() >= self.tasks_min
    }

    /// Takes in the run's counters, read after the latest attempt had ended; returns why the worker is to be quarantined, if it is.
    pub(crate) fn judge(&mut self, run: &RunId, progress: &Progress) -> Option<String> {
        let streak = self.streaks.get_mut(run)?;
        let before = *streak.good_at_first.get_or_insert(progress.molecules_ok);
        let tasks = streak.tasks();
        let others_succeed = progress.molecules_ok > before;
        if tasks < self.tasks_min || !others_succeed || !streak.is_beyond_chance(progress) {
            return None;
        }
        Some(format!(
            "{tasks} tasks in a row came to nothing here while other workers succeeded: {}",
            streak.names(run)
        ))
    }
}

impl Streak {
    /// Different tasks: one that fails every time it is tried says nothing of the machine, nor do the windows of one molecule.
    fn tasks(&self) -> usize {
        self.attempts.iter().map(|vain| vain.first_part).collect::<BTreeSet<_>>().len()
    }

    /// Whether so many in a row are no coincidence, by the share of what came to nothing elsewhere over the whole life of the run.
    fn is_beyond_chance(&self, progress: &Progress) -> bool {
        let charged = self.attempts.iter().filter(|vain| vain.charged).count() as u64;
        let found_bad: u64 = self.attempts.iter().map(|vain| vain.molecules_bad).sum();
        let failed = share(progress.failures.saturating_sub(charged), progress.succeeded);
        let bad = share(progress.molecules_bad.saturating_sub(found_bad), progress.molecules_ok);
        let exponent = i32::try_from(self.tasks()).unwrap_or(i32::MAX);
        (failed + bad).min(1.0).powi(exponent) <= CHANCE_MAX
    }

    fn names(&self, run: &RunId) -> String {
        let latest = &self.attempts[self.attempts.len().saturating_sub(NAMED_MAX)..];
        let named: Vec<String> =
            latest.iter().map(|vain| format!("{run}/{} {}", vain.task, vain.reason)).collect();
        named.join(", ")
    }
}

/// The share of `ill` in all, from 0 to 1.
fn share(ill: u64, well: u64) -> f64 {
    if ill == 0 { 0.0 } else { ill as f64 / (ill + well) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunId {
        "r".parse().unwrap()
    }

    fn failed(task: u64) -> Vain {
        let (task, reason) = (TaskId(task), "crashed".to_owned());
        Vain { task, first_part: task, reason, charged: true, molecules_bad: 0 }
    }

    fn all_bad(task: u64) -> Vain {
        let (task, reason) = (TaskId(task), "all_bad".to_owned());
        Vain { task, first_part: task, reason, charged: false, molecules_bad: 1 }
    }

    fn progress(succeeded: u64, failures: u64, bad: u64) -> Progress {
        Progress {
            succeeded,
            failures,
            molecules_ok: succeeded - bad,
            molecules_bad: bad,
            ..Progress::default()
        }
    }

    /// The verdict after these attempts, before the first of which the run stood at `before`.
    fn verdict(attempts: Vec<Vain>, before: &Progress, after: &Progress) -> Option<String> {
        let mut suspicion = Suspicion::new(3);
        for vain in attempts {
            suspicion.note(&run(), vain);
            assert_eq!(suspicion.judge(&run(), before), None, "nobody succeeded meanwhile");
        }
        suspicion.judge(&run(), after)
    }

    #[test]
    fn a_row_of_failures_while_others_succeed_is_the_machines() {
        let three = || (0..3).map(failed).collect();
        let said = verdict(three(), &progress(10, 1, 0), &progress(11, 3, 0)).unwrap();
        assert!(said.starts_with("3 tasks in a row came to nothing here"), "{said}");
        assert!(said.ends_with("r/0 crashed, r/1 crashed, r/2 crashed"), "{said}");
        assert_eq!(verdict(three(), &progress(10, 1, 0), &progress(10, 3, 0)), None, "the whole run fails");
        assert_eq!(verdict((0..2).map(failed).collect(), &progress(10, 1, 0), &progress(20, 2, 0)), None);
        assert!(
            verdict((0..3).map(all_bad).collect(), &progress(1000, 0, 1), &progress(1010, 0, 3)).is_some()
        );
    }

    #[test]
    fn a_task_that_fails_every_time_says_nothing_of_the_machine() {
        let often = std::iter::repeat_n(failed(7), 20).collect();
        assert_eq!(verdict(often, &progress(10, 1, 0), &progress(90, 20, 0)), None);
    }

    #[test]
    fn the_windows_of_one_molecule_are_one_task() {
        let windows = |molecules: u64| {
            let of = |first| (0..13).map(move |n| Vain { first_part: TaskId(first), ..failed(first + n) });
            (0..molecules).flat_map(move |molecule| of(14 * molecule)).collect()
        };
        let (before, after) = (progress(1000, 0, 0), progress(1010, 39, 0));
        assert_eq!(verdict(windows(2), &before, &after), None);
        assert!(verdict(windows(3), &before, &after).is_some());
    }

    #[test]
    fn where_much_comes_to_nothing_a_row_has_to_be_longer() {
        let (before, after) = (progress(1000, 0, 100), progress(1010, 0, 103));
        assert_eq!(verdict((0..3).map(all_bad).collect(), &before, &after), None);
        assert!(verdict((0..9).map(all_bad).collect(), &before, &after).is_some());
        let (before, after) = (progress(100, 50, 0), progress(110, 53, 0));
        assert_eq!(verdict((0..3).map(failed).collect(), &before, &after), None);
    }

    #[test]
    fn a_success_clears_and_0_never_suspects() {
        let mut suspicion = Suspicion::new(3);
        for task in 0..3 {
            suspicion.note(&run(), failed(task));
            suspicion.judge(&run(), &progress(1, 0, 0));
        }
        suspicion.clear();
        assert_eq!(suspicion.judge(&run(), &progress(9, 3, 0)), None);
        assert!(!Suspicion::new(0).note(&run(), failed(0)));
    }

    #[test]
    fn counters_are_read_at_the_first_and_from_the_last_needed_on() {
        let mut suspicion = Suspicion::new(3);
        let mut looks = |task| suspicion.note(&run(), failed(task));
        assert!(looks(0) && looks(1), "the first look has not been answered");
        suspicion.judge(&run(), &progress(1, 0, 0));
        assert!(suspicion.note(&run(), failed(2)));
    }
}
