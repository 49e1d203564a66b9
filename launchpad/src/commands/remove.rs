//! `remove`: forgets a run: its objects first if asked for, each by its name, then its own keys in bounded steps.
//! Cut off anywhere, it is completed by the same command. It lists no bucket and scans no keyspace.

use std::collections::BTreeSet;
use std::fs::File;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::queue::{Queue, QueueError, TaskInfo};
use common::storage::{RunStore, StorageError, Store, key};
use common::task::{AttemptRecord, ManifestReader, MoleculeSource, ObjectRef, RunId, RunSpec, TaskId};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::{Context, confirm};
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::Report;

/// Tasks per step: Redis is held for a few ms.
const STEP: u64 = 1000;
/// Tasks whose objects are deleted at a time.
const DELETES: usize = 32;

#[derive(Debug, Serialize)]
struct Removed<'a> {
    run: &'a RunId,
    /// Objects that were deleted or gone already; `None` if they were to stay.
    objects: Option<u64>,
}

impl Report for Removed<'_> {
    fn text(&self) -> String {
        match self.objects {
            Some(_) => format!("Removed {} with its objects.\n", self.run),
            None => format!("Removed {} from Redis; its objects stay in the store.\n", self.run),
        }
    }
}

/// Removes a run. Asks first.
pub(super) async fn remove(context: &Context, arguments: &cli::Remove) -> Result<(), LaunchpadError> {
    let run = &arguments.run;
    let queue = context.location.queue()?;
    let stored = find(context, &queue, arguments).await?;
    let what = if arguments.outputs { "and delete all its objects" } else { "from Redis" };
    if !arguments.yes {
        confirm("remove", &format!("Remove {run} {what}? This can't be undone."))?;
    }
    let objects = if let Some(outputs) = stored { Some(outputs.delete(&queue).await?) } else { None };
    let mut first = 0;
    while queue.remove(run, TaskId(first), STEP).await? {
        first += STEP;
    }
    context.output.report(&Removed { run, objects })
}

/// Refuses a run that workers hold tasks of: they would go on uploading.
async fn refuse_leased(queue: &Queue, run: &RunId) -> Result<(), LaunchpadError> {
    match queue.progress(run).await?.leased {
        0 => Ok(()),
        leased => Err(LaunchpadError::Leased { run: run.clone(), leased }),
    }
}

/// Finds what is to be deleted.
async fn find(
    context: &Context,
    queue: &Queue,
    arguments: &cli::Remove,
) -> Result<Option<Outputs>, LaunchpadError> {
    let run = &arguments.run;
    match queue.run_info(run).await {
        Ok(info) => {
            refuse_leased(queue, run).await?;
            if !arguments.outputs {
                return Ok(None);
            }
            let store = context.location.run_store(&info.store, run)?;
            Ok(Some(Outputs { run: run.clone(), store, spec: Some(info.spec), in_redis: true }))
        }
        // Objects go first, so a removal that has begun in Redis is through with them.
        Err(QueueError::Removing(_)) => Ok(None),
        // A push that was cut off before Redis knew the run leaves objects behind.
        Err(QueueError::NoSuchRun(_)) if arguments.outputs => {
            let store = Store::open(&context.location.store_url(None)?)?.run(run);
            let spec = store.find(key::SPEC).await?;
            let spec = spec.and_then(|bytes| RunSpec::read(str::from_utf8(&bytes).ok()?, run).ok());
            if spec.is_none() && store.digest(key::MANIFEST).await?.is_none() {
                return Err(QueueError::NoSuchRun(run.clone()).into());
            }
            Ok(Some(Outputs { run: run.clone(), store, spec, in_redis: false }))
        }
        // What nobody can use can be forgotten. Which objects are its own, it does not tell.
        Err(error)
            if error.is_about_one_run()
                && !arguments.outputs
                && !matches!(error, QueueError::NoSuchRun(_)) =>
        {
            refuse_leased(queue, run).await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The objects of a run.
#[derive(Debug)]
struct Outputs {
    run: RunId,
    store: RunStore,
    spec: Option<RunSpec>,
    in_redis: bool,
}

impl Outputs {
    /// Deletes them and returns how many names were deleted. The manifest, which names the tasks, goes last.
    async fn delete(&self, queue: &Queue) -> Result<u64, LaunchpadError> {
        let mut deleted = 0;
        if self.in_redis {
            // Nothing more is leased from here on; what was leased while the person was asked is seen below.
            queue.set_paused(&self.run, Some("being removed")).await?;
            refuse_leased(queue, &self.run).await?;
        }
        let mut inputs = BTreeSet::new();
        let mut tasks = self.manifest().await?;
        loop {
            let chunk = tasks.by_ref().take(1000).collect::<Result<Vec<_>, _>>()?;
            if chunk.is_empty() {
                break;
            }
            let ids: Vec<TaskId> = chunk.iter().map(|(task, _)| *task).collect();
            for (_, molecules) in chunk {
                inputs.extend(molecules.into_iter().filter_map(|molecule| match molecule.source {
                    MoleculeSource::Sdf { object, .. } => Some(object),
                    MoleculeSource::Smiles { .. } => None,
                }));
            }
            let infos = if self.in_redis { queue.tasks(&self.run, &ids).await? } else { Vec::new() };
            let infos = infos.into_iter().map(Some).chain(std::iter::repeat(None));
            let deletions = ids.into_iter().zip(infos).map(|(task, info)| self.delete_task(task, info));
            let mut counts = futures::stream::iter(deletions).buffer_unordered(DELETES);
            while let Some(count) = counts.try_next().await? {
                deleted += count;
            }
        }
        let pinned = self.spec.iter().flat_map(|spec| spec.inputs.values().chain(spec.drivers.values()));
        inputs.extend(pinned.map(|object: &ObjectRef| object.object.clone()));
        // Left by a push that was killed between storing an object's bytes and naming them.
        let digests = inputs.iter().filter_map(|object| object.split('/').nth(1).map(str::to_owned));
        let digests = digests.chain(self.spec.iter().map(|spec| spec.manifest.sha256.clone()));
        let uploads: Vec<String> = digests.map(|sha256| key::upload(&sha256)).collect();
        inputs.extend(uploads);
        let last = [key::RESULTS, key::RECEIPT, key::SPEC, key::MANIFEST].map(str::to_owned);
        for object in inputs.into_iter().chain(last) {
            self.store.delete(&object).await?;
            deleted += 1;
        }
        Ok(deleted)
    }

    /// Opens a copy of the manifest; an empty one if it is gone. Its digest does not matter: a run whose manifest was damaged can be
    /// removed, too.
    async fn manifest(&self) -> Result<ManifestReader<File>, LaunchpadError> {
        let failed = |source| LaunchpadError::File { action: "write", path: std::env::temp_dir(), source };
        let copy = tempfile::NamedTempFile::new().map_err(failed)?;
        match self.store.copy_out(key::MANIFEST, copy.path()).await {
            Ok(_) | Err(StorageError::Missing { .. }) => {
                Ok(ManifestReader::new(copy.reopen().map_err(failed)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the bundles and files of every attempt, each attempt's record behind them, then the index and the shard.
    async fn delete_task(&self, task: TaskId, info: Option<TaskInfo>) -> Result<u64, StorageError> {
        let mut objects = Vec::new();
        let shard = key::shard(task);
        if let Some(bytes) = self.store.find(&shard).await? {
            objects.push(key::index(task, &sha256_hex(&bytes)));
        }
        if let Some(info) = info {
            objects.extend(info.shard_sha256.map(|sha256| key::index(task, &sha256)));
            let leases = info.former.into_iter().map(|(lease, _)| lease).chain(info.lease);
            for lease in leases {
                if self.spec.as_ref().is_some_and(|spec| spec.engine.makes_checkpoints()) {
                    objects.extend(key::bundles(task, &lease));
                }
                let record = key::attempt_record(task, &lease);
                let bytes = self.store.find(&record).await?;
                objects.extend(files_of(bytes));
                objects.push(record);
            }
        }
        objects.push(shard);
        let group_tasks = self.spec.as_ref().and_then(|spec| spec.engine.group_tasks());
        objects.extend(
            group_tasks.filter(|tasks| task.0.is_multiple_of(*tasks)).map(|_| key::group_setup(task)),
        );
        for object in &objects {
            self.store.delete(object).await?;
        }
        Ok(objects.len() as u64)
    }
}

/// The files that an attempt's record names, if it can be read.
fn files_of(record: Option<Bytes>) -> Vec<String> {
    let record = record.and_then(|bytes| serde_json::from_slice::<AttemptRecord>(&bytes).ok());
    record.map_or_else(Vec::new, |record| record.files.into_iter().map(|file| file.object).collect())
}
