//! How far a task is that has not ended, as `show`, `tasks` and `status` tell it: what its newest bundle says. Reads nothing.

use common::queue::{Bundle, Checkpoint};
use common::storage::key;
use common::task::TaskId;
use serde::Serialize;

/// From where the next attempt of a task can go on. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
pub(crate) struct KeptCheckpoint {
    /// Steps done, if the engine says.
    step: Option<u64>,
    /// Those of the whole task.
    steps: Option<u64>,
    /// Names of the objects in the store, the newest first.
    bundles: Vec<String>,
}

impl KeptCheckpoint {
    /// `None` if there is nothing to go on from.
    pub(crate) fn of(task: TaskId, checkpoint: &Checkpoint) -> Option<Self> {
        let (step, steps) = checkpoint.progress.unzip();
        let name = |bundle: &Bundle| key::bundle(task, &bundle.lease, bundle.number);
        let bundles: Vec<String> = checkpoint.bundles.iter().map(name).collect();
        (!bundles.is_empty()).then_some(Self { step, steps, bundles })
    }

    /// For the end of a sentence.
    pub(crate) fn sentence(&self) -> String {
        match (self.step, self.steps) {
            (Some(step), Some(steps)) => format!("; step {step} of {steps} is kept"),
            _ => "; a checkpoint is kept".to_owned(),
        }
    }

    /// For a column of a table; `-` if there is nothing.
    pub(crate) fn cell(kept: Option<&Self>) -> String {
        match kept.map(|kept| (kept.step, kept.steps)) {
            Some((Some(step), Some(steps))) => format!("{step}/{steps}"),
            Some(_) => "yes".to_owned(),
            None => "-".to_owned(),
        }
    }
}
