//! Stages the manifest: molecules, checked, numbered into tasks and written to a file without a name.
//! Only one molecule is in memory at a time, besides the hashes that find duplicate ids.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use common::digest::Digesting;
use common::task::{
    EngineOptions, ManifestDigest, ManifestReader, ManifestRow, ManifestWriter, Molecule, MoleculeKind,
    MoleculeSource, Residue, TaskId,
};

use super::{LigandFile, PushError};
use crate::error::LaunchpadError;
use crate::input::{Columns, DuplicateIds, FoundMolecule, FoundStructure, Problem};

/// A manifest on local disk.
#[derive(Debug, Clone)]
pub(crate) struct StagedManifest {
    file: Arc<File>,
    /// Its identity and size.
    pub(crate) digest: ManifestDigest,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Entries that were left out.
    pub(crate) bad: u64,
}

/// Writes the manifest of some files, `batch_size` molecules to a task, each formula as `split` of them (0 where there are none). Entries that can't be used, duplicate ids among them, are
/// told one by one and left out.
pub(crate) fn stage(
    files: &[LigandFile],
    columns: &Columns,
    (batch_size, split): (u64, u64),
    tell: &mut dyn FnMut(&Problem),
) -> Result<StagedManifest, LaunchpadError> {
    let mut staging = Staging::new(batch_size)?;
    let mut ids = DuplicateIds::new("");
    let mut bad = 0;
    for file in files {
        ids.next_file(file.name());
        for entry in file.molecules(columns)? {
            let checked = entry?.and_then(|found| ids.check(&found).map(|()| found));
            match checked {
                Ok(found) => {
                    let line = found.line;
                    for part in split_into(molecule(found, file), split)? {
                        staging.write(&part, line)?;
                    }
                }
                Err(problem) => {
                    tell(&problem);
                    bad += 1;
                }
            }
        }
    }
    if staging.molecules == 0 && bad == 0 {
        return Err(PushError::NoMolecules.into());
    }
    Ok(StagedManifest { bad, ..staging.finish()? })
}

/// A formula as its residues; a molecule as it is.
fn split_into(molecule: Molecule, split: u64) -> Result<Vec<Molecule>, PushError> {
    if split == 0 {
        return Ok(vec![molecule]);
    }
    let formula: Residue = molecule.smiles().parse()?;
    let part = |residue| {
        let id = Residue { residue, modulus: split, ..formula.clone() }.to_string();
        Molecule { source: MoleculeSource::Smiles { smiles: id.clone() }, id }
    };
    Ok((0..split).map(part).collect())
}

/// A manifest that is being written.
pub(super) struct Staging {
    writer: ManifestWriter<Digesting<BufWriter<File>>>,
    batch_size: u64,
    molecules: u64,
}

impl Staging {
    /// Starts a manifest of `batch_size` molecules to a task.
    pub(super) fn new(batch_size: u64) -> Result<Self, LaunchpadError> {
        let file = tempfile::tempfile().map_err(temporary)?;
        let writer = ManifestWriter::new(Digesting::new(BufWriter::new(file)));
        Ok(Self { writer, batch_size, molecules: 0 })
    }

    /// Appends a molecule, which stands in this line of the user's file. Its id must not have been there before.
    pub(super) fn write(&mut self, molecule: &Molecule, source_line: u64) -> Result<(), LaunchpadError> {
        let task = TaskId(self.molecules / self.batch_size);
        self.writer.write(&ManifestRow::new(task, molecule, source_line))?;
        self.molecules += 1;
        Ok(())
    }

    /// Ends the manifest.
    pub(super) fn finish(self) -> Result<StagedManifest, LaunchpadError> {
        let (to, sha256, bytes) = self.writer.finish()?.finish();
        let file = to.into_inner().map_err(|error| temporary(error.into_error()))?;
        let tasks = self.molecules.div_ceil(self.batch_size);
        let digest = ManifestDigest { sha256, tasks, molecules: self.molecules };
        Ok(StagedManifest { file: Arc::new(file), digest, bytes, bad: 0 })
    }
}

/// The error of a temporary file.
pub(super) fn temporary(source: io::Error) -> LaunchpadError {
    LaunchpadError::File { action: "write", path: std::env::temp_dir(), source }
}

fn molecule(found: FoundMolecule, file: &LigandFile) -> Molecule {
    let source = match found.structure {
        FoundStructure::Smiles(smiles) | FoundStructure::Formula(smiles) => MoleculeSource::Smiles { smiles },
        FoundStructure::SdfRecord { offset, length } => {
            let object = file.object().expect("only an SDF has records, and every SDF has an object");
            MoleculeSource::Sdf { object: object.object.clone(), offset, length }
        }
    };
    Molecule { id: found.id, source }
}

impl StagedManifest {
    /// Reads the tasks from the first one on. Several readers do not disturb each other.
    pub(crate) fn tasks(&self) -> ManifestReader<impl Read + Send + use<>> {
        ManifestReader::new(FromStart { file: Arc::clone(&self.file), at: 0 })
    }

    /// The manifest of its first `wanted` molecules, one task each. Their source lines count from 1: those of the files are not kept.
    pub(crate) fn first(&self, wanted: u64) -> Result<Self, LaunchpadError> {
        let mut staging = Staging::new(1)?;
        // One molecule at least for each task.
        for task in self.tasks().take(usize::try_from(wanted).unwrap_or(usize::MAX)) {
            for molecule in task?.1 {
                if staging.molecules < wanted {
                    staging.write(&molecule, staging.molecules + 1)?;
                }
            }
        }
        staging.finish()
    }

    /// Refuses molecules without coordinates for an engine that takes each where it is.
    pub(crate) fn check_for(&self, engine: &EngineOptions) -> Result<(), LaunchpadError> {
        if !matches!(engine, EngineOptions::GromacsMmgbsa(_)) {
            return Ok(());
        }
        for task in self.tasks() {
            let unplaced = task?.1.into_iter().find(|molecule| molecule.kind() == MoleculeKind::Smiles);
            if let Some(Molecule { id: molecule, .. }) = unplaced {
                return Err(PushError::NeedsPose { molecule, engine: engine.name() }.into());
            }
        }
        Ok(())
    }

    /// The file itself, as it is uploaded.
    pub(super) const fn file(&self) -> &Arc<File> {
        &self.file
    }
}

/// Reads a shared file with a position of its own.
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(
        files: &[(&str, &str)],
        batch_size: u64,
    ) -> (Result<StagedManifest, LaunchpadError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let open = |(name, content): &(&str, &str)| {
            std::fs::write(folder.path().join(name), content).unwrap();
            LigandFile::open(&folder.path().join(name), None).unwrap()
        };
        let files: Vec<LigandFile> = files.iter().map(open).collect();
        let mut problems = Vec::new();
        let prefix = format!("{}/", folder.path().display());
        let mut tell = |problem: &Problem| problems.push(problem.to_string().replace(&prefix, ""));
        (stage(&files, &Columns::default(), (batch_size, 0), &mut tell), problems)
    }

    #[test]
    fn molecules_are_numbered_into_tasks_across_files() {
        let (staged, problems) = staged(&[("a.smi", "C a\nCC b\n"), ("b.csv", "id,smiles\nc,CCC\n")], 2);
        let staged = staged.unwrap();
        assert!(problems.is_empty());
        let mut text = String::new();
        FromStart { file: Arc::clone(&staged.file), at: 0 }.read_to_string(&mut text).unwrap();
        assert_eq!(
            text,
            "task_id,molecule_id,smiles,object,offset,length,kind,group,source_line\n\
             0,a,C,,,,smiles,,1\n0,b,CC,,,,smiles,,2\n1,c,CCC,,,,smiles,,2\n"
        );
        assert_eq!((staged.digest.tasks, staged.digest.molecules, staged.bytes), (2, 3, text.len() as u64));
        assert_eq!(staged.digest.sha256, common::digest::sha256_hex(text.as_bytes()));
        assert_eq!(staged.tasks().count(), 2);
        assert_eq!(staged.tasks().count(), 2, "a second reader starts at the start");
    }

    #[test]
    fn what_cannot_be_used_is_named_and_left_out() {
        let (staged, problems) = staged(&[("a.smi", "C a\nC a\nC b\n"), ("b.smi", "\nC b\nC c\n")], 1);
        assert_eq!(
            problems,
            [
                "a.smi:2: the id `a` is that of line 1 already",
                "b.smi:2: the id `b` is that of a.smi:3 already"
            ]
        );
        let staged = staged.unwrap();
        assert_eq!((staged.digest.molecules, staged.bad), (3, 2));
    }

    #[test]
    fn a_formula_is_split_into_its_residues() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("list"), "C8H11NO 137\nCH4\n").unwrap();
        let files =
            [LigandFile::open(&folder.path().join("list"), Some(crate::input::Format::Formulae)).unwrap()];
        let ids = |split| -> Vec<Vec<String>> {
            let staged = stage(&files, &Columns::default(), (1, split), &mut |_| ()).unwrap();
            assert_eq!(staged.digest.tasks, 2 * split);
            staged.tasks().map(|task| task.unwrap().1.into_iter().map(|one| one.id).collect()).collect()
        };
        assert_eq!(ids(2), [["C8H11NO:0/2"], ["C8H11NO:1/2"], ["CH4:0/2"], ["CH4:1/2"]]);
        assert_eq!(ids(1), [["C8H11NO"], ["CH4"]]);
    }

    #[test]
    fn the_first_molecules_are_tasks_of_their_own() {
        let (staged, _) = staged(&[("a.smi", "C a\nCC b\nCCC c\nCCCC d\n")], 2);
        let staged = staged.unwrap();
        let ids = |manifest: StagedManifest| -> Vec<Vec<String>> {
            manifest.tasks().map(|task| task.unwrap().1.into_iter().map(|one| one.id).collect()).collect()
        };
        let first = staged.first(3).unwrap();
        assert_eq!((first.digest.tasks, first.digest.molecules), (3, 3));
        assert_eq!(ids(first), [["a"], ["b"], ["c"]]);
        assert_eq!(ids(staged.first(9).unwrap()).len(), 4, "no more than there are");
    }

    #[test]
    fn nothing_is_an_error() {
        assert_eq!(staged(&[("a.smi", "\n")], 1).0.unwrap_err().to_string(), "there is no molecule to push");
    }
}
