//! A worker that needs no engine: it leases tasks and ends them as a test wants. It stores what a worker would store.

use common::digest::sha256_hex;
use common::queue::{Charge, Completion, Failed, Failure, Grant, LeaseReply, Queue};
use common::storage::{Creation, RunStore, Store, key};
use common::task::{LeaseName, Molecule, Moments, Row, Shard, TaskId, Verdict};

use crate::{Lab, run_id};

/// A pretended worker of one run.
#[derive(Debug)]
pub struct Pretender {
    queue: Queue,
    store: RunStore,
    run: &'static str,
}

impl Pretender {
    /// A worker of a run in a lab.
    pub fn new(lab: &Lab, run: &'static str) -> Self {
        let store = Store::open(&lab.store_url()).unwrap().run(&run_id(run));
        Self { queue: lab.queue(), store, run }
    }

    /// Leases up to this many tasks, and panics if there are none. Requests are numbered 1, 2, ….
    pub async fn lease(&self, request: u64, slots: u64) -> Vec<Grant> {
        let worker = "pretender".parse().unwrap();
        let run = run_id(self.run);
        let digest = self.queue.run_info(&run).await.unwrap().digest;
        match self.queue.lease(&run, &digest, &worker, request, slots).await.unwrap() {
            LeaseReply::Granted { grants, .. } => grants,
            other => panic!("nothing was leased: {other:?}"),
        }
    }

    /// Completes a task with the score −5.1 for each molecule of task 0, −5.2 for those of task 1, ….
    pub async fn succeed(&self, grant: &Grant) {
        let score = format!("-5.{}", grant.task.0 + 1);
        self.succeed_with(grant, |_| Some(score.clone())).await;
    }

    /// Completes a task with these scores; a molecule without one is bad, `no_contact`.
    pub async fn succeed_with(&self, grant: &Grant, score: impl Fn(&str) -> Option<String>) {
        let rows: Vec<Row> =
            grant.molecules.iter().map(|molecule| row(molecule, score(&molecule.id))).collect();
        let bad = rows.iter().filter(|row| row.verdict == Verdict::Bad).count() as u64;
        let shard = Shard { score_unit: "kcal/mol".into(), columns: vec!["modes".into()], rows }.encode();
        let (shard_sha256, index) = (sha256_hex(&shard), format!("{{\"task\":{}}}", grant.task));
        let index_sha256 = sha256_hex(index.as_bytes());
        let index_name = key::index(grant.task, &shard_sha256);
        assert_eq!(self.store.create(&index_name, index.into()).await.unwrap(), Creation::New);
        assert_eq!(self.store.create(&key::shard(grant.task), shard.into()).await.unwrap(), Creation::New);
        let completion = Completion {
            shard_sha256: &shard_sha256,
            index_sha256: &index_sha256,
            molecules_ok: grant.molecules.len() as u64 - bad,
            molecules_bad: bad,
            bytes_down: 1,
            bytes_up: 2,
            moments: Moments { queued: grant.queued_ms, leased: grant.queued_ms, ..Moments::default() },
        };
        let completed = self.queue.complete(&run_id(self.run), grant.task, &grant.lease, &completion).await;
        assert_eq!(completed.unwrap(), Ok(()));
    }

    /// Leases and completes this many tasks.
    pub async fn succeed_all(&self, tasks: u64) {
        for grant in self.lease(1, tasks).await {
            self.succeed(&grant).await;
        }
    }

    /// Fails a task because of `engine_crashed`.
    pub async fn fail(&self, task: TaskId, lease: &LeaseName, tail: &str, charge: Charge) -> Failed {
        let failure = Failure { reason: "engine_crashed", charge, tail, jitter_ppm: 0 };
        self.queue.fail(&run_id(self.run), task, lease, &failure).await.unwrap()
    }

    /// Lets a task die for a reason.
    pub async fn kill(&self, grant: &Grant, reason: &'static str) {
        let failure = Failure { reason, charge: Charge::LastFailure, tail: "", jitter_ppm: 0 };
        self.queue.fail(&run_id(self.run), grant.task, &grant.lease, &failure).await.unwrap();
    }
}

fn row(molecule: &Molecule, score: Option<String>) -> Row {
    Row {
        molecule_id: molecule.id.clone(),
        smiles: molecule.smiles().to_owned(),
        verdict: if score.is_some() { Verdict::Ok } else { Verdict::Bad },
        reason: if score.is_some() { String::new() } else { "no_contact".to_owned() },
        columns: vec![if score.is_some() { "9" } else { "" }.to_owned()],
        score: score.unwrap_or_default(),
    }
}
