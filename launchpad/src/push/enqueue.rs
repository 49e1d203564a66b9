//! Fills Redis with the tasks of a manifest. Goes on from what Redis has, after a kill as after a fail-over that forgot the last
//! second, and reports success only when Redis still has everything a while later.

use std::future::Future;
use std::time::Duration;

use common::backoff::Backoff;
use common::queue::{Created, Disposition, Queue, QueueError, RunDefinition, Sealed};
use common::task::{TaskId, encode_molecules};
use tokio::sync::mpsc;

use super::{PushError, StagedManifest};
use crate::error::LaunchpadError;

/// One call's share: large enough that a round trip of 150 ms allows 30,000 tasks/s, small enough that Redis is held for some 10 ms.
const CHUNK_TASKS: usize = 5_000;
const CHUNK_BYTES: usize = 1 << 20; // 1 MiB
/// Chunks that are read ahead while one is on its way.
const CHUNKS_AHEAD: usize = 4;
/// How often Redis may forget before the push gives up.
const ROUNDS_MAX: u32 = 10;
/// Calls before a passing fault is given up: with these pauses 80 s on the average.
const TRIES_MAX: u32 = 20;
const PAUSES: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(10) };

/// A run on its way into Redis.
#[derive(Debug)]
pub(crate) struct Enqueue<'a> {
    /// The Redis.
    pub(crate) queue: &'a Queue,
    /// The run.
    pub(crate) definition: RunDefinition<'a>,
    /// Its place among the runs.
    pub(crate) priority: i64,
    /// Its tasks.
    pub(crate) manifest: &'a StagedManifest,
    /// How long after the seal to look whether everything is still there.
    pub(crate) confirm_after: Duration,
}

/// What an enqueueing found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enqueued {
    /// It pushed tasks, beginning behind those that were there.
    Pushed {
        /// How many were there already.
        found: u64,
    },
    /// An earlier push had finished.
    AlreadySealed,
}

struct Chunk {
    first: TaskId,
    inputs: Vec<String>,
}

impl Enqueue<'_> {
    /// Creates the run if need be, pushes what is missing, seals and confirms. `progress` is told how many tasks Redis has.
    pub(crate) async fn run(&self, progress: &mut impl FnMut(u64)) -> Result<Enqueued, LaunchpadError> {
        let tasks = self.manifest.digest.tasks;
        let mut found = None;
        for _ in 0..ROUNDS_MAX {
            let (total, sealed) = self.create().await?;
            if found.is_none() && sealed && total == tasks {
                return Ok(Enqueued::AlreadySealed);
            }
            let found = *found.get_or_insert(total);
            match self.push_and_confirm(total, progress).await {
                Ok(true) => return Ok(Enqueued::Pushed { found }),
                // A fail-over forgot some of it, or the whole run: once more, from what Redis has.
                Ok(false) | Err(LaunchpadError::Queue(QueueError::NoSuchRun(_))) => {}
                Err(error) => return Err(error),
            }
        }
        let run = self.definition.run.clone();
        let total = self.queue.progress(&run).await?.total;
        Err(PushError::Unconfirmed { run, total, tasks, rounds: ROUNDS_MAX }.into())
    }

    async fn create(&self) -> Result<(u64, bool), LaunchpadError> {
        let created = retrying(|| self.queue.create(&self.definition)).await?;
        retrying(|| self.queue.register(self.definition.run, self.priority)).await?;
        Ok(match created {
            Created::New => (0, false),
            Created::Exists { total, sealed } => (total, sealed),
        })
    }

    async fn push_and_confirm(
        &self,
        from: u64,
        progress: &mut impl FnMut(u64),
    ) -> Result<bool, LaunchpadError> {
        let (run, tasks) = (self.definition.run, self.manifest.digest.tasks);
        if !self.push_from(from, progress).await? {
            return Ok(false);
        }
        if retrying(|| self.queue.seal(run, tasks)).await? != Sealed::Yes {
            return Ok(false);
        }
        tokio::time::sleep(self.confirm_after).await;
        let total = retrying(|| self.queue.progress(run)).await?.total;
        let sealed = retrying(|| self.queue.run_info(run)).await?.sealed;
        Ok(sealed && total == tasks)
    }

    /// Pushes the tasks from this one on. Returns whether Redis then has all of them.
    async fn push_from(&self, from: u64, progress: &mut impl FnMut(u64)) -> Result<bool, LaunchpadError> {
        let mut chunks = read_ahead(self.manifest.clone(), from);
        let mut total = from;
        progress(total);
        while let Some(chunk) = chunks.recv().await {
            let Chunk { first, inputs } = chunk?;
            let run = self.definition.run;
            total = retrying(|| self.queue.push(run, self.definition.digest, first, &inputs)).await?;
            progress(total);
            if total < first.0 + inputs.len() as u64 {
                return Ok(false);
            }
        }
        Ok(total == self.manifest.digest.tasks)
    }
}

/// Reads the manifest in a thread of its own, so that the next chunks are ready while one is on its way.
fn read_ahead(manifest: StagedManifest, from: u64) -> mpsc::Receiver<Result<Chunk, LaunchpadError>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut chunk = Chunk { first: TaskId(from), inputs: Vec::new() };
        let mut bytes = 0;
        for task in manifest.tasks() {
            match task {
                Ok((id, _)) if id.0 < from => continue,
                Ok((_, molecules)) => chunk.inputs.push(encode_molecules(&molecules)),
                Err(error) => {
                    // Nobody listens any more only when the push has failed already.
                    _ = sender.blocking_send(Err(error.into()));
                    return;
                }
            }
            bytes += chunk.inputs.last().map_or(0, String::len);
            if chunk.inputs.len() == CHUNK_TASKS || bytes >= CHUNK_BYTES {
                let next = TaskId(chunk.first.0 + chunk.inputs.len() as u64);
                let full = std::mem::replace(&mut chunk, Chunk { first: next, inputs: Vec::new() });
                bytes = 0;
                if sender.blocking_send(Ok(full)).is_err() {
                    return;
                }
            }
        }
        if !chunk.inputs.is_empty() {
            _ = sender.blocking_send(Ok(chunk)); // as above
        }
    });
    receiver
}

/// Calls until there is an answer that a further call would not change. Every script may run twice.
async fn retrying<T, F>(mut call: impl FnMut() -> F) -> Result<T, QueueError>
where
    F: Future<Output = Result<T, QueueError>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        match call().await {
            Err(error) if error.disposition() == Disposition::Retry && tries < TRIES_MAX => {
                tracing::warn!(tries, %error, "Redis did not answer, trying again");
                let pause = PAUSES.pause(tries, &mut rand::rng());
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Columns;
    use crate::push::{LigandFile, stage};

    fn manifest(molecules: u64) -> StagedManifest {
        let file = tempfile::Builder::new().suffix(".smi").tempfile().unwrap();
        let lines: Vec<String> = (0..molecules).map(|n| format!("C m{n}")).collect();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        let files = [LigandFile::open(file.path(), None).unwrap()];
        stage(&files, &Columns::default(), (1, 0), &mut |_| ()).unwrap()
    }

    #[tokio::test]
    async fn chunks_follow_each_other_without_a_gap() {
        let mut chunks = read_ahead(manifest(12_003), 7);
        let mut next = 7;
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk.unwrap();
            assert_eq!(chunk.first.0, next);
            assert!(chunk.inputs[0].contains(&format!("\"m{next}\"")), "{}", chunk.inputs[0]);
            next += chunk.inputs.len() as u64;
        }
        assert_eq!(next, 12_003);
        assert!(read_ahead(manifest(3), 3).recv().await.is_none());
    }
}
