//! The second half of an attempt: its outputs into the store, in the order that makes a crash between any two steps harmless:
//! attempt files, index, shard. The shard's creation is the commit; what stands there first, stays.

use std::path::Path;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{Creation, key};
use common::task::{Ending, Shard};

use crate::attempt::{Attempt, Halt};
use crate::stage::Staged;

/// The result of a task as it stands in the store, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) shard_sha256: String,
    pub(crate) index_sha256: String,
    pub(crate) molecules_ok: u64,
    pub(crate) molecules_bad: u64,
}

impl Attempt {
    /// The shard of an earlier attempt, if there is one: our own lost answer, or somebody else's.
    pub(crate) async fn find_stored(&mut self) -> Result<Option<Stored>, Halt> {
        self.confirm().await?;
        let name = key::shard(self.grant.task);
        let found = self.ask_store("look for the shard", || self.serving.store.find(&name)).await?;
        match found {
            Some(bytes) => self.adopt(&bytes).await.map(Some),
            None => Ok(None),
        }
    }

    /// Takes a stored shard as the result: its digest, its counts and its index, never our own.
    async fn adopt(&mut self, bytes: &Bytes) -> Result<Stored, Halt> {
        let invalid =
            |detail: String| Halt::Failed { reason: "shard_invalid".to_owned(), detail, is_final: true };
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
        let (molecules_ok, molecules_bad) = shard.counts();
        tracing::info!(shard_sha256, "the task has a stored shard, taking it");
        self.bytes_down += (bytes.len() + stored.len()) as u64;
        Ok(Stored { shard_sha256, index_sha256: sha256_hex(&stored), molecules_ok, molecules_bad })
    }

    /// Stores everything that the attempt made. If the store was not the run's at some point in between, an unmounted disk, then part
    /// of it went elsewhere: all of it is stored once more, which changes nothing that stands there.
    pub(crate) async fn upload(
        &mut self,
        staged: &Staged,
        scratch: &Path,
        shard: Shard,
    ) -> Result<Stored, Halt> {
        self.moments.upload_started = Some(self.clock.now_ms());
        let shard_bytes = Bytes::from(shard.encode());
        let shard_sha256 = sha256_hex(&shard_bytes);
        let index_name = key::index(self.grant.task, &shard_sha256);
        let (molecules_ok, molecules_bad) = shard.counts();
        loop {
            self.confirm().await?;
            let index = self.put_evidence(staged, scratch, &index_name, &shard_sha256).await?;
            self.confirm().await?;
            let stored = self.put(&key::shard(self.grant.task), &shard_bytes).await?;
            if stored != shard_bytes {
                return self.adopt(&stored).await;
            }
            self.confirm().await?;
            if self.stands(&key::shard(self.grant.task), &shard_bytes).await?
                && self.stands(&index_name, &index).await?
            {
                self.moments.upload_ended = Some(self.clock.now_ms());
                let index_sha256 = sha256_hex(&index);
                return Ok(Stored { shard_sha256, index_sha256, molecules_ok, molecules_bad });
            }
            tracing::warn!("the store changed under the upload, storing everything once more");
        }
    }

    /// Makes sure that the store is the run's: an empty mount point must not collect results.
    async fn confirm(&self) -> Result<(), Halt> {
        let digest = &self.serving.info.digest;
        self.ask_store("confirm", || self.serving.store.confirm(digest)).await
    }

    /// Whether these bytes stand there.
    async fn stands(&self, object: &str, bytes: &Bytes) -> Result<bool, Halt> {
        let found = self.ask_store("read back", || self.serving.store.find(object)).await?;
        Ok(found.as_ref() == Some(bytes))
    }

    /// Stores the attempt's files and its record, and gives the index as it then stands there.
    async fn put_evidence(
        &mut self,
        staged: &Staged,
        scratch: &Path,
        index_name: &str,
        shard_sha256: &str,
    ) -> Result<Bytes, Halt> {
        let mut paths = Self::log_files(scratch);
        let kept = self.serving.engine.keeps(&self.workload(staged, scratch));
        paths.extend(kept.into_iter().filter(|path| scratch.join(path).is_file()));
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let file = self.ask_store("upload a file", || self.put_file(scratch, &path)).await?;
            self.bytes_up += file.bytes;
            files.push(file);
        }
        let mut record = self.record(Ending::Succeeded, None, files);
        record.shard_sha256 = Some(shard_sha256.to_owned());
        let record = Bytes::from(serde_json::to_vec_pretty(&record).expect("a record always becomes JSON"));
        self.put(&key::attempt_record(self.grant.task, &self.grant.lease), &record).await?;
        self.put(index_name, &record).await
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
