//! A random walk over the scripts and the reference model together: after every step the replies and the whole state must agree.
//! Lost answers, zombies under old lease names, late requests and clock jumps are steps like any other. Nothing waits.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use common::queue::model::{Model, Task};
use common::queue::{Completed, Completion, Failed, Failure, LeaseReply, Pulse, Released, Sealed};
use common::task::{LeaseName, Limits, Molecule, Moments, State, TaskId, WorkerId, decode_molecules};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Value};
use tests::{TestRedis, TestRun, sample_input};

const SEEDS: std::ops::Range<u64> = 1..19;
const STEPS: usize = 260;
/// From here on, people seal the run and cancel what is left, so that it drains.
const ENDING: usize = 200;
const TASKS_MAX: u64 = 12;
const LEASE_MS: u64 = 60_000;

const COMPLETION: Completion<'_> = Completion {
    shard_sha256: "5a",
    index_sha256: "1d",
    molecules_ok: 1,
    molecules_bad: 2,
    bytes_down: 3,
    bytes_up: 4,
    moments: Moments {
        queued: 1,
        leased: 2,
        staged: None,
        engine_started: None,
        engine_ended: None,
        upload_started: None,
        upload_ended: None,
    },
};

/// What a step does.
#[derive(Debug, Clone)]
enum Step {
    Push {
        first: u64,
        tasks: u64,
    },
    Seal(u64),
    Lease {
        worker: WorkerId,
        request: u64,
        slots: u64,
    },
    Heartbeat(Vec<(TaskId, LeaseName)>),
    Complete(TaskId, LeaseName),
    Fail {
        task: TaskId,
        lease: LeaseName,
        is_final: bool,
        jitter_ppm: u32,
    },
    Release(TaskId, LeaseName),
    CancelTasks(Vec<TaskId>),
    CancelNext(u64),
    Requeue(Vec<(TaskId, u64)>),
    Pause(bool),
    Parallelism(u64),
    /// Plain time goes on, or back.
    Pass(i64),
    /// The lease clock goes on, as if many calls had been made.
    Clock(u64),
}

/// What a step answered, in one form for scripts and model.
#[derive(Debug, PartialEq)]
enum Answer {
    Total(u64),
    Sealed(bool),
    Lease(LeaseReply),
    Pulses(Vec<Pulse>),
    Completed(Completed),
    Failed(Failed),
    Released(Released),
    Count(u64),
    Nothing,
}

/// A worker as the walk plays it.
struct Player {
    id: WorkerId,
    request: u64,
}

struct Walk {
    rng: StdRng,
    run: TestRun,
    connection: MultiplexedConnection,
    model: Model,
    players: Vec<Player>,
    /// Every lease name that was ever given.
    names: Vec<(TaskId, LeaseName)>,
    /// How often each kind of answer came.
    seen: BTreeMap<&'static str, u64>,
}

/// Everything that Redis holds of the run, as text by key and field.
type Snapshot = BTreeMap<String, String>;
type Hash = BTreeMap<String, String>;

/// The fields of the run's hash that scripts change.
const RUN_FIELDS: [&str; 6] = ["clock_ms", "ran_at", "last_terminal_at", "paused", "sealed", "parallelism"];

impl Walk {
    async fn new(redis: &TestRedis, seed: u64) -> Self {
        let limits = Limits { failures_max: 3, lapses_max: 2, ..Limits::default() };
        let run = TestRun::create(redis, &format!("walk{seed}"), &limits).await;
        let pushed_at = run.queue.run_info(&run.id).await.unwrap().pushed_at_ms;
        let mut rng = StdRng::seed_from_u64(seed);
        let players = (0..3).map(|_| Player { id: WorkerId::random(&mut rng), request: 1 }).collect();
        let connection = redis.connection().await;
        let model = Model::new(limits, pushed_at);
        Self { rng, run, connection, model, players, names: Vec::new(), seen: BTreeMap::new() }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn task(&mut self) -> TaskId {
        TaskId(self.rng.random_range(0..TASKS_MAX + 2))
    }

    /// A lease name: mostly a task's latest one, else any that ever was, or one that never was.
    fn name(&mut self) -> (TaskId, LeaseName) {
        let only_held = self.chance(60);
        let tasks =
            (0..).zip(&self.model.tasks).filter(|(_, task)| !only_held || task.state == State::Leased);
        let latest: Vec<(TaskId, LeaseName)> = tasks.filter_map(latest_name).collect();
        if !latest.is_empty() && self.chance(75) {
            return latest[self.rng.random_range(0..latest.len())].clone();
        }
        if !self.names.is_empty() && self.chance(80) {
            return self.names[self.rng.random_range(0..self.names.len())].clone();
        }
        let number = self.rng.random_range(1..3);
        (self.task(), format!("{number}.nobody.{number}").parse().unwrap())
    }

    fn lease_step(&mut self) -> Step {
        let player = self.rng.random_range(0..self.players.len());
        if self.chance(3) {
            self.players[player] = Player { id: WorkerId::random(&mut self.rng), request: 1 };
        }
        let Player { id, request } = &self.players[player];
        let (worker, current) = (id.clone(), *request);
        let request = if self.chance(15) { self.rng.random_range(1..=current) } else { current };
        let slots = if self.chance(8) { 0 } else { self.rng.random_range(1..5) };
        Step::Lease { worker, request, slots }
    }

    fn step(&mut self, number: usize) -> Step {
        if number >= ENDING && self.chance(40) {
            let total = self.model.tasks.len() as u64;
            return match self.rng.random_range(0..3) {
                0 => Step::Seal(total),
                1 => Step::CancelNext(6),
                _ => Step::Pass(6_000),
            };
        }
        match self.rng.random_range(0..100) {
            0..8 => {
                let total = self.model.tasks.len() as u64;
                let first = self.rng.random_range(total.saturating_sub(3)..total + 2).min(TASKS_MAX);
                Step::Push { first, tasks: self.rng.random_range(0..6).min(TASKS_MAX - first) }
            }
            8 => Step::Seal(TASKS_MAX),
            9..43 => self.lease_step(),
            43..52 => Step::Heartbeat((0..self.rng.random_range(0..4)).map(|_| self.name()).collect()),
            52..56 => {
                let (task, lease) = self.name();
                Step::Complete(task, lease)
            }
            56..67 => {
                let (task, lease) = self.name();
                let is_final = self.chance(15);
                Step::Fail { task, lease, is_final, jitter_ppm: self.rng.random_range(0..1_000_000) }
            }
            67..74 => {
                let (task, lease) = self.name();
                Step::Release(task, lease)
            }
            74..77 => Step::CancelTasks((0..2).map(|_| self.task()).collect()),
            77 => Step::CancelNext(self.rng.random_range(0..5)),
            78..84 => {
                let task = self.task();
                let hash = usize::try_from(task.0).ok().and_then(|at| self.model.tasks.get(at));
                let number = hash.and_then(|task| task.lease.as_ref()).map_or(0, |name| name.number);
                Step::Requeue(vec![(task, number), (self.task(), self.rng.random_range(0..3))])
            }
            84..87 => Step::Pause(self.chance(20)),
            87..89 => Step::Parallelism([0, 0, 2, 4, 6][self.rng.random_range(0..5)]),
            89..95 => {
                const JUMPS: [i64; 6] = [1, 4_000, 6_000, 20_000, 700_000, -30_000];
                Step::Pass(JUMPS[self.rng.random_range(0..JUMPS.len())])
            }
            _ => Step::Clock(self.rng.random_range(1..=LEASE_MS + 1)),
        }
    }

    /// Takes the step in Redis.
    async fn in_redis(&mut self, step: &Step) -> Answer {
        let (queue, run) = (&self.run.queue, &self.run.id);
        match step {
            Step::Push { first, tasks } => Answer::Total(self.run.push(*first, *tasks).await),
            Step::Seal(tasks) => Answer::Sealed(queue.seal(run, *tasks).await.unwrap() == Sealed::Yes),
            Step::Lease { worker, request, slots } => {
                Answer::Lease(queue.lease(run, &self.run.digest, worker, *request, *slots).await.unwrap())
            }
            Step::Heartbeat(leases) => Answer::Pulses(queue.heartbeat(run, leases).await.unwrap()),
            Step::Complete(task, lease) => {
                Answer::Completed(queue.complete(run, *task, lease, &COMPLETION).await.unwrap())
            }
            Step::Fail { task, lease, is_final, jitter_ppm } => {
                Answer::Failed(queue.fail(run, *task, lease, &failure(*is_final, *jitter_ppm)).await.unwrap())
            }
            Step::Release(task, lease) => {
                Answer::Released(queue.release(run, *task, lease, "drain").await.unwrap())
            }
            Step::CancelTasks(tasks) => Answer::Count(queue.cancel_tasks(run, tasks).await.unwrap()),
            Step::CancelNext(bound) => Answer::Count(queue.cancel_next(run, *bound).await.unwrap()),
            Step::Requeue(seen) => Answer::Count(queue.requeue(run, seen).await.unwrap()),
            Step::Pause(paused) => {
                queue.set_paused(run, paused.then_some("a test")).await.unwrap();
                Answer::Nothing
            }
            Step::Parallelism(leases) => {
                queue.set_parallelism(run, *leases).await.unwrap();
                Answer::Nothing
            }
            Step::Pass(ms) => {
                self.pass_in_redis(*ms).await;
                Answer::Nothing
            }
            Step::Clock(ms) => {
                let key = self.run.key("run");
                let mut pipe = redis::pipe();
                pipe.hincr(key, "clock_ms", *ms).exec_async(&mut self.connection).await.unwrap();
                Answer::Nothing
            }
        }
    }

    /// Moves everything that is plain time, as [`Model::pass`] does.
    async fn pass_in_redis(&mut self, ms: i64) {
        let mut pipe = redis::pipe();
        let fields = [("ran_at", self.model.ran_at), ("last_terminal_at", self.model.last_terminal_at)];
        for (field, at) in fields {
            if let Some(at) = at {
                pipe.hset(self.run.key("run"), field, at.saturating_add_signed(-ms));
            }
        }
        for (ready_at, id) in &self.model.delayed {
            pipe.zadd(self.run.key("delayed"), id, ready_at.saturating_add_signed(-ms));
        }
        pipe.ping().exec_async(&mut self.connection).await.unwrap();
    }

    /// Takes the step in the model, at the moment at which Redis took it.
    fn in_model(&mut self, step: &Step, now: u64) -> Answer {
        let model = &mut self.model;
        match step {
            Step::Push { first, tasks } => {
                let inputs: Vec<Vec<Molecule>> = (*first..first + tasks)
                    .map(|task| decode_molecules(&sample_input(task)).unwrap())
                    .collect();
                Answer::Total(model.push(*first, &inputs))
            }
            Step::Seal(tasks) => Answer::Sealed(model.seal(*tasks)),
            Step::Lease { worker, request, slots } => {
                Answer::Lease(model.lease(worker, *request, *slots, now))
            }
            Step::Heartbeat(leases) => Answer::Pulses(model.heartbeat(leases, now)),
            Step::Complete(task, lease) => Answer::Completed(model.complete(*task, lease, now)),
            Step::Fail { task, lease, is_final, jitter_ppm } => {
                Answer::Failed(model.fail(*task, lease, &failure(*is_final, *jitter_ppm), now))
            }
            Step::Release(task, lease) => Answer::Released(model.release(*task, lease, now)),
            Step::CancelTasks(tasks) => Answer::Count(model.cancel_tasks(tasks, now)),
            Step::CancelNext(bound) => Answer::Count(model.cancel_next(*bound, now)),
            Step::Requeue(seen) => Answer::Count(model.requeue(seen, now)),
            Step::Pause(paused) => {
                model.set_paused(*paused);
                Answer::Nothing
            }
            Step::Parallelism(leases) => {
                model.set_parallelism(*leases);
                Answer::Nothing
            }
            Step::Pass(ms) => {
                model.pass(*ms);
                Answer::Nothing
            }
            Step::Clock(ms) => {
                model.clock_ms += ms;
                Answer::Nothing
            }
        }
    }

    /// When Redis took the step: read from what the script itself wrote.
    fn moment(step: &Step, found: &Snapshot) -> u64 {
        let field = |name: &str| found.get(name).and_then(|at| at.parse().ok());
        match step {
            Step::CancelTasks(_) | Step::CancelNext(_) => field("run last_terminal_at"),
            Step::Requeue(_) => {
                let queued = found.iter().filter(|(name, _)| name.ends_with(" queued_at"));
                queued.filter_map(|(_, at)| at.parse().ok()).max()
            }
            _ => field("run ran_at"),
        }
        .unwrap_or(0)
    }

    /// Takes a step in both, and compares.
    async fn take(&mut self, step: &Step, context: &dyn Debug) {
        let answer = self.in_redis(step).await;
        let found = self.in_store().await;
        let expected = self.in_model(step, Self::moment(step, &found));
        assert_eq!(
            answer, expected,
            "{context:?}: replies of Redis (left) and of the model differ: {step:?}"
        );
        let modelled = snapshot_of(&self.model);
        let differences: Vec<String> = found
            .keys()
            .chain(modelled.keys())
            .filter(|name| found.get(*name) != modelled.get(*name))
            .map(|name| format!("{name}: Redis {:?}, model {:?}", found.get(name), modelled.get(name)))
            .collect();
        assert!(differences.is_empty(), "{context:?}: after {step:?} -> {answer:?}: {differences:#?}");
        places_are_unique(&found, self.model.tasks.len());
        self.remember(step, &answer);
    }

    fn remember(&mut self, step: &Step, answer: &Answer) {
        let kind = match answer {
            Answer::Lease(LeaseReply::Granted { grants, .. }) => {
                self.names.extend(grants.iter().map(|grant| (grant.task, grant.lease.clone())));
                let is_lost = self.chance(30);
                if let Step::Lease { worker, request, .. } = step
                    && let Some(player) = self.players.iter_mut().find(|player| player.id == *worker)
                    && player.request == *request
                    && !is_lost
                {
                    player.request += 1;
                }
                "granted"
            }
            Answer::Lease(LeaseReply::Differs) => unreachable!("nobody pushes another run"),
            Answer::Lease(LeaseReply::Stale { answered }) => {
                if let Step::Lease { worker, .. } = step
                    && let Some(player) = self.players.iter_mut().find(|player| player.id == *worker)
                {
                    player.request = player.request.max(answered + 1);
                }
                "stale"
            }
            Answer::Lease(LeaseReply::Nothing(nothing)) => match nothing.why {
                common::queue::WhyNothing::Paused => "paused",
                common::queue::WhyNothing::Cap => "cap",
                common::queue::WhyNothing::Empty => "empty",
                common::queue::WhyNothing::Drained => "drained",
                common::queue::WhyNothing::NoneAsked => "none asked",
            },
            Answer::Pulses(pulses) => {
                for pulse in pulses {
                    *self.seen.entry(pulse_name(*pulse)).or_default() += 1;
                }
                "pulses"
            }
            Answer::Completed(Ok(())) => "completed",
            Answer::Failed(Failed::Delayed { .. }) => "delayed",
            Answer::Failed(Failed::Dead) => "died",
            Answer::Released(Ok(())) => "released",
            Answer::Completed(Err(_)) | Answer::Failed(Failed::Refused(_)) | Answer::Released(Err(_)) => {
                "refused"
            }
            Answer::Count(1..) => "cancelled or requeued",
            Answer::Total(_) | Answer::Sealed(_) | Answer::Count(0) | Answer::Nothing => "other",
        };
        *self.seen.entry(kind).or_default() += 1;
        let is_killer = |task: &Task| task.state == State::Dead && task.reason.as_deref() == Some("lapses");
        *self.seen.entry("killed its workers").or_default() +=
            u64::from(self.model.tasks.iter().any(is_killer));
    }

    /// What Redis holds.
    async fn in_store(&mut self) -> Snapshot {
        let mut snapshot = self.structures().await;
        let total = snapshot["progress total"].parse().unwrap();
        let mut pipe = redis::pipe();
        for task in 0..total {
            pipe.hgetall(self.run.key(&format!("task:{task}")));
        }
        // redis-rs refuses a pipeline without commands.
        let values: Vec<Value> = pipe.ping().query_async(&mut self.connection).await.unwrap();
        for (task, value) in values.into_iter().take(total).enumerate() {
            let hash: Hash = redis::from_redis_value(value).unwrap();
            let shown = hash.into_iter().filter(|(field, _)| field != "timings_ms");
            snapshot.extend(shown.map(|(field, value)| (format!("task:{task} {field}"), value)));
        }
        snapshot
    }

    /// Everything but the tasks' hashes, in one round trip.
    async fn structures(&mut self) -> Snapshot {
        let run = &self.run;
        let mut pipe = redis::pipe();
        for hash in ["run", "progress", "grants"] {
            pipe.hgetall(run.key(hash));
        }
        for list in ["pending", "dead"] {
            pipe.lrange(run.key(list), 0, -1);
        }
        for zset in ["delayed", "leases", "idle"] {
            pipe.zrange_withscores(run.key(zset), 0, -1);
        }
        pipe.hkeys(run.key("inputs"));
        let mut values = pipe.query_async::<Vec<Value>>(&mut self.connection).await.unwrap().into_iter();
        let mut snapshot = Snapshot::new();
        for name in ["run", "progress", "grants"] {
            let mut hash: Hash = next(&mut values);
            hash.retain(|field, _| name != "run" || RUN_FIELDS.contains(&field.as_str()));
            snapshot.extend(hash.into_iter().map(|(field, value)| (format!("{name} {field}"), value)));
        }
        for name in ["pending", "dead"] {
            snapshot.insert(name.into(), format!("{:?}", next::<Vec<u64>>(&mut values)));
        }
        for name in ["delayed", "leases", "idle"] {
            snapshot.insert(name.into(), format!("{:?}", next::<Vec<(String, u64)>>(&mut values)));
        }
        let mut inputs: Vec<u64> = next(&mut values);
        inputs.sort_unstable();
        snapshot.insert("inputs".into(), format!("{inputs:?}"));
        snapshot
    }
}

fn next<T: FromRedisValue>(values: &mut impl Iterator<Item = Value>) -> T {
    redis::from_redis_value(values.next().unwrap()).unwrap()
}

fn failure(is_final: bool, jitter_ppm: u32) -> Failure<'static> {
    Failure { reason: "exit_code", is_final, tail: "last line", jitter_ppm }
}

fn latest_name((id, task): (u64, &Task)) -> Option<(TaskId, LeaseName)> {
    Some((TaskId(id), task.lease.clone()?))
}

fn pulse_name(pulse: Pulse) -> &'static str {
    match pulse {
        Pulse::Held => "pulse held",
        Pulse::Unheld => "pulse unheld",
        Pulse::Cancelled => "pulse cancelled",
        Pulse::Lost => "pulse lost",
    }
}

/// Each task stands in exactly one place, and every leased one has a lease name and an expiry. Asks Redis alone, not the model.
fn places_are_unique(found: &Snapshot, tasks: usize) {
    let ids = |name: &str| -> Vec<String> {
        found[name].split(|c: char| !c.is_ascii_digit()).map(str::to_owned).collect()
    };
    let scored = |name: &str| -> Vec<String> {
        found[name].split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let (pending, dead, delayed, leases) = (ids("pending"), ids("dead"), scored("delayed"), scored("leases"));
    for task in 0..tasks {
        let id = task.to_string();
        let times = |list: &[String]| list.iter().filter(|other| **other == id).count();
        let state = found.get(&format!("task:{task} state")).map_or("pending", String::as_str);
        let places = [times(&pending), times(&delayed), times(&leases), times(&dead)];
        let expected = ["pending", "delayed", "leased", "dead"].map(|place| usize::from(place == state));
        assert_eq!(places, expected, "task {task} is {state}");
        assert!(state != "leased" || found.contains_key(&format!("task:{task} lease")), "task {task}");
    }
}

/// What Redis should hold.
fn snapshot_of(model: &Model) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let mut put = |name: String, value: Option<String>| {
        if let Some(value) = value {
            snapshot.insert(name, value);
        }
    };
    let text = |at: Option<u64>| at.map(|at| at.to_string());
    let has_ticked = model.ran_at.is_some() || model.clock_ms > 0;
    put("run clock_ms".into(), has_ticked.then(|| model.clock_ms.to_string()));
    put("run ran_at".into(), text(model.ran_at));
    put("run last_terminal_at".into(), text(model.last_terminal_at));
    put("run paused".into(), model.paused.then(|| "a test".into()));
    put("run sealed".into(), model.sealed.then(|| "1".into()));
    put("run parallelism".into(), Some(model.limits.parallelism.to_string()));
    for state in State::ALL {
        put(format!("progress {state}"), Some(model.count(state).to_string()));
    }
    let sum = |of: fn(&Task) -> u64| Some(model.tasks.iter().map(of).sum::<u64>().to_string());
    let succeeded = model.count(State::Succeeded);
    put("progress total".into(), Some(model.tasks.len().to_string()));
    put("progress failures".into(), sum(|task| task.failures));
    put("progress lapses".into(), sum(|task| task.lapses));
    put("progress releases".into(), sum(|task| task.releases));
    put("progress molecules_ok".into(), Some(succeeded.to_string()));
    put("progress molecules_bad".into(), Some((2 * succeeded).to_string()));
    put("progress bytes".into(), Some((4 * succeeded).to_string()));
    for (worker, (request, ids)) in &model.grants {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        put(format!("grants {worker}"), Some(format!("{request} {}", ids.join(" "))));
    }
    put("pending".into(), Some(format!("{:?}", model.pending)));
    put("dead".into(), Some(format!("{:?}", model.dead)));
    let with_input = (0..).zip(&model.tasks).filter(|(_, task)| task.state != State::Succeeded);
    put("inputs".into(), Some(format!("{:?}", with_input.map(|(id, _)| id).collect::<Vec<u64>>())));
    let scores = |set: &std::collections::BTreeSet<(u64, String)>| {
        Some(format!("{:?}", set.iter().map(|(score, id)| (id, score)).collect::<Vec<_>>()))
    };
    put("delayed".into(), scores(&model.delayed));
    put("leases".into(), scores(&model.leases));
    let idle = model.idle.iter().map(|(slots, worker)| (worker.as_str(), slots)).collect::<Vec<_>>();
    put("idle".into(), Some(format!("{idle:?}")));
    for (id, task) in model.tasks.iter().enumerate() {
        for (field, value) in task_fields(task) {
            put(format!("task:{id} {field}"), value);
        }
    }
    snapshot
}

/// The fields of a task's hash; a task that never moved has none.
fn task_fields(task: &Task) -> Vec<(&'static str, Option<String>)> {
    if task.state == State::Pending && task.lease.is_none() && task.queued_at.is_none() {
        return Vec::new();
    }
    let counter = |count: u64| (count > 0).then(|| count.to_string());
    let word = |ending: common::task::Ending| format!("{ending:?}").to_lowercase();
    let former: Vec<String> =
        task.former.iter().map(|(name, ending)| format!("{name}:{}", word(*ending))).collect();
    let result = |value: &str| (task.state == State::Succeeded).then(|| value.to_owned());
    vec![
        ("state", Some(task.state.name().to_owned())),
        ("lease", task.lease.as_ref().map(LeaseName::to_string)),
        ("worker", task.lease.as_ref().map(|name| name.worker.to_string())),
        ("ending", task.ending.map(word)),
        ("former", (!former.is_empty()).then(|| former.join(" "))),
        ("failures", counter(task.failures)),
        ("lapses", counter(task.lapses)),
        ("releases", counter(task.releases)),
        ("reason", task.reason.clone()),
        ("queued_at", task.queued_at.map(|at| at.to_string())),
        ("shard_sha256", result("5a")),
        ("index_sha256", result("1d")),
        ("molecules_ok", result("1")),
        ("molecules_bad", result("2")),
        ("bytes", result("3 4")),
    ]
}

#[tokio::test]
async fn scripts_and_model_agree_after_every_step() {
    let redis = TestRedis::start().await;
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in SEEDS {
        let mut walk = Walk::new(&redis, seed).await;
        for number in 0..STEPS {
            let step = walk.step(number);
            let context = format!("seed {seed}, step {number}");
            walk.take(&step, &context).await;
            // The answer was lost: the same call once more.
            if !matches!(step, Step::Pass(_) | Step::Clock(_)) && walk.chance(25) {
                walk.take(&step, &format!("{context}, repeated")).await;
            }
        }
        for (kind, times) in walk.seen {
            *seen.entry(kind).or_default() += times;
        }
    }
    for kind in [
        "granted",
        "stale",
        "paused",
        "cap",
        "empty",
        "drained",
        "none asked",
        "completed",
        "delayed",
        "died",
        "released",
        "refused",
        "cancelled or requeued",
        "pulse held",
        "pulse unheld",
        "pulse cancelled",
        "pulse lost",
        "killed its workers",
    ] {
        assert!(seen.get(kind).is_some_and(|times| *times >= 10), "the walk hardly met `{kind}`: {seen:?}");
    }
}
