//! The manifest: every molecule of a run with the task that it belongs to, written once by push.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use super::{FepPart, Molecule, MoleculeError, MoleculeSource, TaskId};

/// What a line of the manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowKind {
    /// A molecule as a SMILES.
    Smiles,
    /// A molecule as an SDF record.
    Sdf,
    /// A window of a molecule.
    Window,
    /// What is made of a molecule's windows.
    Reduction,
}

/// One line of the manifest: one molecule of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestRow {
    /// The task; the rows of a task stand together, and tasks count from 0.
    pub task_id: u64,
    /// The user's name for the molecule.
    pub molecule_id: String,
    /// Its SMILES; empty for a molecule from an SDF.
    pub smiles: String,
    /// The SDF object that holds it, below the run; empty for a SMILES.
    pub object: String,
    /// Where its record starts in the object, in bytes.
    pub offset: Option<u64>,
    /// How long its record is, in bytes.
    pub length: Option<u64>,
    /// The format in which it arrived, or what the task does for it.
    pub kind: RowKind,
    /// The molecule's number, from 0, where several tasks belong to it; empty where not.
    pub group: Option<u64>,
    /// The window of a molecule, from 0; empty for all other tasks.
    pub window: Option<usize>,
    /// The line of the user's file where it starts, from 1.
    pub source_line: u64,
}

impl ManifestRow {
    /// The row of a molecule.
    pub fn new(task: TaskId, molecule: &Molecule, source_line: u64) -> Self {
        let (smiles, object, offset, length) = match &molecule.source {
            MoleculeSource::Smiles { smiles } => (smiles.clone(), String::new(), None, None),
            MoleculeSource::Sdf { object, offset, length } => {
                (String::new(), object.clone(), Some(*offset), Some(*length))
            }
        };
        Self {
            task_id: task.0,
            molecule_id: molecule.id.clone(),
            smiles,
            object,
            offset,
            length,
            kind: match molecule.source {
                MoleculeSource::Smiles { .. } => RowKind::Smiles,
                MoleculeSource::Sdf { .. } => RowKind::Sdf,
            },
            group: None,
            window: None,
            source_line,
        }
    }

    /// The same for a task that is a part of what is done for the molecule, which is the `group`-th.
    #[must_use]
    pub fn part(self, group: u64, part: FepPart) -> Self {
        let kind = match part {
            FepPart::Window(_) => RowKind::Window,
            FepPart::Reduction => RowKind::Reduction,
        };
        Self { kind, group: Some(group), window: part.window(), ..self }
    }

    /// The molecule of a row; `None` if an SDF row names no range.
    pub fn molecule(&self) -> Option<Molecule> {
        let is_smiles = match self.kind {
            RowKind::Smiles => true,
            RowKind::Sdf => false,
            RowKind::Window | RowKind::Reduction => self.object.is_empty(),
        };
        let source = if is_smiles {
            MoleculeSource::Smiles { smiles: self.smiles.clone() }
        } else {
            let (object, offset, length) = (self.object.clone(), self.offset?, self.length?);
            MoleculeSource::Sdf { object, offset, length }
        };
        Some(Molecule { id: self.molecule_id.clone(), source })
    }
}

/// Says what is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not CSV of the manifest's columns.
    #[error("the manifest is not readable")]
    Csv(#[from] csv::Error),
    /// The destination or source failed.
    #[error("the manifest could not be written")]
    Io(#[from] std::io::Error),
    /// Tasks are not numbered 0, 1, 2, …
    #[error("line {line} of the manifest is of task {found} (expected task {expected})")]
    Order {
        /// Counted from 1, the header included.
        line: u64,
        /// The number that was there.
        found: u64,
        /// The lowest number that could be there.
        expected: u64,
    },
    /// A molecule that no push writes.
    #[error("line {line} of the manifest holds no molecule that can be used")]
    Molecule {
        /// Counted from 1, the header included.
        line: u64,
        /// What is wrong with it.
        #[source]
        source: MoleculeError,
    },
    /// A molecule from an SDF without its range.
    #[error("line {line} of the manifest names no byte range for an SDF molecule")]
    Range {
        /// Counted from 1, the header included.
        line: u64,
    },
}

/// Writes a manifest row by row.
#[derive(Debug)]
pub struct ManifestWriter<W: Write> {
    csv: csv::Writer<W>,
}

impl<W: Write> ManifestWriter<W> {
    /// Starts a manifest; the header comes with the first row.
    pub fn new(to: W) -> Self {
        Self { csv: csv::Writer::from_writer(to) }
    }

    /// Appends a molecule.
    pub fn write(&mut self, row: &ManifestRow) -> Result<(), ManifestError> {
        Ok(self.csv.serialize(row)?)
    }

    /// Flushes and gives the destination back.
    pub fn finish(mut self) -> Result<W, ManifestError> {
        self.csv.flush()?;
        self.csv.into_inner().map_err(|error| ManifestError::Io(error.into_error()))
    }
}

/// Reads a manifest task by task, in bounded memory.
pub struct ManifestReader<R> {
    rows: csv::DeserializeRecordsIntoIter<R, ManifestRow>,
    ahead: Option<ManifestRow>,
    line: u64,
    next_task: u64,
}

impl<R> std::fmt::Debug for ManifestReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestReader").field("line", &self.line).finish_non_exhaustive()
    }
}

impl<R: Read> ManifestReader<R> {
    /// Starts to read.
    pub fn new(from: R) -> Self {
        let rows = csv::Reader::from_reader(from).into_deserialize();
        Self { rows, ahead: None, line: 1, next_task: 0 }
    }

    /// The rows as they stand, for who needs the lines of the user's file, too. They are not held against each other.
    pub fn rows(from: R) -> impl Iterator<Item = Result<ManifestRow, ManifestError>> {
        csv::Reader::from_reader(from).into_deserialize().map(|row| Ok(row?))
    }

    fn next_row(&mut self) -> Result<Option<ManifestRow>, ManifestError> {
        if let Some(row) = self.ahead.take() {
            return Ok(Some(row));
        }
        self.line += 1;
        Ok(self.rows.next().transpose()?)
    }

    fn next_task(&mut self) -> Result<Option<(TaskId, Vec<Molecule>)>, ManifestError> {
        let Some(first) = self.next_row()? else { return Ok(None) };
        let task = first.task_id;
        if task != self.next_task {
            return Err(ManifestError::Order { line: self.line, found: task, expected: self.next_task });
        }
        self.next_task += 1;
        let mut molecules = vec![self.molecule(&first)?];
        while let Some(row) = self.next_row()? {
            if row.task_id != task {
                self.ahead = Some(row);
                break;
            }
            molecules.push(self.molecule(&row)?);
        }
        Ok(Some((TaskId(task), molecules)))
    }

    fn molecule(&self, row: &ManifestRow) -> Result<Molecule, ManifestError> {
        let molecule = row.molecule().ok_or(ManifestError::Range { line: self.line })?;
        molecule.check().map_err(|source| ManifestError::Molecule { line: self.line, source })?;
        Ok(molecule)
    }
}

impl<R: Read> Iterator for ManifestReader<R> {
    type Item = Result<(TaskId, Vec<Molecule>), ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_task().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smiles(id: &str) -> Molecule {
        Molecule { id: id.into(), source: MoleculeSource::Smiles { smiles: "CC".into() } }
    }

    #[test]
    fn a_manifest_is_read_back_as_tasks() {
        let sdf = Molecule {
            id: "c".into(),
            source: MoleculeSource::Sdf {
                object: format!("inputs/{}/l.sdf", "ab".repeat(32)),
                offset: 0,
                length: 12,
            },
        };
        let mut writer = ManifestWriter::new(Vec::new());
        for (task, molecule, line) in [(0, &smiles("a,1"), 1), (0, &smiles("b"), 2), (1, &sdf, 3)] {
            writer.write(&ManifestRow::new(TaskId(task), molecule, line)).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.starts_with("task_id,molecule_id,smiles,object,offset,length,kind,group,window,source_line\n0,\"a,1\",CC,,,,smiles,,,1\n"),
            "{text}"
        );
        let tasks: Vec<_> = ManifestReader::new(bytes.as_slice()).map(Result::unwrap).collect();
        let lines = ManifestReader::rows(bytes.as_slice()).map(|row| row.unwrap().source_line);
        assert!(lines.eq(1..=3));
        assert_eq!(tasks, vec![(TaskId(0), vec![smiles("a,1"), smiles("b")]), (TaskId(1), vec![sdf])]);
    }

    #[test]
    fn gaps_and_missing_ranges_are_named() {
        let check = |rows: &str, expect: &str| {
            let text = format!(
                "task_id,molecule_id,smiles,object,offset,length,kind,group,window,source_line\n{rows}"
            );
            let error = ManifestReader::new(text.as_bytes()).find_map(Result::err).unwrap();
            assert_eq!(error.to_string(), expect);
        };
        check(
            "0,a,C,,,,smiles,,,1\n2,b,C,,,,smiles,,,2\n",
            "line 3 of the manifest is of task 2 (expected task 1)",
        );
        check("0,a,,x,,,sdf,,,1\n", "line 2 of the manifest names no byte range for an SDF molecule");
        check("0,a,C C,,,,smiles,,,1\n", "line 2 of the manifest holds no molecule that can be used");
        check("0,a,,../x,0,1,sdf,,,1\n", "line 2 of the manifest holds no molecule that can be used");
        check("0,a,C\n", "the manifest is not readable");
    }
}
