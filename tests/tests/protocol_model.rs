//! Random histories of many workers through the real scripts on a real Redis and through the reference model: after every step the
//! replies, everything that Redis holds, and the invariants must agree. A history on which they don't is made as short as it can be.
//! Nothing waits.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the report; the environment says how much"
)]

use tests::TestRedis;
use tests::protocol::{Prover, Stage, named, prove};
use tokio::runtime::{Builder, Runtime};

/// Histories to play; the environment's `PROPTEST_CASES` plays more. The first ones are the same each time.
const HISTORIES: u32 = 2_000;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn scripts_and_model_agree_after_every_step() {
    let runtime = runtime();
    let cases = std::env::var("PROPTEST_CASES").map_or(HISTORIES, |cases| cases.parse().unwrap());
    let redis = runtime.block_on(TestRedis::start());
    let stage = runtime.block_on(Stage::open(&redis.url()));
    let coverage = prove(&runtime, stage, cases).unwrap_or_else(|history| panic!("{history}"));
    if cases >= HISTORIES {
        coverage.assert_whole();
    }
}

#[test]
fn a_mistake_is_shown_by_a_short_history() {
    let mutants = named();
    let mutant = mutants.iter().find(|mutant| mutant.what == "a released task goes to the end").unwrap();
    let shown = Prover::short_history(&runtime(), mutant, HISTORIES).unwrap();
    let steps = shown.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    assert!(steps.count() <= 4, "two tasks, a lease and a release are enough: {shown}");
    assert!(shown.contains("Redis and the model differ:\n  pending: "), "{shown}");
}
