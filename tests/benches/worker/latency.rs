//! How long a task waits for an idle worker: from its push until its program runs, beside the start of that program alone.

use std::time::{SystemTime, UNIX_EPOCH};

use common::task::{Limits, TaskId};
use tokio::process::Command;

use crate::fleet::{AS_SHIPPED, ONE_ROW, SLOTS, Site};
use crate::{spread, text};

/// Tasks of each round, one after the other.
const TASKS: u64 = 100;

pub(crate) async fn measure(rounds: usize) {
    let site = Site::new().await;
    let mut measured = Vec::new();
    for round in 0..rounds {
        measured.push(one_round(&site, &format!("latency{round}")).await);
    }
    println!(
        "from the push of a task to an idle worker until its program runs, ms; lowest / median / highest of {rounds} rounds of {TASKS}"
    );
    for (name, percent) in [("p50 (must: 2)", 50), ("p99 (must: 10)", 99)] {
        let of =
            |which: usize| text(spread(measured.iter().map(|round| quantile(&round[which], percent))), 2);
        println!("  {name}: {}; start of the program alone (the floor): {}", of(0), of(1));
    }
}

/// Times of all tasks, and of all starts alone, in ms.
async fn one_round(site: &Site, name: &str) -> [Vec<f64>; 2] {
    let mut run = site.run(name, &[ONE_ROW], &Limits::default()).await;
    let _worker = site.worker(AS_SHIPPED, name, &run, SLOTS);
    let (mut times, mut floor) = (Vec::new(), Vec::new());
    for task in 0..TASKS {
        run.until_idle(&site.redis, 1).await;
        let pushed_us = now_us();
        run.push(1).await;
        run.until_done().await;
        times.push(ms(pushed_us, run.started_us(TaskId(task)).await));
        floor.push(start_alone().await);
    }
    [times, floor]
}

#[expect(clippy::disallowed_methods, reason = "the floor is measured here")]
async fn start_alone() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let started_us = now_us();
    let status = Command::new(ONE_ROW).env("MOLFLEET_TASK", "0").current_dir(folder.path()).status().await;
    assert!(status.unwrap().success());
    let rows = std::fs::read_to_string(folder.path().join("rows.csv")).unwrap();
    ms(started_us, rows.trim().rsplit(',').next().unwrap().parse().unwrap())
}

#[expect(
    clippy::disallowed_methods,
    reason = "two processes of one machine have only the wall clock in common"
)]
pub(crate) fn now_us() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn ms(from_us: u64, to_us: u64) -> f64 {
    (to_us as f64 - from_us as f64) / 1_000.0
}

/// The time that so many percent of all do not exceed.
fn quantile(times: &[f64], percent: usize) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times[(times.len() * percent).div_ceil(100).saturating_sub(1)]
}
