//! A row of the table: what a task says of one of its molecules. Pure.

use common::task::{RunId, State, TaskId, Verdict};

use super::walk::{Checked, Outcome};

/// One molecule's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableRow {
    /// Its run, in a table of several.
    pub(crate) run: Option<RunId>,
    pub(crate) task: TaskId,
    pub(crate) molecule_id: String,
    pub(crate) smiles: String,
    /// `ok`, `bad`, `dead` or `cancelled`.
    pub(crate) verdict: &'static str,
    pub(crate) reason: String,
    pub(crate) score: String,
    /// Empty where there is no score.
    pub(crate) score_unit: String,
    /// The engine's columns; none for a molecule without a shard.
    pub(crate) columns: Vec<String>,
    /// Empty for a molecule without a shard.
    pub(crate) shard_sha256: String,
}

impl TableRow {
    /// The rows of a task, in manifest order; none if its result is missing.
    pub(crate) fn of_task(run: Option<&RunId>, checked: &Checked) -> Vec<Self> {
        match &checked.outcome {
            Outcome::Missing(_) => Vec::new(),
            Outcome::Ended { reason } => Self::ended(run, checked, reason),
            Outcome::Scored { shard, sha256 } => {
                let rows = shard.rows.iter().map(|row| Self {
                    run: run.cloned(),
                    task: checked.task,
                    molecule_id: row.molecule_id.clone(),
                    smiles: row.smiles.clone(),
                    verdict: row.verdict.name(),
                    reason: row.reason.clone(),
                    score: row.score.clone(),
                    score_unit: if row.score.is_empty() { String::new() } else { shard.score_unit.clone() },
                    columns: row.columns.clone(),
                    shard_sha256: sha256.clone(),
                });
                rows.collect()
            }
        }
    }

    fn ended(run: Option<&RunId>, checked: &Checked, reason: &str) -> Vec<Self> {
        let verdict = if checked.state == State::Cancelled { "cancelled" } else { "dead" };
        let rows = checked.molecules.iter().map(|molecule| Self {
            run: run.cloned(),
            task: checked.task,
            molecule_id: molecule.id.clone(),
            smiles: molecule.smiles().to_owned(),
            verdict,
            reason: if reason.is_empty() { verdict.to_owned() } else { reason.to_owned() },
            score: String::new(),
            score_unit: String::new(),
            columns: Vec::new(),
            shard_sha256: String::new(),
        });
        rows.collect()
    }

    /// Whether its score can be used.
    pub(crate) fn is_ok(&self) -> bool {
        self.verdict == Verdict::Ok.name()
    }
}
