//! A machine on which everything fails beside a sound one, and a run that fails everywhere.

use common::queue::WorkerInfo;
use nix::sys::signal::Signal;
use redis::AsyncCommands as _;
use tests::chaos::toy::windows;
use tests::chaos::{STANDS_FOR, seed_of_good_groups};
use tests::{Lab, LabWorker, Programs, eventually};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const LIGANDS: &str = "CC a\nCCC b\nCCCC c\nCCO d\nCCCO e\nCCN f\n";
const TASKS: u64 = 6;

/// A run whose tasks may fail so often, one molecule each.
async fn lab(failures_max: &str) -> Lab {
    let lab = Lab::new(PROGRAMS).await;
    lab.stub("vina");
    lab.push("r", LIGANDS, &["--batch-size", "1", "--failures-max", failures_max]);
    lab
}

/// Starts a sound worker that holds a task, and one on whose machine everything fails; then lets the sound one go on.
async fn a_bad_one_beside_a_good_one(lab: &Lab, flags: &[&str]) -> (LabWorker, LabWorker) {
    lab.set("gate", "");
    let good = lab.worker("good", &[]);
    lab.until_noted("waiting", 1).await;
    let bad = lab.worker_on(&lab.broken_machine("vina"), "bad", flags);
    // Enough of them to be suspected already, were it not that nobody succeeds.
    lab.until("r", "failures", |progress| progress.failures >= 2 * TASKS).await;
    assert!(!bad.log().contains("quarantined:"), "{}", bad.last_words());
    lab.unset("gate");
    (good, bad)
}

async fn until_shown_as_quarantined(lab: &Lab) -> WorkerInfo {
    let queue = lab.queue();
    eventually("a quarantined worker in the registry", || async {
        let workers = queue.workers().await.map_err(|error| error.to_string())?;
        workers.iter().find(|worker| worker.is_quarantined()).cloned().ok_or_else(|| format!("{workers:?}"))
    })
    .await
}

async fn all_is_done_by_the_good_one(lab: &Lab, good: &mut LabWorker) {
    assert_eq!(good.left().await, 0);
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.dead, progress.lapses), (TASKS, 0, 0), "{progress:?}");
}

#[tokio::test]
async fn a_bad_machine_is_quarantined_and_stays_to_be_looked_at() {
    let lab = lab("10000").await;
    let (mut good, mut bad) = a_bad_one_beside_a_good_one(&lab, &[]).await;
    let shown = until_shown_as_quarantined(&lab).await;
    all_is_done_by_the_good_one(&lab, &mut good).await;

    assert!(shown.fields["quarantine"].contains("tasks in a row came to nothing here"), "{shown:?}");
    let at: u64 = shown.fields["quarantined_at"].parse().unwrap();
    assert!(at > 0 && at <= lab.queue().now_ms().await.unwrap());
    let listed: serde_json::Value =
        serde_json::from_str(&lab.launchpad(&["workers", "--json"]).stdout).unwrap();
    let listed = listed.as_array().unwrap().iter().find(|line| line["id"] == shown.id.as_str()).unwrap();
    assert_eq!((&listed["state"], listed["tasks"].as_array().unwrap().len()), (&"quarantined".into(), 0));
    assert_eq!(listed["quarantine"], shown.fields["quarantine"].as_str());
    let text = lab.launchpad(&["workers"]).stdout;
    assert!(text.contains(&format!("{} is quarantined for ", shown.id)), "{text}");

    lab.push("next", "CCO ethanol\n", &[]);
    let status = lab.launchpad(&["status", "next", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["why"], "quarantined", "{status:#}");
    assert_eq!(lab.progress("next").await.leased, 0);

    assert_eq!(bad.has_left(), None);
    bad.signal(Signal::SIGTERM);
    assert_eq!(bad.left().await, 75);
    assert_eq!(lab.queue().workers().await.unwrap(), [], "who was told to leave is forgotten");
}

#[tokio::test]
async fn a_quarantined_worker_that_leaves_hands_back_what_it_holds_and_stays_in_the_registry() {
    let lab = lab("10000").await;
    let flags = ["--when-quarantined", "leave", "--cores", "2"];
    let (mut good, mut bad) = a_bad_one_beside_a_good_one(&lab, &flags).await;
    assert_eq!(bad.left().await, 75);
    all_is_done_by_the_good_one(&lab, &mut good).await;
    let shown = until_shown_as_quarantined(&lab).await;
    assert!(bad.log().contains(shown.fields["quarantine"].as_str()));
    assert_eq!(shown.fields["tasks"], "");
}

#[tokio::test]
async fn nobody_is_quarantined_for_a_run_that_fails_everywhere() {
    let lab = lab("3").await;
    let broken = lab.broken_machine("vina");
    let mut workers = [lab.worker_on(&broken, "one", &[]), lab.worker_on(&broken, "two", &[])];
    for worker in &mut workers {
        assert_eq!(worker.left().await, 0);
        assert!(!worker.log().contains("quarantined:"), "{}", worker.last_words());
    }
    let progress = lab.progress("r").await;
    assert_eq!((progress.dead, progress.failures), (TASKS, 3 * TASKS));
}

#[tokio::test]
async fn good_windows_are_no_sign_of_a_bad_machine() {
    // The toy stands for Python and GROMACS.
    let lab = Lab::new(Programs { stub: env!("CARGO_BIN_EXE_chaos"), ..PROGRAMS }).await;
    for program in STANDS_FOR {
        lab.stub(program);
    }
    let molecules = "C a\nCC b\nCCC c\n";
    let ligands = lab.write("r.smi", molecules);
    let engine = windows::run_file(&lab, "r", &lab.path("diaries"), 0);
    let config = format!("seed = {}\n{engine}", seed_of_good_groups(molecules));
    let config = lab.write("r.toml", &config);
    let files = [&ligands, &config].map(|path| path.to_str().unwrap());
    let ran =
        lab.launchpad(&["push", files[0], "--run", "r", "--config", files[1], "--confirm-after-ms", "0"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    // Others have good molecules all the time, as far as the counters say.
    let redis = lab.redis.connection().await;
    let mut one = lab.worker("one", &["--exit-when", "drained", "--quarantine-after", "1"]);
    let code = eventually("the worker leaves", || {
        let (code, log, mut redis) = (one.has_left(), one.log(), redis.clone());
        assert!(!log.contains("quarantined:"), "{}", one.last_words());
        async move {
            let _: i64 = redis.hincr("molfleet:{r}:progress", "molecules_ok", 1).await.unwrap();
            code.ok_or(())
        }
    })
    .await;
    let progress = lab.progress("r").await;
    assert_eq!((code, progress.succeeded, progress.failures), (0, 12, 0), "{}", one.last_words());
}
