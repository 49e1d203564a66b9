//! What a trial found: a line for each molecule, and how long all of them would take at that pace. Pure.

use common::task::{RunId, TaskId};
use serde::Serialize;

use crate::output::{Report, Table, duration, thousands};

/// Fleets that the whole input is extrapolated to.
const SLOTS: [u64; 4] = [1, 10, 100, 1000];

/// A molecule that was tried.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tried {
    pub(crate) task: TaskId,
    pub(crate) molecule_id: String,
    /// `ok` or `bad`; the state of its task if that did not succeed.
    pub(crate) verdict: &'static str,
    pub(crate) reason: String,
    pub(crate) score: String,
    pub(crate) unit: String,
    /// From its lease to its record in Redis; `None` without success.
    pub(crate) ms: Option<u64>,
}

impl Tried {
    /// Itself as one line, for the moment when it comes in.
    pub(crate) fn line(&self) -> String {
        let took = self.ms.map_or(String::new(), |ms| format!("in {}", duration(ms)));
        let parts = [&self.molecule_id, self.verdict, &self.score, &self.unit, &self.reason, &took];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// A trial that has ended. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
pub(crate) struct TrialReport {
    /// The trial.
    pub(crate) run: RunId,
    tried: Vec<Tried>,
    /// Molecules of the whole input.
    molecules: u64,
    threads_per_task: u32,
    pace: Option<Pace>,
    /// How long the whole input would take.
    whole: Vec<Estimate>,
}

/// Milliseconds per molecule, of those that came to a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit stands last")]
struct Pace {
    mean_ms: u64,
    quickest_ms: u64,
    slowest_ms: u64,
}

/// How long it takes with so many slots that work all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Estimate {
    slots: u64,
    seconds: u64,
}

impl TrialReport {
    /// Sums up what was tried of so many molecules.
    pub(crate) fn new(run: RunId, tried: Vec<Tried>, molecules: u64, threads_per_task: u32) -> Self {
        let pace = Pace::of(&tried.iter().filter_map(|tried| tried.ms).collect::<Vec<_>>());
        let whole = pace.map_or_else(Vec::new, |pace| pace.whole(molecules));
        Self { run, tried, molecules, threads_per_task, pace, whole }
    }

    /// Whether any molecule has a score.
    pub(crate) fn has_score(&self) -> bool {
        self.tried.iter().any(|tried| tried.verdict == "ok")
    }

    /// How many were tried.
    pub(crate) const fn tried(&self) -> usize {
        self.tried.len()
    }
}

impl Pace {
    fn of(ms: &[u64]) -> Option<Self> {
        let (quickest_ms, slowest_ms) = (*ms.iter().min()?, *ms.iter().max()?);
        Some(Self { mean_ms: ms.iter().sum::<u64>() / ms.len() as u64, quickest_ms, slowest_ms })
    }

    /// More slots than molecules make nothing quicker.
    fn whole(self, molecules: u64) -> Vec<Estimate> {
        let useful = SLOTS.into_iter().filter(|slots| *slots <= molecules.max(1));
        let seconds = |slots: u64| molecules.div_ceil(slots).saturating_mul(self.mean_ms).div_ceil(1000);
        useful.map(|slots| Estimate { slots, seconds: seconds(slots) }).collect()
    }
}

impl Report for TrialReport {
    fn text(&self) -> String {
        let mut table = Table::new(&["molecule", "verdict", "reason", ">score", "unit", ">time"]);
        for tried in &self.tried {
            let time = tried.ms.map_or("-".to_owned(), duration);
            let cells = [&tried.molecule_id, tried.verdict, &tried.reason, &tried.score, &tried.unit, &time];
            table.row(cells.map(str::to_owned));
        }
        let outlook = self.pace.map_or(String::new(), |pace| self.outlook(pace));
        format!("{table}\n{outlook}`launchpad remove {} --outputs` forgets the trial.\n", self.run)
    }
}

impl TrialReport {
    fn outlook(&self, pace: Pace) -> String {
        let mut table = Table::new(&[">slots", ">about"]);
        for estimate in &self.whole {
            table.row([thousands(estimate.slots), duration(estimate.seconds.saturating_mul(1000))]);
        }
        format!(
            "{} on the average (from {} to {}), {} thread(s) each. All {} molecules at this pace, with slots that never wait:\n\n\
             {table}\nThe first molecules may not be like the rest.\n",
            duration(pace.mean_ms),
            duration(pace.quickest_ms),
            duration(pace.slowest_ms),
            self.threads_per_task,
            thousands(self.molecules),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(task: u64, verdict: &'static str, ms: Option<u64>) -> Tried {
        let score = if verdict == "ok" { "-5.1" } else { "" };
        Tried {
            task: TaskId(task),
            molecule_id: format!("m{task}"),
            verdict,
            reason: String::new(),
            score: score.to_owned(),
            unit: String::new(),
            ms,
        }
    }

    fn report(molecules: u64) -> TrialReport {
        let tried = vec![tried(0, "ok", Some(3_000)), tried(1, "bad", Some(1_000)), tried(2, "dead", None)];
        TrialReport::new("r-trial".parse().unwrap(), tried, molecules, 1)
    }

    #[test]
    fn the_whole_is_estimated_from_what_came_to_a_verdict() {
        let report = report(100_000);
        let pace = Pace { mean_ms: 2_000, quickest_ms: 1_000, slowest_ms: 3_000 };
        assert_eq!(report.pace, Some(pace));
        let seconds: Vec<_> = report.whole.iter().map(|one| (one.slots, one.seconds)).collect();
        assert_eq!(seconds, [(1, 200_000), (10, 20_000), (100, 2_000), (1000, 200)]);
        assert!(report.has_score());
        assert!(report.text().contains("All 100,000 molecules"), "{}", report.text());
    }

    #[test]
    fn slots_without_a_molecule_are_not_promised() {
        // 25 molecules on 10 slots are three rounds.
        let whole: Vec<_> = report(25).whole.iter().map(|one| (one.slots, one.seconds)).collect();
        assert_eq!(whole, [(1, 50), (10, 6)]);
    }

    #[test]
    fn nothing_is_estimated_from_nothing() {
        let none = TrialReport::new("r-trial".parse().unwrap(), vec![tried(0, "dead", None)], 9, 1);
        assert!(!none.has_score() && none.whole.is_empty());
        assert!(!none.text().contains("at this pace"), "{}", none.text());
    }
}
