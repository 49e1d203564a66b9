//! Tasks per second through the whole worker path, in batches of one molecule, beside a loop that does nothing but start `/bin/true`.
//! That itself is no legal engine: it leaves no row, so no molecule would get a verdict.

use std::time::Instant;

use common::task::Limits;
use tokio::process::Command;

use crate::fleet::{AS_SHIPPED, SLOTS, Site, WITHOUT_FSYNC};
use crate::{spread, text};

/// What each task runs: a program as small as `/bin/true` and as dynamic, which writes a row and nothing else.
const ENGINE: [&str; 3] =
    ["/bin/sh", "-c", r#"printf 'molecule_id,started_us\nm%s,0\n' "$MOLFLEET_TASK" > rows.csv"#];

/// Tasks of each round and kind.
const TASKS: u64 = 1_000;

/// What one kind of worker came to in one round.
struct Drained {
    per_second: f64,
    /// Processor seconds per 1,000 tasks of the worker with its guardian, of its engines, and of Redis.
    worker: f64,
    engines: f64,
    redis: f64,
}

/// What one round measured.
struct Round {
    ceiling: f64,
    engine: f64,
    kinds: [Drained; 2],
}

pub(crate) async fn measure(rounds: usize) {
    let site = Site::new().await;
    let mut measured = Vec::new();
    for round in 0..rounds {
        measured.push(Round {
            ceiling: spawn_loop(&["/bin/true"]).await,
            engine: spawn_loop(&ENGINE).await,
            kinds: [
                drain(&site, AS_SHIPPED, &format!("shipped{round}")).await,
                drain(&site, WITHOUT_FSYNC, &format!("nosync{round}")).await,
            ],
        });
    }
    println!(
        "tasks of one molecule through one worker with {SLOTS} slots; lowest / median / highest of {rounds} rounds"
    );
    println!(
        "  starts of /bin/true by tokio, {SLOTS} side by side (the ceiling): {}/s",
        of(&measured, 0, |round| round.ceiling)
    );
    println!(
        "  starts of the tasks' own program, the same way: {}/s",
        of(&measured, 0, |round| round.engine)
    );
    for (kind, name) in ["fsync as shipped", "without fsync"].into_iter().enumerate() {
        println!("  {name}: {} tasks/s", of(&measured, 0, |round| round.kinds[kind].per_second));
        println!(
            "    ratio to the ceiling (must: 0.5): {}",
            of(&measured, 2, |round| round.kinds[kind].per_second / round.ceiling)
        );
        println!(
            "    ratio to starts of its program: {}",
            of(&measured, 2, |round| round.kinds[kind].per_second / round.engine)
        );
        println!(
            "    CPU seconds per 1,000 tasks: worker {}",
            of(&measured, 2, |round| round.kinds[kind].worker)
        );
        println!("      engines {}", of(&measured, 2, |round| round.kinds[kind].engines));
        println!(
            "      Redis with its append-only file {}",
            of(&measured, 3, |round| round.kinds[kind].redis)
        );
    }
}

fn of(rounds: &[Round], decimals: usize, figure: impl Fn(&Round) -> f64) -> String {
    text(spread(rounds.iter().map(figure)), decimals)
}

/// Starts a program as often as a worker does in a round, with as many side by side, and gives the rate.
#[expect(clippy::disallowed_methods, reason = "the ceiling is measured here")]
async fn spawn_loop(argv: &'static [&'static str]) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let loops = (0..SLOTS).map(|_| {
        let folder = folder.path().to_owned();
        tokio::spawn(async move {
            for _ in 0..TASKS / SLOTS as u64 {
                let status =
                    Command::new(argv[0]).args(&argv[1..]).current_dir(&folder).status().await.unwrap();
                assert!(status.success());
            }
        })
    });
    futures::future::join_all(loops.collect::<Vec<_>>()).await.into_iter().for_each(Result::unwrap);
    TASKS as f64 / started.elapsed().as_secs_f64()
}

/// Has a worker that waits for work do a round's tasks.
async fn drain(site: &Site, program: &str, name: &str) -> Drained {
    let mut run = site.run(name, &ENGINE, &Limits::default()).await;
    let worker = site.worker(program, name, &run, SLOTS);
    run.until_idle(&site.redis, 1).await;
    let (before, redis_before) = (worker.processor_seconds(), site.redis_seconds());
    run.push(TASKS).await;
    run.until_done().await;
    let (after, redis) = (worker.processor_seconds(), site.redis_seconds() - redis_before);
    let (leases, ends) = (run.events(&site.redis, "lease").await, run.events(&site.redis, "complete").await);
    let ms = ends.into_iter().fold(0.0, f64::max) - leases.into_iter().fold(f64::MAX, f64::min);
    let per_thousand = 1_000.0 / TASKS as f64;
    Drained {
        per_second: TASKS as f64 / ms * 1_000.0,
        worker: (after.0 - before.0) * per_thousand,
        engines: (after.1 - before.1) * per_thousand,
        redis: redis * per_thousand,
    }
}
