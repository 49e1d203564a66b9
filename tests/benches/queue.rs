//! How fast a run is pushed and worked off, and what a task costs in Redis' memory. Prints figures; `cargo bench -p tests --bench queue`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures time and prints"
)]

use std::time::Instant;

use common::digest::sha256_hex;
use common::queue::{Completion, Grant, LeaseReply, Queue};
use common::task::{Limits, Moments, RunId, TaskId, WorkerId};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tests::{TestRedis, TestRun, sample_input};

const TASKS: u64 = 100_000;
/// Chunk sizes to push with.
const CHUNKS: [usize; 4] = [200, 1_000, 5_000, 10_000];
/// Pushes, and completions, that are on their way at once.
const IN_FLIGHT: usize = 4;
/// Tasks per lease call.
const LEASE: u64 = 64;
/// Workers that lease side by side.
const WORKERS: u64 = 4;
/// Calls of workers that find nothing to do.
const IDLE_CALLS: u64 = 20_000;
/// A GROMACS engine of 7 hours, in ms.
const ENGINE_MS: u64 = 7 * 3_600_000;

#[tokio::main]
async fn main() {
    let redis = TestRedis::start().await;
    let inputs: Vec<String> = (0..TASKS).map(sample_input).collect();
    for chunk in CHUNKS {
        push(&redis, &inputs, chunk).await;
    }
    // Removed runs are freed in the background: memory is measured in a Redis that never had one.
    let redis = TestRedis::start().await;
    let empty = used_memory(&redis).await;
    let run = TestRun::create(&redis, "finished", &Limits::default()).await;
    push_all(&run, &inputs, 1_000).await;
    let pending = used_memory(&redis).await;
    println!("pending: {} bytes per task", (pending - empty) / TASKS);
    let started = Instant::now();
    stream::iter(0..WORKERS).for_each_concurrent(None, |worker| work(&run, worker)).await;
    let seconds = started.elapsed().as_secs_f64();
    let progress = run.queue.progress(&run.id).await.unwrap();
    assert_eq!(progress.succeeded, TASKS);
    println!("lease + complete: {:.0} tasks/s ({seconds:.1} s)", TASKS as f64 / seconds);
    println!("finished: {} bytes per task", (used_memory(&redis).await - empty) / TASKS);
    println!("complete and lease: {:.0} µs of Redis per call", script_micros(&redis).await);
    for number in 0..IDLE_CALLS {
        let worker: WorkerId = format!("idle{}", number % 13_000).parse().unwrap();
        run.queue.lease(&run.id, &run.digest, &worker, 1, 1).await.unwrap();
    }
    println!("idle lease: {:.0} µs of Redis per call", script_micros(&redis).await);
}

/// Mean time that Redis spent in a script since the last call of this, in µs.
async fn script_micros(redis: &TestRedis) -> f64 {
    let mut connection = redis.connection().await;
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("commandstats").query_async(&mut connection).await.unwrap();
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await.unwrap();
    let line = info.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
    let micros = line.split(',').find_map(|field| field.strip_prefix("usec_per_call="));
    micros.unwrap().parse().unwrap()
}

/// Pushes a run with one chunk size, prints the rate, and removes it.
async fn push(redis: &TestRedis, inputs: &[String], chunk: usize) {
    let run = TestRun::create(redis, &format!("push{chunk}"), &Limits::default()).await;
    let started = Instant::now();
    push_all(&run, inputs, chunk).await;
    let seconds = started.elapsed().as_secs_f64();
    println!("push in chunks of {chunk}: {:.0} tasks/s", TASKS as f64 / seconds);
    let mut first = 0;
    while run.queue.remove(&run.id, TaskId(first), 10_000).await.unwrap() {
        first += 10_000;
    }
}

async fn push_all(run: &TestRun, inputs: &[String], chunk: usize) {
    for (number, inputs) in inputs.chunks(chunk).enumerate() {
        let first = TaskId((number * chunk) as u64);
        let total = run.queue.push(&run.id, &run.digest, first, inputs).await.unwrap();
        assert_eq!(total, first.0 + inputs.len() as u64);
    }
}

/// Leases and completes until nothing is left.
async fn work(run: &TestRun, number: u64) {
    let (queue, id) = (&run.queue, &run.id);
    let worker: WorkerId = format!("worker{number:06}").parse().unwrap();
    for request in 1.. {
        match queue.lease(id, &run.digest, &worker, request, LEASE).await.unwrap() {
            LeaseReply::Granted { now_ms, grants } => {
                let completions = grants.iter().map(|grant| Ok(complete(queue, id, grant, now_ms)));
                stream::iter(completions).try_buffer_unordered(IN_FLIGHT).try_collect::<()>().await.unwrap();
            }
            LeaseReply::Nothing(_) => return,
            LeaseReply::Stale { answered } => unreachable!("request {request} is stale: {answered}"),
            LeaseReply::Differs => unreachable!("nobody pushed another run"),
        }
    }
}

async fn complete(
    queue: &Queue,
    run: &RunId,
    grant: &Grant,
    now_ms: u64,
) -> Result<(), common::queue::QueueError> {
    let at = |ms: u64| Some(now_ms + ms);
    let moments = Moments {
        queued: grant.queued_ms,
        leased: now_ms,
        staged: at(1_800),
        engine_started: at(1_812),
        engine_ended: at(1_812 + ENGINE_MS),
        upload_started: at(1_900 + ENGINE_MS),
        upload_ended: at(2_750 + ENGINE_MS),
    };
    let completion = Completion {
        shard_sha256: &sha256_hex(&grant.task.0.to_le_bytes()),
        index_sha256: &sha256_hex(&grant.task.0.to_be_bytes()),
        molecules_ok: 10,
        molecules_bad: 0,
        bytes_down: 1_234_567,
        bytes_up: 23_456_789,
        moments,
    };
    let done = queue.complete(run, grant.task, &grant.lease, &completion).await?;
    assert_eq!(done, Ok(()), "task {}", grant.task);
    Ok(())
}

async fn used_memory(redis: &TestRedis) -> u64 {
    let mut connection = redis.connection().await;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}
