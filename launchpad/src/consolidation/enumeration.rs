//! Totals of a run that enumerates: the structures of each formula, over all tasks that it was split into. A formula with a task that has
//! no count has no total.

use std::collections::BTreeMap;

use common::task::{Residue, Row, Verdict};
use serde::Serialize;

use super::Fault;
use super::walk::{Checked, Outcome};

/// What all tasks together came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Enumeration {
    /// Formulae whose every task has a count.
    pub(crate) complete: u64,
    /// Formulae with a task that is bad, dead, cancelled or missing, by the tasks that have a count.
    pub(crate) incomplete: BTreeMap<String, String>,
    /// Structures of the complete ones.
    pub(crate) structures: u128,
    /// The same of each formula that was split.
    pub(crate) split: BTreeMap<String, u128>,
}

/// A formula on the way.
#[derive(Debug, Default)]
struct Sum {
    modulus: u64,
    counted: u64,
    structures: u128,
}

/// Sums as tasks come. Each residue is a molecule of the manifest, which has each id once, so none counts twice.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    by_formula: BTreeMap<String, Sum>,
}

impl Sums {
    /// Takes in a task; its rows have to say what their program said.
    pub(crate) fn take(&mut self, checked: &Checked, is_filtered: bool) -> Result<(), Fault> {
        for molecule in &checked.molecules {
            if let Ok(Residue { formula, modulus, .. }) = molecule.smiles().parse() {
                self.by_formula.entry(formula).or_default().modulus = modulus;
            }
        }
        let Outcome::Scored { shard, .. } = &checked.outcome else { return Ok(()) };
        let place = |name: &str| shard.columns.iter().position(|column| column == name);
        let (structures, total) = (place("structures"), place("program_total"));
        for row in shard.rows.iter().filter(|row| row.verdict == Verdict::Ok) {
            let number = |place: Option<usize>| row.columns.get(place?)?.parse::<u64>().ok();
            match number(structures).zip(number(total)) {
                Some((kept, told)) if kept == told || is_filtered && kept < told => self.add(row, kept),
                found => {
                    let detail =
                        format!("`{}` has structures and the program's total {found:?}", row.molecule_id);
                    return Err(Fault::new("totals_differ", detail));
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, row: &Row, structures: u64) {
        let Ok(Residue { formula, .. }) = row.smiles.parse() else { return };
        let sum = self.by_formula.entry(formula).or_default();
        sum.counted += 1;
        sum.structures += u128::from(structures);
    }

    /// The totals, once all tasks were taken in.
    pub(crate) fn finish(self) -> Enumeration {
        let mut all = Enumeration::default();
        for (formula, Sum { modulus, counted, structures }) in self.by_formula {
            if counted != modulus {
                all.incomplete.insert(formula, format!("{counted} of {modulus}"));
                continue;
            }
            all.complete += 1;
            all.structures += structures;
            if modulus > 1 {
                all.split.insert(formula, structures);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use common::task::{Molecule, MoleculeSource, Shard, State, TaskId};

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
            assert_eq!(sums.take(&task(text, Some((count, count))), false), Ok(()));
        }
        assert_eq!(sums.take(&task("O:1/2", None), false), Ok(()));
        let expect = Enumeration {
            complete: 2,
            incomplete: BTreeMap::from([("O".to_owned(), "1 of 2".to_owned())]),
            structures: 15,
            split: BTreeMap::from([("C".to_owned(), 12)]),
        };
        assert_eq!(sums.finish(), expect);
    }

    #[test]
    fn a_row_that_contradicts_its_program_is_no_result() {
        let take = |counts, is_filtered| Sums::default().take(&task("C", Some(counts)), is_filtered);
        assert_eq!(take(("3", "4"), true), Ok(()));
        for (counts, is_filtered) in [(("3", "4"), false), (("5", "4"), true), (("x", "4"), false)] {
            assert_eq!(take(counts, is_filtered).unwrap_err().reason, "totals_differ");
        }
    }
}
