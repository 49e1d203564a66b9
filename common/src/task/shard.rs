//! The result of a task as bytes: one row per molecule, a function of the task alone.

use std::collections::HashMap;

/// Whether a molecule's score can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It can.
    Ok,
    /// There is none, or it means nothing; the row's reason says why.
    Bad,
}

impl Verdict {
    /// The word in the shard.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Bad => "bad",
        }
    }
}

/// One molecule's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The user's name for it.
    pub molecule_id: String,
    /// The SMILES that the user gave; empty for a molecule from an SDF.
    pub smiles: String,
    /// Whether the score can be used.
    pub verdict: Verdict,
    /// A stable short word when it can't; empty when it can.
    pub reason: String,
    /// The score with the engine's own digits; empty when there is none.
    pub score: String,
    /// The engine's columns, in the order of [`Shard::columns`].
    pub columns: Vec<String>,
}

/// The rows of a task, in manifest order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The unit of every score, such as `kcal/mol`.
    pub score_unit: String,
    /// Names of the engine's own columns.
    pub columns: Vec<String>,
    /// One per molecule.
    pub rows: Vec<Row>,
}

/// Says why some bytes are no valid shard of a task.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// The text is not CSV of equal rows.
    #[error("the shard is not readable as CSV")]
    Csv(#[from] csv::Error),
    /// The first columns are not the fixed ones.
    #[error("the shard's header is `{found}` (expected it to start with `{}`)", FIXED.join(","))]
    Header {
        /// The header that was there.
        found: String,
    },
    /// The last line has no end: the shard was cut.
    #[error("the shard does not end with a line feed: it was cut short")]
    CutShort,
    /// A verdict is neither of the two.
    #[error("molecule `{molecule_id}` has the verdict `{found}` (expected ok or bad)")]
    Verdict {
        /// Whose row it is.
        molecule_id: String,
        /// The word that was there.
        found: String,
    },
    /// An `ok` without a finite score where others have one, or a `bad` without a reason.
    #[error("molecule `{molecule_id}` is `{verdict}` with the score `{score}` and the reason `{reason}`")]
    Contradiction {
        /// Whose row it is.
        molecule_id: String,
        /// Its verdict.
        verdict: &'static str,
        /// Its score.
        score: String,
        /// Its reason.
        reason: String,
    },
    /// The rows are not the task's molecules in their order.
    #[error("row {row} is molecule `{found}` (expected `{expected}`)")]
    Molecule {
        /// Counted from 1, without the header.
        row: usize,
        /// The id that was there.
        found: String,
        /// The id that belongs there.
        expected: String,
    },
    /// A molecule too few or too many.
    #[error("the shard has {found} molecules (expected {expected})")]
    Count {
        /// Rows that were there.
        found: usize,
        /// Molecules of the task.
        expected: usize,
    },
}

const FIXED: [&str; 6] = ["molecule_id", "smiles", "verdict", "reason", "score", "score_unit"];

impl Shard {
    /// The shard's bytes: RFC 4180 with LF, the same bytes for the same rows.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        let header = FIXED.into_iter().chain(self.columns.iter().map(String::as_str));
        let into_memory = "writing rows of equal length to memory cannot fail";
        writer.write_record(header).expect(into_memory);
        for row in &self.rows {
            let unit = if row.score.is_empty() { "" } else { &self.score_unit };
            let fixed = [&row.molecule_id, &row.smiles, row.verdict.name(), &row.reason, &row.score, unit];
            writer
                .write_record(fixed.into_iter().chain(row.columns.iter().map(String::as_str)))
                .expect(into_memory);
        }
        writer.into_inner().expect(into_memory)
    }

    /// Reads a shard and checks each row by itself. [`Shard::check_molecules`] holds it against its task.
    pub fn parse(bytes: &[u8]) -> Result<Self, ShardError> {
        if bytes.last() != Some(&b'\n') {
            return Err(ShardError::CutShort);
        }
        let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
        let header = reader.headers()?.clone();
        if header.len() < FIXED.len() || !header.iter().zip(FIXED).all(|(found, fixed)| found == fixed) {
            return Err(ShardError::Header { found: header.iter().collect::<Vec<_>>().join(",") });
        }
        let columns = header.iter().skip(FIXED.len()).map(str::to_owned).collect();
        let mut score_unit = String::new();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record?;
            if !record[5].is_empty() {
                record[5].clone_into(&mut score_unit);
            }
            rows.push(parse_row(&record)?);
        }
        // An engine without a score has none at all.
        let scored = rows.iter().any(|row| !row.score.is_empty());
        let unscored = |row: &Row| row.verdict == Verdict::Ok && row.score.is_empty();
        if scored && let Some(row) = rows.iter().find(|row| unscored(row)) {
            return Err(contradiction(row.clone()));
        }
        Ok(Self { score_unit, columns, rows })
    }

    /// Checks that the rows are exactly these molecules, each once and in this order.
    pub fn check_molecules<'a>(&self, ids: impl ExactSizeIterator<Item = &'a str>) -> Result<(), ShardError> {
        let expected = ids.len();
        for (position, (row, id)) in self.rows.iter().zip(ids).enumerate() {
            if row.molecule_id != id {
                return Err(ShardError::Molecule {
                    row: position + 1,
                    found: row.molecule_id.clone(),
                    expected: id.to_owned(),
                });
            }
        }
        if self.rows.len() != expected {
            return Err(ShardError::Count { found: self.rows.len(), expected });
        }
        Ok(())
    }

    /// How many molecules are ok and how many are bad.
    pub fn counts(&self) -> (u64, u64) {
        let ok = self.rows.iter().filter(|row| row.verdict == Verdict::Ok).count() as u64;
        (ok, self.rows.len() as u64 - ok)
    }

    /// How often each reason occurs among the bad rows.
    pub fn reasons(&self) -> HashMap<&str, u64> {
        let mut reasons = HashMap::new();
        for row in self.rows.iter().filter(|row| row.verdict == Verdict::Bad) {
            *reasons.entry(row.reason.as_str()).or_default() += 1;
        }
        reasons
    }
}

fn parse_row(record: &csv::StringRecord) -> Result<Row, ShardError> {
    let molecule_id = record[0].to_owned();
    let verdict = match &record[2] {
        "ok" => Verdict::Ok,
        "bad" => Verdict::Bad,
        found => return Err(ShardError::Verdict { molecule_id, found: found.to_owned() }),
    };
    let smiles = record[1].to_owned();
    let (reason, score) = (record[3].to_owned(), record[4].to_owned());
    let finite = score.parse::<f64>().is_ok_and(f64::is_finite);
    let unscored = score.is_empty() && record[5].is_empty();
    let agrees = match verdict {
        Verdict::Ok => (finite || unscored) && reason.is_empty(),
        Verdict::Bad => !reason.is_empty(),
    };
    let columns = record.iter().skip(FIXED.len()).map(str::to_owned).collect();
    let row = Row { molecule_id, smiles, verdict, reason, score, columns };
    if agrees { Ok(row) } else { Err(contradiction(row)) }
}

fn contradiction(row: Row) -> ShardError {
    let Row { molecule_id, verdict, score, reason, .. } = row;
    ShardError::Contradiction { molecule_id, verdict: verdict.name(), score, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> Shard {
        let row = |id: &str, verdict, reason: &str, score: &str| Row {
            molecule_id: id.into(),
            smiles: "C".into(),
            verdict,
            reason: reason.into(),
            score: score.into(),
            columns: vec!["9".into()],
        };
        Shard {
            score_unit: "kcal/mol".into(),
            columns: vec!["modes".into()],
            rows: vec![
                row("thieno[2,3-c]pyridine", Verdict::Ok, "", "-2.32"),
                row("x", Verdict::Bad, "no_contact", ""),
            ],
        }
    }

    #[test]
    fn bytes_are_the_decided_format() {
        let expect = "molecule_id,smiles,verdict,reason,score,score_unit,modes\n\
                      \"thieno[2,3-c]pyridine\",C,ok,,-2.32,kcal/mol,9\n\
                      x,C,bad,no_contact,,,9\n";
        assert_eq!(String::from_utf8(shard().encode()).unwrap(), expect);
        assert_eq!(Shard::parse(expect.as_bytes()).unwrap(), shard());
    }

    #[test]
    fn mutilated_shards_are_named() {
        let check = |change: &dyn Fn(&str) -> String, expect: &str| {
            let text = change(&String::from_utf8(shard().encode()).unwrap());
            let error = Shard::parse(text.as_bytes())
                .and_then(|shard| shard.check_molecules(["thieno[2,3-c]pyridine", "x"].into_iter()))
                .unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        check(&|t| t[..t.len() - 3].to_owned(), "the shard does not end with a line feed: it was cut short");
        check(&|t| t.replace("x,C,bad,no_contact,,,9\n", ""), "the shard has 1 molecules (expected 2)");
        check(&|t| t.replace("\nx,", "\ny,"), "row 2 is molecule `y` (expected `x`)");
        check(&|t| t.replace(",bad,", ",fine,"), "molecule `x` has the verdict `fine` (expected ok or bad)");
        check(
            &|t| t.replace("-2.32", "NaN"),
            "molecule `thieno[2,3-c]pyridine` is `ok` with the score `NaN` and the reason ``",
        );
        check(
            &|t| t.replace("score,", "points,"),
            "the shard's header is `molecule_id,smiles,verdict,reason,points,score_unit,modes` (expected it to start \
             with `molecule_id,smiles,verdict,reason,score,score_unit`)",
        );
    }

    #[test]
    fn an_engine_without_a_score_has_none_at_all() {
        let header = "molecule_id,smiles,verdict,reason,score,score_unit,atoms\n";
        let parse = |rows: &str| Shard::parse(format!("{header}{rows}").as_bytes());
        assert_eq!(parse("a,C,ok,,,,1\nb,CC,bad,no_row,,,\n").unwrap().counts(), (1, 1));
        let contradiction = "molecule `a` is `ok` with the score `` and the reason ``";
        for rows in ["a,C,ok,,,,1\nb,CC,ok,,-5.1,kcal/mol,2\n", "a,C,ok,,,kcal/mol,1\n"] {
            assert_eq!(parse(rows).unwrap_err().to_string(), contradiction);
        }
    }

    #[test]
    fn counts_and_reasons() {
        assert_eq!(shard().counts(), (1, 1));
        assert_eq!(shard().reasons(), HashMap::from([("no_contact", 1)]));
    }
}
