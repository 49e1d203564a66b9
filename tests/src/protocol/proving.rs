//! Whether the suite sees a mistake: its parts are played against mutated scripts, the cheap ones first, until something differs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::queue::SOURCES;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use super::stage::digest_of;
use super::swap::Swap;
use super::{Coverage, History, Mutant, Stage, bounds, conformance, damage, histories, play};
use crate::TestRedis;

/// Histories that are played before the rest. Most mistakes show in the first ones.
const FIRST: usize = 10;

/// What saw a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the suite's parts")]
pub enum Witness {
    History,
    Scenario,
    Moment,
    Table,
    Bound,
    Damage,
    Refusal,
    LaterHistory,
    /// Nothing.
    None,
}

/// A Redis on which scripts with mistakes run.
#[derive(Debug)]
pub struct Prover {
    redis: TestRedis,
    swap: Swap,
    stage: Stage,
}

/// A runner that makes the same histories each time.
fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Plays random histories. One on which Redis and the model differ is made as short as it can be, and returned with what was found.
pub fn prove(runtime: &Runtime, stage: Stage, cases: u32) -> Result<Coverage, String> {
    let stage = RefCell::new((stage, Coverage::default()));
    let played = runner(cases).run(&histories(), |history| {
        let (stage, coverage) = &mut *stage.borrow_mut();
        let played = runtime.block_on(play(stage, &history, coverage));
        played.map(|_| ()).map_err(TestCaseError::fail)
    });
    match played {
        Ok(()) => Ok(stage.into_inner().1),
        Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => Err(reason.to_string()),
    }
}

/// The same histories each time.
pub fn fixed_histories(count: usize) -> Vec<History> {
    let mut runner = runner(0);
    (0..count).map(|_| histories().new_tree(&mut runner).expect("a history").current()).collect()
}

impl Prover {
    /// With a Redis of its own.
    pub async fn start() -> Self {
        let redis = TestRedis::start().await;
        let swap = Swap::start(redis.port()).await;
        let stage = Stage::open(&swap.url()).await;
        Self { redis, swap, stage }
    }

    /// What of the suite sees the mistake first, and what it says.
    pub async fn witness(&mut self, mutant: &Mutant, histories: &[History]) -> (Witness, String) {
        self.load(mutant).await;
        let (first, later) = histories.split_at(FIRST.min(histories.len()));
        let found = async {
            self.play(first).await.map_err(|finding| (Witness::History, finding))?;
            conformance::scenarios(&mut self.stage).await.map_err(|finding| (Witness::Scenario, finding))?;
            bounds::moments(&mut self.stage).await.map_err(|finding| (Witness::Moment, finding))?;
            let states =
                conformance::table(&mut self.stage).await.map_err(|finding| (Witness::Table, finding))?;
            bounds::check(&mut self.stage).await.map_err(|finding| (Witness::Bound, finding))?;
            damage::check(&mut self.stage).await.map_err(|finding| (Witness::Damage, finding))?;
            conformance::refused(&mut self.stage, &states)
                .await
                .map_err(|finding| (Witness::Refusal, finding))?;
            self.play(later).await.map_err(|finding| (Witness::LaterHistory, finding))
        };
        found.await.err().unwrap_or((Witness::None, String::new()))
    }

    /// Random histories until one shows the mistake, made as short as it can be; `None` if none shows it.
    pub fn short_history(runtime: &Runtime, mutant: &Mutant, cases: u32) -> Option<String> {
        let mut prover = runtime.block_on(Self::start());
        runtime.block_on(prover.load(mutant));
        prove(runtime, prover.stage, cases).err()
    }

    async fn play(&mut self, histories: &[History]) -> Result<(), String> {
        for history in histories {
            play(&mut self.stage, history, &mut Coverage::default()).await?;
        }
        Ok(())
    }

    /// Lets the mutated scripts run in place of the sound ones.
    async fn load(&mut self, mutant: &Mutant) {
        let mut connection = self.redis.connection().await;
        let mut pipe = redis::pipe();
        pipe.cmd("SCRIPT").arg("FLUSH").ignore();
        for (_, text) in mutant.scripts() {
            pipe.cmd("SCRIPT").arg("LOAD").arg(text);
        }
        let loaded: Result<Vec<String>, _> = pipe.query_async(&mut connection).await;
        let digests = loaded.unwrap_or_else(|error| panic!("{}: {}: {error}", mutant.script, mutant.what));
        let asked = SOURCES.iter().map(|(name, _)| digest_of(name).to_owned());
        self.swap.exchange(asked.zip(digests));
    }
}

/// Plays all mutants, each on one of `servers` Redis, and returns for each what saw it and what it said.
pub fn witnesses(mutants: &[Mutant], histories: &[History], servers: usize) -> Vec<(Witness, String)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut prover = Prover::start().await;
            let mut found = BTreeMap::new();
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let Some(mutant) = mutants.get(number) else { return found };
                found.insert(number, prover.witness(mutant, histories).await);
            }
        })
    };
    let found: BTreeMap<usize, (Witness, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..servers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    found.into_values().collect()
}
