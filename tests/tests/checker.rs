//! The checker of the chaos, which must be able to find every broken promise: a fleet that did a little work in peace is tampered with.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use tests::chaos::Calm;
use tests::chaos::checker::Rule;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chaos");
/// What is done to a fleet's Redis or store behind its back.
enum Tampering {
    /// A command; `{R}` stands for the run `single`.
    Redis(&'static [&'static str]),
    /// An object gets another last byte.
    Change(&'static str),
    /// An object goes.
    Remove(&'static str),
}

use Tampering::{Change, Redis, Remove};

/// Each promise with what breaks it.
const TAMPERINGS: &[(Rule, Tampering)] = &[
    (Rule::Manifest, Redis(&["HDEL", "molfleet:{R}:run", "sealed"])),
    (Rule::Manifest, Redis(&["HSET", "molfleet:{R}:run", "manifest_sha256", "00"])),
    (Rule::Manifest, Change("spec.json")),
    (Rule::Manifest, Change("manifest.csv")),
    (Rule::OnePlace, Redis(&["RPUSH", "molfleet:{R}:pending", "0"])),
    (Rule::OnePlace, Redis(&["ZADD", "molfleet:{R}:leases", "5", "1"])),
    (Rule::OnePlace, Redis(&["HSET", "molfleet:{R}:inputs", "0", "[]"])),
    (Rule::OnePlace, Redis(&["HDEL", "molfleet:{R}:inputs", "2"])),
    (Rule::OnePlace, Redis(&["HSET", "molfleet:{R}:task:3", "state", "succeeded"])),
    (Rule::Terminal, Redis(&["HSET", "molfleet:{R}:task:0", "state", "leased"])),
    (Rule::Terminal, Redis(&["HSET", "molfleet:{R}:task:0", "state", "cancelled"])),
    (Rule::Terminal, Redis(&["DEL", "molfleet:{R}:task:0"])),
    (Rule::Counters, Redis(&["HINCRBY", "molfleet:{R}:progress", "succeeded", "1"])),
    (Rule::Counters, Redis(&["HINCRBY", "molfleet:{R}:progress", "lapses", "1"])),
    (Rule::Counters, Redis(&["HINCRBY", "molfleet:{R}:progress", "bytes", "-1"])),
    (Rule::Counters, Redis(&["HINCRBY", "molfleet:{R}:stats:total", "1", "1"])),
    (Rule::Counters, Redis(&["HSET", "molfleet:{R}:task:0", "molecules_ok", "2"])),
    (Rule::Uncharged, Redis(&["HSET", "molfleet:{R}:task:0", "failures", "1"])),
    (Rule::Shard, Change("shards/shard_0000001.csv")),
    (Rule::Shard, Remove("shards/shard_0000001.csv")),
    (Rule::Digest, Redis(&["HSET", "molfleet:{R}:task:0", "shard_sha256", "00"])),
    (Rule::Digest, Redis(&["HSET", "molfleet:{R}:task:0", "index_sha256", "00"])),
    (Rule::Index, Remove("index/0000000")),
    (Rule::Index, Remove("attempts/0000000")),
    (
        Rule::History,
        Redis(&["XADD", "molfleet:{R}:events", "*", "verb", "release", "task", "0", "lease", "x"]),
    ),
    (Rule::History, Redis(&["XADD", "molfleet:{R}:events", "*", "verb", "complete", "task", "9"])),
    (Rule::History, Redis(&["XTRIM", "molfleet:{R}:events", "MAXLEN", "2"])),
    (Rule::History, Redis(&["HSET", "molfleet:{R}:task:0", "releases", "1"])),
    (Rule::LeaseNumbers, Redis(&["HSET", "molfleet:{R}:task:0", "lease", "7.x.1"])),
    (Rule::Once, Redis(&["HSET", "molfleet:{R}:task:2", "state", "succeeded"])),
];

/// All keys of a Redis, to put them back.
#[expect(clippy::disallowed_methods, reason = "a test looks behind the queue's back")]
async fn dump(redis: &mut MultiplexedConnection) -> Vec<(String, Vec<u8>)> {
    let keys: Vec<String> = redis.keys("*").await.unwrap();
    let mut dumped = Vec::new();
    for key in keys {
        let bytes = redis::cmd("DUMP").arg(&key).query_async(redis).await.unwrap();
        dumped.push((key, bytes));
    }
    dumped
}

async fn restore(redis: &mut MultiplexedConnection, dumped: &[(String, Vec<u8>)]) {
    let mut pipe = redis::pipe();
    pipe.cmd("FLUSHALL");
    for (key, bytes) in dumped {
        pipe.cmd("RESTORE").arg(key).arg(0).arg(bytes);
    }
    pipe.exec_async(redis).await.unwrap();
}

/// Breaks a promise, and gives the rules that the checker then finds broken.
async fn broken_by(calm: &Calm, redis: &mut MultiplexedConnection, tampering: &Tampering) -> BTreeSet<Rule> {
    let aside = calm.lab().path("aside");
    let found = match tampering {
        Redis(words) => {
            let words = words.iter().map(|word| word.replace("{R}", "{single}"));
            let mut command = redis::Cmd::new();
            words.for_each(|word| _ = command.arg(word));
            command.exec_async(redis).await.unwrap();
            calm.check().await
        }
        Change(object) => {
            let file = calm.lab().object("single", object);
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, [&bytes[..], b" "].concat()).unwrap();
            let found = calm.check().await;
            fs::write(&file, bytes).unwrap();
            found
        }
        Remove(object) => {
            let file = calm.lab().object("single", object);
            fs::rename(&file, &aside).unwrap();
            let found = calm.check().await;
            fs::rename(&aside, &file).unwrap();
            found
        }
    };
    found.into_iter().map(|violation| violation.rule).collect()
}

#[tokio::test]
async fn the_checker_names_every_broken_promise() {
    let calm = Calm::new(PathBuf::from(PROGRAM)).await;
    assert_eq!(calm.check().await, [], "a quiet fleet keeps its promises");
    let mut redis = calm.lab().redis.connection().await;
    let whole = dump(&mut redis).await;
    for (rule, tampering) in TAMPERINGS {
        let found = broken_by(&calm, &mut redis, tampering).await;
        let what = match tampering {
            Redis(words) => words.join(" "),
            Change(object) | Remove(object) => (*object).to_owned(),
        };
        assert!(found.contains(rule), "{what}: {found:?} (expected: {rule:?})");
        restore(&mut redis, &whole).await;
    }
    assert_eq!(calm.check().await, [], "everything was put back");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test starts a process that is left over")]
async fn the_checker_sees_what_is_left_on_the_machine() {
    let calm = Calm::new(PathBuf::from(PROGRAM)).await;
    fs::create_dir_all(calm.lab().path("scratch/run-task-lease")).unwrap();
    let mut sleep = std::process::Command::new("sleep");
    let mut left = sleep.arg("600").env("HOME", calm.marker()).stdin(Stdio::null()).spawn().unwrap();
    let found: BTreeSet<Rule> = calm.check().await.into_iter().map(|violation| violation.rule).collect();
    left.kill().unwrap();
    left.wait().unwrap();
    assert_eq!(found, [Rule::Processes, Rule::Scratch].into());
}
