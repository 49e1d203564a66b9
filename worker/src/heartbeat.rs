//! The loop that renews leases. It has a thread, a runtime and a connection of its own, so that no upload, no engine and no slow
//! call can keep it waiting. It decides nothing: what it hears goes to the dispatcher.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use common::queue::{Pulse, Queue, QueueError, WorkerCard};
use common::task::{LeaseName, RunId, TaskId, WorkerId};
use rand::RngExt as _;
use tokio::sync::mpsc;

/// How often a worker without leases shows itself in the registry.
const IDLE_BEAT: Duration = Duration::from_secs(15);

/// The leases that the worker holds, and what the registry shows of it; the dispatcher writes, the heartbeat reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: HashMap<RunId, RunLeases>,
    card: WorkerCard,
}

#[derive(Debug, Clone)]
struct RunLeases {
    heartbeat: Duration,
    leases: Vec<(TaskId, LeaseName)>,
}

/// What a heartbeat said of one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) lease: LeaseName,
    pub(crate) task: TaskId,
    pub(crate) run: RunId,
    pub(crate) pulse: Pulse,
}

impl Held {
    pub(crate) fn add(&self, run: &RunId, heartbeat: Duration, task: TaskId, lease: &LeaseName) {
        let mut inner = self.inner.lock().expect("no holder panics");
        let entry = inner.runs.entry(run.clone());
        let leases = &mut entry.or_insert_with(|| RunLeases { heartbeat, leases: Vec::new() }).leases;
        leases.push((task, lease.clone()));
    }

    pub(crate) fn remove(&self, run: &RunId, lease: &LeaseName, task: TaskId) {
        let mut inner = self.inner.lock().expect("no holder panics");
        if let Some(entry) = inner.runs.get_mut(run) {
            entry.leases.retain(|held| (held.0, &held.1) != (task, lease));
            if entry.leases.is_empty() {
                inner.runs.remove(run);
            }
        }
    }

    pub(crate) fn show(&self, card: WorkerCard) {
        self.inner.lock().expect("no holder panics").card = card;
    }

    fn snapshot(&self) -> (HashMap<RunId, RunLeases>, WorkerCard) {
        let inner = self.inner.lock().expect("no holder panics");
        (inner.runs.clone(), inner.card.clone())
    }
}

/// The heartbeat of one worker.
struct Heart {
    queue: Queue,
    worker: WorkerId,
    held: Held,
    heard: mpsc::UnboundedSender<Heard>,
    clock: SystemClock,
    reached_ms: u64,
}

/// Starts beating; ends when the receiver is dropped.
pub(crate) fn start(
    queue: Queue,
    worker: WorkerId,
    held: Held,
) -> io::Result<mpsc::UnboundedReceiver<Heard>> {
    let (heard, receiver) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let heart = Heart { queue, worker, held, heard, clock: SystemClock::start(), reached_ms: 0 };
    std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || runtime.block_on(heart.beat()))?;
    Ok(receiver)
}

impl Heart {
    async fn beat(mut self) {
        while !self.heard.is_closed() {
            let shortest = self.step().await;
            // Jitter only shortens: a beat never comes later than the run asks for.
            let pause = shortest.mul_f64(rand::rng().random_range(0.75..1.0));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.heard.closed() => {}
            }
        }
    }

    /// Renews everything once, and says how soon the next beat is due at the latest.
    async fn step(&mut self) -> Duration {
        let (runs, card) = self.held.snapshot();
        let mut due = IDLE_BEAT;
        for (run, RunLeases { heartbeat, leases }) in runs {
            due = due.min(heartbeat);
            let beat = self.queue.heartbeat(&run, &leases).await;
            match self.note(&run, leases.len(), beat) {
                Some(pulses) => self.tell(&run, leases, pulses),
                // A beat that failed is repeated soon: three have to fit into a lease.
                None => due = due.min(heartbeat / 4),
            }
        }
        self.show(&card).await;
        due
    }

    fn tell(&self, run: &RunId, leases: Vec<(TaskId, LeaseName)>, pulses: Vec<Pulse>) {
        for ((task, lease), pulse) in leases.into_iter().zip(pulses) {
            // A closed channel: the worker has left.
            _ = self.heard.send(Heard { lease, task, run: run.clone(), pulse });
        }
    }

    fn note(
        &mut self,
        run: &RunId,
        leases: usize,
        beat: Result<Vec<Pulse>, QueueError>,
    ) -> Option<Vec<Pulse>> {
        let now_ms = self.clock.elapsed_ms();
        match beat {
            Ok(pulses) => {
                self.reached_ms = now_ms;
                Some(pulses)
            }
            // A run that was removed: nobody holds its tasks.
            Err(QueueError::NoSuchRun(_)) => Some(vec![Pulse::Lost; leases]),
            Err(error) => {
                let unreachable_ms = now_ms - self.reached_ms;
                tracing::warn!(%run, unreachable_ms, error = %chain(&error), "heartbeat failed, the engines go on");
                None
            }
        }
    }

    async fn show(&self, card: &WorkerCard) {
        if card.fields.is_empty() {
            return;
        }
        let shown = async { self.queue.show_worker(&self.worker, self.queue.now_ms().await?, card).await };
        if let Err(error) = shown.await {
            tracing::debug!(error = %chain(&error), "the registry was not reached");
        }
    }
}

/// An error with everything behind it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
