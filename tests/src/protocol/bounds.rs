//! What only many tasks or the right moment show: how much one call does at most, how durations are counted, and the edges of time. Each check makes its own run.

use std::collections::{BTreeMap, BTreeSet};

use common::task::{Limits, Moments, TaskId, WorkerId};
use redis::AsyncCommands as _;

use super::stage::Stage;
use super::step::{Step, Success};

/// Tasks that one call of `lease` reclaims or promotes at most.
const BOUND: u64 = 100;
/// How long a run settles after its last task ended.
const SETTLE_MS: i64 = 5_000;
/// How much of a lease of the default length the recorded moments may lag behind.
const LAG_MS: i64 = 100;
/// Tasks that one call of `lease` gives at most.
const GRANTS_MAX: usize = 1_000;
/// Idle workers that one call strikes off at most.
const WAKES_MAX: u64 = 1_000;
/// Pieces of live output that are kept.
const PIECES_MAX: u64 = 64;
/// How long after the last one, in seconds.
const PIECES_SECONDS: u64 = 60;
/// Events that are kept, and how many more Redis may keep when it trims a stream by whole nodes.
const EVENTS: std::ops::Range<u64> = 10_000..10_200;

/// Moments and durations, to the ms.
pub async fn moments(stage: &mut Stage) -> Result<(), String> {
    durations(stage).await?;
    waits(stage).await?;
    expiries(stage).await?;
    idle_workers(stage).await?;
    lag(stage).await?;
    a_shortened_list(stage).await?;
    end_of_a_run(stage).await?;
    end_of_a_delay(stage).await
}

/// What one call does at most.
pub async fn check(stage: &mut Stage) -> Result<(), String> {
    reclaims_and_promotes(stage).await?;
    wakes(stage).await?;
    live_output(stage).await?;
    large_calls(stage).await
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

fn found<T>(answer: redis::RedisResult<T>) -> Result<T, String> {
    answer.map_err(|error| error.to_string())
}

fn worker(name: &str) -> WorkerId {
    name.parse().expect("a worker's id")
}

fn texts(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|text| (*text).to_owned()).collect()
}

/// The engine phase of one task each: durations at and beside the edges of the buckets; and moments at the edges of what there can be.
async fn durations(stage: &mut Stage) -> Result<(), String> {
    let edges = [0_u64, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 91, 92, 1_449, 1_450, 25_200_000];
    let powers = (4..27).flat_map(|power| [1 << power, (1 << power) - 1]);
    let engine = |ms: u64| Moments {
        queued: 1_000,
        leased: 2_000,
        engine_started: Some(3_000),
        engine_ended: Some(3_000 + ms),
        ..Moments::default()
    };
    let first = Moments { engine_started: Some(5), engine_ended: Some(6), ..Moments::default() };
    // The system's clock jumped back.
    let last = Moments { upload_ended: Some(u64::MAX >> 12), ..engine(1) };
    let all: Vec<Moments> = edges.into_iter().chain(powers).map(engine).chain([first, last]).collect();
    stage.reset(&Limits::default()).await?;
    let tasks = all.len() as u64;
    stage.take(&Step::Push { first: 0, tasks }).await?;
    stage.take(&Step::Lease { worker: worker("w1"), request: 1, slots: tasks }).await?;
    let success = |(task, moments)| {
        let success = Success { molecules_ok: 1, molecules_bad: 0, bytes: (0, 0), moments };
        (TaskId(task), "1.w1.1".parse().expect("a lease name"), success)
    };
    let step = Step::Complete((0..).zip(all).map(success).collect());
    stage.take(&step).await.map(|_| ())
}

/// More leases expire, and more delays end, than one call takes.
async fn reclaims_and_promotes(stage: &mut Stage) -> Result<(), String> {
    const TASKS: u64 = 2 * BOUND + 30;
    stage.reset(&Limits::default()).await?;
    let looks = Step::Lease { worker: worker("w2"), request: 1, slots: 0 };
    stage.take(&Step::Push { first: 0, tasks: TASKS }).await?;
    stage.take(&Step::Lease { worker: worker("w1"), request: 1, slots: TASKS }).await?;
    stage.take(&Step::Clock(Limits::default().lease_ms + 1)).await?;
    // The other leases have expired too: none of them says when to ask again.
    stage.take(&Step::Parallelism(10)).await?;
    stage.take(&Step::Lease { worker: worker("w3"), request: 1, slots: 1 }).await?;
    stage.take(&Step::Parallelism(0)).await?;
    for left in [TASKS - 2 * BOUND, 0] {
        stage.take(&looks).await?;
        let leases: u64 = stage.connection.zcard(stage.key("leases")).await.unwrap_or(0);
        same("leases that are left", &leases, &left)?;
    }
    let digest = stage.digest.clone();
    stage.quietly("lease", &texts(&["w1", "2", &TASKS.to_string(), &digest])).await?;
    for task in 0..TASKS {
        let failed = [&task.to_string(), "2.w1.2", "exit_code", "again", "0", "last line"];
        stage.quietly("fail", &texts(&failed)).await?;
    }
    for left in [TASKS - BOUND, TASKS - 2 * BOUND, 0] {
        stage.quietly("lease", &texts(&["w2", "1", "0", &digest])).await?;
        let delayed: u64 = stage.connection.zcard(stage.key("delayed")).await.unwrap_or(0);
        same("delays that are left", &delayed, &left)?;
    }
    Ok(())
}

/// More pieces of live output than are kept.
async fn live_output(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&Limits::default()).await?;
    stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
    stage.take(&Step::Lease { worker: worker("w1"), request: 1, slots: 1 }).await?;
    for piece in 0..PIECES_MAX + 10 {
        stage.quietly("tell", &texts(&["0", "1.w1.1", "log", &piece.to_string(), "text"])).await?;
    }
    let pieces: u64 = found(stage.connection.xlen(stage.key("live")).await)?;
    same("pieces that are kept", &pieces, &PIECES_MAX)?;
    let seconds: u64 = found(stage.connection.ttl(stage.key("live")).await)?;
    same(&format!("they are forgotten within {PIECES_SECONDS} s"), &(seconds <= PIECES_SECONDS), &true)
}

/// More idle workers than one call looks at, and none that listens.
async fn wakes(stage: &mut Stage) -> Result<(), String> {
    const WORKERS: u64 = WAKES_MAX + 100;
    stage.reset(&Limits::default()).await?;
    let mut pipe = redis::pipe();
    for worker in 0..WORKERS {
        pipe.zadd(stage.key("idle"), format!("gone{worker}"), 1);
    }
    pipe.exec_async(&mut stage.connection).await.map_err(|error| error.to_string())?;
    let digest = stage.digest.clone();
    stage.quietly("push", &texts(&[&digest, "0", "[]"])).await?;
    let idle: u64 = stage.connection.zcard(stage.key("idle")).await.unwrap_or(0);
    same("workers that are still idle", &idle, &(WORKERS - WAKES_MAX))
}

/// Calls that name thousands of tasks; and the stream stays bounded.
async fn large_calls(stage: &mut Stage) -> Result<(), String> {
    // Each number leaves one id over where scripts work in portions of 1,000.
    const TASKS: u64 = 11_001;
    stage.reset(&Limits::default()).await?;
    let digest = stage.digest.clone();
    for (first, end) in [(0, 1_000), (1_000, TASKS)] {
        let inputs = (first..end).map(|task| format!("[{task}]"));
        let arguments: Vec<String> =
            texts(&[&digest, &first.to_string()]).into_iter().chain(inputs).collect();
        same("pushed", &stage.quietly("push", &arguments).await?, &texts(&["ok", &end.to_string()]))?;
    }
    let inputs: BTreeMap<u64, String> = found(stage.connection.hgetall(stage.key("inputs")).await)?;
    same("inputs", &inputs, &(0..TASKS).map(|task| (task, format!("[{task}]"))).collect())?;
    // Of the first thousand all but one, of the second every other one, all of the third.
    let is_named = |task: &u64| match task / 1_000 {
        0 => *task != 500,
        1 => task.is_multiple_of(2),
        thousand => thousand == 2,
    };
    let (named, others): (Vec<u64>, Vec<u64>) = (0..TASKS).partition(is_named);
    let named: Vec<String> = named.iter().map(u64::to_string).collect();
    let arguments = [texts(&["0"]), named.clone()].concat();
    for cancelled in [named.len(), 0] {
        let reply = stage.quietly("cancel", &arguments).await?;
        same("cancelled", &reply, &texts(&["ok", &cancelled.to_string()]))?;
        let pending: Vec<u64> = found(stage.connection.lrange(stage.key("pending"), 0, -1).await)?;
        same("the others are pending in their order", &(pending == others), &true)?;
    }
    many_leases(stage, &others).await?;
    let left = stage.queue.cancel_next(&stage.run, TASKS).await.map_err(|error| error.to_string())?;
    same("cancelled", &left, &(others.len() as u64))?;
    let leases: u64 = found(stage.connection.zcard(stage.key("leases")).await)?;
    same("leases", &leases, &0)?;
    let events: u64 = found(stage.connection.xlen(stage.key("events")).await)?;
    same(&format!("{events} events are bounded"), &EVENTS.contains(&events), &true)
}

/// Two calls lease as much as one gives, and one renews it all.
async fn many_leases(stage: &mut Stage, pending: &[u64]) -> Result<(), String> {
    let digest = stage.digest.clone();
    let mut leases = Vec::new();
    for (number, given) in pending.chunks(GRANTS_MAX).take(2).enumerate() {
        let request = (number + 1).to_string();
        let slots = (GRANTS_MAX + 200).to_string();
        let reply = stage.quietly("lease", &texts(&["w1", &request, &slots, &digest])).await?;
        let granted: Vec<&str> = reply[2..].iter().filter_map(|grant| grant.split('|').next()).collect();
        let given: Vec<String> = given.iter().map(u64::to_string).collect();
        same("granted", &granted, &given.iter().map(String::as_str).collect())?;
        leases.extend(given.into_iter().flat_map(|task| [task, format!("1.w1.{request}")]));
    }
    let clock: u64 = found(stage.connection.hincr(stage.key("run"), "clock_ms", 10).await)?;
    let reply = stage.quietly("heartbeat", &leases).await?;
    same("held", &reply[2..].iter().filter(|pulse| *pulse == "held").count(), &(2 * GRANTS_MAX))?;
    let first = clock + Limits::default().lease_ms;
    let renewed: usize = found(stage.connection.zcount(stage.key("leases"), first, "+inf").await)?;
    same("renewed", &renewed, &(2 * GRANTS_MAX))
}

/// How long a worker is told to wait, with leases shorter and longer than what bounds it.
async fn waits(stage: &mut Stage) -> Result<(), String> {
    for lease_ms in [60_000, 24_000, 240_000, 10] {
        stage.reset(&Limits { lease_ms, ..Limits::default() }).await?;
        stage.take(&Step::Lease { worker: worker("w1"), request: 1, slots: 1 }).await?;
    }
    Ok(())
}

/// The lease clock and an expiry, to the ms: the clock stands still because the last call lies ahead.
async fn expiries(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&Limits::default()).await?;
    let digest = stage.digest.clone();
    stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
    stage.take(&Step::Lease { worker: worker("w1"), request: 1, slots: 1 }).await?;
    let expiry: u64 = found(stage.connection.zscore(stage.key("leases"), 0).await)?;
    for (clock, leases) in [(expiry - 1, 1), (expiry, 0)] {
        stand_still_at(stage, clock).await?;
        stage.quietly("lease", &texts(&["w2", "1", "0", &digest])).await?;
        let held: u64 = found(stage.connection.zcard(stage.key("leases")).await)?;
        same(&format!("leases at {clock} with an expiry at {expiry}"), &held, &leases)?;
    }
    Ok(())
}

/// How long an idle worker waits for the next expiry, to the ms of a lease clock that stands still; and how long in a fleet.
async fn idle_workers(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&Limits::default()).await?;
    let ask = texts(&["w2", "1", "1", &stage.digest.clone()]);
    stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
    stage.take(&Step::Lease { worker: worker("w1"), request: 1, slots: 1 }).await?;
    let expiry: u64 = found(stage.connection.zscore(stage.key("leases"), 0).await)?;
    for left in [1, 248, 249, 250, 3_000, 4_998, 4_999, 6_000] {
        stand_still_at(stage, expiry - left).await?;
        let reply = stage.quietly("lease", &ask).await?;
        let expected = texts(&["empty", &(left + 1).clamp(250, 5_000).to_string()]);
        same(&format!("{left} ms before an expiry"), &reply[2..].to_vec(), &expected)?;
    }
    let now = stage.queue.now_ms().await.map_err(|error| error.to_string())?;
    let fleets =
        [(64, 5_000), (66, 5_000), (1_500, 5_000), (1_501, 5_003), (13_500, 45_000), (16_000, 45_000)];
    for (idle, wait) in fleets {
        let mut pipe = redis::pipe();
        for number in 0..idle - 1 {
            pipe.zadd(stage.key("idle"), format!("other{number}"), now);
        }
        found(pipe.exec_async(&mut stage.connection).await)?;
        let mut seen = BTreeSet::new();
        // Of a large fleet, who is early has to be waited for.
        while !seen.contains(&64.min(idle - 1)) || (idle < 100 && !seen.contains(&63)) {
            stand_still_at(stage, expiry - 1_000).await?;
            let reply = stage.quietly("lease", &ask).await?;
            let now: u64 = reply[1].parse().map_err(|_| format!("no moment in {reply:?}"))?;
            let turn = now % idle;
            let expected = texts(&["empty", &if turn < 64 { 1_001 } else { wait }.to_string()]);
            same(&format!("one of {idle} idle workers at {now}"), &reply[2..].to_vec(), &expected)?;
            seen.insert(if idle < 100 { turn } else { turn.min(64) });
        }
    }
    Ok(())
}

/// Sets a lease clock that stands still, because the last call lies ahead.
async fn stand_still_at(stage: &mut Stage, clock: u64) -> Result<(), String> {
    let set = [("clock_ms", clock), ("ran_at", u64::MAX >> 12)];
    found(stage.connection.hset_multiple(stage.key("run"), &set).await)
}

/// A list that another hand has made shorter than its counter says: nothing is leased, and nothing breaks.
async fn a_shortened_list(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&Limits::default()).await?;
    stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
    found::<()>(stage.connection.del(stage.key("pending")).await)?;
    let reply = stage.quietly("lease", &texts(&["w1", "1", "1", &stage.digest.clone()])).await?;
    same("leased from an empty list", &reply[2..].to_vec(), &texts(&["damaged", "5000"]))
}

/// What of the time since the last recorded moment is not worth a write, to the ms.
async fn lag(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&Limits { lapses_max: 1, ..Limits::default() }).await?;
    stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
    stage.take(&Step::Heartbeat(Vec::new())).await?;
    lag_of(stage, "ran_at", "heartbeat", async |_| Ok(Vec::new())).await?;
    let digest = stage.digest.clone();
    let (ask, mut request) = (texts(&["w2", "1", "0", &digest]), 0_u64);
    lag_of(stage, "last_terminal_at", "lease", async |stage: &mut Stage| {
        stage.quietly("requeue", &texts(&["0", &request.to_string()])).await?;
        request += 1;
        let again = texts(&["w1", &request.to_string(), "1", &digest]);
        same("leased", &stage.quietly("lease", &again).await?[0], &"granted".to_owned())?;
        found::<()>(stage.connection.zadd(stage.key("leases"), 0, 0).await)?;
        Ok(ask.clone())
    })
    .await
}

/// Calls a script at both edges of the lag of a recorded moment, after `prepare` has said with which arguments.
async fn lag_of(
    stage: &mut Stage,
    field: &str,
    script: &str,
    mut prepare: impl AsyncFnMut(&mut Stage) -> Result<Vec<String>, String>,
) -> Result<(), String> {
    let run = stage.key("run");
    let set = format!("redis.call('HSET', '{run}', '{field}', at)");
    let mut seen: BTreeSet<i64> = BTreeSet::new();
    for number in 0..TRIES {
        let arguments = prepare(stage).await?;
        let later = [1, 0, 1 - LAG_MS, -LAG_MS][usize::try_from(number % 4).unwrap_or_default()];
        let clock: i64 = found(stage.connection.hget(&run, "clock_ms").await)?;
        let (left, reply) = stage.right_after(&set, later, script, &arguments).await?;
        let now: i64 = reply[1].parse().map_err(|_| format!("no moment in {reply:?}"))?;
        let (recorded, ticked): (i64, i64) = found(stage.connection.hmget(&run, &[field, "clock_ms"]).await)?;
        let is_recorded = -left >= LAG_MS || left > 0 && (field == "ran_at" || left >= LAG_MS);
        let expected = if is_recorded { now } else { now + left };
        same(&format!("{field} {left} ms before a call"), &recorded, &expected)?;
        if field == "ran_at" {
            let passed = if is_recorded { (-left).max(0) } else { 0 };
            same(&format!("the clock {left} ms before a call"), &(ticked - clock), &passed)?;
        }
        seen.extend([1, 1 - LAG_MS, -LAG_MS].iter().filter(|edge| **edge == left));
        if seen.len() == 3 {
            return Ok(());
        }
    }
    Err(format!("around the lag of `{field}` only {seen:?} in {TRIES} calls"))
}

/// How often a moment is set before calls must have come a ms before it, at it, and after it.
const TRIES: i64 = 10_000;

/// The ms before a moment of plain time, from -1 to 1, of which a call has been seen.
#[derive(Debug, Default)]
struct Seen(BTreeSet<i64>);

impl Seen {
    /// Whether all have been seen.
    fn add(&mut self, left: i64) -> bool {
        self.0.extend((-1..=1).filter(|ms| *ms == left));
        self.0.len() == 3
    }
}

/// The end of a run, to the ms of plain time.
async fn end_of_a_run(stage: &mut Stage) -> Result<(), String> {
    let ask = texts(&["w2", "1", "1", &stage.digest.clone()]);
    stage.reset(&Limits::default()).await?;
    stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
    stage.take(&Step::CancelNext(1)).await?;
    stage.take(&Step::Seal(1)).await?;
    let set = format!(
        "redis.call('HSET', '{}', 'last_terminal_at', at - {})",
        stage.key("run"),
        SETTLE_MS + LAG_MS
    );
    let mut seen = Seen::default();
    for number in 0..TRIES {
        let (left, reply) = stage.right_after(&set, number % 3 - 1, "lease", &ask).await?;
        let wait = (left + 1).to_string();
        let expected = if left < 0 { ["drained", "5000"] } else { ["empty", &wait] };
        same(&format!("{left} ms before a run has settled"), &reply[2..].to_vec(), &texts(&expected))?;
        if seen.add(left) {
            return Ok(());
        }
    }
    Err(format!("around the end of a run only {seen:?} in {TRIES} calls"))
}

/// The end of a delay, to the ms of plain time.
async fn end_of_a_delay(stage: &mut Stage) -> Result<(), String> {
    let digest = stage.digest.clone();
    let ask = texts(&["w2", "1", "0", &digest]);
    stage.reset(&Limits { failures_max: u64::MAX >> 12, ..Limits::default() }).await?;
    stage.take(&Step::Push { first: 0, tasks: 1 }).await?;
    let set = format!("redis.call('ZADD', '{}', at, 0)", stage.key("delayed"));
    let (mut seen, mut lease) = (Seen::default(), 0);
    for number in 0..TRIES {
        if found::<u64>(stage.connection.zcard(stage.key("delayed")).await)? == 0 {
            lease += 1;
            stage.quietly("lease", &texts(&["w1", &lease.to_string(), "1", &digest])).await?;
            let failed = ["0", &format!("{lease}.w1.{lease}"), "exit_code", "again", "999999", ""];
            same("failed", &stage.quietly("fail", &texts(&failed)).await?[0], &"delayed".to_owned())?;
        }
        let (left, _) = stage.right_after(&set, number % 3 - 1, "lease", &ask).await?;
        let delayed: u64 = found(stage.connection.zcard(stage.key("delayed")).await)?;
        same(&format!("delayed tasks {left} ms before the end"), &delayed, &u64::from(left > 0))?;
        if seen.add(left) {
            return Ok(());
        }
    }
    Err(format!("around the end of a delay only {seen:?} in {TRIES} calls"))
}
