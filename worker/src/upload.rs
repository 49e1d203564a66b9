//! The second half of an attempt: its outputs into the store, in the order that makes a crash between any two steps harmless:
//! attempt files, index, shard. The shard's creation is the commit; what stands there first, stays.
//!
//! All of it is done on one thread that may wait for a disk: for small objects, each change of threads costs more than the write.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::key;
use common::task::{AttemptFile, AttemptRecord, Ending, Shard, TaskId, Verdict};
use tokio::runtime::Handle;

use crate::attempt::{Attempt, Halt};
use crate::failure;
use crate::objects::Objects;

/// The result of a task as it stands in the store, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) shard_sha256: String,
    pub(crate) index_sha256: String,
    /// Molecules by verdict; none of a window, which is a part of one.
    pub(crate) molecules_ok: u64,
    pub(crate) molecules_bad: u64,
    /// Whether any row is good, also one of a window.
    pub(crate) has_good: bool,
}

/// What is to be stored of an attempt that has a verdict for each molecule.
struct Upload {
    objects: Objects,
    scratch: PathBuf,
    /// Its files, by path below the scratch folder.
    paths: Vec<PathBuf>,
    /// Files that former attempts have stored, and parts of streams that are stored by now.
    carried: Vec<AttemptFile>,
    parts: Vec<AttemptFile>,
    /// The record but for the files.
    record: AttemptRecord,
    shard: Bytes,
    shard_sha256: String,
    /// See [`Stored`].
    molecules_ok: u64,
    molecules_bad: u64,
    has_good: bool,
    bytes_down: u64,
    bytes_up: u64,
}

fn has_good(shard: &Shard) -> bool {
    shard.rows.iter().any(|row| row.verdict == Verdict::Ok)
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
        let objects = self.objects();
        objects.confirm().await?;
        let found = objects.find("look for the shard", &key::shard(self.grant.task)).await?;
        let Some(bytes) = found else { return Ok(None) };
        let (stored, bytes_down) = objects.adopt(&bytes).await?;
        self.bytes_down += bytes_down;
        // An attempt that made nothing has its record, too: of no steps and no files, with the shard that it found.
        let record = self.record_of_success(&stored.shard_sha256);
        self.bytes_up += objects.put_record(&record).await?.uploaded;
        Ok(Some(stored))
    }

    fn record_of_success(&self, shard_sha256: &str) -> AttemptRecord {
        let mut record = self.record(Ending::Succeeded, None, Vec::new());
        record.shard_sha256 = Some(shard_sha256.to_owned());
        record.carried.clone_from(&self.carried.rows);
        record
    }

    /// Stores everything that the attempt made, and makes sure that it stands in the run's store.
    pub(crate) async fn upload(&mut self, scratch: &Path, shard: &Shard) -> Result<Stored, Halt> {
        self.moments.upload_started = Some(self.clock.now_ms());
        let mut paths = Self::log_files(scratch);
        paths.extend(self.evidence.kept.iter().cloned());
        let (molecules_ok, molecules_bad) = self.serving.info.spec.engine.counts(self.grant.task, shard);
        let has_good = has_good(shard);
        let shard = Bytes::from(shard.encode());
        let shard_sha256 = sha256_hex(&shard);
        let upload = Upload {
            objects: self.objects().in_place(),
            scratch: scratch.to_owned(),
            paths,
            carried: self.carried.files.clone(),
            parts: self.evidence.parts.clone(),
            record: self.record_of_success(&shard_sha256),
            shard,
            shard_sha256,
            molecules_ok,
            molecules_bad,
            has_good,
            bytes_down: 0,
            bytes_up: 0,
        };
        let uploading = tokio::task::spawn_blocking(|| Handle::current().block_on(upload.work()));
        // Left alone when the attempt has to stop, it ends with the request that it is at.
        let uploaded = self.unless_stopped(uploading).await?.map_err(std::io::Error::other)?;
        let (stored, bytes_down, bytes_up) = uploaded?;
        self.bytes_down += bytes_down;
        self.bytes_up = bytes_up;
        self.moments.upload_ended = Some(self.clock.now_ms());
        Ok(stored)
    }
}

impl Objects {
    /// Takes a stored shard as the result: its digest, its counts and its index, never our own. And how many bytes were downloaded.
    async fn adopt(&self, bytes: &Bytes) -> Result<(Stored, u64), Halt> {
        let invalid = |detail: String| Halt::Failed {
            reason: failure::SHARD_INVALID.to_owned(),
            detail,
            is_final: true,
        };
        let task = self.grant.task;
        let name = key::shard(task);
        let shard = Shard::parse(bytes).and_then(|shard| {
            shard.check_molecules(self.grant.molecules.iter().map(|molecule| molecule.id.as_str()))?;
            Ok(shard)
        });
        let shard =
            shard.map_err(|error| invalid(format!("the stored `{name}` is not this task's: {error}")))?;
        let shard_sha256 = sha256_hex(bytes);
        let index = key::index(task, &shard_sha256);
        let stored = self.find("read the index", &index).await?;
        let stored = stored.ok_or_else(|| invalid(format!("the stored `{name}` has no `{index}`")))?;
        let (molecules_ok, molecules_bad) = self.serving.info.spec.engine.counts(task, &shard);
        tracing::info!(shard_sha256, "the task has a stored shard, taking it");
        let index_sha256 = sha256_hex(&stored);
        let bytes_down = (bytes.len() + stored.len()) as u64;
        let has_good = has_good(&shard);
        Ok((Stored { shard_sha256, index_sha256, molecules_ok, molecules_bad, has_good }, bytes_down))
    }

    /// Whether these objects, by name and digest, are in the run's store: what was written while a disk was away lies hidden below
    /// its mount point.
    async fn stand_in_the_runs_store(&self, objects: &[(String, String)]) -> Result<bool, Halt> {
        let spec = (key::SPEC.to_owned(), self.serving.info.digest.clone());
        Ok(self.stand(objects).await? && self.stand(&[spec]).await?)
    }
}

impl Upload {
    /// The result, and how many bytes were downloaded and uploaded for it.
    async fn work(mut self) -> Result<(Stored, u64, u64), Halt> {
        loop {
            // An empty mount point must not collect results: the disk may have gone since this attempt began.
            self.objects.confirm().await?;
            if let Some(stored) = self.put_all().await? {
                return Ok((stored, self.bytes_down, self.bytes_up));
            }
            tracing::warn!("the store went away during the upload, uploading again");
        }
    }

    /// Attempt files, record, index, shard: each is created or found, so all of it can be done again. Without an index that stands in
    /// the run's store, no shard is made; without a shard that does, nothing was achieved: `None`.
    async fn put_all(&mut self) -> Result<Option<Stored>, Halt> {
        let (objects, task) = (&self.objects, self.objects.grant.task);
        let files = objects.put_files(&self.scratch, &self.paths);
        let own = objects.control.unless_stopped(files).await??;
        objects.check_parts(&self.parts).await?;
        self.bytes_up = own.iter().chain(&self.parts).map(|file| file.bytes).sum();
        self.record.files = [self.carried.clone(), own, self.parts.clone()].concat();
        let record = objects.put_record(&self.record).await?;
        let index = objects.put(&key::index(task, &self.shard_sha256), &record.bytes).await?;
        self.bytes_up += record.uploaded + index.uploaded;
        let ours = Stored {
            shard_sha256: self.shard_sha256.clone(),
            index_sha256: sha256_hex(&index.bytes),
            molecules_ok: self.molecules_ok,
            molecules_bad: self.molecules_bad,
            has_good: self.has_good,
        };
        if !objects.stand_in_the_runs_store(&[ours.index(task)]).await? {
            return Ok(None);
        }
        let found = objects.put(&key::shard(task), &self.shard).await?;
        self.bytes_up += found.uploaded;
        // What stood once in the run's store, stands for ever: of our own index, that is known.
        let (stored, unseen) = if found.bytes == self.shard {
            let unseen = vec![ours.shard(task)];
            (ours, unseen)
        } else {
            let (theirs, adopted) = objects.adopt(&found.bytes).await?;
            self.bytes_down += adopted;
            let unseen = vec![theirs.index(task), theirs.shard(task)];
            (theirs, unseen)
        };
        Ok(objects.stand_in_the_runs_store(&unseen).await?.then_some(stored))
    }
}
