//! Leasing and completing tasks that are no work, beside two scripts of three commands each over the same connection.

use common::digest::sha256_hex;
use common::queue::{Completion, Grant, LeaseReply};
use common::task::{LeaseName, Limits, Moments, TaskId, WorkerId};
use futures::{StreamExt as _, stream};
use redis::Script;
use tests::{Persistence, TestRedis, TestRun, sample_input};

use crate::meter::{ROUNDS, Spent, print_cpu, print_rate, spend};
use crate::push::push;

const TASKS: u64 = 40_000;
/// A GROMACS engine of 7 hours, in ms.
const ENGINE_MS: u64 = 7 * 3_600_000;
/// What a claim is at its cheapest.
const CLAIM: &str = "local ids = redis.call('LPOP', KEYS[1], ARGV[1]) or {}
for _, id in ipairs(ids) do redis.call('HSET', KEYS[1] .. id, 'worker', ARGV[2]) redis.call('ZADD', KEYS[2], 1, id) end
return ids";
/// What a completion is at its cheapest.
const DONE: &str = "for i = 2, #ARGV do
redis.call('ZREM', KEYS[2], ARGV[i]) redis.call('HSET', KEYS[1] .. ARGV[i], 'done', ARGV[1]) redis.call('HINCRBY', KEYS[3], 'done', 1) end";

/// How tasks are leased and completed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    /// Tasks per call.
    tasks: u64,
    /// Workers that call side by side over the one connection.
    workers: u64,
}

impl Batch {
    const OF_1: Self = Self { tasks: 1, workers: 32 };
    /// As many tasks per call as a large machine has slots.
    pub(crate) const OF_64: Self = Self { tasks: 64, workers: 8 };
}

/// Drains runs, in turns with the ceiling.
pub(crate) async fn measure() {
    for (what, batch) in
        [("lease + complete, one by one", Batch::OF_1), ("lease + complete, 64 per call", Batch::OF_64)]
    {
        let (mut spent, mut ceilings): (Vec<Spent>, Vec<f64>) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let redis = TestRedis::start_with(Persistence::EverySecond).await;
            let run = TestRun::create(&redis, "drained", &Limits::default()).await;
            push(&run, &(0..TASKS).map(sample_input).collect::<Vec<_>>()).await;
            spent.push(spend(&redis, work(&run, batch)).await);
            assert_eq!(run.queue.progress(&run.id).await.unwrap().succeeded, TASKS);
            ceilings.push(TASKS as f64 / bare(&redis, batch).await.seconds);
        }
        let rates: Vec<f64> = spent.iter().map(|spent| TASKS as f64 / spent.seconds).collect();
        print_rate(what, "tasks/s", &rates, "two scripts of three commands", &ceilings);
        print_cpu(&spent, TASKS);
    }
}

/// Leases and completes until nothing is left.
pub(crate) async fn work(run: &TestRun, batch: Batch) {
    stream::iter(0..batch.workers)
        .for_each_concurrent(None, |number| work_as(run, number, batch.tasks))
        .await;
}

async fn work_as(run: &TestRun, number: u64, slots: u64) {
    let worker: WorkerId = format!("worker{number:06}").parse().unwrap();
    for request in 1.. {
        match run.queue.lease(&run.id, &run.digest, &worker, request, slots).await.unwrap() {
            LeaseReply::Granted { now_ms, grants } => complete(run, &grants, now_ms).await,
            LeaseReply::Nothing(_) => return,
            LeaseReply::Stale { answered } => unreachable!("request {request} is stale: {answered}"),
            LeaseReply::Differs => unreachable!("nobody pushed another run"),
        }
    }
}

async fn complete(run: &TestRun, grants: &[Grant], now_ms: u64) {
    let digests = [sha256_hex(b"shard"), sha256_hex(b"index")];
    let completions: Vec<Completion<'_>> =
        grants.iter().map(|grant| completion(grant, now_ms, &digests)).collect();
    let successes: Vec<(TaskId, &LeaseName, &Completion<'_>)> = grants
        .iter()
        .zip(&completions)
        .map(|(grant, completion)| (grant.task, &grant.lease, completion))
        .collect();
    let answers = run.queue.complete_all(&run.id, &successes).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

fn completion<'a>(grant: &Grant, now_ms: u64, [shard, index]: &'a [String; 2]) -> Completion<'a> {
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
    Completion {
        shard_sha256: shard,
        index_sha256: index,
        molecules_ok: 10,
        molecules_bad: 0,
        bytes_down: 1_234_567,
        bytes_up: 23_456_789,
        moments,
    }
}

/// The same number of tasks by the cheapest scripts.
async fn bare(redis: &TestRedis, batch: Batch) -> Spent {
    let mut connection = redis.connection().await;
    for first in (0..TASKS).step_by(1_000) {
        let ids: Vec<u64> = (first..first + 1_000).collect();
        redis::cmd("RPUSH").arg("bare").arg(ids).exec_async(&mut connection).await.unwrap();
    }
    let (claim, done) = (&Script::new(CLAIM), &Script::new(DONE));
    let workers = stream::iter(0..batch.workers).for_each_concurrent(None, |worker| {
        let mut connection = connection.clone();
        async move {
            loop {
                let mut call = claim.key("bare");
                let call = call.key("bare:leases").arg(batch.tasks).arg(worker);
                let ids: Vec<u64> = call.invoke_async(&mut connection).await.unwrap();
                if ids.is_empty() {
                    return;
                }
                let mut call = done.key("bare");
                let call = call.key("bare:leases").key("bare:done").arg("5a").arg(ids);
                let () = call.invoke_async(&mut connection).await.unwrap();
            }
        }
    });
    spend(redis, workers).await
}
