//! The objects that all tasks of a run share, inputs and drivers by role: from the user's files, or those of another run.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{RunStore, StorageError, key};
use common::task::{ObjectRef, RunSpec};

use super::PushError;
use crate::error::LaunchpadError;
use crate::input::HeavyAtoms;

/// The default driver of the engine `vina`: it gives every molecule a 3D structure.
const VINA_PREPARE: &str = include_str!("../../../drivers/vina_prepare.py");
const VINA_PREPARE_NAME: &str = "vina_prepare.py";
const RECEPTOR: &str = "receptor";

type Pinned = (ObjectRef, Bytes);

/// Inputs and drivers with their bytes.
#[derive(Debug)]
pub(crate) struct SharedObjects {
    inputs: BTreeMap<String, Pinned>,
    drivers: BTreeMap<String, Pinned>,
}

impl SharedObjects {
    /// Those of docking into a receptor with the default driver.
    pub(crate) fn of_files(receptor: &Path) -> Result<Self, LaunchpadError> {
        let prepare = Bytes::from_static(VINA_PREPARE.as_bytes());
        let prepare = pinned(prepare, |sha256| key::driver(sha256, VINA_PREPARE_NAME));
        Ok(Self {
            inputs: BTreeMap::from([(RECEPTOR.to_owned(), read_receptor(receptor)?)]),
            drivers: BTreeMap::from([("prepare".to_owned(), prepare)]),
        })
    }

    /// Those of another run, but for the receptor if a file replaces it. The drivers are that run's, too, whatever this version ships.
    pub(crate) async fn of_run(
        store: &RunStore,
        spec: &RunSpec,
        receptor: Option<&Path>,
    ) -> Result<Self, LaunchpadError> {
        let mut inputs = read_all(store, &spec.inputs).await?;
        if let Some(receptor) = receptor {
            inputs.insert(RECEPTOR.to_owned(), read_receptor(receptor)?);
        }
        Ok(Self { inputs, drivers: read_all(store, &spec.drivers).await? })
    }

    /// The inputs, as the spec names them.
    pub(super) fn input_refs(&self) -> BTreeMap<String, ObjectRef> {
        refs(&self.inputs)
    }

    /// The drivers, as the spec names them.
    pub(super) fn driver_refs(&self) -> BTreeMap<String, ObjectRef> {
        refs(&self.drivers)
    }

    /// All of them, in the order of writing.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Pinned> {
        self.inputs.values().chain(self.drivers.values())
    }
}

fn refs(objects: &BTreeMap<String, Pinned>) -> BTreeMap<String, ObjectRef> {
    objects.iter().map(|(role, (object, _))| (role.clone(), object.clone())).collect()
}

async fn read_all(
    store: &RunStore,
    objects: &BTreeMap<String, ObjectRef>,
) -> Result<BTreeMap<String, Pinned>, LaunchpadError> {
    let mut read = BTreeMap::new();
    for (role, object) in objects {
        let bytes = store.read(&object.object).await?;
        let theirs = sha256_hex(&bytes);
        if theirs != object.sha256 {
            let (object, ours) = (object.object.clone(), object.sha256.clone());
            return Err(StorageError::Digest { object, url: store.url().to_owned(), theirs, ours }.into());
        }
        read.insert(role.clone(), (object.clone(), bytes));
    }
    Ok(read)
}

fn pinned(bytes: Bytes, name: impl Fn(&str) -> String) -> Pinned {
    let sha256 = sha256_hex(&bytes);
    (ObjectRef { object: name(&sha256), sha256, bytes: bytes.len() as u64 }, bytes)
}

/// Reads a receptor, which has to be a PDB or PDBQT with at least one heavy atom.
fn read_receptor(path: &Path) -> Result<(ObjectRef, Bytes), LaunchpadError> {
    let extension =
        path.extension().map(|text| text.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if !["pdb", "ent", "pdbqt"].contains(&extension.as_str()) {
        return Err(PushError::ReceptorFormat { path: path.to_owned() }.into());
    }
    HeavyAtoms::read(path)?;
    let failed = |source| LaunchpadError::File { action: "read", path: path.to_owned(), source };
    let bytes = Bytes::from(std::fs::read(path).map_err(failed)?);
    let file_name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    Ok(pinned(bytes, |sha256| key::input(sha256, &file_name)))
}
