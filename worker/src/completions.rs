//! Records successes. Those that come while a call to Redis is on its way go together in the next one, so that a worker with many
//! short tasks makes few calls, and one with long ones waits for nobody. It decides nothing.

use std::sync::Arc;

use common::queue::{Completed, Completion, Queue, QueueError};
use common::task::{LeaseName, Moments, RunId, TaskId};
use tokio::sync::{mpsc, oneshot};

use crate::patience::insist;
use crate::upload::Stored;

/// Successes per call: Redis is held for some milliseconds.
const TOGETHER_MAX: usize = 100;

/// What became of a success; the error is that of all that went together.
pub(crate) type Recorded = Result<Completed, Arc<QueueError>>;

/// A task's success.
#[derive(Debug, Clone)]
pub(crate) struct Success {
    pub(crate) run: RunId,
    pub(crate) task: TaskId,
    pub(crate) lease: LeaseName,
    pub(crate) stored: Stored,
    pub(crate) bytes_down: u64,
    pub(crate) bytes_up: u64,
    pub(crate) moments: Moments,
}

/// Who is waiting for what.
type Waiting = (Success, oneshot::Sender<Recorded>);

/// The way to the recorder. It ends with the last of them.
#[derive(Debug, Clone)]
pub(crate) struct Completions {
    sender: mpsc::UnboundedSender<Waiting>,
}

impl Completions {
    /// Starts recording. Call it within a tokio runtime.
    pub(crate) fn start(queue: Queue) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel();
        tokio::spawn(record(queue, inbox));
        Self { sender }
    }

    /// Records a success; never gives up while Redis is away.
    pub(crate) async fn add(&self, success: Success) -> Recorded {
        let (answer, answered) = oneshot::channel();
        // Without a recorder, the worker is about to end: its lease lapses, and whoever gets the task finds the result.
        if self.sender.send((success, answer)).is_err() {
            return std::future::pending().await;
        }
        match answered.await {
            Ok(recorded) => recorded,
            Err(_) => std::future::pending().await,
        }
    }
}

async fn record(queue: Queue, mut inbox: mpsc::UnboundedReceiver<Waiting>) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => match inbox.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut together = vec![first];
        while together.len() < TOGETHER_MAX
            && let Ok(more) = inbox.try_recv()
        {
            if more.0.run != together[0].0.run {
                next = Some(more);
                break;
            }
            together.push(more);
        }
        record_together(&queue, together).await;
    }
}

/// Records successes of one run in one call.
async fn record_together(queue: &Queue, together: Vec<Waiting>) {
    let run = &together[0].0.run;
    let completions: Vec<Completion<'_>> = together.iter().map(|(success, _)| success.completion()).collect();
    let successes: Vec<_> = together
        .iter()
        .zip(&completions)
        .map(|((success, _), completion)| (success.task, &success.lease, completion))
        .collect();
    tracing::debug!(%run, successes = together.len(), "recording");
    match insist("complete", || queue.complete_all(run, &successes)).await {
        Ok(answers) => {
            for ((_, waiting), completed) in together.into_iter().zip(answers) {
                // Nobody waits any more if the worker had to leave at once.
                _ = waiting.send(Ok(completed));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (_, waiting) in together {
                _ = waiting.send(Err(Arc::clone(&error))); // as above
            }
        }
    }
}

impl Success {
    fn completion(&self) -> Completion<'_> {
        Completion {
            shard_sha256: &self.stored.shard_sha256,
            index_sha256: &self.stored.index_sha256,
            molecules_ok: self.stored.molecules_ok,
            molecules_bad: self.stored.molecules_bad,
            bytes_down: self.bytes_down,
            bytes_up: self.bytes_up,
            moments: self.moments,
        }
    }
}
