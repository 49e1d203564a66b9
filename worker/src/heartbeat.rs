//! The loop that renews leases. It has a thread, a runtime and a connection of its own, so that no upload, no engine and no slow
//! call can keep it waiting. The runs beat side by side, so that one whose node is away costs no other its leases. It decides nothing:
//! what it hears goes to the dispatcher.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::queue::{Pulse, Queue, QueueError, WorkerCard};
use common::task::{LeaseName, RunId, TaskId, WorkerId};
use rand::RngExt as _;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
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
    card: Card,
    /// Whether the card is the first one, or the first with a task: it should not wait. Later ones may, so that short tasks cost Redis
    /// nothing.
    is_urgent: bool,
    has_worked: bool,
}

/// What a worker tells of itself, before it knows the time of Redis.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Card {
    /// Shown as they are.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Shown as times of Redis.
    pub(crate) moments: Vec<(&'static str, Instant)>,
}

impl Card {
    /// As the registry has it, by this time of Redis.
    pub(crate) fn at(&self, now_ms: u64) -> WorkerCard {
        let ago = |at: &Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let moment =
            |(name, at): &(&'static str, Instant)| (*name, now_ms.saturating_sub(ago(at)).to_string());
        let fields = self.fields.iter().cloned().chain(self.moments.iter().map(moment));
        WorkerCard { fields: fields.collect() }
    }
}

#[derive(Debug, Clone)]
struct RunLeases {
    heartbeat: Duration,
    /// When its next beat is due: never later than `heartbeat` after the last one, or after its first lease.
    due: Instant,
    /// Whether a beat is on its way; the next one waits for its answer.
    is_beating: bool,
    /// When Redis last said anything about its leases.
    answered_at: Instant,
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
            RunLeases {
                heartbeat,
                due: soon(heartbeat),
                is_beating: false,
                answered_at: Instant::now(),
                leases: Vec::new(),
            }
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

    pub(crate) fn show(&self, card: Card) {
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
        for (run, held) in inner.runs.iter_mut().filter(|(_, held)| !held.is_beating && held.due <= now) {
            held.due = soon(held.heartbeat);
            held.is_beating = true;
            taken.push((run.clone(), held.clone()));
        }
        taken
    }

    /// A run's beat was answered, or failed: then the next one comes soon, since three have to fit into a lease.
    fn beaten(&self, run: &RunId, is_answered: bool) {
        let mut inner = self.inner.lock().expect("no holder panics");
        if let Some(held) = inner.runs.get_mut(run) {
            held.is_beating = false;
            if is_answered {
                held.answered_at = Instant::now();
            } else {
                held.due = held.due.min(soon(held.heartbeat / 4));
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let inner = self.inner.lock().expect("no holder panics");
        inner.runs.values().filter(|held| !held.is_beating).map(|held| held.due).min()
    }

    fn card(&self) -> Card {
        self.inner.lock().expect("no holder panics").card.clone()
    }
}

/// The heartbeat of one worker.
struct Heart {
    queue: Queue,
    worker: WorkerId,
    held: Held,
    heard: mpsc::UnboundedSender<Heard>,
    /// The time of Redis; `None` before it was asked, and after a fault: another server may have taken over.
    redis_clock: Option<RedisClock>,
    /// What the registry shows; `None` if that is not known.
    shown: Option<Shown>,
    /// What is on its way to Redis: one beat of each run at most, and one word to the registry.
    calls: JoinSet<Came>,
    is_showing: bool,
}

/// What a call came to.
enum Came {
    Beat {
        run: RunId,
        held: RunLeases,
        answer: Result<Vec<Pulse>, QueueError>,
    },
    /// The worker let itself be seen: whether it is to leave.
    Seen(Result<bool, QueueError>),
    /// The worker showed its card at this time of Redis: whether it is to leave.
    Shown {
        card: Card,
        answer: Result<(RedisClock, bool), QueueError>,
    },
}

/// What the registry shows of the worker.
struct Shown {
    card: Card,
    written_at: Instant,
    seen_at: Instant,
}

impl Shown {
    /// Whether it need not be written again.
    fn is_still(&self, card: &Card) -> bool {
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
        redis_clock: None,
        shown: None,
        calls: JoinSet::new(),
        is_showing: false,
    };
    std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || runtime.block_on(heart.beat()))?;
    Ok(receiver)
}

impl Heart {
    async fn beat(mut self) {
        let mut show_at = Instant::now();
        while !self.heard.is_closed() {
            self.renew();
            if show_at <= Instant::now() {
                self.show();
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
                Some(came) = self.calls.join_next() => match came {
                    Ok(came) => self.take(came),
                    // A defect of ours: the dispatcher finds the channel closed.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = self.heard.closed() => {}
            }
        }
    }

    /// Has the leases of every run renewed whose beat is due.
    fn renew(&mut self) {
        let due = self.held.take_due();
        let beats = !due.is_empty();
        for (run, held) in due {
            let queue = self.queue.clone();
            self.calls.spawn(async move {
                let answer = queue.heartbeat(&run, &held.leases).await;
                Came::Beat { run, held, answer }
            });
        }
        if beats {
            // Behind the beats and before the connection sends: both go in one turn.
            self.see_if_unchanged_for(SEE_WITH_A_BEAT_AFTER);
        }
    }

    fn take(&mut self, came: Came) {
        match came {
            Came::Beat { run, held, answer } => {
                let pulses = pulses(&run, &held, answer);
                self.held.beaten(&run, pulses.is_some());
                self.tell(&run, held.leases, pulses.unwrap_or_default());
            }
            Came::Seen(answer) => {
                self.is_showing = false;
                match answer {
                    Ok(is_to_leave) => self.seen(is_to_leave),
                    Err(error) => self.forget_shown(&error),
                }
            }
            Came::Shown { card, answer } => {
                self.is_showing = false;
                match answer {
                    Ok((clock, is_to_leave)) => {
                        let now = Instant::now();
                        self.redis_clock = Some(clock);
                        self.shown = Some(Shown { card, written_at: now, seen_at: now });
                        self.seen(is_to_leave);
                    }
                    Err(error) => self.forget_shown(&error),
                }
            }
        }
    }

    fn tell(&self, run: &RunId, leases: Vec<(TaskId, LeaseName)>, pulses: Vec<Pulse>) {
        for ((task, lease), pulse) in leases.into_iter().zip(pulses) {
            // A closed channel: the worker has left.
            _ = self.heard.send(Heard::Lease { lease, task, run: run.clone(), pulse });
        }
    }

    fn show(&mut self) {
        let card = self.held.card();
        if card.fields.is_empty() || self.is_showing {
            return;
        }
        let is_shown = self.shown.as_ref().is_some_and(|shown| shown.is_still(&card));
        if is_shown {
            self.see_if_unchanged_for(SEE_AGAIN_AFTER);
        } else {
            self.put(card);
        }
    }

    /// Lets the worker be seen if its card is as the registry shows it, and was seen so long ago.
    fn see_if_unchanged_for(&mut self, long: Duration) {
        let (Some(shown), Some(clock)) = (&self.shown, self.redis_clock) else { return };
        if self.is_showing || shown.seen_at.elapsed() < long || !shown.is_still(&self.held.card()) {
            return;
        }
        self.is_showing = true;
        let (queue, worker) = (self.queue.clone(), self.worker.clone());
        self.calls.spawn(async move { Came::Seen(queue.see_worker(&worker, clock.now_ms()).await) });
    }

    fn put(&mut self, card: Card) {
        self.is_showing = true;
        let (queue, worker, clock) = (self.queue.clone(), self.worker.clone(), self.redis_clock);
        self.calls.spawn(async move {
            let show = async {
                let clock = match clock {
                    Some(clock) => clock,
                    None => RedisClock::new(queue.now_ms().await?),
                };
                let now_ms = clock.now_ms();
                Ok((clock, queue.show_worker(&worker, now_ms, &card.at(now_ms)).await?))
            };
            let answer = show.await;
            Came::Shown { card, answer }
        });
    }

    fn forget_shown(&mut self, error: &QueueError) {
        (self.redis_clock, self.shown) = (None, None);
        tracing::debug!(error = %chain(error), "the registry was not reached");
    }

    /// The worker was seen now, and heard whether it is to leave: the message that says so may have been lost.
    fn seen(&mut self, is_to_leave: bool) {
        if let Some(shown) = &mut self.shown {
            shown.seen_at = Instant::now();
        }
        if is_to_leave {
            // A closed channel: the worker has left.
            _ = self.heard.send(Heard::Drain);
        }
    }
}

/// What a beat was answered; `None` if it was not.
fn pulses(run: &RunId, held: &RunLeases, answer: Result<Vec<Pulse>, QueueError>) -> Option<Vec<Pulse>> {
    match answer {
        Ok(pulses) => Some(pulses),
        // A run that was removed: nobody holds its tasks.
        Err(QueueError::NoSuchRun(_)) => Some(vec![Pulse::Lost; held.leases.len()]),
        Err(error) => {
            let unreachable_ms = u64::try_from(held.answered_at.elapsed().as_millis()).unwrap_or(u64::MAX);
            let (said, hint) = (chain(&error), error.hint());
            tracing::warn!(%run, unreachable_ms, error = %said, hint, "heartbeat failed, the engines go on");
            None
        }
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
impl Held {
    /// Has the heartbeat's thread panic: somebody has panicked while holding the lock.
    pub(crate) fn make_its_reader_panic(&self) {
        let inner = Arc::clone(&self.inner);
        let holder = std::thread::spawn(move || {
            let _held = inner.lock();
            panic!("injected");
        });
        assert!(holder.join().is_err());
        self.sooner.notify_one();
    }
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
        // Its next beat waits for the answer, and comes sooner than usual if there was none.
        assert!(held.next_due().unwrap() > Instant::now() + Duration::from_secs(10), "that of the slow one");
        held.beaten(&quick, false);
        assert!(held.next_due().unwrap() <= Instant::now() + Duration::from_millis(250));
        held.remove(&slow, &lease, TaskId(0));
        held.remove(&quick, &lease, TaskId(0));
        assert_eq!(held.next_due(), None);
    }

    #[test]
    fn the_first_card_and_the_first_with_a_task_do_not_wait() {
        let held = Held::default();
        let mut show = |tasks: &str| {
            let fields = vec![("tasks", tasks.to_owned()), ("state", "x".to_owned())];
            held.show(Card { fields, ..Card::default() });
            held.take_urgent()
        };
        assert_eq!(
            ["", "", "r/0", "r/0", "", "r/1"].map(&mut show),
            [true, false, true, false, false, false]
        );
    }
}
