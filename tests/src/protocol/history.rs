//! Random histories of a run: many workers, people, time, lost answers and late calls. A history names tasks, workers and leases
//! by their place among those that are there, so that it keeps its meaning while proptest takes steps out of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use common::queue::model::{Model, Task};
use common::queue::{Adoption, Charge, Failed, LeaseReply, Pulse, WhyNothing};
use common::task::{LeaseName, Limits, Moments, State, TaskId, WorkerId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::stage::{LISTENS, Stage};
use super::step::{Answer, Step, Success};

/// Tasks of a run at most.
const TASKS_MAX: u64 = 10;
/// Workers at any time; every other one hears its channel.
const WORKERS: usize = 4;
/// Lines of a history, besides its first push and its end.
const LINES_MAX: usize = 36;
const LEASE_MS: u64 = 60_000;
/// What a history must do before its answers cover the protocol, each at least this often in a whole test.
const MET_MIN: u64 = 20;

/// A history.
#[derive(Debug, Clone)]
pub struct History {
    /// Tasks of the first push.
    start: u64,
    /// Tasks of a group, in a run of groups.
    group_tasks: Option<u64>,
    lines: Vec<Line>,
    /// Whether people seal it, cancel what is left, and it settles.
    is_drained: bool,
}

#[derive(Debug, Clone)]
struct Line {
    act: Act,
    /// The first answer was lost: the same call once more.
    is_repeated: bool,
}

/// One of several, by its place, modulo how many there are.
type Place = usize;

/// Which lease a worker names.
#[derive(Debug, Clone)]
enum Named {
    /// One that is held.
    Held(Place),
    /// The latest of a task that was ever leased.
    Latest(Place),
    /// Any that was ever given: a zombie's.
    Ever(Place),
    /// One that never was.
    Never(u64),
}

#[derive(Debug, Clone)]
enum Act {
    /// From `back` tasks before the end, or from one behind it.
    Push {
        back: u64,
        tasks: u64,
        has_gap: bool,
    },
    Seal {
        is_whole: bool,
    },
    /// `ago` requests too late; the worker may not hear the answer.
    Lease {
        worker: Place,
        ago: u64,
        slots: u64,
        is_heard: bool,
    },
    /// The worker is killed, and starts again under another id.
    Restart(Place),
    Heartbeat(Vec<Named>),
    Complete(Vec<(Named, Success)>),
    Fail {
        named: Named,
        charge: Charge,
        jitter_ppm: u32,
    },
    Release(Named, u64),
    Checkpoint(Named, u64),
    Tell(Named, u64),
    /// A pending or delayed task at the lease that was seen, `behind` leases before the latest; and any other one.
    Adopt {
        open: Place,
        behind: u64,
        other: u64,
    },
    CancelTasks(Vec<u64>),
    CancelNext(u64),
    /// A dead or cancelled task at the lease that the person saw, `behind` leases before the latest; and any other one.
    Requeue {
        ended: Place,
        behind: u64,
        other: u64,
    },
    Pause(bool),
    Parallelism(u64),
    Pass(i64),
    Clock(u64),
}

fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        12 => any::<Place>().prop_map(Named::Held),
        5 => any::<Place>().prop_map(Named::Latest),
        5 => any::<Place>().prop_map(Named::Ever),
        1 => (0..TASKS_MAX + 2).prop_map(Named::Never),
    ]
}

fn success() -> impl Strategy<Value = Success> {
    let moments = (proptest::array::uniform7((0..2_000_000_u64, prop::bool::weighted(0.8))), any::<bool>());
    (moments, 0..20_u64, 0..3_u64, 0..1_000_u64, 0..1_000_u64).prop_map(
        |((mut moments, is_in_order), molecules_ok, molecules_bad, down, up)| {
            if is_in_order {
                moments.sort_unstable();
            }
            let [queued, leased, optional @ ..] = moments;
            let [staged, engine_started, engine_ended, upload_started, upload_ended] =
                optional.map(|(at, is_there)| is_there.then_some(at));
            let (queued, leased) = (queued.0, leased.0);
            let moments = Moments {
                queued,
                leased,
                staged,
                engine_started,
                engine_ended,
                upload_started,
                upload_ended,
            };
            Success { molecules_ok, molecules_bad, bytes: (down, up), moments }
        },
    )
}

fn charge() -> impl Strategy<Value = Charge> {
    prop_oneof![5 => Just(Charge::Failure), 1 => Just(Charge::LastFailure), 2 => Just(Charge::Lapse)]
}

fn by_workers() -> impl Strategy<Value = Act> {
    let lease = (any::<Place>(), prop_oneof![6 => Just(0_u64), 1 => 1..3_u64], 0..5_u64, any::<bool>());
    let hold = prop_oneof![Just(0_u64), Just(10_000), 1..12_000_u64];
    let fail = (named(), charge(), 0..1_000_000_u32);
    prop_oneof![
        34 => lease.prop_map(|(worker, ago, slots, is_heard)| Act::Lease { worker, ago, slots, is_heard }),
        1 => any::<Place>().prop_map(Act::Restart),
        9 => vec(named(), 0..4).prop_map(Act::Heartbeat),
        7 => vec((named(), success()), 1..4).prop_map(Act::Complete),
        11 => fail.prop_map(|(named, charge, jitter_ppm)| Act::Fail { named, charge, jitter_ppm }),
        7 => (named(), hold).prop_map(|(named, hold_ms)| Act::Release(named, hold_ms)),
        7 => (named(), 1..4_u64).prop_map(|(named, number)| Act::Checkpoint(named, number)),
        2 => (named(), 0..2_u64).prop_map(|(named, from)| Act::Tell(named, from)),
    ]
}

fn by_people() -> impl Strategy<Value = Act> {
    let task = 0..TASKS_MAX + 2;
    let push = (0..4_u64, 0..6_u64, prop::bool::weighted(0.1));
    let seen = (any::<Place>(), prop_oneof![4 => Just(0_u64), 1 => Just(1)], task.clone());
    prop_oneof![
        6 => push.prop_map(|(back, tasks, has_gap)| Act::Push { back, tasks, has_gap }),
        1 => any::<bool>().prop_map(|is_whole| Act::Seal { is_whole }),
        3 => vec(task, 1..3).prop_map(Act::CancelTasks),
        1 => (0..5_u64).prop_map(Act::CancelNext),
        2 => seen.clone().prop_map(|(open, behind, other)| Act::Adopt { open, behind, other }),
        6 => seen.prop_map(|(ended, behind, other)| Act::Requeue { ended, behind, other }),
        3 => prop::bool::weighted(0.4).prop_map(Act::Pause),
        3 => prop::sample::select(vec![0, 0, 1, 2, 4, 6]).prop_map(Act::Parallelism),
    ]
}

/// Time passes, the system's clock jumps, and the lease clock goes on as over many calls.
fn by_time() -> impl Strategy<Value = Act> {
    prop_oneof![
        prop::sample::select(vec![1, 4_000, 6_000, 20_000, 700_000, -30_000]).prop_map(Act::Pass),
        prop_oneof![Just(LEASE_MS + 1), 1..=LEASE_MS].prop_map(Act::Clock),
    ]
}

/// Random histories.
pub fn histories() -> impl Strategy<Value = History> {
    let act = prop_oneof![69 => by_workers(), 20 => by_people(), 13 => by_time()];
    let line = (act, prop::bool::weighted(0.2)).prop_map(|(act, is_repeated)| Line { act, is_repeated });
    let group = prop_oneof![3 => Just(None), 1 => Just(Some(2)), 1 => Just(Some(3))];
    let parts = (1..=8_u64, group, vec(line, 1..=LINES_MAX), prop::bool::weighted(0.2));
    parts.prop_map(|(start, group_tasks, lines, is_drained)| History {
        start,
        group_tasks,
        lines,
        is_drained,
    })
}

/// The limits of a history's run: low, so that tasks die.
pub(super) fn limits() -> Limits {
    Limits { failures_max: 3, lapses_max: 2, backoff_max_ms: 50_000, lease_ms: LEASE_MS, ..Limits::default() }
}

/// A worker as a history plays it.
struct Player {
    id: WorkerId,
    request: u64,
}

/// Who takes part: the workers, and every lease name that was ever given.
struct Cast {
    players: Vec<Player>,
    starts: usize,
    names: Vec<(TaskId, LeaseName)>,
}

impl Cast {
    fn new() -> Self {
        let mut cast = Self { players: Vec::new(), starts: 0, names: Vec::new() };
        for _ in 0..WORKERS {
            let player = cast.start();
            cast.players.push(player);
        }
        cast
    }

    fn start(&mut self) -> Player {
        self.starts += 1;
        let hearing = if self.starts % 2 == 1 { LISTENS } else { "deaf" };
        let id = format!("{hearing}{}", self.starts).parse().expect("lower-case letters and a number");
        Player { id, request: 1 }
    }

    fn name(&self, named: &Named, model: &Model) -> (TaskId, LeaseName) {
        let latest = |only_held: bool| -> Vec<(TaskId, LeaseName)> {
            let tasks = (0..).zip(&model.tasks).filter(|(_, task)| !only_held || task.state == State::Leased);
            tasks.filter_map(|(id, task)| Some((TaskId(id), task.lease.clone()?))).collect()
        };
        let found = match named {
            Named::Held(place) => pick(&latest(true), *place),
            Named::Latest(place) => pick(&latest(false), *place),
            Named::Ever(place) => pick(&self.names, *place),
            Named::Never(_) => None,
        };
        let task = if let Named::Never(task) = named { *task } else { 0 };
        found.unwrap_or_else(|| (TaskId(task), "1.nobody.1".parse().expect("a lease name")))
    }

    /// What an act is in this state of the run; `None` if it is none of the run's.
    fn step(&mut self, act: &Act, model: &Model) -> Option<Step> {
        let total = model.tasks.len() as u64;
        Some(match act {
            Act::Push { back, tasks, has_gap } => {
                let first = if *has_gap { total + 1 } else { total.saturating_sub(*back) };
                Step::Push { first, tasks: (*tasks).min(TASKS_MAX.saturating_sub(first)) }
            }
            Act::Seal { is_whole } => Step::Seal(total + u64::from(!is_whole)),
            Act::Lease { worker, ago, slots, .. } => {
                let Player { id, request } = &self.players[worker % WORKERS];
                Step::Lease {
                    worker: id.clone(),
                    request: request.saturating_sub(*ago).max(1),
                    slots: *slots,
                }
            }
            Act::Restart(worker) => {
                self.players[worker % WORKERS] = self.start();
                return None;
            }
            Act::Heartbeat(named) => {
                Step::Heartbeat(named.iter().map(|named| self.name(named, model)).collect())
            }
            Act::Complete(successes) => {
                let named = successes.iter().map(|(named, success)| {
                    let (task, lease) = self.name(named, model);
                    (task, lease, *success)
                });
                Step::Complete(named.collect())
            }
            Act::Fail { named, charge, jitter_ppm } => {
                let (task, lease) = self.name(named, model);
                Step::Fail { task, lease, charge: *charge, jitter_ppm: *jitter_ppm }
            }
            Act::Release(named, hold_ms) => {
                let (task, lease) = self.name(named, model);
                Step::Release(task, lease, *hold_ms)
            }
            Act::Checkpoint(named, number) => {
                let (task, lease) = self.name(named, model);
                Step::Checkpoint(task, lease, *number)
            }
            Act::Tell(named, from) => {
                let (task, lease) = self.name(named, model);
                Step::Tell(task, lease, *from)
            }
            Act::Adopt { open, behind, other } => {
                let is_open = |task: &Task| matches!(task.state, State::Pending | State::Delayed);
                Step::Adopt(seen(model, is_open, (*open, *behind), *other).map(adoption).collect())
            }
            Act::CancelTasks(tasks) => Step::CancelTasks(tasks.iter().copied().map(TaskId).collect()),
            Act::CancelNext(bound) => Step::CancelNext(*bound),
            Act::Requeue { ended, behind, other } => {
                let is_ended = |task: &Task| matches!(task.state, State::Dead | State::Cancelled);
                Step::Requeue(seen(model, is_ended, (*ended, *behind), *other).collect())
            }
            Act::Pause(paused) => Step::Pause(*paused),
            Act::Parallelism(leases) => Step::Parallelism(*leases),
            Act::Pass(ms) => Step::Pass(*ms),
            Act::Clock(ms) => Step::Clock(*ms),
        })
    }

    /// What the workers learn from an answer.
    fn hear(&mut self, act: &Act, answer: &Answer) {
        if let Answer::Lease(LeaseReply::Granted { grants, .. }) = answer {
            self.names.extend(grants.iter().map(|grant| (grant.task, grant.lease.clone())));
        }
        let Act::Lease { worker, ago, is_heard, .. } = act else { return };
        let request = &mut self.players[worker % WORKERS].request;
        match answer {
            Answer::Lease(LeaseReply::Granted { .. }) if *is_heard && *ago == 0 => *request += 1,
            Answer::Lease(LeaseReply::Stale { answered }) => *request = (*request).max(answered + 1),
            _ => {}
        }
    }
}

fn pick<T: Clone>(all: &[T], place: Place) -> Option<T> {
    all.get(place.checked_rem(all.len())?).cloned()
}

/// One of the tasks that are so, at the lease that a person saw; and any other one.
fn seen(
    model: &Model,
    is_so: impl Fn(&Task) -> bool,
    (place, behind): (Place, u64),
    other: u64,
) -> impl Iterator<Item = (TaskId, u64)> {
    let number = |task: &Task| task.lease.as_ref().map_or(0, |name| name.number);
    let all: Vec<(TaskId, u64)> = (0..)
        .zip(&model.tasks)
        .filter(|(_, task)| is_so(task))
        .map(|(id, task)| (TaskId(id), number(task).saturating_sub(behind)))
        .collect();
    pick(&all, place).into_iter().chain([(TaskId(other), 1)])
}

/// A result that the store has.
pub(super) fn adoption((task, lease_number): (TaskId, u64)) -> Adoption {
    let (shard_sha256, index_sha256) = ("5b".to_owned(), "1e".to_owned());
    Adoption { task, lease_number, shard_sha256, index_sha256, molecules_ok: 2, molecules_bad: task.0 % 2 }
}

/// How often each kind of answer came.
#[derive(Debug, Default)]
pub struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    fn add(&mut self, step: &Step, answer: &Answer, model: &Model) {
        for kind in kinds(step, answer) {
            *self.0.entry(kind).or_default() += 1;
        }
        let is_last = |(id, _): &(usize, &Task)| model.group_tasks.is_some_and(|tasks| (id + 1) % tasks == 0);
        for (_, task) in model.tasks.iter().enumerate().filter(is_last) {
            let kind = match (task.state, task.reason.as_deref()) {
                (State::Leased, _) => "a task that had waited",
                (State::Dead, Some("needed_task_dead")) => "a task that died of another",
                (State::Waiting, _) if matches!(step, Step::Requeue(_)) => "a task that waits, and a requeue",
                _ => continue,
            };
            *self.0.entry(kind).or_default() += 1;
        }
        let is_killer = |task: &Task| task.state == State::Dead && task.reason.as_deref() == Some("lapses");
        if model.tasks.iter().any(is_killer) {
            *self.0.entry("a task that killed its workers").or_default() += 1;
        }
    }

    /// Panics if the histories hardly met something that the protocol can do: then they prove nothing of it.
    pub fn assert_whole(&self) {
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
            "kept",
            "given with a bundle",
            "told",
            "adopted",
            "refused",
            "cancelled",
            "requeued",
            "held",
            "unheld",
            "cancelled pulse",
            "lost",
            "gap",
            "sealed",
            "short",
            "a task that killed its workers",
            "a task that had waited",
            "a task that died of another",
            "a task that waits, and a requeue",
        ] {
            let met = self.0.get(kind).copied().unwrap_or(0);
            assert!(met >= MET_MIN, "the histories hardly met `{kind}`: {:?}", self.0);
        }
    }
}

fn kinds(step: &Step, answer: &Answer) -> Vec<&'static str> {
    vec![match answer {
        Answer::Lease(LeaseReply::Granted { grants, .. })
            if grants.iter().any(|grant| !grant.checkpoint.bundles.is_empty()) =>
        {
            return vec!["granted", "given with a bundle"];
        }
        Answer::Lease(LeaseReply::Granted { .. }) => "granted",
        Answer::Lease(LeaseReply::Stale { .. }) => "stale",
        Answer::Lease(LeaseReply::Differs) => "differs",
        Answer::Lease(LeaseReply::Nothing(nothing)) => match nothing.why {
            WhyNothing::Paused => "paused",
            WhyNothing::Cap => "cap",
            WhyNothing::Empty => "empty",
            WhyNothing::Drained => "drained",
            WhyNothing::NoneAsked => "none asked",
            WhyNothing::Damaged => "damaged",
        },
        Answer::Pulses(pulses) => {
            return pulses
                .iter()
                .map(|pulse| match pulse {
                    Pulse::Held => "held",
                    Pulse::Unheld => "unheld",
                    Pulse::Cancelled => "cancelled pulse",
                    Pulse::Lost => "lost",
                })
                .collect();
        }
        Answer::Completed(answers) => {
            return answers
                .iter()
                .map(|answer| if answer.is_ok() { "completed" } else { "refused" })
                .collect();
        }
        Answer::Failed(Failed::Delayed { .. }) => "delayed",
        Answer::Failed(Failed::Dead) => "died",
        Answer::Released(Ok(())) if matches!(step, Step::Tell(..)) => "told",
        Answer::Released(Ok(())) => "released",
        Answer::Kept(Ok(_)) => "kept",
        Answer::Failed(Failed::Refused(_)) | Answer::Released(Err(_)) | Answer::Kept(Err(_)) => "refused",
        Answer::Count(1..) if matches!(step, Step::Requeue(_)) => "requeued",
        Answer::Count(1..) if matches!(step, Step::Adopt(_)) => "adopted",
        Answer::Count(1..) => "cancelled",
        Answer::Total(total) if matches!(step, Step::Push { first, .. } if first > total) => "gap",
        Answer::Sealed(true) => "sealed",
        Answer::Sealed(false) => "short",
        Answer::Total(_) | Answer::Count(0) | Answer::Nothing => "other",
    }]
}

/// Plays a history from an empty Redis. Returns the number of steps; or the whole history, its answers and what was found wrong.
pub async fn play(stage: &mut Stage, history: &History, coverage: &mut Coverage) -> Result<u64, String> {
    stage.reset_with(&limits(), history.group_tasks).await?;
    let mut cast = Cast::new();
    let (mut log, mut steps) = ("\n".to_owned(), 0);
    let first = Line { act: Act::Push { back: 0, tasks: history.start, has_gap: false }, is_repeated: false };
    let end = [
        Act::Seal { is_whole: true },
        Act::Pause(false),
        Act::Parallelism(0),
        Act::CancelNext(TASKS_MAX),
        Act::Pass(6_000),
        Act::Lease { worker: 0, ago: 0, slots: 1, is_heard: true },
    ];
    let end = end.map(|act| Line { act, is_repeated: false }).into_iter().filter(|_| history.is_drained);
    for line in [first].into_iter().chain(history.lines.iter().cloned()).chain(end) {
        let Some(step) = cast.step(&line.act, &stage.now.model) else { continue };
        let is_call = !matches!(step, Step::Pass(_) | Step::Clock(_));
        for _ in 0..=u64::from(line.is_repeated && is_call) {
            steps += 1;
            // Writing to a String can't fail.
            _ = write!(log, "{steps:>3}. {step}");
            let answer = stage.take(&step).await.map_err(|finding| format!("{log}\n{finding}"))?;
            _ = writeln!(log, " → {answer}");
            coverage.add(&step, &answer, &stage.now.model);
            cast.hear(&line.act, &answer);
        }
    }
    Ok(steps)
}
