//! Records successes. Those of a run that come while a call about it is on its way go together in the next one, so that a worker with
//! many short tasks makes few calls, and one with long ones waits for nobody; a run whose node is away holds up no other. It decides
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;

use common::queue::{Completed, Completion, Queue, QueueError};
use common::task::{LeaseName, Moments, RunId, TaskId};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use crate::patience::insist;
use crate::upload::Stored;

/// Successes per call: Redis is held for some milliseconds.
const TOGETHER_MAX: usize = 100;

/// What became of a success.
pub(crate) type Recorded = Result<Completed, NotRecorded>;

/// Why a success could not be recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NotRecorded {
    /// The error of all that went together.
    #[error("the queue did not take it")]
    Queue(#[source] Arc<QueueError>),
    /// A defect of ours; the dispatcher leaves because of it.
    #[error("the part of this worker that records successes has ended")]
    NoRecorder,
}

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
        Self::recorded_by(|inbox| record(queue, inbox))
    }

    fn recorded_by<F>(record: impl FnOnce(mpsc::UnboundedReceiver<Waiting>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, inbox) = mpsc::unbounded_channel();
        tokio::spawn(record(inbox));
        Self { sender }
    }

    /// Waits until nobody records any more, which is a defect while there is somebody who waits for it.
    pub(crate) async fn ended(&self) {
        self.sender.closed().await;
    }

    /// Records a success; never gives up while Redis is away.
    pub(crate) async fn add(&self, success: Success) -> Recorded {
        let (answer, answered) = oneshot::channel();
        if self.sender.send((success, answer)).is_err() {
            return Err(NotRecorded::NoRecorder);
        }
        answered.await.unwrap_or(Err(NotRecorded::NoRecorder))
    }
}

/// What is to be recorded of one run.
#[derive(Debug, Default)]
struct Line {
    /// Whether a call is on its way; what comes meanwhile goes into the next one.
    is_busy: bool,
    waiting: Vec<Waiting>,
}

/// Records whatever comes, until nobody is left to send anything.
async fn record(queue: Queue, mut inbox: mpsc::UnboundedReceiver<Waiting>) {
    let mut lines: HashMap<RunId, Line> = HashMap::new();
    let mut calls = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(first) = inbox.recv() => {
                let others = std::iter::from_fn(|| inbox.try_recv().ok());
                for new in std::iter::once(first).chain(others) {
                    lines.entry(new.0.run.clone()).or_default().waiting.push(new);
                }
            }
            Some(run) = calls.next() => {
                lines.entry(run).or_default().is_busy = false;
            }
            else => return,
        }
        for (run, line) in lines.iter_mut().filter(|(_, line)| !line.is_busy && !line.waiting.is_empty()) {
            line.is_busy = true;
            let together = line.waiting.drain(..line.waiting.len().min(TOGETHER_MAX)).collect();
            calls.push(record_together(&queue, run.clone(), together));
        }
        lines.retain(|_, line| line.is_busy);
    }
}

/// Records successes of one run in one call, and says of which.
async fn record_together(queue: &Queue, run: RunId, together: Vec<Waiting>) -> RunId {
    let completions: Vec<Completion<'_>> = together.iter().map(|(success, _)| success.completion()).collect();
    let successes: Vec<_> = together
        .iter()
        .zip(&completions)
        .map(|((success, _), completion)| (success.task, &success.lease, completion))
        .collect();
    tracing::debug!(%run, successes = together.len(), "recording");
    match insist("complete", || queue.complete_all(&run, &successes)).await {
        Ok(answers) => {
            for ((_, waiting), completed) in together.into_iter().zip(answers) {
                // Nobody waits any more if the worker had to leave at once.
                _ = waiting.send(Ok(completed));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (_, waiting) in together {
                _ = waiting.send(Err(NotRecorded::Queue(Arc::clone(&error)))); // as above
            }
        }
    }
    run
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

#[cfg(test)]
impl Completions {
    /// With a recorder that panics over the first success that it gets, or at once.
    pub(crate) fn that_panic(at_once: bool) -> Self {
        Self::recorded_by(async move |mut inbox| {
            let first = if at_once { None } else { inbox.recv().await };
            panic!("injected over {first:?}");
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success() -> Success {
        Success {
            run: "r".parse().unwrap(),
            task: TaskId(0),
            lease: "1.w.1".parse().unwrap(),
            stored: Stored {
                shard_sha256: String::new(),
                index_sha256: String::new(),
                molecules_ok: 1,
                molecules_bad: 0,
                has_good: true,
            },
            bytes_down: 0,
            bytes_up: 0,
            moments: Moments::default(),
        }
    }

    #[tokio::test]
    async fn a_success_whose_recorder_has_ended_hears_so() {
        for at_once in [true, false] {
            let completions = Completions::that_panic(at_once);
            let first = completions.add(success()).await;
            assert!(matches!(first, Err(NotRecorded::NoRecorder)), "{at_once}: {first:?}");
            completions.ended().await;
            assert!(matches!(completions.add(success()).await, Err(NotRecorded::NoRecorder)));
        }
    }
}
