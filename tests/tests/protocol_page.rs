//! `docs/protocol.md` against the code and a real run: diagram, keys, fields, reply codes, and every redis-cli block.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a panic is the report; the page's commands are run"
)]

use std::collections::{BTreeMap, BTreeSet};

use common::queue::{Bundle, Charge, Completion, Failure, LeaseReply, SOURCES, WorkerCard};
use common::task::{Limits, Moments, Phase, State, TRANSITIONS, TaskId, WorkerId};
use redis::AsyncCommands as _;
use tests::{TestRedis, TestRun};

const PAGE: &str = include_str!("../../docs/protocol.md");
const WORKER: &str = "w1";
const SHARD: &str = "5a1d";

/// The text below a heading, up to the next one of its level or above.
fn section(heading: &str) -> String {
    let level = heading.chars().take_while(|c| *c == '#').count();
    let (_, rest) = PAGE.split_once(&format!("\n{heading}\n")).expect(heading);
    let is_end = |line: &&str| {
        let marks = line.chars().take_while(|c| *c == '#').count();
        marks > 0 && marks <= level && line[marks..].starts_with(' ')
    };
    let mut is_code = false;
    let lines = rest.lines().take_while(|line| {
        is_code ^= line.starts_with("```");
        is_code || !is_end(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The cells of a section's table rows.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    lines.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The words in backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// One task in each state, all keys and all fields in use.
async fn sample_run(redis: &TestRedis) -> TestRun {
    let run = TestRun::sealed(redis, "sample", &Limits::default(), 7).await;
    let (queue, id) = (&run.queue, &run.id);
    let worker: WorkerId = WORKER.parse().unwrap();
    queue.register(id, 0).await.unwrap();
    let card = WorkerCard { fields: vec![("host", "vm1".into())] };
    queue.show_worker(&worker, queue.now_ms().await.unwrap(), &card).await.unwrap();
    queue.drain(std::slice::from_ref(&worker)).await.unwrap();
    let leases = run.lease(WORKER, 1, 6).await;
    let now = queue.now_ms().await.unwrap();
    let moments = Moments {
        queued: now,
        leased: now + 1,
        staged: Some(now + 2),
        engine_started: Some(now + 3),
        engine_ended: Some(now + 2_503),
        upload_started: Some(now + 2_504),
        upload_ended: Some(now + 2_600),
    };
    let completion = Completion {
        shard_sha256: SHARD,
        index_sha256: "1d",
        molecules_ok: 9,
        molecules_bad: 1,
        bytes_down: 3,
        bytes_up: 4,
        moments,
    };
    queue.complete(id, TaskId(0), &leases[0].lease, &completion).await.unwrap().unwrap();
    let failure =
        Failure { reason: "exit_code", charge: Charge::Failure, tail: "no such atom", jitter_ppm: 999_999 };
    queue.fail(id, TaskId(2), &leases[2].lease, &failure).await.unwrap();
    let failure = Failure { charge: Charge::LastFailure, reason: "shard_invalid", ..failure };
    queue.fail(id, TaskId(3), &leases[3].lease, &failure).await.unwrap();
    queue.cancel_tasks(id, &[TaskId(4)]).await.unwrap();
    let bundle = Bundle { lease: leases[1].lease.clone(), number: 1, sha256: "b0".to_owned() };
    queue.checkpoint(id, TaskId(1), &bundle, Some((3, 9))).await.unwrap().unwrap();
    queue.release(id, TaskId(5), &leases[5].lease, "drain", 0).await.unwrap().unwrap();
    let again = run.lease("w2", 1, 1).await;
    queue.tell(id, TaskId(5), &again[0].lease, ("dock.stdout", 0, b"mode 1\n")).await.unwrap().unwrap();
    assert_eq!(again[0].task, TaskId(5), "a released task comes first, with a former lease");
    queue.set_paused(id, Some("maintenance")).await.unwrap();
    let reply = queue.lease(id, &run.digest, &worker, 2, 1).await.unwrap();
    assert!(matches!(reply, LeaseReply::Nothing(_)), "{reply:?}");
    run
}

#[test]
fn the_diagram_is_the_transition_table() {
    let drawn: BTreeSet<(String, String, String)> = section("## States")
        .lines()
        .filter_map(|line| {
            let (from, rest) = line.trim().split_once(" --> ")?;
            let (to, verb) = rest.split_once(": ")?;
            Some((from.to_owned(), verb.to_owned(), to.to_owned()))
        })
        .collect();
    let name = |(from, verb, to): &(State, common::task::Verb, State)| {
        (from.name().to_owned(), verb.name().to_owned(), to.name().to_owned())
    };
    let mut expected: BTreeSet<_> = TRANSITIONS.iter().map(name).collect();
    expected.insert(("[*]".into(), "push".into(), "pending".into()));
    expected.insert(("[*]".into(), "push".into(), "waiting".into()));
    assert_eq!(drawn, expected);
    let listed: BTreeSet<String> =
        rows(&section("## States")).iter().flat_map(|row| quoted(&row[0])).collect();
    assert_eq!(listed, State::ALL.iter().map(|state| state.name().to_owned()).collect());
}

#[test]
fn every_script_has_its_reply_codes_on_the_page() {
    let page: BTreeMap<String, BTreeSet<String>> = rows(&section("## Scripts"))
        .into_iter()
        .map(|row| (row[0].trim_matches('`').to_owned(), quoted(&row[3])))
        .collect();
    let scripts: BTreeMap<String, BTreeSet<String>> = SOURCES
        .iter()
        .map(|(name, source)| {
            let (_, returns) = source.rsplit_once("-- returns: ").unwrap();
            let (codes, _) = returns.split_once("-- transitions:").unwrap();
            let codes = codes.split("{'").skip(1).map(|rest| rest.split('\'').next().unwrap().to_owned());
            ((*name).to_owned(), codes.collect())
        })
        .collect();
    assert_eq!(page, scripts);
}

#[tokio::test]
async fn every_key_and_field_is_on_the_page_and_every_row_is_in_use() {
    let redis = TestRedis::start().await;
    let run = sample_run(&redis).await;
    let mut connection = redis.connection().await;
    let types: BTreeMap<String, String> = rows(&section("## Keys"))
        .into_iter()
        .filter(|row| row.len() == 3)
        .map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone()))
        .collect();
    let keys: Vec<String> = connection.keys("*").await.unwrap();
    let mut seen = BTreeMap::new();
    for key in keys {
        let named = named_on_the_page(&key, run.id.as_str());
        let found: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
        if ["run", "progress", "task:<id>", "stats:<phase>"]
            .iter()
            .any(|name| named.ends_with(&format!(":{name}")))
        {
            let listed: BTreeSet<String> =
                rows(&section(&format!("### `{named}`"))).iter().flat_map(|row| quoted(&row[0])).collect();
            let fields: Vec<String> = connection.hkeys(&key).await.unwrap();
            let is_listed = |field: &String| {
                listed.contains(field) || field.parse::<u64>().is_ok() && listed.contains("<bucket>")
            };
            let missing: Vec<&String> = fields.iter().filter(|field| !is_listed(field)).collect();
            assert!(missing.is_empty(), "fields of `{named}` that are not on the page: {missing:?}");
        }
        seen.insert(named, found);
    }
    assert_eq!(seen, types);
}

/// A key with its changing parts as the page writes them.
fn named_on_the_page(key: &str, run: &str) -> String {
    let key = key.replace(&format!("{{{run}}}"), "{R}");
    for (part, name) in [(":task:", "<id>"), (":stats:", "<phase>"), ("molfleet:worker:", "<worker>")] {
        if let Some((before, _)) = key.split_once(part) {
            return format!("{before}{part}{name}");
        }
    }
    key
}

#[tokio::test]
async fn every_command_on_the_page_tells_what_the_queue_tells() {
    let redis = TestRedis::start().await;
    let run = sample_run(&redis).await;
    let (queue, id) = (&run.queue, &run.id);
    let progress = serde_json::to_value(queue.progress(id).await.unwrap()).unwrap();
    let progress: BTreeMap<String, String> =
        progress.as_object().unwrap().iter().map(|(name, count)| (name.clone(), count.to_string())).collect();
    let info = queue.run_info(id).await.unwrap();
    let leases = queue.leases(id, 10).await.unwrap();
    let tasks = queue.tasks(id, &[TaskId(0), TaskId(3)]).await.unwrap();
    let engine = queue.histogram(id, Phase::Engine).await.unwrap().buckets;
    assert_eq!(engine, BTreeMap::from([(2_897, 1)]));
    let engine = engine.iter().map(|(bucket, count)| format!("{bucket} {count}")).collect();
    let event = queue.events(id, 1).await.unwrap().remove(0);
    let lines = |lines: Vec<String>| lines.join("\n");
    let held = leases.iter().map(|held| format!("{} {}", held.task, held.lease)).collect();
    let expected = BTreeMap::from([
        (
            "the runs, the highest priority first",
            lines(queue.runs().await.unwrap().iter().map(ToString::to_string).collect()),
        ),
        (
            "whether its push has finished, and why it is paused",
            format!("{}\n{}", u8::from(info.sealed), info.paused.unwrap()),
        ),
        ("the tasks that workers hold, the next to expire first, with who holds them", lines(held)),
        ("the dead tasks and why they died", format!("3 {}", tasks[1].reason.clone().unwrap())),
        (
            "the last lines of an attempt that failed, here of task 2",
            queue.tail(id, TaskId(2)).await.unwrap().unwrap(),
        ),
        (
            "how far a task is and from which bundles it can go on, here task 1",
            queue.tasks(id, &[TaskId(1)]).await.unwrap()[0].checkpoint.to_string(),
        ),
        ("the digest of a result, here of task 0", tasks[0].shard_sha256.clone().unwrap()),
        ("how long engines ran: at most so many ms, and how many tasks", lines(engine)),
        (
            "what happened last",
            format!(
                "verb\n{}\nfield\n{}\nvalue\n{}",
                event.fields["verb"], event.fields["field"], event.fields["value"]
            ),
        ),
        (
            "the workers that were seen last",
            lines(queue.workers().await.unwrap().iter().map(|worker| worker.id.to_string()).collect()),
        ),
    ]);
    assert_eq!((progress["total"].as_str(), progress["leased"].as_str()), ("7", "2"));
    let mut run_blocks = BTreeSet::new();
    for block in PAGE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let title = block.lines().next().unwrap().trim_start_matches("# ");
        let told = shell(block, redis.port(), id.as_str());
        if title == "how far it is" {
            let words: Vec<&str> = told.lines().collect();
            let counts: BTreeMap<String, String> =
                words.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect();
            assert_eq!(counts, progress);
        } else {
            assert_eq!(expected.get(title), Some(&told), "{title}");
            run_blocks.insert(title);
        }
    }
    assert_eq!(run_blocks, expected.keys().copied().collect(), "a command is missing on the page");
}

/// The output of a block of the page.
fn shell(block: &str, port: u16, run: &str) -> String {
    let mut command = std::process::Command::new("sh");
    command.arg("-euc").arg(block).env("PORT", port.to_string()).env("RUN", run);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{block}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
