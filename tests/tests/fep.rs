//! The engine `gromacs-fep` with the real programs, end to end: launchpad, Redis, a store, workers, GROMACS, acpype and alchemlyb.
//! `scripts/mmgbsa-venv` installs what Debian lacks; `./test` calls it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::task::{AttemptRecord, FepOptions, Row, Shard, State, Verdict};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tests::{Lab, LabWorker, Programs, eventually, is_alive};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};
/// Windows of a molecule.
const WINDOWS: u64 = 13;
/// The shortest settings that give methane's free energy whatever the seed: 13 windows of 10 ps in a box of 665 atoms.
const SHORT: &str = "engine = 'gromacs-fep'\n[options]\nwindows = 13\nwindow_ps = 10\ndiscard_ps = 1\nequilibration_ps = 20\nbox_nm = 2\n\
                     [limits]\nlease_ms = 12000\nheartbeat_ms = 3000\n";
/// Steps of such a window.
const STEPS: u64 = 5_000;

/// A lab whose workers have the programs.
async fn lab() -> Lab {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.molfleet/mmgbsa");
    assert!(
        venv.join("molfleet-packages").is_file(),
        "`{}` is not there: `scripts/mmgbsa-venv .molfleet/mmgbsa` makes it, and ./test calls that",
        venv.display()
    );
    let mut lab = Lab::new(PROGRAMS).await;
    lab.install(venv.canonicalize().unwrap().join("bin"));
    lab
}

fn push(lab: &Lab, run: &str, molecules: &str, options: &str) {
    let (ligands, config) = (lab.write("molecules.smi", molecules), lab.write("run.toml", options));
    let (ligands, config) = (ligands.to_str().unwrap(), config.to_str().unwrap());
    let ran = lab.launchpad(&["push", ligands, "--run", run, "--config", config, "--confirm-after-ms", "0"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// The row of a task by its columns.
fn row(lab: &Lab, run: &str, task: u64) -> (Row, BTreeMap<String, String>) {
    let shard = fs::read(lab.object(run, &format!("shards/shard_{task:07}.csv"))).unwrap();
    let Shard { columns, mut rows, .. } = Shard::parse(&shard).unwrap();
    let row = rows.remove(0);
    let cells = columns.into_iter().zip(row.columns.clone()).collect();
    (row, cells)
}

/// The folders of a task's attempts, in the order of their leases.
fn attempts(lab: &Lab, run: &str, task: u64) -> Vec<PathBuf> {
    let entries = fs::read_dir(lab.object(run, &format!("attempts/{task:07}"))).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

/// A window in mid-air.
struct Frozen {
    task: u64,
    mdrun: Pid,
}

/// Stops an mdrun of a worker as soon as it has a checkpoint: on no machine it comes to its end before it is killed.
fn freeze(lab: &Lab, run: &str) -> Result<Frozen, &'static str> {
    let (scratch, attempts) = (lab.path("scratch"), format!("{run}-"));
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(folder) = fs::read_link(process.path().join("cwd")) else { continue };
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let is_mdrun = command.split(|byte| *byte == 0).any(|word| word == b"mdrun");
        let Ok(below) = folder.strip_prefix(&scratch) else { continue };
        if !is_mdrun || !folder.join("window.cpt").is_file() {
            continue;
        }
        let mdrun = Pid::from_raw(process.file_name().to_str().unwrap().parse().unwrap());
        // It may have ended just now.
        _ = kill(mdrun, Signal::SIGSTOP);
        let stat = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        if stat.contains(") T ") && !folder.join("window.gro").exists() {
            let attempt = below.iter().next().unwrap().to_str().unwrap();
            let (task, _lease) = attempt.strip_prefix(&attempts).unwrap().split_once('-').unwrap();
            return Ok(Frozen { task: task.parse().unwrap(), mdrun });
        }
        _ = kill(mdrun, Signal::SIGCONT);
    }
    Err("no mdrun has a checkpoint")
}

/// A worker for one task at a time, with a window that stands still and whose checkpoint is in the store.
async fn worker_in_a_window(lab: &Lab, name: &str, run: &str) -> (LabWorker, Frozen) {
    let pace = ["--checkpoint-seconds", "1", "--checkpoint-jitter-seconds", "0"];
    let patience = ["--grace-seconds", "30", "--leave-seconds-max", "50"];
    let mut worker = lab.worker(name, &[&["--run", run], &pace[..], &patience].concat());
    eventually("a set-up", || {
        assert_eq!(worker.has_left(), None, "{}", worker.last_words());
        let is_there = lab.object(run, "groups/0000000/setup.tar").is_file();
        async move { if is_there { Ok(()) } else { Err("there is none") } }
    })
    .await;
    let frozen = eventually("a window with a checkpoint", async || freeze(lab, run)).await;
    let task = frozen.task.to_string();
    worker
        .until_logged("a bundle", |line| {
            line["message"] == "checkpoint kept" && line["span"]["task_id"] == task.as_str()
        })
        .await;
    (worker, frozen)
}

/// How far a task is by its checkpoint, as a person is told.
fn kept_step(lab: &Lab, run: &str, task: u64) -> u64 {
    let shown = lab.launchpad(&["show", run, &task.to_string()]).stdout;
    let step =
        shown.split("; step ").nth(1).and_then(|rest| rest.split_once(&format!(" of {STEPS} is kept")));
    let (step, _) = step.unwrap_or_else(|| panic!("no step: {shown}"));
    step.parse().unwrap()
}

/// Whether a SIGTERM waits for a process that stands still.
fn is_told_to_end(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap_or("0");
    u64::from_str_radix(pending.trim(), 16).unwrap() & (1 << (Signal::SIGTERM as u32 - 1)) != 0
}

/// Cuts two windows of a run, each of another worker: one by -9, one by SIGTERM. Gives their tasks and how far each is.
async fn cut_two_windows(lab: &Lab, run: &str) -> [(u64, u64); 2] {
    let (mut worker, killed) = worker_in_a_window(lab, "killed", run).await;
    worker.kill9();
    eventually("the end of mdrun", async || {
        if is_alive(u32::try_from(killed.mdrun.as_raw()).unwrap()) { Err("it lives") } else { Ok(()) }
    })
    .await;
    let killed_at = kept_step(lab, run, killed.task);

    let (mut worker, told) = worker_in_a_window(lab, "told", run).await;
    let before = kept_step(lab, run, told.task);
    worker.signal(Signal::SIGTERM);
    eventually("mdrun is told to end", async || {
        if is_told_to_end(told.mdrun) { Ok(()) } else { Err(worker.last_words()) }
    })
    .await;
    kill(told.mdrun, Signal::SIGCONT).unwrap();
    assert_eq!(worker.left().await, 75, "{}", worker.last_words());
    let told_at = kept_step(lab, run, told.task);
    assert!(
        before < told_at && told_at < STEPS,
        "mdrun had no time for its last checkpoint: {before}, {told_at}: {}",
        worker.log()
    );
    let released = lab.task(run, told.task).await;
    assert_eq!((released.state, released.releases, released.failures), (State::Pending, 1, 0));
    [(killed.task, killed_at), (told.task, told_at)]
}

/// A file that the attempt kept that made a task's result.
fn kept(lab: &Lab, run: &str, task: u64, name: &str) -> Vec<u8> {
    let path = attempts(lab, run, task).pop().unwrap().join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Windows that were cut were gone on with, from where they were, and have the bytes of the same windows in a quiet run, which has the
/// set-up of theirs.
fn assert_as_if_never_cut(lab: &Lab, run: &str, cut: [(u64, u64); 2]) {
    push(lab, "quiet", "C methane\n", SHORT);
    let [from, to] = [run, "quiet"].map(|run| lab.object(run, "groups/0000000/setup.tar"));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
    let others = (0..WINDOWS).filter(|task| cut.iter().all(|(other, _)| other != task));
    let others: Vec<String> = others.flat_map(|task| ["--task".to_owned(), task.to_string()]).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let ran = lab.launchpad(&[&["cancel", "quiet", "--yes"], &others[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut worker = lab.worker("quiet", &["--run", "quiet", "--cores", "2", "--exit-when", "drained"]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());

    for (task, step) in cut {
        let text = |run, name| String::from_utf8(kept(lab, run, task, name)).unwrap();
        let said = text(run, "logs/window.stdout");
        assert!(said.contains(&format!("continuing from step {step},")), "{task} from {step}: {said}");
        for name in ["window/window.xtc", "window/window.edr", "window/window.gro"] {
            assert!(kept(lab, run, task, name) == kept(lab, "quiet", task, name), "{name} of task {task}");
        }
        let [rows, quiet] = [run, "quiet"].map(|run| rows(&text(run, "window/dhdl.xvg")));
        assert_eq!(rows, quiet);
        let [shard, quiet] = [run, "quiet"]
            .map(|run| fs::read(lab.object(run, &format!("shards/shard_{task:07}.csv"))).unwrap());
        assert_eq!(shard, quiet);
        // Twice for each bundle: of the worker that was told another pace, and of the run.
        let log = text(run, "window/window.log");
        let paces = ["-cpt 0.0083", "Restarting from checkpoint", "-cpt 5.0000"].map(|word| log.find(word));
        assert!(paces.iter().all(Option::is_some) && paces.is_sorted(), "{paces:?} in {log}");
    }
    let [_, (told, _)] = cut;
    let log = String::from_utf8(kept(lab, run, told, "window/window.log")).unwrap();
    assert!(log.contains("Received the TERM signal"), "{log}");
}

/// The rows of the samples: the head has the date.
fn rows(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with(['#', '@'])).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn methane_has_its_free_energy_though_two_windows_are_cut_and_a_salt_costs_only_itself() {
    let lab = lab().await;
    push(&lab, "water", "C methane\n[Na+].[Cl-] salt\n", SHORT);
    let waiting = lab.progress("water").await;
    assert_eq!((waiting.total, waiting.waiting, waiting.pending), (28, 2, 26));
    let manifest = fs::read_to_string(lab.object("water", "manifest.csv")).unwrap();
    assert!(
        manifest.contains("\n12,methane,C,,,,window,0,12,1\n13,methane,C,,,,reduction,0,,1\n"),
        "{manifest}"
    );

    let cut = cut_two_windows(&lab, "water").await;
    let mut worker = lab.worker("w", &["--run", "water", "--cores", "2", "--exit-when", "drained"]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let killed = lab.task("water", cut[0].0).await;
    assert!(killed.lapses > 0, "its lease ran out");
    assert_eq!((killed.state, killed.failures), (State::Succeeded, 0));
    assert_as_if_never_cut(&lab, "water", cut);
    assert_methane(&lab, "water");
    assert_reduced_without_mbar(&lab, "water");

    let (salt, _) = row(&lab, "water", 2 * WINDOWS + 1);
    assert_eq!((salt.verdict, salt.reason.as_str()), (Verdict::Bad, "several_fragments"));
    let progress = lab.progress("water").await;
    assert_eq!((progress.succeeded, progress.molecules_ok, progress.molecules_bad), (28, 1, 1));
    let table = lab.path("results.csv");
    let ran = lab.launchpad(&["consolidate", "water", "-o", table.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let table = fs::read_to_string(table).unwrap();
    assert_eq!(table.lines().count(), 3, "one row for each molecule: {table}");
    let ran = lab.launchpad(&["audit", "water"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let ran = lab.launchpad(&["remove", "water", "--outputs", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!lab.object("water", "groups/0000000/setup.tar").exists());
}

/// The free energy of the first molecule of a run, and the windows that it was made of.
fn assert_methane(lab: &Lab, run: &str) {
    let (methane, cells) = row(lab, run, WINDOWS);
    let number = |cell: &str| cell.parse::<f64>().unwrap_or_else(|_| panic!("{methane:?}"));
    // Experiment 2.00 ± 0.20, long simulations with these force fields 2.6 kcal/mol.
    for value in [&methane.score, &cells["mbar"]] {
        assert!((1.3..=2.6).contains(&number(value)), "{methane:?}");
    }
    assert!(number(&cells["error"]) > 0.0 && number(&cells["overlap_min"]) > 0.3, "{methane:?}");
    assert_eq!(cells["steps"].split(' ').count(), 12);

    // All windows started from one box, and are parts of one molecule.
    for task in 0..WINDOWS {
        let (window, of_window) = row(lab, run, task);
        assert_eq!((window.verdict, window.score.as_str()), (Verdict::Ok, ""), "{window:?}");
        assert_eq!(of_window["setup_sha256"], cells["setup_sha256"]);
        assert_eq!(of_window["samples"], "201");
    }
    let setup = fs::read(lab.object(run, "groups/0000000/setup.tar")).unwrap();
    assert_eq!(common::digest::sha256_hex(&setup), cells["setup_sha256"]);
    let record: AttemptRecord = serde_json::from_slice(&kept(lab, run, 12, "attempt.json")).unwrap();
    let names: Vec<&str> = record.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["window", "energies"], "the last window found the set-up");
}

/// The driver reduces the same windows where alchemlyb is not installed.
fn assert_reduced_without_mbar(lab: &Lab, run: &str) {
    let mut driver = Driver::new(lab, "without mbar");
    for task in 0..WINDOWS {
        let folder = driver.folder.join(format!("windows/{task:03}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("dhdl.xvg"), kept(lab, run, task, "window/dhdl.xvg")).unwrap();
    }
    fs::write(driver.folder.join("alchemlyb.py"), "raise ImportError('not on this machine')\n").unwrap();
    driver.told.push(("PYTHONPATH", driver.folder.display().to_string()));
    driver.run("reduce");
    assert!(driver.said("reduce").contains("no MBAR: not on this machine"), "{}", driver.said("reduce"));
    let reduction = fs::read_to_string(driver.folder.join("fep/reduction.json")).unwrap();
    let reduction: serde_json::Value = serde_json::from_str(&reduction).unwrap();
    assert_eq!((reduction.get("mbar"), reduction.get("mbar_error")), (None, None), "{reduction}");
    let (methane, cells) = row(lab, run, WINDOWS);
    let three = |number: &serde_json::Value| format!("{:.3}", number.as_f64().unwrap());
    assert_eq!(
        [three(&reduction["bar"]), three(&reduction["bar_error"])],
        [methane.score, cells["error"].clone()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_dies_takes_its_molecule_along_and_comes_back_with_it() {
    let lab = Lab::new(PROGRAMS).await;
    // No program of the engine is there, so every window fails for good at once.
    let driver = lab.write("broken.py", "import sys\nsys.exit(65)\n");
    let options =
        format!("engine = 'gromacs-fep'\n[options]\nwindows = 4\ndriver = '{}'\n", driver.display());
    push(&lab, "broken", "C methane\n", &options);
    let queue = lab.queue();
    let run = tests::run_id("broken");
    let digest = queue.run_info(&run).await.unwrap().digest;
    let worker = "w1".parse().unwrap();
    let leased = queue.lease(&run, &digest, &worker, 1, 9).await.unwrap();
    let common::queue::LeaseReply::Granted { grants, .. } = leased else { panic!("{leased:?}") };
    assert_eq!(grants.len(), 4, "the reduction waits");
    let failure = common::queue::Failure {
        reason: "input_refused",
        charge: common::queue::Charge::LastFailure,
        tail: "",
        jitter_ppm: 0,
    };
    queue.fail(&run, grants[2].task, &grants[2].lease, &failure).await.unwrap();
    let reduction = lab.task("broken", 4).await;
    assert_eq!((reduction.state, reduction.reason.as_deref()), (State::Dead, Some("needed_task_dead")));
    let ran = lab.launchpad(&["retry", "broken"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(lab.task("broken", 4).await.state, State::Waiting);
    assert_eq!(lab.progress("broken").await.dead, 0);
    let ran = lab.launchpad(&["cancel", "broken", "--yes"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let progress = lab.progress("broken").await;
    assert_eq!((progress.cancelled, progress.waiting), (5, 0));
}

/// The driver by itself, in a folder of its own.
struct Driver {
    folder: PathBuf,
    path: String,
    /// What its environment has beside the `PATH`.
    told: Vec<(&'static str, String)>,
}

impl Driver {
    fn new(lab: &Lab, name: &str) -> Self {
        let bin =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../.molfleet/mmgbsa/bin").canonicalize().unwrap();
        let folder = lab.path(name);
        fs::create_dir_all(&folder).unwrap();
        let (coulomb, vdw) = FepOptions::schedule(13).unwrap();
        let task = serde_json::json!({
            "window": 5, "lambdas_coulomb": coulomb, "lambdas_vdw": vdw, "charges": "bcc", "window_steps": 5000,
            "equilibration_steps": 2500, "discard_ps": 1, "box_nm": 2, "cutoff_nm": 0.9, "temperature_k": 298.15,
            "dhdl_every": 25, "energy_every": 500, "frame_every": 500, "threads": 1,
            "molecules": [{ "index": 0, "id": "methane", "smiles": "C", "seed": 7 }],
        });
        fs::write(folder.join("task.json"), task.to_string()).unwrap();
        let told = vec![("MOLFLEET_CHECKPOINT_SECONDS", "1".to_owned())];
        Self { folder, path: format!("{}:/usr/bin:/bin", bin.display()), told }
    }

    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    fn start(&self, step: &str) -> Child {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../drivers/gromacs_fep.py");
        let log = fs::File::create(self.folder.join(format!("{step}.log"))).unwrap();
        let mut command = Command::new("python3");
        command
            .arg(driver.canonicalize().unwrap())
            .arg(step)
            .current_dir(&self.folder)
            .env_remove("MOLFLEET_GPU")
            .env("PATH", &self.path)
            .envs(self.told.iter().map(|(name, value)| (*name, value)));
        command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn run(&self, step: &str) {
        let status = self.start(step).wait().unwrap();
        assert!(status.success() && !self.has_refused(), "{step}: {}", self.said(step));
    }

    /// What a step printed.
    fn said(&self, step: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{step}.log"))).unwrap()
    }

    fn has_refused(&self) -> bool {
        self.folder.join("fep/refused.json").exists()
    }

    /// Runs the window until it has a checkpoint, and kills its whole group.
    async fn cut(&self) {
        let mut child = self.start("window");
        let checkpoint = self.folder.join("window/window.cpt");
        eventually("a checkpoint", async || if checkpoint.is_file() { Ok(()) } else { Err("there is none") })
            .await;
        end(&mut child, Signal::SIGKILL).await;
        assert!(!self.folder.join("window/window.gro").exists(), "it was cut before its end");
    }

    /// Runs the window, and ends its whole group once that has had so much processor time; or it comes to its end before.
    async fn cut_after(&self, ticks: u64, signal: Signal) {
        let mut child = self.start("window");
        let group = group_of(&child);
        eventually(&format!("{ticks} ticks of processor time"), async || {
            let spent = spent(group);
            if spent >= ticks || self.folder.join("window/window.gro").exists() { Ok(()) } else { Err(spent) }
        })
        .await;
        end(&mut child, signal).await;
        assert!(!self.has_refused(), "{signal} after {ticks} ticks: {}", self.said("window"));
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join("window").join(name)).unwrap()
    }

    fn rows(&self) -> String {
        rows(&String::from_utf8(self.file("dhdl.xvg")).unwrap())
    }
}

fn group_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// The processor time that the living processes of a group have had, in ticks of 10 ms.
fn spent(group: Pid) -> u64 {
    let stats = fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let ticks = stats.filter_map(|stat| {
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        // Fields 5, 14 and 15 of proc(5), of which two stand before the bracket.
        (fields.get(2)?.parse() == Ok(group.as_raw())).then(|| Some(number(11)? + number(12)?))?
    });
    ticks.sum()
}

/// Sends a signal to a group, and waits for the end of all of it. The leader may have ended before.
async fn end(leader: &mut Child, signal: Signal) {
    let group = group_of(leader);
    _ = killpg(group, signal);
    leader.wait().unwrap();
    eventually("the end of the group", async || {
        if killpg(group, None).is_err() { Ok(()) } else { Err("it is there") }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_goes_on_from_what_is_whole_or_starts_again_to_the_same_bytes() {
    let lab = lab().await;
    let quiet = Driver::new(&lab, "quiet");
    for step in ["solute", "solvate", "relax", "equilibrate", "pack", "window"] {
        quiet.run(step);
    }
    let copy = |name: &str| {
        let driver = Driver::new(&lab, name);
        fs::copy(quiet.folder.join("setup.tar"), driver.folder.join("setup.tar")).unwrap();
        driver
    };
    let log_of = |driver: &Driver| fs::read_to_string(driver.folder.join("window/window.log")).unwrap();
    let same_bytes = |driver: &Driver| {
        for name in ["window.xtc", "window.edr"] {
            assert!(driver.file(name) == quiet.file(name), "{name} of {}", driver.folder.display());
        }
        assert_eq!(driver.rows(), quiet.rows());
        assert_eq!(quiet.rows().lines().count(), 201);
    };
    let same = |driver: &Driver, goes_on: bool, said: &str| {
        assert!(driver.said("window").contains(said), "{said}: {}", driver.said("window"));
        assert_eq!(log_of(driver).contains("Restarting from checkpoint"), goes_on);
        same_bytes(driver);
    };
    // A checkpoint that was cut off: the one before it is used, or none.
    let driver = copy("torn");
    driver.cut().await;
    let checkpoint = driver.folder.join("window/window.cpt");
    let whole = fs::read(&checkpoint).unwrap();
    fs::write(driver.folder.join("window/window_prev.cpt"), &whole).unwrap();
    fs::write(&checkpoint, &whole[..whole.len() / 2]).unwrap();
    driver.run("window");
    same(&driver, true, "window.cpt can't be used: gmx dump ended with 1");
    // Without a file that mdrun appends to, or on another number of threads, there is nothing to go on from.
    let refused = "it can't go on from the checkpoint: ";
    let bare = copy("bare");
    bare.cut().await;
    fs::remove_file(bare.folder.join("window/window.edr")).unwrap();
    let other = copy("other");
    other.cut().await;
    let log = log_of(&other).replace("Using 1 OpenMP thread", "Using 2 OpenMP threads");
    fs::write(other.folder.join("window/window.log"), log).unwrap();
    for (driver, why) in
        [(bare, "there is no window.edr"), (other, "it was made with 2 threads (expected 1)")]
    {
        driver.run("window");
        same(&driver, false, &format!("{refused}{why}\n"));
    }
    assert!(!quiet.said("window").contains(refused), "it had none");
    // Ended again and again, wherever it is by then: in Python, while a checkpoint is read or written, in the dynamics.
    let often = copy("often");
    let moments: Vec<u64> = (0..6).map(|cut| rand::random_range(cut * 30..(cut + 1) * 30)).collect();
    for (cut, ticks) in moments.iter().enumerate() {
        often.cut_after(*ticks, [Signal::SIGKILL, Signal::SIGTERM][cut % 2]).await;
    }
    often.run("window");
    println!("ended after ticks of 10 ms: {moments:?}");
    same_bytes(&often);
}

/// A stand-in for `gmx`, since no machine need have a GPU.
fn stub_gmx(driver: &mut Driver, script: &str) {
    let stubs = driver.folder.join("stubs");
    fs::create_dir(&stubs).unwrap();
    fs::write(stubs.join("gmx"), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(stubs.join("gmx"), Permissions::from_mode(0o755)).unwrap();
    driver.path = format!("{}:/usr/bin:/bin", stubs.display());
}

#[tokio::test]
async fn mdrun_computes_on_the_gpu_of_its_task_and_on_the_cpu_without_one() {
    let lab = Lab::new(PROGRAMS).await;
    for (name, gpu, device) in [
        ("with", Some(("MOLFLEET_GPU", "GPU-5c1f3b0e")), " -nb gpu -gpu_id 0"),
        ("without", None, " -nb cpu"),
    ] {
        let mut driver = Driver::new(&lab, name);
        stub_gmx(&mut driver, "echo \"$*\" >> calls");
        driver.told.extend(gpu.map(|(name, value)| (name, value.to_owned())));
        driver.run("relax");
        let calls = fs::read_to_string(driver.folder.join("fep/calls")).unwrap();
        let mdrun = calls.lines().find(|call| call.contains(" mdrun ")).unwrap();
        assert!(mdrun.contains("-ntmpi 1 -ntomp 1") && mdrun.ends_with(device), "{mdrun}");
    }
}

/// Of an mdrun that somebody else told to end, such as the system when it goes down: it exits 1, as after an error of its own.
#[tokio::test]
async fn an_mdrun_that_is_told_to_end_from_elsewhere_condemns_no_molecule() {
    let lab = Lab::new(PROGRAMS).await;
    for (name, said, exit, is_refused) in [
        ("told", "Received the TERM signal, stopping within 20 steps", 1, false),
        ("interrupted", "Received the INT signal, stopping within 20 steps", 1, false),
        ("failed", "Error: atoms fly apart", 0, true),
    ] {
        let mut driver = Driver::new(&lab, name);
        stub_gmx(&mut driver, &format!("case \"$*\" in *\" mdrun \"*) echo '{said}'; exit 1 ;; esac"));
        assert_eq!(
            driver.start("relax").wait().unwrap().code(),
            Some(exit),
            "{name}: {}",
            driver.said("relax")
        );
        assert_eq!(driver.has_refused(), is_refused, "{name}: {}", driver.said("relax"));
    }
}

/// Holds the driver's overlap against that of two Gaussians of width 1, `(n₀ + n₁) ∫ p₀ p₁ / (n₀ p₀ + n₁ p₁)`, by a sum over x. It is
/// 0.796, 0.450 and 0.069 for 1, 2 and 4 between them. Samples are quantiles, so nothing is random.
const OVERLAP_OF_GAUSSIANS: &str = r"
import gromacs_fep, math, statistics
def density(x, mean):
    return math.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi)
def exactly(apart, ratio):
    points = [-12 + step / 100 for step in range(2400 + 100 * apart)]
    pairs = [(density(x, 0), density(x, apart)) for x in points]
    return (1 + ratio) * sum(p * q / (p + ratio * q) for p, q in pairs if p + q > 0) / 100
def quantiles(mean, count):
    return [statistics.NormalDist(mean).inv_cdf((n + 0.5) / count) for n in range(count)]
for apart, ratio in ((0, 1), (1, 1), (2, 1), (4, 1), (2, 4)):
    # Of two harmonic wells at 0 and `apart`, in kT, and with a free energy between them that changes nothing.
    forward, backward = [
        [(x - apart) ** 2 / 2 - x**2 / 2 + 3 for x in quantiles(mean, count)]
        for mean, count in ((0, 2000), (apart, 2000 * ratio))
    ]
    found, expected = gromacs_fep.overlap(forward, backward), exactly(apart, ratio)
    assert abs(found - expected) < 0.002, (apart, ratio, found, expected)
assert gromacs_fep.overlap([800.0, 810.0], [-800.0, -810.0]) < 1e-9
";

#[test]
fn the_overlap_of_two_windows_is_that_of_two_gaussians() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = start_python(OVERLAP_OF_GAUSSIANS, folder.path());
    assert!(child.wait().unwrap().success());
}

/// What both drivers of GROMACS have in common.
const DRIVERS: [&str; 2] = ["gromacs_fep", "gromacs_mmgbsa"];

#[test]
fn a_driver_whose_program_is_killed_ends_by_the_same_signal() {
    let folder = tempfile::tempdir().unwrap();
    for (driver, signal) in
        DRIVERS.into_iter().flat_map(|driver| [(driver, Signal::SIGKILL), (driver, Signal::SIGSEGV)])
    {
        let program = format!("kill -{} $$", signal as i32);
        let mut child = start_python(
            &format!("import {driver}\n{driver}.run(['sh', '-c', '{program}'], '.')"),
            folder.path(),
        );
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32), "{driver}");
    }
}

/// mdrun tells of its last checkpoint before it has written it, and SIGTERM comes to all at once.
#[tokio::test]
async fn a_driver_reads_on_while_a_program_that_was_told_to_end_does_so() {
    for driver in DRIVERS {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let program = "trap 'touch told; until [ -e go ]; do echo it ends; sleep 0.01; done; touch whole; exit 1' TERM\n\
                       touch started; while :; do sleep 0.01; done";
        fs::write(path("program"), program).unwrap();
        let mut child =
            start_python(&format!("import {driver}\n{driver}.run(['sh', 'program'], '.')"), folder.path());
        let is_there = async |name: &str| {
            eventually(name, async || if path(name).exists() { Ok(()) } else { Err("not yet") }).await;
        };
        is_there("started").await;
        killpg(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        is_there("told").await;
        fs::write(path("go"), "").unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32), "{driver}");
        assert!(path("whole").exists(), "{driver}: the program was cut off");
    }
}

/// Python in a folder and a group of its own, with the drivers as modules.
#[expect(clippy::disallowed_methods, reason = "tests start programs")]
fn start_python(script: &str, folder: &Path) -> Child {
    let drivers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../drivers");
    let mut command = Command::new("python3");
    command
        .args(["-c", script])
        .current_dir(folder)
        .env("PYTHONPATH", drivers)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).spawn().unwrap()
}
