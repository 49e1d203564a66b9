//! A task whose machine is taken away again and again: it goes on from its last checkpoint, and its result is that of a quiet run.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;
use std::path::PathBuf;

use common::task::State;
use nix::sys::signal::Signal;
use tests::{Lab, LabWorker, Programs, eventually, is_alive, run_id};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// Steps of the task, each of which depends on the one before; with a gate, an attempt makes one and waits.
const STEPS: u64 = 60;

const DRIVER: &str = r#"
import csv, hashlib, json, os, signal
folder, lab, run = os.environ["MOLFLEET_CHECKPOINT_DIR"], LAB, os.environ["MOLFLEET_RUN"]
step, chain = 0, ""
if os.path.exists(folder + "/state"):
    step, chain = json.load(open(folder + "/state"))
def keep(name, text):
    with open("new", "w") as file:
        file.write(text)
    os.rename("new", folder + "/" + name)
def note(name, text):
    with open(lab + "/" + name + "-" + run, "a") as log:
        log.write(text + "\n")
note("pids", str(os.getpid()))
while step < STEPS:
    step += 1
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
    let ligands = lab.write("one.smi", "C methane\n");
    let folder = format!("{:?}", lab.path("").display().to_string());
    let driver = DRIVER.replace("LAB", &folder).replace("STEPS", &STEPS.to_string());
    let driver = lab.write("driver.py", &driver);
    let mut arguments = vec!["push", ligands.to_str().unwrap(), "--run", run, "--engine", "command"];
    arguments.extend(["--driver", driver.to_str().unwrap(), "--confirm-after-ms", "0"]);
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

/// The bundles in the store, by name.
fn bundles(lab: &Lab) -> Vec<PathBuf> {
    let found = fs::read_dir(lab.object("r", "checkpoints/0000000"));
    let mut found: Vec<PathBuf> = found.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The file of one of the bundles that Redis knows, the newest first.
async fn registered(lab: &Lab, place: usize) -> PathBuf {
    let checkpoint =
        lab.queue().checkpoints(&run_id("r"), &[common::task::TaskId(0)]).await.unwrap().remove(0);
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
    let known = lab.queue().checkpoints(&run_id("r"), &[common::task::TaskId(0)]).await.unwrap().remove(0);
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
    let released = lab.queue().checkpoints(&run_id("r"), &[common::task::TaskId(0)]).await.unwrap().remove(0);
    assert_eq!((released.progress, released.bundles.len()), (Some((1, STEPS)), 1));
    assert_eq!(bundles(&lab).len(), 1);
}
