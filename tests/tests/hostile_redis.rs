//! A worker and launchpad before a Redis in which a stranger has written: nothing leaves its folder, nothing of the stranger's is
//! started, each reason is named, and the runs of others are served.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "a stranger writes behind the queue's back")]

use std::collections::BTreeMap;
use std::fs;

use common::digest::sha256_hex;
use common::queue::{LeaseReply, Queue, QueueError, WorkerCard};
use common::task::{LeaseName, Limits, Phase, RunId, State, TaskId};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tests::{Lab, Pretender, Programs, TestRedis, TestRun, run_id};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};
const TOLUENE: &str = "Cc1ccccc1 toluene\n";

/// Alters the spec of a pushed run in Redis. With `signed` also its digest there, as anyone can who writes to Redis; not in the store.
async fn forge(redis: &mut MultiplexedConnection, run: &str, signed: bool, change: impl Fn(&mut Value)) {
    let key = format!("molfleet:{{{run}}}:run");
    let spec: String = redis.hget(&key, "spec").await.unwrap();
    let mut spec: Value = serde_json::from_str(&spec).unwrap();
    change(&mut spec);
    let spec = spec.to_string();
    if signed {
        let _: () = redis.hset(&key, "digest", sha256_hex(spec.as_bytes())).await.unwrap();
    }
    let _: () = redis.hset(&key, "spec", spec).await.unwrap();
}

/// Replaces an object of a role by one of another name with the same bytes.
fn rename(spec: &mut Value, folder: &str, role: &str, name: &str) {
    let sha256 = spec[folder][role]["sha256"].as_str().unwrap().to_owned();
    spec[folder][role]["object"] = format!("{folder}/{sha256}/{name}").into();
}

/// All files below a folder with their bytes' digests.
fn snapshot(folder: &std::path::Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.display().to_string(), sha256_hex(&fs::read(&path).unwrap()));
            }
        }
    }
    files
}

#[tokio::test]
async fn runs_of_a_stranger_do_no_harm_and_the_others_are_served() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    let forged = ["altered", "role", "driver", "program", "limits", "foreign", "lease"];
    for run in forged {
        lab.push(run, TOLUENE, &[]);
    }
    let owned = lab.path("owned");
    forge(&mut redis, "altered", false, |spec| spec["seed"] = 7.into()).await;
    forge(&mut redis, "role", true, |spec| {
        let receptor = spec["inputs"]["receptor"].take();
        spec["inputs"] = json!({ "../../../escaped": receptor });
    })
    .await;
    forge(&mut redis, "driver", true, |spec| rename(spec, "drivers", "prepare", "-rf")).await;
    forge(&mut redis, "foreign", true, |spec| spec["run"] = "altered".into()).await;
    forge(&mut redis, "program", true, |spec| {
        let touch = ["touch", owned.to_str().unwrap()];
        spec["drivers"] = json!({});
        spec["engine"] = json!({
            "name": "command", "argv": touch, "versions": { "touch": touch }, "rows": "rows.csv",
            "columns": [{ "name": "x" }], "score": null, "expect": [], "keep": [],
        });
    })
    .await;
    let _: () = redis.hset("molfleet:{limits}:run", "heartbeat_ms", 0).await.unwrap();
    let _: () = redis.hset("molfleet:{lease}:task:0", "lease", "../../x").await.unwrap();
    lab.push("good", TOLUENE, &[]);
    let _: () = redis.zadd("molfleet:runs", "good", -1).await.unwrap();
    let _: () = redis.zadd("molfleet:runs", "../../up", 9).await.unwrap();
    let before = snapshot(&lab.store_folder());

    let worker = lab.worker("one", &["--exit-when", "never"]);
    lab.until("good", "the run of others is served", |progress| progress.succeeded == 1).await;
    for (run, reason) in [
        ("altered", "the spec of run `altered` was altered"),
        ("role", "the role `../../../escaped` can't be named so"),
        ("driver", "/-rf` can't be used"),
        ("program", "does not have the run's spec.json"),
        ("limits", "heartbeat_ms is 0 (expected 1 or more)"),
        ("foreign", "it is of run `altered` (expected `foreign`)"),
    ] {
        worker
            .until_logged(&format!("why `{run}` is not served"), |line| line.to_string().contains(reason))
            .await;
    }
    lab.until("lease", "a task with a name that is none is leased anew", |progress| progress.succeeded == 1)
        .await;
    worker.signal(Signal::SIGTERM);
    let mut worker = worker;
    assert_eq!(worker.left().await, 75);

    assert!(!owned.exists(), "a program was started on the word of Redis alone");
    let after = snapshot(&lab.store_folder());
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    let [good, lease] = ["good", "lease"].map(|run| lab.store_folder().join(run).display().to_string());
    let is_served = |path: &str| path.starts_with(&good) || path.starts_with(&lease);
    assert!(new.iter().all(|path| is_served(path)) && !new.is_empty(), "{new:?}");
    assert!(before.iter().all(|(path, sha256)| after.get(path) == Some(sha256)));
    let scratch: Vec<_> =
        snapshot(&lab.path("scratch")).into_keys().filter(|path| !path.contains("/.alive/")).collect();
    assert!(scratch.is_empty(), "{scratch:?}");
    assert!(!lab.path("escaped").exists());

    // launchpad says of each why, lists the others, and takes them away.
    let listed = lab.launchpad(&["status"]);
    assert!(listed.code == 0 && listed.stdout.contains("good"), "{}{}", listed.stdout, listed.stderr);
    assert!(listed.stderr.contains("the role `../../../escaped` can't be named so"), "{}", listed.stderr);
    let one = lab.launchpad(&["status", "role"]);
    assert!(one.code != 0 && one.stderr.contains("hint: "), "{}", one.stderr);
    let removed = lab.launchpad(&["remove", "role", "--yes"]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
}

#[tokio::test]
async fn molecules_of_a_stranger_are_refused_one_by_one() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    let lines: Vec<String> = (0..6).map(|task| format!("Cc1ccccc1 m{task}\n")).collect();
    lab.push("mixed", &lines.concat(), &["--batch-size", "1"]);
    let spec = fs::read(lab.object("mixed", "spec.json")).unwrap();
    let object = "../mixed/spec.json";
    let record = json!([{ "id": "m2", "object": object, "offset": 0, "length": spec.len() }]);
    let smiles = |smiles: &str| json!([{ "id": "x", "smiles": smiles }]).to_string();
    let long = smiles(&"C".repeat(10 << 20));
    for (task, input) in
        [(1, smiles("-O")), (2, record.to_string()), (3, smiles("C\n$(touch owned)")), (4, long)]
    {
        let _: () = redis.hset("molfleet:{mixed}:inputs", task, input).await.unwrap();
    }
    let former = "../../x:failed 1.a.1:lost 1.a.1:released";
    let _: () = redis.hset("molfleet:{mixed}:task:5", "former", former).await.unwrap();
    let _: () = redis.hset("molfleet:{mixed}:task:5", "state", "pending").await.unwrap();

    assert_eq!(lab.worker("one", &["--run", "mixed"]).left().await, 0);
    let progress = lab.progress("mixed").await;
    assert_eq!((progress.succeeded, progress.dead, progress.lapses), (3, 3, 0));
    assert_eq!((progress.molecules_ok, progress.molecules_bad), (2, 1), "`-O` is a bad SMILES and no flag");
    let queue = lab.queue();
    for (task, why) in [
        (2, "`m2` is from an object that can't be used: the object `../mixed/spec.json` can't be used"),
        (3, "the SMILES of `x` has 16 bytes and starts with `C\\n$(touch owned)`"),
        (4, "the SMILES of `x` has 10485760 bytes and starts with `CCC"),
    ] {
        assert_eq!(lab.task("mixed", task).await.reason.as_deref(), Some("input_unreadable"));
        let tail = queue.tail(&run_id("mixed"), TaskId(task)).await.unwrap().unwrap();
        assert!(tail.contains(why) && tail.len() < 1000, "{tail}");
    }
}

#[tokio::test]
async fn texts_of_a_stranger_do_not_command_the_terminal() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    lab.push("r", TOLUENE, &[]);
    let _: () = redis.hset("molfleet:{r}:run", "paused", "\u{1b}[2J\u{9b}1A").await.unwrap();
    let status = lab.launchpad(&["status", "r"]);
    assert!(status.stdout.contains("\\u{1b}[2J\\u{9b}1A"), "{}", status.stdout);
    assert!(!status.stdout.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
}

/// Every key of a run, with the type that it should have.
const KEYS: [(&str, &str); 15] = [
    ("run", "hash"),
    ("progress", "hash"),
    ("pending", "list"),
    ("delayed", "zset"),
    ("leases", "zset"),
    ("dead", "list"),
    ("inputs", "hash"),
    ("tails", "hash"),
    ("checkpoints", "hash"),
    ("task:0", "hash"),
    ("grants", "hash"),
    ("idle", "zset"),
    ("live", "stream"),
    ("events", "stream"),
    ("stats:total", "hash"),
];
/// Every key beside those of runs; the worker `a` is listed.
const REGISTRY: [(&str, &str); 4] = [
    ("molfleet:runs", "zset"),
    ("molfleet:workers", "zset"),
    ("molfleet:drains", "zset"),
    ("molfleet:worker:a", "hash"),
];

/// Names of fields that somebody reads, and ids of tasks.
const FIELDS: [&str; 32] = [
    "spec",
    "digest",
    "store",
    "sealed",
    "paused",
    "lease_ms",
    "heartbeat_ms",
    "pushed_at",
    "clock_ms",
    "ran_at",
    "last_terminal_at",
    "group_tasks",
    "parallelism",
    "step_seconds",
    "schema",
    "state",
    "lease",
    "former",
    "ending",
    "failures",
    "lapses",
    "reason",
    "queued_at",
    "timings_ms",
    "bytes",
    "shard_sha256",
    "total",
    "pending",
    "slots",
    "0",
    "8",
    "w",
];

/// One write of a stranger.
#[derive(Debug, Clone)]
struct Scribble {
    key: String,
    kind: &'static str,
    /// The key gets another type first.
    is_of_wrong_type: bool,
    field: String,
    value: Vec<u8>,
    number: i64,
}

impl Scribble {
    fn add_to(&self, pipe: &mut redis::Pipeline) {
        let Self { key, kind, is_of_wrong_type, field, value, number } = self;
        if *is_of_wrong_type {
            pipe.del(key).ignore();
            if *kind == "list" {
                pipe.set(key, value).ignore()
            } else {
                pipe.rpush(key, value).ignore()
            };
            return;
        }
        match *kind {
            "hash" => pipe.hset(key, field, value).ignore(),
            "list" => pipe.lpush(key, value).ignore(),
            "zset" => pipe.zadd(key, value, number).ignore(),
            _ => pipe.xadd(key, "*", &[(field, value)]).ignore(),
        };
    }
}

/// A write to any key of the run `r`, or beside all runs.
fn scribble() -> impl Strategy<Value = Scribble> {
    let of_run = KEYS.map(|(name, kind)| (format!("molfleet:{{r}}:{name}"), kind));
    let keys: Vec<_> =
        of_run.into_iter().chain(REGISTRY.map(|(name, kind)| (name.to_owned(), kind))).collect();
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        "[-+0-9.:a-z ]{0,20}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "../../x",
            "0",
            "-1",
            "18446744073709551616",
            "1e308",
            "\u{1b}[2J",
            "1.w.1 0 1"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let field =
        prop_oneof![4 => prop::sample::select(&FIELDS[..]).prop_map(str::to_owned), 1 => any::<String>()];
    let number = prop_oneof![Just(0), Just(-1), any::<i64>()];
    (prop::sample::select(keys), prop::bool::weighted(0.2), field, value, number).prop_map(
        |((key, kind), is_of_wrong_type, field, value, number)| Scribble {
            key,
            kind,
            is_of_wrong_type,
            field,
            value,
            number,
        },
    )
}

/// What an error says has to be fit to be shown.
fn told<T>(result: Result<T, QueueError>) -> Option<T> {
    if let Err(error) = &result {
        let shown = error.to_string();
        assert!(shown.chars().count() < 2000 && !shown.chars().any(char::is_control), "{shown:?}");
    }
    result.ok()
}

/// Everything that a program reads of a run; what comes of it does not matter, as long as it comes, in words that can be shown.
async fn read_all(queue: &Queue, run: &RunId) {
    let task = [TaskId(0), TaskId(1)];
    told(queue.run_info(run).await);
    told(queue.progress(run).await);
    told(queue.tasks(run, &task).await);
    for state in State::ALL {
        told(queue.tasks_in(run, state).await);
    }
    told(queue.tail(run, TaskId(0)).await);
    told(queue.leases(run, 10).await);
    told(queue.events(run, 10).await);
    told(queue.latest_event(run).await);
    told(queue.places(run).await);
    told(queue.output(run, TaskId(0), None).await);
    for phase in Phase::ALL {
        told(queue.histogram(run, phase).await);
    }
    told(queue.runs().await);
    told(queue.workers().await);
}

/// Everything that workers and launchpad write, of the tasks that could be leased and of the first one.
async fn write_all(queue: &Queue, run: &TestRun) {
    let (id, w) = (&run.id, "w".parse().unwrap());
    let leased = told(queue.lease(id, &run.digest, &w, 2, 2).await);
    let mut leases = vec![(TaskId(0), "1.w.1".parse::<LeaseName>().unwrap())];
    if let Some(LeaseReply::Granted { grants, .. }) = leased {
        leases.extend(grants.into_iter().map(|grant| (grant.task, grant.lease)));
    }
    told(queue.heartbeat(id, &leases).await);
    for (task, lease) in &leases {
        told(queue.tell(id, *task, lease, ("dock.stdout", 0, b"x")).await);
        told(queue.release(id, *task, lease, "drain", 0).await);
    }
    told(queue.see_worker(&"a".parse().unwrap(), 1).await);
    told(queue.drain(&["a".parse().unwrap()]).await);
    told(queue.requeue(id, &[(TaskId(0), 1)]).await);
    told(queue.set_paused(id, None).await);
    told(queue.cancel_next(id, 10).await);
    told(queue.hide_worker(&"a".parse().unwrap()).await);
}

#[tokio::test]
async fn whatever_stands_in_redis_all_calls_end_in_words_and_other_runs_are_served() {
    let redis = TestRedis::start().await;
    let mut connection = redis.connection().await;
    let mut runner = proptest::test_runner::TestRunner::default();
    let scribbles = prop::collection::vec(scribble(), 1..6);
    let card = WorkerCard { fields: vec![("state", "idle".to_owned())] };
    for _ in 0..runner.config().cases {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
        let run = TestRun::sealed(&redis, "r", &Limits::default(), 3).await;
        run.lease("w", 1, 1).await;
        run.queue.show_worker(&"a".parse().unwrap(), 1, &card).await.unwrap();
        let other = TestRun::sealed(&redis, "other", &Limits::default(), 1).await;
        let before = redis.contents("molfleet:{other}:*").await;
        let scribbles = scribbles.new_tree(&mut runner).unwrap().current();
        let mut pipe = redis::pipe();
        for scribble in &scribbles {
            scribble.add_to(&mut pipe);
        }
        // A stream takes no id of its own twice, and the like: what Redis refuses is not there.
        _ = pipe.query_async::<()>(&mut connection).await;
        let reading = tokio::spawn(async move {
            read_all(&run.queue, &run.id).await;
            write_all(&run.queue, &run).await;
            read_all(&run.queue, &run.id).await;
        });
        assert!(reading.await.is_ok(), "a panic over {scribbles:?}");
        assert_eq!(redis.contents("molfleet:{other}:*").await, before, "{scribbles:?}");
        assert_eq!(other.lease("w", 1, 1).await.len(), 1);
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_task_keeps_no_other_from_being_worked_on() {
    let redis = TestRedis::start().await;
    let mut connection = redis.connection().await;
    let mut runner = proptest::test_runner::TestRunner::default();
    let own = prop::sample::select(vec![
        "inputs",
        "tails",
        "checkpoints",
        "grants",
        "idle",
        "live",
        "events",
        "stats:total",
    ]);
    let damage = (own, scribble());
    for case in 0..runner.config().cases / 4 {
        let run = TestRun::sealed(&redis, &format!("r{case}"), &Limits::default(), 4).await;
        // The first one was released, so that its former leases are looked at, and stands at the head.
        let grant = run.lease("w", 1, 1).await.remove(0);
        run.queue.release(&run.id, TaskId(0), &grant.lease, "drain", 0).await.unwrap().unwrap();
        let mut damages = Vec::new();
        for _ in 0..4 {
            let (name, mut scribble) = damage.new_tree(&mut runner).unwrap().current();
            scribble.kind = KEYS.iter().find(|(key, _)| *key == name).unwrap().1;
            (scribble.key, scribble.is_of_wrong_type) = (run.key(name), false);
            if ["inputs", "tails", "checkpoints"].contains(&name) {
                "0".clone_into(&mut scribble.field);
            }
            damages.push(scribble);
        }
        let task = run.key("task:0");
        let mut pipe = redis::pipe();
        for scribble in &damages {
            scribble.add_to(&mut pipe);
        }
        for (field, scribble) in ["former", "queued_at", "failures", "lease"].iter().zip(&damages) {
            pipe.hset(&task, field, &scribble.value).ignore();
        }
        pipe.query_async::<()>(&mut connection).await.unwrap();
        let grants = run.lease("v", 1, 4).await;
        let mut others: Vec<u64> = grants.iter().map(|grant| grant.task.0).filter(|task| *task > 0).collect();
        others.sort_unstable();
        assert_eq!(others, [1, 2, 3], "{damages:?}");
        for grant in grants.iter().filter(|grant| grant.task.0 > 0) {
            let released = run.queue.release(&run.id, grant.task, &grant.lease, "drain", 0).await.unwrap();
            assert_eq!(released, Ok(()), "{damages:?}");
        }
    }
}

/// What launchpad is asked of a run.
const LOOKS: [&[&str]; 13] = [
    &["status"],
    &["status", "r"],
    &["status", "r", "--json"],
    &["tasks", "r"],
    &["show", "r", "0"],
    &["logs", "r", "0"],
    &["workers"],
    &["top", "r"],
    &["export", "r", "--csv", "-o", "timings.csv"],
    &["consolidate", "r", "-o", "results.csv"],
    &["audit", "r"],
    &["drain", "a"],
    &["doctor", "r"],
];

#[tokio::test]
async fn every_command_ends_in_words_whatever_type_a_key_has() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    lab.push("r", "C a\nCC b\n", &["--batch-size", "1"]);
    let pretender = Pretender::new(&lab, "r");
    let grants = pretender.lease(1, 2).await;
    pretender.succeed(&grants[0]).await;
    let card = WorkerCard { fields: vec![("state", "idle".to_owned())] };
    lab.queue().show_worker(&"a".parse().unwrap(), 1, &card).await.unwrap();
    let of_run = KEYS.map(|(name, kind)| (format!("molfleet:{{r}}:{name}"), kind));
    let registry = REGISTRY.map(|(name, kind)| (name.to_owned(), kind));
    for (key, kind) in of_run.into_iter().chain(registry) {
        let kept: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
        let _: () = redis.del(&key).await.unwrap();
        let wrong = if kind == "hash" {
            redis.rpush(&key, "\u{1b}[2J")
        } else {
            redis.hset(&key, "../../x", "\u{1b}[2J")
        };
        let _: () = wrong.await.unwrap();
        for words in LOOKS {
            let ran = lab.launchpad(words);
            let context = format!("`{key}`, {words:?}: {ran:?}");
            assert!([0, 64, 65, 69, 75, 78].contains(&ran.code), "{context}");
            assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains('\u{1b}'), "{context}");
            assert!(ran.code == 0 || ran.stderr.contains("error: "), "{context}");
        }
        let _: () = redis.del(&key).await.unwrap();
        if let Some(kept) = kept {
            let _: () =
                redis::cmd("RESTORE").arg(&key).arg(0).arg(kept).query_async(&mut redis).await.unwrap();
        }
    }
    // Nobody has lost anything meanwhile.
    pretender.succeed(&grants[1]).await;
    let consolidated = lab.launchpad(&["consolidate", "r", "-o", "results.csv"]);
    assert_eq!(consolidated.code, 0, "{consolidated:?}");
}

/// A worker that is given nothing although tasks are pending must not look like one that has nothing to do.
#[tokio::test]
async fn a_list_that_somebody_emptied_is_told_of_and_mended() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    let mut redis = lab.redis.connection().await;
    let _: u64 = redis.del("molfleet:{r}:pending").await.unwrap();
    let mut worker = lab.worker("one", &["--run", "r", "--exit-when", "empty"]);
    let is_told = |line: &Value| {
        line["level"] == "WARN" && line["hint"].as_str().is_some_and(|hint| hint.contains("launchpad audit"))
    };
    worker.until_logged("that the list is empty", is_told).await;
    let mended = lab.launchpad(&["audit", "r", "--fix"]);
    assert_eq!(mended.code, 0, "{}", mended.stderr);
    assert_eq!(worker.left().await, 0);
    assert_eq!(lab.progress("r").await.succeeded, 1);
}
