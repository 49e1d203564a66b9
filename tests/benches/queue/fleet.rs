//! What a fleet costs Redis that has nothing to do, and one whose every worker holds a lease: as many connections as such workers have,
//! asking as often as they do, for as long as it takes to see a share of a core.

use std::ops::Range;
use std::time::{Duration, Instant};

use common::queue::{LeaseReply, Queue};
use common::task::{LeaseName, Limits, TaskId, WorkerId};
use futures::{StreamExt as _, stream};
use rand::RngExt as _;
use tests::{Persistence, TestRedis, TestRun};

use crate::meter::spend;

const WORKERS: u64 = 13_000;
/// Connections that are opened side by side.
const OPENING: usize = 256;
/// How long a fleet is watched.
const WATCHED: Duration = Duration::from_secs(30);

/// The shortest pause between two beats as a part of the longest.
const SHORTEST_BEAT: f64 = 0.9;

/// A worker as Redis sees it.
struct Ghost {
    queue: Queue,
    id: WorkerId,
    leases: Vec<(TaskId, LeaseName)>,
}

/// Watches an idle fleet while one task is leased, then one that beats; each in turn with one that asks as often for nothing but the
/// time, which is the least that so many connections cost.
pub(crate) async fn measure() {
    let redis = TestRedis::start_with(Persistence::EverySecond).await;
    let run = TestRun::sealed(&redis, "fleet", &Limits::default(), 1).await;
    // The one task is held when the others ask.
    let holder = assemble(&redis, &run, WORKERS..WORKERS + 1).await;
    let idle = assemble(&redis, &run, 0..WORKERS).await;
    let wait = idle_wait(&run, &idle[0]).await;
    let asking = stream::iter(&idle).for_each_concurrent(None, |ghost| be_idle(&run, ghost, wait));
    print("idle", &redis, async { _ = tokio::join!(asking, beat(&run, &holder[0])) }).await;
    print("idle, asking for the time only", &redis, ask_the_time(&idle, wait, 0.9)).await;
    drop(idle);
    let run = TestRun::sealed(&redis, "beating", &Limits::default(), WORKERS).await;
    let busy = assemble(&redis, &run, 0..WORKERS).await;
    print("heartbeating", &redis, stream::iter(&busy).for_each_concurrent(None, |ghost| beat(&run, ghost)))
        .await;
    print(
        "heartbeating, asking for the time only",
        &redis,
        ask_the_time(&busy, Duration::from_secs(15), SHORTEST_BEAT),
    )
    .await;
}

async fn ask_the_time(fleet: &[Ghost], longest: Duration, shortest: f64) {
    let ask = async |ghost: &Ghost| {
        repeat(longest, shortest, async || _ = ghost.queue.now_ms().await.unwrap()).await;
    };
    stream::iter(fleet).for_each_concurrent(None, ask).await;
}

/// Workers that have each asked for a task once.
async fn assemble(redis: &TestRedis, run: &TestRun, numbers: Range<u64>) -> Vec<Ghost> {
    let ghosts = stream::iter(numbers).map(|number| async move {
        let queue = Queue::open(&redis.url()).unwrap();
        let id: WorkerId = format!("ghost{number:07}").parse().unwrap();
        let leases = match queue.lease(&run.id, &run.digest, &id, 1, 1).await.unwrap() {
            LeaseReply::Granted { grants, .. } => {
                grants.into_iter().map(|grant| (grant.task, grant.lease)).collect()
            }
            _ => Vec::new(),
        };
        Ghost { queue, id, leases }
    });
    ghosts.buffer_unordered(OPENING).collect().await
}

async fn print(what: &str, redis: &TestRedis, fleet: impl Future<Output = ()>) {
    let spent = spend(redis, fleet).await;
    println!(
        "{WORKERS} workers {what}: {:.1} % of a core of Redis, over {:.0} s",
        100.0 * spent.redis_seconds / spent.seconds,
        spent.seconds
    );
}

/// How long an idle worker of this fleet is told to wait.
async fn idle_wait(run: &TestRun, ghost: &Ghost) -> Duration {
    loop {
        let wait = ask(run, ghost).await;
        // Not one of those that ask when the lease expires.
        if wait > Duration::from_secs(5) {
            return wait;
        }
    }
}

/// Asks for work once, and returns how long to wait.
async fn ask(run: &TestRun, ghost: &Ghost) -> Duration {
    match ghost.queue.lease(&run.id, &run.digest, &ghost.id, 2, 1).await.unwrap() {
        LeaseReply::Nothing(nothing) => Duration::from_millis(nothing.wait_ms),
        other => unreachable!("there is nothing to lease: {other:?}"),
    }
}

/// Repeats a call after pauses of up to `longest`, at least `shortest` of it, until the fleet has been watched long enough.
async fn repeat(longest: Duration, shortest: f64, mut call: impl AsyncFnMut()) {
    let until = Instant::now() + WATCHED;
    // The fleet did not start as one.
    let mut pause = longest.mul_f64(rand::rng().random_range(0.0..1.0));
    while Instant::now() + pause < until {
        tokio::time::sleep(pause).await;
        call().await;
        pause = longest.mul_f64(rand::rng().random_range(shortest..1.0));
    }
}

/// Asks for work as the dispatcher of an idle worker does, and shows itself as its heartbeat does.
async fn be_idle(run: &TestRun, ghost: &Ghost, wait: Duration) {
    let asks = async {
        let until = Instant::now() + WATCHED;
        // The fleet did not start as one.
        let mut pause = wait.mul_f64(rand::rng().random_range(0.0..1.0));
        while Instant::now() + pause < until {
            tokio::time::sleep(pause).await;
            pause = ask(run, ghost).await.mul_f64(rand::rng().random_range(0.9..1.0));
        }
    };
    tokio::join!(asks, show(ghost));
}

/// Renews its lease as a heartbeat does, and with every second beat lets itself be seen.
async fn beat(run: &TestRun, ghost: &Ghost) {
    let clock = clock(ghost).await;
    let mut beats = 0;
    repeat(Duration::from_secs(15), SHORTEST_BEAT, async || {
        beats += 1;
        let seen = async {
            if beats % 2 == 0 {
                ghost.queue.see_worker(&ghost.id, clock()).await.unwrap();
            }
        };
        let (pulses, ()) = tokio::join!(ghost.queue.heartbeat(&run.id, &ghost.leases), seen);
        assert_eq!(pulses.unwrap(), [common::queue::Pulse::Held]);
    })
    .await;
}

/// The time of Redis from now on.
async fn clock(ghost: &Ghost) -> impl Fn() -> u64 {
    let (asked, now_ms) = (Instant::now(), ghost.queue.now_ms().await.unwrap());
    move || now_ms + u64::try_from(asked.elapsed().as_millis()).unwrap()
}

/// An idle worker that stays the same is seen every third time that its heartbeat looks, 40 to 45 s, and writes its card every ten minutes.
async fn show(ghost: &Ghost) {
    let clock = clock(ghost).await;
    repeat(Duration::from_secs(45), SHORTEST_BEAT, async || {
        ghost.queue.see_worker(&ghost.id, clock()).await.unwrap();
    })
    .await;
}
