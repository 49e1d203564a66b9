//! The table: rows of all tasks in manifest order, written beside its final name and renamed only when it is complete.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use common::digest::Digesting;
use common::task::RunId;

use super::walk::{Checked, Outcome};
use super::{Fault, TableRow};
use crate::error::LaunchpadError;
use crate::new_file::NewFile;

/// The column in front of a table of several runs.
const RUN: &str = "run";
/// The columns in front of those of the engine.
const FIXED: [&str; 7] = ["task_id", "molecule_id", "smiles", "verdict", "reason", "score", "score_unit"];
/// The column behind them: with `task_id` it lets the receipt be checked again.
const SHARD: &str = "shard_sha256";
/// Rows that are remembered for the screen.
const BEST: usize = 10;

/// A molecule with a low score.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Best {
    pub(crate) molecule_id: String,
    pub(crate) score: f64,
    /// With the engine's digits and its unit.
    pub(crate) shown: String,
}

/// A table on its way.
#[derive(Debug)]
pub(crate) struct ResultsFile {
    path: PathBuf,
    csv: csv::Writer<Digesting<NewFile>>,
    /// The engine's columns, known from the first shard on.
    columns: Option<Vec<String>>,
    /// Rows that came before: molecules without a shard, which leave the engine's columns empty.
    early: Vec<TableRow>,
    /// Whether each row names its run.
    several_runs: bool,
    best: Vec<Best>,
}

impl ResultsFile {
    /// Starts a table of one run that will be at this path.
    pub(crate) fn create(path: &Path) -> Result<Self, LaunchpadError> {
        let csv = csv::Writer::from_writer(Digesting::new(NewFile::create(path)?));
        let (columns, early, best) = (None, Vec::new(), Vec::new());
        Ok(Self { path: path.to_owned(), csv, columns, early, several_runs: false, best })
    }

    /// Starts a table of several runs, whose first column names the run of a row.
    pub(crate) fn create_merged(path: &Path) -> Result<Self, LaunchpadError> {
        Ok(Self { several_runs: true, ..Self::create(path)? })
    }

    /// Holds a task's engine columns against those of the table; the first shard decides which they are.
    pub(crate) fn agree(&mut self, checked: &Checked) -> Result<Result<(), Fault>, LaunchpadError> {
        let Outcome::Scored { shard, .. } = &checked.outcome else { return Ok(Ok(())) };
        match &self.columns {
            None => self.write_header(shard.columns.clone())?,
            Some(columns) if *columns == shard.columns => {}
            Some(columns) => {
                let (ours, theirs) = (columns.join(","), shard.columns.join(","));
                let detail = format!("the engine's columns are `{theirs}` (expected `{ours}`)");
                return Ok(Err(Fault::new("columns_differ", detail)));
            }
        }
        Ok(Ok(()))
    }

    /// A row's value in one of the engine's columns.
    pub(crate) fn cell<'r>(&self, row: &'r TableRow, column: &str) -> Option<&'r str> {
        let place = self.columns.as_ref()?.iter().position(|name| name == column)?;
        row.columns.get(place).map(String::as_str)
    }

    /// Appends a row of a task that agrees with the table.
    pub(crate) fn append_row(&mut self, row: TableRow) -> Result<(), LaunchpadError> {
        let Some(columns) = &self.columns else {
            self.early.push(row);
            return Ok(());
        };
        let empty = columns.len() - row.columns.len();
        self.write_row(&row, empty)?;
        if row.is_ok() {
            self.remember(&row.molecule_id, &row.score, &row.score_unit);
        }
        Ok(())
    }

    fn write_header(&mut self, columns: Vec<String>) -> Result<(), LaunchpadError> {
        let run = self.several_runs.then_some(RUN);
        let names = run.into_iter().chain(FIXED);
        let names: Vec<&str> = names.chain(columns.iter().map(String::as_str)).chain([SHARD]).collect();
        self.write(names.into_iter())?;
        for row in std::mem::take(&mut self.early) {
            self.write_row(&row, columns.len())?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    /// Writes a row with this many empty engine columns behind its own.
    fn write_row(&mut self, row: &TableRow, empty: usize) -> Result<(), LaunchpadError> {
        let task = row.task.to_string();
        let run = self.several_runs.then(|| row.run.as_ref().map_or("", RunId::as_str));
        let fixed = [
            task.as_str(),
            &row.molecule_id,
            &row.smiles,
            row.verdict,
            &row.reason,
            &row.score,
            &row.score_unit,
        ];
        let columns = row.columns.iter().map(String::as_str).chain(std::iter::repeat_n("", empty));
        self.write(run.into_iter().chain(fixed).chain(columns).chain([row.shard_sha256.as_str()]))
    }

    fn write<'r>(&mut self, cells: impl Iterator<Item = &'r str>) -> Result<(), LaunchpadError> {
        let written = self.csv.write_record(cells);
        written.map_err(|error| self.failed(error))
    }

    fn remember(&mut self, molecule_id: &str, text: &str, unit: &str) {
        let Ok(score) = text.parse::<f64>() else { return };
        let place = self.best.partition_point(|best| best.score <= score);
        if place < BEST {
            let shown = format!("{text} {unit}");
            self.best.insert(place, Best { molecule_id: molecule_id.to_owned(), score, shown });
            self.best.truncate(BEST);
        }
    }

    /// Gives the complete table its name, durably. Returns its content, its digest and the molecules with the lowest scores.
    pub(crate) fn finish(mut self) -> Result<(File, String, Vec<Best>), LaunchpadError> {
        if self.columns.is_none() {
            self.write_header(Vec::new())?;
        }
        self.csv.flush().map_err(|error| self.failed(error))?;
        let file = self.csv.into_inner().expect("what is flushed can't fail again");
        let (file, sha256, _) = file.finish();
        Ok((file.publish()?, sha256, self.best))
    }

    fn failed(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LaunchpadError {
        LaunchpadError::File { action: "write", path: self.path.clone(), source: io::Error::other(source) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use common::task::{Molecule, MoleculeSource, Row, Shard, State, TaskId, Verdict};

    use super::*;

    fn checked(task: u64, id: &str, state: State, outcome: Outcome) -> Checked {
        let source = MoleculeSource::Smiles { smiles: "C".into() };
        Checked { task: TaskId(task), molecules: vec![Molecule { id: id.into(), source }], state, outcome }
    }

    fn scored(task: u64, id: &str, score: &str, columns: &[&str]) -> Checked {
        let row = Row {
            molecule_id: id.into(),
            smiles: "C".into(),
            verdict: Verdict::Ok,
            reason: String::new(),
            score: score.into(),
            columns: columns.iter().map(|_| "9".to_owned()).collect(),
        };
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        let shard = Shard { score_unit: "kcal/mol".into(), columns, rows: vec![row] };
        checked(task, id, State::Succeeded, Outcome::Scored { shard, sha256: format!("sha{task}") })
    }

    #[test]
    fn molecules_without_a_shard_stand_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.csv");
        let mut results = ResultsFile::create(&path).unwrap();
        let dead = checked(0, "a", State::Dead, Outcome::Ended { reason: "lapses".into() });
        let cancelled = checked(2, "c", State::Cancelled, Outcome::Ended { reason: String::new() });
        for task in [dead, scored(1, "b", "-5.10", &["modes"]), cancelled, scored(3, "d", "-6.0", &["modes"])]
        {
            assert_eq!(results.agree(&task).unwrap(), Ok(()));
            for row in TableRow::of_task(None, &task) {
                results.append_row(row).unwrap();
            }
        }
        let fault = results.agree(&scored(4, "e", "-1", &["other"])).unwrap().unwrap_err();
        assert_eq!(fault.reason, "columns_differ");
        assert!(!path.exists(), "nothing is there before it is complete");
        let (_, sha256, best) = results.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "task_id,molecule_id,smiles,verdict,reason,score,score_unit,modes,shard_sha256\n\
             0,a,C,dead,lapses,,,,\n1,b,C,ok,,-5.10,kcal/mol,9,sha1\n2,c,C,cancelled,cancelled,,,,\n\
             3,d,C,ok,,-6.0,kcal/mol,9,sha3\n"
        );
        assert_eq!(sha256, common::digest::sha256_hex(text.as_bytes()));
        assert_eq!(best.iter().map(|best| best.molecule_id.as_str()).collect::<Vec<_>>(), ["d", "b"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
