//! The second half of an attempt: its outputs into the store, in the order that makes a crash between any two steps harmless:
//! attempt files, index, shard. The shard's creation is the commit; what stands there first, stays.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{Creation, key};
use common::task::{AttemptFile, Ending, Shard, TaskId};
use tokio::time::Instant;

use crate::attempt::{Attempt, Halt};
use crate::failure;

/// The result of a task as it stands in the store, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) shard_sha256: String,
    pub(crate) index_sha256: String,
    pub(crate) molecules_ok: u64,
    pub(crate) molecules_bad: u64,
}

impl Stored {
    /// Name and digest of its index.
    fn index(&self, task: TaskId) -> (String, String) {
        (key::index(task, &self.shard_sha256), self.index_sha256.clone())
    }

    /// Name and digest of the shard.
    fn shard(&self, task: TaskId) -> (String, String) {
        (key::shard(task), self.shard_sha256.clone())
    }
}

impl Attempt {
    /// The shard of an earlier attempt, if there is one: our own lost answer, or somebody else's.
    pub(crate) async fn find_stored(&mut self) -> Result<Option<Stored>, Halt> {
        self.confirm().await?;
        let name = key::shard(self.grant.task);
        let found = self.ask_store("look for the shard", || self.serving.store.find(&name)).await?;
        match found {
            Some(bytes) => {
                let stored = self.adopt(&bytes).await?;
                // An attempt that made nothing has its record, too: of no steps and no files, with the shard that it found.
                self.put_record(Vec::new(), &stored.shard_sha256).await?;
                Ok(Some(stored))
            }
            None => Ok(None),
        }
    }

    /// Takes a stored shard as the result: its digest, its counts and its index, never our own.
    async fn adopt(&mut self, bytes: &Bytes) -> Result<Stored, Halt> {
        let invalid = |detail: String| Halt::Failed {
            reason: failure::SHARD_INVALID.to_owned(),
            detail,
            is_final: true,
        };
        let name = key::shard(self.grant.task);
        let shard = Shard::parse(bytes).and_then(|shard| {
            shard.check_molecules(self.grant.molecules.iter().map(|molecule| molecule.id.as_str()))?;
            Ok(shard)
        });
        let shard =
            shard.map_err(|error| invalid(format!("the stored `{name}` is not this task's: {error}")))?;
        let shard_sha256 = sha256_hex(bytes);
        let index = key::index(self.grant.task, &shard_sha256);
        let stored = self.ask_store("read the index", || self.serving.store.find(&index)).await?;
        let stored = stored.ok_or_else(|| invalid(format!("the stored `{name}` has no `{index}`")))?;
        let (molecules_ok, molecules_bad) = self.counts(&shard);
        tracing::info!(shard_sha256, "the task has a stored shard, taking it");
        self.bytes_down += (bytes.len() + stored.len()) as u64;
        Ok(Stored { shard_sha256, index_sha256: sha256_hex(&stored), molecules_ok, molecules_bad })
    }

    fn counts(&self, shard: &Shard) -> (u64, u64) {
        self.serving.info.spec.engine.counts(self.grant.task, shard)
    }

    /// Stores everything that the attempt made, and makes sure that it stands in the run's store.
    pub(crate) async fn upload(&mut self, scratch: &Path, shard: Shard) -> Result<Stored, Halt> {
        self.moments.upload_started = Some(self.clock.now_ms());
        let mut paths = Self::log_files(scratch);
        paths.extend(self.evidence.kept.iter().cloned());
        loop {
            // An empty mount point must not collect results: the disk may have gone since this attempt began.
            self.confirm().await?;
            if let Some(stored) = self.put_all(scratch, &paths, &shard).await? {
                self.moments.upload_ended = Some(self.clock.now_ms());
                return Ok(stored);
            }
            tracing::warn!("the store went away during the upload, uploading again");
        }
    }

    /// Makes sure that this is the run's store, unless the worker has just found so: attempts that end by the hundred a second need not
    /// each ask.
    async fn confirm(&self) -> Result<(), Halt> {
        if self.serving.confirmed.is_fresh() {
            return Ok(());
        }
        let asked = Instant::now();
        self.ask_store("confirm", || self.serving.store.confirm(&self.serving.info.digest)).await?;
        self.serving.confirmed.note(asked);
        Ok(())
    }

    /// Attempt files, record, index, shard: each is created or found, so all of it can be done again. Without an index that stands in
    /// the run's store, no shard is made; without a shard that does, nothing was achieved: `None`.
    async fn put_all(
        &mut self,
        scratch: &Path,
        paths: &[PathBuf],
        shard: &Shard,
    ) -> Result<Option<Stored>, Halt> {
        self.bytes_up = 0;
        let own = self.unless_stopped(self.put_files(scratch, paths)).await??;
        self.bytes_up += own.iter().map(|file| file.bytes).sum::<u64>();
        self.check_parts().await?;
        self.bytes_up += self.evidence.parts.iter().map(|part| part.bytes).sum::<u64>();
        let files = [self.carried.files.clone(), own, self.evidence.parts.clone()].concat();
        let shard_bytes = Bytes::from(shard.encode());
        let shard_sha256 = sha256_hex(&shard_bytes);
        let record = self.put_record(files, &shard_sha256).await?;
        let index = self.put(&key::index(self.grant.task, &shard_sha256), &record).await?;
        let (molecules_ok, molecules_bad) = self.counts(shard);
        let ours = Stored { shard_sha256, index_sha256: sha256_hex(&index), molecules_ok, molecules_bad };
        let task = self.grant.task;
        if !self.stands(&[ours.index(task)]).await? {
            return Ok(None);
        }
        let found = self.put(&key::shard(task), &shard_bytes).await?;
        // What stood once in the run's store, stands for ever: of our own index, that is known.
        let (stored, unseen) = if found == shard_bytes {
            let unseen = vec![ours.shard(task)];
            (ours, unseen)
        } else {
            let theirs = self.adopt(&found).await?;
            let unseen = vec![theirs.index(task), theirs.shard(task)];
            (theirs, unseen)
        };
        Ok(self.stands(&unseen).await?.then_some(stored))
    }

    /// Stores the record of a success with this shard, and gives its bytes.
    async fn put_record(&mut self, files: Vec<AttemptFile>, shard_sha256: &str) -> Result<Bytes, Halt> {
        let mut record = self.record(Ending::Succeeded, None, files);
        record.shard_sha256 = Some(shard_sha256.to_owned());
        record.carried.clone_from(&self.carried.rows);
        let record = Bytes::from(serde_json::to_vec_pretty(&record).expect("a record always becomes JSON"));
        self.put(&key::attempt_record(self.grant.task, &self.grant.lease), &record).await?;
        Ok(record)
    }

    /// Whether these objects, by name and digest, are in the run's store: what was written while a disk was away lies hidden below
    /// its mount point.
    async fn stands(&self, objects: &[(String, String)]) -> Result<bool, Halt> {
        let spec = (key::SPEC.to_owned(), self.serving.info.digest.clone());
        for (object, sha256) in objects.iter().chain([&spec]) {
            let found = self.ask_store("read back", || self.serving.store.find(object)).await?;
            if found.is_none_or(|bytes| sha256_hex(&bytes) != *sha256) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates an object and gives the bytes that then stand there.
    async fn put(&mut self, object: &str, bytes: &Bytes) -> Result<Bytes, Halt> {
        let created = self.ask_store("upload", || self.serving.store.create(object, bytes.clone())).await?;
        Ok(match created {
            Creation::New => {
                self.bytes_up += bytes.len() as u64;
                bytes.clone()
            }
            Creation::Same => bytes.clone(),
            Creation::Differs(stored) => stored,
        })
    }
}
