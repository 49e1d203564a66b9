//! The engine `gnina`: SMILES or 3D SDF records → RDKit → Gnina, which docks as Vina does and scores poses with convolutional neural
//! networks (GNINA 1.0, 2021, doi:10.1186/s13321-021-00522-2).
//!
//! This file plans; `gnina_verdict` judges. Spawns nothing and reads nothing but the shared receptor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::task::{CnnScoring, GninaOptions, GninaScore, RunSpec};

use super::docking::{self, PREPARED_FILE, dock_step, ligand_sdf};
use super::receptor::Receptor;
use super::{
    Engine, EngineFailure, Judged, MoleculeInput, Plan, Preparation, Step, StepOutcome, Workload,
    gnina_verdict,
};

/// The columns that are Gnina's own: its numbers of the best pose, and which program they are from.
pub(crate) const OWN_COLUMNS: [&str; 7] = [
    GninaScore::MinimizedAffinity.tag(),
    GninaScore::CnnScore.tag(),
    GninaScore::CnnAffinity.tag(),
    GninaScore::CnnVs.tag(),
    "modes",
    "contacts",
    "program",
];
/// The step that asks the program what it is.
pub(crate) const VERSION_STEP: &str = "version";

/// Docking with Gnina.
#[derive(Debug, Clone)]
pub struct Gnina {
    options: GninaOptions,
}

impl Gnina {
    /// With a run's parameters.
    pub fn new(options: GninaOptions) -> Self {
        Self { options }
    }

    fn dock(&self, input: &MoleculeInput, workload: &Workload<'_>, receptor: &Receptor) -> Step {
        let options = &self.options;
        let device = if workload.has_gpu { 0 } else { options.device };
        let ligand = ligand_sdf(input.index);
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut argv: Vec<String> =
            ["gnina", "-r", &text(receptor.path.clone()), "-l", &text(ligand.clone())]
                .map(str::to_owned)
                .into();
        let mut flag = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            flag(&format!("center_{name}"), options.center[axis].to_string());
            flag(&format!("size_{name}"), options.size[axis].to_string());
        }
        flag("exhaustiveness", options.exhaustiveness.to_string());
        flag("num_modes", options.modes.to_string());
        flag("cnn_scoring", options.cnn_scoring.name().to_owned());
        flag("seed", input.seed.to_string());
        flag("cpu", workload.spec.threads_per_task.to_string());
        flag("device", device.to_string());
        flag("log", text(log(input.index)));
        argv.extend(["-o".to_owned(), text(poses_sdf(input.index))]);
        Step { name: dock_step(input.index), argv, needs: vec![ligand] }
    }
}

impl Engine for Gnina {
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        vec![("gnina", version()), ("rdkit", docking::rdkit_version())]
    }

    /// Its networks do; the search runs on the CPU.
    fn wants_gpu(&self) -> bool {
        self.options.cnn_scoring != CnnScoring::None
    }

    /// None: Gnina reads PDB by itself.
    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    /// One step prepares all molecules, one asks for the version, then each molecule has one of its own. Without a usable receptor or
    /// driver there is nothing to run, and the judge says why.
    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let Ok((receptor, driver)) = shared_inputs(workload) else {
            return Plan::default();
        };
        let version = Step { name: VERSION_STEP.to_owned(), argv: version(), needs: Vec::new() };
        let mut steps = vec![docking::prepare(driver), version];
        steps.extend(workload.molecules.iter().map(|input| self.dock(input, workload, &receptor)));
        Plan { files: vec![docking::task_file(workload)], steps, ..Plan::default() }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        let (receptor, _) = shared_inputs(workload)?;
        gnina_verdict::judge(&self.options, workload, &receptor, outcomes)
    }

    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf> {
        let of = |index| [ligand_sdf(index), poses_sdf(index), log(index)];
        let all = workload.molecules.iter().flat_map(|input| of(input.index));
        std::iter::once(PathBuf::from(PREPARED_FILE)).chain(all).collect()
    }

    fn score_unit(&self) -> &str {
        self.options.score.unit()
    }

    fn columns(&self) -> Vec<&str> {
        docking::columns(&OWN_COLUMNS)
    }
}

fn version() -> Vec<String> {
    vec!["gnina".into(), "--version".into()]
}

/// The receptor and the path of the preparation's driver.
fn shared_inputs(workload: &Workload<'_>) -> Result<(Receptor, String), EngineFailure> {
    Ok((Receptor::as_given(workload.spec, workload.shared)?, docking::driver(workload)?))
}

pub(crate) fn poses_sdf(index: usize) -> PathBuf {
    PathBuf::from(format!("poses/{index:05}.sdf"))
}

fn log(index: usize) -> PathBuf {
    PathBuf::from(format!("poses/{index:05}.log"))
}
