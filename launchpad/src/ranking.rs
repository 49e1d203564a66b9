//! The best molecules of a run by their score or a column of the engine, from shards that are what Redis recorded.
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
    let mut best = Best { order, count: count as usize, heap: BinaryHeap::new(), molecules: 0 };
    let (mut included, mut faulty) = (0, 0);
    let mut take = |checked: Checked| {
        line.set(checked.task.0 + 1);
        match &checked.outcome {
            Outcome::Scored { shard, sha256 } => {
                included += 1;
                best.add(checked.task, shard, sha256)?;
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
        best: best.in_order(),
    })
}

/// The best molecules so far, the worst of them on top.
#[derive(Debug)]
struct Best<'a> {
    order: &'a Order,
    count: usize,
    heap: BinaryHeap<Candidate>,
    molecules: u64,
}

#[derive(Debug)]
struct Candidate {
    /// The lower the better.
    key: f64,
    molecule: Ranked,
}

impl Best<'_> {
    fn add(&mut self, task: TaskId, shard: &Shard, sha256: &str) -> Result<(), LaunchpadError> {
        let column = self.column(shard)?;
        for (position, row) in shard.rows.iter().enumerate().filter(|(_, row)| row.verdict == Verdict::Ok) {
            let text = column.map_or(&row.score, |column| &row.columns[column]);
            let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) else { continue };
            self.molecules += 1;
            let key = if self.order.highest { -value } else { value };
            // What comes later in the manifest loses a tie.
            if self.heap.len() == self.count && self.heap.peek().is_some_and(|worst| worst.key <= key) {
                continue;
            }
            let molecule = molecule(task, position, row, (text, &shard.score_unit, sha256));
            self.heap.push(Candidate { key, molecule });
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

    fn in_order(self) -> Vec<Ranked> {
        let best = self.heap.into_sorted_vec().into_iter().enumerate();
        best.map(|(place, candidate)| Ranked { rank: place + 1, ..candidate.molecule }).collect()
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

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |candidate: &Self| (candidate.molecule.task, candidate.molecule.position);
        self.key.total_cmp(&other.key).then_with(|| place(self).cmp(&place(other)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

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
        let mut best = Best { order: &order, count, heap: BinaryHeap::new(), molecules: 0 };
        best.add(TaskId(0), &shard(&[("a", "-5.0", "9"), ("b", "", ""), ("c", "-10.5", "7")]), "s0")?;
        best.add(TaskId(1), &shard(&[("d", "-5.0", "10"), ("e", "-7.25", "")]), "s1")?;
        Ok(best
            .in_order()
            .iter()
            .map(|ranked| format!("{}{}={}", ranked.rank, ranked.molecule_id, ranked.value))
            .collect())
    }

    #[test]
    fn the_best_are_found_by_number_and_ties_keep_their_order() {
        assert_eq!(best(SCORE, false, 3).unwrap(), ["1c=-10.5", "2e=-7.25", "3a=-5.0"]);
        assert_eq!(best(SCORE, true, 2).unwrap(), ["1a=-5.0", "2d=-5.0"]);
        assert_eq!(best("contacts", true, 9).unwrap(), ["1d=10", "2a=9", "3c=7"]);
    }

    #[test]
    fn an_unknown_column_is_answered_with_the_known_ones() {
        let error = best("contact", false, 1).unwrap_err();
        assert_eq!(error.to_string(), "the shards have no column `contact` (known: score, contacts)");
    }
}
