//! Scores beside measured values, joined by molecule id, with Pearson's correlation.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use statrs::statistics::Statistics as _;

use super::{ConsolidationError, TableRow};
use crate::cli::MeasuredColumn;

/// Columns that may hold the id, first choice first.
const ID_COLUMNS: [&str; 3] = ["molecule_id", "id", "name"];

/// A file of measured values with the scores that belong to them.
#[derive(Debug)]
pub(crate) struct Measured {
    values: HashMap<String, Option<f64>>,
    rows: Vec<ComparedRow>,
}

/// One molecule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ComparedRow {
    pub(crate) molecule_id: String,
    pub(crate) verdict: &'static str,
    pub(crate) score: Option<f64>,
    pub(crate) measured: Option<f64>,
    /// Score minus measured value.
    pub(crate) difference: Option<f64>,
}

/// All molecules that the file names, in manifest order.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// Molecules with both a score and a measured value.
    pub(crate) n: usize,
    /// Pearson's correlation of score and measured value; `None` below three molecules, or when either does not vary.
    pub(crate) r: Option<f64>,
    pub(crate) rows: Vec<ComparedRow>,
}

impl Measured {
    /// Reads the file.
    pub(crate) fn read(source: &MeasuredColumn) -> Result<Self, ConsolidationError> {
        let path = source.path.as_path();
        let failed = |error| ConsolidationError::Measured { path: path.to_owned(), source: error };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(failed)?;
        let header = reader.headers().map_err(failed)?.clone();
        let id = find(&header, &ID_COLUMNS).ok_or_else(|| missing(path, &header, &ID_COLUMNS))?;
        let wanted = [source.column.as_str()];
        let value = find(&header, &wanted).ok_or_else(|| missing(path, &header, &wanted))?;
        let mut values = HashMap::new();
        for record in reader.records() {
            let record = record.map_err(failed)?;
            let text = &record[value];
            let number =
                (!text.is_empty()).then(|| text.parse::<f64>().ok().filter(|number| number.is_finite()));
            if number == Some(None) {
                let line = record.position().map_or(0, csv::Position::line);
                return Err(ConsolidationError::Value {
                    path: path.to_owned(),
                    line,
                    found: text.to_owned(),
                });
            }
            values.insert(record[id].to_owned(), number.flatten());
        }
        Ok(Self { values, rows: Vec::new() })
    }

    /// Takes a molecule's result, if the file names it and its task has one.
    pub(crate) fn take(&mut self, row: &TableRow) {
        if row.shard_sha256.is_empty() {
            return;
        }
        let Some(measured) = self.values.get(&row.molecule_id).copied() else { return };
        let score = row.is_ok().then(|| row.score.parse::<f64>().ok()).flatten();
        self.rows.push(ComparedRow {
            molecule_id: row.molecule_id.clone(),
            verdict: row.verdict,
            score,
            measured,
            difference: score.zip(measured).map(|(score, measured)| score - measured),
        });
    }

    /// Compares what was taken.
    pub(crate) fn compare(self) -> Comparison {
        let pairs = || self.rows.iter().filter_map(|row| row.score.zip(row.measured));
        let (scores, measured): (Vec<f64>, Vec<f64>) = pairs().unzip();
        Comparison { n: scores.len(), r: pearson(&scores, &measured), rows: self.rows }
    }
}

/// Pearson's r, the covariance over the product of the standard deviations.
fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() < 3 {
        return None;
    }
    let r = x.covariance(y) / (x.std_dev() * y.std_dev());
    r.is_finite().then_some(r)
}

fn find(header: &csv::StringRecord, names: &[&str]) -> Option<usize> {
    names.iter().find_map(|name| header.iter().position(|column| column.eq_ignore_ascii_case(name)))
}

fn missing(path: &Path, header: &csv::StringRecord, names: &[&str]) -> ConsolidationError {
    let quoted =
        |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    ConsolidationError::Column {
        path: path.to_owned(),
        expected: quoted(names.to_vec()),
        found: quoted(header.iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use common::task::TaskId;
    use proptest::prelude::*;

    use super::*;

    fn read(content: &str, column: &str) -> Result<Measured, ConsolidationError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.csv");
        std::fs::write(&path, content).unwrap();
        Measured::read(&MeasuredColumn { path, column: column.into() })
    }

    fn row(id: &str, score: &str) -> TableRow {
        TableRow {
            run: None,
            task: TaskId(0),
            molecule_id: id.into(),
            smiles: String::new(),
            verdict: if score.is_empty() { "bad" } else { "ok" },
            reason: String::new(),
            score: score.into(),
            score_unit: String::new(),
            columns: Vec::new(),
            shard_sha256: "sha".into(),
        }
    }

    #[test]
    fn scores_are_joined_by_id_and_correlated() {
        let mut measured = read("name,dg\na,-1\nb,-2\nc,-4\nd,\ne,-9\n", "DG").unwrap();
        for (id, score) in [("a", "-2"), ("b", "-3"), ("c", "-6"), ("d", "-7"), ("e", ""), ("other", "-5")] {
            measured.take(&row(id, score));
        }
        let comparison = measured.compare();
        assert_eq!((comparison.n, comparison.rows.len()), (3, 5));
        // From Python: numpy.corrcoef([-2, -3, -6], [-1, -2, -4])[0, 1]
        assert!((comparison.r.unwrap() - 0.995_870_594_885_822_5).abs() < 1e-12, "{:?}", comparison.r);
        assert_eq!(comparison.rows[2].difference, Some(-2.0));
        assert_eq!((comparison.rows[4].verdict, comparison.rows[4].score), ("bad", None));
    }

    #[test]
    fn without_variation_there_is_no_correlation() {
        assert_eq!(pearson(&[1.0, 2.0], &[1.0, 2.0]), None);
        assert_eq!(pearson(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn what_is_wrong_with_the_file_is_named() {
        let check = |content: &str, expect: &str| {
            let error = read(content, "dg").unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("name,x\n", "has no column `dg` (found: `name`, `x`)");
        check("ligand,dg\n", "has no column `molecule_id`, `id`, `name` (found: `ligand`, `dg`)");
        check("name,dg\na,-1\nb,NaN\n", "m.csv:3: the measured value is `NaN`");
    }

    /// A file of measured values, one cell of which is replaced.
    fn damaged() -> impl Strategy<Value = String> {
        let cell = prop_oneof![any::<String>(), "[-+0-9.eEinfa \"\n,]{0,12}"];
        let cells: Vec<&str> = "name,dg\na,-1\nb,-2\nc,-4\n".split_inclusive([',', '\n']).collect();
        (0..cells.len(), cell).prop_map(move |(at, cell)| {
            let mut cells = cells.clone();
            cells[at] = &cell;
            cells.concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_files_are_refused_or_compared_in_finite_numbers(file in damaged(), any in any::<String>(), score in "[-+0-9.eEinfa]{0,9}") {
            for text in [file, any] {
                let Ok(mut measured) = read(&text, "dg") else { continue };
                for id in ["a", "b", "c", ""] {
                    measured.take(&row(id, &score));
                    measured.take(&row(id, "-1e308"));
                }
                let comparison = measured.compare();
                prop_assert!(comparison.rows.iter().all(|row| row.measured.is_none_or(f64::is_finite)));
                prop_assert!(comparison.r.is_none_or(|r| r.is_finite() && r.abs() <= 1.0 + 1e-9), "{:?}", comparison.r);
            }
        }
    }
}
