//! How long a worker takes that is told to leave, and how soon its task goes on elsewhere, for engines that keep a checkpoint: one that
//! ends at once, one with 50 MB to carry, and one that takes all of its grace. There is one idle worker each time.

use common::task::Limits;
use nix::sys::signal::Signal;

use crate::fleet::{AS_SHIPPED, Run, Site, Worker};
use crate::latency::now_us;
use crate::{spread, text};

/// Workers that leave side by side, each from a run of its own.
const LEAVING: usize = 4;

/// What is measured, and the script of its engine.
const ENGINES: [(&str, &str); 3] = [
    ("ends at once", "echo s > checkpoint/state; exec sleep 600"),
    ("has 50 MB of checkpoint", "head -c 50000000 /dev/zero > new; mv new checkpoint/state; exec sleep 600"),
    ("ignores SIGTERM", "trap '' TERM; echo s > checkpoint/state; while :; do sleep 1; done"),
];

/// The times of one worker, in ms.
struct Times {
    /// From the signal until it was gone.
    gone: f64,
    /// From the signal until another one had the task.
    taken: f64,
    /// From the registration of its last bundle until then.
    after_hand_over: f64,
}

pub(crate) async fn measure() {
    let site = Site::new().await;
    println!("a worker gets SIGTERM, ms; lowest / median / highest of {LEAVING}");
    for (number, (what, script)) in ENGINES.into_iter().enumerate() {
        let names: Vec<String> = (0..LEAVING).map(|one| format!("leaving{number}-{one}")).collect();
        let all = futures::future::join_all(names.iter().map(|name| one(&site, name, script))).await;
        let of = |which: fn(&Times) -> f64| text(spread(all.iter().map(which)), 0);
        println!("  its engine {what}: it is gone after {} (must: 15000),", of(|times| times.gone));
        println!(
            "    another worker has the task after {}, which is {} after the last bundle (must: 2000)",
            of(|times| times.taken),
            of(|times| times.after_hand_over)
        );
    }
}

async fn one(site: &Site, name: &str, script: &str) -> Times {
    let mut run = site.run(name, &["sh", "-c", script], &Limits::default()).await;
    let mut told = site.worker(AS_SHIPPED, &format!("{name}-told"), &run, 1);
    run.until_idle(&site.redis, 1).await;
    run.push(1).await;
    run.until_leases(&site.redis, 1).await;
    site.until_checkpoint(&run).await;
    let _next = site.worker(AS_SHIPPED, &format!("{name}-next"), &run, 1);
    run.until_idle(&site.redis, 1).await;
    let told_ms = now_us() as f64 / 1_000.0;
    told.signal(Signal::SIGTERM);
    let (gone_ms, taken_ms) = tokio::join!(told.gone_ms(), run.until_leases(&site.redis, 2));
    let handed_over_ms = handed_over_ms(site, &run, &told).await;
    Times { gone: gone_ms - told_ms, taken: taken_ms - told_ms, after_hand_over: taken_ms - handed_over_ms }
}

/// When the last bundle was registered.
async fn handed_over_ms(site: &Site, run: &Run, told: &Worker) -> f64 {
    let events = run.events(&site.redis, "checkpoint").await;
    *events.last().unwrap_or_else(|| panic!("no bundle was registered: {}", told.log()))
}
