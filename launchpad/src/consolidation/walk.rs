//! Walks all tasks of a manifest in order, asks Redis for each, and checks the shards of the succeeded ones, some at a time.

use std::fs::File;
use std::io;

use common::queue::{Queue, TaskInfo};
use common::storage::{RunStore, key};
use common::task::{ManifestReader, Molecule, RunSpec, Shard, State, TaskId};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{ConsolidationError, Fault, check_shard};
use crate::error::LaunchpadError;

/// Tasks per question to Redis.
const CHUNK: usize = 1000;
/// Shards that are fetched at a time.
const FETCHES: usize = 32;

/// A run to walk.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) store: &'a RunStore,
    pub(crate) spec: &'a RunSpec,
}

/// What a task came to.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) task: TaskId,
    pub(crate) molecules: Vec<Molecule>,
    pub(crate) state: State,
    pub(crate) outcome: Outcome,
}

/// The outcome of a task.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its shard is what Redis recorded.
    Scored { shard: Shard, sha256: String },
    /// It gave up or was stopped; the reason may be empty.
    Ended { reason: String },
    /// There is no result.
    Missing(Fault),
}

/// A local copy of a run's manifest, which was seen to be the one that was pushed. It vanishes with this.
#[derive(Debug)]
pub(crate) struct ManifestCopy {
    file: tempfile::NamedTempFile,
}

/// Copies the stored manifest, which has to be the one that was pushed.
pub(crate) async fn read_manifest(store: &RunStore, spec: &RunSpec) -> Result<ManifestCopy, LaunchpadError> {
    let file = tempfile::NamedTempFile::new().map_err(temporary)?;
    let theirs = store.copy_out(key::MANIFEST, file.path()).await?;
    let ours = spec.manifest.sha256.clone();
    if theirs != ours {
        return Err(ConsolidationError::Manifest { run: spec.run.clone(), theirs, ours }.into());
    }
    Ok(ManifestCopy { file })
}

impl ManifestCopy {
    /// The copy, from its start.
    pub(crate) fn open(&self) -> Result<File, LaunchpadError> {
        self.file.reopen().map_err(temporary)
    }
}

fn temporary(source: io::Error) -> LaunchpadError {
    LaunchpadError::File { action: "write", path: std::env::temp_dir(), source }
}

impl Walk<'_> {
    /// Gives every task of the manifest, checked, to `take`, in order.
    pub(crate) async fn run(
        &self,
        manifest: &ManifestCopy,
        take: &mut impl FnMut(Checked) -> Result<(), LaunchpadError>,
    ) -> Result<(), LaunchpadError> {
        let mut tasks = ManifestReader::new(manifest.open()?);
        loop {
            let chunk = tasks.by_ref().take(CHUNK).collect::<Result<Vec<_>, _>>()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let ids: Vec<TaskId> = chunk.iter().map(|(task, _)| *task).collect();
            let infos = self.queue.tasks(&self.spec.run, &ids).await?;
            let checks = chunk
                .into_iter()
                .zip(infos)
                .map(|((task, molecules), info)| self.check(task, molecules, info));
            let mut checked = futures::stream::iter(checks).buffered(FETCHES);
            while let Some(checked) = checked.try_next().await? {
                take(checked)?;
            }
        }
    }

    /// A window's result was checked, and is no molecule's: that stands in the task that waited for it. One that is missing is named.
    fn without_parts(&self, mut checked: Checked) -> Checked {
        let is_missing = matches!(checked.outcome, Outcome::Missing(_));
        if !is_missing && self.spec.engine.is_part(checked.task) {
            checked.molecules.clear();
            if let Outcome::Scored { shard, .. } = &mut checked.outcome {
                shard.rows.clear();
            }
        }
        checked
    }

    async fn check(
        &self,
        task: TaskId,
        molecules: Vec<Molecule>,
        info: TaskInfo,
    ) -> Result<Checked, LaunchpadError> {
        let outcome = match info.state {
            State::Succeeded => match check_shard(self.store, self.spec, task, &molecules, &info).await? {
                Ok(shard) => Outcome::Scored { shard, sha256: info.shard_sha256.unwrap_or_default() },
                Err(fault) => Outcome::Missing(fault),
            },
            State::Dead | State::Cancelled => Outcome::Ended { reason: info.reason.unwrap_or_default() },
            State::Waiting | State::Pending | State::Delayed | State::Leased => {
                Outcome::Missing(Fault::new("not_terminal", format!("the task is {}", info.state)))
            }
        };
        Ok(self.without_parts(Checked { task, molecules, state: info.state, outcome }))
    }
}
