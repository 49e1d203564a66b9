//! What only many tasks show: how much one call does at most, and how durations are counted. Each check makes its own run.

use std::collections::BTreeMap;

use common::task::Limits;
use redis::AsyncCommands as _;

use super::stage::Stage;
use super::step::Step;

/// Tasks that one call of `lease` reclaims or promotes at most.
const BOUND: u64 = 100;
/// Idle workers that one call strikes off at most.
const WAKES_MAX: u64 = 1_000;
/// Events that are kept, and how many more Redis may keep when it trims a stream by whole nodes.
const EVENTS: std::ops::Range<u64> = 10_000..10_200;

/// Runs all checks.
pub async fn check(stage: &mut Stage) -> Result<(), String> {
    durations(stage).await?;
    reclaims_and_promotes(stage).await?;
    wakes(stage).await?;
    large_calls(stage).await
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

fn texts(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|text| (*text).to_owned()).collect()
}

/// The engine phase of one task each: durations at and beside the edges of the buckets.
async fn durations(stage: &mut Stage) -> Result<(), String> {
    let edges = [(0_u64, 1_u64), (1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 6), (7, 8), (8, 8), (9, 12), (12, 12), (13, 16)];
    let powers = (4..27).flat_map(|power| [(1_u64 << power, 1 << power), ((1 << power) - 1, 1 << power)]);
    let halves = [(91, 91), (92, 128), (1_449, 1_449), (1_450, 2_048), (25_200_000, 33_554_432)];
    let all: Vec<(u64, u64)> = edges.into_iter().chain(powers).chain(halves).collect();
    stage.reset(&Limits::default()).await?;
    let tasks = all.len() as u64;
    stage.take(&Step::Push { first: 0, tasks }).await?;
    stage.take(&Step::Lease { worker: "w1".parse().expect("an id"), request: 1, slots: tasks }).await?;
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for (task, (ms, bucket)) in all.iter().enumerate() {
        let (task, ended) = (task.to_string(), (1_000 + ms).to_string());
        let arguments =
            [&task, "1.w1.1", "5a", "1d", "1", "0", "0", "0", "1", "1", "1", "1000", &ended, "", ""];
        stage.quietly("complete", &texts(&arguments)).await?;
        *expected.entry(*bucket).or_default() += 1;
    }
    let mut engine: BTreeMap<String, u64> =
        stage.connection.hgetall(stage.key("stats:engine")).await.map_err(|error| error.to_string())?;
    same("durations", &engine.remove("count"), &Some(tasks))?;
    same("their sum", &engine.remove("sum_ms"), &Some(all.iter().map(|(ms, _)| ms).sum()))?;
    let expected = expected.into_iter().map(|(bucket, count)| (bucket.to_string(), count)).collect();
    same("buckets", &engine, &expected)
}

/// More leases expire, and more delays end, than one call takes.
async fn reclaims_and_promotes(stage: &mut Stage) -> Result<(), String> {
    const TASKS: u64 = BOUND + 30;
    stage.reset(&Limits::default()).await?;
    let (worker, other) = ("w1".parse().expect("an id"), "w2".parse().expect("an id"));
    let looks = Step::Lease { worker: other, request: 1, slots: 0 };
    stage.take(&Step::Push { first: 0, tasks: TASKS }).await?;
    stage.take(&Step::Lease { worker, request: 1, slots: TASKS }).await?;
    stage.take(&Step::Clock(Limits::default().lease_ms + 1)).await?;
    for left in [TASKS - BOUND, 0] {
        stage.take(&looks).await?;
        let leases: u64 = stage.connection.zcard(stage.key("leases")).await.unwrap_or(0);
        same("leases that are left", &leases, &left)?;
    }
    let digest = stage.digest.clone();
    stage.quietly("lease", &texts(&["w1", "2", &TASKS.to_string(), &digest])).await?;
    for task in 0..TASKS {
        let failed = [&task.to_string(), "2.w1.2", "exit_code", "0", "0", "last line"];
        stage.quietly("fail", &texts(&failed)).await?;
    }
    for left in [TASKS - BOUND, 0] {
        stage.quietly("lease", &texts(&["w2", "1", "0", &digest])).await?;
        let delayed: u64 = stage.connection.zcard(stage.key("delayed")).await.unwrap_or(0);
        same("delays that are left", &delayed, &left)?;
    }
    Ok(())
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
    const TASKS: u64 = 10_500;
    stage.reset(&Limits::default()).await?;
    let digest = stage.digest.clone();
    let mut arguments = texts(&[&digest, "0"]);
    arguments.extend((0..TASKS).map(|task| format!("[{task}]")));
    let (run, key) = (stage.run.clone(), stage.key("pending"));
    stage.quietly("push", &arguments).await?;
    let inputs: BTreeMap<u64, String> =
        stage.connection.hgetall(stage.key("inputs")).await.map_err(|error| error.to_string())?;
    same("inputs", &inputs, &(0..TASKS).map(|task| (task, format!("[{task}]"))).collect())?;
    let named: Vec<String> = (0..2_500).step_by(2).map(|task: u64| task.to_string()).collect();
    let named = [texts(&["0"]), named.clone(), named].concat();
    same("cancelled", &stage.quietly("cancel", &named).await?, &texts(&["ok", "1250"]))?;
    let pending: Vec<u64> = stage.connection.lrange(&key, 0, -1).await.map_err(|error| error.to_string())?;
    let others: Vec<u64> = (0..TASKS).filter(|task| *task >= 2_500 || task % 2 == 1).collect();
    same("pending in their order", &(pending == others), &true)?;
    let left = TASKS - 1_250;
    let cancelled = stage.queue.cancel_next(&run, TASKS).await.map_err(|error| error.to_string())?;
    same("cancelled", &cancelled, &left)?;
    let events: u64 = stage.connection.xlen(stage.key("events")).await.unwrap_or(0);
    same(&format!("{events} events are bounded"), &EVENTS.contains(&events), &true)
}
