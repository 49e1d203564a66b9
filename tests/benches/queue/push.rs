//! Pushing a run, beside the cheapest way to bring as many bytes into Redis.

use common::task::{Limits, TaskId};
use tests::{Persistence, TestRedis, TestRun, sample_input};

use crate::meter::{ROUNDS, print_rate, spend};

pub(crate) const TASKS: u64 = 100_000;
/// What `launchpad push` sends at once.
pub(crate) const CHUNK: usize = 1_000;

/// Pushes, in turns with plain lists.
pub(crate) async fn measure() {
    let inputs: Vec<String> = (0..TASKS).map(sample_input).collect();
    let (mut rates, mut ceilings) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let redis = TestRedis::start_with(Persistence::EverySecond).await;
        let run = TestRun::create(&redis, "pushed", &Limits::default()).await;
        rates.push(TASKS as f64 / spend(&redis, Box::pin(push(&run, &inputs))).await.seconds);
        ceilings.push(TASKS as f64 / spend(&redis, Box::pin(fill_list(&redis, &inputs))).await.seconds);
    }
    print_rate("push", "tasks/s", &rates, "pipelined RPUSH of the same inputs", &ceilings);
}

/// Pushes a whole run in chunks.
pub(crate) async fn push(run: &TestRun, inputs: &[String]) {
    for (number, inputs) in inputs.chunks(CHUNK).enumerate() {
        let first = TaskId((number * CHUNK) as u64);
        let total = run.queue.push(&run.id, &run.digest, first, inputs).await.unwrap();
        assert_eq!(total, first.0 + inputs.len() as u64);
    }
}

async fn fill_list(redis: &TestRedis, inputs: &[String]) {
    let mut connection = redis.connection().await;
    for chunk in inputs.chunks(CHUNK) {
        let mut pipe = redis::pipe();
        for input in chunk {
            pipe.rpush("list", input).ignore();
        }
        pipe.exec_async(&mut connection).await.unwrap();
    }
}
