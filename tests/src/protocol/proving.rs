//! Whether the suite sees a mistake: its parts are played against mutated scripts, the cheap ones first, until something differs.

use std::collections::BTreeMap;

use common::queue::SOURCES;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::stage::digest_of;
use super::swap::Swap;
use super::{Coverage, History, Mutant, Stage, bounds, conformance, histories, play, sound};
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

/// The same histories each time.
pub fn fixed_histories(count: usize) -> Vec<History> {
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
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
            conformance::check(&mut self.stage).await.map_err(|finding| (Witness::Table, finding))?;
            bounds::check(&mut self.stage).await.map_err(|finding| (Witness::Bound, finding))?;
            self.play(later).await.map_err(|finding| (Witness::LaterHistory, finding))
        };
        found.await.err().unwrap_or((Witness::None, String::new()))
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

/// Plays all mutants, each on one of `servers` Redis, and returns for each what saw it. The sound scripts must pass.
pub fn witnesses(mutants: &[Mutant], histories: &[History], servers: usize) -> Vec<(Witness, String)> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut prover = Prover::start().await;
            let (witness, finding) = prover.witness(&sound(), histories).await;
            assert_eq!(witness, Witness::None, "the scripts as they are: {finding}");
            let mut found = BTreeMap::new();
            loop {
                let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let Some(mutant) = mutants.get(number) else { return found };
                #[expect(clippy::disallowed_methods, reason = "x")]
                let t = std::time::Instant::now();
                let seen = prover.witness(mutant, histories).await;
                println!("@@ {:?} {:?} {}: {}", seen.0, t.elapsed().as_millis(), mutant.script, mutant.what);
                found.insert(number, seen);
            }
        })
    };
    let found: BTreeMap<usize, (Witness, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..servers).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    found.into_values().collect()
}
