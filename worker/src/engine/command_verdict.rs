//! From what a command left behind to one row per molecule.
//!
//! A verdict comes from the file of rows and the expected files alone. How the program ended only tells what to do about the
//! molecules that have no row.

use common::task::{Column, ColumnKind, CommandOptions, Row, Verdict};

use super::command::of_molecule;
use super::command_rows::{Cells, FoundRows};
use super::ending::{self, evidence};
use super::reason::{RowReason, failure};
use super::{EngineFailure, Judged, MoleculeInput, Workload, left_file};
use crate::process::Ended;

/// How a driver's line about its progress starts.
const PROGRESS: &str = "progress ";
/// The longest reason that a driver may give.
const REASON_LENGTH_MAX: usize = 64;

/// Judges every molecule of a task.
pub(crate) fn judge(
    options: &CommandOptions,
    workload: &Workload<'_>,
    ended: &Ended,
) -> Result<Vec<Judged>, EngineFailure> {
    let broken = breakdown(ended);
    let found = match (rows(options, workload, broken.is_none()), &broken) {
        (Ok(found), _) => found,
        (Err(_), Some(_)) => FoundRows::default(),
        (Err(detail), None) => {
            let detail = format!("{}: {detail}; {}", options.rows, evidence(ended));
            return Err(EngineFailure { reason: failure::ROWS_INVALID, detail });
        }
    };
    let mut attempt = Attempt { options, workload, found, broken };
    Ok(workload.molecules.iter().map(|input| attempt.judged(input)).collect())
}

/// Why the program did not end well, if so, and how far it says that it was.
fn breakdown(ended: &Ended) -> Option<EngineFailure> {
    let reason = ending::breakdown(ended)?;
    let progress = ended.stdout_tail.lines().rev().find(|line| line.starts_with(PROGRESS));
    let progress = progress.map_or(String::new(), |line| format!(", {}", line.trim()));
    Some(EngineFailure { reason, detail: format!("{}{progress}", evidence(ended)) })
}

fn rows(options: &CommandOptions, workload: &Workload<'_>, whole: bool) -> Result<FoundRows, String> {
    let format = options.rows_format().ok_or("an unknown format")?;
    let bytes = left_file::read(workload.scratch, options.rows.as_ref())?;
    let text = String::from_utf8_lossy(&bytes);
    FoundRows::parse(&text, format, &options.columns, whole).map_err(|error| error.to_string())
}

/// A molecule that is bad: why, and the evidence in one sentence.
type Refusal = (String, String);

struct Attempt<'a> {
    options: &'a CommandOptions,
    workload: &'a Workload<'a>,
    found: FoundRows,
    /// Why molecules without a row have none, if the program did not end well.
    broken: Option<EngineFailure>,
}

impl Attempt<'_> {
    fn judged(&mut self, input: &MoleculeInput) -> Judged {
        let refused = |reason: RowReason, detail: String| Err((reason.name().to_owned(), detail));
        let checked = match self.found.of(&input.molecule.id) {
            [cells] => self.checked(cells),
            [] => match self.unfinished(input) {
                Some(failure) => return Err(failure),
                None => refused(RowReason::NoRow, self.why_no_row()),
            },
            rows => refused(RowReason::DuplicateRow, format!("{} rows have its id", rows.len())),
        };
        if checked.is_ok() {
            self.expected_files(input)?;
        }
        Ok(self.row(input, checked))
    }

    /// Why a molecule has no row, if that is not its own fault. A driver works on its molecules in order, so the first one without a
    /// row is the one over which it crashed or ran out of time; those behind it are not to blame.
    fn unfinished(&mut self, input: &MoleculeInput) -> Option<EngineFailure> {
        let failure = self.broken.clone()?;
        if matches!(failure.reason, failure::ENGINE_CRASHED | failure::TIME_LIMIT) {
            let detail = format!("not tried after molecule `{}`: {}", input.molecule.id, failure.detail);
            self.broken = Some(EngineFailure { reason: failure::NOT_TRIED, detail });
        }
        let EngineFailure { reason, detail } = failure;
        let detail = if reason == failure::NOT_TRIED {
            detail
        } else {
            format!("no row for molecule `{}`: {detail}", input.molecule.id)
        };
        Some(EngineFailure { reason, detail })
    }

    fn why_no_row(&self) -> String {
        let known: Vec<&str> =
            self.workload.molecules.iter().map(|input| input.molecule.id.as_str()).collect();
        let rows = &self.options.rows;
        match (&self.found.unreadable, self.found.stranger(&known)) {
            (Some(unreadable), _) => format!("{rows}: {unreadable}"),
            (None, Some(stranger)) => format!("{rows} has a row of `{stranger}`, which is not in the task"),
            (None, None) => format!("{rows} has no row with its id"),
        }
    }

    /// Whether a row can be used: its own verdict first, then every declared column.
    fn checked(&self, cells: &Cells) -> Result<Cells, Refusal> {
        let cell = |name: &str| cells.get(name).map_or("", |cell| cell.trim());
        match cell("verdict") {
            "ok" | "" => {}
            "bad" if is_reason(cell("reason")) => {
                return Err((cell("reason").to_owned(), cell("detail").to_owned()));
            }
            verdict => {
                let detail = format!(
                    "verdict `{verdict}` with reason `{}` (expected ok, or bad with a short_word)",
                    cell("reason")
                );
                return Err((RowReason::VerdictInvalid.name().to_owned(), detail));
            }
        }
        for column in &self.options.columns {
            if let Err((reason, detail)) = check(column, cell(&column.name)) {
                return Err((reason.name().to_owned(), detail));
            }
        }
        Ok(cells.iter().map(|(name, cell)| (name.clone(), cell.trim().to_owned())).collect())
    }

    /// An ok molecule has all its expected files: otherwise the disk or the program failed, whatever the row says.
    fn expected_files(&self, input: &MoleculeInput) -> Result<(), EngineFailure> {
        for pattern in &self.options.expect {
            let path = of_molecule(pattern, input.index);
            let meta = std::fs::metadata(self.workload.scratch.join(&path));
            if !meta.is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
                let (path, id) = (path.display(), &input.molecule.id);
                let detail =
                    format!("molecule `{id}` has a row, and its expected file `{path}` is missing or empty");
                return Err(EngineFailure { reason: failure::OUTPUT_MISSING, detail });
            }
        }
        Ok(())
    }

    fn row(&self, input: &MoleculeInput, checked: Result<Cells, Refusal>) -> Row {
        let (verdict, reason, cells) = match checked {
            Ok(cells) => (Verdict::Ok, String::new(), cells),
            // A bad molecule has no numbers, so that none can be used by mistake.
            Err((reason, detail)) => (Verdict::Bad, reason, Cells::from([("detail".to_owned(), detail)])),
        };
        let cell = |name: &str| cells.get(name).cloned().unwrap_or_default();
        let columns = self.options.columns.iter().map(|column| column.name.as_str()).chain(["detail"]);
        Row {
            molecule_id: input.molecule.id.clone(),
            smiles: input.molecule.smiles().to_owned(),
            verdict,
            reason,
            score: self.options.score.as_deref().map(cell).unwrap_or_default(),
            columns: columns.map(cell).collect(),
        }
    }
}

/// Whether a value is one of its column.
fn check(column: &Column, value: &str) -> Result<(), (RowReason, String)> {
    let Column { name, kind, unit, min, max } = column;
    match kind {
        ColumnKind::Text => return Ok(()),
        ColumnKind::Number if value.is_empty() => {
            return Err((RowReason::ValueMissing, format!("no {name}")));
        }
        ColumnKind::Number => {}
    }
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
    let number = number.ok_or_else(|| (RowReason::ValueNotFinite, format!("{name} is `{value}`")))?;
    if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
        let detail = format!("{name} is {value} {unit} (plausible: {})", column.range());
        return Err((RowReason::OutOfRange, detail.replace("  ", " ")));
    }
    Ok(())
}

/// Whether a word can be a reason: small letters, digits and underscores, beginning with a letter.
pub(crate) fn is_reason(word: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.len() <= REASON_LENGTH_MAX
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use common::task::{EngineOptions, ManifestDigest, Molecule, MoleculeSource, RunSpec, SPEC_SCHEMA};
    use tempfile::TempDir;

    use super::super::Remedy;
    use super::*;
    use crate::process::How;

    const ROWS: &str = "molecule_id,mw,series\nb,92.14,arene\na,78.11,\n";

    fn options() -> CommandOptions {
        let column =
            |name: &str, kind, min, max| Column { name: name.into(), kind, unit: "g/mol".into(), min, max };
        CommandOptions {
            argv: vec!["x".into()],
            versions: BTreeMap::new(),
            rows: "rows.csv".into(),
            columns: vec![
                column("mw", ColumnKind::Number, Some(1.0), Some(5000.0)),
                column("series", ColumnKind::Text, None, None),
            ],
            score: Some("mw".into()),
            expect: Vec::new(),
            keep: Vec::new(),
            stream: None,
        }
    }

    /// The verdicts on the molecules `a` and `b` after a program left these rows and ended so.
    fn judged(
        options: &CommandOptions,
        rows: &str,
        how: How,
        stdout: &str,
    ) -> Result<Vec<Judged>, EngineFailure> {
        let scratch = TempDir::new().unwrap();
        std::fs::write(scratch.path().join("rows.csv"), rows).unwrap();
        std::fs::write(scratch.path().join("00000.sdf"), "x").unwrap();
        let molecules = [(0, "a"), (1, "b")].map(|(index, id)| MoleculeInput {
            index,
            molecule: Molecule { id: id.into(), source: MoleculeSource::Smiles { smiles: "C".into() } },
            structure: None,
            seed: 7,
        });
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: "verdict".parse().unwrap(),
            engine: EngineOptions::Command(options.clone()),
            seed: 1,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::new(),
            drivers: BTreeMap::new(),
            manifest: ManifestDigest { sha256: String::new(), tasks: 1, molecules: 2 },
        };
        let workload = Workload {
            spec: &spec,
            task: common::task::TaskId(0),
            molecules: &molecules,
            scratch: scratch.path(),
            shared: &BTreeMap::new(),
            has_gpu: false,
            is_suspect: false,
        };
        let (stdout_tail, stderr_tail) = (stdout.to_owned(), "Traceback\nValueError: x\n".to_owned());
        judge(options, &workload, &Ended { how, elapsed_ms: 12, stdout_tail, stderr_tail })
    }

    fn well(rows: &str) -> Vec<Row> {
        judged(&options(), rows, How::Exited(0), "").unwrap().into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn rows_become_verdicts_in_manifest_order() {
        let rows = well(ROWS);
        assert_eq!(
            (rows[0].molecule_id.as_str(), rows[0].verdict, rows[0].score.as_str()),
            ("a", Verdict::Ok, "78.11")
        );
        assert_eq!(rows[1].columns, ["92.14", "arene", ""]);
    }

    #[test]
    fn a_row_that_cannot_be_used_is_bad_with_its_evidence() {
        let check = |replaced: &str, by: &str, reason: &str, detail: &str| {
            let row = well(&ROWS.replace(replaced, by)).remove(0);
            let found = (row.verdict, row.reason.as_str(), row.columns[2].as_str(), row.score.as_str());
            assert_eq!(found, (Verdict::Bad, reason, detail, ""));
            assert_eq!(row.columns[0], "", "a bad molecule has no numbers");
        };
        check("a,78.11,\n", "", "no_row", "rows.csv has no row with its id");
        check("a,78.11,", "A,78.11,", "no_row", "rows.csv has a row of `A`, which is not in the task");
        check("a,78.11,", "a", "no_row", "rows.csv: line 3 is no row: 1 cells (expected 3)");
        check("a,78.11,\n", "a,78.11,\na,78.11,\n", "duplicate_row", "2 rows have its id");
        check("78.11", "", "value_missing", "no mw");
        check("78.11", "heavy", "value_not_finite", "mw is `heavy`");
        check("78.11", "NaN", "value_not_finite", "mw is `NaN`");
        check("78.11", "-inf", "value_not_finite", "mw is `-inf`");
        check("78.11", "0.5", "out_of_range", "mw is 0.5 g/mol (plausible: 1 to 5000)");
        check("78.11", "5000.1", "out_of_range", "mw is 5000.1 g/mol (plausible: 1 to 5000)");
    }

    #[test]
    fn a_driver_may_refuse_a_molecule_itself() {
        let refused = |verdict: &str, reason: &str| {
            let rows = format!(
                "molecule_id,mw,series,verdict,reason,detail\nb,1,,ok,,\na,9,,{verdict},{reason},why\n"
            );
            let row = well(&rows).remove(0);
            (row.reason, row.columns[0].clone(), row.columns[2].clone())
        };
        assert_eq!(refused("bad", "smiles_invalid"), ("smiles_invalid".into(), String::new(), "why".into()));
        for (verdict, reason) in [("bad", ""), ("bad", "It broke"), ("fine", "")] {
            assert_eq!(refused(verdict, reason).0, "verdict_invalid");
        }
    }

    #[test]
    fn a_program_that_breaks_down_keeps_its_rows_and_blames_one_molecule() {
        let check = |rows: &str, how, expect: [&str; 2]| {
            let judged = judged(&options(), rows, how, "progress 1/2\nbye\n").unwrap();
            let reasons =
                judged.iter().map(|judged| judged.as_ref().err().map_or("", |failure| failure.reason));
            assert_eq!(reasons.collect::<Vec<_>>(), expect, "{judged:?}");
            judged.into_iter().find_map(Result::err)
        };
        let none = "molecule_id,mw,series\n";
        let one = &ROWS[..ROWS.rfind("a,").unwrap()];
        assert_eq!(check(ROWS, How::Exited(1), ["", ""]), None);
        let failure = check(one, How::Exited(1), ["engine_failed", ""]).unwrap();
        assert_eq!(
            failure.detail,
            "no row for molecule `a`: exit 1 after 12 ms, last words `ValueError: x`, progress 1/2"
        );
        check("", How::Signalled(11), ["engine_crashed", "not_tried"]);
        check(none, How::TimeLimit, ["time_limit", "not_tried"]);
        check(&ROWS[..ROWS.len() - 2], How::Signalled(9), ["engine_crashed", ""]);
        let refused = check(none, How::Exited(65), ["input_refused", "input_refused"]).unwrap();
        assert_eq!(refused.remedy(), Remedy::GiveUp);
        let again = check(none, How::Exited(75), ["try_again", "try_again"]).unwrap();
        assert_eq!(again.remedy(), Remedy::HandBack);
    }

    #[test]
    fn rows_without_a_declared_column_void_the_attempt() {
        let failure = judged(&options(), "molecule_id,MW\n", How::Exited(0), "").unwrap_err();
        assert_eq!((failure.reason, failure.remedy()), ("rows_invalid", Remedy::Retry));
        assert!(
            failure
                .detail
                .starts_with("rows.csv: its header is `molecule_id,MW` (expected `mw` in it); exit 0")
        );
        let absent = CommandOptions { rows: "other.csv".into(), ..options() };
        assert!(
            judged(&absent, ROWS, How::Exited(0), "")
                .unwrap_err()
                .detail
                .starts_with("other.csv: No such file")
        );
    }

    #[test]
    fn an_expected_file_that_is_missing_is_no_molecules_fault() {
        let options = CommandOptions { expect: vec!["{index}.sdf".into()], ..options() };
        let judged = judged(&options, ROWS, How::Exited(0), "").unwrap();
        assert!(judged[0].is_ok(), "00000.sdf is there");
        let failure = judged[1].as_ref().unwrap_err();
        assert_eq!(failure.reason, "output_missing");
        assert_eq!(
            failure.detail,
            "molecule `b` has a row, and its expected file `00001.sdf` is missing or empty"
        );
    }
}
