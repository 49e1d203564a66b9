//! What a push makes: the run's spec with its digest, and every object. Pure apart from reading the user's files.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::key;
use common::task::{EngineOptions, ObjectRef, RunSpec, SPEC_SCHEMA};

use super::{LigandFile, PushError, PushRequest, StagedManifest};
use crate::error::LaunchpadError;
use crate::input::HeavyAtoms;

/// The default driver of the engine `vina`: it gives every molecule a 3D structure.
const VINA_PREPARE: &str = include_str!("../../../drivers/vina_prepare.py");
const VINA_PREPARE_NAME: &str = "vina_prepare.py";

/// A push, ready to be carried out.
#[derive(Debug)]
pub(crate) struct PushPlan {
    /// What the run computes.
    pub(crate) spec: RunSpec,
    /// Its bytes, as they are stored.
    pub(crate) spec_json: String,
    /// Their digest: the run's identity.
    pub(crate) digest: String,
    /// The manifest.
    pub(crate) manifest: StagedManifest,
    /// Inputs and drivers whose bytes are at hand.
    pub(super) small: Vec<(ObjectRef, Bytes)>,
    /// The SDF files that become objects.
    pub(super) ligands: Vec<LigandFile>,
}

impl PushPlan {
    /// Plans a push.
    pub(crate) fn new(
        request: &PushRequest,
        manifest: StagedManifest,
        ligands: Vec<LigandFile>,
    ) -> Result<Self, LaunchpadError> {
        let receptor = read_receptor(&request.receptor)?;
        let prepare = Bytes::from_static(VINA_PREPARE.as_bytes());
        let prepare = pinned(prepare, |sha256| key::driver(sha256, VINA_PREPARE_NAME));
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: request.run.clone(),
            engine: EngineOptions::Vina(request.vina.clone()),
            seed: request.seed,
            threads_per_task: request.threads_per_task,
            inputs: BTreeMap::from([("receptor".to_owned(), receptor.0.clone())]),
            drivers: BTreeMap::from([("prepare".to_owned(), prepare.0.clone())]),
            manifest: manifest.digest.clone(),
        };
        let spec_json = serde_json::to_string(&spec).expect("strings and finite numbers always become JSON");
        let digest = sha256_hex(spec_json.as_bytes());
        let ligands = ligands.into_iter().filter(|file| file.object().is_some()).collect();
        Ok(Self { spec, spec_json, digest, manifest, small: vec![receptor, prepare], ligands })
    }

    /// Every object that the push writes with its size in bytes, in the order of writing.
    pub(crate) fn objects(&self) -> Vec<(String, u64)> {
        let pinned = self.small.iter().map(|(object, _)| object);
        let pinned = pinned.chain(self.ligands.iter().filter_map(LigandFile::object));
        let mut objects: Vec<_> = pinned.map(|object| (object.object.clone(), object.bytes)).collect();
        objects.push((key::MANIFEST.to_owned(), self.manifest.bytes));
        objects.push((key::SPEC.to_owned(), self.spec_json.len() as u64));
        objects
    }
}

fn pinned(bytes: Bytes, name: impl Fn(&str) -> String) -> (ObjectRef, Bytes) {
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
