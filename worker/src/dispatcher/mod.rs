//! The one `select!` of a worker: over signals, answers to its requests, heartbeats, hints, and attempts that end.
//! It owns all state; attempts and the heartbeat only send it messages.

mod asking;
#[cfg(test)]
mod broken;
mod card;
mod farewell;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::backoff::Backoff;
use common::queue::{ASKED_MS, Grant, Progress, Pulse, Queue, QueueError, Wake, Wakes};
use common::task::{LeaseName, RunId, TaskId, WorkerId};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use self::asking::Answer;
use crate::attempt::{Attempt, AttemptEnd, Shared};
use crate::config::{ExitWhen, WhenQuarantined};
use crate::control::{Control, StopWhy};
use crate::failure;
use crate::heartbeat::{Heard, Held};
use crate::quarantine::{Suspicion, Vain};
use crate::redis_clock::RedisClock;
use crate::runs::Runs;
use crate::serving::{OpenStore, Place, ServingError};
use crate::slots::{NoGpuFree, Slots, Taken};
use crate::watchdog::Watchdog;

/// How long to lease nothing after this machine failed a task; doubles with each further time.
const MACHINE_BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), longest: Duration::from_mins(5) };
/// How long a worker that leaves waits for Redis to note it: the last part of the time that leaving may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// A second signal so soon is the same wish: `timeout` signals its program, and then the group in which that is.
const SAME_WISH: Duration = Duration::from_secs(1);
/// How long at most until the dispatcher looks at its machine again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Why a worker left.
#[derive(Debug)]
pub(crate) enum Left {
    /// Its runs are drained, or empty if it was to leave then.
    Done,
    /// It was told to, or Redis was away too long; there may be work remaining.
    WorkRemains,
    /// It can serve none of the runs that it was started for.
    Unfit(ServingError),
}

/// The names of one attempt.
type Key = (RunId, TaskId, LeaseName);

#[derive(Debug)]
struct Running {
    control: Control,
    taken: Taken,
    /// The task that stands for what its own is a part of.
    first_part: TaskId,
}

/// The state of a worker.
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    worker: WorkerId,
    place: Place,
    open_store: OpenStore,
    held: Held,
    heard: mpsc::UnboundedReceiver<Heard>,
    wakes: Wakes,
    /// The heartbeat's own way to Redis.
    heartbeats: Queue,
    /// That this machine is about to be taken away.
    notices: mpsc::Receiver<String>,
    runs: Runs,
    slots: Slots,
    running: HashMap<Key, Running>,
    attempts: JoinSet<(Key, AttemptEnd)>,
    /// The request that is under way; there is one at most.
    asking: JoinSet<Answer>,
    /// The one that is made again since it got no answer; there is one at most.
    asking_again: JoinSet<Answer>,
    /// Nothing is asked before this.
    ask_at: Instant,
    /// When the worker leaves whatever still runs; `None` until it is told to leave.
    leave_by: Option<Instant>,
    redis_tries: u32,
    /// Since when Redis has not answered; `None` if its last answer came.
    away_since: Option<Instant>,
    machine_faults: u32,
    disk_full: bool,
    watchdog: Watchdog,
    suspicion: Suspicion,
    /// Looks at the counters of runs whose attempts come to nothing here.
    looks: JoinSet<(RunId, Result<Progress, QueueError>)>,
    /// The time of Redis; `None` before the first task was given.
    redis_clock: Option<RedisClock>,
    quarantine: Option<Quarantine>,
    /// What of this worker has ended that must not: it leaves.
    broken: Option<&'static str>,
}

/// That this worker leases no more.
#[derive(Debug)]
struct Quarantine {
    why: String,
    /// Since when, Redis time in ms.
    since_ms: u64,
    /// Whether its runs know that it waits for no task.
    is_signed_off: bool,
}

/// What a dispatcher is made of.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: WorkerId,
    pub(crate) place: Place,
    pub(crate) open_store: OpenStore,
    pub(crate) held: Held,
    pub(crate) heard: mpsc::UnboundedReceiver<Heard>,
    pub(crate) wakes: Wakes,
    pub(crate) heartbeats: Queue,
    pub(crate) notices: mpsc::Receiver<String>,
}

impl Dispatcher {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { shared, worker, place, open_store, held, heard, wakes, heartbeats, notices } = parts;
        let runs = Runs::new(&shared.config.runs);
        let slots = Slots::new(shared.config.cores, shared.gpus.ours.len(), shared.config.tasks_per_gpu)
            .on_cores(shared.cores.pinned.clone());
        let watchdog = Watchdog::new(shared.config.unfed_max);
        let suspicion = Suspicion::new(shared.config.quarantine_after);
        Self {
            shared,
            worker,
            place,
            open_store,
            held,
            heard,
            wakes,
            heartbeats,
            notices,
            runs,
            slots,
            running: HashMap::new(),
            attempts: JoinSet::new(),
            asking: JoinSet::new(),
            asking_again: JoinSet::new(),
            ask_at: Instant::now(),
            leave_by: None,
            redis_tries: 0,
            away_since: None,
            machine_faults: 0,
            disk_full: false,
            watchdog,
            suspicion,
            looks: JoinSet::new(),
            redis_clock: None,
            quarantine: None,
            broken: None,
        }
    }

    /// Works until there is a reason to leave.
    pub(crate) async fn run(mut self) -> std::io::Result<Left> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut told_at = None;
        let left = loop {
            self.show_card();
            if let Some(left) = self.reason_to_leave() {
                break left;
            }
            self.watch();
            self.sign_off().await;
            self.ask();
            let deadline = self.next_deadline();
            tokio::select! {
                () = either(&mut terminate, &mut interrupt) => {
                    // A machine that goes gives notice and then signals: that is one wish, and two signals are a hurry.
                    match told_at {
                        None => {
                            told_at = Some(Instant::now());
                            self.leave();
                        }
                        Some(at) if at.elapsed() < SAME_WISH => {}
                        Some(_) => {
                            tracing::warn!("signalled a second time, leaving at once");
                            break Left::WorkRemains;
                        }
                    }
                }
                Some(Ok(answer)) = self.asking.join_next() => self.take(answer),
                Some(Ok(answer)) = self.asking_again.join_next() => self.take(answer),
                Some(Ok((key, end))) = self.attempts.join_next() => self.ended(&key, end),
                Some(Ok((run, progress))) = self.looks.join_next() => self.looked(&run, progress),
                heard = self.heard.recv(), if self.broken.is_none() => match heard {
                    Some(heard) => self.hear(heard),
                    None => self.breaks("the heartbeat"),
                },
                () = self.shared.completions.ended(), if self.broken.is_none() => {
                    self.breaks("the recorder of successes");
                }
                Some(notice) = self.notices.recv(), if self.leave_by.is_none() => {
                    tracing::warn!(notice, "this machine is about to go");
                    self.leave();
                }
                wake = self.wakes.next(), if self.leave_by.is_none() => self.woken(&wake),
                () = tokio::time::sleep_until(deadline) => {}
            }
        };
        self.say_goodbye().await;
        Ok(left)
    }

    /// A part of this worker has ended by a defect of ours. Without heartbeats the leases would lapse one after another, and without
    /// records no task would end: what runs is handed back while the leases last, and whoever started the worker starts it anew.
    fn breaks(&mut self, part: &'static str) {
        self.broken = Some(part);
        tracing::error!(
            part,
            hint = "the log says above where it panicked: please report it",
            "a part of this worker has ended, leaving"
        );
        if self.leave_by.is_none() {
            self.leave();
        }
    }

    fn leave(&mut self) {
        if self.leave_by.is_some() {
            tracing::info!("told to leave again, leaving");
            return;
        }
        let leave_max = self.shared.config.leave_max;
        tracing::info!(
            attempts = self.running.len(),
            seconds_max = leave_max.as_secs(),
            "told to leave: leasing nothing more, handing back what runs"
        );
        let by = Instant::now() + leave_max.saturating_sub(GOODBYE);
        self.leave_by = Some(by);
        for running in self.running.values() {
            running.control.leave(by);
        }
    }

    fn reason_to_leave(&mut self) -> Option<Left> {
        let quiet = self.running.is_empty() && self.asking.is_empty();
        if let Some(leave_by) = self.leave_by {
            // The goodbye makes once more what got no answer.
            return (quiet || Instant::now() >= leave_by).then_some(Left::WorkRemains);
        }
        if !quiet || !self.asking_again.is_empty() {
            return None;
        }
        if self.quarantine.is_some() {
            return (self.shared.config.when_quarantined == WhenQuarantined::Leave)
                .then_some(Left::WorkRemains);
        }
        let done = match self.shared.config.exit_when {
            ExitWhen::Drained => self.runs.all_drained(),
            ExitWhen::Empty => self.runs.all_empty(),
            ExitWhen::Never => false,
        };
        if done || self.runs.all_unfit() {
            return Some(match self.runs.take_unfit() {
                None => Left::Done,
                Some(error) if self.runs.is_told() => Left::Unfit(error),
                Some(_) => Left::WorkRemains,
            });
        }
        let away = self.away_since?.elapsed();
        let unreachable = away > self.shared.config.unreachable_max;
        if unreachable {
            tracing::error!(seconds = away.as_secs(), "Redis was away too long and nothing runs, leaving");
        }
        unreachable.then_some(Left::WorkRemains)
    }

    /// When something is due although nothing happens.
    fn next_deadline(&self) -> Instant {
        let longest = Instant::now() + LOOK_AGAIN;
        if let Some(leave_by) = self.leave_by {
            return leave_by;
        }
        if self.quarantine.is_some() {
            return longest;
        }
        let in_turn = || self.runs.next_due(&self.slots).into_iter().chain(self.watch_due()).min();
        let in_turn = if self.asking.is_empty() { in_turn() } else { None };
        let again = if self.asking_again.is_empty() { self.runs.again_due() } else { None };
        in_turn.into_iter().chain(again).min().map_or(longest, |due| due.max(self.ask_at).min(longest))
    }

    fn start(&mut self, run: &RunId, grant: Grant, clock: RedisClock) {
        let Some(serving) = self.runs.serving(run) else { return };
        let key = (run.clone(), grant.task, grant.lease.clone());
        if self.running.contains_key(&key) {
            return; // the answer to a repeated request: we have it already
        }
        let control = Control::new();
        if let Some(by) = self.leave_by {
            control.leave(by);
        } else if self.quarantine.is_some() {
            control.stop(StopWhy::Quarantined);
        }
        let taken = self.slots.take(serving.need()).unwrap_or_else(|NoGpuFree| {
            control.stop(StopWhy::NoGpu);
            Taken::default()
        });
        self.held.add(run, serving.heartbeat(), grant.task, &grant.lease);
        let first_part = serving.info.spec.engine.first_part(grant.task);
        let running = Running { control: control.clone(), taken: taken.clone(), first_part };
        self.running.insert(key.clone(), running);
        let span = tracing::info_span!(
            "attempt",
            %run,
            task_id = %grant.task,
            attempt = %grant.lease,
            engine = serving.info.spec.engine.name()
        );
        let attempt = Attempt::new(Arc::clone(&self.shared), serving, (grant, taken), clock, control);
        let work = tokio::spawn(attempt.work().instrument(span));
        // A panic is a defect of ours; the lease lapses then, and somebody else gets the task.
        self.attempts.spawn(async move { (key, work.await.unwrap_or(AttemptEnd::MachineFault)) });
    }

    fn ended(&mut self, key: &Key, end: AttemptEnd) {
        let first_part = self.running.remove(key).map_or(key.1, |running| running.first_part);
        self.slots.settle(self.running.values().map(|running| &running.taken));
        self.held.remove(&key.0, &key.2, key.1);
        match end {
            AttemptEnd::Succeeded => {
                self.machine_faults = 0;
                self.suspicion.clear();
                self.runs.wake_one(&key.0);
            }
            AttemptEnd::AllBad(molecules_bad) => {
                let reason = failure::ALL_BAD.to_owned();
                let vain = Vain { task: key.1, first_part, reason, charged: false, molecules_bad };
                self.in_vain(&key.0, vain);
            }
            AttemptEnd::Failed(reason) => {
                let vain = Vain { task: key.1, first_part, reason, charged: true, molecules_bad: 0 };
                self.in_vain(&key.0, vain);
            }
            AttemptEnd::Stopped => self.runs.wake_one(&key.0),
            AttemptEnd::MachineFault => {
                // Attempts side by side end by the same fault: it counts once.
                if self.machine_faults == 0 || self.ask_at <= Instant::now() {
                    self.machine_faults += 1;
                }
                let pause = MACHINE_BACKOFF.ceiling(self.machine_faults);
                tracing::warn!(
                    seconds = pause.as_secs(),
                    "leasing nothing for a while after a fault of this machine"
                );
                self.ask_at = Instant::now() + pause;
            }
            // The machine is well, and may work for other runs.
            AttemptEnd::ServerAway => self.runs.doubt(&key.0),
        }
    }

    /// An attempt came to nothing: is it the task, or this machine?
    fn in_vain(&mut self, run: &RunId, vain: Vain) {
        self.machine_faults = 0;
        self.runs.wake_one(run);
        if self.quarantine.is_none() && self.suspicion.note(run, vain) {
            let (queue, run) = (self.shared.queue.clone(), run.clone());
            self.looks.spawn(async move {
                let progress = queue.progress(&run).await;
                (run, progress)
            });
        }
    }

    fn looked(&mut self, run: &RunId, progress: Result<Progress, QueueError>) {
        // The next attempt that comes to nothing is another chance to look. A success of this worker may be among those counted.
        let Ok(progress) = progress else { return };
        if self.running.values().any(|running| running.control.is_recording()) || self.quarantine.is_some() {
            return;
        }
        if let Some(why) = self.suspicion.judge(run, &progress) {
            self.quarantine(why);
        }
    }

    fn quarantine(&mut self, why: String) {
        tracing::error!(
            %why, attempts = self.running.len(), when_quarantined = ?self.shared.config.when_quarantined,
            hint = "`worker doctor` looks at this machine; a worker that is started again begins anew",
            "quarantined: leasing nothing more, handing back what runs"
        );
        let since_ms = self.redis_clock.map_or(0, |clock| clock.now_ms());
        self.quarantine = Some(Quarantine { why, since_ms, is_signed_off: false });
        for running in self.running.values() {
            running.control.stop(StopWhy::Quarantined);
        }
    }

    fn hear(&mut self, heard: Heard) {
        let Heard::Lease { lease, task, run, pulse } = heard else {
            // The note stands until the worker has left.
            if self.leave_by.is_none() {
                self.leave();
            }
            return;
        };
        let Some(running) = self.running.get(&(run, task, lease)) else { return };
        match pulse {
            Pulse::Held => {}
            Pulse::Unheld => {
                tracing::warn!(%task, "the lease lapsed and nobody has taken the task: going on");
            }
            Pulse::Lost => running.control.stop(StopWhy::Lost),
            Pulse::Cancelled => running.control.stop(StopWhy::Cancelled),
        }
    }

    fn woken(&mut self, wake: &Wake) {
        tracing::debug!(?wake, "woken");
        match wake {
            Wake::Work => self.runs.wake(),
            Wake::Drain => self.leave(),
            Wake::Follow { run, task } => {
                let followed = self.running.iter().filter(|((r, t, _), _)| (r, t) == (run, task));
                for (_, running) in followed {
                    running.control.follow(Duration::from_millis(ASKED_MS));
                }
            }
        }
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
