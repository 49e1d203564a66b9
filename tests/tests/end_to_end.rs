//! The main job on real molecules: push, real workers with real Vina, consolidate.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;

use common::task::{Shard, State, Verdict};
use nix::sys::signal::Signal;
use tests::{Lab, Programs};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const LIGANDS: &str =
    "c1ccccc1 benzene\nc1cncc2c1ccs2 thieno[2,3-c]pyridine\nOc1ccccc1 phenol\nCc1ccc(C)cc1 p-xylene\n";

fn shards(lab: &Lab, run: &str, tasks: usize) -> Vec<Vec<u8>> {
    (0..tasks)
        .map(|task| fs::read(lab.object(run, &format!("shards/shard_{task:07}.csv"))).unwrap())
        .collect()
}

#[tokio::test]
async fn two_workers_dock_a_run_and_two_runs_give_the_same_bytes() {
    let lab = Lab::new(PROGRAMS).await;
    lab.stub("obabel");
    lab.push("first", LIGANDS, &[]);
    lab.push("second", LIGANDS, &[]);
    let mut workers = ["one", "other"].map(|name| lab.worker(name, &[]));
    for worker in &mut workers {
        assert_eq!(worker.left().await, 0);
    }
    for run in ["first", "second"] {
        let progress = lab.progress(run).await;
        assert_eq!((progress.succeeded, progress.molecules_ok, progress.molecules_bad), (4, 4, 0));
        assert_eq!((progress.failures, progress.lapses, progress.releases), (0, 0, 0));
    }
    assert_eq!(shards(&lab, "first", 4), shards(&lab, "second", 4));
    // Eight ligands, and the receptor once for both workers of this host.
    let conversions = lab.noted("starts").iter().filter(|line| line.starts_with("obabel")).count();
    assert_eq!(conversions, 8 + 1);

    let ran = lab.launchpad(&["consolidate", "first", "-o", "results.csv"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let results = fs::read_to_string(lab.path("results.csv")).unwrap();
    assert_eq!(results.lines().count(), 5, "{results}");
    assert!(results.contains("\"thieno[2,3-c]pyridine\""), "{results}");
    assert_eq!(lab.scratch_folders(), [""; 0]);
}

#[tokio::test]
async fn a_batch_gives_each_molecule_its_own_verdict() {
    let lab = Lab::new(PROGRAMS).await;
    let batch = format!("{LIGANDS}CC(C)(C)(C)C broken\nC1C[C@@H]2CC[C@@H]1C2 trans-bridged\n");
    lab.push("r", &batch, &["--batch-size", "6"]);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let shard = Shard::parse(&shards(&lab, "r", 1)[0]).unwrap();
    let verdicts: Vec<(&str, &str)> =
        shard.rows.iter().map(|row| (row.molecule_id.as_str(), row.reason.as_str())).collect();
    assert_eq!(
        verdicts,
        [
            ("benzene", ""),
            ("thieno[2,3-c]pyridine", ""),
            ("phenol", ""),
            ("p-xylene", ""),
            ("broken", "smiles_invalid"),
            ("trans-bridged", "embed_failed")
        ]
    );
    let task = lab.task("r", 0).await;
    assert_eq!((task.molecules_ok, task.molecules_bad, task.failures), (4, 2, 0));
    let timings = task.timings.unwrap();
    let moments: Vec<u64> =
        timings.moments.in_order().into_iter().chain([timings.completed]).map(Option::unwrap).collect();
    assert!(moments.is_sorted(), "{moments:?}");
    assert!(task.bytes.is_some_and(|(down, up)| down > 0 && up > 0));
}

#[tokio::test]
async fn a_box_in_empty_space_is_no_score() {
    let lab = Lab::new(PROGRAMS).await;
    let receptor = lab.receptor_with_a_far_atom();
    let place = ["--box-center", "200,200,200", "--receptor", receptor.to_str().unwrap()];
    lab.push("r", "CCCCc1ccccc1 n-butylbenzene\n", &place);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let shard = Shard::parse(&shards(&lab, "r", 1)[0]).unwrap();
    assert_eq!((shard.rows[0].verdict, shard.rows[0].reason.as_str()), (Verdict::Bad, "no_contact"));
    assert_eq!(shard.rows[0].score, "");
}

/// A search that takes minutes.
const LONG: [&str; 2] = ["--exhaustiveness", "64"];
const FLEXIBLE: &str = "CCCCCCCCCCCCc1ccccc1 dodecylbenzene\n";

#[tokio::test]
async fn no_vina_is_left_after_a_kill_a_notice_to_leave_or_a_cancellation() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", FLEXIBLE, &LONG);
    let mut killed = lab.worker("killed", &[]);
    lab.until_running(&killed, "vina").await;
    killed.kill9();
    lab.until_nothing_runs().await;
    let mut told = lab.worker("told", &[]);
    lab.until_running(&told, "vina").await;
    told.signal(Signal::SIGTERM);
    assert_eq!(told.left().await, 75, "{}", told.last_words());
    lab.until_nothing_runs().await;
    let mut last = lab.worker("last", &["--exit-when", "drained"]);
    lab.until_running(&last, "vina").await;
    let ran = lab.launchpad(&["cancel", "r", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    lab.until_nothing_runs().await;
    assert_eq!(last.left().await, 0, "{}", last.last_words());
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.failures, task.releases), (State::Cancelled, 0, 1));
}

#[tokio::test]
async fn a_large_batch_that_is_all_bad_for_one_reason_is_tried_twice() {
    let lab = Lab::new(PROGRAMS).await;
    let batch = (0..10).map(|n| format!("C1C[C@@H]2CC[C@@H]1C2 cage-{n}")).collect::<Vec<_>>().join("\n");
    lab.push("r", &batch, &["--batch-size", "10"]);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let (progress, task) = (lab.progress("r").await, lab.task("r", 0).await);
    assert_eq!((progress.succeeded, task.failures, task.molecules_bad), (1, 1, 10));
}
