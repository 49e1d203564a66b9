//! The fleet under chaos: a durable Redis, a store, a scratch disk, and sites, each a worker behind a line of its own. What is done to
//! it, by whom and when, is for others to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::sync::RwLock;
use tokio::time::Instant;

use super::Options;
use super::checker::{Rule, Violation};
use super::disk::ScratchDisk;
use super::pair::Pair;
use super::schedule::Kind;
use super::work::Shape;
use crate::{FlakyProxy, Lab, LabWorker, Programs, TestRedis};

/// Cores of each worker.
pub(super) const CORES: usize = 4;
/// How long a program may take to end: far beyond any grace.
const END_MAX: Duration = Duration::from_mins(8);
/// The names under which the one program plays its parts.
pub const ROLES: [&str; 3] = ["chaos-launchpad", "chaos-worker", "chaos-toy"];
/// The programs of the engine of groups, in whose place the toy stands on the `PATH` of workers.
pub const STANDS_FOR: [&str; 2] = ["python3", "gmx"];
/// The exit codes of a launchpad that could not reach Redis or the store, or was told to try again.
const AWAY: [i32; 2] = [69, 75];

/// What a launchpad says of a run or of tasks that Redis has never heard of.
const FORGOTTEN: [&str; 2] = ["there is no run", "has no task"];

/// Everything that the fleet is made of.
#[derive(Debug)]
pub(super) struct Fleet {
    /// Before the lab: its folder can't be removed while something is mounted in it.
    pub(super) disk: ScratchDisk,
    pub(super) lab: Lab,
    /// What makes its Redis one of a Sentinel pair, which everybody reaches by its sentinel.
    pub(super) pair: Option<Pair>,
    pub(super) lines: Vec<FlakyProxy>,
    /// When the chaos began.
    pub(super) start: Instant,
    /// How long it lasts.
    pub(super) length: Duration,
    /// Held while a worker is frozen, and alone while the disk is full: a worker that can't look does not know that it was.
    pub(super) sight: RwLock<()>,
    notes: Mutex<Notes>,
    workers: AtomicU32,
    _roles: TempDir,
}

/// What was done and found so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Notes {
    /// The runs that were pushed, the oldest first.
    pub(super) runs: Vec<String>,
    /// The files of each: its molecules and its configuration.
    pub(super) pushed: BTreeMap<String, [String; 2]>,
    /// How the molecules of each come.
    pub(super) shapes: BTreeMap<String, Shape>,
    /// Tasks that a person cancelled at some time.
    pub(super) cancelled: BTreeSet<(String, u64)>,
    /// Faults that took place.
    pub(super) faults: BTreeMap<Kind, u32>,
    /// Calls of launchpad that had to be repeated, since Redis was away.
    pub(super) repeated: u32,
    pub(super) violations: Vec<Violation>,
}

/// A run's counters that tell how far it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Far {
    pub(super) total: u64,
    pub(super) leased: u64,
    pub(super) dead: u64,
    pub(super) terminal: u64,
}

/// A plain connection to the Redis that counts, round all lines.
#[derive(Debug)]
pub(super) struct View {
    pub(super) connection: MultiplexedConnection,
    /// How many fail-overs there had been when it was made: after one more, it leads to a Redis that does not count.
    pub(super) fail_overs: usize,
}

impl View {
    /// Turns to the Redis that counts now.
    pub(super) async fn renew(&mut self, fleet: &Fleet) {
        if self.fail_overs != fleet.fail_overs() {
            *self = fleet.connect().await;
        }
    }
}

impl Fleet {
    /// Sets up everything but workers and runs. `program` plays all parts.
    pub(super) async fn new(options: &Options) -> Self {
        let roles = tempfile::tempdir().unwrap();
        let role = |name: &str| -> &'static str {
            let link = roles.path().join(name);
            symlink(&options.program, &link).unwrap();
            Box::leak(link.to_str().unwrap().to_owned().into_boxed_str())
        };
        let [launchpad, worker, toy] = ROLES.map(role);
        let mut lab = Lab::durable(Programs { launchpad, worker, stub: toy }).await;
        for program in [ROLES[2]].iter().chain(&STANDS_FOR) {
            lab.stub(program);
        }
        let pair = if options.sentinel { Some(Pair::of(&lab.redis).await) } else { None };
        lab.redis_url = pair.as_ref().map(|pair| Pair::url(pair.office()));
        let mut lines = Vec::new();
        for _ in 0..options.sites {
            lines.push(match &pair {
                Some(pair) => pair.line(&lab.redis).await,
                None => FlakyProxy::start(lab.redis.port()).await,
            });
        }
        let disk = ScratchDisk::mount(lab.path("scratch"));
        let (notes, workers) = (Mutex::default(), AtomicU32::new(0));
        let (start, length) = (Instant::now(), options.length);
        let sight = RwLock::new(());
        Self { disk, lab, pair, lines, start, length, sight, notes, workers, _roles: roles }
    }

    /// Leaves everything there that a post-mortem needs, once nobody else has a hold on it.
    pub(super) fn keep(self: Arc<Self>) -> Vec<PathBuf> {
        Arc::into_inner(self).map(|mut fleet| fleet.lab.keep().to_vec()).unwrap_or_default()
    }

    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    pub(super) fn found(&self, rule: Rule, what: impl Into<String>) {
        self.notes().violations.push(Violation::new(rule, what));
    }

    pub(super) fn count(&self, kind: Kind) {
        *self.notes().faults.entry(kind).or_default() += 1;
    }

    /// How often a fault took place so far.
    pub(super) fn counted(&self, kind: Kind) -> u32 {
        self.notes().faults.get(&kind).copied().unwrap_or(0)
    }

    /// The folder of what the toy notes of its attempts.
    pub(super) fn diaries(&self) -> PathBuf {
        self.lab.path("diaries")
    }

    /// What stands in the environment of each of its processes, and of no other: the folder of the lab is on their `PATH`.
    pub(super) fn marker(&self) -> String {
        self.lab.path("stubs").display().to_string()
    }

    /// Starts the next worker of a site.
    pub(super) fn worker(&self, site: usize, flags: &[&str]) -> LabWorker {
        let name = format!("worker-{}-site-{site}", self.workers.fetch_add(1, Ordering::SeqCst));
        let url = self.url(site);
        let cores = CORES.to_string();
        let always = ["--redis", &url, "--cores", &cores, "--log", "info"];
        self.lab.worker(&name, &[&always, flags].concat())
    }

    /// The URL of Redis at a site.
    fn url(&self, site: usize) -> String {
        let line = &self.lines[site];
        if self.pair.is_some() { Pair::url(line) } else { line.url() }
    }

    /// How many workers were started.
    pub(super) fn workers_started(&self) -> u32 {
        self.workers.load(Ordering::SeqCst)
    }

    /// Waits for the end of a worker that was told to leave, and notes if it ends otherwise than it should.
    pub(super) async fn expect_end(&self, worker: &mut LabWorker, code: i32) {
        let by = Instant::now() + END_MAX;
        while Instant::now() < by {
            match worker.has_left() {
                Some(ended) if ended == code => return,
                Some(ended) => {
                    let what =
                        format!("a worker ended with {ended} (expected {code}): {}", worker.last_words());
                    return self.found(Rule::Programs, what);
                }
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        self.found(Rule::Programs, format!("a worker does not leave: {}", worker.last_words()));
        worker.kill9();
    }

    /// Calls launchpad until it has reached Redis. Any other failure than that is one of launchpad, but that a fail-over may have forgotten
    /// what it is about; whether that came back is for the checker.
    pub(super) async fn launchpad(self: &Arc<Self>, arguments: &[&str]) {
        let by = Instant::now() + END_MAX;
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        loop {
            let (fleet, words) = (Arc::clone(self), arguments.clone());
            let call = move || fleet.lab.launchpad(&words.iter().map(String::as_str).collect::<Vec<_>>());
            let ran = tokio::task::spawn_blocking(call).await.unwrap();
            let is_forgotten = || FORGOTTEN.iter().any(|words| ran.stderr.contains(words));
            if ran.code == 0 || self.pair.is_some() && is_forgotten() {
                return;
            }
            if !AWAY.contains(&ran.code) || Instant::now() > by {
                let what = format!(
                    "`launchpad {}` ended with {}: {}",
                    arguments.join(" "),
                    ran.code,
                    ran.stderr.trim()
                );
                return self.found(Rule::Programs, what);
            }
            self.notes().repeated += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The Redis that counts.
    pub(super) fn redis(&self) -> &TestRedis {
        self.pair.as_ref().map_or(&self.lab.redis, |pair| pair.primary(&self.lab.redis))
    }

    /// How often acknowledged writes may have been forgotten.
    pub(super) fn fail_overs(&self) -> usize {
        self.pair.as_ref().map_or(0, Pair::fail_overs)
    }

    /// A view of Redis, once that answers.
    pub(super) async fn connect(&self) -> View {
        let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_mins(1)));
        loop {
            let fail_overs = self.fail_overs();
            let client = redis::Client::open(self.redis().url()).unwrap();
            match client.get_multiplexed_async_connection_with_config(&patient).await {
                Ok(connection) if fail_overs == self.fail_overs() => return View { connection, fail_overs },
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// How far a run is, however often that has to be asked.
    pub(super) async fn how_far(&self, view: &mut View, run: &str) -> Far {
        let fields = ["total", "leased", "succeeded", "dead", "cancelled"];
        loop {
            view.renew(self).await;
            let read: redis::RedisResult<Vec<Option<u64>>> =
                view.connection.hmget(format!("molfleet:{{{run}}}:progress"), &fields).await;
            if let Ok(counters) = read {
                let count = |index: usize| counters.get(index).copied().flatten().unwrap_or(0);
                let terminal = count(2) + count(3) + count(4);
                return Far { total: count(0), leased: count(1), dead: count(3), terminal };
            }
            *view = self.connect().await;
        }
    }

    /// The runs that were pushed, each with how far it is.
    pub(super) async fn all_runs(&self, view: &mut View) -> Vec<(String, Far)> {
        let runs = self.notes().runs.clone();
        let mut all = Vec::new();
        for run in runs {
            let far = self.how_far(view, &run).await;
            all.push((run, far));
        }
        all
    }

    /// The logs of workers in which something panicked.
    pub(super) fn panics(&self) -> Vec<String> {
        let logs = fs::read_dir(self.lab.path(".")).into_iter().flatten().flatten().map(|entry| entry.path());
        let logs = logs.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
        let panic = |path: PathBuf| {
            let log = fs::read_to_string(&path).unwrap_or_default();
            let line = log.lines().find(|line| line.contains("panicked at"))?;
            Some(format!("{}: {line}", path.display()))
        };
        logs.filter_map(panic).collect()
    }
}
