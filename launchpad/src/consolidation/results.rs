//! The table: rows of all tasks in manifest order, written beside its final name and renamed only when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use common::digest::Sha256Writer;
use common::task::{State, Verdict};

use super::Fault;
use super::walk::{Checked, Outcome};
use crate::error::LaunchpadError;

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
    csv: csv::Writer<BufWriter<tempfile::NamedTempFile>>,
    /// The engine's columns, known from the first shard on.
    columns: Option<Vec<String>>,
    /// Rows that came before: molecules without a shard, which leave the engine's columns empty.
    early: Vec<[String; 6]>,
    best: Vec<Best>,
}

impl ResultsFile {
    /// Starts a table that will be at this path.
    pub(crate) fn create(path: &Path) -> Result<Self, LaunchpadError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::metadata(folder).map_err(failed("write", path))?;
        let file = tempfile::Builder::new().prefix(".results-").tempfile_in(folder);
        let file = file.map_err(failed("write", path))?;
        let csv = csv::Writer::from_writer(BufWriter::new(file));
        Ok(Self { path: path.to_owned(), csv, columns: None, early: Vec::new(), best: Vec::new() })
    }

    /// Appends the rows of a task. A shard with other engine columns than those before is the task's fault.
    pub(crate) fn append(&mut self, checked: &Checked) -> Result<Result<(), Fault>, LaunchpadError> {
        match &checked.outcome {
            Outcome::Missing(_) => {}
            Outcome::Ended { reason } => self.append_ended(checked, reason)?,
            Outcome::Scored { shard, sha256 } => {
                if let Some(columns) = self.columns.as_ref().filter(|columns| **columns != shard.columns) {
                    let (ours, theirs) = (columns.join(","), shard.columns.join(","));
                    let detail = format!("the engine's columns are `{theirs}` (expected `{ours}`)");
                    return Ok(Err(Fault::new("columns_differ", detail)));
                }
                if self.columns.is_none() {
                    self.write_header(shard.columns.clone())?;
                }
                let task = checked.task.to_string();
                for row in &shard.rows {
                    let unit = if row.score.is_empty() { "" } else { &shard.score_unit };
                    let fixed = [
                        task.as_str(),
                        &row.molecule_id,
                        &row.smiles,
                        row.verdict.name(),
                        &row.reason,
                        &row.score,
                        unit,
                    ];
                    let columns = row.columns.iter().map(String::as_str);
                    self.write(fixed.into_iter().chain(columns).chain([sha256.as_str()]))?;
                    if row.verdict == Verdict::Ok {
                        self.remember(&row.molecule_id, &row.score, unit);
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    fn append_ended(&mut self, checked: &Checked, reason: &str) -> Result<(), LaunchpadError> {
        let verdict = if checked.state == State::Cancelled { "cancelled" } else { "dead" };
        let reason = if reason.is_empty() { verdict } else { reason };
        for molecule in &checked.molecules {
            let row = [
                checked.task.to_string(),
                molecule.id.clone(),
                molecule.smiles().to_owned(),
                verdict.to_owned(),
                reason.to_owned(),
                String::new(),
            ];
            match &self.columns {
                Some(columns) => {
                    let empty = columns.len() + 2; // the unit, the engine's columns, the shard's digest
                    self.write(row.iter().map(String::as_str).chain(std::iter::repeat_n("", empty)))?;
                }
                None => self.early.push(row),
            }
        }
        Ok(())
    }

    fn write_header(&mut self, columns: Vec<String>) -> Result<(), LaunchpadError> {
        let names: Vec<&str> =
            FIXED.into_iter().chain(columns.iter().map(String::as_str)).chain([SHARD]).collect();
        self.write(names.into_iter())?;
        let empty = columns.len() + 2; // as above
        for row in std::mem::take(&mut self.early) {
            self.write(row.iter().map(String::as_str).chain(std::iter::repeat_n("", empty)))?;
        }
        self.columns = Some(columns);
        Ok(())
    }

    fn write<'r>(&mut self, cells: impl Iterator<Item = &'r str>) -> Result<(), LaunchpadError> {
        let written = self.csv.write_record(cells);
        written.map_err(|error| failed("write", &self.path)(io::Error::other(error)))
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

    /// Gives the complete table its name, durably. Returns its digest and the molecules with the lowest scores.
    pub(crate) fn finish(mut self) -> Result<(String, Vec<Best>), LaunchpadError> {
        if self.columns.is_none() {
            self.write_header(Vec::new())?;
        }
        let path = self.path;
        let failed = failed("write", &path);
        let buffer = self.csv.into_inner().map_err(|error| failed(io::Error::other(error.to_string())))?;
        let file = buffer.into_inner().map_err(|error| failed(error.into_error()))?;
        let (sha256, _) = digest(file.path()).map_err(&failed)?;
        publish(file, &path).map_err(failed)?;
        Ok((sha256, self.best))
    }
}

/// Writes a small file as a whole, or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LaunchpadError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new().prefix(".receipt-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        publish(file, path)
    };
    write().map_err(failed("write", path))
}

/// Makes a temporary file durable under its final name. It gets the permissions that a new file would have had.
fn publish(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn digest(path: &Path) -> io::Result<(String, u64)> {
    let mut digest = Sha256Writer::default();
    io::copy(&mut File::open(path)?, &mut digest)?;
    Ok(digest.finish())
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> LaunchpadError + use<> {
    let path = path.to_owned();
    move |source| LaunchpadError::File { action, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use common::task::{Molecule, MoleculeSource, Row, Shard, TaskId};

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
            assert_eq!(results.append(&task).unwrap(), Ok(()));
        }
        let fault = results.append(&scored(4, "e", "-1", &["other"])).unwrap().unwrap_err();
        assert_eq!(fault.reason, "columns_differ");
        assert!(!path.exists(), "nothing is there before it is complete");
        let (sha256, best) = results.finish().unwrap();
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
