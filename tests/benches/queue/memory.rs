//! What a task costs in Redis' memory before and after its work.

use common::task::Limits;
use tests::{TestRedis, TestRun, sample_input};

use crate::drain::{Batch, work};
use crate::meter::used_memory;
use crate::push::{TASKS, push};

/// Pushes a run into an empty Redis and works it off: memory of removed runs is freed in the background.
pub(crate) async fn measure() {
    let redis = TestRedis::start().await;
    let inputs: Vec<String> = (0..TASKS).map(sample_input).collect();
    let empty = used_memory(&redis).await;
    let run = TestRun::create(&redis, "finished", &Limits::default()).await;
    push(&run, &inputs).await;
    let bytes_each = |used: f64| (used - empty) / TASKS as f64;
    println!("pending: {:.0} bytes per task", bytes_each(used_memory(&redis).await));
    work(&run, Batch::OF_64).await;
    assert_eq!(run.queue.progress(&run.id).await.unwrap().succeeded, TASKS);
    println!(
        "finished: {:.0} bytes per task (a 7 h engine, ten molecules)",
        bytes_each(used_memory(&redis).await)
    );
}
