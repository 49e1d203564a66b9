//! What a push makes: the run's spec with its digest, and every object. Pure.

use common::digest::sha256_hex;
use common::storage::key;
use common::task::{RunSpec, SPEC_SCHEMA};

use super::docking_site::DockingSite;
use super::{LigandFile, PushRequest, SharedObjects, StagedManifest};

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
    /// Inputs and drivers, whose bytes are at hand.
    pub(super) shared: SharedObjects,
    /// The SDF files that become objects.
    pub(super) ligands: Vec<LigandFile>,
}

impl PushPlan {
    /// Plans a push.
    pub(crate) fn new(
        request: &PushRequest,
        shared: SharedObjects,
        manifest: StagedManifest,
        ligands: Vec<LigandFile>,
    ) -> Self {
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: request.run.clone(),
            engine: request.engine.clone(),
            seed: request.seed,
            threads_per_task: request.threads_per_task,
            needs_gpu: request.needs_gpu,
            inputs: shared.input_refs(),
            drivers: shared.driver_refs(),
            manifest: manifest.digest.clone(),
        };
        let spec_json = serde_json::to_string(&spec).expect("strings and finite numbers always become JSON");
        let digest = sha256_hex(spec_json.as_bytes());
        let ligands = ligands.into_iter().filter(|file| file.object().is_some()).collect();
        Self { spec, spec_json, digest, manifest, shared, ligands }
    }

    /// What is unusual about it and may be meant.
    pub(crate) fn warnings(&self) -> &[String] {
        self.shared.site().map_or(&[], DockingSite::warnings)
    }

    /// Every object that the push writes with its size in bytes, in the order of writing.
    pub(crate) fn objects(&self) -> Vec<(String, u64)> {
        let pinned = self.shared.objects().map(|(object, _)| object);
        let pinned = pinned.chain(self.ligands.iter().filter_map(LigandFile::object));
        let mut objects: Vec<_> = pinned.map(|object| (object.object.clone(), object.bytes)).collect();
        objects.push((key::MANIFEST.to_owned(), self.manifest.bytes));
        objects.push((key::SPEC.to_owned(), self.spec_json.len() as u64));
        objects
    }
}
