//! A worker and launchpad before a Redis in which a stranger has written: nothing leaves its folder, nothing of the stranger's is
//! started, each reason is named, and the runs of others are served.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs;

use common::digest::sha256_hex;
use common::queue::Queue;
use common::task::{Phase, TaskId};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tests::{Lab, Programs, TestRedis, TestRun, eventually, run_id};

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
        ("lease", "asking for work failed"),
    ] {
        worker
            .until_logged(&format!("why `{run}` is not served"), |line| line.to_string().contains(reason))
            .await;
    }
    worker.signal(Signal::SIGTERM);
    let mut worker = worker;
    assert_eq!(worker.left().await, 75);

    assert!(!owned.exists(), "a program was started on the word of Redis alone");
    let after = snapshot(&lab.store_folder());
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    let good = lab.store_folder().join("good").display().to_string();
    assert!(new.iter().all(|path| path.starts_with(&good)) && !new.is_empty(), "{new:?}");
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

/// Any bytes in every field that this program reads.
async fn scribble(redis: &mut MultiplexedConnection, run: &TestRun, garbage: &[(String, Vec<u8>)]) {
    let mut pipe = redis::pipe();
    for (field, value) in garbage {
        for key in ["run", "progress", "task:0", "stats:total"] {
            pipe.hset(run.key(key), field, value).ignore();
        }
        pipe.xadd(run.key("events"), "*", &[(field, value)]).ignore();
        pipe.hset("molfleet:worker:a", field, value).ignore();
        pipe.zadd("molfleet:runs", value, 1).zadd("molfleet:workers", value, 1).ignore();
        pipe.hset(run.key("tails"), 0, value).hset(run.key("inputs"), 0, value).ignore();
    }
    pipe.query_async::<()>(redis).await.unwrap();
}

/// Everything that a program reads of a run; what comes of it does not matter, as long as it comes.
async fn read_all(queue: &Queue, run: &TestRun) {
    let task = [TaskId(0)];
    _ = queue.run_info(&run.id).await;
    _ = queue.progress(&run.id).await;
    _ = queue.tasks(&run.id, &task).await;
    _ = queue.tail(&run.id, TaskId(0)).await;
    _ = queue.leases(&run.id, 10).await;
    _ = queue.events(&run.id, 10).await;
    _ = queue.histogram(&run.id, Phase::Total).await;
    _ = queue.runs().await;
    _ = queue.workers().await;
    _ = queue.lease(&run.id, &run.digest, &"w".parse().unwrap(), 1, 1).await;
}

#[tokio::test]
async fn whatever_stands_in_redis_reading_it_ends_without_a_panic() {
    const FIELDS: [&str; 25] = [
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
        "8",
    ];
    let redis = TestRedis::start().await;
    let mut connection = redis.connection().await;
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        "[-+0-9.:a-z ]{0,20}".prop_map(String::into_bytes),
    ];
    let field = prop_oneof![prop::sample::select(&FIELDS[..]).prop_map(str::to_owned), any::<String>()];
    let garbage = prop::collection::vec((field, value), 1..6);
    let mut runner = proptest::test_runner::TestRunner::default();
    let cases = runner.config().cases / 4;
    for case in 0..cases {
        let run = TestRun::sealed(&redis, &format!("r{case}"), &common::task::Limits::default(), 1).await;
        let garbage = garbage.new_tree(&mut runner).unwrap().current();
        scribble(&mut connection, &run, &garbage).await;
        let (queue, reading) = (run.queue.clone(), run);
        let read = tokio::spawn(async move { read_all(&queue, &reading).await });
        assert!(read.await.is_ok(), "a panic over {garbage:?}");
    }
    eventually("Redis still answers", || async {
        redis.connection().await.ping::<String>().await.map_err(|e| e.to_string())
    })
    .await;
}
