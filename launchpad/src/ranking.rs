//! The best molecules of a run by their score or a column of the engine, from shards that are what Redis recorded; for `top`, `poses`
//! and the samples of `push --from`.
//!
//! It keeps as many molecules as are asked for, however many there are, and works on a run that still goes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use common::task::{Row, Shard, TaskId, Verdict};
use serde::Serialize;

use crate::cli::Order;
use crate::consolidation::{Checked, Outcome, Walk, read_manifest};
use crate::error::LaunchpadError;
use crate::output::{self, ProgressLine};

/// The name by which the score is asked for.
const SCORE: &str = "score";

/// A molecule in its place. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ranked {
    /// From 1.
    pub(crate) rank: usize,
    pub(crate) molecule_id: String,
    /// What it was ranked by, with the engine's own digits.
    pub(crate) value: String,
    pub(crate) score: String,
    pub(crate) score_unit: String,
    pub(crate) smiles: String,
    pub(crate) task: TaskId,
    /// Its place in the task, from 0.
    pub(crate) position: usize,
    pub(crate) shard_sha256: String,
}

/// The best molecules, and what they were taken from.
#[derive(Debug, Serialize)]
pub(crate) struct Ranking {
    pub(crate) by: String,
    pub(crate) highest: bool,
    /// Tasks of the run, and how many of them are in.
    pub(crate) tasks: u64,
    pub(crate) tasks_included: u64,
    /// Succeeded tasks whose shard is not what Redis recorded; they are not in.
    pub(crate) tasks_faulty: u64,
    /// Molecules with a value.
    pub(crate) molecules: u64,
    pub(crate) best: Vec<Ranked>,
}

/// Ranks what has succeeded so far, and names each shard that can't be trusted.
pub(crate) async fn rank(
    walk: &Walk<'_>,
    order: &Order,
    count: u32,
    mut line: ProgressLine,
) -> Result<Ranking, LaunchpadError> {
    let manifest = read_manifest(walk.store, walk.spec).await?;
    let mut best = Best::new(order.clone(), count as usize);
    let (mut included, mut faulty) = (0, 0);
    let mut take = |checked: Checked| {
        line.set(checked.task.0 + 1);
        match &checked.outcome {
            Outcome::Scored { shard, sha256 } => {
                included += 1;
                best.add(shard, |position, row, value| {
                    molecule(checked.task, position, row, (value, &shard.score_unit, sha256))
                })?;
            }
            Outcome::Missing(fault) if fault.reason != "not_terminal" => {
                faulty += 1;
                output::problem(&format!(
                    "left out: task {}: {}: {}",
                    checked.task, fault.reason, fault.detail
                ));
            }
            Outcome::Missing(_) | Outcome::Ended { .. } => {}
        }
        Ok(())
    };
    walk.run(&manifest, &mut take).await?;
    line.finish();
    Ok(Ranking {
        by: order.by.clone(),
        highest: order.highest,
        tasks: walk.spec.manifest.tasks,
        tasks_included: included,
        tasks_faulty: faulty,
        molecules: best.molecules,
        best: best.in_order().zip(1..).map(|(molecule, rank)| Ranked { rank, ..molecule }).collect(),
    })
}

/// The best molecules of the shards so far, the worst of them on top; of equal values the first one is better.
#[derive(Debug)]
pub(crate) struct Best<T> {
    order: Order,
    count: usize,
    heap: BinaryHeap<Candidate<T>>,
    /// Molecules with a value.
    molecules: u64,
}

#[derive(Debug)]
struct Candidate<T> {
    /// The lower the better.
    key: f64,
    /// How many molecules came before.
    place: u64,
    kept: T,
}

impl<T> Best<T> {
    /// Keeps up to this many molecules.
    pub(crate) const fn new(order: Order, count: usize) -> Self {
        Self { order, count, heap: BinaryHeap::new(), molecules: 0 }
    }

    /// Takes in a shard; `keep` gives what is kept of a row, by its place in the shard and its value.
    pub(crate) fn add(
        &mut self,
        shard: &Shard,
        mut keep: impl FnMut(usize, &Row, &str) -> T,
    ) -> Result<(), LaunchpadError> {
        let column = self.column(shard)?;
        for (position, row) in shard.rows.iter().enumerate().filter(|(_, row)| row.verdict == Verdict::Ok) {
            let text = column.map_or(&row.score, |column| &row.columns[column]);
            let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) else { continue };
            self.molecules += 1;
            let key = if self.order.highest { -value } else { value };
            // What comes later loses a tie.
            if self.heap.len() == self.count && self.heap.peek().is_some_and(|worst| worst.key <= key) {
                continue;
            }
            self.heap.push(Candidate { key, place: self.molecules, kept: keep(position, row, text) });
            if self.heap.len() > self.count {
                self.heap.pop();
            }
        }
        Ok(())
    }

    /// Where the shard has the values; `None` for the score.
    fn column(&self, shard: &Shard) -> Result<Option<usize>, LaunchpadError> {
        if self.order.by == SCORE {
            return Ok(None);
        }
        let position = shard.columns.iter().position(|column| *column == self.order.by);
        position.map(Some).ok_or_else(|| LaunchpadError::NoSuchColumn {
            column: self.order.by.clone(),
            known: std::iter::once(SCORE.to_owned()).chain(shard.columns.iter().cloned()).collect(),
        })
    }

    /// What was kept, the best in front.
    pub(crate) fn in_order(self) -> impl Iterator<Item = T> {
        self.heap.into_sorted_vec().into_iter().map(|candidate| candidate.kept)
    }
}

fn molecule(task: TaskId, position: usize, row: &Row, (value, unit, sha256): (&str, &str, &str)) -> Ranked {
    Ranked {
        rank: 0,
        molecule_id: row.molecule_id.clone(),
        value: value.to_owned(),
        score: row.score.clone(),
        score_unit: unit.to_owned(),
        smiles: row.smiles.clone(),
        task,
        position,
        shard_sha256: sha256.to_owned(),
    }
}

impl<T> Ord for Candidate<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.total_cmp(&other.key).then(self.place.cmp(&other.place))
    }
}

impl<T> PartialOrd for Candidate<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Candidate<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Candidate<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(rows: &[(&str, &str, &str)]) -> Shard {
        let row = |(id, score, contacts): &(&str, &str, &str)| Row {
            molecule_id: (*id).to_owned(),
            smiles: String::new(),
            verdict: if score.is_empty() { Verdict::Bad } else { Verdict::Ok },
            reason: if score.is_empty() { "no_contact".to_owned() } else { String::new() },
            score: (*score).to_owned(),
            columns: vec![(*contacts).to_owned()],
        };
        Shard {
            score_unit: "kcal/mol".into(),
            columns: vec!["contacts".into()],
            rows: rows.iter().map(row).collect(),
        }
    }

    fn best(by: &str, highest: bool, count: usize) -> Result<Vec<String>, LaunchpadError> {
        let order = Order { by: by.to_owned(), highest };
        let mut best = Best::new(order, count);
        let keep = |_, row: &Row, value: &str| format!("{}={value}", row.molecule_id);
        best.add(&shard(&[("a", "-5.0", "9"), ("b", "", ""), ("c", "-10.5", "7")]), keep)?;
        best.add(&shard(&[("d", "-5.0", "10"), ("e", "-7.25", "")]), keep)?;
        Ok(best.in_order().collect())
    }

    #[test]
    fn the_best_are_found_by_number_and_ties_keep_their_order() {
        assert_eq!(best(SCORE, false, 3).unwrap(), ["c=-10.5", "e=-7.25", "a=-5.0"]);
        assert_eq!(best(SCORE, true, 2).unwrap(), ["a=-5.0", "d=-5.0"]);
        assert_eq!(best("contacts", true, 9).unwrap(), ["d=10", "a=9", "c=7"]);
    }

    #[test]
    fn an_unknown_column_is_answered_with_the_known_ones() {
        let error = best("contact", false, 1).unwrap_err();
        assert_eq!(error.to_string(), "the shards have no column `contact` (known: score, contacts)");
    }
}
