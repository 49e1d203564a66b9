//! The ten rules of `docs/protocol.md`, one test each at least, on the raw scripts and a real Redis. Nothing waits: a test moves the
//! clocks that a run keeps.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests call the raw scripts; a panic is the report"
)]

use std::collections::{BTreeMap, BTreeSet};

use common::queue::{Completion, Disposition, LeaseReply, Queue, QueueError, SOURCES, WhyNothing};
use common::task::{Limits, Moments, TaskId, WorkerId};
use futures::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Value};
use tests::protocol::{Stage, bounds, conformance, damage};
use tests::{TestRedis, TestRun, eventually};

const LEASE_MS: i64 = 60_000;

/// A run, its Redis, and a connection that looks behind the queue's back.
struct Bench {
    redis: TestRedis,
    run: TestRun,
    connection: MultiplexedConnection,
}

impl Bench {
    async fn new(tasks: u64) -> Self {
        let redis = TestRedis::start().await;
        let run = TestRun::sealed(&redis, "r", &Limits::default(), tasks).await;
        let connection = redis.connection().await;
        Self { redis, run, connection }
    }

    /// Calls a script as its text stands, with a lease clock that stands still.
    async fn call(&mut self, script: &str, arguments: &[&str]) -> Vec<String> {
        self.set_ran_at(i64::MAX / 4096).await;
        self.raw(script, arguments).await
    }

    /// Calls a script as the worker does that knows this run: `lease` names the digest last.
    async fn raw(&mut self, script: &str, arguments: &[&str]) -> Vec<String> {
        let mut arguments = arguments.to_vec();
        if script == "lease" {
            arguments.push(&self.run.digest);
        }
        raw(&mut self.connection, &self.run.key("run"), script, &arguments).await
    }

    /// Calls a script the given time after the one before.
    async fn call_after(&mut self, ms: i64, script: &str, arguments: &[&str]) -> Vec<String> {
        let now = i64::try_from(self.run.queue.now_ms().await.unwrap()).unwrap();
        self.set_ran_at(now - ms).await;
        self.raw(script, arguments).await
    }

    async fn set_ran_at(&mut self, at: i64) {
        let key = self.run.key("run");
        // A run that is gone must stay so.
        if self.connection.exists(&key).await.unwrap() {
            let _: () = self.connection.hset(key, "ran_at", at).await.unwrap();
        }
    }

    async fn run_field(&mut self, field: &str) -> Option<i64> {
        self.connection.hget(self.run.key("run"), field).await.unwrap()
    }

    async fn state(&mut self, task: u64) -> String {
        let state: Option<String> =
            self.connection.hget(self.run.key(&format!("task:{task}")), "state").await.unwrap();
        state.unwrap_or_else(|| "pending".into())
    }

    async fn pending(&mut self) -> Vec<u64> {
        self.connection.lrange(self.run.key("pending"), 0, -1).await.unwrap()
    }

    /// Lets the leases of these tasks expire.
    async fn expire(&mut self, tasks: &[u64]) {
        for task in tasks {
            let _: () = self.connection.zadd(self.run.key("leases"), task, 0).await.unwrap();
        }
    }

    /// Lets the delay of a task end.
    async fn end_delay(&mut self, task: u64) {
        let _: () = self.connection.zadd(self.run.key("delayed"), task, 1).await.unwrap();
    }

    /// Everything that Redis holds, except the lease clock.
    async fn everything(&mut self) -> BTreeMap<String, Vec<u8>> {
        let keys: Vec<String> = self.connection.keys("*").await.unwrap();
        let mut dumps = BTreeMap::new();
        for key in keys {
            if key == self.run.key("run") {
                let mut hash: BTreeMap<String, String> = self.connection.hgetall(&key).await.unwrap();
                hash.retain(|field, _| field != "ran_at" && field != "clock_ms");
                dumps.insert(key, format!("{hash:?}").into_bytes());
            } else {
                let dump = redis::cmd("DUMP").arg(&key).query_async(&mut self.connection).await.unwrap();
                dumps.insert(key, dump);
            }
        }
        dumps
    }
}

/// Compares what Redis holds, and names the keys that differ.
fn assert_same(left: &BTreeMap<String, Vec<u8>>, right: &BTreeMap<String, Vec<u8>>, context: &str) {
    let keys: Vec<&String> =
        left.keys().chain(right.keys()).filter(|key| left.get(*key) != right.get(*key)).collect();
    assert!(keys.is_empty(), "{context}: {keys:?} differ");
}

async fn raw(
    connection: &mut MultiplexedConnection,
    run: &str,
    script: &str,
    arguments: &[&str],
) -> Vec<String> {
    let (_, source) = SOURCES.iter().find(|(name, _)| *name == script).unwrap();
    let mut command = redis::cmd("EVAL");
    command.arg(source).arg(1).arg(run).arg(arguments);
    let reply: Vec<Value> = command.query_async(connection).await.unwrap();
    let reply: Vec<String> = reply.into_iter().map(text).collect();
    match &reply[..] {
        // Of its answers, the one to the only success.
        [code, answer] if code == "answers" => answer.split('|').map(str::to_owned).collect(),
        _ => reply,
    }
}

fn text(value: Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Array(items) => items.into_iter().map(text).collect::<Vec<_>>().join("|"),
        other => redis::from_redis_value(other).unwrap(),
    }
}

/// The arguments of a script that names a task and a lease.
fn arguments<'a>(script: &str, task: &'a str, lease: &'a str) -> Vec<&'a str> {
    let mut arguments = vec![task, lease];
    arguments.extend_from_slice(match script {
        "complete" => &["5a", "1d", "3", "1", "10", "20", "1+1+1+1+1+1+1", "7", "1", "1", "1", "1", "8"],
        "fail" => &["exit_code", "again", "999999", "last line"],
        "release" => &["drain", "0"],
        "checkpoint" => &["1", "b0", "3/9"],
        "tell" => &["dock.stdout", "0", "mode 1\n"],
        _ => &[],
    });
    arguments
}

const FENCED: [&str; 6] = ["heartbeat", "complete", "fail", "release", "tell", "checkpoint"];

#[tokio::test]
async fn rule_1_the_scripts_of_launchpad_have_the_effect_of_one_when_they_run_twice() {
    let mut bench = Bench::new(0).await;
    bench.run = TestRun::create(&bench.redis, "twice", &Limits::default()).await;
    let digest = bench.run.digest.clone();
    let calls: [(&str, Vec<&str>, &str, &str); 8] = [
        ("create", vec![&digest], "exists", "exists"),
        ("push", vec![&digest, "0", "[]", "[]"], "ok", "ok"),
        ("seal", vec!["2"], "ok", "ok"),
        ("lease", vec!["w1", "1", "1"], "granted", "granted"),
        ("cancel", vec!["0", "0", "1"], "ok", "ok"),
        ("requeue", vec!["0", "1", "1", "0"], "ok", "ok"),
        ("set", vec!["paused", "why"], "ok", "ok"),
        ("set", vec!["parallelism", "4"], "ok", "ok"),
    ];
    for (script, arguments, first, second) in calls {
        let reply = bench.call(script, &arguments).await;
        assert_eq!(reply[0], first, "{script}: {reply:?}");
        let mut once = bench.everything().await;
        let reply = bench.call(script, &arguments).await;
        assert_eq!(reply[0], second, "{script} twice: {reply:?}");
        let mut twice = bench.everything().await;
        if script == "set" {
            let events = bench.run.key("events");
            once.remove(&events);
            twice.remove(&events);
        }
        assert_same(&twice, &once, script);
    }
}

#[tokio::test]
async fn rule_1_a_requeue_revives_only_what_the_person_saw() {
    let mut bench = Bench::new(2).await;
    bench.call("lease", &["w1", "1", "1"]).await;
    bench.call("fail", &["0", "1.w1.1", "exit_code", "never", "0", ""]).await;
    for (seen, requeued) in [("0", "0"), ("2", "0"), ("1", "1")] {
        assert_eq!(bench.call("requeue", &["0", seen]).await, ["ok", requeued], "seen {seen}");
    }
    assert_eq!(bench.pending().await, [1, 0], "behind the others");
    let progress = bench.run.queue.progress(&bench.run.id).await.unwrap();
    assert_eq!((progress.failures, progress.dead), (0, 0), "its failures are forgiven");
    bench.call("lease", &["w1", "2", "2"]).await;
    bench.call("fail", &["0", "2.w1.2", "exit_code", "never", "0", ""]).await;
    assert_eq!(bench.call("requeue", &["0", "1"]).await, ["ok", "0"], "a late repeat of the first requeue");
    assert_eq!(bench.state(0).await, "dead");
}

#[tokio::test]
async fn a_run_that_is_gone_stays_gone() {
    let mut bench = Bench::new(1).await;
    bench.call("lease", &["w1", "1", "1"]).await;
    let fenced = FENCED.map(|script| (script, arguments(script, "0", "1.w1.1")));
    let others = [
        ("lease", vec!["w2", "1", "1"]),
        ("push", vec!["d", "0", "[]"]),
        ("seal", vec!["1"]),
        ("cancel", vec!["10"]),
        ("cancel", vec!["0", "0"]),
        ("requeue", vec!["0", "1"]),
        ("set", vec!["paused", "why"]),
    ];
    let calls: Vec<_> = fenced.into_iter().chain(others).collect();
    let _: () = bench.connection.hset(bench.run.key("run"), "removing", 1).await.unwrap();
    let before = bench.everything().await;
    for (script, arguments) in &calls {
        assert_eq!(bench.call(script, arguments).await, ["gone"], "{script} of a run that is being removed");
    }
    assert_same(&bench.everything().await, &before, "other keys");
    assert_eq!(bench.call("create", &["d"]).await, ["removing"]);
    for _ in 0..2 {
        assert_eq!(bench.call("remove", &["0", "1000"]).await, ["done"]);
        for (script, arguments) in &calls {
            assert_eq!(bench.call(script, arguments).await, ["gone"], "{script}");
        }
        assert_same(&bench.everything().await, &BTreeMap::new(), "a gone run has keys");
    }
    let error = bench.run.queue.cancel_next(&bench.run.id, 1).await.unwrap_err();
    assert!(matches!(error, QueueError::NoSuchRun(_)), "{error}");
}

#[tokio::test]
async fn rule_3_a_gap_costs_a_lease_a_sixth_and_a_jump_back_nothing() {
    const NIGHT: i64 = 10 * 3_600_000;
    let mut bench = Bench::new(2).await;
    bench.call("lease", &["w1", "1", "1"]).await;
    let heartbeat = ["0", "1.w1.1"];
    for (gap, expected) in [(NIGHT, LEASE_MS / 6), (-NIGHT, 0), (NIGHT, LEASE_MS / 6)] {
        let before = bench.run_field("clock_ms").await.unwrap();
        let reply = bench.call_after(gap, "heartbeat", &heartbeat).await;
        assert_eq!(reply[2], "held");
        assert_eq!(bench.run_field("clock_ms").await.unwrap() - before, expected, "after {gap} ms");
    }
    for night in 1..=5 {
        bench.call_after(NIGHT, "lease", &["w2", "1", "0"]).await;
        assert_eq!(bench.state(0).await, "leased", "after {night} nights without its worker");
    }
    bench.call_after(NIGHT, "lease", &["w2", "1", "0"]).await;
    assert_eq!(bench.state(0).await, "pending", "six gaps are a whole lease");
}

#[tokio::test]
async fn rule_3_only_workers_move_the_lease_clock() {
    let mut bench = Bench::new(3).await;
    bench.call("lease", &["w1", "1", "2"]).await;
    let digest = bench.run.digest.clone();
    let launchpad = [
        ("create", vec![digest.as_str()]),
        ("push", vec![&digest, "0", "[]"]),
        ("seal", vec!["3"]),
        ("cancel", vec!["0", "0"]),
        ("requeue", vec!["0", "1"]),
        ("set", vec!["parallelism", "0"]),
    ];
    for (script, arguments) in launchpad {
        let clock = bench.run_field("clock_ms").await;
        bench.call_after(60_000, script, &arguments).await;
        assert_eq!(bench.run_field("clock_ms").await, clock, "{script}");
    }
    let fenced = FENCED.map(|script| (script, arguments(script, "1", "9.w9.9")));
    for (script, arguments) in fenced.into_iter().chain([("lease", vec!["w2", "1", "0"])]) {
        let clock = bench.run_field("clock_ms").await.unwrap();
        bench.call_after(60_000, script, &arguments).await;
        assert_eq!(bench.run_field("clock_ms").await, Some(clock + LEASE_MS / 6), "{script}");
    }
}

#[tokio::test]
async fn rule_4_a_request_is_repeated_before_anything_is_reclaimed() {
    let mut bench = Bench::new(4).await;
    let first = bench.call("lease", &["w1", "1", "2"]).await;
    assert_eq!(first[0], "granted");
    bench.expire(&[0, 1]).await;
    let again = bench.call("lease", &["w1", "1", "2"]).await;
    assert_eq!(again[2..], first[2..], "the same tasks, and nothing new");
    let expiry: i64 = bench.connection.zscore(bench.run.key("leases"), 0).await.unwrap();
    assert_eq!(expiry, bench.run_field("clock_ms").await.unwrap() + LEASE_MS, "and renewed");
    bench.call("release", &arguments("release", "1", "1.w1.1")).await;
    let rest = bench.call("lease", &["w1", "1", "2"]).await;
    assert_eq!(rest.len(), 3, "only what is still held: {rest:?}");
    bench.call("release", &arguments("release", "0", "1.w1.1")).await;
    assert_eq!(bench.pending().await, [0, 1, 2, 3], "released at the head");
    let ended = bench.call("lease", &["w1", "1", "2"]).await;
    assert_eq!(
        (ended[0].as_str(), ended[2].as_str()),
        ("stale", "1"),
        "nothing new under an answered number"
    );
    bench.call("lease", &["w1", "2", "1"]).await;
    let late = bench.call("lease", &["w1", "1", "2"]).await;
    assert_eq!((late[0].as_str(), late[2].as_str()), ("stale", "2"), "a late request gets nothing");
}

#[tokio::test]
async fn rule_4_reclaim_and_promote_come_before_the_pause() {
    let mut bench = Bench::new(4).await;
    bench.call("lease", &["w1", "1", "2"]).await;
    bench.call("fail", &arguments("fail", "1", "1.w1.1")).await;
    bench.expire(&[0]).await;
    bench.end_delay(1).await;
    bench.call("set", &["paused", "why"]).await;
    let reply = bench.call("lease", &["w2", "1", "1"]).await;
    assert_eq!((reply[0].as_str(), reply[2].as_str()), ("nothing", "paused"));
    assert_eq!(bench.pending().await, [0, 2, 3, 1], "reclaimed at the head, promoted at the tail");
    let lapses: u64 = bench.connection.hget(bench.run.key("task:0"), "lapses").await.unwrap();
    assert_eq!(lapses, 1);
}

#[tokio::test]
async fn rule_4_a_task_that_kills_its_workers_dies() {
    let mut bench = Bench::new(1).await;
    let lapses_max = Limits::default().lapses_max;
    for lapse in 1..=lapses_max {
        let request = lapse.to_string();
        assert_eq!(bench.call("lease", &["w1", &request, "1"]).await[0], "granted", "after {lapse} lapses");
        bench.expire(&[0]).await;
        bench.call("lease", &["w2", "1", "0"]).await;
        let expected = if lapse == lapses_max { "dead" } else { "pending" };
        assert_eq!(bench.state(0).await, expected, "after {lapse} lapses");
    }
    let progress = bench.run.queue.progress(&bench.run.id).await.unwrap();
    assert_eq!((progress.failures, progress.lapses, progress.dead), (0, lapses_max, 1));
}

#[tokio::test]
async fn rule_5_finished_work_is_adopted_from_whoever_had_it_last() {
    let mut bench = Bench::new(1).await;
    bench.call("lease", &["w1", "1", "1"]).await;
    bench.expire(&[0]).await;
    bench.call("lease", &["w2", "1", "1"]).await;
    let late = bench.call("complete", &arguments("complete", "0", "1.w1.1")).await;
    assert_eq!(late, ["lost", "leased"], "somebody else has it");
    bench.expire(&[0]).await;
    bench.call("lease", &["w3", "1", "0"]).await;
    let late = bench.call("complete", &arguments("complete", "0", "1.w1.1")).await;
    assert_eq!(late, ["lost", "pending"], "it was not the last");
    assert_eq!(bench.call("complete", &arguments("complete", "0", "2.w2.1")).await, ["ok"]);
    assert!(bench.pending().await.is_empty());
}

#[tokio::test]
async fn a_worker_that_knows_another_run_under_this_id_gets_nothing() {
    let mut bench = Bench::new(1).await;
    let key = bench.run.key("run");
    let reply = raw(&mut bench.connection, &key, "lease", &["w1", "1", "1", "another digest"]).await;
    assert_eq!(reply, ["differs", &bench.run.digest]);
    assert_eq!(bench.pending().await, [0]);
    assert_eq!(bench.call("lease", &["w1", "1", "1"]).await[0], "granted");
}

#[tokio::test]
async fn rule_6_parallelism_is_never_exceeded() {
    let bench = Bench::new(100).await;
    let (queue, run, digest) = (&bench.run.queue, &bench.run.id, &bench.run.digest);
    queue.set_parallelism(run, 7).await.unwrap();
    let asking = (0..20).map(|number| async move {
        let worker: WorkerId = format!("w{number}").parse().unwrap();
        queue.lease(run, digest, &worker, 1, 3).await.unwrap()
    });
    let replies = futures::future::join_all(asking).await;
    let granted: usize = replies
        .iter()
        .map(|reply| match reply {
            LeaseReply::Granted { grants, .. } => grants.len(),
            LeaseReply::Nothing(nothing) => {
                assert_eq!(nothing.why, WhyNothing::Cap);
                0
            }
            LeaseReply::Stale { .. } | LeaseReply::Differs => unreachable!("first requests"),
        })
        .sum();
    assert_eq!(granted, 7);
    queue.set_parallelism(run, 2).await.unwrap();
    let reply = queue.lease(run, digest, &"late".parse().unwrap(), 1, 1).await.unwrap();
    assert!(matches!(reply, LeaseReply::Nothing(nothing) if nothing.why == WhyNothing::Cap), "{reply:?}");
    queue.set_parallelism(run, 0).await.unwrap();
    assert_eq!(bench.run.lease("late", 1, 99).await.len(), 93);
}

#[tokio::test]
async fn rule_7_a_run_is_drained_five_seconds_after_its_last_task_ended() {
    let mut bench = Bench::new(1).await;
    bench.call("lease", &["w1", "1", "1"]).await;
    assert_eq!(bench.call("lease", &["w2", "1", "1"]).await[2], "empty", "it is leased");
    bench.call("complete", &arguments("complete", "0", "1.w1.1")).await;
    assert_eq!(bench.call("lease", &["w1", "2", "1"]).await[2], "empty", "not settled");
    let now = i64::try_from(bench.run.queue.now_ms().await.unwrap()).unwrap();
    let _: () = bench.connection.hset(bench.run.key("run"), "last_terminal_at", now - 5_101).await.unwrap();
    assert_eq!(bench.call("lease", &["w1", "2", "1"]).await[2], "drained");
    let _: () = bench.connection.hdel(bench.run.key("run"), "sealed").await.unwrap();
    assert_eq!(bench.call("lease", &["w1", "2", "1"]).await[2], "empty", "its push goes on");
}

#[tokio::test]
async fn rule_8_a_push_may_come_twice_but_not_with_holes() {
    let mut bench = Bench::new(0).await;
    bench.run = TestRun::create(&bench.redis, "pushed", &Limits::default()).await;
    let digest = bench.run.digest.clone();
    assert_eq!(bench.call("push", &[&digest, "0", "a", "b"]).await, ["ok", "2"]);
    assert_eq!(bench.call("push", &[&digest, "0", "a", "b"]).await, ["ok", "2"]);
    assert_eq!(bench.call("push", &[&digest, "3", "d"]).await, ["gap", "2"]);
    assert_eq!(bench.call("push", &[&digest, "1", "b", "c"]).await, ["ok", "3"], "only what is missing");
    assert_eq!(bench.call("push", &["other", "3", "d"]).await, ["differs", digest.as_str()]);
    assert_eq!(bench.call("create", &["other"]).await, ["differs", digest.as_str()]);
    assert_eq!(bench.call("seal", &["4"]).await, ["short", "3"]);
    assert_eq!(bench.call("seal", &["3"]).await, ["ok"]);
    assert_eq!(bench.call("push", &[&digest, "3", "d"]).await, ["sealed", "3"]);
    assert_eq!(bench.call("push", &[&digest, "2", "c"]).await, ["ok", "3"]);
    assert_eq!(bench.pending().await, [0, 1, 2]);
    let inputs: BTreeMap<u64, String> = bench.connection.hgetall(bench.run.key("inputs")).await.unwrap();
    assert_eq!(inputs, BTreeMap::from([(0, "a".into()), (1, "b".into()), (2, "c".into())]));
}

#[tokio::test]
async fn rule_9_a_heartbeat_answers_for_each_lease_by_itself() {
    let mut bench = Bench::new(5).await;
    bench.call("lease", &["w1", "1", "4"]).await;
    bench.call("release", &arguments("release", "1", "1.w1.1")).await;
    bench.call("cancel", &["0", "2"]).await;
    bench.call("complete", &arguments("complete", "3", "1.w1.1")).await;
    let named = ["0", "1.w1.1", "1", "1.w1.1", "2", "1.w1.1", "3", "1.w1.1", "4", "1.w1.1"];
    let reply = bench.call("heartbeat", &named).await;
    assert_eq!(reply[2..], ["held", "unheld", "cancelled", "lost", "lost"]);
    // A lease that its worker does not name is not renewed by the ones that it does.
    let expiry: i64 = bench.connection.zscore(bench.run.key("leases"), 0).await.unwrap();
    bench.call_after(LEASE_MS, "heartbeat", &named[2..]).await;
    let unnamed: i64 = bench.connection.zscore(bench.run.key("leases"), 0).await.unwrap();
    assert_eq!(unnamed, expiry);
    let reply = bench.call("heartbeat", &["4"]).await;
    assert_eq!(reply[2], "lost", "a task without a lease name");
}

/// A fleet that vanished must not keep the living from asking early.
#[tokio::test]
async fn rule_10_a_worker_that_has_not_called_for_long_is_no_idle_one() {
    let mut bench = Bench::new(1).await;
    bench.call("lease", &["w1", "1", "1"]).await;
    let idle = bench.run.key("idle");
    let now = bench.run.queue.now_ms().await.unwrap();
    let step = now - now % 300_000;
    for (worker, called_at) in
        [("of this step", step), ("of the last", step - 300_000), ("gone", step - 300_001)]
    {
        let _: () = bench.connection.zadd(&idle, worker, called_at).await.unwrap();
    }
    bench.call("lease", &["w2", "1", "1"]).await;
    let left: BTreeSet<String> = bench.connection.zrange(&idle, 0, -1).await.unwrap();
    assert_eq!(left, ["of the last", "of this step", "w2"].map(str::to_owned).into());
}

#[tokio::test]
async fn rule_10_an_empty_answer_says_when_to_ask_again() {
    let mut bench = Bench::new(1).await;
    bench.call("lease", &["w1", "1", "1"]).await;
    let reply = bench.call("lease", &["w2", "1", "2"]).await;
    assert_eq!((reply[2].as_str(), reply[3].as_str()), ("empty", "5000"), "min(5 s, lease/12)");
    let idle: Vec<(String, u64)> =
        bench.connection.zrange_withscores(bench.run.key("idle"), 0, -1).await.unwrap();
    let [(worker, called_at)] = &idle[..] else { panic!("{idle:?}") };
    let now = bench.run.queue.now_ms().await.unwrap();
    assert_eq!((worker.as_str(), called_at % 300_000, (now - called_at) / 300_000), ("w2", 0, 0));
    bench.call("fail", &["0", "1.w1.1", "exit_code", "again", "0", ""]).await;
    let now = i64::try_from(bench.run.queue.now_ms().await.unwrap()).unwrap();
    let _: () = bench.connection.zadd(bench.run.key("delayed"), 0, now + 3_000).await.unwrap();
    let reply = bench.call("lease", &["w2", "1", "2"]).await;
    assert!((1..=3_000).contains(&reply[3].parse::<u64>().unwrap()), "until its delay ends: {reply:?}");
    assert_eq!(bench.call("lease", &["w2", "1", "0"]).await[2], "none_asked");
    let idle: u64 = bench.connection.zcard(bench.run.key("idle")).await.unwrap();
    assert_eq!(idle, 0, "a worker that asks for none is not idle");
}

#[tokio::test]
async fn rule_10_as_many_idle_workers_are_told_as_there_are_new_tasks() {
    let mut bench = Bench::new(0).await;
    bench.run = TestRun::create(&bench.redis, "wakes", &Limits::default()).await;
    let digest = bench.run.digest.clone();
    // The deaf one asks first, with the fewest slots: it would be told first.
    bench.call("lease", &["deaf", "1", "1"]).await;
    let client = redis::Client::open(bench.redis.url()).unwrap();
    let mut pubsub = client.get_async_pubsub().await.unwrap();
    for worker in ["a", "b", "c"] {
        pubsub.subscribe(format!("molfleet:worker:{worker}:wake")).await.unwrap();
        bench.call("lease", &[worker, "1", "2"]).await;
    }
    let mut messages = pubsub.into_on_message();
    let told = [
        ("push", vec![digest.as_str(), "0", "[]", "[]"], 2),
        ("push", vec![digest.as_str(), "2", "[]", "[]"], 1),
    ];
    for (script, arguments, expected) in told {
        bench.call(script, &arguments).await;
        let _: () = bench.connection.publish("molfleet:worker:a:wake", "end").await.unwrap();
        let mut count = 0;
        while messages.next().await.unwrap().get_payload::<String>().unwrap() != "end" {
            count += 1;
        }
        assert_eq!(count, expected);
    }
    let idle: u64 = bench.connection.zcard(bench.run.key("idle")).await.unwrap();
    assert_eq!(idle, 0);
}

#[tokio::test]
async fn rule_10_release_requeue_and_resume_tell_a_listening_worker_also_after_a_reconnect() {
    let mut bench = Bench::new(1).await;
    let worker: WorkerId = "listener".parse().unwrap();
    let (queue, mut wakes) = Queue::open_listening(&bench.redis.url(), &worker).unwrap();
    let run = bench.run.id.clone();
    bench.call("lease", &["w1", "1", "1"]).await;
    let calls: [(&str, Vec<&str>); 3] = [
        ("release", arguments("release", "0", "1.w1.1")),
        ("requeue", vec!["0", "1"]),
        ("set", vec!["paused", ""]),
    ];
    for (script, arguments) in calls {
        if script == "requeue" {
            bench.call("cancel", &["0", "0"]).await;
        } else if script == "set" {
            bench.call("set", &["paused", "why"]).await;
        }
        let (client, digest) = (&queue, &bench.run.digest);
        let reply = eventually("a lease call after the connection was cut", || async {
            client.lease(&run, digest, &"listener".parse().unwrap(), 1, 1).await
        })
        .await;
        assert!(matches!(reply, LeaseReply::Nothing(_)), "before {script}: {reply:?}");
        bench.call(script, &arguments).await;
        tokio::time::timeout(std::time::Duration::from_secs(30), wakes.next()).await.expect(script);
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("SKIPME").arg("yes").exec_async(&mut bench.connection).await.unwrap();
    }
}

#[tokio::test]
async fn removing_a_run_leaves_every_other_key_as_it_was() {
    let mut bench = Bench::new(3).await;
    bench.call("lease", &["w1", "1", "2"]).await;
    bench.call("fail", &arguments("fail", "0", "1.w1.1")).await;
    let queue = bench.run.queue.clone();
    queue.register(&bench.run.id, 0).await.unwrap();
    let before = bench.everything().await;
    let other = TestRun::sealed(&bench.redis, "r2", &Limits::default(), 2_500).await;
    queue.register(&other.id, 1).await.unwrap();
    let grants = other.lease("w1", 1, 1_000).await;
    let mut connection = bench.connection.clone();
    let leased = &grants[0];
    let lease = leased.lease.to_string();
    for arguments in [arguments("complete", "0", &lease)] {
        assert_eq!(raw(&mut connection, &other.key("run"), "complete", &arguments).await, ["ok"]);
    }
    let lease = grants[1].lease.to_string();
    raw(&mut connection, &other.key("run"), "fail", &arguments("fail", "1", &lease)).await;
    let mut first = 0;
    while queue.remove(&other.id, TaskId(first), 1_000).await.unwrap() {
        first += 1_000;
    }
    assert_eq!(first, 2_000, "three bounded steps");
    assert_same(&bench.everything().await, &before, "other keys");
}

#[tokio::test]
async fn a_finished_task_of_seven_hours_is_one_small_listpack() {
    let mut bench = Bench::new(1).await;
    let now = bench.run.queue.now_ms().await.unwrap();
    bench.call("lease", &["abcdefghijkl", "123456", "1"]).await;
    let sha = "5".repeat(64);
    let moments = Moments {
        queued: now,
        leased: now + 90_000,
        staged: Some(now + 150_000),
        engine_started: Some(now + 150_020),
        engine_ended: Some(now + 25_350_020),
        upload_started: Some(now + 25_350_030),
        upload_ended: Some(now + 25_360_000),
    };
    let completion = Completion {
        shard_sha256: &sha,
        index_sha256: &sha,
        molecules_ok: 10,
        molecules_bad: 0,
        bytes_down: 12_345_678,
        bytes_up: 123_456_789,
        moments,
    };
    let lease = "1.abcdefghijkl.123456".parse().unwrap();
    let (queue, run) = (&bench.run.queue, &bench.run.id);
    assert_eq!(queue.complete(run, TaskId(0), &lease, &completion).await.unwrap(), Ok(()));
    let key = bench.run.key("task:0");
    let encoding: String =
        redis::cmd("OBJECT").arg("ENCODING").arg(&key).query_async(&mut bench.connection).await.unwrap();
    assert_eq!(encoding, "listpack");
    let info = bench.run.queue.tasks(&bench.run.id, &[TaskId(0)]).await.unwrap().remove(0);
    assert_eq!(info.timings.unwrap().moments.engine_ended, Some(now + 25_350_020));
    let engine = bench.run.queue.histogram(&bench.run.id, common::task::Phase::Engine).await.unwrap();
    let lowest = BTreeMap::from([(33_554_432, 1)]);
    assert_eq!(engine.buckets, lowest, "the lowest power of the square root of 2 from 25,200,000 up");
}

#[tokio::test]
async fn several_successes_are_recorded_in_one_call_and_each_is_answered() {
    let mut bench = Bench::new(4).await;
    bench.call("lease", &["w1", "1", "4"]).await;
    bench.call("cancel", &["0", "3"]).await;
    let calls = [("0", "1.w1.1"), ("1", "1.w2.1"), ("2", "1.w1.1"), ("0", "1.w1.1"), ("3", "1.w1.1")];
    let all: Vec<&str> = calls.iter().flat_map(|(task, lease)| arguments("complete", task, lease)).collect();
    for _ in 0..2 {
        let reply = bench.call("complete", &all).await;
        assert_eq!(reply[1..], ["ok", "lost|leased", "ok", "ok", "cancelled"]);
    }
    let progress = bench.run.queue.progress(&bench.run.id).await.unwrap();
    assert_eq!((progress.succeeded, progress.leased, progress.cancelled), (2, 1, 1));
    assert_eq!((progress.molecules_ok, progress.molecules_bad, progress.bytes), (6, 2, 40));
    let engine = bench.run.queue.histogram(&bench.run.id, common::task::Phase::Engine).await.unwrap();
    assert_eq!(engine.buckets, BTreeMap::from([(1, 2)]));
    let inputs: BTreeSet<u64> = bench.connection.hkeys(bench.run.key("inputs")).await.unwrap();
    assert_eq!(inputs, BTreeSet::from([1, 3]));
}

#[tokio::test]
async fn large_batches_fit_into_one_call_and_events_stay_bounded() {
    const TASKS: u64 = 30_000;
    let mut bench = Bench::new(0).await;
    bench.run = TestRun::create(&bench.redis, "large", &Limits::default()).await;
    for first in (0..TASKS).step_by(10_000) {
        assert_eq!(bench.run.push(first, 10_000).await, first + 10_000);
    }
    assert_eq!(bench.run.lease("w1", 1, 1_000).await.len(), 1_000);
    let last: Vec<TaskId> = (TASKS - 10_000..TASKS).map(TaskId).collect();
    let twice = [last.clone(), last.clone()].concat();
    assert_eq!(bench.run.queue.cancel_tasks(&bench.run.id, &twice).await.unwrap(), 10_000);
    assert_eq!(bench.pending().await, (1_000..TASKS - 10_000).collect::<Vec<u64>>(), "in their order");
    let seen: Vec<(TaskId, u64)> = last.iter().map(|task| (*task, 0)).collect();
    assert_eq!(bench.run.queue.requeue(&bench.run.id, &seen).await.unwrap(), 10_000);
    assert_eq!(bench.run.queue.cancel_next(&bench.run.id, 10_000).await.unwrap(), 10_000);
    assert_eq!(bench.pending().await.len(), 19_000);
    let events: u64 = bench.connection.xlen(bench.run.key("events")).await.unwrap();
    assert!((10_000..10_200).contains(&events), "{events} events");
    let slowest: Vec<Vec<Value>> =
        redis::cmd("SLOWLOG").arg("GET").arg(128).query_async(&mut bench.connection).await.unwrap();
    let slowest = slowest.iter().map(|entry| match entry[2] {
        Value::Int(micros) => micros,
        _ => unreachable!("SLOWLOG tells microseconds"),
    });
    assert!(slowest.max().unwrap_or(0) < 2_000_000, "a call must not hold Redis for seconds");
}

#[tokio::test]
async fn a_run_survives_a_killed_redis_and_a_frozen_one() {
    let redis = TestRedis::start_durable().await;
    let run = TestRun::sealed(&redis, "durable", &Limits::default(), 2).await;
    let grants = run.lease("w1", 1, 2).await;
    redis.kill9();
    let error = run.queue.progress(&run.id).await.unwrap_err();
    assert!(matches!(error, QueueError::Unreachable { .. }), "{error}");
    redis.restart().await;
    let leases: Vec<_> = grants.iter().map(|grant| (grant.task, grant.lease.clone())).collect();
    let pulses = eventually("heartbeat after the restart", || run.queue.heartbeat(&run.id, &leases)).await;
    assert_eq!(pulses, [common::queue::Pulse::Held; 2]);
    redis.stop_signal();
    let frozen = run.queue.heartbeat(&run.id, &leases);
    let (pulses, ()) = futures::join!(frozen, async { redis.continue_signal() });
    assert_eq!(pulses.unwrap(), [common::queue::Pulse::Held; 2]);
}

#[tokio::test]
async fn a_redis_with_too_many_clients_is_waited_for() {
    let redis = TestRedis::start().await;
    let run = TestRun::sealed(&redis, "r", &Limits::default(), 1).await;
    let mut connection = redis.connection().await;
    let full = Queue::open(&redis.url()).unwrap();
    let limit: String =
        redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(1).query_async(&mut connection).await.unwrap();
    assert_eq!(limit, "OK");
    let error = full.progress(&run.id).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry, "{error:?}");
}

/// A stage on a Redis of its own.
async fn staged() -> (TestRedis, Stage) {
    let redis = TestRedis::start().await;
    let stage = Stage::open(&redis.url()).await;
    (redis, stage)
}

#[tokio::test]
async fn rule_1_and_2_every_script_in_every_state_under_every_kind_of_name() {
    let (_redis, mut stage) = staged().await;
    let states = conformance::table(&mut stage).await.unwrap_or_else(|finding| panic!("{finding}"));
    conformance::refused(&mut stage, &states).await.unwrap_or_else(|finding| panic!("{finding}"));
}

#[tokio::test]
async fn what_only_several_calls_show() {
    let (_redis, mut stage) = staged().await;
    conformance::scenarios(&mut stage).await.unwrap_or_else(|finding| panic!("{finding}"));
}

#[tokio::test]
async fn time_is_kept_to_the_millisecond() {
    let (_redis, mut stage) = staged().await;
    bounds::moments(&mut stage).await.unwrap_or_else(|finding| panic!("{finding}"));
}

#[tokio::test]
async fn what_one_call_does_is_bounded() {
    let (_redis, mut stage) = staged().await;
    bounds::check(&mut stage).await.unwrap_or_else(|finding| panic!("{finding}"));
}

#[tokio::test]
async fn idle_workers_come_back_when_a_lease_expires() {
    let mut bench = Bench::new(1).await;
    assert_eq!(bench.call("lease", &["holder", "1", "1"]).await[0], "granted");
    let (run, leases) = (bench.run.key("run"), bench.run.key("leases"));
    let expiry: i64 = bench.connection.zscore(leases, 0).await.unwrap();
    for (left, wait) in [(LEASE_MS, "5000"), (4_000, "4001"), (100, "250")] {
        let _: () = bench.connection.hset(&run, "clock_ms", expiry - left).await.unwrap();
        let reply = bench.call("lease", &["w", "1", "1"]).await;
        assert_eq!(reply[2..], ["empty", wait], "{left} ms before the expiry");
    }
}

#[tokio::test]
async fn what_another_hand_damaged_costs_no_other_task() {
    let redis = TestRedis::start().await;
    let mut stage = Stage::open(&redis.url()).await;
    damage::check(&mut stage).await.unwrap_or_else(|finding| panic!("{finding}"));
}
