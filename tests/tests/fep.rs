//! The engine `gromacs-fep` with the real programs, end to end: launchpad, Redis, a store, workers, GROMACS, acpype and alchemlyb.
//! `scripts/mmgbsa-venv` installs what Debian lacks; `./test` calls it.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::task::{AttemptRecord, FepOptions, Row, Shard, State, Verdict};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tests::{Lab, Programs};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};
/// Windows of a molecule.
const WINDOWS: u64 = 13;
/// The shortest settings that give methane's free energy whatever the seed: 13 windows of 10 ps in a box of 665 atoms.
const SHORT: &str = "engine = 'gromacs-fep'\n[options]\nwindows = 13\nwindow_ps = 10\ndiscard_ps = 1\nequilibration_ps = 20\nbox_nm = 2\n";

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

#[tokio::test(flavor = "multi_thread")]
async fn methane_has_its_free_energy_of_hydration_and_a_salt_costs_only_itself() {
    let lab = lab().await;
    push(&lab, "water", "C methane\n[Na+].[Cl-] salt\n", SHORT);
    let waiting = lab.progress("water").await;
    assert_eq!((waiting.total, waiting.waiting, waiting.pending), (28, 2, 26));
    let manifest = fs::read_to_string(lab.object("water", "manifest.csv")).unwrap();
    assert!(
        manifest.contains("\n12,methane,C,,,,window,0,12,1\n13,methane,C,,,,reduction,0,,1\n"),
        "{manifest}"
    );

    let mut worker = lab.worker("w", &["--run", "water", "--cores", "2", "--exit-when", "drained"]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let (methane, cells) = row(&lab, "water", WINDOWS);
    let number = |cell: &str| cell.parse::<f64>().unwrap_or_else(|_| panic!("{methane:?}"));
    // Experiment 2.00 ± 0.20, long simulations with these force fields 2.6 kcal/mol.
    for value in [&methane.score, &cells["mbar"]] {
        assert!((1.3..=2.6).contains(&number(value)), "{methane:?}");
    }
    assert!(number(&cells["error"]) > 0.0 && number(&cells["overlap_min"]) > 0.3, "{methane:?}");
    assert_eq!(cells["steps"].split(' ').count(), 12);

    // All windows started from one box, and are parts of one molecule.
    for task in 0..WINDOWS {
        let (window, of_window) = row(&lab, "water", task);
        assert_eq!((window.verdict, window.score.as_str()), (Verdict::Ok, ""), "{window:?}");
        assert_eq!(of_window["setup_sha256"], cells["setup_sha256"]);
        assert_eq!(of_window["samples"], "201");
    }
    let setup = fs::read(lab.object("water", "groups/0000000/setup.tar")).unwrap();
    assert_eq!(common::digest::sha256_hex(&setup), cells["setup_sha256"]);
    let record = fs::read(attempts(&lab, "water", 12)[0].join("attempt.json")).unwrap();
    let record: AttemptRecord = serde_json::from_slice(&record).unwrap();
    let names: Vec<&str> = record.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["window", "energies"], "the last window found the set-up");

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
    let failure = common::queue::Failure { reason: "input_refused", is_final: true, tail: "", jitter_ppm: 0 };
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
            "dhdl_every": 25, "energy_every": 500, "frame_every": 500, "checkpoint_minutes": 0.005, "threads": 1,
            "molecules": [{ "index": 0, "id": "methane", "smiles": "C", "seed": 7 }],
        });
        fs::write(folder.join("task.json"), task.to_string()).unwrap();
        Self { folder, path: format!("{}:/usr/bin:/bin", bin.display()) }
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
            .env("PATH", &self.path);
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
        let log = fs::read_to_string(self.folder.join(format!("{step}.log"))).unwrap();
        let refused = self.folder.join("fep/refused.json");
        assert!(status.success() && !refused.exists(), "{step}: {log}");
    }

    /// Runs the window until it has a checkpoint, and ends its whole group by a signal.
    async fn cut(&self, signal: Signal) {
        let mut child = self.start("window");
        let checkpoint = self.folder.join("window/window.cpt");
        tests::eventually(
            "a checkpoint",
            async || {
                if checkpoint.is_file() { Ok(()) } else { Err("there is none") }
            },
        )
        .await;
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
        killpg(group, signal).unwrap();
        child.wait().unwrap();
        tests::eventually("the end of the group", async || {
            if killpg(group, None).is_err() { Ok(()) } else { Err("it is there") }
        })
        .await;
        assert!(!self.folder.join("window/window.gro").exists(), "it was cut before its end");
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join("window").join(name)).unwrap()
    }

    /// The rows of the samples: the head has the date.
    fn rows(&self) -> String {
        let text = String::from_utf8(self.file("dhdl.xvg")).unwrap();
        text.lines().filter(|line| !line.starts_with(['#', '@'])).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_cut_goes_on_to_the_same_bytes() {
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
    let same = |driver: &Driver, goes_on: bool| {
        assert_eq!(log_of(driver).contains("Restarting from checkpoint"), goes_on);
        for name in ["window.xtc", "window.edr"] {
            assert!(driver.file(name) == quiet.file(name), "{name} of {}", driver.folder.display());
        }
        assert_eq!(driver.rows(), quiet.rows());
        assert_eq!(quiet.rows().lines().count(), 201);
    };
    for (name, signal) in [("killed", Signal::SIGKILL), ("told", Signal::SIGTERM)] {
        let driver = copy(name);
        driver.cut(signal).await;
        driver.run("window");
        same(&driver, true);
    }
    // A checkpoint that was cut off: the one before it is used, or none.
    let driver = copy("torn");
    driver.cut(Signal::SIGKILL).await;
    let checkpoint = driver.folder.join("window/window.cpt");
    let whole = fs::read(&checkpoint).unwrap();
    fs::write(driver.folder.join("window/window_prev.cpt"), &whole).unwrap();
    fs::write(&checkpoint, &whole[..whole.len() / 2]).unwrap();
    driver.run("window");
    same(&driver, true);
    // Without a file that mdrun appends to, or on another number of threads, there is nothing to go on from.
    let bare = copy("bare");
    bare.cut(Signal::SIGKILL).await;
    fs::remove_file(bare.folder.join("window/window.edr")).unwrap();
    let other = copy("other");
    other.cut(Signal::SIGKILL).await;
    let log = log_of(&other).replace("Using 1 OpenMP thread", "Using 2 OpenMP threads");
    fs::write(other.folder.join("window/window.log"), log).unwrap();
    for driver in [bare, other] {
        driver.run("window");
        same(&driver, false);
    }
}
