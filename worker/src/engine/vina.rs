//! The engine `vina`: SMILES or 3D SDF records → RDKit → Open Babel → AutoDock Vina (Trott & Olson 2010,
//! doi:10.1002/jcc.21334; Eberhardt et al. 2021, doi:10.1021/acs.jcim.1c00203).
//!
//! This file plans; `vina_verdict` judges. Spawns nothing and reads nothing but the shared receptor.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::task::{RunSpec, VinaOptions};

use super::docking::{self, PREPARED_FILE, dock_step, ligand_sdf};
use super::receptor::{self, Receptor};
use super::{
    Engine, EngineFailure, Judged, MoleculeInput, Plan, Preparation, Step, StepOutcome, Workload,
    vina_verdict,
};

/// The columns that are Vina's own.
pub(crate) const OWN_COLUMNS: [&str; 2] = ["modes", "contacts"];

/// Docking with AutoDock Vina.
#[derive(Debug, Clone)]
pub struct Vina {
    options: VinaOptions,
}

impl Vina {
    /// With a run's parameters.
    pub fn new(options: VinaOptions) -> Self {
        Self { options }
    }

    fn dock(&self, input: &MoleculeInput, workload: &Workload<'_>, receptor: &Receptor) -> Step {
        let ligand = ligand_pdbqt(input.index);
        let mut argv = vec!["vina".to_owned()];
        let mut flag = |name: &str, value: String| argv.extend([format!("--{name}"), value]);
        flag("receptor", receptor.path.to_string_lossy().into_owned());
        flag("ligand", ligand.to_string_lossy().into_owned());
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            flag(&format!("center_{name}"), self.options.center[axis].to_string());
            flag(&format!("size_{name}"), self.options.size[axis].to_string());
        }
        flag("exhaustiveness", self.options.exhaustiveness.to_string());
        flag("num_modes", self.options.modes.to_string());
        flag("seed", input.seed.to_string());
        flag("cpu", workload.spec.threads_per_task.to_string());
        flag("out", poses_pdbqt(input.index).to_string_lossy().into_owned());
        Step { name: dock_step(input.index), argv, needs: vec![ligand] }
    }
}

impl Engine for Vina {
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        vec![
            ("vina", vec!["vina".into(), "--version".into()]),
            ("openbabel", vec!["obabel".into(), "-V".into()]),
            ("rdkit", docking::rdkit_version()),
        ]
    }

    fn preparations(&self, spec: &RunSpec, shared: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        receptor::preparation(spec, shared).into_iter().collect()
    }

    /// One step prepares all molecules, then each has two of its own. Without a usable receptor or driver there is
    /// nothing to run, and the judge says why.
    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let Ok((receptor, driver)) = shared_inputs(workload) else {
            return Plan::default();
        };
        let mut steps = vec![docking::prepare(driver)];
        for input in workload.molecules {
            steps.push(convert(input.index));
            steps.push(self.dock(input, workload, &receptor));
        }
        Plan { files: vec![docking::task_file(workload)], steps, ..Plan::default() }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        let (receptor, _) = shared_inputs(workload)?;
        vina_verdict::judge(&self.options, workload, &receptor, outcomes)
    }

    /// The prepared ligands are kept beside the poses: they have the bonds and charges that PDBQT lacks.
    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf> {
        let of = |index| [ligand_sdf(index), ligand_pdbqt(index), poses_pdbqt(index)];
        let all = workload.molecules.iter().flat_map(|input| of(input.index));
        std::iter::once(PathBuf::from(PREPARED_FILE)).chain(all).collect()
    }

    fn score_unit(&self) -> &'static str {
        "kcal/mol"
    }

    fn columns(&self) -> Vec<&str> {
        docking::columns(&OWN_COLUMNS)
    }
}

/// The receptor and the path of the preparation's driver.
fn shared_inputs(workload: &Workload<'_>) -> Result<(Receptor, String), EngineFailure> {
    let receptor = Receptor::read(workload.spec, workload.shared)?;
    Ok((receptor, docking::driver(workload)?))
}

fn convert(index: usize) -> Step {
    let (sdf, pdbqt) = (ligand_sdf(index), ligand_pdbqt(index));
    let argv = ["obabel", &sdf.to_string_lossy(), "-O", &pdbqt.to_string_lossy()].map(str::to_owned).into();
    Step { name: convert_step(index), argv, needs: vec![sdf] }
}

pub(crate) fn convert_step(index: usize) -> String {
    format!("convert_{index:05}")
}

pub(crate) fn ligand_pdbqt(index: usize) -> PathBuf {
    PathBuf::from(format!("ligands/{index:05}.pdbqt"))
}

pub(crate) fn poses_pdbqt(index: usize) -> PathBuf {
    PathBuf::from(format!("poses/{index:05}.pdbqt"))
}
