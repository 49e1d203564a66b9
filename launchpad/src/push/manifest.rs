//! Stages the manifest: molecules, checked, numbered into tasks and written to a file without a name.
//! Only one molecule is in memory at a time, besides the hashes that find duplicate ids.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use common::digest::Digesting;
use common::task::{
    EngineOptions, FepOptions, ManifestDigest, ManifestReader, ManifestRow, ManifestWriter, Molecule,
    MoleculeKind, MoleculeSource, Residue, TaskId,
};

use super::{LigandFile, PushError};
use crate::error::LaunchpadError;
use crate::input::{Columns, DuplicateIds, FoundMolecule, FoundStructure, Problem};

/// How molecules become tasks.
#[derive(Debug, Clone)]
pub(crate) enum Layout {
    /// So many molecules to a task.
    Batches(u64),
    /// Each formula split into so many residues, of which so many go to a task.
    Residues { split: u64, batch_size: u64 },
    /// A task for each window of a molecule, and one that waits for them.
    Windows(FepOptions),
}

impl Layout {
    /// That of an engine.
    pub(crate) fn of(engine: &EngineOptions, batch_size: u64, split: u64) -> Self {
        match engine {
            EngineOptions::GromacsFep(fep) => Self::Windows(fep.clone()),
            engine if engine.stream().is_some() => Self::Residues { split, batch_size },
            _ => Self::Batches(batch_size),
        }
    }

    /// Tasks that belong to one molecule; 1 if a task has a molecule or more.
    pub(super) fn group_tasks(&self) -> u64 {
        match self {
            Self::Batches(_) | Self::Residues { .. } => 1,
            Self::Windows(fep) => fep.group_tasks(),
        }
    }
}

/// A manifest on local disk.
#[derive(Debug, Clone)]
pub(crate) struct StagedManifest {
    file: Arc<File>,
    /// How its molecules became tasks.
    pub(super) layout: Layout,
    /// Its identity and size.
    pub(crate) digest: ManifestDigest,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Entries that were left out.
    pub(crate) bad: u64,
}

/// Writes the manifest of some files. Entries that can't be used, duplicate ids among them, are
/// told one by one and left out.
pub(crate) fn stage(
    files: &[LigandFile],
    columns: &Columns,
    layout: Layout,
    tell: &mut dyn FnMut(&Problem),
) -> Result<StagedManifest, LaunchpadError> {
    let mut staging = Staging::new(layout)?;
    let mut ids = DuplicateIds::new("");
    let mut bad = 0;
    for file in files {
        ids.next_file(file.name());
        for entry in file.molecules(columns)? {
            let checked = entry?.and_then(|found| ids.check(&found).map(|()| found));
            match checked {
                Ok(found) => {
                    let line = found.line;
                    for part in parts(molecule(found, file), &staging.layout)? {
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
fn parts(molecule: Molecule, layout: &Layout) -> Result<Vec<Molecule>, PushError> {
    let Layout::Residues { split, .. } = *layout else { return Ok(vec![molecule]) };
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
    layout: Layout,
    molecules: u64,
}

impl Staging {
    /// Starts a manifest.
    pub(super) fn new(layout: Layout) -> Result<Self, LaunchpadError> {
        let file = tempfile::tempfile().map_err(temporary)?;
        let writer = ManifestWriter::new(Digesting::new(BufWriter::new(file)));
        Ok(Self { writer, layout, molecules: 0 })
    }

    /// Appends a molecule, which stands in this line of the user's file. Its id must not have been there before.
    pub(super) fn write(&mut self, molecule: &Molecule, source_line: u64) -> Result<(), LaunchpadError> {
        let number = self.molecules;
        let row = |task| ManifestRow::new(TaskId(task), molecule, source_line);
        match &self.layout {
            Layout::Batches(size) | Layout::Residues { batch_size: size, .. } => {
                self.writer.write(&row(number / size))?;
            }
            Layout::Windows(fep) => {
                let first = number * fep.group_tasks();
                for task in first..first + fep.group_tasks() {
                    self.writer.write(&row(task).part(number, fep.part(TaskId(task))))?;
                }
            }
        }
        self.molecules += 1;
        Ok(())
    }

    /// Ends the manifest.
    pub(super) fn finish(self) -> Result<StagedManifest, LaunchpadError> {
        let (to, sha256, bytes) = self.writer.finish()?.finish();
        let file = to.into_inner().map_err(|error| temporary(error.into_error()))?;
        let tasks = match &self.layout {
            Layout::Batches(size) | Layout::Residues { batch_size: size, .. } => {
                self.molecules.div_ceil(*size)
            }
            Layout::Windows(fep) => self.molecules * fep.group_tasks(),
        };
        let digest = ManifestDigest { sha256, tasks, molecules: self.molecules };
        Ok(StagedManifest { file: Arc::new(file), layout: self.layout, digest, bytes, bad: 0 })
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

    /// Its first molecules, so many at most.
    pub(super) fn first_molecules(&self, wanted: usize) -> Result<Vec<Molecule>, LaunchpadError> {
        let every = usize::try_from(self.layout.group_tasks()).unwrap_or(usize::MAX);
        let mut found: Vec<Molecule> = Vec::new();
        for task in self.tasks().step_by(every) {
            found.extend(task?.1.into_iter().take(wanted - found.len()));
            if found.len() == wanted {
                break;
            }
        }
        Ok(found)
    }

    /// The manifest of its first `wanted` molecules, one task each, or one group. Their source lines count from 1: those of the files are not kept.
    pub(crate) fn first(&self, wanted: u64) -> Result<Self, LaunchpadError> {
        let (layout, every) = (self.layout.clone(), self.layout.group_tasks());
        let alone = if every == 1 { Layout::Batches(1) } else { layout };
        let mut staging = Staging::new(alone)?;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        // One molecule at least for each task, or the same one for each of a group.
        for task in self.tasks().step_by(count(every)).take(count(wanted)) {
            for molecule in task?.1 {
                if staging.molecules < wanted {
                    staging.write(&molecule, staging.molecules + 1)?;
                }
            }
        }
        staging.finish()
    }

    /// The manifest of its first `molecules` molecules, so many times each, one task each: the copies of a molecule follow each other.
    /// Their ids are numbers, since those of a copy have to differ from all others.
    pub(crate) fn copies(&self, molecules: u64, copies: u32) -> Result<Self, LaunchpadError> {
        let mut staging = Staging::new(Layout::Batches(1))?;
        let mut number = 0;
        for task in self.tasks() {
            for molecule in task?.1 {
                if number == molecules {
                    return staging.finish();
                }
                number += 1;
                for copy in 1..=copies {
                    let id = format!("{number}-{copy}");
                    staging.write(&Molecule { id, source: molecule.source.clone() }, number)?;
                }
            }
        }
        staging.finish()
    }

    /// Refuses molecules without coordinates for an engine that takes each where it is, unless there is a reference to put them on.
    pub(crate) fn check_for(
        &self,
        engine: &EngineOptions,
        has_reference: bool,
    ) -> Result<(), LaunchpadError> {
        if has_reference || !matches!(engine, EngineOptions::GromacsMmgbsa(_)) {
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
        (stage(&files, &Columns::default(), Layout::Batches(batch_size), &mut tell), problems)
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
            "task_id,molecule_id,smiles,object,offset,length,kind,group,window,source_line\n\
             0,a,C,,,,smiles,,,1\n0,b,CC,,,,smiles,,,2\n1,c,CCC,,,,smiles,,,2\n"
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
        let ids = |split| -> Vec<Vec<String>> {
            let list = folder.path().join("list");
            let files = [LigandFile::open(&list, Some(crate::input::Format::Formulae)).unwrap()];
            let layout = Layout::Residues { split, batch_size: 1 };
            let staged = stage(&files, &Columns::default(), layout, &mut |_| ()).unwrap();
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
    fn copies_of_a_molecule_follow_each_other() {
        let (staged, _) = staged(&[("a.smi", "C a\nCC b\nCCC 1-1\n")], 2);
        let copies = staged.unwrap().copies(2, 3).unwrap();
        assert_eq!((copies.digest.tasks, copies.digest.molecules), (6, 6));
        let molecules = copies.tasks().map(|task| task.unwrap().1.remove(0));
        let told: Vec<String> = molecules.map(|one| format!("{} {}", one.id, one.smiles())).collect();
        assert_eq!(told, ["1-1 C", "1-2 C", "1-3 C", "2-1 CC", "2-2 CC", "2-3 CC"]);
    }

    #[test]
    fn a_molecule_is_a_task_for_each_window_and_one_that_waits() {
        let (lambdas_coulomb, lambdas_vdw) = (vec![0.0, 1.0], vec![0.0, 1.0]);
        let charges = common::task::ChargeModel::Am1Bcc;
        let (window_ps, discard_ps, equilibration_ps, box_nm) = (1.0, 0.0, 1.0, 2.0);
        let fep = FepOptions {
            charges,
            lambdas_coulomb,
            lambdas_vdw,
            window_ps,
            discard_ps,
            equilibration_ps,
            box_nm,
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.smi"), "C a\nCC b\nCCC c\n").unwrap();
        let files = [LigandFile::open(&folder.path().join("a.smi"), None).unwrap()];
        let staged = stage(&files, &Columns::default(), Layout::Windows(fep), &mut |_| ()).unwrap();
        assert_eq!((staged.digest.tasks, staged.digest.molecules), (9, 3));
        let text = |manifest: &StagedManifest| {
            let mut text = String::new();
            FromStart { file: Arc::clone(&manifest.file), at: 0 }.read_to_string(&mut text).unwrap();
            text
        };
        let rows =
            "0,a,C,,,,window,0,0,1\n1,a,C,,,,window,0,1,1\n2,a,C,,,,reduction,0,,1\n3,b,CC,,,,window,1,0,2\n";
        assert!(text(&staged).contains(rows), "{}", text(&staged));
        let first = staged.first(2).unwrap();
        assert_eq!((first.digest.tasks, first.digest.molecules), (6, 2));
        assert!(text(&first).ends_with("5,b,CC,,,,reduction,1,,2\n"), "{}", text(&first));
    }

    #[test]
    fn nothing_is_an_error() {
        assert_eq!(staged(&[("a.smi", "\n")], 1).0.unwrap_err().to_string(), "there is no molecule to push");
    }
}
