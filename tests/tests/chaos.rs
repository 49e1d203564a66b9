//! Bad weather: machines that die, freeze or are cut off, stores that hang, engines that crash. Real Redis, real workers, real
//! docking; a stub in front of Vina only chooses the moment. In the end each task is terminal once, with the bytes of a quiet run.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;
use std::time::Duration;

use common::task::{AttemptRecord, Ending, State};
use nix::sys::signal::Signal;
use tests::chaos::schedule::Kind;
use tests::chaos::{Options, ScratchDisk};
use tests::{LEASE_MS, Lab, LabWorker, Programs, eventually, is_alive};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// Says for how many seconds faults happen to the fleet; 120 otherwise.
const SECONDS: &str = "MOLFLEET_CHAOS_SECONDS";
/// Says what their schedule is made from; it is drawn otherwise, and printed.
const SEED: &str = "MOLFLEET_CHAOS_SEED";

const TOLUENE: &str = "Cc1ccccc1 toluene\n";
const UNTIL_DRAINED: &[&str] = &["--exit-when", "drained"];

/// A lab with one molecule pushed as run `r`, whose docking is held up at the gate.
async fn lab_at_the_gate() -> Lab {
    let lab = Lab::durable(PROGRAMS).await;
    lab.stub("vina").set("gate", "");
    lab.push("r", TOLUENE, &[]);
    lab
}

/// The shard of the run's only task.
fn shard(lab: &Lab) -> String {
    fs::read_to_string(lab.object("r", "shards/shard_0000000.csv")).unwrap()
}

/// What a quiet run of the same molecule gives.
async fn quiet_shard() -> String {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    assert_eq!(lab.worker("quiet", UNTIL_DRAINED).left().await, 0);
    shard(&lab)
}

/// Opens the gate, lets the worker finish, and checks that there is one success with the right bytes.
async fn finishes_well(lab: &Lab, mut worker: LabWorker) {
    lab.unset("gate");
    assert_eq!(worker.left().await, 0);
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.molecules_ok, progress.failures), (1, 1, 0));
    assert_eq!(shard(lab), quiet_shard().await);
    let consolidated = lab.launchpad(&["consolidate", "r", "-o", "results.csv"]);
    assert_eq!(consolidated.code, 0, "{}", consolidated.stderr);
}

#[tokio::test]
async fn a_killed_worker_takes_its_engine_along_and_its_task_is_done_once() {
    let lab = lab_at_the_gate().await;
    lab.set("grandchild", "998877");
    let mut first = lab.worker("first", UNTIL_DRAINED);
    let engine: u32 = lab.until_noted("waiting", 1).await[0].parse().unwrap();
    let grandchild: u32 = lab.noted("grandchildren")[0].parse().unwrap();
    assert!(is_alive(engine) && is_alive(grandchild));

    first.kill9();
    eventually("engine and grandchild are gone", || async {
        let left = [engine, grandchild].map(is_alive);
        if left == [false, false] { Ok(()) } else { Err(left) }
    })
    .await;

    lab.unset("grandchild");
    let second = lab.worker("second", UNTIL_DRAINED);
    finishes_well(&lab, second).await;
    let task = lab.task("r", 0).await;
    assert_eq!((task.lapses, task.former.len(), task.former[0].1), (1, 1, Ending::Lapsed));
    assert_eq!(lab.scratch_folders(), [""; 0], "the killed worker's was swept");
}

#[tokio::test]
async fn a_frozen_redis_costs_nothing_but_time() {
    let lab = lab_at_the_gate().await;
    let worker = lab.worker("one", UNTIL_DRAINED);
    let engine: u32 = lab.until_noted("waiting", 1).await[0].parse().unwrap();
    lab.redis.stop_signal();
    worker
        .until_logged("four leases without Redis", |line| {
            line["unreachable_ms"].as_u64() > Some(4 * LEASE_MS)
        })
        .await;
    assert!(is_alive(engine));
    lab.redis.continue_signal();
    finishes_well(&lab, worker).await;
    let progress = lab.progress("r").await;
    assert_eq!((progress.failures, progress.lapses, progress.releases), (0, 0, 0));
    assert_eq!(lab.noted("waiting").len(), 1, "the same engine process went on");
}

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_costs_nothing_but_time() {
    let lab = lab_at_the_gate().await;
    let worker = lab.worker("one", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    lab.redis.kill9();
    lab.unset("gate");
    let trying = |line: &serde_json::Value| line["what"] == "complete" && line["tries"].as_u64() > Some(2);
    worker.until_logged("the success can't be recorded", trying).await;
    lab.redis.restart().await;
    lab.set("gate", "");
    finishes_well(&lab, worker).await;
    let task = lab.task("r", 0).await;
    assert_eq!((task.lease.unwrap().number, task.lapses, task.failures), (1, 0, 0));
}

#[tokio::test]
async fn a_stalling_store_costs_no_lapse() {
    let lab = lab_at_the_gate().await;
    let worker = lab.worker("one", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    lab.write("store.stall", "");
    lab.unset("gate");
    eventually("an upload waits", || async { lab.path("store.stalled").exists().then_some(()).ok_or(()) })
        .await;
    lab.until_lease_clock("r", 3 * LEASE_MS).await;
    assert_eq!(lab.task("r", 0).await.state, State::Leased);
    fs::remove_file(lab.path("store.stall")).unwrap();
    lab.set("gate", "");
    finishes_well(&lab, worker).await;
    assert_eq!(lab.task("r", 0).await.lapses, 0);
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for_and_not_replaced() {
    let lab = lab_at_the_gate().await;
    let worker = lab.worker("one", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    fs::rename(lab.path("store"), lab.path("unmounted")).unwrap();
    fs::create_dir(lab.path("store")).unwrap();
    lab.unset("gate");
    worker
        .until_logged("the worker keeps trying", |line| {
            line["what"] == "confirm" && line["tries"].as_u64() > Some(2)
        })
        .await;
    assert!(!lab.object("r", "shards").exists(), "an empty mount point collects no results");
    fs::remove_dir_all(lab.path("store")).unwrap();
    fs::rename(lab.path("unmounted"), lab.path("store")).unwrap();
    lab.set("gate", "");
    finishes_well(&lab, worker).await;
    assert_eq!(lab.task("r", 0).await.lapses, 0);
}

#[tokio::test]
async fn a_worker_that_is_told_to_leave_hands_its_task_back() {
    let lab = lab_at_the_gate().await;
    let mut first = lab.worker("first", UNTIL_DRAINED);
    let engine: u32 = lab.until_noted("waiting", 1).await[0].parse().unwrap();
    first.signal(Signal::SIGTERM);
    assert_eq!(first.left().await, 75);
    assert!(!is_alive(engine));
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.lapses, task.failures), (State::Pending, 1, 0, 0));
    let second = lab.worker("second", UNTIL_DRAINED);
    finishes_well(&lab, second).await;
    let task = lab.task("r", 0).await;
    let record = format!("attempts/0000000/{}/attempt.json", task.former[0].0);
    assert!(lab.object("r", &record).exists(), "an attempt that was handed back keeps its record");
    assert_eq!(lab.scratch_folders(), [""; 0]);
}

#[tokio::test]
async fn a_cancelled_task_loses_its_engine() {
    let lab = lab_at_the_gate().await;
    let mut worker = lab.worker("one", UNTIL_DRAINED);
    let engine: u32 = lab.until_noted("waiting", 1).await[0].parse().unwrap();
    assert_eq!(lab.launchpad(&["cancel", "r", "--yes"]).code, 0);
    eventually("the engine is gone", || async { if is_alive(engine) { Err(engine) } else { Ok(()) } }).await;
    assert_eq!(worker.left().await, 0);
    let progress = lab.progress("r").await;
    assert_eq!((progress.cancelled, progress.leased, progress.failures), (1, 0, 0));
    assert!(!lab.object("r", "shards").exists());
}

#[tokio::test]
async fn a_zombie_commits_nothing_of_its_own() {
    let lab = lab_at_the_gate().await;
    let mut zombie = lab.worker("zombie", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    zombie.signal(Signal::SIGSTOP);
    let second = lab.worker("second", UNTIL_DRAINED);
    lab.until_noted("waiting", 2).await;
    finishes_well(&lab, second).await;
    let bytes = shard(&lab);
    zombie.signal(Signal::SIGCONT);
    assert_eq!(zombie.left().await, 0);
    assert_eq!(shard(&lab), bytes);
    let (progress, task) = (lab.progress("r").await, lab.task("r", 0).await);
    assert_eq!((progress.succeeded, task.lease.unwrap().number, task.lapses), (1, 2, 1));
}

#[tokio::test]
async fn a_stored_result_that_redis_forgot_is_taken_and_the_attempt_says_so() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    assert_eq!(lab.worker("first", UNTIL_DRAINED).left().await, 0);
    let bytes = shard(&lab);
    let removed = lab.launchpad(&["remove", "r", "--yes"]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    lab.push("r", TOLUENE, &[]);
    assert_eq!(lab.worker("second", UNTIL_DRAINED).left().await, 0);
    assert_eq!(shard(&lab), bytes);
    let task = lab.task("r", 0).await;
    let record = format!("attempts/0000000/{}/attempt.json", task.lease.unwrap());
    let record: AttemptRecord = serde_json::from_slice(&fs::read(lab.object("r", &record)).unwrap()).unwrap();
    assert_eq!((record.ending, record.shard_sha256), (Ending::Succeeded, task.shard_sha256));
    assert_eq!((record.steps.len(), record.files.len()), (0, 0));
    let consolidated = lab.launchpad(&["consolidate", "r", "-o", "results.csv"]);
    assert_eq!(consolidated.code, 0, "{}", consolidated.stderr);
}

#[tokio::test]
async fn a_crashing_engine_ends_in_a_dead_task_with_its_evidence() {
    let lab = Lab::new(PROGRAMS).await;
    lab.stub("vina").set("crash", "");
    lab.push("r", TOLUENE, &[]);
    assert_eq!(lab.worker("one", UNTIL_DRAINED).left().await, 0);
    let (progress, task) = (lab.progress("r").await, lab.task("r", 0).await);
    assert_eq!((progress.dead, task.failures, task.lapses), (1, 3, 0));
    assert_eq!(task.reason.as_deref(), Some("engine_crashed"));
    let shown = lab.launchpad(&["show", "r", "0"]);
    assert!(shown.stdout.matches("engine_crashed").count() >= 3, "{}", shown.stdout);
}

#[tokio::test]
async fn a_full_scratch_disk_leases_nothing() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    let mut worker = lab.worker("one", &["--scratch-free-mib-min", "1000000000000"]);
    worker.until_logged("the floor is seen", |line| line["floor_bytes"].is_u64()).await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75);
    let progress = lab.progress("r").await;
    assert_eq!((progress.pending, progress.failures, progress.releases), (1, 0, 0));
}

#[tokio::test]
async fn a_disk_that_fills_up_under_an_engine_is_the_machines_fault() {
    let lab = lab_at_the_gate().await;
    let disk = ScratchDisk::mount(lab.path("scratch"));
    if !disk.can_be_filled() {
        println!("not tested: this user may not mount a disk that can be filled");
        return;
    }
    let mut worker = lab.worker("one", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    disk.fill();
    lab.set("crash", "");
    lab.unset("gate");
    worker.until_logged("a machine's fault", |line| line["reason"] == "machine").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75);
    let task = lab.task("r", 0).await;
    assert!(matches!(task.state, State::Delayed | State::Pending), "{task:?}");
    assert_eq!((task.failures, task.releases, task.lapses), (0, 0, 1));
    disk.free();
    lab.unset("crash");
    lab.set("gate", "");
    let second = lab.worker("second", UNTIL_DRAINED);
    finishes_well(&lab, second).await;
}

#[tokio::test]
async fn a_program_that_does_not_work_is_passed_over_for_one_that_does() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", TOLUENE, &[]);
    let broken = "#!/bin/sh\necho tried >> \"$(dirname \"$0\")/tried\"\necho no such docking >&2\nexit 3\n";
    fs::write(lab.path("stubs/vina"), broken).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(lab.path("stubs/vina"), mode).unwrap();
    // The system's own folders are tried, too, and have a Vina that works.
    assert_eq!(lab.worker("one", &["--run", "r"]).left().await, 0);
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.failures), (1, 0));
    assert!(!lab.noted("tried").is_empty(), "the broken one was never tried");
}

#[tokio::test]
async fn what_was_uploaded_to_an_empty_mount_point_is_uploaded_again() {
    let lab = lab_at_the_gate().await;
    let worker = lab.worker("one", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    // The first write of the upload hangs, long after the store was last confirmed.
    lab.write("store.stall", "");
    lab.unset("gate");
    eventually("an upload waits", || async { lab.path("store.stalled").exists().then_some(()).ok_or(()) })
        .await;
    fs::rename(lab.path("store"), lab.path("unmounted")).unwrap();
    fs::create_dir(lab.path("store")).unwrap();
    fs::remove_file(lab.path("store.stall")).unwrap();
    worker
        .until_logged("the worker keeps trying", |line| {
            line["what"] == "confirm" && line["tries"].as_u64() > Some(2)
        })
        .await;
    fs::remove_dir_all(lab.path("store")).unwrap();
    fs::rename(lab.path("unmounted"), lab.path("store")).unwrap();
    lab.set("gate", "");
    finishes_well(&lab, worker).await;
    assert_eq!(lab.task("r", 0).await.lapses, 0);
}

#[tokio::test]
async fn an_input_file_that_was_cut_short_ends_in_a_dead_task() {
    let lab = Lab::new(PROGRAMS).await;
    let sdf = "toluene\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 C   0  0\nM  END\n$$$$\n";
    let ligands = lab.write("ligands.sdf", sdf);
    lab.push("r", TOLUENE, &["--dry-run"]);
    let config = lab.path("r.toml");
    let arguments = ["push", ligands.to_str().unwrap(), "--run", "r", "--confirm-after-ms", "0"];
    let pushed = lab.launchpad(&[&arguments[..], &["--config", config.to_str().unwrap()]].concat());
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    let inputs = fs::read_dir(lab.object("r", "inputs")).unwrap().flatten();
    let object = inputs.map(|entry| entry.path().join("ligands.sdf")).find(|path| path.exists()).unwrap();
    fs::write(&object, "").unwrap();
    assert_eq!(lab.worker("one", UNTIL_DRAINED).left().await, 0);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.reason.as_deref()), (State::Dead, Some("input_altered")));
}

#[expect(clippy::disallowed_methods, reason = "a test has no command line of its own")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_loses_nothing_and_does_nothing_twice_whatever_fails() {
    let options = Options {
        seed: number(SEED).unwrap_or_else(|| rand::random_range(0..1_000_000)),
        length: Duration::from_secs(number(SECONDS).unwrap_or(120)),
        sites: 4,
        sentinel: false,
        program: env!("CARGO_BIN_EXE_chaos").into(),
    };
    println!("{SEED}={} {SECONDS}={}", options.seed, options.length.as_secs());
    let report = tests::chaos::run(options).await;
    println!("{report}");
    assert_eq!(report.missing(), [], "faults that never took place");
    let lost = report.answers_lost();
    assert!(lost.iter().all(|(_, times)| *times > 0), "answers that were never lost: {lost:?}");
    let seen = report.seen();
    let happened = [
        ("successes", seen.succeeded),
        ("lapses", seen.lapses),
        ("releases", seen.releases),
        ("failures", seen.failures),
        ("faults of machines", seen.machine_faults),
        ("deaths", seen.deaths),
        ("attempts that went on from a checkpoint", seen.went_on),
        ("groups", seen.groups),
        ("looks", report.looks()),
    ];
    for (what, times) in happened {
        assert!(times > 0, "no {what}: the faults met nothing");
    }
    assert!(report.violations().is_empty(), "promises were broken, see above");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_gets_over_fail_overs_that_forget_acknowledged_writes() {
    let options = Options {
        seed: number(SEED).unwrap_or_else(|| rand::random_range(0..1_000_000)),
        length: Duration::from_secs(number(SECONDS).map_or(15, |seconds| seconds.clamp(10, 60))),
        sites: 2,
        sentinel: true,
        program: env!("CARGO_BIN_EXE_chaos").into(),
    };
    println!("{SEED}={}", options.seed);
    let report = tests::chaos::run(options).await;
    println!("{report}");
    let fail_overs = report.faults(Kind::RedisFailedOver) + report.faults(Kind::RedisSplit);
    assert!(fail_overs > 0 && report.forgotten() > 0 && report.seen().succeeded > 0, "nothing was forgotten");
    assert!(report.violations().is_empty(), "promises were broken, see above");
}
