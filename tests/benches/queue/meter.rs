//! Reads clocks, counters and memory, and prints figures. Knows nothing of what is measured.

use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use tests::TestRedis;

/// Rounds of every figure, in turns with its ceiling: these machines are noisy.
pub(crate) const ROUNDS: usize = 5;

/// What one stretch of work took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    /// By the wall clock.
    pub(crate) seconds: f64,
    /// Processor time of Redis.
    pub(crate) redis_seconds: f64,
    /// Processor time of this process.
    pub(crate) own_seconds: f64,
}

/// Does some work and says what it took.
pub(crate) async fn spend(redis: &TestRedis, work: impl Future<Output = ()>) -> Spent {
    let (redis_before, own_before, started) =
        (redis_cpu_seconds(redis).await, own_cpu_seconds(), Instant::now());
    work.await;
    let seconds = started.elapsed().as_secs_f64();
    let own_seconds = own_cpu_seconds() - own_before;
    Spent { seconds, redis_seconds: redis_cpu_seconds(redis).await - redis_before, own_seconds }
}

async fn redis_cpu_seconds(redis: &TestRedis) -> f64 {
    let info = info(redis, "cpu").await;
    ["used_cpu_sys", "used_cpu_user"].iter().map(|field| number(&info, field)).sum()
}

/// Memory that Redis uses, in bytes.
pub(crate) async fn used_memory(redis: &TestRedis) -> f64 {
    number(&info(redis, "memory").await, "used_memory")
}

async fn info(redis: &TestRedis, section: &str) -> String {
    redis::cmd("INFO").arg(section).query_async(&mut redis.connection().await).await.unwrap()
}

fn number(info: &str, field: &str) -> f64 {
    let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap().trim().parse().unwrap()
}

fn own_cpu_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}

/// The lowest, the middle and the highest of some values.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1])
}

/// Prints a rate beside its ceiling, each as the middle of its rounds with the lowest and the highest.
pub(crate) fn print_rate(what: &str, unit: &str, rates: &[f64], ceiling: &str, ceilings: &[f64]) {
    let (low, middle, high) = spread(rates);
    let (ceiling_low, ceiling_middle, ceiling_high) = spread(ceilings);
    println!("{what}: {middle:.0} {unit} ({low:.0}..{high:.0})");
    println!(
        "    ceiling, {ceiling}: {ceiling_middle:.0} ({ceiling_low:.0}..{ceiling_high:.0}), ratio {:.2}",
        middle / ceiling_middle
    );
}

/// Prints processor time per 1,000 tasks: Redis, this process, both.
pub(crate) fn print_cpu(spent: &[Spent], tasks: u64) {
    let per_1000 = |of: fn(&Spent) -> f64| {
        let values: Vec<f64> = spent.iter().map(|spent| of(spent) * 1_000.0 / tasks as f64).collect();
        spread(&values).1
    };
    println!(
        "    processor time per 1,000 tasks: Redis {:.4} s, the caller {:.4} s, both {:.4} s",
        per_1000(|spent| spent.redis_seconds),
        per_1000(|spent| spent.own_seconds),
        per_1000(|spent| spent.redis_seconds + spent.own_seconds),
    );
}
