//! The checkpoints of an attempt whose engine makes any: from time to time a bundle into the store while the engine runs, the last one
//! when the worker leaves, and the newest valid one back onto disk before the engine starts.
//!
//! A bundle is a help and never needed: one that is missing, torn or can't be stored costs time only. Nothing lists the store, so an attempt
//! uses few names for its bundles, again and again, and whoever cleans up deletes all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::digest::sha256_hex;
use common::queue::{Bundle, Progressed, QueueError, TaskInfo};
use common::storage::{Creation, key};
use common::task::{LeaseName, Limits, TaskId};
use futures::{StreamExt as _, TryStreamExt as _};
use rand::{Rng, RngExt as _};

use crate::attempt::{Attempt, Halt, Shared};
use crate::bundle::{Files, Note, Packed, Packing, pack, unpack};
use crate::config::Config;
use crate::failure;
use crate::heartbeat::chain;
use crate::patience::{insist, insist_store};
use crate::serving::Serving;

/// How long until files that changed while they were bundled are looked at again.
const AFTER_TORN: Duration = Duration::from_secs(1);
/// How often at most; a program that never leaves them alone is left alone until the next time.
const TRIES_MAX: u32 = 10;
/// Bundles that are deleted at a time.
const DELETES: usize = 8;

/// How often at most to store the checkpoint of a task, and up to how much longer: what this worker was told counts, then the run.
pub(crate) fn pace(config: &Config, limits: &Limits) -> [Duration; 2] {
    [
        config.checkpoint_seconds.unwrap_or(limits.checkpoint_seconds),
        config.checkpoint_jitter_seconds.unwrap_or(limits.checkpoint_jitter_seconds),
    ]
    .map(Duration::from_secs)
}

/// How long until the next look at a checkpoint, drawn evenly from a pace: a fleet that started together stores nothing together.
fn pause([every, jitter]: [Duration; 2], rng: &mut impl Rng) -> Duration {
    every + jitter.mul_f64(rng.random_range(0.0..=1.0))
}

/// Makes a bundle, again and again while its files change under it: what was caught while it was written is whole soon after.
async fn until_whole<T, F>(mut pack: impl FnMut() -> F) -> Option<(Packing, T)>
where
    F: Future<Output = Option<(Packing, T)>>,
{
    let mut made = pack().await;
    for _ in 1..TRIES_MAX {
        if !matches!(made, Some((Packing::Torn, _))) {
            break;
        }
        tokio::time::sleep(AFTER_TORN).await;
        made = pack().await;
    }
    made
}

/// What keeps the bundles of one attempt.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    serving: Arc<Serving>,
    task: TaskId,
    lease: LeaseName,
    folder: PathBuf,
    /// All that may be in the store.
    known: Vec<Bundle>,
    /// Those of them that a later attempt may want: what Redis said last.
    kept: Vec<Bundle>,
    /// The state in the newest that is registered or was restored.
    newest_state: Option<String>,
}

impl Checkpointer {
    pub(crate) fn new(attempt: &Attempt, folder: &Path) -> Self {
        Self {
            shared: Arc::clone(&attempt.shared),
            serving: Arc::clone(&attempt.serving),
            task: attempt.grant.task,
            lease: attempt.grant.lease.clone(),
            folder: folder.to_owned(),
            known: attempt.grant.checkpoint.bundles.clone(),
            kept: attempt.grant.checkpoint.bundles.clone(),
            newest_state: None,
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
        let pace = pace(&self.shared.config, &self.serving.info.limits);
        loop {
            let pause = pause(pace, &mut rand::rng());
            tokio::time::sleep(pause).await;
            let made = until_whole(|| self.pack()).await;
            if let Some((Packing::New(packed), progress)) = made {
                self.store(packed, progress).await;
            }
        }
    }

    /// Bundles what stands on disk, on a thread of its own; `None` if there is nothing that can be bundled.
    async fn pack(&self) -> Option<(Packing, Option<Progressed>)> {
        if !self.serving.info.spec.engine.makes_checkpoints() {
            return None;
        }
        let (serving, folder) = (Arc::clone(&self.serving), self.folder.clone());
        let newest_state = self.newest_state.clone();
        let made = tokio::task::spawn_blocking(move || {
            let snapshot = serving.engine.checkpoint(&folder)?;
            let threads = serving.info.spec.threads_per_task;
            Some((pack(&folder, &snapshot, threads, newest_state.as_deref()), snapshot.progress))
        });
        match made.await {
            Ok(Some((Ok(packing), progress))) => Some((packing, progress)),
            Ok(None) => None,
            Ok(Some((Err(error), _))) => {
                tracing::warn!(%error, "no bundle could be made of the checkpoint, trying again later");
                None
            }
            Err(error) => {
                tracing::error!(%error, "no bundle could be made of the checkpoint");
                None
            }
        }
    }

    /// Bundles what the engine left when it ended, if it is whole and differs from the last bundle.
    pub(crate) async fn pack_last(&self) -> Option<(Packed, Option<Progressed>)> {
        match self.pack().await? {
            (Packing::New(packed), progress) => Some((packed, progress)),
            (Packing::Unchanged | Packing::Torn, _) => None,
        }
    }

    /// Stores a bundle, registers it, and deletes those that it replaces.
    pub(crate) async fn store(&mut self, packed: Packed, progress: Option<Progressed>) {
        let Packed { bytes: content, sha256, state_sha256 } = packed;
        let Some(number) = self.free_number().await else {
            tracing::warn!("no former bundle can be deleted, so the checkpoint is not stored");
            return;
        };
        let bundle = Bundle { lease: self.lease.clone(), number, sha256 };
        let object = key::bundle(self.task, &bundle.lease, bundle.number);
        // Before it is on its way: whatever becomes of it, its number is not free until it is deleted.
        self.known.push(bundle.clone());
        let bytes = content.len();
        let put = || self.serving.store.create(&object, content.clone());
        match insist_store("upload a checkpoint", put).await {
            Ok(Creation::New | Creation::Same) => {}
            Ok(Creation::Differs(_)) => {
                tracing::warn!(
                    object,
                    "another bundle came late under this name, the checkpoint is not stored"
                );
                return;
            }
            Err(error) => {
                tracing::warn!(object, error = %chain(&error), "the checkpoint can't be stored");
                return;
            }
        }
        let call = || self.shared.queue.checkpoint(&self.serving.run, self.task, &bundle, progress);
        match insist("checkpoint", call).await {
            Ok(Ok(kept)) => {
                tracing::info!(object, bytes, ?progress, "checkpoint kept");
                self.newest_state = Some(state_sha256);
                self.kept = kept;
                self.delete_old().await;
            }
            Ok(Err(fate)) => {
                tracing::info!(object, ?fate, "the checkpoint is not the task's any more");
                self.discard(&bundle).await;
            }
            Err(QueueError::NoSuchRun(_)) => {
                tracing::info!(object, "the checkpoint is of a run that was removed");
                self.discard(&bundle).await;
            }
            Err(error) => {
                tracing::warn!(object, error = %chain(&error), "the checkpoint can't be registered");
            }
        }
    }

    /// A number under which nothing of this attempt is in the store, for all that is known.
    async fn free_number(&mut self) -> Option<u64> {
        if self.first_free().is_none() {
            self.delete_old().await;
        }
        self.first_free()
    }

    fn first_free(&self) -> Option<u64> {
        let is_used = |number| self.known.iter().any(|known| is_named(known, &self.lease, number));
        (1..=key::BUNDLE_NUMBER_MAX).find(|number| !is_used(*number))
    }

    /// Deletes the bundles that no attempt will go on from.
    async fn delete_old(&mut self) {
        let is_kept =
            |known: &Bundle| self.kept.iter().any(|kept| is_named(kept, &known.lease, known.number));
        let old: Vec<Bundle> = self.known.iter().filter(|known| !is_kept(known)).cloned().collect();
        for bundle in old {
            self.delete(&bundle).await;
        }
    }

    /// Deletes a bundle whose record was refused for good, unless there is one: of a call that was repeated since its answer got lost, the
    /// first may have been taken, and the task may be going on from there.
    async fn discard(&mut self, bundle: &Bundle) {
        let tasks = [self.task];
        let read =
            insist("read a checkpoint's record", || self.shared.queue.tasks(&self.serving.run, &tasks));
        let is_registered = |info: &TaskInfo| info.checkpoint.bundles.contains(bundle);
        if read.await.is_ok_and(|infos| !infos.iter().any(is_registered)) {
            self.delete(bundle).await;
        }
    }

    async fn delete(&mut self, bundle: &Bundle) {
        let object = key::bundle(self.task, &bundle.lease, bundle.number);
        match self.serving.store.delete(&object).await {
            Ok(()) => self.known.retain(|known| known != bundle),
            Err(error) => {
                tracing::warn!(object, error = %chain(&error), "a bundle that nobody needs is left in the store");
            }
        }
    }

    /// Whether any bundle of this attempt may be in the store.
    fn has_stored(&self) -> bool {
        self.known.iter().any(|known| known.lease == self.lease)
    }
}

/// Whether a bundle has this name in the store.
fn is_named(bundle: &Bundle, lease: &LeaseName, number: u64) -> bool {
    bundle.lease == *lease && bundle.number == number
}

impl Attempt {
    /// Deletes all bundles of a task that has succeeded, also those of which only a machine knew that is gone: the store may have got them,
    /// and Redis no word of it. From now on, none can be registered.
    pub(crate) async fn delete_bundles(&self) {
        if !self.serving.info.spec.engine.makes_checkpoints() {
            return;
        }
        let own = self.checkpointer.as_ref().is_some_and(Checkpointer::has_stored);
        let own = own.then_some(&self.grant.lease);
        let leases = self.grant.former.iter().map(|(lease, _)| lease).chain(own);
        let objects: Vec<String> = leases.flat_map(|lease| key::bundles(self.grant.task, lease)).collect();
        let delete = |object: String| async move { self.serving.store.delete(&object).await };
        let deleted = futures::stream::iter(objects).map(delete).buffer_unordered(DELETES);
        if let Err(error) = deleted.try_collect::<()>().await {
            tracing::warn!(error = %chain(&error), "bundles that nobody needs are left in the store");
        }
    }

    /// Puts the files of the newest valid bundle where they stood, before the engine plans.
    pub(crate) async fn restore(&mut self, scratch: &Path) -> Result<(), Halt> {
        let mut checkpointer = Checkpointer::new(self, scratch);
        let threads = self.serving.info.spec.threads_per_task;
        for bundle in self.grant.checkpoint.bundles.clone() {
            let object = key::bundle(self.grant.task, &bundle.lease, bundle.number);
            if self.carried.failed_from.contains(&object) {
                // What an engine wrote may be whole and yet lead nowhere: a state that has blown up, say.
                tracing::warn!(object, "an attempt that went on from this bundle failed, doing without it");
                continue;
            }
            let Some((note, files)) = self.read_bundle(&object, &bundle.sha256).await? else { continue };
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
            checkpointer.newest_state = Some(note.state_sha256);
            self.evidence.resumed_from = Some(object);
            break;
        }
        self.checkpointer = Some(checkpointer);
        Ok(())
    }

    /// What a bundle holds, if it is the one that was registered and can be read.
    async fn read_bundle(&mut self, object: &str, sha256: &str) -> Result<Option<(Note, Files)>, Halt> {
        let found = self.ask_store("read a checkpoint", || self.serving.store.find(object)).await?;
        let bytes = found.unwrap_or_default();
        self.bytes_down += bytes.len() as u64;
        if sha256_hex(&bytes) != sha256 {
            let bytes = bytes.len();
            tracing::warn!(object, bytes, sha256, "not the bundle that was registered, doing without it");
            return Ok(None);
        }
        let unpacked = unpack(&bytes);
        if let Err(error) = &unpacked {
            tracing::warn!(object, %error, "the bundle can't be read, doing without it");
        }
        Ok(unpacked.ok())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::config::CommandLine;

    /// The shortest and the longest of many pauses of a worker with these flags that works for a run with these limits, in seconds.
    fn extremes(flags: &[&str], limits: &Limits) -> (f64, f64) {
        let config = CommandLine::parse_from([&["worker"], flags].concat()).arguments.resolve().unwrap();
        let (pace, mut rng) = (pace(&config, limits), StdRng::seed_from_u64(1));
        let pauses: Vec<f64> = (0..10_000).map(|_| pause(pace, &mut rng).as_secs_f64()).collect();
        (pauses.iter().copied().fold(f64::MAX, f64::min), pauses.iter().copied().fold(0.0, f64::max))
    }

    fn check(flags: &[&str], limits: &Limits, shortest: f64, longest: f64) {
        let (min, max) = extremes(flags, limits);
        assert!(min >= shortest && max <= longest, "{flags:?}: {min} to {max}");
        // They fill the range.
        let slack = (longest - shortest) / 100.0;
        assert!(min <= shortest + slack && max >= longest - slack, "{flags:?}: {min} to {max}");
    }

    #[test]
    fn checkpoints_are_ten_minutes_and_up_to_119_seconds_apart() {
        check(&[], &Limits::default(), 600.0, 719.0);
    }

    #[test]
    fn the_run_sets_the_pace_and_its_jitter_and_the_worker_has_the_last_word() {
        let run = Limits { checkpoint_seconds: 60, checkpoint_jitter_seconds: 30, ..Limits::default() };
        check(&[], &run, 60.0, 90.0);
        check(&["--checkpoint-seconds", "5"], &run, 5.0, 35.0);
        check(&["--checkpoint-jitter-seconds", "0"], &run, 60.0, 60.0);
        check(&["--checkpoint-seconds", "7", "--checkpoint-jitter-seconds", "3"], &run, 7.0, 10.0);
    }

    /// What is made of files that are torn so many times, and how often they were bundled.
    async fn bundled(torn: u32) -> (Option<(Packing, ())>, u32) {
        let mut packs = 0;
        let made = until_whole(|| {
            packs += 1;
            std::future::ready(Some((if packs > torn { Packing::Unchanged } else { Packing::Torn }, ())))
        });
        (made.await, packs)
    }

    #[tokio::test(start_paused = true)]
    async fn torn_files_are_bundled_again_until_they_are_whole_but_not_for_ever() {
        assert_eq!(bundled(0).await, (Some((Packing::Unchanged, ())), 1));
        let start = tokio::time::Instant::now();
        assert_eq!(bundled(3).await, (Some((Packing::Unchanged, ())), 4));
        assert_eq!(start.elapsed().as_secs(), 3, "a second after each");
        assert_eq!(bundled(u32::MAX).await, (Some((Packing::Torn, ())), 10));
    }
}
