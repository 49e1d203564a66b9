//! What former attempts of a task found out, for the one that goes on: their rows, their files, and the molecules over which the
//! engine broke down. All of it stands in the store under lease names, which the task's hash lists.
//!
//! A former attempt is only believed, never needed: what can't be read or does not fit is computed again.

use common::digest::sha256_hex;
use common::storage::key;
use common::task::{AttemptFile, AttemptRecord, CarriedRows, Ending, LeaseName, Molecule, Row, Shard};

use crate::attempt::{Attempt, Halt};
use crate::failure::{ALL_BAD, MACHINE};

/// The rows of an attempt without a result, in the format of a shard.
pub(crate) const ROWS: &str = "rows.csv";

/// What the attempt that goes on has of former ones, for its record and for itself.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) rows: Vec<CarriedRows>,
    pub(crate) files: Vec<AttemptFile>,
    /// Bundles that attempts went on from which then failed.
    pub(crate) failed_from: Vec<String>,
}

impl Attempt {
    /// Takes over what former attempts left, the oldest first. One that suspected its machine is evidence against all before it.
    pub(crate) async fn carry(&mut self) -> Result<(), Halt> {
        for (lease, ending) in self.grant.former.clone() {
            if !matches!(ending, Ending::Failed | Ending::Released) {
                continue;
            }
            let Some(record) = self.former_record(&lease).await? else { continue };
            if ending == Ending::Failed && record.reason.as_deref() != Some(MACHINE) {
                self.carried.failed_from.extend(record.resumed_from.clone());
            }
            for suspect in &record.suspects {
                if let Some(position) = position(&self.grant.molecules, suspect) {
                    self.verdicts.suspect(position);
                }
            }
            if record.reason.as_deref() == Some(ALL_BAD) {
                self.verdicts.distrust();
                (self.carried.rows, self.carried.files) = <_>::default();
                continue;
            }
            let rows = self.former_rows(&record).await?;
            let mut molecules = Vec::with_capacity(rows.len());
            for (position, row) in rows {
                let id = row.molecule_id.clone();
                if self.verdicts.carry(position, row) {
                    molecules.push(id);
                }
            }
            if !molecules.is_empty() {
                tracing::info!(molecules = molecules.len(), former = %lease, "rows of a former attempt taken over");
                self.carried.rows.push(CarriedRows { lease, molecules });
                self.carried.files.extend(record.files);
            }
        }
        Ok(())
    }

    async fn former_record(&mut self, lease: &LeaseName) -> Result<Option<AttemptRecord>, Halt> {
        let object = key::attempt_record(self.grant.task, lease);
        let find = || self.serving.store.find(&object);
        let Some(bytes) = self.ask_store("read a former attempt", find).await? else { return Ok(None) };
        self.bytes_down += bytes.len() as u64;
        match serde_json::from_slice::<AttemptRecord>(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!(object, %error, "the record of a former attempt can't be read, doing without it");
                Ok(None)
            }
        }
    }

    /// The rows that a former attempt's record names, with the positions of their molecules; none if they are not what it says.
    async fn former_rows(&mut self, record: &AttemptRecord) -> Result<Vec<(usize, Row)>, Halt> {
        let object = key::attempt_file(self.grant.task, &record.lease, ROWS);
        let Some(file) = record.files.iter().find(|file| file.object == object) else {
            return Ok(Vec::new());
        };
        let find = || self.serving.store.find(&object);
        let found = self.ask_store("read a former attempt's rows", find).await?;
        let bytes = found.unwrap_or_default();
        self.bytes_down += bytes.len() as u64;
        let engine = &self.serving.engine;
        let rows = if sha256_hex(&bytes) == file.sha256 {
            read_rows(&bytes, &self.grant.molecules, &engine.columns(), engine.score_unit())
        } else {
            Err(format!("not the bytes that the attempt's record names ({})", file.sha256))
        };
        rows.or_else(|error| {
            tracing::warn!(object, error, "the rows of a former attempt are not used");
            Ok(Vec::new())
        })
    }
}

/// Where a molecule stands in its task.
fn position(molecules: &[Molecule], id: &str) -> Option<usize> {
    molecules.iter().position(|molecule| molecule.id == id)
}

/// Reads rows that fit a task and its engine, or says what does not fit.
fn read_rows(
    bytes: &[u8],
    molecules: &[Molecule],
    columns: &[&str],
    score_unit: &str,
) -> Result<Vec<(usize, Row)>, String> {
    let shard = Shard::parse(bytes).map_err(|error| error.to_string())?;
    if shard.columns != columns {
        return Err(format!(
            "its columns are `{}` (expected `{}`)",
            shard.columns.join(","),
            columns.join(",")
        ));
    }
    // Without a score there is no unit.
    if !shard.score_unit.is_empty() && shard.score_unit != score_unit {
        return Err(format!("its scores are in `{}` (expected `{score_unit}`)", shard.score_unit));
    }
    let place = |row: Row| {
        let position = position(molecules, &row.molecule_id)
            .filter(|&position| molecules[position].smiles() == row.smiles)
            .ok_or_else(|| {
                format!("`{}` with SMILES `{}` is not of this task", row.molecule_id, row.smiles)
            })?;
        Ok((position, row))
    };
    shard.rows.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use common::task::{MoleculeSource, Verdict};
    use proptest::prelude::*;

    use super::*;

    const ROWS: &str = "molecule_id,smiles,verdict,reason,score,score_unit,modes\n\
                        b,CC,ok,,-1.5,kcal/mol,9\n\
                        a,C,bad,no_contact,,,1\n";

    fn read(text: &str) -> Result<Vec<(usize, Row)>, String> {
        let molecules = [("a", "C"), ("b", "CC"), ("c", "CCC")].map(|(id, smiles)| Molecule {
            id: id.into(),
            source: MoleculeSource::Smiles { smiles: smiles.into() },
        });
        read_rows(text.as_bytes(), &molecules, &["modes"], "kcal/mol")
    }

    #[test]
    fn rows_are_placed_by_their_molecule() {
        let rows = read(ROWS).unwrap();
        let places: Vec<_> = rows.iter().map(|(position, row)| (*position, row.score.as_str())).collect();
        assert_eq!(places, [(1, "-1.5"), (0, "")]);
        assert_eq!(read("molecule_id,smiles,verdict,reason,score,score_unit,modes\n").unwrap(), []);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_as_a_whole() {
        let check = |from: &str, to: &str, expect: &str| {
            let error = read(&ROWS.replace(from, to)).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check("modes", "poses", "its columns are `poses` (expected `modes`)");
        check("kcal/mol", "kJ/mol", "in `kJ/mol` (expected `kcal/mol`)");
        check("b,CC", "d,CC", "`d` with SMILES `CC` is not of this task");
        check("b,CC", "b,CCC", "`b` with SMILES `CCC` is not of this task");
        check("-1.5", "nan", "is `ok` with the score `nan`");
        check("1\n", "1", "cut short");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.saturating_mul(4), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_rows_are_refused_or_of_this_task(any in any::<String>(), inserted in "[-+0-9.eEinfabcCok,\"\n]{0,12}", at in 0..=ROWS.len(), dropped in 0..12_usize) {
            let rest: String = ROWS[at..].chars().skip(dropped).collect();
            for text in [format!("{}{inserted}{rest}", &ROWS[..at]), any] {
                for (position, row) in read(&text).unwrap_or_default() {
                    let (id, smiles) = [("a", "C"), ("b", "CC"), ("c", "CCC")][position];
                    prop_assert_eq!((row.molecule_id.as_str(), row.smiles.as_str()), (id, smiles));
                    // A bad row keeps what the engine wrote.
                    let score = row.score.parse::<f64>();
                    let has_score = row.score.is_empty() || score.is_ok_and(f64::is_finite);
                    prop_assert!(row.verdict == Verdict::Bad || has_score, "{}", row.score);
                }
            }
        }
    }
}
