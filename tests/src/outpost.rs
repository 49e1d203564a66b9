//! A folder with a store, from which launchpad and workers reach a Redis that a test describes by environment variables. Its engine is
//! a small driver that can be held up at a gate. Holds no assertion of its own beyond "the program did what it was told".

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::{LabWorker, Programs, Ran, eventually};

/// A driver that counts letters. It notes its process id, says that it counts, has a checkpoint if there is a file `keep`, waits while the
/// gate is closed, and fails while there is a file `crash`.
const DRIVER: &str = r#"
import csv, json, os, time
with open("NOTES", "a") as notes:
    notes.write(f"{os.getpid()}\n")
print("counting", flush=True)
if os.path.exists("KEEP"):
    for name, text in ("progress", "1/2"), ("state", "half"):
        with open(os.environ["MOLFLEET_CHECKPOINT_DIR"] + "/" + name, "w") as file:
            file.write(text)
while os.path.exists("GATE"):
    time.sleep(0.02)
if os.path.exists("CRASH"):
    raise SystemExit(1)
task = json.load(open("task.json"))
with open(task["rows"], "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["molecule_id", "letters"])
    for molecule in task["molecules"]:
        rows.writerow([molecule["id"], sum(map(str.isalpha, molecule["smiles"]))])
"#;

/// A place to work from.
#[derive(Debug)]
pub struct Outpost {
    programs: Programs,
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
}

impl Outpost {
    /// A place whose programs find these variables in their environment.
    pub fn new(programs: Programs, environment: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("molfleet outpost ").tempdir().unwrap();
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let post = Self { programs, folder, environment };
        let shown = |name: &str| post.path(name).display().to_string();
        let driver = DRIVER
            .replace("NOTES", &shown("notes"))
            .replace("KEEP", &shown("keep"))
            .replace("GATE", &shown("gate"))
            .replace("CRASH", &shown("crash"));
        fs::write(post.path("count.py"), driver).unwrap();
        post
    }

    /// The same place for somebody with another environment.
    pub fn with(&mut self, environment: &[(&'static str, &str)]) -> &mut Self {
        for (name, value) in environment {
            self.environment.retain(|(known, _)| known != name);
            self.environment.push((name, (*value).to_owned()));
        }
        self
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The URL of its store.
    pub fn store_url(&self) -> String {
        url::Url::from_file_path(self.path("store")).unwrap().into()
    }

    /// Closes the gate: drivers wait.
    pub fn close_gate(&self) {
        fs::write(self.path("gate"), "").unwrap();
    }

    /// Opens it.
    pub fn open_gate(&self) {
        fs::remove_file(self.path("gate")).unwrap();
    }

    /// Waits until this many drivers have been started, and gives their process ids.
    pub async fn until_started(&self, drivers: usize) -> Vec<u32> {
        eventually(&format!("{drivers} drivers"), || async {
            let notes = fs::read_to_string(self.path("notes")).unwrap_or_default();
            let pids: Vec<u32> = notes.lines().filter_map(|line| line.parse().ok()).collect();
            if pids.len() >= drivers { Ok(pids) } else { Err(pids) }
        })
        .await
    }

    fn command(&self, program: &str) -> Command {
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("NO_COLOR", "1").env("MOLFLEET_STORE", self.store_url()).envs(self.environment.clone());
        command
    }

    /// A launchpad that a test starts by itself.
    pub fn launchpad_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(self.programs.launchpad);
        command.args(arguments);
        command
    }

    /// Runs launchpad to its end.
    pub fn launchpad(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.launchpad_command(arguments).output().unwrap())
    }

    /// The arguments of a push of this many molecules, one a task.
    pub fn push_arguments(&self, run: &str, molecules: usize) -> Vec<String> {
        let lines: Vec<String> =
            (1..=molecules).map(|n| format!("{} m{n}\n", "C".repeat(1 + n % 40))).collect();
        let ligands = self.path(&format!("{run}.smi"));
        fs::write(&ligands, lines.concat()).unwrap();
        let words = "--engine command --driver count.py --column letters --lease-ms 6000 --heartbeat-ms 1000 --backoff-ms 10 --confirm-after-ms 0";
        let mut arguments =
            vec!["push".to_owned(), ligands.display().to_string(), "--run".to_owned(), run.to_owned()];
        arguments.extend(words.split(' ').map(str::to_owned));
        arguments
    }

    /// Pushes this many molecules, one a task, and panics if that fails.
    pub fn push(&self, run: &str, molecules: usize) {
        let arguments = self.push_arguments(run, molecules);
        let ran = self.launchpad(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ran.code, 0, "push failed: {}", ran.stderr);
    }

    /// Starts a worker.
    pub fn worker(&self, name: &str, flags: &[&str]) -> LabWorker {
        let log = self.path(&format!("{name}.log"));
        let mut command = self.command(self.programs.worker);
        if !flags.contains(&"--cores") {
            command.args(["--cores", "1"]);
        }
        command.args(["--scratch-free-mib-min", "1", "--log", "debug", "--log-format", "json"]);
        command.args(["--grace-seconds", "2", "--scratch", "scratch", "--cache", "cache"]).args(flags);
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        LabWorker::start(command, log)
    }

    /// Consolidates a run, and panics if it is not complete.
    pub fn consolidate(&self, run: &str) {
        let table = format!("{run}.csv");
        let ran = self.launchpad(&["consolidate", run, "-o", &table]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    }

    /// A counter of a run, as `status --json` has it.
    pub fn counter(&self, run: &str, name: &str) -> Option<u64> {
        let ran = self.launchpad(&["status", run, "--json"]);
        let status: serde_json::Value = serde_json::from_str(&ran.stdout).ok()?;
        status[name].as_u64()
    }
}
