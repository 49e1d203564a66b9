//! What the figures are measured on: a Redis as `launchpad local` starts it, a store, runs of the engine `command` whose program
//! writes one row, and real workers in processes of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::digest::sha256_hex;
use common::queue::{Queue, RunDefinition};
use common::storage::{RunStore, Store, key};
use common::task::{
    Column, ColumnKind, CommandOptions, EngineOptions, Limits, RunId, RunSpec, Shard, TaskId,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::AsyncCommands as _;
use tempfile::TempDir;
use tests::{Persistence, TestRedis, eventually, sample_input, sample_spec};

/// A program that writes one row with the moment of its start.
pub(crate) const ONE_ROW: &str = env!("CARGO_BIN_EXE_one-row");
/// The worker with the store that ships, which has every write on disk before it goes on.
pub(crate) const AS_SHIPPED: &str = env!("CARGO_BIN_EXE_worker-as-shipped");
/// The worker with a store that leaves that to the system.
pub(crate) const WITHOUT_FSYNC: &str = env!("CARGO_BIN_EXE_worker-without-fsync");

/// Attempts of a worker side by side.
pub(crate) const SLOTS: usize = 4;

/// A Redis and a store.
pub(crate) struct Site {
    pub(crate) redis: TestRedis,
    folder: TempDir,
}

/// A run that gets its tasks while workers wait for them.
pub(crate) struct Run {
    pub(crate) queue: Queue,
    pub(crate) id: RunId,
    digest: String,
    pub(crate) store: RunStore,
    tasks: u64,
}

/// A worker process with its guardian.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self {
            redis: TestRedis::start_with(Persistence::EverySecond).await,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Creates a run without tasks whose program is `argv`.
    pub(crate) async fn run(&self, id: &str, argv: &[&str], limits: &Limits) -> Run {
        let url = self.store_url();
        let id: RunId = id.parse().unwrap();
        let spec_json = serde_json::to_string(&spec(&id, argv)).unwrap();
        let digest = sha256_hex(spec_json.as_bytes());
        let store = Store::open(&url).unwrap().run(&id);
        store.create(key::SPEC, spec_json.clone().into()).await.unwrap();
        let queue = Queue::open(&self.redis.url()).unwrap();
        let definition = RunDefinition {
            run: &id,
            digest: &digest,
            spec_json: &spec_json,
            store: &url,
            manifest_sha256: "00",
            limits,
            group_tasks: None,
            labels: &[],
        };
        queue.create(&definition).await.unwrap();
        Run { queue, id, digest, store, tasks: 0 }
    }

    fn store_url(&self) -> String {
        url::Url::from_file_path(self.folder.path().join("store")).unwrap().into()
    }

    /// Starts a worker of a run, logging as it does by default.
    #[expect(clippy::disallowed_methods, reason = "benches start programs")]
    pub(crate) fn worker(&self, program: &str, name: &str, run: &Run, slots: usize) -> Worker {
        let path = |name: &str| self.folder.path().join(name);
        let log = path(&format!("{name}.log"));
        let mut command = Command::new(program);
        command.args(["--redis", &self.redis.url(), "--run", run.id.as_str(), "--cores", &slots.to_string()]);
        command.args(["--exit-when", "never", "--scratch-free-mib-min", "1"]);
        command.arg("--scratch").arg(path("scratch")).arg("--cache").arg(path("cache"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Worker { child: command.spawn().unwrap(), log }
    }

    /// Waits until the engine of a run's only task has put down its checkpoint.
    pub(crate) async fn until_checkpoint(&self, run: &Run) {
        let (scratch, own) = (self.folder.path().join("scratch"), format!("{}-", run.id));
        eventually("a checkpoint", || async {
            let attempts = fs::read_dir(&scratch).into_iter().flatten().flatten();
            let attempts = attempts.filter(|attempt| attempt.file_name().to_string_lossy().starts_with(&own));
            let mut states = attempts.map(|attempt| attempt.path().join("checkpoint/state"));
            states.find(|state| state.is_file()).ok_or(())
        })
        .await;
    }

    /// Processor seconds that Redis has used.
    pub(crate) fn redis_seconds(&self) -> f64 {
        let (own, _) = processor_seconds(self.redis.pid());
        own
    }
}

fn spec(run: &RunId, argv: &[&str]) -> RunSpec {
    let column = Column {
        name: "started_us".into(),
        kind: ColumnKind::Number,
        unit: "us".into(),
        min: None,
        max: None,
    };
    let options = CommandOptions {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        versions: BTreeMap::new(),
        rows: "rows.csv".into(),
        columns: vec![column],
        score: None,
        expect: Vec::new(),
        keep: Vec::new(),
        stream: None,
    };
    options.validate(false).unwrap();
    RunSpec { engine: EngineOptions::Command(options), ..sample_spec(run, 0) }
}

impl Run {
    /// Pushes this many further tasks in one call.
    pub(crate) async fn push(&mut self, tasks: u64) {
        let inputs: Vec<String> = (self.tasks..self.tasks + tasks).map(sample_input).collect();
        let total = self.queue.push(&self.id, &self.digest, TaskId(self.tasks), &inputs).await.unwrap();
        self.tasks += tasks;
        assert_eq!(total, self.tasks);
    }

    /// Waits until all tasks have their result, and panics if one failed.
    pub(crate) async fn until_done(&self) {
        eventually("all tasks succeed", || async {
            let progress = self.queue.progress(&self.id).await.unwrap();
            assert_eq!((progress.failures, progress.lapses, progress.releases), (0, 0, 0), "{progress:?}");
            if progress.succeeded == self.tasks { Ok(()) } else { Err(progress) }
        })
        .await;
    }

    /// Waits until this many workers have said that they are idle.
    pub(crate) async fn until_idle(&self, redis: &TestRedis, workers: u64) {
        let connection = redis.connection().await;
        eventually("workers are idle", || async {
            let idle: u64 = connection.clone().zcard(self.key("idle")).await.unwrap();
            if idle >= workers { Ok(()) } else { Err(idle) }
        })
        .await;
    }

    /// When events of a verb took place, by the Redis clock, in ms.
    pub(crate) async fn events(&self, redis: &TestRedis, verb: &str) -> Vec<f64> {
        let mut connection = redis.connection().await;
        let events: redis::streams::StreamRangeReply =
            connection.xrange_all(self.key("events")).await.unwrap();
        let events = events.ids.iter().filter(|event| event.get::<String>("verb").as_deref() == Some(verb));
        events.map(|event| event.id.split('-').next().unwrap().parse().unwrap()).collect()
    }

    /// Waits until there were this many leases, and gives the moment of the last one, in ms.
    pub(crate) async fn until_leases(&self, redis: &TestRedis, leases: usize) -> f64 {
        eventually("a task is leased", || async {
            let events = self.events(redis, "lease").await;
            if events.len() >= leases { Ok(events[leases - 1]) } else { Err(events) }
        })
        .await
    }

    /// The name of one of its keys.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("molfleet:{{{}}}:{name}", self.id)
    }

    /// When the program of a task said that it started, in µs since 1970.
    pub(crate) async fn started_us(&self, task: TaskId) -> u64 {
        let bytes = self.store.read(&key::shard(task)).await.unwrap();
        let shard = Shard::parse(&bytes).unwrap();
        shard.rows[0].columns[0].parse().unwrap()
    }
}

impl Worker {
    /// Processor seconds that it and its guardian have used so far, and those of the engines that have ended.
    pub(crate) fn processor_seconds(&self) -> (f64, f64) {
        let pid = self.child.id();
        let (own, engines) = processor_seconds(pid);
        (own + processor_seconds(self.guardian()).0, engines)
    }

    /// Its first child. Tell it while no engine runs.
    fn guardian(&self) -> u32 {
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let all = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let all = all.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        let children: String = std::iter::once(children).chain(all).collect();
        children
            .split_whitespace()
            .next()
            .unwrap_or_else(|| panic!("no guardian: {}", self.log()))
            .parse()
            .unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it has left, and gives the moment, in ms since 1970.
    pub(crate) async fn gone_ms(&mut self) -> f64 {
        eventually("the worker leaves", || {
            let left = self.child.try_wait().unwrap();
            async move { left.ok_or(()) }
        })
        .await;
        crate::latency::now_us() as f64 / 1_000.0
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have left by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Processor seconds of a process, and of its children that have ended.
fn processor_seconds(pid: u32) -> (f64, f64) {
    /// `sysconf(_SC_CLK_TCK)` of every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Behind the name: state is field 3, so that utime (14) is the 12th here.
    let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap() / TICKS_PER_SECOND;
    (ticks(14) + ticks(15), ticks(16) + ticks(17))
}
