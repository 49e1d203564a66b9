//! A worker's dealings with Redis and with its own end: answers that get lost, heartbeats in time, leaving, exit codes.

use std::fs;

use common::queue::LeaseReply;
use common::task::State;
use nix::sys::signal::Signal;
use redis::AsyncCommands as _;
use serde_json::Value;
use tests::{FlakyProxy, LEASE_MS, Lab, Programs, eventually, is_alive, run_id};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const TOLUENE: &str = "Cc1ccccc1 toluene\n";

/// A lab with one molecule pushed as run `r`, and a way to its Redis that can lose answers.
async fn lab_behind_a_proxy() -> (Lab, FlakyProxy) {
    let lab = Lab::new(PROGRAMS).await;
    lab.stub("vina");
    lab.push("r", TOLUENE, &[]);
    let proxy = FlakyProxy::start(lab.redis.port()).await;
    (lab, proxy)
}

async fn until_lost(proxy: &FlakyProxy, verb: &str, times: u32) {
    eventually("an answer is lost", || async {
        let lost = proxy.lost(verb);
        if lost >= times { Ok(()) } else { Err(lost) }
    })
    .await;
}

#[tokio::test]
async fn a_success_whose_answers_get_lost_happens_once() {
    let (lab, proxy) = lab_behind_a_proxy().await;
    for verb in ["lease", "heartbeat", "complete"] {
        proxy.lose(verb, 2);
    }
    lab.set("gate", "");
    let mut worker = lab.worker("one", &["--redis", &proxy.url()]);
    until_lost(&proxy, "heartbeat", 2).await;
    lab.unset("gate");
    assert_eq!(worker.left().await, 0);
    assert_eq!((proxy.lost("lease"), proxy.lost("complete")), (2, 2));
    let (progress, task) = (lab.progress("r").await, lab.task("r", 0).await);
    assert_eq!((progress.succeeded, progress.molecules_ok), (1, 1));
    assert_eq!((progress.failures, progress.lapses, progress.releases), (0, 0, 0));
    assert_eq!(task.lease.unwrap().number, 1);
    assert_eq!(lab.noted("starts").len(), 1, "the engine ran once");
}

#[tokio::test]
async fn successes_that_meet_are_recorded_together() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", "c1ccccc1 a\nCc1ccccc1 b\nOc1ccccc1 c\nNc1ccccc1 d\n", &["--batch-size", "1"]);
    let proxy = FlakyProxy::start(lab.redis.port()).await;
    proxy.lose("complete", u32::MAX);
    let mut worker = lab.worker("one", &["--redis", &proxy.url(), "--cores", "4"]);
    until_lost(&proxy, "complete", 1).await;
    eventually("all results are stored", || async {
        let stored =
            (0..4).filter(|task| lab.object("r", &format!("shards/shard_000000{task}.csv")).exists());
        let stored = stored.count();
        if stored == 4 { Ok(()) } else { Err(stored) }
    })
    .await;
    // The first success is tried again and again, while the others come to wait for it.
    until_lost(&proxy, "complete", proxy.lost("complete") + 2).await;
    proxy.lose("complete", 0);
    assert_eq!(worker.left().await, 0);
    assert_eq!(lab.progress("r").await.succeeded, 4);
    let together = |line: &serde_json::Value| line["successes"].as_u64().unwrap_or(0) > 1;
    worker.until_logged("several successes in one call", together).await;
}

#[tokio::test]
async fn a_failure_whose_answer_gets_lost_is_charged_once() {
    let (lab, proxy) = lab_behind_a_proxy().await;
    lab.set("crash", "");
    proxy.lose("fail", 2);
    assert_eq!(lab.worker("one", &["--redis", &proxy.url()]).left().await, 0);
    assert_eq!(proxy.lost("fail"), 2);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.failures, task.lease.unwrap().number), (State::Dead, 3, 3));
}

#[tokio::test]
async fn a_release_whose_answer_gets_lost_happens_once() {
    let (lab, proxy) = lab_behind_a_proxy().await;
    lab.set("gate", "");
    let mut worker = lab.worker("one", &["--redis", &proxy.url()]);
    lab.until_noted("waiting", 1).await;
    proxy.lose("release", 2);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75);
    assert_eq!(proxy.lost("release"), 2);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.lapses), (State::Pending, 1, 0));
}

#[tokio::test]
async fn tasks_of_a_lost_answer_are_handed_back_by_a_worker_that_leaves() {
    let (lab, proxy) = lab_behind_a_proxy().await;
    lab.set("gate", "");
    proxy.lose("lease", 3);
    let mut worker = lab.worker("one", &["--redis", &proxy.url()]);
    until_lost(&proxy, "lease", 1).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.lapses), (State::Pending, 1, 0), "{}", worker.log());
}

#[tokio::test]
async fn one_lost_answer_after_a_long_engine_is_no_outage() {
    let (lab, proxy) = lab_behind_a_proxy().await;
    lab.set("gate", "");
    let mut worker = lab.worker("one", &["--redis", &proxy.url(), "--unreachable-seconds-max", "2"]);
    lab.until_noted("waiting", 1).await;
    lab.until_lease_clock("r", 3_000).await;
    proxy.lose("lease", 1);
    lab.unset("gate");
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    assert_eq!(proxy.lost("lease"), 1);
}

#[tokio::test]
async fn the_first_heartbeat_of_an_idle_worker_comes_in_time() {
    let lab = Lab::new(PROGRAMS).await;
    lab.stub("vina").set("gate", "");
    let mut worker = lab.worker("one", &["--run", "r"]);
    eventually("the idle worker shows itself", || async {
        let workers = lab.queue().workers().await.unwrap();
        if workers.is_empty() { Err(()) } else { Ok(()) }
    })
    .await;
    lab.push("r", TOLUENE, &[]);
    lab.until_noted("waiting", 1).await;
    let (queue, from) = (lab.queue(), lab.lease_clock_ms("r").await);
    eventually("the lease clock passes two leases", || async {
        // Another worker's request, which reclaims what has expired.
        let digest = queue.run_info(&run_id("r")).await.unwrap().digest;
        let reply = queue.lease(&run_id("r"), &digest, &"watcher".parse().unwrap(), 1, 0).await.unwrap();
        assert!(matches!(reply, LeaseReply::Nothing(_)));
        let passed = lab.lease_clock_ms("r").await - from;
        if passed > 2 * LEASE_MS { Ok(()) } else { Err(passed) }
    })
    .await;
    assert_eq!(lab.task("r", 0).await.lapses, 0);
    lab.unset("gate");
    assert_eq!(worker.left().await, 0);
}

#[tokio::test]
async fn told_to_leave_without_redis_the_engine_dies_and_the_worker_leaves() {
    let lab = Lab::new(PROGRAMS).await;
    lab.stub("vina").set("gate", "");
    lab.push("r", TOLUENE, &[]);
    let mut worker = lab.worker("one", &[]);
    let engine: u32 = lab.until_noted("waiting", 1).await[0].parse().unwrap();
    lab.redis.stop_signal();
    worker.signal(Signal::SIGTERM);
    eventually("the engine is gone", || async { if is_alive(engine) { Err(engine) } else { Ok(()) } }).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75);
    lab.redis.continue_signal();
}

#[tokio::test]
async fn an_input_that_cannot_be_read_kills_its_task_and_no_other() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("two", "Cc1ccccc1 toluene\nc1ccccc1 benzene\nCCc1ccccc1 ethylbenzene\n", &["--batch-size", "1"]);
    let mut connection = lab.redis.connection().await;
    let inputs = "molfleet:{two}:inputs";
    let _: () = connection.hset(inputs, 0, "[{").await.unwrap();
    let _: () = connection.hdel(inputs, 1).await.unwrap();
    let mut worker = lab.worker("one", &["--run", "two", "--cores", "3"]);
    assert_eq!(worker.left().await, 0);
    let progress = lab.progress("two").await;
    assert_eq!((progress.succeeded, progress.dead, progress.lapses), (1, 2, 0));
    for task in [0, 1] {
        assert_eq!(lab.task("two", task).await.reason.as_deref(), Some("input_unreadable"));
    }
}

#[tokio::test]
async fn a_run_that_needs_more_cores_is_a_matter_of_configuration() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    lab.push("wide", TOLUENE, &["--threads-per-task", "4"]);
    let mut worker = lab.worker("wide", &["--run", "wide"]);
    assert_eq!(worker.left().await, 78);
    assert!(worker.log().contains("give this worker more --cores"), "{}", worker.log());
    // What the worker can do, it does first.
    assert_eq!(lab.worker("both", &["--run", "wide", "--run", "r"]).left().await, 78);
    assert_eq!(lab.progress("r").await.succeeded, 1);
    // Nobody asked for this run by its name, but there is work left.
    assert_eq!(lab.worker("all", &[]).left().await, 75);
    assert_eq!(lab.launchpad(&["cancel", "wide", "--yes"]).code, 0);
    assert_eq!(lab.worker("over", &[]).left().await, 0);
}

/// `timeout` signals the program that it has started, and at once the group in which that is.
#[tokio::test]
async fn two_signals_at_once_are_one_wish_and_a_worker_that_left_is_no_hand() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    lab.stub("vina").set("gate", "");
    let mut worker = lab.worker("w", &["--run", "r"]);
    lab.until_noted("waiting", 1).await;
    let status = || serde_json::from_str::<Value>(&lab.launchpad(&["status", "r", "--json"]).stdout).unwrap();
    assert_eq!((&status()["why"], &status()["workers_there"]), (&"running".into(), &1.into()));
    // Two of a kind would be one.
    worker.signal(Signal::SIGTERM);
    worker.signal(Signal::SIGINT);
    assert_eq!(worker.left().await, 75, "{}", worker.log());
    assert!(!worker.log().contains("a second time"), "{}", worker.log());
    let task = lab.task("r", 0).await;
    assert_eq!((task.releases, task.failures, task.lapses), (1, 0, 0), "{}", worker.log());
    assert_eq!((&status()["why"], &status()["workers_there"]), (&"no_worker".into(), &0.into()));
}

#[tokio::test]
async fn exit_codes_tell_why_a_worker_left() {
    let lab = Lab::new(PROGRAMS).await;
    let check = async |name: &str, flags: &[&str], code: i32| {
        let mut worker = lab.worker(name, flags);
        assert_eq!(worker.left().await, code, "{flags:?}: {}", worker.log());
    };
    check("flag", &["--no-such-flag"], 78).await;
    check("cores", &["--cores", "0"], 78).await;
    check("url", &["--redis", "http://localhost"], 78).await;
    check("empty", &["--exit-when", "empty", "--run", "absent"], 0).await;
    let told = fs::read_to_string(lab.path("empty.log")).unwrap();
    assert!(told.contains("there is no such run yet") && told.contains("absent"), "{told}");
    check("away", &["--redis", "redis://127.0.0.1:1", "--unreachable-seconds-max", "1"], 75).await;
    let mut waiting = lab.worker("waiting", &["--run", "later"]);
    eventually("it waits for its run", || async {
        if waiting.log().contains("worker starts") { Ok(()) } else { Err(()) }
    })
    .await;
    lab.push("later", TOLUENE, &[]);
    assert_eq!(waiting.left().await, 0);
    assert_eq!(lab.progress("later").await.succeeded, 1);
}

#[tokio::test]
async fn a_run_with_damaged_keys_holds_up_no_other() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    lab.push("z-damaged", TOLUENE, &[]);
    let mut connection = lab.redis.connection().await;
    let _: () = connection.set("molfleet:{z-damaged}:pending", "no list").await.unwrap();
    let worker = lab.worker("one", &["--run", "z-damaged", "--run", "r"]);
    lab.until("r", "the other run is done", |progress| progress.succeeded == 1).await;
    worker.until_logged("the damage", |line| line.to_string().contains("WRONGTYPE")).await;
}

#[tokio::test]
async fn a_worker_that_waits_for_the_store_says_so() {
    let lab = Lab::new(PROGRAMS).await;
    let argv = "argv = ['python3', '-c', 'print(\"molecule_id,status,value\")']";
    let columns = "columns = [{ name = 'value', unit = 'points' }]";
    let config = lab.write("r.toml", &format!("engine = 'command'\n[options]\n{argv}\n{columns}\n"));
    let ligands = lab.write("r.smi", TOLUENE);
    let arguments = [
        "push",
        ligands.to_str().unwrap(),
        "--run",
        "r",
        "--config",
        config.to_str().unwrap(),
        "--confirm-after-ms",
        "0",
    ];
    let pushed = lab.launchpad(&arguments);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    lab.write("store.manner", &tests::Manner::Refuse { status: 503, per_mille: 1000 }.to_string());
    let worker = lab.worker("one", &[]);
    let waits =
        |line: &serde_json::Value| line["message"] == "no answer yet, waiting" && line["what"] == "the store";
    worker
        .until_logged("the worker says what it waits for", |line| waits(line) && line["seconds"] == 1)
        .await;
    assert_eq!(lab.progress("r").await.pending, 1);
    std::fs::remove_file(lab.path("store.manner")).unwrap();
    lab.until("r", "the task is worked on", |progress| progress.pending == 0).await;
}
