//! How long a task waits for another worker when its own is gone: killed, or told to leave. There is one idle worker each time.

use std::collections::BTreeMap;

use common::task::Limits;
use nix::sys::signal::Signal;
use redis::AsyncCommands as _;

use crate::fleet::{AS_SHIPPED, Run, Site};
use crate::latency::now_us;
use crate::{spread, text};

/// Workers that are lost side by side, each of a run of its own.
const LOST: usize = 4;
/// Shorter than the default, so that it takes less than a minute; an idle worker asks every 3.75 s all the same.
const LIMITS: Limits = Limits {
    parallelism: 0,
    failures_max: 3,
    lapses_max: 20,
    lease_ms: 45_000,
    heartbeat_ms: 10_000,
    backoff_ms: 30_000,
    backoff_max_ms: 600_000,
    step_seconds_max: 3_600,
    step_seconds: BTreeMap::new(),
    checkpoint_seconds: 600,
    checkpoint_jitter_seconds: 119,
};

pub(crate) async fn measure() {
    let site = Site::new().await;
    let names: Vec<String> = (0..LOST).map(|number| format!("lost{number}")).collect();
    let measured = futures::future::join_all(names.iter().map(|name| one(&site, name))).await;
    let of = |which: usize| text(spread(measured.iter().map(|times| times[which])), 0);
    println!("until another worker has the task, ms; lowest / median / highest of {LOST}");
    println!("  its worker was killed: {} after the lease's expiry (must: 1000)", of(0));
    println!("  its worker got SIGTERM: {} after the signal, the engine's end included", of(1));
}

/// Loses two workers of a run, one after the other, and gives both times in ms.
async fn one(site: &Site, name: &str) -> [f64; 2] {
    let mut run = site.run(name, &["sleep", "600"], &LIMITS).await;
    let killed = site.worker(AS_SHIPPED, &format!("{name}-killed"), &run, 1);
    run.until_idle(&site.redis, 1).await;
    run.push(1).await;
    run.until_leases(&site.redis, 1).await;
    let told = site.worker(AS_SHIPPED, &format!("{name}-told"), &run, 1);
    run.until_idle(&site.redis, 1).await;
    killed.signal(Signal::SIGKILL);
    let expiry_ms = expiry_ms(site, &run).await;
    let reclaimed_ms = run.until_leases(&site.redis, 2).await;
    let _last = site.worker(AS_SHIPPED, &format!("{name}-last"), &run, 1);
    run.until_idle(&site.redis, 1).await;
    let told_ms = now_us() as f64 / 1_000.0;
    told.signal(Signal::SIGTERM);
    let released_ms = run.until_leases(&site.redis, 3).await;
    [reclaimed_ms - expiry_ms, released_ms - told_ms]
}

/// When the lease of task 0 expires, by the Redis clock: the lease clock goes as fast, as long as somebody calls.
async fn expiry_ms(site: &Site, run: &Run) -> f64 {
    let mut connection = site.redis.connection().await;
    let expiry: f64 = connection.zscore(run.key("leases"), 0).await.unwrap();
    let [clock_ms, ran_at]: [f64; 2] =
        connection.hmget(run.key("run"), &["clock_ms", "ran_at"]).await.unwrap();
    ran_at + expiry - clock_ms
}
