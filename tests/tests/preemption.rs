//! A task whose machine is taken away again and again: it goes on from its last checkpoint, and its result is that of a quiet run.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::digest::sha256_hex;
use common::task::{LeaseName, State};
use nix::sys::signal::Signal;
use redis::AsyncCommands as _;
use redis::streams::{StreamId, StreamRangeReply};
use serde_json::Value;
use tests::{FlakyProxy, Lab, LabWorker, Line, Programs, eventually, is_alive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// Steps of the task, each of which depends on the one before; with a gate, an attempt makes one and waits. With a hold, it goes no further
/// than the step that stands in there.
const STEPS: u64 = 60;

/// Of a day.
const DAY_MS: u64 = 86_400_000;

const DRIVER: &str = r#"
import csv, hashlib, json, os, signal, time
folder, lab, run = os.environ["MOLFLEET_CHECKPOINT_DIR"], LAB, os.environ["MOLFLEET_RUN"]
step, chain = 0, ""
if os.path.exists(folder + "/state"):
    step, chain = json.load(open(folder + "/state"))
    if os.path.exists(lab + "/poison-" + run) and step == int(open(lab + "/poison-" + run).read()):
        os._exit(1)
def keep(name, text):
    with open("new", "w") as file:
        file.write(text)
    os.rename("new", folder + "/" + name)
def note(name, text):
    with open(lab + "/" + name + "-" + run, "a") as log:
        log.write(text + "\n")
def told(*_):
    note("told", "1")
    while os.path.exists(lab + "/end-" + run):
        time.sleep(0.01)
    os._exit(1)
if os.path.exists(lab + "/end-" + run):
    signal.signal(signal.SIGTERM, told)
def is_held(step):
    try:
        with open(lab + "/hold-" + run) as hold:
            return step > int(hold.read() or 0)
    except FileNotFoundError:
        return False
note("pids", str(os.getpid()))
note("every", os.environ["MOLFLEET_CHECKPOINT_SECONDS"])
while step < STEPS:
    step += 1
    while is_held(step):
        time.sleep(0.01)
    chain = hashlib.sha256((chain + str(step)).encode()).hexdigest()
    keep("progress", "%d/%d" % (step, STEPS))
    keep("state", json.dumps([step, chain]))
    note("steps", str(step))
    while os.path.exists(lab + "/gate-" + run):
        signal.pause()
task = json.load(open("task.json"))
with open(task["rows"], "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["molecule_id", "letters"])
    rows.writerow([task["molecules"][0]["id"], int(chain[:6], 16) + 1])
"#;

fn push(lab: &Lab, run: &str) {
    push_with(lab, run, "");
}

/// With a `run.toml` of this text.
fn push_with(lab: &Lab, run: &str, file: &str) {
    let file = lab.write("run.toml", file);
    let ligands = lab.write("one.smi", "C methane\n");
    let folder = format!("{:?}", lab.path("").display().to_string());
    let driver = DRIVER.replace("LAB", &folder).replace("STEPS", &STEPS.to_string());
    let driver = lab.write("driver.py", &driver);
    let mut arguments = vec!["push", ligands.to_str().unwrap(), "--run", run, "--engine", "command"];
    arguments.extend(["--driver", driver.to_str().unwrap(), "--confirm-after-ms", "0"]);
    arguments.extend(["--config", file.to_str().unwrap()]);
    arguments.extend(["--column", "letters,unit=letters,min=1,max=99999999"]);
    let ran = lab.launchpad(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn lines(lab: &Lab, name: &str) -> Vec<u64> {
    let text = fs::read_to_string(lab.path(name)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Waits for that many steps of all attempts together.
async fn until_steps(lab: &Lab, worker: &LabWorker, count: usize) {
    eventually("a step", || async {
        let steps = lines(lab, "steps-r");
        (steps.len() >= count).then_some(()).ok_or_else(|| format!("{steps:?}; {}", worker.last_words()))
    })
    .await;
}

/// A worker that makes one step and is told to leave.
async fn preempted(lab: &Lab, steps: usize) -> LabWorker {
    let mut worker = lab.worker(&format!("w{steps}"), &["--run", "r"]);
    until_steps(lab, &worker, steps).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75, "{}", worker.log());
    worker
}

/// The bundles in the store, by name; without what a killed worker left of a write that had no name yet (`….tar#1`), which is no object.
fn bundles(lab: &Lab) -> Vec<PathBuf> {
    let found = fs::read_dir(lab.object("r", "checkpoints/0000000"));
    let mut found: Vec<PathBuf> = found.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    found.sort();
    found
}

/// The file of one of the bundles that Redis knows, the newest first.
async fn registered(lab: &Lab, place: usize) -> PathBuf {
    let checkpoint = lab.task("r", 0).await.checkpoint;
    let bundle = &checkpoint.bundles[place];
    lab.object("r", &format!("checkpoints/0000000/{}-{}.tar", bundle.lease, bundle.number))
}

#[tokio::test]
async fn fifty_preemptions_in_a_row_lose_no_step_and_change_no_byte() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    lab.write("gate-r", "");
    for steps in 1..=50 {
        preempted(&lab, steps).await;
        assert!(bundles(&lab).len() <= 2, "{:?}", bundles(&lab));
    }
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.failures, task.lapses), (State::Pending, 50, 0, 0));
    let shown = lab.launchpad(&["show", "r", "0"]).stdout;
    assert!(shown.contains(&format!("50 releases; step 50 of {STEPS} is kept")), "{shown}");
    assert_eq!(shown.matches("\n  went on from checkpoints/0000000/").count(), 49, "{shown}");
    let listed = lab.launchpad(&["tasks", "r"]).stdout;
    assert!(listed.contains(&format!(" 50/{STEPS} ")), "{listed}");
    let known = lab.task("r", 0).await.checkpoint;
    assert_eq!((known.progress, known.bundles.len()), (Some((50, STEPS)), 2));
    fs::remove_file(lab.path("gate-r")).unwrap();
    assert_eq!(lab.worker("last", &["--run", "r"]).left().await, 0);
    assert_eq!(
        lines(&lab, "steps-r"),
        (1..=STEPS).collect::<Vec<_>>(),
        "no step is lost, none is made twice"
    );
    assert_eq!(bundles(&lab), Vec::<PathBuf>::new(), "gone after the success");
    assert!(lines(&lab, "pids-r").into_iter().all(|pid| !is_alive(u32::try_from(pid).unwrap())));
    push(&lab, "quiet");
    assert_eq!(lab.worker("quiet", &["--run", "quiet"]).left().await, 0);
    let shard = |run| fs::read(lab.object(run, "shards/shard_0000000.csv")).unwrap();
    assert_eq!(shard("r"), shard("quiet"));
}

#[tokio::test]
async fn a_torn_bundle_falls_back_to_the_older_one_and_then_to_the_beginning() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    lab.write("gate-r", "");
    for steps in 1..=3 {
        preempted(&lab, steps).await;
    }
    let newest = registered(&lab, 0).await;
    let half = fs::read(&newest).unwrap();
    fs::write(&newest, &half[..half.len() / 2]).unwrap();
    preempted(&lab, 4).await;
    assert_eq!(lines(&lab, "steps-r"), [1, 2, 3, 3], "from the older one");
    for place in 0..2 {
        fs::remove_file(registered(&lab, place).await).unwrap();
    }
    preempted(&lab, 5).await;
    assert_eq!(lines(&lab, "steps-r"), [1, 2, 3, 3, 1], "from the beginning");
    let task = lab.task("r", 0).await;
    assert_eq!((task.releases, task.failures, task.lapses), (5, 0, 0));
}

/// The run stores every second, and the worker is told nothing; then the run never stores, and the worker is told to.
#[tokio::test]
async fn the_pace_of_checkpoints_is_the_runs_unless_the_worker_is_told_another() {
    for (of_the_run, of_the_worker) in [("1", None), ("86400", Some("--checkpoint-seconds=1"))] {
        let lab = Lab::new(PROGRAMS).await;
        let file = format!("[limits]\ncheckpoint_seconds = {of_the_run}\ncheckpoint_jitter_seconds = 0\n");
        push_with(&lab, "r", &file);
        lab.write("gate-r", "");
        let mut flags = vec!["--run", "r"];
        flags.extend(of_the_worker);
        let worker = lab.worker("paced", &flags);
        worker.until_logged("a checkpoint", |line| line["message"] == "checkpoint kept").await;
        let status = lab.launchpad(&["status", "r"]).stdout;
        assert!(status.contains(&format!("   0  1/{STEPS}  1.")), "{status}");
        let status: serde_json::Value =
            serde_json::from_str(&lab.launchpad(&["status", "r", "--json"]).stdout).unwrap();
        let kept = &status["leases"][0]["checkpoint"];
        assert_eq!((&kept["step"], &kept["steps"]), (&1.into(), &STEPS.into()));
        let listed: serde_json::Value =
            serde_json::from_str(&lab.launchpad(&["tasks", "r", "--json"]).stdout).unwrap();
        assert_eq!(listed["checkpoint"], *kept);
        assert_eq!(fs::read_to_string(lab.path("every-r")).unwrap(), "1\n", "the driver knows, too");
    }
}

#[tokio::test]
async fn a_bundle_of_other_bytes_than_registered_is_not_gone_on_with() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    lab.write("gate-r", "");
    for steps in 1..=2 {
        preempted(&lab, steps).await;
    }
    // One digit of the state, and nothing else: a tar that can be read.
    alter(&registered(&lab, 0).await, "[2, ", "[9, ");
    preempted(&lab, 3).await;
    assert_eq!(lines(&lab, "steps-r"), [1, 2, 2], "from the older one");
    // What was registered under its own digest is believed no more than it can be read.
    let newest = registered(&lab, 0).await;
    fs::write(&newest, "no tar").unwrap();
    register_as_it_is(&lab, &newest).await;
    preempted(&lab, 4).await;
    assert_eq!(
        lines(&lab, "steps-r"),
        [1, 2, 2, 1],
        "from the beginning: the older one is that of the altered digit"
    );
    let task = lab.task("r", 0).await;
    assert_eq!((task.releases, task.failures, task.lapses), (4, 0, 0));
}

#[tokio::test]
async fn a_checkpoint_from_which_the_engine_fails_is_left_for_the_older_one() {
    let lab = Lab::new(PROGRAMS).await;
    push_with(&lab, "r", "[limits]\nbackoff_ms = 10\n");
    lab.write("gate-r", "");
    for steps in 1..=2 {
        preempted(&lab, steps).await;
    }
    fs::remove_file(lab.path("gate-r")).unwrap();
    lab.write("poison-r", "2");
    assert_eq!(lab.worker("last", &["--run", "r"]).left().await, 0);
    let expected: Vec<u64> = [1, 2].into_iter().chain(2..=STEPS).collect();
    assert_eq!(lines(&lab, "steps-r"), expected, "the second time from the older one");
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.failures, task.lapses), (State::Succeeded, 2, 1, 0));
}

#[tokio::test]
async fn a_bundle_of_another_number_of_threads_is_refused() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    lab.write("gate-r", "");
    preempted(&lab, 1).await;
    let bundle = registered(&lab, 0).await;
    alter(&bundle, "{\"threads\":1,", "{\"threads\":2,");
    register_as_it_is(&lab, &bundle).await;
    assert_eq!(lab.worker("other", &["--run", "r"]).left().await, 0);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.reason.as_deref()), (State::Dead, Some("threads_changed")));
    assert_eq!(lines(&lab, "steps-r"), [1], "the engine did not start");
    let shown = lab.launchpad(&["show", "r", "0"]).stdout;
    assert!(shown.contains("was made with 2 threads (expected: 1)"), "{shown}");
}

/// A lab whose only worker has died, with a bundle of its first step in the store of which Redis has no word.
async fn after_a_death_between_upload_and_record() -> Lab {
    let lab = Lab::new(PROGRAMS).await;
    push_with(&lab, "r", "[limits]\nlease_ms = 2400\nheartbeat_ms = 400\n");
    lab.write("gate-r", "");
    let hold = lab.write("hold-r", "0");
    let proxy = FlakyProxy::start(lab.redis.port()).await;
    // Its alone, so that nothing else is on its way when bundles are counted.
    let pace = ["--checkpoint-seconds", "1", "--checkpoint-jitter-seconds", "0"];
    let mut worker = lab.worker("dies", &[&["--run", "r", "--redis", &proxy.url()][..], &pace].concat());
    eventually("the engine runs", || async {
        if lines(&lab, "pids-r").is_empty() { Err(worker.last_words()) } else { Ok(()) }
    })
    .await;
    proxy.set(Line::Silent);
    fs::remove_file(hold).unwrap();
    eventually("a bundle is stored", || async {
        if bundles(&lab).is_empty() { Err(worker.last_words()) } else { Ok(()) }
    })
    .await;
    worker.kill9();
    assert_eq!(lab.task("r", 0).await.checkpoint.bundles, []);
    lab
}

#[tokio::test]
async fn a_bundle_that_was_never_registered_is_gone_after_the_success() {
    let lab = after_a_death_between_upload_and_record().await;
    let lost = bundles(&lab);
    preempted(&lab, 2).await;
    assert_eq!(lines(&lab, "steps-r"), [1, 1], "nobody goes on from it");
    let kept = bundles(&lab);
    assert!(kept.len() == 2 && kept.contains(&lost[0]), "{kept:?}");
    fs::remove_file(lab.path("gate-r")).unwrap();
    assert_eq!(lab.worker("last", &["--run", "r"]).left().await, 0);
    assert_eq!(lab.task("r", 0).await.state, State::Succeeded);
    assert_eq!(bundles(&lab), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn removing_a_run_removes_its_bundles() {
    let lab = after_a_death_between_upload_and_record().await;
    preempted(&lab, 2).await;
    assert_eq!(bundles(&lab).len(), 2, "one is registered, one is not");
    let ran = lab.launchpad(&["remove", "r", "--outputs", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(bundles(&lab), Vec::<PathBuf>::new());
}

/// A person cancels the task while the last bundle of a worker that leaves is on its way. Redis refuses it; or it has taken it, but not
/// said so, and refuses it when it is asked again.
#[tokio::test]
async fn a_refused_bundle_is_deleted_unless_it_was_taken() {
    for is_taken in [false, true] {
        let lab = Lab::new(PROGRAMS).await;
        push(&lab, "r");
        lab.write("gate-r", "");
        preempted(&lab, 1).await;
        let proxy = FlakyProxy::start(lab.redis.port()).await;
        let flags = ["--run", "r", "--redis", &proxy.url(), "--leave-seconds-max", "600"];
        let mut worker = lab.worker("leaving", &flags);
        until_steps(&lab, &worker, 2).await;
        let stall = lab.write("store.stall", "");
        worker.signal(Signal::SIGTERM);
        worker.until_logged("the hand-over", |line| line["message"] == "task handed back").await;
        let registered = |step| Some((step, STEPS));
        if is_taken {
            proxy.lose("checkpoint", u32::MAX);
            fs::remove_file(&stall).unwrap();
            eventually("the bundle is registered", || async {
                let progress = lab.task("r", 0).await.checkpoint.progress;
                if progress == registered(2) { Ok(()) } else { Err(worker.last_words()) }
            })
            .await;
        }
        assert_eq!(lab.launchpad(&["cancel", "r", "--yes"]).code, 0);
        if is_taken {
            proxy.lose("checkpoint", 0);
        } else {
            fs::remove_file(&stall).unwrap();
        }
        assert_eq!(worker.left().await, 75, "{}", worker.log());
        assert!(worker.log().contains("the checkpoint is not the task's any more"), "{}", worker.log());
        let (step, kept) = if is_taken { (2, 2) } else { (1, 1) };
        assert_eq!(bundles(&lab).len(), kept, "{is_taken}: {}", worker.log());
        assert_eq!(lab.task("r", 0).await.checkpoint.progress, registered(step));
        assert_eq!(lab.launchpad(&["retry", "r", "--cancelled"]).code, 0);
        preempted(&lab, 3).await;
        assert_eq!(lines(&lab, "steps-r")[2..], [step + 1], "from the newest that was registered");
    }
}

#[tokio::test]
async fn a_long_attempt_uses_few_names_for_its_bundles() {
    let lab = Lab::new(PROGRAMS).await;
    push_with(&lab, "r", "[limits]\ncheckpoint_seconds = 1\ncheckpoint_jitter_seconds = 0\n");
    lab.write("hold-r", "0");
    let worker = lab.worker("long", &["--run", "r"]);
    let mut numbers = Vec::new();
    for step in 1..=6 {
        if step == 5 {
            // Under the number that comes next, a write of which nobody knew any more arrives late.
            fs::write(
                registered(&lab, 0).await.with_file_name(format!("{}-2.tar", lease(&lab).await)),
                "late",
            )
            .unwrap();
        }
        lab.write("hold-r", &step.to_string());
        eventually("the step is kept", || async {
            let known = lab.task("r", 0).await.checkpoint;
            if known.progress == Some((step, STEPS)) { Ok(()) } else { Err(worker.last_words()) }
        })
        .await;
        numbers.push(lab.task("r", 0).await.checkpoint.bundles[0].number);
        eventually("the old one is deleted", || async {
            let stored = bundles(&lab);
            if stored.len() <= 2 { Ok(()) } else { Err(stored) }
        })
        .await;
    }
    assert_eq!(numbers, [1, 2, 3, 1, 4, 2]);
    assert!(worker.log().contains("another bundle came late under this name"), "{}", worker.log());
}

/// The name of the latest lease of the task.
async fn lease(lab: &Lab) -> LeaseName {
    lab.task("r", 0).await.lease.unwrap()
}

/// Puts another text of the same length into a file.
fn alter(file: &Path, from: &str, to: &str) {
    let bytes = fs::read(file).unwrap();
    let place = bytes.windows(from.len()).position(|found| found == from.as_bytes()).unwrap();
    let altered = [&bytes[..place], to.as_bytes(), &bytes[place + from.len()..]].concat();
    assert_eq!(altered.len(), bytes.len());
    fs::write(file, altered).unwrap();
}

/// Makes Redis hold the digest that the file of the newest bundle has now.
async fn register_as_it_is(lab: &Lab, file: &Path) {
    let checkpoint = lab.task("r", 0).await.checkpoint;
    let now = sha256_hex(&fs::read(file).unwrap());
    let text = checkpoint.to_string().replace(&checkpoint.bundles[0].sha256, &now);
    let mut redis = lab.redis.connection().await;
    let _: () = redis.hset("molfleet:{r}:checkpoints", 0, text).await.unwrap();
}

/// Of the last bundle, the store refuses each try, or takes it and never says so.
#[tokio::test]
async fn a_store_that_fails_in_mid_upload_keeps_nobody_and_the_older_bundle_wins() {
    for fault in ["manner", "stall"] {
        let lab = Lab::new(PROGRAMS).await;
        push(&lab, "r");
        lab.write("gate-r", "");
        preempted(&lab, 1).await;
        let mut worker = lab.worker("faulty", &["--run", "r", "--leave-seconds-max", "7"]);
        until_steps(&lab, &worker, 2).await;
        let fault = lab.write(&format!("store.{fault}"), "refuse 503 1000");
        worker.signal(Signal::SIGTERM);
        assert_eq!(worker.left().await, 75, "{}", worker.log());
        let task = lab.task("r", 0).await;
        assert_eq!((task.releases, task.failures, task.lapses), (2, 0, 0), "{}", worker.log());
        assert_eq!(task.checkpoint.progress, Some((1, STEPS)));
        fs::remove_file(fault).unwrap();
        preempted(&lab, 3).await;
        assert_eq!(lines(&lab, "steps-r"), [1, 2, 2], "from the older one");
        assert_eq!(lab.task("r", 0).await.checkpoint.progress, Some((2, STEPS)));
    }
}

/// The moment at which the last event of a kind happened, by the clock of Redis.
async fn happened_ms(lab: &Lab, verb: &str) -> u64 {
    let mut redis = lab.redis.connection().await;
    let events: StreamRangeReply = redis.xrevrange_all("molfleet:{r}:events").await.unwrap();
    let is_that = |event: &&StreamId| event.get::<String>("verb").as_deref() == Some(verb);
    let event = events.ids.iter().find(is_that);
    assert!(event.is_some(), "no `{verb}`: {events:?}");
    event.unwrap().id.split_once('-').unwrap().0.parse().unwrap()
}

/// The store is slow, and another worker has nothing else to do: it goes on as soon as the bundle is there. An idle worker asks by itself
/// every 4.5 to 5 s, and has just done so when the bundle comes; what is in time is therefore the hint.
#[tokio::test]
async fn an_idle_worker_waits_for_the_last_bundle_and_starts_within_two_seconds_of_it() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    lab.write("gate-r", "");
    let mut worker = lab.worker("leaving", &["--run", "r"]);
    until_steps(&lab, &worker, 1).await;
    let next = lab.worker("next", &["--run", "r"]);
    next.until_logged("an idle worker", |line| line["message"] == "nothing to do").await;
    let stall = lab.write("store.stall", "");
    worker.signal(Signal::SIGTERM);
    eventually("the task is held", || async {
        let state = lab.task("r", 0).await.state;
        if state == State::Delayed { Ok(()) } else { Err(state) }
    })
    .await;
    // Nothing is leased: what moves this clock is the idle worker that asks.
    lab.until_lease_clock("r", 1).await;
    fs::remove_file(stall).unwrap();
    until_steps(&lab, &next, 2).await;
    assert_eq!(lines(&lab, "steps-r"), [1, 2]);
    let [kept, leased] = [happened_ms(&lab, "checkpoint").await, happened_ms(&lab, "lease").await];
    assert!((kept..=kept + 2_000).contains(&leased), "kept at {kept}, leased at {leased}");
    assert_eq!(worker.left().await, 75, "{}", worker.log());
}

/// A time in a log, in ms of its day.
fn logged_ms(line: &Value) -> u64 {
    let time = line["timestamp"].as_str().unwrap().split_once('T').unwrap().1.trim_end_matches('Z');
    let parts: Vec<f64> = time.split(':').map(|part| part.parse().unwrap()).collect();
    Duration::from_secs_f64(parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]).as_millis().try_into().unwrap()
}

/// Everything takes as long as it may: the engine does not end until it is killed, after the grace of 10 s, and the store never answers. What
/// leaving still does at 13 s is given up, and 2 s more are for the goodbye; it takes ms of them, unless the machine stands still.
#[tokio::test]
async fn a_worker_whose_engine_ignores_sigterm_is_gone_after_15_seconds_all_the_same() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    for gate in ["gate-r", "end-r"] {
        lab.write(gate, "");
    }
    let mut worker = lab.worker("stubborn", &["--run", "r", "--grace-seconds", "10"]);
    until_steps(&lab, &worker, 1).await;
    lab.write("store.stall", "");
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75, "{}", worker.log());
    let log = worker.log();
    let log: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |said: &str| {
        let is_that =
            |line: &&Value| line["message"].as_str().is_some_and(|message| message.starts_with(said));
        logged_ms(log.iter().find(is_that).unwrap_or_else(|| panic!("it never said `{said}`: {log:?}")))
    };
    // Over midnight the numbers start again.
    let took_ms = (of("left, work may remain") + DAY_MS - of("told to leave")) % DAY_MS;
    assert!((10_000..=15_000).contains(&took_ms), "{took_ms} ms; {}", worker.log());
    let task = lab.task("r", 0).await;
    assert_eq!((task.releases, task.failures, task.lapses), (1, 0, 0), "{}", worker.log());
    assert_eq!(lines(&lab, "told-r"), [1], "it was told to end");
    assert!(lines(&lab, "pids-r").into_iter().all(|pid| !is_alive(u32::try_from(pid).unwrap())));
}

/// Google gives notice, and SIGTERM follows while the engine writes its checkpoint.
#[tokio::test]
async fn a_signal_after_the_notice_cuts_no_hand_over_short() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    for gate in ["gate-r", "end-r"] {
        lab.write(gate, "");
    }
    let notice = lab.path("goes");
    let command = lab.write("notice", &format!("#!/bin/sh\nexec test -e '{}'\n", notice.display()));
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    let flags = ["--run", "r", "--notice-command", command.to_str().unwrap(), "--grace-seconds", "60"];
    let mut worker = lab.worker("noticed", &[&flags[..], &["--leave-seconds-max", "90"]].concat());
    until_steps(&lab, &worker, 1).await;
    fs::write(&notice, "").unwrap();
    eventually("the engine is told to end", || async {
        let told = lines(&lab, "told-r");
        if told.is_empty() { Err(worker.last_words()) } else { Ok(()) }
    })
    .await;
    worker.signal(Signal::SIGTERM);
    worker.until_logged("the signal", |line| line["message"] == "told to leave again, leaving").await;
    fs::remove_file(lab.path("end-r")).unwrap();
    assert_eq!(worker.left().await, 75, "{}", worker.log());
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.failures, task.lapses), (State::Pending, 1, 0, 0));
    assert_eq!(task.checkpoint.progress, Some((1, STEPS)), "its checkpoint is there, and the hold is over");
}

#[tokio::test]
async fn a_killed_worker_leaves_its_last_checkpoint_and_no_engine() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    lab.write("gate-r", "");
    let flags = ["--run", "r", "--checkpoint-seconds", "1", "--checkpoint-jitter-seconds", "0"];
    let mut worker = lab.worker("killed", &flags);
    worker.until_logged("a checkpoint", |line| line["message"] == "checkpoint kept").await;
    let pid = u32::try_from(lines(&lab, "pids-r")[0]).unwrap();
    worker.kill9();
    eventually("the end of the engine", || async {
        (!is_alive(pid)).then_some(()).ok_or_else(|| "it lives".to_owned())
    })
    .await;
    let released = lab.task("r", 0).await.checkpoint;
    assert_eq!((released.progress, released.bundles.len()), (Some((1, STEPS)), 1));
    assert_eq!(bundles(&lab).len(), 1);
}

/// A double of a platform's metadata server on this machine, which says so in each answer, until the machine goes.
struct MetadataDouble {
    url: String,
    goes: watch::Sender<bool>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// Makes the status and the text of an answer from a request's head and whether the machine goes.
type Answer = Box<dyn Fn(&str, bool) -> (u16, &'static str) + Send + Sync>;

impl MetadataDouble {
    async fn start(answer: Answer) -> Self {
        let answer = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (goes, heads) = (watch::Sender::new(false), Arc::new(Mutex::new(Vec::new())));
        let (flag, seen) = (goes.clone(), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (flag, seen, answer) = (flag.clone(), Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else { return };
                        head.push(char::from(byte));
                    }
                    seen.lock().unwrap().push(head.clone());
                    // Google's server is silent until something changes.
                    if head.contains("last_etag=e0") {
                        flag.subscribe().wait_for(|goes| *goes).await.unwrap();
                    }
                    let goes = *flag.borrow();
                    let (status, text) = answer(&head, goes);
                    let (length, etag) = (text.len(), u8::from(goes));
                    let reply = format!(
                        "HTTP/1.1 {status} x\r\nServer: a double\r\nETag: e{etag}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
                    );
                    _ = stream.write_all(reply.as_bytes()).await;
                });
            }
        });
        Self { url, goes, heads }
    }

    async fn until_asked(&self, for_what: &str) {
        eventually("a request", || async {
            let heads = self.heads.lock().unwrap().clone();
            let asked = heads.iter().any(|head| head.to_lowercase().contains(for_what));
            asked.then_some(()).ok_or(heads)
        })
        .await;
    }
}

/// A worker at work on the run `r`, and another notice than a signal: it leaves, and its task is handed over with its checkpoint. Gives
/// what it logged.
async fn leaves_by(flags: &[&str], notice: impl AsyncFnOnce(&Lab)) -> String {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "r");
    lab.write("gate-r", "");
    let mut worker = lab.worker("noticed", &[&["--run", "r"], flags].concat());
    until_steps(&lab, &worker, 1).await;
    notice(&lab).await;
    assert_eq!(worker.left().await, 75, "{}", worker.log());
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.failures, task.lapses), (State::Pending, 1, 0, 0));
    assert_eq!(bundles(&lab).len(), 1, "its checkpoint is there, and the hold is over");
    worker.log()
}

/// Google's server, of a machine that is preempted, and of one whose host is maintained: moved alive first, which is no reason to leave.
#[tokio::test]
async fn a_worker_leaves_when_google_takes_its_machine() {
    let of_google = |head: &str, key: &str| {
        head.starts_with(&format!("GET /computeMetadata/v1/instance/{key}?wait_for_change=true"))
            && head.to_lowercase().contains("metadata-flavor: google")
    };
    let preempted = move |head: &str, goes| match () {
        () if of_google(head, "preempted") => (200, if goes { "TRUE" } else { "FALSE" }),
        () if of_google(head, "maintenance-event") => (200, "NONE"),
        () => (403, "a double"),
    };
    let maintained = move |head: &str, goes| match () {
        () if of_google(head, "preempted") => (200, "FALSE"),
        () if of_google(head, "maintenance-event") && goes => (200, "TERMINATE_ON_HOST_MAINTENANCE"),
        () if of_google(head, "maintenance-event") => (200, "MIGRATE_ON_HOST_MAINTENANCE"),
        () => (403, "a double"),
    };
    let cases: [(&str, Answer, &str); 2] = [
        ("preempted", Box::new(preempted), "Google Compute Engine preempts this machine"),
        ("maintenance-event", Box::new(maintained), "for the maintenance of its host"),
    ];
    for (key, answer, notice) in cases {
        let double = MetadataDouble::start(answer).await;
        let log = leaves_by(&["--preemption", "gce", "--metadata-url", &double.url], async |_| {
            double.until_asked(&format!("{key}?wait_for_change=true&last_etag=e0")).await;
            double.goes.send_replace(true);
        })
        .await;
        assert!(log.contains(notice), "{log}");
    }
}

/// A machine that is likely to go works on.
#[tokio::test]
async fn a_worker_leaves_when_aws_takes_its_machine_back() {
    let double = MetadataDouble::start(Box::new(|head, goes| {
        let (line, headers) = (head.lines().next().unwrap_or(""), head.to_lowercase());
        let has_token = headers.contains("token: a-token");
        match line {
            "PUT /latest/api/token HTTP/1.1" if headers.contains("ttl-seconds: 21600") => (200, "a-token"),
            "GET /latest/meta-data/spot/instance-action HTTP/1.1" if has_token && goes => {
                (200, r#"{"action":"terminate"}"#)
            }
            "GET /latest/meta-data/spot/instance-action HTTP/1.1" if has_token => (404, "a double"),
            "GET /latest/meta-data/events/recommendations/rebalance HTTP/1.1" if has_token => {
                (200, r#"{"noticeTime":"2026-11-26T08:22:00Z"}"#)
            }
            _ => (401, "a double"),
        }
    }))
    .await;
    let log = leaves_by(&["--preemption", "aws", "--metadata-url", &double.url], async |_| {
        double.until_asked("recommendations/rebalance").await;
        double.goes.send_replace(true);
    })
    .await;
    assert!(log.contains("AWS may take this machine away soon"), "{log}");
    assert!(log.contains(r#"AWS takes this machine away: {\"action\":\"terminate\"}"#), "{log}");
}

/// All machines of a set hear of each other's events.
#[tokio::test]
async fn a_worker_leaves_when_azure_takes_its_machine_and_not_another() {
    let double = MetadataDouble::start(Box::new(|head, goes| {
        let line = head.lines().next().unwrap_or("");
        match line.split_whitespace().nth(1).unwrap_or("") {
            _ if !head.to_lowercase().contains("metadata: true") => (400, "a double"),
            "/metadata/instance/compute/name?api-version=2021-02-01&format=text" => (200, "vm_0"),
            "/metadata/scheduledevents?api-version=2020-07-01" if goes => {
                (200, r#"{"DocumentIncarnation":2,"Events":[{"EventType":"Preempt","Resources":["vm_0"]}]}"#)
            }
            "/metadata/scheduledevents?api-version=2020-07-01" => {
                (200, r#"{"DocumentIncarnation":1,"Events":[{"EventType":"Preempt","Resources":["vm_1"]}]}"#)
            }
            _ => (404, "a double"),
        }
    }))
    .await;
    let log = leaves_by(&["--preemption", "azure", "--metadata-url", &double.url], async |lab| {
        double.until_asked("scheduledevents").await;
        assert_eq!(lab.task("r", 0).await.state, State::Leased);
        double.goes.send_replace(true);
    })
    .await;
    assert!(log.contains("Azure takes this machine away: Preempt"), "{log}");
}

#[tokio::test]
async fn a_worker_leaves_when_the_notice_command_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let (command, notice) = (folder.path().join("notice"), folder.path().join("goes"));
    fs::write(&command, format!("#!/bin/sh\nexec test -e '{}'\n", notice.display())).unwrap();
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    leaves_by(&["--notice-command", command.to_str().unwrap()], async |_| fs::write(&notice, "").unwrap())
        .await;
}

/// The connection on which it listens is cut, and while its engine runs there is nothing that it would ask Redis on it.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test cuts connections behind the queue's back")]
async fn a_worker_that_missed_the_message_leaves_when_it_is_next_seen() {
    let log = leaves_by(&[], async |lab| {
        let mut redis = lab.redis.connection().await;
        let id = eventually("a worker in the registry", || async {
            let workers = lab.queue().workers().await.unwrap();
            workers.first().map(|worker| worker.id.to_string()).ok_or("none")
        })
        .await;
        let killed: u64 =
            redis::cmd("CLIENT").arg(&["KILL", "TYPE", "pubsub"]).query_async(&mut redis).await.unwrap();
        assert_eq!(killed, 1);
        let ran = lab.launchpad(&["drain", &id]);
        assert_eq!(ran.code, 75, "{}", ran.stdout);
        assert!(ran.stderr.contains("leaves once it is connected again"), "{}", ran.stderr);
    })
    .await;
    assert!(log.contains("told to leave"), "{log}");
}

#[tokio::test]
async fn drain_tells_the_workers_that_it_names() {
    for selection in ["worker", "label", "all"] {
        leaves_by(&["--region", "here"], async |lab| {
            let id = eventually("a worker in the registry", || async {
                let workers = lab.queue().workers().await.unwrap();
                workers.first().map(|worker| worker.id.to_string()).ok_or("none")
            })
            .await;
            let nobody = lab.launchpad(&["drain", "--label", "region=there"]);
            assert_eq!(nobody.code, 0, "{}", nobody.stderr);
            assert!(nobody.stdout.starts_with("No worker"), "{}", nobody.stdout);
            let unknown = lab.launchpad(&["drain", &id, "nobody1"]);
            assert_eq!((unknown.code, unknown.stdout.as_str()), (65, ""), "{}", unknown.stderr);
            assert!(
                unknown.stderr.contains("there is no worker `nobody1`, and nobody was told"),
                "{}",
                unknown.stderr
            );
            let slip = format!("{}x", &id[1..]);
            let unknown = lab.launchpad(&["drain", &slip]);
            assert_eq!(unknown.code, 65, "{}", unknown.stdout);
            assert!(unknown.stderr.contains(&format!("hint: did you mean {id}?")), "{}", unknown.stderr);
            assert!(lab.redis.contents("molfleet:drains").await.is_empty(), "no note was left");
            let arguments: &[&str] = match selection {
                "worker" => &[&id],
                "label" => &["--label", "region=here"],
                _ => &["--all"],
            };
            let ran = lab.launchpad(&[&["drain"], arguments].concat());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            assert!(ran.stdout.contains(&id), "{}", ran.stdout);
        })
        .await;
    }
}

/// Of two workers on the run, one is named, by its id or by its label; the other one takes over.
#[tokio::test]
async fn drain_of_one_worker_leaves_the_others_at_work() {
    for by_label in [false, true] {
        let lab = Lab::new(PROGRAMS).await;
        push(&lab, "r");
        lab.write("gate-r", "");
        let mut named = lab.worker("named", &["--run", "r", "--region", "here"]);
        until_steps(&lab, &named, 1).await;
        let registered = async || {
            let workers = lab.queue().workers().await.unwrap();
            workers.into_iter().map(|worker| worker.id.to_string()).collect::<Vec<_>>()
        };
        let id = eventually("it is registered", || async { registered().await.pop().ok_or("none") }).await;
        let mut other = lab.worker("other", &["--run", "r", "--region", "there"]);
        other.until_logged("it waits", |line| line["message"] == "nothing to do").await;
        let arguments =
            if by_label { ["drain", "--label", "region=here"].to_vec() } else { vec!["drain", &id] };
        let ran = lab.launchpad(&arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(named.left().await, 75, "{}", named.log());
        until_steps(&lab, &other, 2).await;
        assert_eq!(lines(&lab, "steps-r"), [1, 2]);
        assert!(!other.log().contains("told to leave"), "{}", other.log());
        assert_eq!(other.has_left(), None);
        eventually("the registry has the other one only", || async {
            let ids = registered().await;
            if ids.len() == 1 && ids[0] != id { Ok(()) } else { Err(ids) }
        })
        .await;
    }
}
