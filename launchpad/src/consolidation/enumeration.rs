//! Totals of a run that enumerates, or of several: the structures of each formula, over all tasks that it was split into. A formula with a
//! task that has no count has no total, and neither has one that two runs split differently and count differently.

use std::collections::{BTreeMap, BTreeSet};

use common::task::{Residue, RunSpec, Verdict};
use serde::Serialize;

use super::walk::{Checked, Outcome};
use super::{Fault, TableRow};

/// The engine's column with the structures of a row.
pub(crate) const STRUCTURES: &str = "structures";

/// What all tasks together came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Enumeration {
    /// Formulae whose every task has a count.
    pub(crate) complete: u64,
    /// The other formulae, by the tasks that have a count, or by the totals that contradict each other.
    pub(crate) incomplete: BTreeMap<String, String>,
    /// Structures of the complete ones.
    pub(crate) structures: u128,
    /// The same of each formula that was split.
    pub(crate) split: BTreeMap<String, u128>,
}

/// A formula in so many tasks, on the way.
#[derive(Debug, Default)]
struct Sum {
    counted: u64,
    structures: u128,
}

/// Sums as tasks come. Each residue is a molecule of the manifest, or of the table, which has each id once, so none counts twice.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// By formula, then by the tasks that it was split into.
    by_formula: BTreeMap<String, BTreeMap<u64, Sum>>,
    /// Whether the program tells of more lines than are kept.
    is_filtered: bool,
}

impl Sums {
    /// None yet, of a run that enumerates.
    pub(crate) fn of_run(spec: &RunSpec) -> Option<Self> {
        let is_filtered = spec.engine.stream()?.filter.is_some();
        Some(Self { is_filtered, ..Self::default() })
    }

    /// Takes in a task; its rows have to say what their program said.
    pub(crate) fn take(&mut self, checked: &Checked) -> Result<(), Fault> {
        for molecule in &checked.molecules {
            self.of(molecule.smiles());
        }
        let Outcome::Scored { shard, .. } = &checked.outcome else { return Ok(()) };
        let place = |name: &str| shard.columns.iter().position(|column| column == name);
        let (structures, total) = (place(STRUCTURES), place("program_total"));
        for row in shard.rows.iter().filter(|row| row.verdict == Verdict::Ok) {
            let number = |place: Option<usize>| row.columns.get(place?)?.parse::<u64>().ok();
            match number(structures).zip(number(total)) {
                Some((kept, told)) if kept == told || self.is_filtered && kept < told => {
                    self.add(&row.smiles, kept);
                }
                found => {
                    let detail =
                        format!("`{}` has structures and the program's total {found:?}", row.molecule_id);
                    return Err(Fault::new("totals_differ", detail));
                }
            }
        }
        Ok(())
    }

    /// Takes in a row of a table of several runs, whose tasks were taken in before, with its structures.
    pub(crate) fn settle(&mut self, row: &TableRow, structures: Option<&str>) {
        match structures.filter(|_| row.is_ok()).and_then(|structures| structures.parse().ok()) {
            Some(structures) => self.add(&row.smiles, structures),
            None => _ = self.of(&row.smiles),
        }
    }

    fn add(&mut self, text: &str, structures: u64) {
        if let Some(sum) = self.of(text) {
            sum.counted += 1;
            sum.structures += u128::from(structures);
        }
    }

    /// The sum that a residue is a part of.
    fn of(&mut self, text: &str) -> Option<&mut Sum> {
        let Residue { formula, modulus, .. } = text.parse().ok()?;
        Some(self.by_formula.entry(formula).or_default().entry(modulus).or_default())
    }

    /// The totals, once all tasks were taken in.
    pub(crate) fn finish(self) -> Enumeration {
        let mut all = Enumeration::default();
        for (formula, sums) in self.by_formula {
            let whole = || sums.iter().filter(|(modulus, sum)| sum.counted == **modulus);
            let totals: BTreeSet<u128> = whole().map(|(_, sum)| sum.structures).collect();
            match (whole().next(), totals.len()) {
                (Some((modulus, sum)), 1) => {
                    all.complete += 1;
                    all.structures += sum.structures;
                    if *modulus > 1 {
                        all.split.insert(formula, sum.structures);
                    }
                }
                _ => _ = all.incomplete.insert(formula, without_total(&sums)),
            }
        }
        all
    }
}

/// Why a formula has no total: `1 of 2`, or what its tasks come to if they contradict each other.
fn without_total(sums: &BTreeMap<u64, Sum>) -> String {
    let said = sums.iter().map(|(modulus, Sum { counted, structures })| {
        if counted == modulus {
            format!("{structures} by {modulus}")
        } else {
            format!("{counted} of {modulus}")
        }
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use common::task::{Molecule, MoleculeSource, Row, Shard, State, TaskId};

    use super::*;

    fn task(text: &str, outcome: Option<(&str, &str)>) -> Checked {
        let row = |(structures, total): (&str, &str)| Row {
            molecule_id: text.into(),
            smiles: text.into(),
            verdict: Verdict::Ok,
            reason: String::new(),
            score: String::new(),
            columns: vec![structures.into(), total.into()],
        };
        let columns = ["structures", "program_total"].map(str::to_owned).to_vec();
        let outcome = match outcome {
            Some(counts) => {
                let shard = Shard { score_unit: String::new(), columns, rows: vec![row(counts)] };
                Outcome::Scored { shard, sha256: String::new() }
            }
            None => Outcome::Ended { reason: "lapses".into() },
        };
        let source = MoleculeSource::Smiles { smiles: text.into() };
        let molecules = vec![Molecule { id: text.into(), source }];
        Checked { task: TaskId(0), molecules, state: State::Succeeded, outcome }
    }

    #[test]
    fn residues_add_up_and_one_without_a_count_leaves_no_total() {
        let mut sums = Sums::default();
        for (text, count) in [("C:0/2", "7"), ("C:1/2", "5"), ("N", "3"), ("O:0/2", "9")] {
            assert_eq!(sums.take(&task(text, Some((count, count)))), Ok(()));
        }
        assert_eq!(sums.take(&task("O:1/2", None)), Ok(()));
        let expect = Enumeration {
            complete: 2,
            incomplete: BTreeMap::from([("O".to_owned(), "1 of 2".to_owned())]),
            structures: 15,
            split: BTreeMap::from([("C".to_owned(), 12)]),
        };
        assert_eq!(sums.finish(), expect);
    }

    #[test]
    fn of_a_formula_that_was_split_in_two_ways_one_whole_set_counts_and_they_must_agree() {
        let finish = |tasks: &[(&str, &str)]| {
            let mut sums = Sums::default();
            for (text, count) in tasks {
                sums.take(&task(text, Some((count, count)))).unwrap();
            }
            sums.finish()
        };
        let once = finish(&[("C", "12"), ("C:0/2", "7"), ("C:1/2", "5"), ("N", "3"), ("N:0/4", "1")]);
        assert_eq!((once.complete, once.structures, once.incomplete.len()), (2, 15, 0));
        let differ = finish(&[("C", "12"), ("C:0/2", "7"), ("C:1/2", "6"), ("C:0/3", "9")]);
        assert_eq!((differ.complete, differ.structures), (0, 0));
        assert_eq!(differ.incomplete["C"], "12 by 1, 13 by 2, 1 of 3");
    }

    #[test]
    fn a_row_that_contradicts_its_program_is_no_result() {
        let take =
            |counts, is_filtered| Sums { is_filtered, ..Sums::default() }.take(&task("C", Some(counts)));
        assert_eq!(take(("3", "4"), true), Ok(()));
        for (counts, is_filtered) in [(("3", "4"), false), (("5", "4"), true), (("x", "4"), false)] {
            assert_eq!(take(counts, is_filtered).unwrap_err().reason, "totals_differ");
        }
    }
}
