//! Random histories of many workers through the real scripts on a real Redis and through the reference model: after every step the
//! replies, everything that Redis holds, and the invariants must agree. A history on which they don't is made as short as it can be.
//! Nothing waits.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, clippy::panic, reason = "a panic is the report")]

use std::cell::RefCell;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tests::TestRedis;
use tests::protocol::{Coverage, Stage, histories, play};

/// Histories to play; the environment's `PROPTEST_CASES` plays more.
const HISTORIES: u32 = 2_000;

#[test]
fn scripts_and_model_agree_after_every_step() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(TestRedis::start());
    let stage = RefCell::new(runtime.block_on(Stage::open(&redis.url())));
    let coverage = RefCell::new(Coverage::default());
    let cases = std::env::var("PROPTEST_CASES").map_or(HISTORIES, |cases| cases.parse().unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let played = runner.run(&histories(), |history| {
        let (mut stage, mut coverage) = (stage.borrow_mut(), coverage.borrow_mut());
        let played = runtime.block_on(play(&mut stage, &history, &mut coverage));
        played.map(|_| ()).map_err(TestCaseError::fail)
    });
    match played {
        Ok(()) if cases < HISTORIES => {}
        Ok(()) => coverage.borrow().assert_whole(),
        Err(TestError::Fail(reason, _)) => panic!("{reason}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
