//! The one `select!` of a worker: over signals, answers to its requests, heartbeats, hints, and attempts that end.
//! It owns all state; attempts and the heartbeat only send it messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::backoff::Backoff;
use common::queue::{
    ASKED_MS, Disposition, Grant, LeaseReply, Nothing, Progress, Pulse, QUARANTINED, Queue, QueueError, Wake,
    Wakes, WhyNothing, WorkerCard,
};
use common::task::{LeaseName, RunId, TaskId, WorkerId};
use rand::RngExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::attempt::{Attempt, AttemptEnd, Shared};
use crate::config::{ExitWhen, WhenQuarantined};
use crate::control::{Control, StopWhy};
use crate::failure;
use crate::gpus::Gpu;
use crate::heartbeat::{Heard, Held, chain};
use crate::patience::insist;
use crate::quarantine::{Suspicion, Vain};
use crate::redis_clock::RedisClock;
use crate::runs::{Next, Runs};
use crate::serving::{Means, OpenStore, Place, Serving, ServingError};
use crate::slots::{NoGpuFree, Slots, Taken};
use crate::watchdog::Watchdog;

/// How long to lease nothing after this machine failed a task; doubles with each further time.
const MACHINE_BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), longest: Duration::from_mins(5) };
/// How long a worker that leaves waits for Redis to note it: the last part of the time that leaving may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long at most until the dispatcher looks at its machine again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The pauses between requests that Redis did not answer.
const REDIS_BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(5) };

/// When to look again at a run that is over and could not be served here, in ms: somebody may requeue its tasks.
const OVER_WAIT_MS: u64 = 60_000;

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
}

/// What a request came to.
enum Answer {
    Served(RunId, Result<Arc<Serving>, ServingError>),
    Leased(RunId, Result<LeaseReply, QueueError>),
    Registry(Result<Vec<RunId>, QueueError>),
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
            .on_cores(shared.config.pinned_cores.clone());
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
        }
    }

    /// Works until there is a reason to leave.
    pub(crate) async fn run(mut self) -> std::io::Result<Left> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut is_told = false;
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
                    if std::mem::replace(&mut is_told, true) {
                        tracing::warn!("signalled a second time, leaving at once");
                        break Left::WorkRemains;
                    }
                    self.leave();
                }
                Some(Ok(answer)) = self.asking.join_next() => self.take(answer),
                Some(Ok((key, end))) = self.attempts.join_next() => self.ended(&key, end),
                Some(Ok((run, progress))) = self.looks.join_next() => self.looked(&run, progress),
                Some(heard) = self.heard.recv() => self.hear(heard),
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

    /// Takes the worker off the registry and off the idle lists of its runs, as far as Redis answers in time.
    /// One that leaves because it is quarantined stays in the registry, for people.
    async fn say_goodbye(&self) {
        let leaves_word = self.quarantine.is_some() && self.leave_by.is_none();
        if !leaves_word {
            self.held.show(WorkerCard::default());
        }
        let goodbye = async {
            self.ask_for_nothing().await?;
            if leaves_word {
                self.show_for_the_last_time().await
            } else {
                insist("goodbye", || self.shared.queue.hide_worker(&self.worker)).await
            }
        };
        match tokio::time::timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "the registry keeps this worker for a while");
            }
            Err(_) => tracing::debug!("the registry keeps this worker for a while"),
        }
    }

    /// Takes the worker off the idle lists of its runs.
    async fn ask_for_nothing(&self) -> Result<(), QueueError> {
        let queue = &self.shared.queue;
        for (serving, request) in self.runs.requests() {
            let (run, digest) = (&serving.run, &serving.info.digest);
            let last = insist("goodbye", || queue.lease(run, digest, &self.worker, request, 0)).await;
            match last {
                Ok(LeaseReply::Granted { grants, .. }) => self.hand_back(run, grants).await?,
                Ok(_) | Err(QueueError::NoSuchRun(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn show_for_the_last_time(&self) -> Result<(), QueueError> {
        let now_ms = insist("goodbye", || self.shared.queue.now_ms()).await?;
        let card = self.card();
        insist("goodbye", || self.shared.queue.show_worker(&self.worker, now_ms, &card)).await.map(drop)
    }

    /// Once nothing runs, a quarantined worker tells its runs that it waits for no task: a hint would be lost on it.
    async fn sign_off(&mut self) {
        let is_due = self.quarantine.as_ref().is_some_and(|quarantine| !quarantine.is_signed_off);
        if !is_due || !self.running.is_empty() || !self.asking.is_empty() || self.leave_by.is_some() {
            return;
        }
        let signed_off = tokio::time::timeout(GOODBYE, self.ask_for_nothing()).await;
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.is_signed_off = matches!(signed_off, Ok(Ok(())));
        }
    }

    /// Tasks of a request whose answer was lost are ours without our knowing, until the same request is made again.
    async fn hand_back(&self, run: &RunId, grants: Vec<Grant>) -> Result<(), QueueError> {
        for Grant { task, lease, .. } in grants {
            let release = || self.shared.queue.release(run, task, &lease, "leaving", 0);
            let released = insist("release", release).await?;
            tracing::info!(%run, task_id = %task, ?released, "task of a lost answer handed back");
        }
        Ok(())
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
            return (quiet || Instant::now() >= leave_by).then_some(Left::WorkRemains);
        }
        if !quiet {
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
        if !self.asking.is_empty() || self.quarantine.is_some() {
            return longest;
        }
        let due = self.runs.next_due(&self.slots).into_iter().chain(self.watch_due()).min();
        due.map_or(longest, |due| due.max(self.ask_at).min(longest))
    }

    /// Starts the next request, unless one is under way.
    fn ask(&mut self) {
        let asks_no_more = self.leave_by.is_some() || self.quarantine.is_some();
        if asks_no_more || !self.asking.is_empty() || Instant::now() < self.ask_at {
            return;
        }
        if self.is_disk_full() {
            self.ask_at = Instant::now() + LOOK_AGAIN;
            return;
        }
        let queue = self.shared.queue.clone();
        match self.runs.next(&self.slots) {
            Some(Next::Registry) => {
                self.asking.spawn(async move { Answer::Registry(queue.runs().await) });
            }
            Some(Next::Serve(run)) => self.ask_to_serve(run),
            Some(Next::Lease { run, digest, request, slots }) => {
                let worker = self.worker.clone();
                self.runs.asked(&run);
                self.asking.spawn(async move {
                    let reply = queue.lease(&run, &digest, &worker, request, slots.into()).await;
                    Answer::Leased(run, reply)
                });
            }
            None => {}
        }
    }

    /// When the watchdog barks next; a worker without a free slot needs none.
    fn watch_due(&self) -> Option<Instant> {
        self.slots.is_core_free().then(|| self.watchdog.due())
    }

    /// Connects anew if nothing was given for too long. Both connections: a heartbeat at the wrong server would hear that all is lost.
    fn watch(&mut self) {
        let gets_no_more = self.leave_by.is_some() || self.quarantine.is_some();
        if self.watch_due().is_none() || gets_no_more || self.away_since.is_some() {
            return;
        }
        if let Some(unfed) = self.watchdog.bark() {
            let seconds = unfed.as_secs();
            tracing::info!(seconds, "connected, and given no task for a while: connecting anew to be sure");
            self.shared.queue.reconnect();
            self.heartbeats.reconnect();
            self.runs.wake();
        }
    }

    fn ask_to_serve(&mut self, run: RunId) {
        let shared = Arc::clone(&self.shared);
        let (place, open_store) = (self.place.clone(), self.open_store);
        self.asking.spawn(async move {
            let means = Means {
                queue: &shared.queue,
                launcher: &shared.launcher,
                open_store,
                store_url: shared.config.store.as_deref(),
                path: &shared.config.path,
                servers: &shared.config.servers,
                cores: shared.config.cores,
                has_gpu: !shared.gpus.ours.is_empty(),
                place: &place,
            };
            match Serving::begin(&run, means).await {
                // What is over needs nobody who could serve it.
                Err(error) if error.is_about_this_machine() && is_over(&shared.queue, &run).await => {
                    let nothing = Nothing { why: WhyNothing::Drained, wait_ms: OVER_WAIT_MS };
                    Answer::Leased(run, Ok(LeaseReply::Nothing(nothing)))
                }
                served => Answer::Served(run, served.map(Arc::new)),
            }
        });
    }

    fn is_disk_full(&mut self) -> bool {
        let floor = self.shared.config.scratch_free_bytes_min;
        let (full, free) = match self.shared.scratch.free_bytes() {
            Ok(free) => (free < floor, free),
            Err(error) => {
                tracing::error!(%error, "the free space of the scratch disk can't be read");
                (true, 0)
            }
        };
        if full && !self.disk_full {
            tracing::warn!(
                free_bytes = free,
                floor_bytes = floor,
                "the scratch disk is nearly full, leasing nothing"
            );
        }
        self.disk_full = full;
        full
    }

    /// Takes in what a request came to.
    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Registry(Ok(runs)) => {
                self.redis_answered();
                self.runs.registered(runs);
            }
            Answer::Served(run, Ok(serving)) => {
                self.redis_answered();
                self.runs.served(&run, serving);
            }
            Answer::Served(run, Err(error)) => self.not_served(&run, error),
            Answer::Leased(run, Ok(reply)) => {
                self.redis_answered();
                self.leased(&run, reply);
            }
            Answer::Leased(run, Err(QueueError::NoSuchRun(_))) => {
                self.redis_answered();
                self.runs.gone(&run);
            }
            Answer::Leased(run, Err(error)) => {
                if error.disposition() == Disposition::GiveUp {
                    self.runs.refused(&run);
                }
                if error.is_about_one_run() {
                    tracing::warn!(%run, error = %chain(&error), "the run can't be asked for tasks, trying again later");
                    self.redis_answered();
                } else {
                    self.redis_failed(&error);
                }
            }
            Answer::Registry(Err(error)) => self.redis_failed(&error),
        }
    }

    fn not_served(&mut self, run: &RunId, error: ServingError) {
        match error {
            ServingError::Queue(QueueError::NoSuchRun(_)) => {
                self.redis_answered();
                self.runs.gone(run);
            }
            ServingError::Queue(ref queue_error) if error.may_pass() => self.redis_failed(queue_error),
            error => {
                if self.runs.is_news(run, &error) {
                    tracing::error!(%run, error = %chain(&error), hint = error.hint(), "this worker can't serve the run");
                }
                self.runs.unfit(run, error);
            }
        }
    }

    fn redis_answered(&mut self) {
        self.redis_tries = 0;
        self.away_since = None;
    }

    fn redis_failed(&mut self, error: &QueueError) {
        self.redis_tries += 1;
        self.away_since.get_or_insert_with(Instant::now);
        let pause = REDIS_BACKOFF.pause(self.redis_tries, &mut rand::rng());
        // A longer pause, after a fault of this machine, stands.
        self.ask_at = self.ask_at.max(Instant::now() + pause);
        let (tries, hint) = (self.redis_tries, error.hint());
        tracing::warn!(tries, error = %chain(error), hint, "asking for work failed, trying again");
    }

    fn leased(&mut self, run: &RunId, reply: LeaseReply) {
        match reply {
            LeaseReply::Granted { now_ms, grants } => {
                self.runs.granted(run);
                self.watchdog.fed();
                let clock = RedisClock::new(now_ms);
                self.redis_clock = Some(clock);
                for grant in grants {
                    self.start(run, grant, clock);
                }
            }
            LeaseReply::Nothing(nothing) => {
                self.runs.nothing(run, nothing.why, jittered(nothing));
            }
            LeaseReply::Stale { answered } => self.runs.stale(run, answered),
            LeaseReply::Differs => self.runs.changed(run),
        }
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
        self.running.insert(key.clone(), Running { control: control.clone(), taken: taken.clone() });
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
        self.running.remove(key);
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
                self.in_vain(&key.0, Vain { task: key.1, reason, charged: false, molecules_bad });
            }
            AttemptEnd::Failed(reason) => {
                self.in_vain(&key.0, Vain { task: key.1, reason, charged: true, molecules_bad: 0 });
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

    /// The heartbeat writes it to the registry.
    fn show_card(&self) {
        self.held.show(self.card());
    }

    /// What the registry shows.
    fn card(&self) -> WorkerCard {
        let config = &self.shared.config;
        let tasks: Vec<String> = self.running.keys().map(|(run, task, _)| format!("{run}/{task}")).collect();
        let mut fields = vec![
            ("host", self.place.host.clone()),
            ("pid", std::process::id().to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("slots", config.cores.to_string()),
            ("tasks", tasks.join(" ")),
            ("state", self.state().to_owned()),
        ];
        if !self.shared.gpus.ours.is_empty() {
            let gpus: Vec<_> = self.shared.gpus.ours.iter().map(Gpu::account).collect();
            fields.push(("gpus", gpus.join("; ")));
        }
        fields.extend(config.region.clone().map(|region| ("region", region)));
        fields.extend(config.machine_type.clone().map(|kind| ("machine_type", kind)));
        if let Some(quarantine) = &self.quarantine {
            fields.push(("quarantined_at", quarantine.since_ms.to_string()));
            fields.push(("quarantine", quarantine.why.clone()));
        }
        WorkerCard { fields }
    }

    fn state(&self) -> &'static str {
        if self.quarantine.is_some() {
            QUARANTINED
        } else if self.leave_by.is_some() {
            "leaving"
        } else if self.disk_full {
            "disk full"
        } else if self.machine_faults > 0 {
            "recovering"
        } else if self.running.is_empty() {
            "idle"
        } else {
            "working"
        }
    }
}

/// Whether a run is sealed and all its tasks are terminal; not if Redis does not tell.
async fn is_over(queue: &Queue, run: &RunId) -> bool {
    let (Ok(info), Ok(progress)) = (queue.run_info(run).await, queue.progress(run).await) else {
        return false;
    };
    info.sealed && progress.waiting + progress.pending + progress.delayed + progress.leased == 0
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// When to ask again: at most when the reply says, at least after nine tenths of that, never at once.
fn jittered(nothing: Nothing) -> Duration {
    let wait = Duration::from_millis(nothing.wait_ms.max(2));
    if nothing.why == WhyNothing::NoneAsked {
        wait
    } else {
        wait.mul_f64(rand::rng().random_range(0.9..=1.0))
    }
}
