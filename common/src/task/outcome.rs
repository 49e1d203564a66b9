//! What an attempt leaves behind for people: how it ended, what ran, with which versions, and which files there are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LeaseName, Moments, RunId, TaskId};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Its shard is the task's result.
    Succeeded,
    /// The task failed.
    Failed,
    /// The worker handed it back unharmed.
    Released,
    /// The worker vanished.
    Lapsed,
    /// A person stopped it.
    Cancelled,
}

/// The file `attempt.json` of every attempt, and the index object of the one that made a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub lease: LeaseName,
    /// How it ended, as far as the worker knew when it wrote this.
    pub ending: Ending,
    /// A stable short word for a failure.
    pub reason: Option<String>,
    /// One sentence with the evidence.
    pub detail: Option<String>,
    /// Of the shard that it made, or found: then it has no steps and no files.
    pub shard_sha256: Option<String>,
    /// What ran.
    pub steps: Vec<StepRecord>,
    /// The files of the attempt, without this one; in the index of a shard also those of the former attempts that it has rows of.
    pub files: Vec<AttemptFile>,
    /// Ids of the molecules over which the engine broke down (crashed, or ran out of time) in this attempt.
    #[serde(default)]
    pub suspects: Vec<String>,
    /// The rows of the shard that former attempts made.
    #[serde(default)]
    pub carried: Vec<CarriedRows>,
    /// The bundle of a checkpoint that it went on from, by its name below the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<String>,
    /// With what it was made.
    pub provenance: Provenance,
    /// When.
    pub moments: Moments,
}

impl AttemptRecord {
    /// The attempt that made a molecule's row, and kept its files.
    pub fn maker(&self, molecule_id: &str) -> &LeaseName {
        let carried = self.carried.iter().find(|rows| rows.molecules.iter().any(|id| id == molecule_id));
        carried.map_or(&self.lease, |rows| &rows.lease)
    }
}

/// Rows that one attempt took over from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedRows {
    /// The attempt that made them.
    pub lease: LeaseName,
    /// Ids of their molecules, in manifest order.
    pub molecules: Vec<String>,
}

/// One program that an attempt ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step's name, which its log files carry too.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `exit 0`, `signal 9`, `time limit`, …, or `shared` if it was not run, since the store had what it makes.
    pub ended: String,
    /// The object, by its name below the store, that has what the step makes and shares: taken from there, or put there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// How long it ran.
    pub elapsed_ms: u64,
}

/// A file that an attempt uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptFile {
    /// Its name below the run.
    pub object: String,
    /// Of its bytes.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// Everything that could explain a difference between two runs of one task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The engine.
    pub engine: String,
    /// Versions of the worker and of every program that it called.
    pub versions: BTreeMap<String, String>,
    /// Digests of drivers and shared inputs, by role.
    pub digests: BTreeMap<String, String>,
    /// The run's seed.
    pub seed: u64,
    /// Threads that the engine had.
    pub threads: u32,
    /// The machine's name.
    pub host: String,
    /// Where it stands, if the worker was told.
    pub region: Option<String>,
    /// Its type, if the worker was told.
    pub machine_type: Option<String>,
    /// The GPU that the engine was given: model, memory, driver and UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
}
