//! `audit`: what a fail-over forgot and what a hand broke is named, and put right from the manifest and the store.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "tests break Redis behind the queue's back")]

use std::collections::BTreeMap;
use std::fs;

use common::task::TaskId;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tests::{Lab, Pretender, Programs, run_id};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const LIGANDS: &str = "c1ccccc1 a\nCc1ccccc1 b\nOc1ccccc1 c\nNc1ccccc1 d\nFc1ccccc1 e\nClc1ccccc1 f\n";

type Dump = BTreeMap<String, Vec<u8>>;

/// What Redis holds.
async fn dump(redis: &mut MultiplexedConnection) -> Dump {
    let keys: Vec<String> = redis.keys("*").await.unwrap();
    let mut dumped = Dump::new();
    for key in keys {
        let bytes = redis::cmd("DUMP").arg(&key).query_async(redis).await.unwrap();
        dumped.insert(key, bytes);
    }
    dumped
}

/// What Redis holds of tasks. The run's own hash is left out: a large hash has its fields in any order.
async fn tasks_dump(redis: &mut MultiplexedConnection) -> Dump {
    let mut dumped = dump(redis).await;
    dumped.remove("molfleet:{r}:run");
    dumped
}

/// Makes Redis hold what it held before, as a replica does that takes over and had not heard of the rest.
async fn forget(redis: &mut MultiplexedConnection, since: &Dump) {
    redis::cmd("FLUSHALL").exec_async(redis).await.unwrap();
    for (key, bytes) in since {
        redis::cmd("RESTORE").arg(key).arg(0).arg(bytes).exec_async(redis).await.unwrap();
    }
}

/// What an audit says: its exit code and its report.
fn audit(lab: &Lab, flags: &[&str]) -> (i32, Value) {
    let ran = lab.launchpad(&[&["audit", "r", "--json"], flags].concat());
    let report = serde_json::from_str(&ran.stdout).expect(&ran.stderr);
    (ran.code, report)
}

/// Each finding as `what task`, in order of appearance.
fn findings(report: &Value) -> Vec<String> {
    let shown = |finding: &Value| {
        let task = finding["task"].as_u64().map_or_else(String::new, |task| format!(" {task}"));
        format!("{}{task}", finding["what"].as_str().unwrap())
    };
    report["findings"].as_array().unwrap().iter().map(shown).collect()
}

#[tokio::test]
async fn what_a_fail_over_forgot_is_found_in_the_store_and_recorded() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    lab.push("r", LIGANDS, &[]);
    let pretender = Pretender::new(&lab, "r");
    let grants = pretender.lease(1, 1).await;
    pretender.succeed(&grants[0]).await;
    let replicated = dump(&mut redis).await;
    let digests = |infos: &[common::queue::TaskInfo]| -> Vec<Option<String>> {
        infos.iter().map(|info| info.shard_sha256.clone()).collect()
    };
    let ids: Vec<TaskId> = (0..6).map(TaskId).collect();
    for grant in pretender.lease(2, 3).await {
        pretender.succeed(&grant).await;
    }
    let acknowledged = digests(&lab.queue().tasks(&run_id("r"), &ids).await.unwrap());
    forget(&mut redis, &replicated).await;
    assert_eq!(lab.progress("r").await.succeeded, 1);

    let forgotten = tasks_dump(&mut redis).await;
    let (code, report) = audit(&lab, &[]);
    assert_eq!(
        (code, findings(&report)),
        (65, vec!["unrecorded 1".into(), "unrecorded 2".into(), "unrecorded 3".into()])
    );
    assert!(tasks_dump(&mut redis).await == forgotten, "a look changes nothing");

    let (code, report) = audit(&lab, &["--fix"]);
    assert_eq!((code, report["fixed"].as_u64()), (0, Some(3)), "{report}");
    assert_eq!(digests(&lab.queue().tasks(&run_id("r"), &ids).await.unwrap()), acknowledged);
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.pending, progress.molecules_ok), (4, 2, 4));
    let fixed = tasks_dump(&mut redis).await;
    assert_eq!(audit(&lab, &["--fix"]).0, 0);
    assert!(tasks_dump(&mut redis).await == fixed, "twice is once");
    for grant in pretender.lease(3, 6).await {
        pretender.succeed(&grant).await;
    }
    let table = lab.path("results.csv");
    let ran = lab.launchpad(&["consolidate", "r", "-o", table.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[tokio::test]
async fn a_push_that_was_forgotten_is_finished_from_the_stored_manifest() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    lab.push("r", LIGANDS, &[]);
    let whole = dump(&mut redis).await;
    let inputs: BTreeMap<String, String> = redis.hgetall("molfleet:{r}:inputs").await.unwrap();
    // A replica that had heard of the first four tasks only.
    for (name, value) in [("total", 4), ("pending", 4)] {
        let _: () = redis.hset("molfleet:{r}:progress", name, value).await.unwrap();
    }
    let _: () = redis.ltrim("molfleet:{r}:pending", 0, 3).await.unwrap();
    let _: () = redis.hdel("molfleet:{r}:inputs", &["4", "5"]).await.unwrap();
    let _: () = redis.hdel("molfleet:{r}:run", "sealed").await.unwrap();

    let (code, report) = audit(&lab, &[]);
    assert_eq!((code, findings(&report)), (65, vec!["not_pushed".to_owned()]));
    assert_eq!(audit(&lab, &["--fix"]).0, 0);
    assert_eq!(redis.hgetall::<_, BTreeMap<String, String>>("molfleet:{r}:inputs").await.unwrap(), inputs);
    let now = dump(&mut redis).await;
    for key in ["molfleet:{r}:pending", "molfleet:{r}:progress"] {
        assert_eq!(now[key], whole[key], "{key}");
    }
    let _: () = redis.hdel("molfleet:{r}:run", "sealed").await.unwrap();
    assert_eq!(findings(&audit(&lab, &[]).1), ["not_sealed"]);
    assert_eq!(audit(&lab, &["--fix"]).0, 0);
}

#[tokio::test]
async fn what_a_hand_broke_is_named_and_put_right() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    lab.push("r", LIGANDS, &[]);
    let pretender = Pretender::new(&lab, "r");
    let grants = pretender.lease(1, 3).await;
    pretender.kill(&grants[0], "engine_crashed").await;
    pretender.fail(grants[1].task, &grants[1].lease, "", common::queue::Charge::Failure).await;
    assert_eq!((audit(&lab, &[]).0, findings(&audit(&lab, &[]).1).len()), (0, 0));

    // Task 0 is dead, 1 delayed, 2 leased, 3 to 5 pending.
    let _: () =
        redis.del(&["molfleet:{r}:dead", "molfleet:{r}:delayed", "molfleet:{r}:leases"]).await.unwrap();
    let _: () = redis.lrem("molfleet:{r}:pending", 1, 3).await.unwrap();
    let _: () = redis.rpush("molfleet:{r}:pending", &["4", "0"]).await.unwrap();
    let _: () = redis.hincr("molfleet:{r}:progress", "pending", 7).await.unwrap();
    let _: () = redis.hset("molfleet:{r}:progress", "failures", 0).await.unwrap();
    let broken = [
        "misplaced 0",
        "misplaced 1",
        "misplaced 2",
        "misplaced 3",
        "misplaced 4",
        "miscounted",
        "miscounted",
    ];
    let (code, report) = audit(&lab, &[]);
    assert_eq!((code, findings(&report)), (65, broken.map(str::to_owned).to_vec()));
    assert_eq!(report["findings"][4]["detail"], "the task is pending, and stands in: pending (2 times)");
    let text = lab.launchpad(&["audit", "r"]);
    assert!(text.stderr.contains("hint: `launchpad audit r --fix` puts them right"), "{}", text.stderr);

    let (code, report) = audit(&lab, &["--fix"]);
    assert_eq!((code, findings(&report).len(), report["quiet"].as_bool()), (0, 0, Some(true)), "{report}");
    let progress = lab.progress("r").await;
    assert_eq!((progress.dead, progress.delayed, progress.leased, progress.pending), (1, 1, 1, 3));
    assert_eq!(progress.failures, 2);
    // The lease goes on under its name, and everything can be worked off.
    pretender.succeed(&grants[2]).await;
    let mut left: Vec<u64> = pretender.lease(2, 9).await.iter().map(|grant| grant.task.0).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 3, 4, 5]);
}

#[tokio::test]
async fn what_cannot_be_put_right_is_named_and_left_alone() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    lab.push("r", LIGANDS, &[]);
    let pretender = Pretender::new(&lab, "r");
    let grants = pretender.lease(1, 5).await;
    for grant in &grants[..3] {
        pretender.succeed(grant).await;
    }
    pretender.kill(&grants[3], "engine_crashed").await;
    pretender.kill(&grants[4], "engine_crashed").await;
    fs::remove_file(lab.object("r", "shards/shard_0000000.csv")).unwrap();
    fs::write(lab.object("r", "shards/shard_0000001.csv"), "altered").unwrap();
    // The dead task's own result cannot be told from one that the store has under its name.
    let copy = fs::read_to_string(lab.object("r", "shards/shard_0000002.csv")).unwrap();
    fs::write(lab.object("r", "shards/shard_0000003.csv"), copy.replace("c,", "d,")).unwrap();
    let (code, report) = audit(&lab, &["--fix"]);
    let expected = ["shard_missing 0", "shard_truncated 1", "index_missing 3"].map(str::to_owned).to_vec();
    let broken = tasks_dump(&mut redis).await;
    assert_eq!((code, findings(&report)), (65, expected), "{report}");
    assert_eq!(audit(&lab, &["--fix"]).1["fixed"], 0);
    assert!(tasks_dump(&mut redis).await == broken, "nothing of it can be put right");
}

#[tokio::test]
async fn nothing_is_put_right_that_has_gone_on_since_it_was_seen() {
    let lab = Lab::new(PROGRAMS).await;
    let mut redis = lab.redis.connection().await;
    lab.push("r", LIGANDS, &[]);
    let queue = lab.queue();
    let seen = queue.latest_event(&run_id("r")).await.unwrap();
    let pretender = Pretender::new(&lab, "r");
    let grants = pretender.lease(1, 1).await;
    let before = tasks_dump(&mut redis).await;
    assert!(!queue.repair(&run_id("r"), &seen, &[("pending", 6)], &[TaskId(0)]).await.unwrap());
    let adoption = |lease_number| common::queue::Adoption {
        task: TaskId(1),
        lease_number,
        shard_sha256: "5a".into(),
        index_sha256: "1d".into(),
        molecules_ok: 1,
        molecules_bad: 0,
    };
    assert_eq!(queue.adopt(&run_id("r"), &[adoption(1)]).await.unwrap(), 0, "it was never leased");
    let leased = common::queue::Adoption { task: grants[0].task, ..adoption(1) };
    assert_eq!(queue.adopt(&run_id("r"), &[leased]).await.unwrap(), 0, "its worker will find the result");
    assert!(tasks_dump(&mut redis).await == before);
}
