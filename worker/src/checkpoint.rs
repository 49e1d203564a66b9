//! The checkpoints of an attempt whose engine makes any: from time to time a bundle into the store while the engine runs, the last one
//! when the worker leaves, and the newest valid one back onto disk before the engine starts.
//!
//! A bundle is a help and never needed: one that is missing, torn or can't be stored costs time only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::digest::sha256_hex;
use common::queue::{Bundle, Progressed};
use common::storage::key;
use common::task::{LeaseName, TaskId};
use rand::RngExt as _;

use crate::attempt::{Attempt, Halt, Shared};
use crate::bundle::{Note, Packed, pack, unpack};
use crate::failure;
use crate::heartbeat::chain;
use crate::patience::{insist, insist_store};
use crate::serving::Serving;

/// What keeps the bundles of one attempt.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    serving: Arc<Serving>,
    task: TaskId,
    lease: LeaseName,
    folder: PathBuf,
    /// How many this attempt has made.
    made: u64,
    /// All that may be in the store.
    known: Vec<Bundle>,
    /// Of the newest that is registered or was restored.
    newest_sha256: Option<String>,
}

impl Checkpointer {
    pub(crate) fn new(attempt: &Attempt, folder: &Path) -> Self {
        Self {
            shared: Arc::clone(&attempt.shared),
            serving: Arc::clone(&attempt.serving),
            task: attempt.grant.task,
            lease: attempt.grant.lease.clone(),
            folder: folder.to_owned(),
            made: 0,
            known: attempt.grant.checkpoint.bundles.clone(),
            newest_sha256: None,
        }
    }

    /// Does something that runs the engine, and keeps bundles meanwhile.
    pub(crate) async fn beside<T>(&mut self, engine: impl Future<Output = T>) -> T {
        tokio::select! {
            done = engine => done,
            () = self.watch() => unreachable!("it watches without an end"),
        }
    }

    async fn watch(&mut self) {
        loop {
            let config = &self.shared.config;
            let jitter = config.checkpoint_jitter.mul_f64(rand::rng().random_range(0.0..=1.0));
            tokio::time::sleep(config.checkpoint_every + jitter).await;
            if let Some((packed, progress)) = self.pack() {
                self.store(packed, progress).await;
            }
        }
    }

    /// Bundles what stands on disk now, if it is whole and differs from the last bundle.
    pub(crate) fn pack(&self) -> Option<(Packed, Option<Progressed>)> {
        let snapshot = self.serving.engine.checkpoint(&self.folder)?;
        let note = Note { threads: self.serving.info.spec.threads_per_task };
        match pack(&self.folder, &snapshot.files, &note) {
            Ok(Some(packed)) if self.newest_sha256.as_ref() != Some(&packed.sha256) => {
                Some((packed, snapshot.progress))
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "no bundle could be made of the checkpoint, trying again later");
                None
            }
        }
    }

    /// Stores a bundle, registers it, and deletes those that it replaces.
    pub(crate) async fn store(&mut self, packed: Packed, progress: Option<Progressed>) {
        // A number is used once, also by a bundle that gets no further than the store.
        self.made += 1;
        let bundle = Bundle { lease: self.lease.clone(), number: self.made, sha256: packed.sha256 };
        let object = key::bundle(self.task, &bundle.lease, bundle.number);
        self.known.push(bundle.clone());
        let bytes = packed.bytes.len();
        let put = || self.serving.store.create(&object, packed.bytes.clone());
        if let Err(error) = insist_store("upload a checkpoint", put).await {
            tracing::warn!(object, error = %chain(&error), "the checkpoint can't be stored");
            return;
        }
        let call = || self.shared.queue.checkpoint(&self.serving.run, self.task, &bundle, progress);
        match insist("checkpoint", call).await {
            Ok(Ok(kept)) => {
                tracing::info!(object, bytes, ?progress, "checkpoint kept");
                self.newest_sha256 = Some(bundle.sha256.clone());
                self.forget(|known| !kept.contains(known)).await;
            }
            Ok(Err(fate)) => tracing::info!(object, ?fate, "the checkpoint is not the task's any more"),
            Err(error) => {
                tracing::warn!(object, error = %chain(&error), "the checkpoint can't be registered");
            }
        }
    }

    /// Deletes bundles that no attempt needs any more.
    pub(crate) async fn forget(&mut self, is_old: impl Fn(&Bundle) -> bool) {
        for bundle in self.known.extract_if(.., |known| is_old(known)) {
            let object = key::bundle(self.task, &bundle.lease, bundle.number);
            if let Err(error) = self.serving.store.delete(&object).await {
                tracing::warn!(object, error = %chain(&error), "a bundle that nobody needs is left in the store");
            }
        }
    }
}

impl Attempt {
    /// Puts the files of the newest valid bundle where they stood, before the engine plans.
    pub(crate) async fn restore(&mut self, scratch: &Path) -> Result<(), Halt> {
        let mut checkpointer = Checkpointer::new(self, scratch);
        let threads = self.serving.info.spec.threads_per_task;
        for bundle in self.grant.checkpoint.bundles.clone() {
            let object = key::bundle(self.grant.task, &bundle.lease, bundle.number);
            let found = self.ask_store("read a checkpoint", || self.serving.store.find(&object)).await?;
            let bytes = found.unwrap_or_default();
            self.bytes_down += bytes.len() as u64;
            if sha256_hex(&bytes) != bundle.sha256 {
                let (theirs, ours) = (bytes.len(), &bundle.sha256);
                tracing::warn!(
                    object,
                    bytes = theirs,
                    sha256 = ours,
                    "not the bundle that was registered, doing without it"
                );
                continue;
            }
            let (note, files) = match unpack(&bytes) {
                Ok(unpacked) => unpacked,
                Err(error) => {
                    tracing::warn!(object, %error, "the bundle can't be read, doing without it");
                    continue;
                }
            };
            if note.threads != threads {
                return Err(Halt::Failed {
                    reason: failure::THREADS_CHANGED.to_owned(),
                    detail: format!(
                        "`{object}` was made with {} threads (expected: {threads})",
                        note.threads
                    ),
                    is_final: true,
                });
            }
            for (path, content) in files {
                let file = scratch.join(path);
                fs::create_dir_all(file.parent().unwrap_or(scratch))?;
                fs::write(file, content)?;
            }
            tracing::info!(object, progress = ?self.grant.checkpoint.progress, "going on from a checkpoint");
            checkpointer.newest_sha256 = Some(bundle.sha256);
            break;
        }
        self.checkpointer = Some(checkpointer);
        Ok(())
    }
}
