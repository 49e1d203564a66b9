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
/// What is done behind a fleet's back. Files are named below the folder of its lab.
enum Tampering {
    /// A command; `{R}` stands for the run `single`, `{F}` for `failing`, `{S}` for `steps` and `{G}` for `groups`.
    Redis(&'static [&'static str]),
    /// A file gets another last byte.
    Change(&'static str),
    /// A file or folder goes.
    Remove(&'static str),
    /// A word in a file becomes another.
    Rewrite(&'static str, [&'static str; 2]),
}

use Tampering::{Change, Redis, Remove, Rewrite};

/// Each promise with what breaks it.
const TAMPERINGS: &[(Rule, Tampering)] = &[
    (Rule::Manifest, Redis(&["HDEL", "molfleet:{R}:run", "sealed"])),
    (Rule::Manifest, Redis(&["HSET", "molfleet:{R}:run", "manifest_sha256", "00"])),
    (Rule::Manifest, Change("store/single/spec.json")),
    (Rule::Manifest, Change("store/single/manifest.csv")),
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
    (Rule::Terminal, Redis(&["HSET", "molfleet:{R}:task:0", "state", "dead"])),
    (Rule::Charged, Redis(&["HSET", "molfleet:{R}:task:0", "failures", "1"])),
    (Rule::Charged, Redis(&["HDEL", "molfleet:{F}:task:0", "failures"])),
    (Rule::Charged, Remove("diaries/failing/0")),
    (Rule::Charged, Rewrite("diaries/failing/0", [" began ", " failed "])),
    (Rule::Charged, Rewrite("diaries/failing/1", [" failed ", " crashed "])),
    (Rule::History, Redis(&["HDEL", "molfleet:{F}:task:2", "lapses"])),
    (Rule::Charged, Rewrite("diaries/failing/1", [" failed ", " busy "])),
    (Rule::Limit, Redis(&["HSET", "molfleet:{F}:run", "failures_max", "4"])),
    (Rule::Limit, Redis(&["HSET", "molfleet:{F}:task:1", "state", "delayed"])),
    (Rule::Evidence, Redis(&["HDEL", "molfleet:{F}:tails", "1"])),
    (Rule::Evidence, Redis(&["HSET", "molfleet:{F}:tails", "1", "the words of another attempt"])),
    (Rule::Evidence, Redis(&["HSET", "molfleet:{F}:tails", "0", "of a task that succeeded"])),
    (Rule::Evidence, Redis(&["HSET", "molfleet:{F}:task:1", "reason", "lapses"])),
    (Rule::Evidence, Redis(&["HDEL", "molfleet:{F}:task:1", "reason"])),
    (Rule::Checkpoint, Redis(&["HSET", "molfleet:{S}:checkpoints", "0", "20/20 1.x.1-1:00"])),
    (Rule::Checkpoint, Redis(&["HSET", "molfleet:{R}:checkpoints", "2", "1/20 1.x.1-1:00"])),
    (Rule::Checkpoint, Rewrite("diaries/steps/0", [" began ", " went_on 3 9.x."])),
    (Rule::Checkpoint, Rewrite("diaries/steps/0", [" began ", " astray "])),
    (Rule::Group, Redis(&["HSET", "molfleet:{G}:run", "group_tasks", "3"])),
    (Rule::Shard, Change("store/groups/groups/0000000/setup.tar")),
    (Rule::Shard, Change("store/single/shards/shard_0000001.csv")),
    (Rule::Shard, Remove("store/single/shards/shard_0000001.csv")),
    (Rule::Digest, Redis(&["HSET", "molfleet:{R}:task:0", "shard_sha256", "00"])),
    (Rule::Digest, Redis(&["HSET", "molfleet:{R}:task:0", "index_sha256", "00"])),
    (Rule::Index, Remove("store/single/index/0000000")),
    (Rule::Index, Remove("store/single/attempts/0000000")),
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
    let file = |name: &str| calm.lab().path(name);
    let changed = |name: &str, change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let bytes = fs::read(file(name)).unwrap();
        assert_ne!(change(&bytes), bytes, "`{name}` is tampered with");
        fs::write(file(name), change(&bytes)).unwrap();
        bytes
    };
    let found = match tampering {
        Redis(words) => {
            let runs = [("{R}", "{single}"), ("{F}", "{failing}"), ("{S}", "{steps}"), ("{G}", "{groups}")];
            let named =
                |word: &&str| runs.iter().fold((*word).to_owned(), |word, (from, to)| word.replace(from, to));
            let mut command = redis::Cmd::new();
            words.iter().map(named).for_each(|word| _ = command.arg(word));
            command.exec_async(redis).await.unwrap();
            calm.check().await.0
        }
        Change(name) => {
            let bytes = changed(name, &|bytes| [bytes, b" "].concat());
            let found = calm.check().await.0;
            fs::write(file(name), bytes).unwrap();
            found
        }
        Rewrite(name, [from, to]) => {
            let bytes = changed(name, &|bytes| String::from_utf8_lossy(bytes).replace(from, to).into_bytes());
            let found = calm.check().await.0;
            fs::write(file(name), bytes).unwrap();
            found
        }
        Remove(name) => {
            fs::rename(file(name), file("aside")).unwrap();
            let found = calm.check().await.0;
            fs::rename(file("aside"), file(name)).unwrap();
            found
        }
    };
    found.into_iter().map(|violation| violation.rule).collect()
}

#[tokio::test]
async fn the_checker_names_every_broken_promise() {
    let calm = Calm::new(PathBuf::from(PROGRAM)).await;
    let (found, seen) = calm.check().await;
    assert_eq!(found, [], "a quiet fleet keeps its promises");
    assert!(
        seen.failures > 3 && seen.deaths > 0 && seen.groups > 0,
        "a quiet fleet has all that there is: {seen:?}"
    );
    let mut redis = calm.lab().redis.connection().await;
    let whole = dump(&mut redis).await;
    for (rule, tampering) in TAMPERINGS {
        let found = broken_by(&calm, &mut redis, tampering).await;
        let what = match tampering {
            Redis(words) => words.join(" "),
            Change(name) | Remove(name) | Rewrite(name, _) => (*name).to_owned(),
        };
        assert!(found.contains(rule), "{what}: {found:?} (expected: {rule:?})");
        restore(&mut redis, &whole).await;
    }
    assert_eq!(calm.check().await.0, [], "everything was put back");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test starts a process that is left over")]
async fn the_checker_sees_what_is_left_on_the_machine() {
    let calm = Calm::new(PathBuf::from(PROGRAM)).await;
    fs::create_dir_all(calm.lab().path("scratch/run-task-lease")).unwrap();
    let mut sleep = std::process::Command::new("sleep");
    let mut left = sleep.arg("600").env("HOME", calm.marker()).stdin(Stdio::null()).spawn().unwrap();
    let found: BTreeSet<Rule> = calm.check().await.0.into_iter().map(|violation| violation.rule).collect();
    left.kill().unwrap();
    left.wait().unwrap();
    assert_eq!(found, [Rule::Processes, Rule::Scratch].into());
}
