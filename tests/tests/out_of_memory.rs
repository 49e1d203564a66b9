//! A kernel that kills for want of memory: a real one, in a control group that the test makes. Without the right to do so, nothing is tested,
//! and the test says so.

use std::fs;

use common::task::State;
use tests::{Lab, MemoryCgroup, Programs};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// More than Python needs, and little beside what any machine has.
const LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// Enters the group where it is narrow, and then wants four times its limit: by itself, or in a process of its own, of whose end it blames the molecule.
const DRIVER: &str = r#"
import csv, json, os
def swell():
    if os.path.exists(NARROW):
        with open(DOOR, "w") as door:
            door.write(str(os.getpid()))
        kept = [b"x" * 2**20 for _ in range(256)]
def row(letters, verdict="ok", reason=""):
    with open(task["rows"], "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["molecule_id", "letters", "verdict", "reason"])
        rows.writerow([molecule, letters, verdict, reason])
task = json.load(open("task.json"))
molecule = task["molecules"][0]["id"]
if molecule == "itself":
    swell()
elif molecule == "its_child":
    child = os.fork()
    if child == 0:
        swell()
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        row("", "bad", "too_large")
        os._exit(0)
row(1)
"#;

#[tokio::test]
async fn who_is_killed_for_want_of_memory_is_to_blame_for_nothing() {
    let group = match MemoryCgroup::make(LIMIT_BYTES) {
        Ok(group) => group,
        Err(why) => {
            println!("not tested: {why}");
            return;
        }
    };
    let lab = Lab::new(PROGRAMS).await;
    let narrow = lab.write("narrow", "");
    let quoted = |path: &std::path::Path| serde_json::to_string(path).unwrap();
    let driver = DRIVER.replace("NARROW", &quoted(&narrow)).replace("DOOR", &quoted(&group.door()));
    let driver = lab.write("driver.py", &driver);
    let ligands = lab.write("r.smi", "C itself\nCC its_child\nCCC neither\n");
    let mut push = vec!["push", ligands.to_str().unwrap(), "--run", "r", "--engine", "command"];
    push.extend(["--driver", driver.to_str().unwrap(), "--column", "letters,min=1,max=500"]);
    push.extend(["--failures-max", "1", "--confirm-after-ms", "0"]);
    let ran = lab.launchpad(&push);
    assert_eq!(ran.code, 0, "{}", ran.stderr);

    let mut worker = lab.worker("w", &["--run", "r", "--exit-when", "drained"]);
    worker.left().await;
    for (task, said) in [(0, "signal 9"), (1, "bad, too_large")] {
        let info = lab.task("r", task).await;
        assert_eq!(
            (info.state, info.reason.as_deref()),
            (State::Dead, Some("out_of_memory")),
            "{}",
            worker.log()
        );
        let shown = lab.launchpad(&["show", "r", &task.to_string()]).stdout;
        let why = "the kernel killed a program for want of memory while the engine ran";
        assert!(shown.contains(why) && shown.contains(said), "{shown}");
    }
    assert_eq!(lab.task("r", 2).await.state, State::Succeeded, "{}", worker.log());

    // What `docs/science.md` says to do about it, where there is more.
    fs::remove_file(narrow).unwrap();
    assert_eq!(lab.launchpad(&["retry", "r", "--reason", "out_of_memory"]).code, 0);
    assert_eq!(lab.worker("larger", &["--run", "r"]).left().await, 0);
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.molecules_ok, progress.molecules_bad), (3, 3, 0));
    group.remove().await;
}
