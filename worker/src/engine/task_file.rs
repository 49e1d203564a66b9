//! The file `task.json` with which an engine's driver learns what to do. It names every file relative to the scratch folder, so that
//! the same task gives the same bytes on every machine.

use serde::Serialize;
use serde_json::Value;

use super::{MoleculeInput, Workload};

/// Its name in the scratch folder.
pub(crate) const NAME: &str = "task.json";

/// Where a molecule is, and the seed of every random number used on it.
#[derive(Serialize)]
struct TaskMolecule<'a> {
    index: usize,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    smiles: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structure: Option<String>,
    seed: u32,
}

/// The list of molecules, in manifest order.
pub(crate) fn molecules(workload: &Workload<'_>) -> Vec<Value> {
    let molecule = |input: &'_ MoleculeInput| {
        let structure =
            input.structure.as_ref().map(|path| path.strip_prefix(workload.scratch).unwrap_or(path));
        serde_json::to_value(TaskMolecule {
            index: input.index,
            id: &input.molecule.id,
            smiles: structure.is_none().then(|| input.molecule.smiles()),
            structure: structure.map(|path| path.to_string_lossy().into_owned()),
            seed: input.seed,
        })
        .expect("strings and numbers always become JSON")
    };
    workload.molecules.iter().map(molecule).collect()
}
