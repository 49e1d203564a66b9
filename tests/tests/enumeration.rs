//! Enumeration, end to end: launchpad, a real Redis, a store, workers, and the graph generator geng of Debian's `nauty`. Surge itself is
//! in no package registry: a script that prints what it is documented to print stands in for it, and proves the contract only.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::digest::sha256_hex;
use common::task::{AttemptRecord, Shard, State};
use flate2::read::GzDecoder;
use tests::{Lab, Manner, Programs, eventually};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const LIMITS: &str = "[limits]\nlease_ms = 2400\nheartbeat_ms = 400\nbackoff_ms = 10\nfailures_max = 2\n";

/// Pushes formulae as run `r`.
fn push(lab: &Lab, formulae: &str, engine: &str, flags: &[&str]) {
    push_as(lab, "r", formulae, engine, flags);
}

fn push_as(lab: &Lab, run: &str, formulae: &str, engine: &str, flags: &[&str]) {
    let list = lab.write("list", formulae);
    let config = lab.write("run.toml", &format!("{engine}\n{LIMITS}"));
    let mut arguments = vec!["push", list.to_str().unwrap(), "--run", run, "--confirm-after-ms", "0"];
    arguments.extend(["--config", config.to_str().unwrap()]);
    arguments.extend_from_slice(flags);
    let ran = lab.launchpad(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// geng by its Debian name.
fn geng(lines_per_part: u64, filter: &str) -> String {
    format!(
        "engine = 'command'\n[options]\nargv = ['nauty-geng', '-c', '{{formula}}', '{{residue}}/{{modulus}}']\n\
         versions = {{nauty = ['nauty-geng', '--version']}}\n\
         stream = {{total = '>Z {{total}} graphs', lines_per_part = {lines_per_part}{filter}}}\n"
    )
}

/// Any script as a command.
fn script(lab: &Lab, body: &str) -> String {
    program(lab, "enumerate", body);
    "engine = 'command'\n[options]\nargv = ['enumerate', '{formula}']\n\
     stream = {total = '-> {total} in ', lines_per_part = 2}\n"
        .to_owned()
}

fn program(lab: &Lab, name: &str, body: &str) {
    let path = lab.path("stubs").join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Works the run until it is drained.
async fn work(lab: &Lab) {
    assert_eq!(lab.worker("w", &["--run", "r"]).left().await, 0);
}

fn shard(lab: &Lab, task: u64) -> Shard {
    Shard::parse(&shard_bytes(lab, "r", task)).unwrap()
}

fn shard_bytes(lab: &Lab, run: &str, task: u64) -> Vec<u8> {
    fs::read(lab.object(run, &format!("shards/shard_{task:07}.csv"))).unwrap()
}

/// The cells of the only row of a task, by column.
fn row(lab: &Lab, task: u64) -> BTreeMap<String, String> {
    let mut shard = shard(lab, task);
    let row = shard.rows.remove(0);
    shard.columns.into_iter().zip(row.columns).collect()
}

/// The texts of the parts that the index of a task names, whose digests it must have.
async fn parts(lab: &Lab, task: u64) -> Vec<String> {
    parts_of(lab, task).await.1
}

/// The same with the folder of the attempt that made them.
async fn parts_of(lab: &Lab, task: u64) -> (PathBuf, Vec<String>) {
    let sha256 = lab.task("r", task).await.shard_sha256.unwrap();
    let index = fs::read(lab.object("r", &format!("index/{task:07}/{sha256}.json"))).unwrap();
    let record: AttemptRecord = serde_json::from_slice(&index).unwrap();
    let attempt = lab.object("r", &format!("attempts/{task:07}/{}", record.lease));
    let parts = record.files.into_iter().filter(|file| file.object.contains("/parts/"));
    let text = |file: common::task::AttemptFile| {
        assert!(lab.object("r", &file.object).starts_with(&attempt), "{}", file.object);
        let bytes = fs::read(lab.object("r", &file.object)).unwrap();
        assert_eq!((sha256_hex(&bytes), bytes.len() as u64), (file.sha256, file.bytes), "{}", file.object);
        let mut text = String::new();
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        text
    };
    let texts = parts.map(text).collect();
    (attempt, texts)
}

/// How many parts lie in the folder of an attempt.
fn stored(attempt: &Path) -> usize {
    fs::read_dir(attempt.join("parts")).map_or(0, Iterator::count)
}

/// A quiet run of the same formula and parts, with the bytes of its shard.
async fn quiet(lab: &Lab, formula: &str, engine: &str) -> Vec<u8> {
    push_as(lab, "quiet", formula, engine, &[]);
    assert_eq!(lab.worker("quiet", &["--run", "quiet"]).left().await, 0);
    shard_bytes(lab, "quiet", 0)
}

/// geng, which in run `r` does something in the middle of its lines, once its first two parts are stored.
fn halting_geng(lab: &Lab, lines_per_part: u64, then: &str) -> String {
    let store = lab.store_folder();
    let part = format!("'{}'/r/attempts/0000000/*/parts/00000_00001.gz", store.display());
    let middle = format!("until [ -e {part} ]; do sleep 0.02; done; {then}");
    let halt = format!("[ \"$MOLFLEET_RUN\" != r ] || {{ {middle}; }}");
    let half = 3 * lines_per_part;
    let body =
        format!("nauty-geng -c $1 > graphs\nhead -n {half} graphs\n{halt}\ntail -n +$(({half} + 1)) graphs");
    program(lab, "halting-geng", &body);
    format!(
        "engine = 'command'\n[options]\nargv = ['halting-geng', '{{formula}}']\n\
         stream = {{total = '>Z {{total}} graphs', lines_per_part = {lines_per_part}}}\n"
    )
}

#[tokio::test]
async fn a_store_that_refuses_drags_and_loses_answers_changes_no_part() {
    let lab = Lab::new(PROGRAMS).await;
    let manner = lab.path("store.manner");
    let refuse = format!("echo 'refuse 503 1000' > '{}'", manner.display());
    let engine = halting_geng(&lab, 1000, &refuse);
    let expect = quiet(&lab, "8\n", &engine).await;
    push(&lab, "8\n", &engine, &[]);
    fs::write(&manner, Manner::Slow { ms: 50 }.to_string()).unwrap();
    let mut worker = lab.worker("w", &["--run", "r"]);
    worker
        .until_logged("a part is refused", |line| {
            line["message"] == "the store was not reached, trying again" && line["what"] == "store a part"
        })
        .await;
    let attempt = only_attempt(&lab);
    let before = stored(&attempt);
    fs::write(&manner, Manner::Lose { per_mille: 300 }.to_string()).unwrap();
    eventually("more parts are stored", || async {
        if stored(&attempt) > before { Ok(()) } else { Err(before) }
    })
    .await;
    fs::write(&manner, Manner::Refuse { status: 429, per_mille: 300 }.to_string()).unwrap();
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let progress = lab.progress("r").await;
    assert_eq!((progress.failures, progress.releases, progress.lapses), (0, 0, 0));
    assert_eq!(shard_bytes(&lab, "r", 0), expect);
    let (folder, parts) = parts_of(&lab, 0).await;
    assert_eq!((&folder, parts.len(), stored(&attempt)), (&attempt, 12, 12));
}

/// The folder of the only attempt so far.
fn only_attempt(lab: &Lab) -> PathBuf {
    let found: Vec<_> = fs::read_dir(lab.object("r", "attempts/0000000")).unwrap().collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].as_ref().unwrap().path()
}

#[tokio::test]
async fn parts_of_a_worker_that_was_killed_in_mid_stream_count_for_nothing() {
    let lab = Lab::new(PROGRAMS).await;
    let stall = lab.path("store.stall");
    let engine = halting_geng(&lab, 2000, &format!("echo > '{}'", stall.display()));
    let expect = quiet(&lab, "9\n", &engine).await;
    push(&lab, "9\n", &engine, &[]);
    let mut killed = lab.worker("killed", &["--run", "r"]);
    eventually("an upload waits", || async { lab.path("store.stalled").exists().then_some(()).ok_or(()) })
        .await;
    let first = only_attempt(&lab);
    killed.kill9();
    // The heir's program finds the parts of the first attempt, and is not to stop the store again.
    program(&lab, "halting-geng", "nauty-geng -c $1");
    fs::remove_file(stall).unwrap();
    let orphans = stored(&first);
    assert!((2..131).contains(&orphans), "{orphans}");

    assert_eq!(lab.worker("heir", &["--run", "r"]).left().await, 0);
    assert_eq!(lab.progress("r").await.lapses, 1);
    assert_eq!(shard_bytes(&lab, "r", 0), expect);
    let (second, parts) = parts_of(&lab, 0).await;
    assert_ne!(second, first);
    assert_eq!((parts.len(), stored(&second), stored(&first)), (131, 131, orphans));
    assert_eq!(parts.iter().map(|part| part.lines().count()).sum::<usize>(), 261_080);
    let cells = row(&lab, 0);
    assert_eq!([&cells["structures"], &cells["parts"]], ["261080", "131"]);
    assert_eq!(cells["lines_sha256"], sha256_hex(parts.concat().as_bytes()));
    let ran = lab.launchpad(&["consolidate", "r", "-o", "table.csv"]);
    assert!(ran.stdout.contains("261080 structures of 1 formulae"), "{}", ran.stdout);
}

#[tokio::test]
async fn a_formula_is_split_and_its_tasks_stream_parts_that_add_up() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "6\n8\n", &geng(1000, ""), &["--split", "3"]);
    work(&lab).await;
    // Connected graphs with 6 and 8 vertices: OEIS A001349.
    for (first, whole) in [(0, 112), (3, 11_117)] {
        let mut structures = 0;
        for task in first..first + 3 {
            let cells = row(&lab, task);
            let parts = parts(&lab, task).await;
            let lines: Vec<usize> = parts.iter().map(|part| part.lines().count()).collect();
            assert!(lines.iter().rev().skip(1).all(|lines| *lines == 1000), "{lines:?}");
            let counts = [lines.iter().sum(), lines.len()].map(|count: usize| count.to_string());
            assert_eq!([&cells["structures"], &cells["parts"]], [&counts[0], &counts[1]]);
            assert_eq!(cells["program_total"], cells["structures"]);
            assert_eq!(cells["lines_sha256"], sha256_hex(parts.concat().as_bytes()));
            structures += lines.iter().sum::<usize>();
        }
        assert_eq!(structures, whole);
    }
    let id = shard(&lab, 4).rows[0].molecule_id.clone();
    assert_eq!(id, "8:1/3");
    let ran = lab.launchpad(&["consolidate", "r", "-o", "table.csv"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.contains("11229 structures of 2 formulae; 0 formulae have no total"),
        "{}",
        ran.stdout
    );
    let receipt: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("table.receipt.json")).unwrap()).unwrap();
    assert_eq!(receipt["enumeration"]["split"], serde_json::json!({"6": 112, "8": 11_117}));
}

#[tokio::test]
async fn a_stream_that_is_cut_short_is_never_a_success() {
    // Exit 0 with fewer lines than told, without a total, within a line; killed behind its total.
    let cases = [
        ("echo C; echo CC; echo '1 -> 3 in 0.1 sec' >&2", "stream_truncated"),
        ("echo C; echo CC; echo CCC", "total_missing"),
        ("echo C; printf CC; echo '1 -> 2 in 0.1 sec' >&2", "stream_truncated"),
        ("echo C; echo '1 -> 1 in 0.1 sec' >&2; kill -9 $$", "engine_crashed"),
    ];
    for (body, reason) in cases {
        let lab = Lab::new(PROGRAMS).await;
        push(&lab, "CH4\n", &script(&lab, body), &[]);
        work(&lab).await;
        let progress = lab.progress("r").await;
        assert_eq!((progress.dead, progress.succeeded, progress.failures), (1, 0, 2), "{body}");
        assert!(!lab.object("r", "shards/shard_0000000.csv").exists(), "{body}");
        assert_eq!(lab.task("r", 0).await.reason.as_deref(), Some(reason), "{body}");
        // What either attempt uploaded stays, under its own name.
        let attempts: Vec<_> = fs::read_dir(lab.object("r", "attempts/0000000")).unwrap().collect();
        assert_eq!(attempts.len(), 2);
        for attempt in attempts {
            assert!(attempt.unwrap().path().join("parts/00000_00000.gz").is_file(), "{body}");
        }
    }
}

#[tokio::test]
async fn a_filter_keeps_lines_and_what_it_fails_at_is_counted_and_kept() {
    let lab = Lab::new(PROGRAMS).await;
    program(
        &lab,
        "odd",
        "set -- $(cat); [ \"$1\" != C5 ] || exit 3; for line; do [ $line = C2 ] || echo $line; done",
    );
    let engine = script(&lab, "for n in 1 2 3 4 5 6 7; do echo C$n; done; echo '1 -> 7 in 0.1 sec' >&2");
    let engine = engine
        .replace("lines_per_part = 2", "lines_per_part = 4, filter = {argv = ['odd'], batch_lines = 2}");
    push(&lab, "CH4\n", &engine, &[]);
    work(&lab).await;
    assert_eq!(parts(&lab, 0).await, ["C1\nC3\nC4\nC5\n", "C6\nC7\n"]);
    let cells = row(&lab, 0);
    let counts =
        ["structures", "program_total", "filtered_out", "filter_batches", "filter_failures", "unfiltered"];
    assert_eq!(counts.map(|name| cells[name].as_str()), ["6", "7", "1", "4", "1", "2"]);
    assert!(cells["detail"].contains("batch 3: exit 3"), "{}", cells["detail"]);
}

#[tokio::test]
async fn a_filter_that_crashes_or_invents_lines_fails_the_attempt_by_name() {
    for (body, word) in [("kill -11 $$", "by signal 11"), ("echo N", "lines that it was not given")] {
        let lab = Lab::new(PROGRAMS).await;
        program(&lab, "bad", body);
        let engine = script(&lab, "yes C | head -100000; echo '1 -> 100000 in 0.1 sec' >&2");
        let engine = engine.replace(
            "lines_per_part = 2",
            "lines_per_part = 9000, filter = {argv = ['bad'], batch_lines = 3}",
        );
        push(&lab, "CH4\n", &engine, &[]);
        work(&lab).await;
        let task = lab.task("r", 0).await;
        assert_eq!(task.reason.as_deref(), Some("filter_failed"));
        let told = lab.launchpad(&["show", "r", "0"]);
        assert!(told.stdout.contains(word), "{}", told.stdout);
    }
}

/// A stand-in for Surge: it keeps to the contract and enumerates nothing.
const SURGE: &str = r#"
if [ "$1" = -u ]; then echo "$2  1 -> 1 -> 1 in 0.0 sec" >&2; exit; fi
[ "$1" = -S ] || exit 2
case "$3" in
    *Xe*) echo "bad formula" >&2; exit 1 ;;
esac
echo "$3$2"
echo "$3  1 -> 1 -> 1 in 0.0 sec" >&2
"#;

#[tokio::test]
async fn the_stand_in_for_surge_gets_formulae_from_launchpad() {
    let lab = Lab::new(PROGRAMS).await;
    program(&lab, "surge", SURGE);
    let list = lab.launchpad(&["formulae", "--heavy-atoms", "1"]).stdout;
    push(&lab, &format!("{list}XeF4\n"), "engine = 'surge'\n", &["--batch-size", "100"]);
    work(&lab).await;
    let shard = shard(&lab, 0);
    assert_eq!(shard.counts(), (13, 1));
    assert_eq!(shard.reasons()["formula_refused"], 1);
    assert_eq!(parts(&lab, 0).await[0], "CH4-m0/1\n");
}

/// What is known of Surge's total is how it tells one under `-u`. One that tells none under `-S` is never believed.
#[tokio::test]
async fn a_surge_that_tells_no_total_makes_no_row_and_its_parts_are_ten_million_lines_long() {
    let lab = Lab::new(PROGRAMS).await;
    let told = "echo \"$3  1 -> 1 -> 1 in 0.0 sec\" >&2\n";
    assert!(SURGE.contains(told));
    program(&lab, "surge", &SURGE.replace(told, ""));
    push(&lab, "CH4\n", "engine = 'surge'\n", &["--failures-max", "1"]);
    work(&lab).await;
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.reason.as_deref()), (State::Dead, Some("total_missing")));
    assert!(!lab.object("r", "shards/shard_0000000.csv").exists());
    let spec: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.object("r", "spec.json")).unwrap()).unwrap();
    assert_eq!(spec["engine"]["stream"]["lines_per_part"], 10_000_000);
}

#[tokio::test]
async fn formulae_go_through_a_pipe_and_the_totals_of_a_follow_up_are_added() {
    let lab = Lab::new(PROGRAMS).await;
    program(&lab, "surge", &SURGE.replace("*Xe*", "H2O"));
    let mut list =
        lab.launchpad_command(&["formulae", "--heavy-atoms", "2"]).stdout(Stdio::piped()).spawn().unwrap();
    let push = ["push", "-", "--run", "two", "--engine", "surge", "--batch-size", "10"];
    let mut push = lab.launchpad_command(&push);
    let pushed = push.args(["--confirm-after-ms", "0"]).stdin(list.stdout.take().unwrap()).output().unwrap();
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    assert!(list.wait().unwrap().success());
    let formulae: usize =
        lab.launchpad(&["formulae", "--heavy-atoms", "2", "--count"]).stdout.trim().parse().unwrap();
    assert_eq!(lab.worker("w", &["--run", "two"]).left().await, 0);
    let ran = lab.launchpad(&["consolidate", "two", "-o", "two.csv"]);
    let said = format!("{} structures of {} formulae; 1 formulae have no total", formulae - 1, formulae - 1);
    assert!(ran.stdout.contains(&said), "{}", ran.stdout);

    program(&lab, "surge", SURGE);
    let again = ["push", "--from", "two", "--bad", "--run", "again", "--confirm-after-ms", "0"];
    let ran = lab.launchpad(&again);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(lab.worker("v", &["--run", "again"]).left().await, 0);
    let ran = lab.launchpad(&["consolidate", "two", "again", "-o", "both.csv"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said = format!("{formulae} structures of {formulae} formulae; 0 formulae have no total");
    assert!(ran.stdout.contains(&said), "{}", ran.stdout);
    let receipt: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("both.receipt.json")).unwrap()).unwrap();
    assert_eq!(receipt["enumeration"]["structures"], formulae);
    assert_eq!(receipt["runs"][0]["enumeration"]["incomplete"], serde_json::json!({"H2O": "0 of 1"}));
    assert_eq!(receipt["runs"][1]["enumeration"]["structures"], 1);
}

#[tokio::test]
async fn lists_with_what_is_no_formula_are_refused_with_their_line() {
    let lab = Lab::new(PROGRAMS).await;
    let list = lab.write("list.txt", "C8H11NO\n\nC6H6q\n");
    let ran = lab.launchpad(&["push", list.to_str().unwrap(), "--run", "r", "--engine", "surge"]);
    assert_eq!(ran.code, 65);
    assert!(
        ran.stderr.contains("list.txt:3: `C6H6q` is no formula: `q` where an element should be"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
}
