//! What a push makes: the run's spec with its digest, and every object. Pure apart from reading the user's files.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::key;
use common::task::{EngineOptions, ObjectRef, RunSpec, SPEC_SCHEMA};

use super::request::RECEPTOR_ROLE;
use super::{LigandFile, PushError, PushRequest, StagedManifest};
use crate::drivers::{DriverScript, VINA_PREPARE, file_name};
use crate::error::LaunchpadError;
use crate::input::HeavyAtoms;

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
    /// Plans a push; without a driver the engine has its own, or none.
    pub(crate) fn new(
        request: &PushRequest,
        manifest: StagedManifest,
        ligands: Vec<LigandFile>,
        driver: Option<DriverScript>,
    ) -> Result<Self, LaunchpadError> {
        let mut small = Vec::new();
        let mut inputs = BTreeMap::new();
        for (role, path) in &request.inputs {
            let input = read_input(role, path, &request.engine)?;
            inputs.insert(role.clone(), input.0.clone());
            small.push(input);
        }
        let (role, shipped) = driver_of(&request.engine);
        let mut drivers = BTreeMap::new();
        if let Some(script) = driver.or(shipped) {
            let script = pinned(script.bytes, |sha256| key::driver(sha256, &script.name));
            drivers.insert(role.to_owned(), script.0.clone());
            small.push(script);
        }
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: request.run.clone(),
            engine: request.engine.clone(),
            seed: request.seed,
            threads_per_task: request.threads_per_task,
            inputs,
            drivers,
            manifest: manifest.digest.clone(),
        };
        let spec_json = serde_json::to_string(&spec).expect("strings and finite numbers always become JSON");
        let digest = sha256_hex(spec_json.as_bytes());
        let ligands = ligands.into_iter().filter(|file| file.object().is_some()).collect();
        Ok(Self { spec, spec_json, digest, manifest, small, ligands })
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

/// The role of an engine's driver, and the one that it has by itself.
fn driver_of(engine: &EngineOptions) -> (&'static str, Option<DriverScript>) {
    match engine {
        EngineOptions::Vina(_) => {
            let bytes = Bytes::from_static(VINA_PREPARE.text.as_bytes());
            ("prepare", Some(DriverScript { name: VINA_PREPARE.name.to_owned(), bytes }))
        }
        EngineOptions::Command(_) => ("driver", None),
    }
}

/// Reads an input. The receptor of a docking run has to be a PDB or PDBQT with at least one heavy atom.
fn read_input(role: &str, path: &Path, engine: &EngineOptions) -> Result<(ObjectRef, Bytes), LaunchpadError> {
    if matches!(engine, EngineOptions::Vina(_)) && role == RECEPTOR_ROLE {
        let extension =
            path.extension().map(|text| text.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if !["pdb", "ent", "pdbqt"].contains(&extension.as_str()) {
            return Err(PushError::ReceptorFormat { path: path.to_owned() }.into());
        }
        HeavyAtoms::read(path)?;
    }
    let failed = |source| LaunchpadError::File { action: "read", path: path.to_owned(), source };
    let bytes = Bytes::from(std::fs::read(path).map_err(failed)?);
    Ok(pinned(bytes, |sha256| key::input(sha256, &file_name(path))))
}
