//! A run in a test's Redis, with tasks but without a store. For tests of the queue alone.

use std::collections::BTreeMap;

use common::queue::{Grant, LeaseReply, Queue, RunDefinition};
use common::task::{
    EngineOptions, Limits, ManifestDigest, Molecule, MoleculeSource, RunId, RunSpec, SPEC_SCHEMA, TaskId,
    VinaOptions, WorkerId, encode_molecules,
};

use crate::TestRedis;

/// A pushed run.
#[derive(Debug)]
pub struct TestRun {
    /// Its queue.
    pub queue: Queue,
    /// The run.
    pub id: RunId,
    /// The digest under which it was created.
    pub digest: String,
}

impl TestRun {
    /// Creates a run without tasks.
    pub async fn create(redis: &TestRedis, id: &str, limits: &Limits) -> Self {
        let queue = Queue::open(&redis.url()).unwrap();
        let id: RunId = id.parse().unwrap();
        let spec_json = serde_json::to_string(&sample_spec(&id, 0)).unwrap();
        let run = Self { queue, id, digest: common::digest::sha256_hex(spec_json.as_bytes()) };
        let definition = RunDefinition {
            run: &run.id,
            digest: &run.digest,
            spec_json: &spec_json,
            store: "file:///nowhere",
            manifest_sha256: "00",
            limits,
            group_tasks: None,
            labels: &[],
        };
        run.queue.create(&definition).await.unwrap();
        run
    }

    /// Creates a run, pushes this many tasks and seals it.
    pub async fn sealed(redis: &TestRedis, id: &str, limits: &Limits, tasks: u64) -> Self {
        let run = Self::create(redis, id, limits).await;
        run.push(0, tasks).await;
        run.queue.seal(&run.id, tasks).await.unwrap();
        run
    }

    /// Pushes the tasks `first` to `first + tasks − 1` and returns the run's total.
    pub async fn push(&self, first: u64, tasks: u64) -> u64 {
        let inputs: Vec<String> = (first..first + tasks).map(sample_input).collect();
        self.queue.push(&self.id, &self.digest, TaskId(first), &inputs).await.unwrap()
    }

    /// Leases tasks and panics if there are none.
    pub async fn lease(&self, worker: &str, request: u64, slots: u64) -> Vec<Grant> {
        let worker: WorkerId = worker.parse().unwrap();
        match self.queue.lease(&self.id, &self.digest, &worker, request, slots).await.unwrap() {
            LeaseReply::Granted { grants, .. } => grants,
            other => panic!("no task for `{worker}`: {other:?}"),
        }
    }

    /// The name of one of its keys.
    pub fn key(&self, name: &str) -> String {
        format!("molfleet:{{{}}}:{name}", self.id)
    }
}

/// The input of a task: one molecule with a SMILES of 75 characters.
pub fn sample_input(task: u64) -> String {
    let smiles = format!("{:C<75}", format!("N{task}"));
    encode_molecules(&[Molecule { id: format!("m{task}"), source: MoleculeSource::Smiles { smiles } }])
}

/// A spec that nobody will compute.
pub fn sample_spec(run: &RunId, tasks: u64) -> RunSpec {
    let vina = VinaOptions { center: [0.0; 3], size: [20.0; 3], exhaustiveness: 8, modes: 9 };
    RunSpec {
        schema: SPEC_SCHEMA,
        run: run.clone(),
        engine: EngineOptions::Vina(vina),
        seed: 1,
        threads_per_task: 1,
        needs_gpu: false,
        inputs: BTreeMap::new(),
        drivers: BTreeMap::new(),
        manifest: ManifestDigest { sha256: "00".into(), tasks, molecules: tasks },
    }
}
