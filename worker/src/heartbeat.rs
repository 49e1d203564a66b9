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
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::redis_clock::RedisClock;

/// How often a worker shows itself in the registry.
const SHOW_EVERY: Duration = Duration::from_secs(15);
/// How often it lets itself be seen unchanged: every third time, so that a worker with nothing to tell costs Redis little and is seen
/// within [`common::queue::WORKER_GONE_MS`] all the same.
const SEE_AGAIN_AFTER: Duration = Duration::from_secs(40);
/// The same together with a beat, which makes one turn of Redis of both: so much earlier that a worker at work is never seen alone.
const SEE_WITH_A_BEAT_AFTER: Duration = Duration::from_secs(25);
/// How often it writes its card again unchanged: a fail-over may have forgotten it.
const SHOW_AGAIN_AFTER: Duration = Duration::from_mins(10);

/// The leases that the worker holds, and what the registry shows of it; the dispatcher writes, the heartbeat reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    inner: Arc<Mutex<Inner>>,
    /// A run has its first lease, so that the next beat may be due earlier, or there is a card that should be shown at once.
    sooner: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    runs: HashMap<RunId, RunLeases>,
    card: WorkerCard,
    /// Whether the card is the first one, or the first with a task: it should not wait. Later ones may, so that short tasks cost Redis
    /// nothing.
    is_urgent: bool,
    has_worked: bool,
}

#[derive(Debug, Clone)]
struct RunLeases {
    heartbeat: Duration,
    /// When its next beat is due: never later than `heartbeat` after the last one, or after its first lease.
    due: Instant,
    leases: Vec<(TaskId, LeaseName)>,
}

/// What the heartbeat heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    /// What became of a lease.
    Lease { lease: LeaseName, task: TaskId, run: RunId, pulse: Pulse },
    /// A person wants the worker to leave.
    Drain,
}

impl Held {
    pub(crate) fn add(&self, run: &RunId, heartbeat: Duration, task: TaskId, lease: &LeaseName) {
        let mut inner = self.inner.lock().expect("no holder panics");
        let entry = inner.runs.entry(run.clone()).or_insert_with(|| {
            self.sooner.notify_one();
            RunLeases { heartbeat, due: soon(heartbeat), leases: Vec::new() }
        });
        entry.leases.push((task, lease.clone()));
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
        let mut inner = self.inner.lock().expect("no holder panics");
        let is_first = inner.card.fields.is_empty() && !card.fields.is_empty();
        let works = card.fields.iter().any(|(name, value)| *name == "tasks" && !value.is_empty());
        let is_first_work = works && !inner.has_worked;
        inner.has_worked |= works;
        inner.card = card;
        if is_first || is_first_work {
            inner.is_urgent = true;
            self.sooner.notify_one();
        }
    }

    /// Whether the card should be shown at once; then no more.
    fn take_urgent(&self) -> bool {
        std::mem::take(&mut self.inner.lock().expect("no holder panics").is_urgent)
    }

    /// The leases of the runs whose beat is due, each with its run's next one put down.
    fn take_due(&self) -> Vec<(RunId, RunLeases)> {
        let now = Instant::now();
        let mut inner = self.inner.lock().expect("no holder panics");
        let mut taken = Vec::new();
        for (run, held) in inner.runs.iter_mut().filter(|(_, held)| held.due <= now) {
            held.due = soon(held.heartbeat);
            taken.push((run.clone(), held.clone()));
        }
        taken
    }

    /// Has a run's next beat come within this time.
    fn hasten(&self, run: &RunId, within: Duration) {
        let mut inner = self.inner.lock().expect("no holder panics");
        if let Some(held) = inner.runs.get_mut(run) {
            held.due = held.due.min(soon(within));
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.inner.lock().expect("no holder panics").runs.values().map(|held| held.due).min()
    }

    fn card(&self) -> WorkerCard {
        self.inner.lock().expect("no holder panics").card.clone()
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
    /// The time of Redis; `None` before it was asked, and after a fault: another server may have taken over.
    redis_clock: Option<RedisClock>,
    /// What the registry shows; `None` if that is not known.
    shown: Option<Shown>,
}

/// What the registry shows of the worker.
struct Shown {
    card: WorkerCard,
    written_at: Instant,
    seen_at: Instant,
}

impl Shown {
    /// Whether it need not be written again.
    fn is_still(&self, card: &WorkerCard) -> bool {
        self.card == *card && self.written_at.elapsed() < SHOW_AGAIN_AFTER
    }
}

/// Starts beating; ends when the receiver is dropped.
pub(crate) fn start(
    queue: Queue,
    worker: WorkerId,
    held: Held,
) -> io::Result<mpsc::UnboundedReceiver<Heard>> {
    let (heard, receiver) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let heart = Heart {
        queue,
        worker,
        held,
        heard,
        clock: SystemClock::start(),
        reached_ms: 0,
        redis_clock: None,
        shown: None,
    };
    std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || runtime.block_on(heart.beat()))?;
    Ok(receiver)
}

impl Heart {
    async fn beat(mut self) {
        let mut show_at = Instant::now();
        while !self.heard.is_closed() {
            self.renew().await;
            if show_at <= Instant::now() {
                self.show().await;
                show_at = soon(SHOW_EVERY);
            }
            let due = self.held.next_due().map_or(show_at, |due| due.min(show_at));
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.held.sooner.notified() => {
                    if self.held.take_urgent() || self.shown.is_none() {
                        show_at = Instant::now();
                    }
                }
                () = self.heard.closed() => {}
            }
        }
    }

    /// Renews the leases of every run whose beat is due.
    async fn renew(&mut self) {
        for (run, RunLeases { heartbeat, leases, .. }) in self.held.take_due() {
            let seen = self.see_if_unchanged_for(SEE_WITH_A_BEAT_AFTER);
            let (beat, seen) = tokio::join!(self.queue.heartbeat(&run, &leases), seen);
            self.note_seen(seen);
            match self.note(&run, leases.len(), beat) {
                Some(pulses) => self.tell(&run, leases, pulses),
                // A beat that failed is repeated soon: three have to fit into a lease.
                None => self.held.hasten(&run, heartbeat / 4),
            }
        }
    }

    fn tell(&self, run: &RunId, leases: Vec<(TaskId, LeaseName)>, pulses: Vec<Pulse>) {
        for ((task, lease), pulse) in leases.into_iter().zip(pulses) {
            // A closed channel: the worker has left.
            _ = self.heard.send(Heard::Lease { lease, task, run: run.clone(), pulse });
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
                let (said, hint) = (chain(&error), error.hint());
                tracing::warn!(%run, unreachable_ms, error = %said, hint, "heartbeat failed, the engines go on");
                None
            }
        }
    }

    async fn show(&mut self) {
        let card = self.held.card();
        if card.fields.is_empty() {
            return;
        }
        let is_shown = self.shown.as_ref().is_some_and(|shown| shown.is_still(&card));
        if is_shown {
            let seen = self.see_if_unchanged_for(SEE_AGAIN_AFTER).await;
            self.note_seen(seen);
            return;
        }
        match self.put(card).await {
            Ok(shown) => self.shown = Some(shown),
            Err(error) => self.forget_shown(&error),
        }
    }

    /// Lets the worker be seen if its card is as the registry shows it, and was seen so long ago. Says when, if it did.
    async fn see_if_unchanged_for(&self, long: Duration) -> Option<Result<Instant, QueueError>> {
        let shown = self.shown.as_ref()?;
        let clock = self.redis_clock?;
        if shown.seen_at.elapsed() < long || !shown.is_still(&self.held.card()) {
            return None;
        }
        let seen = self.queue.see_worker(&self.worker, clock.now_ms()).await;
        Some(seen.map(|is_to_leave| self.seen(is_to_leave)))
    }

    fn note_seen(&mut self, seen: Option<Result<Instant, QueueError>>) {
        match (seen, &mut self.shown) {
            (Some(Ok(at)), Some(shown)) => shown.seen_at = at,
            (Some(Err(error)), _) => self.forget_shown(&error),
            _ => {}
        }
    }

    fn forget_shown(&mut self, error: &QueueError) {
        (self.redis_clock, self.shown) = (None, None);
        tracing::debug!(error = %chain(error), "the registry was not reached");
    }

    async fn put(&mut self, card: WorkerCard) -> Result<Shown, QueueError> {
        let clock = match self.redis_clock {
            Some(clock) => clock,
            None => RedisClock::new(self.queue.now_ms().await?),
        };
        self.redis_clock = Some(clock);
        let now_ms = clock.now_ms();
        let mut whole = card.clone();
        whole.fields.push(("started_at", now_ms.saturating_sub(self.clock.elapsed_ms()).to_string()));
        let is_to_leave = self.queue.show_worker(&self.worker, now_ms, &whole).await?;
        Ok(Shown { card, written_at: Instant::now(), seen_at: self.seen(is_to_leave) })
    }

    /// The worker was seen now, and heard whether it is to leave: the message that says so may have been lost.
    fn seen(&self, is_to_leave: bool) -> Instant {
        if is_to_leave {
            // A closed channel: the worker has left.
            _ = self.heard.send(Heard::Drain);
        }
        Instant::now()
    }
}

/// A moment within this time from now. Jitter only shortens: a beat never comes later than the run asks for.
fn soon(within: Duration) -> Instant {
    Instant::now() + within.mul_f64(rand::rng().random_range(0.9..1.0))
}

/// An error with everything behind it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some libraries repeat their cause.
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_run_beats_at_its_own_pace_from_its_first_lease_on() {
        let held = Held::default();
        let (slow, quick): (RunId, RunId) = ("slow".parse().unwrap(), "quick".parse().unwrap());
        let lease: LeaseName = "1.w.1".parse().unwrap();
        let start = Instant::now();
        held.add(&slow, Duration::from_secs(15), TaskId(0), &lease);
        held.add(&quick, Duration::from_secs(1), TaskId(0), &lease);
        assert!(held.take_due().is_empty());
        assert!(held.next_due().unwrap() <= start + Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        let due: Vec<RunId> = held.take_due().into_iter().map(|(run, _)| run).collect();
        assert_eq!(due, std::slice::from_ref(&quick));
        held.hasten(&slow, Duration::from_millis(10));
        assert!(held.next_due().unwrap() <= Instant::now() + Duration::from_millis(10));
        held.remove(&slow, &lease, TaskId(0));
        held.remove(&quick, &lease, TaskId(0));
        assert_eq!(held.next_due(), None);
    }

    #[test]
    fn the_first_card_and_the_first_with_a_task_do_not_wait() {
        let held = Held::default();
        let mut show = |tasks: &str| {
            held.show(WorkerCard { fields: vec![("tasks", tasks.to_owned()), ("state", "x".to_owned())] });
            held.take_urgent()
        };
        assert_eq!(
            ["", "", "r/0", "r/0", "", "r/1"].map(&mut show),
            [true, false, true, false, false, false]
        );
    }
}
