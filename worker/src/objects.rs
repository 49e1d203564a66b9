//! An attempt's way to the store: each request is repeated until it is answered or the attempt has to stop.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::queue::Grant;
use common::storage::{Creation, RunStore, StorageError, key};
use common::task::{AttemptFile, AttemptRecord};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use crate::attempt::Halt;
use crate::control::Control;
use crate::patience::insist_store;
use crate::serving::Serving;

/// Files of an attempt that are on their way to the store at once.
const FILES_AT_ONCE: usize = 8;

/// The objects of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    pub(crate) serving: Arc<Serving>,
    pub(crate) grant: Arc<Grant>,
    pub(crate) control: Control,
    /// The run's, for small requests.
    store: RunStore,
}

/// An object that was created or found.
#[derive(Debug)]
pub(crate) struct Standing {
    /// What stands there now.
    pub(crate) bytes: Bytes,
    /// How many bytes were uploaded.
    pub(crate) uploaded: u64,
}

impl Objects {
    pub(crate) fn new(serving: &Arc<Serving>, grant: &Arc<Grant>, control: &Control) -> Self {
        let store = serving.store.clone();
        Self { serving: Arc::clone(serving), grant: Arc::clone(grant), control: control.clone(), store }
    }

    /// The same for a thread that may wait for a disk.
    pub(crate) fn in_place(mut self) -> Self {
        self.store = self.store.in_place();
        self
    }

    /// A request to the store that is repeated until it is answered or the attempt has to stop: an outage costs nothing but time.
    pub(crate) async fn ask<T, F>(&self, what: &str, request: impl FnMut() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        Ok(self.control.unless_stopped(insist_store(what, request)).await??)
    }

    /// An object that may not be there.
    pub(crate) async fn find(&self, what: &str, object: &str) -> Result<Option<Bytes>, Halt> {
        self.ask(what, || self.store.find(object)).await
    }

    /// Makes sure that this is the run's store, unless the worker has just found so: attempts that end by the hundred a second need not
    /// each ask.
    pub(crate) async fn confirm(&self) -> Result<(), Halt> {
        if self.serving.confirmed.is_fresh() {
            return Ok(());
        }
        let asked = Instant::now();
        self.ask("confirm", || self.store.confirm(&self.serving.info.digest)).await?;
        self.serving.confirmed.note(asked);
        Ok(())
    }

    /// Creates an object, unless there is one.
    pub(crate) async fn put(&self, object: &str, bytes: &Bytes) -> Result<Standing, Halt> {
        let created = self.ask("upload", || self.store.create(object, bytes.clone())).await?;
        Ok(match created {
            Creation::New => Standing { bytes: bytes.clone(), uploaded: bytes.len() as u64 },
            Creation::Same => Standing { bytes: bytes.clone(), uploaded: 0 },
            Creation::Differs(stored) => Standing { bytes: stored, uploaded: 0 },
        })
    }

    /// Stores the attempt's record, which makes it known which files it has.
    pub(crate) async fn put_record(&self, record: &AttemptRecord) -> Result<Standing, Halt> {
        let record = Bytes::from(serde_json::to_vec_pretty(record).expect("a record always becomes JSON"));
        let standing = self.put(&key::attempt_record(self.grant.task, &self.grant.lease), &record).await?;
        // Others can only be those of an earlier try of ours, and what is indexed is what this try made.
        Ok(Standing { bytes: record, ..standing })
    }

    /// Stores files of the attempt, some at a time, each on a thread of its own: a store takes its time for each, and more at once.
    pub(crate) async fn put_files(
        &self,
        scratch: &Path,
        paths: &[PathBuf],
    ) -> Result<Vec<AttemptFile>, StorageError> {
        let puts: Vec<_> = paths
            .iter()
            .map(|path| insist_store("keep a file", move || self.put_file(scratch, path)))
            .collect();
        stream::iter(puts).buffered(FILES_AT_ONCE).try_collect().await
    }

    /// Stores a file of the attempt.
    async fn put_file(&self, scratch: &Path, path: &Path) -> Result<AttemptFile, StorageError> {
        let object = key::attempt_file(self.grant.task, &self.grant.lease, &path.to_string_lossy());
        let local = |source| StorageError::Local { object: object.clone(), source };
        let bytes = Bytes::from(tokio::fs::read(scratch.join(path)).await.map_err(local)?);
        let (sha256, size) = (sha256_hex(&bytes), bytes.len() as u64);
        // The path carries the lease name, so other bytes there can only be our own earlier try, of a log that has grown since.
        if let Creation::Differs(stored) = self.serving.store.create(&object, bytes).await? {
            return Ok(AttemptFile { object, sha256: sha256_hex(&stored), bytes: stored.len() as u64 });
        }
        Ok(AttemptFile { object, sha256, bytes: size })
    }

    /// Whether these objects, by name and digest, are in the store.
    pub(crate) async fn stand(&self, objects: &[(String, String)]) -> Result<bool, Halt> {
        for (object, sha256) in objects {
            let found = self.find("read back", object).await?;
            if found.is_none_or(|bytes| sha256_hex(&bytes) != *sha256) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
