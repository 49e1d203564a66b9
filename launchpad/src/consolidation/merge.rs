//! Which row of several runs stands for a molecule. Pure.
//!
//! The rule: a row that is ok goes before one that is not; of two that are alike in this, the one of the run named first, or with
//! [`Prefer::Last`] the one of the run named last. A score is never chosen for its value.

use std::collections::HashMap;

use super::{ConsolidationError, TableRow};
use crate::cli::Prefer;

/// The row that stands for a molecule so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) row: TableRow,
    /// In how many runs the molecule is ok.
    pub(crate) ok_in: u32,
}

/// The rows of all runs but the first. They are kept in memory, since follow-ups are small; the first run passes by.
#[derive(Debug)]
pub(crate) struct Merge {
    prefer: Prefer,
    // With its place among the molecules, for those that the first run does not have.
    later: HashMap<String, (usize, Settled)>,
}

impl Merge {
    /// No rows yet.
    pub(crate) fn new(prefer: Prefer) -> Self {
        Self { prefer, later: HashMap::new() }
    }

    /// Takes a row of a run behind the first; the runs come in their order.
    pub(crate) fn hold(&mut self, row: TableRow) -> Result<(), ConsolidationError> {
        let id = row.molecule_id.clone();
        let place = self.later.len();
        let held = match self.later.remove(&id) {
            Some((place, earlier)) => (place, self.combine(earlier, Settled::new(row))?),
            None => (place, Settled::new(row)),
        };
        self.later.insert(id, held);
        Ok(())
    }

    /// Takes a row of the first run, and gives the one that stands for its molecule.
    pub(crate) fn settle(&mut self, row: TableRow) -> Result<Settled, ConsolidationError> {
        match self.later.remove(&row.molecule_id) {
            Some((_, later)) => self.combine(Settled::new(row), later),
            None => Ok(Settled::new(row)),
        }
    }

    /// The molecules that the first run does not have, in the order in which they came.
    pub(crate) fn rest(&mut self) -> Vec<Settled> {
        let mut rest: Vec<_> = self.later.drain().map(|(_, held)| held).collect();
        rest.sort_unstable_by_key(|(place, _)| *place);
        rest.into_iter().map(|(_, settled)| settled).collect()
    }

    fn combine(&self, earlier: Settled, later: Settled) -> Result<Settled, ConsolidationError> {
        let (one, other) = (&earlier.row, &later.row);
        if one.is_ok() && other.is_ok() && one.smiles != other.smiles {
            return Err(ConsolidationError::OtherStructure {
                molecule_id: one.molecule_id.clone(),
                ours: described(one),
                theirs: described(other),
            });
        }
        let ok_in = earlier.ok_in + later.ok_in;
        let keep_earlier = match self.prefer {
            Prefer::First => one.is_ok() || !other.is_ok(),
            Prefer::Last => one.is_ok() && !other.is_ok(),
        };
        let row = if keep_earlier { earlier.row } else { later.row };
        Ok(Settled { row, ok_in })
    }
}

impl Settled {
    fn new(row: TableRow) -> Self {
        Self { ok_in: u32::from(row.is_ok()), row }
    }
}

fn described(row: &TableRow) -> String {
    let run = row.run.as_ref().map_or("", |run| run.as_str());
    match row.smiles.as_str() {
        "" => format!("an SDF record in run `{run}`"),
        smiles => format!("`{smiles}` in run `{run}`"),
    }
}

#[cfg(test)]
mod tests {
    use common::task::TaskId;

    use super::*;

    fn row(run: &str, id: &str, verdict: &'static str, score: &str) -> TableRow {
        TableRow {
            run: Some(run.parse().unwrap()),
            task: TaskId(0),
            molecule_id: id.into(),
            smiles: "C".into(),
            verdict,
            reason: String::new(),
            score: score.into(),
            score_unit: String::new(),
            columns: Vec::new(),
            shard_sha256: String::new(),
        }
    }

    /// The run that stands for a molecule with these verdicts in runs a, b, c, and in how many it is ok.
    fn settled(prefer: Prefer, verdicts: [&'static str; 3]) -> (String, u32) {
        let mut merge = Merge::new(prefer);
        for (run, verdict) in ["b", "c"].into_iter().zip(&verdicts[1..]) {
            merge.hold(row(run, "m", verdict, "")).unwrap();
        }
        let settled = merge.settle(row("a", "m", verdicts[0], "")).unwrap();
        assert!(merge.rest().is_empty());
        (settled.row.run.unwrap().to_string(), settled.ok_in)
    }

    #[test]
    fn ok_goes_before_everything_else_and_then_the_order_of_the_runs_counts() {
        let check = |verdicts, first: &str, last: &str, ok_in: u32| {
            assert_eq!(settled(Prefer::First, verdicts), (first.to_owned(), ok_in), "{verdicts:?}");
            assert_eq!(settled(Prefer::Last, verdicts), (last.to_owned(), ok_in), "{verdicts:?}");
        };
        check(["ok", "bad", "dead"], "a", "a", 1);
        check(["bad", "ok", "dead"], "b", "b", 1);
        check(["dead", "ok", "ok"], "b", "c", 2);
        check(["ok", "ok", "bad"], "a", "b", 2);
        check(["bad", "dead", "cancelled"], "a", "c", 0);
    }

    #[test]
    fn a_better_score_is_no_reason() {
        let mut merge = Merge::new(Prefer::First);
        merge.hold(row("b", "m", "ok", "-12.0")).unwrap();
        assert_eq!(merge.settle(row("a", "m", "ok", "-5.0")).unwrap().row.score, "-5.0");
    }

    #[test]
    fn molecules_that_only_later_runs_have_keep_their_order() {
        let mut merge = Merge::new(Prefer::First);
        for (run, id) in [("b", "z"), ("b", "m"), ("b", "y"), ("c", "x"), ("c", "z")] {
            merge.hold(row(run, id, "bad", "")).unwrap();
        }
        merge.settle(row("a", "m", "ok", "")).unwrap();
        let rest: Vec<String> = merge.rest().into_iter().map(|settled| settled.row.molecule_id).collect();
        assert_eq!(rest, ["z", "y", "x"]);
    }

    #[test]
    fn two_scores_of_different_structures_under_one_id_are_refused() {
        let other = |verdict| TableRow { smiles: "CC".into(), ..row("a", "m", verdict, "") };
        let mut merge = Merge::new(Prefer::First);
        merge.hold(row("b", "m", "ok", "")).unwrap();
        let error = merge.settle(other("ok")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "molecule `m` is ok with two structures (ours: `CC` in run `a`, theirs: `C` in run `b`)"
        );
        merge.hold(row("b", "m", "ok", "")).unwrap();
        let corrected = merge.settle(other("bad")).unwrap();
        assert_eq!(corrected.row.smiles, "C", "a corrected SMILES replaces one that could not be scored");
    }
}
