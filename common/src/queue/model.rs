//! The whole protocol as a pure reference model: what the scripts must do, without Redis and without a clock. The tests run it beside
//! the scripts and compare replies and states after every step. Nothing but tests uses it, and it must never call a script.
//!
//! Time is passed in as `now_ms`; [`Model::pass`] and [`Model::clock_ms`] move it by hand. The verbs and their replies are those of
//! [`Queue`](super::Queue).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Adoption, Bundle, Charge, Checkpoint, Completed, Completion, Failed, Failure, Fate, Grant, HOLD_MAX_MS,
    Histogram, Kept, LeaseReply, Nothing, Pulse, Released, WhyNothing,
};
use crate::task::{Ending, LeaseName, Limits, Molecule, Phase, State, TaskId, WorkerId, bucket_of};

/// Tasks that one lease call reclaims, and promotes, at most.
const BOUND: usize = 100;
/// Tasks that one lease call gives at most.
const GRANTS_MAX: u64 = 1_000;
/// Pieces of live output that are kept.
const PIECES_MAX: usize = 64;
/// Bundles of a task that are kept.
const BUNDLES_MAX: usize = 2;
/// How old the last transition into a terminal state must be before a run is drained, in ms.
const SETTLE_MS: u64 = 5_000;
/// How often all idle workers together ask at most, in calls a second.
const IDLE_CALLS: u64 = 300;
/// How long an idle worker waits at most, in ms, however large the fleet.
const IDLE_WAIT_MAX_MS: u64 = 45_000;
/// How many idle workers ask as soon as there may be work.
const EARLY_WORKERS: u64 = 64;
/// None of them asks before this, in ms, because a lease expires.
const EARLY_MS: u64 = 250;
/// Idle workers that one call strikes off at most.
const WAKES_MAX: usize = 1_000;
/// Steps of the times of the last call of idle workers, in ms; who did not call for a whole step is gone.
const IDLE_STEP_MS: u64 = 300_000;

/// A task.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the one of that name in docs/protocol.md")]
pub struct Task {
    pub state: State,
    pub lease: Option<LeaseName>,
    pub ending: Option<Ending>,
    pub former: Vec<(LeaseName, Ending)>,
    pub failures: u64,
    pub lapses: u64,
    pub releases: u64,
    pub reason: Option<String>,
    pub queued_at: Option<u64>,
    pub input: Vec<Molecule>,
    pub tail: Option<String>,
    pub checkpoint: Checkpoint,
    pub success: Option<Success>,
}

/// What is recorded of a success.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the one of that name in docs/protocol.md")]
pub struct Success {
    pub shard_sha256: String,
    pub index_sha256: String,
    pub molecules_ok: u64,
    pub molecules_bad: u64,
    /// Not of an adopted result.
    pub bytes: Option<(u64, u64)>,
    /// Not of an adopted result.
    pub timings_ms: Option<String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is the one of that name in docs/protocol.md")]
pub struct Model {
    pub limits: Limits,
    /// Tasks of a group, from 2, in a run of groups.
    pub group_tasks: Option<usize>,
    pub pushed_at: u64,
    pub paused: Option<String>,
    pub sealed: bool,
    pub clock_ms: u64,
    pub ran_at: Option<u64>,
    pub last_terminal_at: Option<u64>,
    pub tasks: Vec<Task>,
    pub pending: VecDeque<u64>,
    pub delayed: BTreeSet<(u64, String)>,
    pub leases: BTreeSet<(u64, String)>,
    pub dead: Vec<u64>,
    pub grants: BTreeMap<WorkerId, (u64, Vec<u64>)>,
    pub idle: BTreeSet<(u64, WorkerId)>,
    pub stats: BTreeMap<Phase, Histogram>,
    /// The live output, each piece as the fields and values of its entry, joined by spaces.
    pub live: VecDeque<String>,
    /// Workers that hear their channel.
    pub listening: BTreeSet<WorkerId>,
    /// The transitions so far, as the fields and values of their entries in the stream, joined by spaces. A test may take them.
    pub events: Vec<String>,
    /// Workers that were told, and heard, that there may be work, in this order. A test may take them.
    pub told: Vec<WorkerId>,
}

/// Where a task goes.
enum Place {
    Head,
    Tail,
    /// Delayed until a time, leased until an expiry.
    At(u64),
    Nowhere,
}

impl Model {
    /// A run without tasks.
    pub fn new(limits: Limits, pushed_at: u64) -> Self {
        Self {
            limits,
            group_tasks: None,
            pushed_at,
            paused: None,
            sealed: false,
            clock_ms: 0,
            ran_at: None,
            last_terminal_at: None,
            tasks: Vec::new(),
            pending: VecDeque::new(),
            delayed: BTreeSet::new(),
            leases: BTreeSet::new(),
            dead: Vec::new(),
            grants: BTreeMap::new(),
            idle: BTreeSet::new(),
            stats: BTreeMap::new(),
            live: VecDeque::new(),
            listening: BTreeSet::new(),
            events: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Lets time pass for everything that is plain time: as if each recorded moment had been this much earlier.
    pub fn pass(&mut self, ms: i64) {
        let earlier = |at: u64| at.saturating_add_signed(-ms);
        self.ran_at = self.ran_at.map(earlier);
        self.last_terminal_at = self.last_terminal_at.map(earlier);
        self.delayed = self.delayed.iter().map(|(at, id)| (earlier(*at), id.clone())).collect();
        self.idle = self.idle.iter().map(|(at, worker)| (earlier(*at), worker.clone())).collect();
    }

    /// How many tasks are in a state.
    pub fn count(&self, state: State) -> usize {
        self.tasks.iter().filter(|task| task.state == state).count()
    }

    /// Appends tasks from `first` on, whole groups only, and returns the total.
    pub fn push(&mut self, first: u64, inputs: &[Vec<Molecule>]) -> u64 {
        let total = self.tasks.len() as u64;
        let known = usize::try_from(total.saturating_sub(first)).unwrap_or(usize::MAX);
        let beyond = (at(first) + inputs.len()) % self.group_tasks.unwrap_or(1);
        let inputs = &inputs[..inputs.len().saturating_sub(beyond)];
        if first > total || self.sealed || known >= inputs.len() {
            return total;
        }
        let mut pending = 0;
        for input in &inputs[known..] {
            let id = self.tasks.len();
            let state = if self.is_last(id) { State::Waiting } else { State::Pending };
            if state == State::Pending {
                self.pending.push_back(id as u64);
                pending += 1;
            }
            self.tasks.push(Task {
                state,
                lease: None,
                ending: None,
                former: Vec::new(),
                failures: 0,
                lapses: 0,
                releases: 0,
                reason: None,
                queued_at: None,
                input: input.clone(),
                tail: None,
                checkpoint: Checkpoint::default(),
                success: None,
            });
        }
        let pushed = inputs.len() - known;
        self.event("push", total, &format!(" tasks {pushed}"));
        self.wake(pending);
        self.tasks.len() as u64
    }

    /// Seals the run if it has all tasks, and says whether it had.
    pub fn seal(&mut self, tasks: u64) -> bool {
        let is_whole = self.tasks.len() as u64 == tasks;
        self.sealed |= is_whole;
        is_whole
    }

    /// Pauses, and says why; `None` resumes.
    pub fn set_paused(&mut self, why: Option<&str>) {
        self.paused = why.map(str::to_owned);
        self.events.push(format!("verb set field paused value {}", why.unwrap_or("")));
        if why.is_none() {
            self.wake(self.pending.len());
        }
    }

    /// Sets the cap.
    pub fn set_parallelism(&mut self, leases: u64) {
        self.limits.parallelism = leases;
        self.events.push(format!("verb set field parallelism value {leases}"));
        self.wake(self.pending.len());
    }

    /// Clock, repeat, reclaim, promote; then paused, cap, empty; then grants.
    pub fn lease(&mut self, worker: &WorkerId, request: u64, slots: u64, now_ms: u64) -> LeaseReply {
        self.tick(now_ms);
        if let Some(reply) = self.repeat(worker, request, now_ms) {
            return reply;
        }
        self.reclaim(now_ms);
        self.promote(now_ms);
        let room = match self.limits.parallelism {
            0 => slots,
            cap => slots.min(cap.saturating_sub(self.leases.len() as u64)),
        };
        let (why, soon) = match () {
            () if slots == 0 => (WhyNothing::NoneAsked, None),
            () if self.paused.is_some() => (WhyNothing::Paused, None),
            () if room == 0 => (WhyNothing::Cap, Some(self.until_expiry())),
            () if self.pending.is_empty() => self.why_empty(now_ms),
            () => return self.give(worker, request, (slots, room), now_ms),
        };
        self.set_idle(worker, slots > 0, now_ms);
        self.idle
            .retain(|(called, _)| slots == 0 || *called >= idle_step(now_ms).saturating_sub(IDLE_STEP_MS));
        LeaseReply::Nothing(Nothing { why, wait_ms: self.wait(soon, slots, now_ms) })
    }

    /// How long a worker waits before it asks again at most, in a fleet that is not large.
    fn longest_wait(&self) -> u64 {
        (self.limits.lease_ms / 12).clamp(1, SETTLE_MS)
    }

    /// When the next lease expires, in ms from now.
    fn until_expiry(&self) -> u64 {
        let next = self.leases.iter().map(|(expiry, _)| *expiry).find(|expiry| *expiry > self.clock_ms);
        next.map_or(self.longest_wait(), |expiry| EARLY_MS.max(expiry - self.clock_ms + 1))
    }

    /// How long a worker waits that got nothing.
    fn wait(&self, soon: Option<u64>, slots: u64, now_ms: u64) -> u64 {
        let (idle, longest) = (self.idle.len() as u64, self.longest_wait());
        match soon {
            _ if slots == 0 => longest,
            Some(soon) if now_ms % idle < EARLY_WORKERS => soon.clamp(1, longest),
            _ => longest.max((idle * 1_000 / IDLE_CALLS).min(IDLE_WAIT_MAX_MS)),
        }
    }

    fn repeat(&mut self, worker: &WorkerId, request: u64, now_ms: u64) -> Option<LeaseReply> {
        let (answered, given) = self.grants.get(worker)?.clone();
        let is_held = |id: &u64| {
            let task = &self.tasks[at(*id)];
            let name = task.lease.as_ref().map(|name| (&name.worker, name.request));
            task.state == State::Leased && name == Some((worker, request))
        };
        let held: Vec<u64> = given.into_iter().filter(|id| answered == request && is_held(id)).collect();
        for id in &held {
            self.renew(*id);
        }
        match () {
            () if !held.is_empty() => Some(self.granted(&held, now_ms)),
            () if answered >= request => Some(LeaseReply::Stale { answered }),
            () => None,
        }
    }

    fn reclaim(&mut self, now_ms: u64) {
        let lapsed = self.leases.iter().filter(|(expiry, _)| *expiry <= self.clock_ms).take(BOUND);
        for id in ids_of(lapsed) {
            let lapses_max = self.limits.lapses_max;
            let task = &mut self.tasks[at(id)];
            task.lapses += 1;
            task.ending = Some(Ending::Lapsed);
            if task.lapses >= lapses_max {
                task.reason = Some("lapses".into());
                self.place(id, State::Dead, Place::Nowhere, now_ms);
            } else {
                self.place(id, State::Pending, Place::Head, now_ms);
            }
            self.event("reclaim", id, &self.lease_field(id));
            self.after_death(id, "reclaim", now_ms);
        }
    }

    fn promote(&mut self, now_ms: u64) {
        let ready = self.delayed.iter().filter(|(ready_at, _)| *ready_at <= now_ms).take(BOUND);
        for id in ids_of(ready) {
            let is_next = self.group_tasks.is_some() || self.tasks[at(id)].ending == Some(Ending::Released);
            self.place(id, State::Pending, if is_next { Place::Head } else { Place::Tail }, now_ms);
            self.event("promote", id, "");
        }
    }

    /// Why there is nothing to give, and in how many ms there may be.
    fn why_empty(&self, now_ms: u64) -> (WhyNothing, Option<u64>) {
        let is_open = self.tasks.iter().any(|task| !task.state.is_terminal());
        if !self.sealed || is_open {
            let ready = self.delayed.first().map(|(ready_at, _)| ready_at.saturating_sub(now_ms));
            return (WhyNothing::Empty, Some(self.until_expiry().min(ready.unwrap_or(u64::MAX))));
        }
        let settled = self.last_terminal_at.unwrap_or(0) + SETTLE_MS + self.lag_ms();
        match settled.checked_sub(now_ms) {
            Some(left) => (WhyNothing::Empty, Some(left + 1)),
            None => (WhyNothing::Drained, None),
        }
    }

    fn give(&mut self, worker: &WorkerId, request: u64, slots: (u64, u64), now_ms: u64) -> LeaseReply {
        let (free, room) = slots;
        let given: Vec<u64> = self.pending.iter().copied().take(at(room.min(GRANTS_MAX))).collect();
        for id in &given {
            let expiry = self.clock_ms + self.limits.lease_ms;
            let task = &mut self.tasks[at(*id)];
            let number = task.lease.as_ref().map_or(1, |name| name.number + 1);
            if let Some(last) = task.lease.take() {
                task.former.push((last, task.ending.take().unwrap_or(Ending::Cancelled)));
            }
            task.lease = Some(LeaseName { number, worker: worker.clone(), request });
            self.place(*id, State::Leased, Place::At(expiry), now_ms);
            self.event("lease", *id, &self.lease_field(*id));
        }
        self.grants.insert(worker.clone(), (request, given.clone()));
        self.set_idle(worker, free > given.len() as u64, now_ms);
        self.granted(&given, now_ms)
    }

    fn granted(&self, ids: &[u64], now_ms: u64) -> LeaseReply {
        let grant = |id: &u64| {
            let task = &self.tasks[at(*id)];
            Grant {
                task: TaskId(*id),
                lease: task.lease.clone().expect("a leased task has a lease name"),
                molecules: task.input.clone(),
                unusable: None,
                former: task.former.clone(),
                queued_ms: task.queued_at.unwrap_or(self.pushed_at),
                failures: task.failures,
                checkpoint: if task.former.is_empty() {
                    Checkpoint::default()
                } else {
                    task.checkpoint.clone()
                },
            }
        };
        LeaseReply::Granted { now_ms, grants: ids.iter().map(grant).collect() }
    }

    /// Renews the leases that are held under their whole names.
    pub fn heartbeat(&mut self, leases: &[(TaskId, LeaseName)], now_ms: u64) -> Vec<Pulse> {
        self.tick(now_ms);
        let mut pulses = Vec::new();
        for (id, name) in leases {
            pulses.push(match self.named(*id, name) {
                Some(State::Leased) => {
                    self.renew(id.0);
                    Pulse::Held
                }
                Some(State::Pending | State::Delayed) => Pulse::Unheld,
                Some(State::Cancelled) => Pulse::Cancelled,
                Some(State::Waiting | State::Succeeded | State::Dead) | None => Pulse::Lost,
            });
        }
        pulses
    }

    /// Records a success, also of a task that nobody holds any more.
    pub fn complete(
        &mut self,
        id: TaskId,
        name: &LeaseName,
        completion: &Completion<'_>,
        now_ms: u64,
    ) -> Completed {
        self.tick(now_ms);
        match self.named(id, name) {
            Some(State::Succeeded) => Ok(()),
            Some(State::Cancelled) => Err(Fate::Cancelled),
            Some(State::Leased | State::Pending | State::Delayed) => {
                self.place(id.0, State::Succeeded, Place::Nowhere, now_ms);
                self.succeed(id.0, completion, now_ms);
                Ok(())
            }
            Some(State::Waiting | State::Dead) | None => Err(self.lost(id)),
        }
    }

    fn succeed(&mut self, id: u64, completion: &Completion<'_>, now_ms: u64) {
        let &Completion { molecules_ok, molecules_bad, bytes_down, bytes_up, ref moments, .. } = completion;
        let (steps, latest) = moments.steps();
        let task = &mut self.tasks[at(id)];
        (task.ending, task.reason, task.queued_at, task.tail) = (None, None, None, None);
        task.checkpoint = Checkpoint::default();
        task.success = Some(Success {
            shard_sha256: completion.shard_sha256.to_owned(),
            index_sha256: completion.index_sha256.to_owned(),
            molecules_ok,
            molecules_bad,
            bytes: Some((bytes_down, bytes_up)),
            timings_ms: Some(format!("{steps}+{}", now_ms.saturating_sub(latest))),
        });
        for (phase, ms) in moments.durations() {
            let Some(ms) = ms else { continue };
            *self.stats.entry(phase).or_default().buckets.entry(bucket_of(ms)).or_default() += 1;
        }
        let molecules = molecules_ok + molecules_bad;
        self.event("complete", id, &format!("{} molecules {molecules}", self.lease_field(id)));
        self.after_success(id, now_ms);
    }

    /// Records stored results of tasks that nobody holds and that were not leased since, and returns how many.
    pub fn adopt(&mut self, results: &[Adoption], now_ms: u64) -> u64 {
        let mut adopted = 0;
        for found in results {
            let id = found.task.0;
            let Some(task) = self.tasks.get(at(id)) else { continue };
            let is_seen = task.lease.as_ref().map_or(0, |name| name.number) == found.lease_number;
            if !is_seen || !matches!(task.state, State::Pending | State::Delayed) {
                continue;
            }
            self.place(id, State::Succeeded, Place::Nowhere, now_ms);
            self.last_terminal_at = Some(now_ms);
            let task = &mut self.tasks[at(id)];
            (task.ending, task.reason, task.queued_at, task.tail) = (None, None, None, None);
            task.checkpoint = Checkpoint::default();
            task.success = Some(Success {
                shard_sha256: found.shard_sha256.clone(),
                index_sha256: found.index_sha256.clone(),
                molecules_ok: found.molecules_ok,
                molecules_bad: found.molecules_bad,
                bytes: None,
                timings_ms: None,
            });
            self.event("adopt", id, "");
            self.after_success(id, now_ms);
            adopted += 1;
        }
        adopted
    }

    /// Adds a piece of a log to the live output.
    pub fn tell(
        &mut self,
        id: TaskId,
        name: &LeaseName,
        (log, from, text): (&str, u64, &str),
        now_ms: u64,
    ) -> Released {
        self.tick(now_ms);
        self.held(id, name)?;
        let piece = format!("task {id} lease {name} log {log} from {from} text {text}");
        if self.live.back() != Some(&piece) {
            self.live.push_back(piece);
        }
        if self.live.len() > PIECES_MAX {
            self.live.pop_front();
        }
        Ok(())
    }

    /// Charges an attempt that came to nothing.
    pub fn fail(&mut self, id: TaskId, name: &LeaseName, failure: &Failure<'_>, now_ms: u64) -> Failed {
        self.tick(now_ms);
        if let Err(fate) = self.held(id, name) {
            return Failed::Refused(fate);
        }
        let Limits { failures_max, lapses_max, backoff_ms, backoff_max_ms, .. } = self.limits;
        let task = &mut self.tasks[at(id.0)];
        let (charged, times, times_max) = match failure.charge {
            Charge::Lapse => ("lapses", &mut task.lapses, lapses_max),
            Charge::Failure | Charge::LastFailure => ("failures", &mut task.failures, failures_max),
        };
        *times += 1;
        let times = *times;
        task.reason = Some(failure.reason.to_owned());
        task.tail = Some(failure.tail.to_owned());
        task.ending = Some(Ending::Failed);
        let fields = format!("{} reason {} charged {charged}", self.lease_field(id.0), failure.reason);
        self.event("fail", id.0, &fields);
        if failure.charge == Charge::LastFailure || times >= times_max {
            self.place(id.0, State::Dead, Place::Nowhere, now_ms);
            self.after_death(id.0, "fail", now_ms);
            return Failed::Dead;
        }
        let doubled = u32::try_from(times - 1).ok().and_then(|n| 2_u64.checked_pow(n));
        let longest = doubled.map_or(backoff_max_ms, |n| n.saturating_mul(backoff_ms)).min(backoff_max_ms);
        let ready_at_ms = now_ms + (longest * u64::from(failure.jitter_ppm)).div_ceil(1_000_000);
        self.place(id.0, State::Delayed, Place::At(ready_at_ms), now_ms);
        Failed::Delayed { ready_at_ms }
    }

    /// Records a bundle of a task that is held under this name or was last held under it, and ends the hold of its release.
    pub fn checkpoint(
        &mut self,
        id: TaskId,
        name: &LeaseName,
        (number, sha256, progress): (u64, &str, Option<(u64, u64)>),
        now_ms: u64,
    ) -> Kept {
        self.tick(now_ms);
        let state = self.named(id, name);
        if !matches!(state, Some(State::Leased | State::Pending | State::Delayed)) {
            return Err(self.held(id, name).expect_err("only a leased task is held"));
        }
        let bundle = Bundle { lease: name.clone(), number, sha256: sha256.to_owned() };
        let checkpoint = &mut self.tasks[at(id.0)].checkpoint;
        if !checkpoint.bundles.contains(&bundle) {
            checkpoint.progress = progress;
            checkpoint.bundles.insert(0, bundle);
            checkpoint.bundles.truncate(BUNDLES_MAX);
            self.event("checkpoint", id.0, &format!("{} number {number}", self.lease_field(id.0)));
        }
        if state == Some(State::Delayed) && self.tasks[at(id.0)].ending == Some(Ending::Released) {
            self.place(id.0, State::Pending, Place::Head, now_ms);
            self.event("promote", id.0, "");
            self.wake(1);
        }
        Ok(self.tasks[at(id.0)].checkpoint.bundles.clone())
    }

    /// Hands a task back unharmed, for at most so many ms to nobody.
    pub fn release(
        &mut self,
        id: TaskId,
        name: &LeaseName,
        (why, hold_ms): (&str, u64),
        now_ms: u64,
    ) -> Released {
        self.tick(now_ms);
        self.held(id, name)?;
        let task = &mut self.tasks[at(id.0)];
        task.releases += 1;
        task.ending = Some(Ending::Released);
        let hold_ms = hold_ms.min(HOLD_MAX_MS);
        match hold_ms {
            0 => self.place(id.0, State::Pending, Place::Head, now_ms),
            _ => self.place(id.0, State::Delayed, Place::At(now_ms + hold_ms), now_ms),
        }
        let fields = format!("{} reason {why} hold_ms {hold_ms}", self.lease_field(id.0));
        self.event("release", id.0, &fields);
        self.wake(1);
        Ok(())
    }

    /// Cancels these tasks and returns how many were not terminal before.
    pub fn cancel_tasks(&mut self, ids: &[TaskId], now_ms: u64) -> u64 {
        let before = self.count(State::Cancelled);
        for id in ids {
            match self.tasks.get(at(id.0)).map(|task| task.state) {
                Some(State::Leased) => self.tasks[at(id.0)].ending = Some(Ending::Cancelled),
                Some(State::Waiting | State::Pending | State::Delayed) => {}
                Some(State::Succeeded | State::Dead | State::Cancelled) | None => continue,
            }
            self.place(id.0, State::Cancelled, Place::Nowhere, now_ms);
            self.last_terminal_at = Some(now_ms);
            self.event("cancel", id.0, "");
            if let Some(last) = self.last_if(id.0, |state| state == State::Waiting) {
                self.place(last, State::Cancelled, Place::Nowhere, now_ms);
                self.event("cancel", last, "");
            }
        }
        (self.count(State::Cancelled) - before) as u64
    }

    /// Cancels the next tasks of the run: pending, then delayed, then leased ones.
    pub fn cancel_next(&mut self, bound: u64, now_ms: u64) -> u64 {
        let timed =
            self.delayed.iter().chain(&self.leases).map(|(_, id)| id.parse().expect("ids are numbers"));
        let next: Vec<TaskId> =
            self.pending.iter().copied().chain(timed).take(at(bound)).map(TaskId).collect();
        self.cancel_tasks(&next, now_ms)
    }

    /// Whether a task is the last one of its group.
    fn is_last(&self, id: usize) -> bool {
        self.group_tasks.is_some_and(|tasks| (id + 1).is_multiple_of(tasks))
    }

    /// The last task of a task's group, if that is another one and its state is so.
    fn last_if(&self, id: u64, is_so: impl Fn(State) -> bool) -> Option<u64> {
        let tasks = self.group_tasks?;
        let last = (at(id) / tasks + 1) * tasks - 1;
        (last != at(id) && is_so(self.tasks[last].state)).then_some(last as u64)
    }

    /// What the others let the last task of a group be; pending, too, for a task that needs no other.
    fn let_be(&self, id: u64) -> State {
        let Some(tasks) = self.group_tasks.filter(|_| self.is_last(at(id))) else { return State::Pending };
        let others = &self.tasks[at(id) + 1 - tasks..at(id)];
        let ended = others.iter().find(|task| matches!(task.state, State::Dead | State::Cancelled));
        let is_done = others.iter().all(|task| task.state == State::Succeeded);
        ended.map_or(if is_done { State::Pending } else { State::Waiting }, |task| task.state)
    }

    fn after_success(&mut self, id: u64, now_ms: u64) {
        let waits = self.last_if(id, |state| state == State::Waiting);
        if let Some(last) = waits.filter(|last| self.let_be(*last) == State::Pending) {
            self.place(last, State::Pending, Place::Head, now_ms);
            self.event("promote", last, "");
            self.wake(1);
        }
    }

    /// What waits for a task that has died, dies.
    fn after_death(&mut self, id: u64, verb: &str, now_ms: u64) {
        let waits = self.last_if(id, |state| state == State::Waiting);
        if let Some(last) = waits.filter(|_| self.tasks[at(id)].state == State::Dead) {
            self.tasks[at(last)].reason = Some("needed_task_dead".into());
            self.place(last, State::Dead, Place::Nowhere, now_ms);
            self.event(verb, last, " reason needed_task_dead");
        }
    }

    /// Revives dead and cancelled tasks whose lease number is the one that was seen, and what waits for them.
    pub fn requeue(&mut self, seen: &[(TaskId, u64)], now_ms: u64) -> u64 {
        let is_stopped = |state| matches!(state, State::Dead | State::Cancelled);
        let mut revived = Vec::new();
        for (id, number) in seen {
            let Some(task) = self.tasks.get(at(id.0)) else { continue };
            if !is_stopped(task.state) || task.lease.as_ref().map_or(0, |name| name.number) != *number {
                continue;
            }
            revived.extend(self.revive(id.0, now_ms));
            let last = self.last_if(id.0, is_stopped);
            revived.extend(last.and_then(|last| self.revive(last, now_ms)));
        }
        self.wake(revived.iter().filter(|to| **to == State::Pending).count());
        revived.len() as u64
    }

    /// Revives a task, unless one that it needs is dead or cancelled.
    fn revive(&mut self, id: u64, now_ms: u64) -> Option<State> {
        let to = self.let_be(id);
        let place = match to {
            State::Pending => Place::Tail,
            State::Waiting => Place::Nowhere,
            _ => return None,
        };
        let task = &mut self.tasks[at(id)];
        (task.failures, task.lapses, task.reason) = (0, 0, None);
        self.place(id, to, place, now_ms);
        self.event("requeue", id, "");
        Some(to)
    }

    fn tick(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.ran_at.unwrap_or(now_ms));
        self.clock_ms += passed.min(self.limits.lease_ms / 6);
        self.ran_at = Some(now_ms);
    }

    /// Records when a task ended, unless that is recorded of hardly another moment.
    fn end(&mut self, now_ms: u64) {
        if self.last_terminal_at.is_none_or(|at| at.abs_diff(now_ms) >= self.lag_ms()) {
            self.last_terminal_at = Some(now_ms);
        }
    }

    /// How much time the recorded clock may lag behind, in ms: a call that comes sooner after one that wrote it leaves it as it is. The
    /// model knows only calls that come later.
    pub fn lag_ms(&self) -> u64 {
        self.limits.lease_ms / 600
    }

    /// The state of a task, if this is its latest lease name.
    fn named(&self, id: TaskId, name: &LeaseName) -> Option<State> {
        let task = self.tasks.get(at(id.0))?;
        (task.lease.as_ref() == Some(name)).then_some(task.state)
    }

    fn held(&self, id: TaskId, name: &LeaseName) -> Result<(), Fate> {
        match self.named(id, name) {
            Some(State::Leased) => Ok(()),
            Some(State::Cancelled) => Err(Fate::Cancelled),
            Some(State::Waiting | State::Pending | State::Delayed | State::Succeeded | State::Dead)
            | None => Err(self.lost(id)),
        }
    }

    fn lost(&self, id: TaskId) -> Fate {
        Fate::Lost(self.tasks.get(at(id.0)).map_or("absent", |task| task.state.name()).to_owned())
    }

    fn renew(&mut self, id: u64) {
        let text = id.to_string();
        self.leases.retain(|(_, leased)| *leased != text);
        self.leases.insert((self.clock_ms + self.limits.lease_ms, text));
    }

    /// Takes a task from where it is and puts it where its new state belongs.
    fn place(&mut self, id: u64, to: State, place: Place, now_ms: u64) {
        let text = id.to_string();
        self.pending.retain(|other| *other != id);
        self.dead.retain(|other| *other != id);
        self.delayed.retain(|(_, other)| *other != text);
        self.leases.retain(|(_, other)| *other != text);
        match (to, place) {
            (State::Delayed, Place::At(ready_at)) => _ = self.delayed.insert((ready_at, text)),
            (_, Place::At(expiry)) => _ = self.leases.insert((expiry, text)),
            (_, Place::Head) => self.pending.push_front(id),
            (_, Place::Tail) => self.pending.push_back(id),
            (State::Waiting, _) => {}
            (_, Place::Nowhere) => self.end(now_ms),
        }
        if to == State::Dead {
            self.dead.push(id);
        }
        let task = &mut self.tasks[at(id)];
        task.state = to;
        if to == State::Pending {
            task.queued_at = Some(now_ms);
        }
    }

    fn event(&mut self, verb: &str, id: u64, fields: &str) {
        self.events.push(format!("verb {verb} task {id}{fields}"));
    }

    /// The lease of a task as its events name it.
    fn lease_field(&self, id: u64) -> String {
        self.tasks[at(id)].lease.as_ref().map_or(String::new(), |name| format!(" lease {name}"))
    }

    fn set_idle(&mut self, worker: &WorkerId, is_idle: bool, now_ms: u64) {
        self.idle.retain(|(_, other)| other != worker);
        if is_idle {
            self.idle.insert((idle_step(now_ms), worker.clone()));
        }
    }

    fn wake(&mut self, mut tasks: usize) {
        for _ in 0..WAKES_MAX {
            if tasks == 0 {
                return;
            }
            let Some((_, worker)) = self.idle.pop_first() else { return };
            if self.listening.contains(&worker) {
                self.told.push(worker);
                tasks -= 1;
            }
        }
    }
}

/// When an idle worker called last, in steps.
const fn idle_step(now_ms: u64) -> u64 {
    now_ms - now_ms % IDLE_STEP_MS
}

/// A task id or a count as an index.
fn at(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn ids_of<'a>(entries: impl Iterator<Item = &'a (u64, String)>) -> Vec<u64> {
    entries.map(|(_, id)| id.parse().expect("ids are numbers")).collect()
}
