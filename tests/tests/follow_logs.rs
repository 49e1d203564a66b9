//! `logs -f`: a person looks at what a task prints while it runs. A real Redis, a real worker, a script that waits at a gate.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::AsyncCommands as _;
use serde_json::Value;
use tests::{Lab, Programs, eventually};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// Waits at the gate of its attempt between two lines; the first attempt gives up, the next one ends well.
const DRIVER: &str = r#"
number=${MOLFLEET_ATTEMPT%%.*}
echo "begin of $number"
while [ -e "GATE$number" ]; do sleep 0.02; done
echo "past the gate"
if [ "$number" = 1 ]; then echo "giving up" >&2; exit 1; fi
printf 'molecule_id,letters\nmethane,1\n' > rows.csv
"#;

fn push(lab: &Lab) {
    for gate in ["gate1", "gate2"] {
        fs::write(lab.path(gate), "").unwrap();
    }
    let driver = DRIVER.replace("GATE", &lab.path("gate").display().to_string());
    let driver = lab.write("driver.sh", &driver);
    let ligands = lab.write("r.smi", "C methane\n");
    let mut arguments = vec!["push", ligands.to_str().unwrap(), "--run", "r", "--engine", "command"];
    arguments.extend(["--driver", driver.to_str().unwrap(), "--column", "letters,min=1,max=500"]);
    arguments.extend(["--confirm-after-ms", "0", "--backoff-ms", "10", "--lease-ms", "2400"]);
    arguments.extend(["--heartbeat-ms", "400"]);
    let pushed = lab.launchpad(&arguments);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
}

/// A `launchpad logs -f` with what it has printed so far. It is killed with the test.
struct Follower {
    child: Child,
    folder: std::path::PathBuf,
}

impl Follower {
    fn start(lab: &Lab, name: &str, flags: &[&str]) -> Self {
        let folder = lab.path(name);
        fs::create_dir(&folder).unwrap();
        let mut command = lab.launchpad_command(&[&["logs", "r", "0", "-f"], flags].concat());
        command.stdin(Stdio::null());
        command.stdout(fs::File::create(folder.join("out")).unwrap());
        command.stderr(fs::File::create(folder.join("err")).unwrap());
        Self { child: command.spawn().unwrap(), folder }
    }

    fn printed(&self, stream: &str) -> String {
        fs::read_to_string(self.folder.join(stream)).unwrap()
    }

    async fn until_printed(&self, stream: &str, text: &str) {
        eventually(&format!("`{text}` is printed"), || async {
            let printed = self.printed(stream);
            if printed.contains(text) { Ok(()) } else { Err((printed, self.printed("err"))) }
        })
        .await;
    }

    async fn left(&mut self) -> i32 {
        let child = &mut self.child;
        let status = eventually("the follower leaves", || {
            let status = child.try_wait().unwrap();
            async move { status.ok_or("it goes on") }
        })
        .await;
        status.code().unwrap_or(-1)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have left by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

async fn has_live_key(lab: &Lab) -> bool {
    lab.redis.connection().await.exists("molfleet:{r}:live").await.unwrap()
}

#[tokio::test]
async fn a_follower_sees_each_attempt_as_it_goes_and_leaves_with_the_task() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab);
    let mut early = Follower::start(&lab, "early", &[]);
    early.until_printed("err", "task 0 waits for a worker").await;
    let mut worker = lab.worker("w", &["--run", "r", "--exit-when", "drained"]);
    early.until_printed("err", "attempt 1 runs on worker ").await;
    early.until_printed("out", "begin of 1\n").await;
    // Who comes later sees what is there already.
    let mut programs = Follower::start(&lab, "programs", &["--json"]);
    programs.until_printed("out", "begin of 1").await;
    remove(&lab.path("gate1"));
    early.until_printed("out", "begin of 2\n").await;
    programs.until_printed("out", "begin of 2").await;
    remove(&lab.path("gate2"));
    assert_eq!((early.left().await, programs.left().await, worker.left().await), (0, 0, 0));

    let (out, err) = (early.printed("out"), early.printed("err"));
    assert!(out.starts_with("==> command.stdout of attempt 1 <==\nbegin of 1\n"), "{out}");
    assert!(out.contains("==> command.stderr of attempt 1 <==\ngiving up\n"), "{out}");
    assert!(out.contains("==> command.stdout of attempt 2 <==\nbegin of 2\npast the gate\n"), "{out}");
    assert_eq!(out.matches("begin of 1").count(), 1, "{out}");
    assert!(err.contains("attempt 1 failed"), "{err}");
    assert!(err.ends_with("task 0 is succeeded; `launchpad logs r 0` prints the whole logs\n"), "{err}");

    let events: Vec<Value> =
        programs.printed("out").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = events
        .iter()
        .filter(|event| event["event"] == "output" && event["log"] == "command.stdout")
        .map(|event| event["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "begin of 1\npast the gate\nbegin of 2\npast the gate\n");
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["state"]), (&"state".into(), &"succeeded".into()));

    // A task that has ended is shown whole.
    let whole = lab.launchpad(&["logs", "r", "0", "-f"]);
    assert_eq!(whole.code, 0, "{}", whole.stderr);
    assert!(whole.stdout.starts_with("==> command.stdout (exit 0 after "), "{}", whole.stdout);
    let removed = lab.launchpad(&["remove", "r", "--yes"]);
    assert_eq!(removed.code, 0, "{}", removed.stderr);
    assert!(!has_live_key(&lab).await);
}

#[tokio::test]
async fn output_is_told_only_to_those_who_ask_and_ctrl_c_leaves_the_task_alone() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab);
    let mut worker = lab.worker("w", &["--run", "r", "--exit-when", "drained"]);
    let log = eventually("the driver prints", || async {
        let logs = walk(&lab.path("scratch"));
        let log = logs.into_iter().find(|path| path.ends_with("logs/command.stdout"));
        log.filter(|log| fs::metadata(log).unwrap().len() > 0).ok_or("nothing yet")
    })
    .await;
    // Some heartbeats later nothing was told.
    lab.until_lease_clock("r", 1000).await;
    assert!(!has_live_key(&lab).await, "{}", log.display());

    let mut follower = Follower::start(&lab, "f", &[]);
    follower.until_printed("out", "begin of 1\n").await;
    assert!(has_live_key(&lab).await);
    kill(Pid::from_raw(i32::try_from(follower.child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(follower.left().await, 0);
    assert!(follower.printed("err").ends_with("no longer following task 0; it goes on\n"));
    remove(&lab.path("gate1"));
    remove(&lab.path("gate2"));
    assert_eq!(worker.left().await, 0);
    assert_eq!(lab.progress("r").await.succeeded, 1);
}

/// All files below a folder.
fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
