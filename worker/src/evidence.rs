//! What an attempt leaves behind, however it ended: its record, its logs and the rows that it has in the store, its last lines in
//! Redis. For people, and for the attempt that goes on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{StorageError, key};
use common::task::{AttemptFile, AttemptRecord, Ending, Provenance, StepRecord};
use tokio::time::{Instant, timeout_at};

use crate::attempt::Attempt;
use crate::carry::ROWS;
use crate::gpus::Gpu;
use crate::heartbeat::chain;
use crate::patience::insist_store;
use crate::process::{Ended, How};
use crate::scratch::Scratch;
use crate::stage::LOGS;

/// How much of an engine's last output a task keeps in Redis.
const TAIL_BYTES_MAX: usize = 2048;
/// How long the evidence of an attempt without a result may hold up the worker.
const PATIENCE: Duration = Duration::from_secs(10);

/// What ran so far.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    pub(crate) steps: Vec<StepRecord>,
    /// Files of molecules with a verdict that are worth keeping, by path below the scratch folder.
    pub(crate) kept: Vec<PathBuf>,
    /// Parts of streams, which were stored while they were made.
    pub(crate) parts: Vec<AttemptFile>,
    /// The bundle whose files it found in its scratch folder.
    pub(crate) resumed_from: Option<String>,
    last_words: String,
}

impl Evidence {
    pub(crate) fn add_step(&mut self, record: StepRecord, ended: &Ended) {
        if ended.how != How::Exited(0) {
            self.last_words = format!("{}{}", ended.stdout_tail, ended.stderr_tail);
        }
        self.steps.push(record);
    }

    /// What Redis keeps of a failure: the evidence in one line, then the last lines of the step that went wrong last.
    pub(crate) fn tail(&self, detail: &str) -> String {
        let mut tail = detail.to_owned();
        let room = TAIL_BYTES_MAX.saturating_sub(tail.len() + 1);
        let mut from = self.last_words.len().saturating_sub(room);
        while !self.last_words.is_char_boundary(from) {
            from += 1;
        }
        if from < self.last_words.len() {
            tail.push('\n');
            tail.push_str(&self.last_words[from..]);
        }
        let mut end = tail.len().min(TAIL_BYTES_MAX);
        while !tail.is_char_boundary(end) {
            end -= 1;
        }
        tail.truncate(end);
        tail
    }
}

impl Attempt {
    /// The attempt's record as far as it is known.
    pub(crate) fn record(
        &self,
        ending: Ending,
        reason: Option<(&str, &str)>,
        files: Vec<AttemptFile>,
    ) -> AttemptRecord {
        AttemptRecord {
            run: self.serving.run.clone(),
            task: self.grant.task,
            lease: self.grant.lease.clone(),
            ending,
            reason: reason.map(|(reason, _)| reason.to_owned()),
            detail: reason.map(|(_, detail)| detail.to_owned()),
            shard_sha256: None,
            steps: self.evidence.steps.clone(),
            files,
            suspects: self
                .verdicts
                .suspects()
                .map(|position| self.grant.molecules[position].id.clone())
                .collect(),
            carried: Vec::new(),
            resumed_from: self.evidence.resumed_from.clone(),
            provenance: self.provenance(),
            moments: self.moments,
        }
    }

    fn provenance(&self) -> Provenance {
        Provenance { gpu: self.own_gpu().map(Gpu::account), ..self.serving.provenance.clone() }
    }

    /// The logs of all steps, by path below the scratch folder, in the order of their names.
    pub(crate) fn log_files(scratch: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(scratch.join(LOGS)).into_iter().flatten().flatten();
        let filled =
            entries.filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0));
        let mut files: Vec<PathBuf> = filled.map(|entry| Path::new(LOGS).join(entry.file_name())).collect();
        files.sort();
        files
    }

    /// Stores the logs, the rows so far with their files, and last the record of an attempt without a result. Tries until they stand in
    /// the run's store: what was written while a disk was away lies hidden below its mount point.
    pub(crate) async fn put_evidence(
        &self,
        scratch: &Path,
        ending: Ending,
        reason: Option<(&str, &str)>,
    ) -> Result<(), StorageError> {
        let store = &self.serving.store;
        let object = key::attempt_record(self.grant.task, &self.grant.lease);
        let mut paths = Self::log_files(scratch);
        // An engine's own file of that name would stand in the way of ours.
        paths.extend(self.evidence.kept.iter().filter(|path| *path != Path::new(ROWS)).cloned());
        loop {
            insist_store("confirm", || store.confirm(&self.serving.info.digest)).await?;
            let mut files = self.objects().put_files(scratch, &paths).await?;
            files.extend(self.put_rows().await?);
            files.extend(self.evidence.parts.iter().cloned());
            let record = self.record(ending, reason, files);
            let json = serde_json::to_vec_pretty(&record).expect("a record always becomes JSON");
            let json = Bytes::from(json);
            insist_store("keep the record", || store.create(&object, json.clone())).await?;
            insist_store("confirm", || store.confirm(&self.serving.info.digest)).await?;
            if insist_store("read back", || store.find(&object)).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Stores the attempt's own rows, if there are any, for the next one to go on from.
    async fn put_rows(&self) -> Result<Option<AttemptFile>, StorageError> {
        let rows: Vec<_> = self.verdicts.own_rows().cloned().collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let bytes = Bytes::from(self.shard(rows).encode());
        let object = key::attempt_file(self.grant.task, &self.grant.lease, ROWS);
        let (sha256, size) = (sha256_hex(&bytes), bytes.len() as u64);
        insist_store("keep the rows", || self.serving.store.create(&object, bytes.clone())).await?;
        Ok(Some(AttemptFile { object, sha256, bytes: size }))
    }

    /// The same, as far as the store takes it in time, and by this moment.
    pub(crate) async fn keep_evidence(
        &self,
        scratch: Option<&Scratch>,
        ending: Ending,
        reason: Option<(&str, &str)>,
        by: Instant,
    ) {
        let Some(scratch) = scratch else { return };
        let put = self.put_evidence(scratch.path(), ending, reason);
        match timeout_at(by.min(Instant::now() + PATIENCE), put).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "the logs of this attempt could not be stored");
            }
            Err(_) => tracing::warn!("the store took too long for the logs of this attempt"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(words: &str) -> Evidence {
        Evidence { last_words: words.to_owned(), ..Evidence::default() }
    }

    #[test]
    fn tails_are_bounded_and_keep_the_end() {
        assert_eq!(evidence("").tail("why"), "why");
        assert_eq!(evidence("last\n").tail("why"), "why\nlast\n");
        let long = evidence(&"ä".repeat(5000)).tail("why");
        assert!(long.starts_with("why\nä") && long.len() <= TAIL_BYTES_MAX);
        assert!(evidence("x").tail(&"ä".repeat(5000)).len() <= TAIL_BYTES_MAX);
    }
}
