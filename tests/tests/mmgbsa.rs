//! The engine `gromacs-mmgbsa` with the real programs, end to end: launchpad, Redis, a store, a worker, GROMACS, acpype, AmberTools and
//! gmx_MMPBSA. `scripts/mmgbsa-venv` installs what Debian lacks; `./test` calls it.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::digest::sha256_hex;
use common::task::{AttemptRecord, Row, Shard, State, Verdict};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tests::{Lab, LabWorker, Programs, eventually};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// Two ions, near where the ligands are.
const SALT: &str = "salt\n\n\n  2  0  0  0  0  0  0  0  0  0999 V2000\n   \
    42.3000   45.4000   18.2000 Na  0  0  0  0  0  0  0  0  0  0  0  0\n   \
    44.8000   45.4000   18.2000 Cl  0  0  0  0  0  0  0  0  0  0  0  0\n\
    M  CHG  2   1   1   2  -1\nM  END\n$$$$\n";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn pose(file: &str) -> String {
    let record = fs::read_to_string(project("examples/t4l-l99a").join(file)).unwrap();
    // The only record of a file need not have its end.
    format!("{}\n$$$$\n", record.trim_end().trim_end_matches("$$$$").trim_end())
}

/// A lab whose workers have the programs.
async fn lab() -> Lab {
    let venv = project(".molfleet/mmgbsa");
    assert!(
        venv.join("molfleet-packages").is_file(),
        "`{}` is not there: `scripts/mmgbsa-venv .molfleet/mmgbsa` makes it, and ./test calls that",
        venv.display()
    );
    let mut lab = Lab::new(PROGRAMS).await;
    lab.install(venv.canonicalize().unwrap().join("bin"));
    lab
}

/// The residues of a helix beside the pocket: little enough to compute with for a test of how, not of what.
fn helix() -> String {
    let receptor = fs::read_to_string(project("examples/t4l-l99a/receptor.pdb")).unwrap();
    let residue = |line: &str| line.get(22..26).and_then(|number| number.trim().parse::<u32>().ok());
    let atoms = receptor.lines().filter(|line| line.starts_with("ATOM"));
    let atoms = atoms.filter(|line| residue(line).is_some_and(|number| (98..=108).contains(&number)));
    atoms.flat_map(|line| [line, "\n"]).collect()
}

/// A record of benzene with its atoms in the opposite order, 0.1 Å along x.
fn moved(record: &str) -> String {
    let mut lines: Vec<String> = record.lines().map(str::to_owned).collect();
    let number = |text: &str| text.trim().parse::<usize>().unwrap();
    let (atoms, bonds) = (number(&lines[3][..3]), number(&lines[3][3..6]));
    lines[4..4 + atoms].reverse();
    for line in &mut lines[4..4 + atoms] {
        let x: f64 = line[..10].trim().parse().unwrap();
        *line = format!("{:10.4}{}", x + 0.1, &line[10..]);
    }
    for line in &mut lines[4 + atoms..4 + atoms + bonds] {
        let end = |text: &str| atoms + 1 - number(text);
        *line = format!("{:3}{:3}{}", end(&line[..3]), end(&line[3..6]), &line[6..]);
    }
    "moved".clone_into(&mut lines[0]);
    lines.join("\n") + "\n"
}

/// Pushes molecules in tasks of ten.
fn push(lab: &Lab, run: &str, molecules: &str, options: &str) {
    let extension = if molecules.contains("$$$$") { "sdf" } else { "smi" };
    let ligands = lab.write(&format!("{run}.{extension}"), molecules);
    let config = lab.write(&format!("{run}.toml"), &format!("engine = 'gromacs-mmgbsa'\n{options}"));
    let (ligands, config) = (ligands.to_str().unwrap(), config.to_str().unwrap());
    let ran = lab.launchpad(&["push", ligands, "--run", run, "--config", config, "--confirm-after-ms", "0"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// Options of a run with the whole receptor.
fn lysozyme(options: &str) -> String {
    let receptor = project("examples/t4l-l99a/receptor.pdb");
    format!("batch_size = 10\n[options]\nreceptor = '{}'\n{options}", receptor.display())
}

/// The same with the helix alone.
fn helical(lab: &Lab, options: &str) -> String {
    format!("[options]\nreceptor = '{}'\n{options}", lab.write("helix.pdb", &helix()).display())
}

/// A row with its cells by column.
type Cells = (Row, BTreeMap<String, String>);

/// The rows of a run's first task.
fn rows(lab: &Lab, run: &str) -> Vec<Cells> {
    rows_of(lab, run, 0)
}

/// The rows of a task.
fn rows_of(lab: &Lab, run: &str, task: u64) -> Vec<Cells> {
    let shard = fs::read(lab.object(run, &format!("shards/shard_{task:07}.csv"))).unwrap();
    let Shard { columns, rows, score_unit } = Shard::parse(&shard).unwrap();
    assert_eq!(score_unit, "kcal/mol");
    let cells = |row: &Row| columns.iter().cloned().zip(row.columns.clone()).collect();
    rows.into_iter().map(|row| (row.clone(), cells(&row))).collect()
}

/// The records of a task's attempts, in the order of their leases.
fn records(lab: &Lab, run: &str, task: u64) -> Vec<AttemptRecord> {
    let attempts = fs::read_dir(lab.object(run, &format!("attempts/{task:07}"))).unwrap();
    let mut folders: Vec<PathBuf> = attempts.map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let record = |folder: PathBuf| serde_json::from_slice(&fs::read(folder.join("attempt.json")).ok()?).ok();
    folders.into_iter().filter_map(record).collect()
}

/// Has a worker do all of a run.
fn work(lab: &Lab, run: &str, flags: &[&str]) {
    let mut worker = lab.worker(run, &[&["--run", run, "--exit-when", "drained"], flags].concat());
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
}

fn score(row: &Row) -> f64 {
    assert_eq!(row.verdict, Verdict::Ok, "{row:?}");
    row.score.parse().unwrap()
}

/// How the step of that name ended, and which object has what it makes.
fn step<'a>(record: &'a AttemptRecord, name: &str) -> (&'a str, Option<&'a str>) {
    let step = record.steps.iter().find(|step| step.name == name);
    assert!(step.is_some(), "no {name}: {:?}", record.steps);
    let step = step.unwrap();
    (&step.ended, step.shared.as_deref())
}

/// An object that an attempt kept.
fn kept(lab: &Lab, run: &str, record: &AttemptRecord, name: &str) -> String {
    let file = record.files.iter().find(|file| file.object.ends_with(&format!("/{name}")));
    fs::read_to_string(lab.object(run, &file.unwrap().object)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn benzene_and_toluene_bind_to_t4_lysozyme_and_a_salt_costs_only_itself() {
    let lab = lab().await;
    let molecules = [pose("benzene.sdf"), SALT.to_owned(), pose("toluene.sdf")].concat();
    push(&lab, "batch", &molecules, &lysozyme("md_ps = 10\nframes = 10\n"));
    work(&lab, "batch", &[]);
    let scored = rows(&lab, "batch");
    let [(benzene, cells), (salt, _), (toluene, _)] = &scored[..] else { panic!("{scored:?}") };
    assert!((score(benzene) + 14.88).abs() <= 1.0, "{benzene:?}");
    assert!(score(toluene) < score(benzene), "{toluene:?}");
    assert_eq!((salt.verdict, salt.reason.as_str()), (Verdict::Bad, "several_fragments"));
    let cell = |name: &str| cells[name].as_str();
    assert_eq!((cell("charges"), cell("pose_smiles"), cell("solvent")), ("am1-bcc", "c1ccccc1", "vacuum"));
    assert!(cells["sd"].parse::<f64>().unwrap() > 0.0 && cells["sem"].parse::<f64>().unwrap() > 0.0);

    // Each step has its own time in the record.
    let record = records(&lab, "batch", 0).remove(0);
    let names: Vec<&str> = record.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names[..4], ["receptor", "pose_00000", "parameters_00000", "complex_00000"]);
    assert_eq!(names.len(), 1 + 7 + 1 + 7, "the salt was not gone on with: {names:?}");
    for program in ["gmx_MMPBSA", "acpype", "ambertools", "gromacs", "rdkit"] {
        assert!(record.provenance.versions.contains_key(program), "{:?}", record.provenance.versions);
    }
    let kept = |name: &str| record.files.iter().any(|file| file.object.ends_with(name));
    assert!(kept("mmgbsa/00000/energies.csv") && kept("mmgbsa/00002/md.gro") && kept("complex_00000.stdout"));

    // The worked example, and another pose: both have the parameters that stand in the store.
    let object = step(&record, "parameters_00000").1.unwrap();
    let example = [pose("benzene.sdf"), moved(&pose("benzene.sdf"))].concat();
    push(&lab, "example", &example, &lysozyme("md_ps = 1\nframes = 1\n"));
    work(&lab, "example", &[]);
    let scored = rows(&lab, "example");
    assert!((score(&scored[0].0) + 15.25).abs() <= 1.0, "{scored:?}");
    assert_eq!(scored[1].0.verdict, Verdict::Ok, "{scored:?}");
    let record = records(&lab, "example", 0).remove(0);
    for name in ["parameters_00000", "parameters_00001"] {
        assert_eq!(step(&record, name), ("shared", Some(object)));
    }
    for (_, other) in &scored {
        assert_eq!(other["parameters_sha256"], cells["parameters_sha256"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_made_once_and_none_is_believed_that_is_spoiled() {
    let lab = lab().await;
    let options = helical(&lab, "md_ps = 1\nframes = 1\n");
    let poses = [pose("benzene.sdf"), moved(&pose("benzene.sdf"))].concat();
    // Two tasks at once: one makes them, and the other one waits for it.
    push(&lab, "two", &poses, &options);
    work(&lab, "two", &["--cores", "2"]);
    let both = [0, 1].map(|task| records(&lab, "two", task).remove(0));
    let mut ended = both.each_ref().map(|record| step(record, "parameters_00000").0);
    ended.sort_unstable();
    assert_eq!(ended, ["exit 0", "shared"]);
    let [one, other] = both.each_ref().map(|record| step(record, "parameters_00000").1.unwrap());
    assert_eq!(one, other);

    // A torn object is left as it is, and another one stands beside it.
    let object = lab.store_folder().join(one);
    let whole = fs::read(&object).unwrap();
    let torn = &whole[..whole.len() / 2];
    fs::write(&object, torn).unwrap();
    let beside = format!("{}/1", one.rsplit_once('/').unwrap().0);
    for (run, expect) in [("again", "exit 0"), ("third", "shared")] {
        push(&lab, run, &pose("benzene.sdf"), &options);
        work(&lab, run, &[]);
        let record = records(&lab, run, 0).remove(0);
        assert_eq!(step(&record, "parameters_00000"), (expect, Some(beside.as_str())));
        assert_eq!(rows(&lab, run), rows(&lab, "two"), "wherever they come from");
    }
    assert_eq!(fs::read(&object).unwrap(), torn);
    assert_eq!(fs::read(lab.store_folder().join(beside)).unwrap(), whole);

    // Others for another model of charges.
    push(&lab, "rough", &pose("benzene.sdf"), &format!("{options}charges = 'gasteiger'\n"));
    work(&lab, "rough", &[]);
    let record = records(&lab, "rough", 0).remove(0);
    assert_eq!(step(&record, "parameters_00000").0, "exit 0");
    assert_ne!(rows(&lab, "rough")[0].1["parameters_sha256"], rows(&lab, "two")[0].1["parameters_sha256"]);
}

/// The real acpype of one host, which begins no sooner than that of another host, and whose output tells where it was made: as if the
/// processors of two hosts rounded differently.
const ACPYPE_OF_A_HOST: &str = r#"#!/bin/sh
echo "HOST" >> "BEGUN"
for look in $(seq 6000); do [ "$(wc -l < "BEGUN")" -ge 2 ] && break; sleep 0.1; done
"ACPYPE" "$@" || exit
echo "; made on HOST" >> LIG.acpype/LIG_GMX.itp
"#;

/// Two hosts, each with its own scratch and cache, work on the two tasks of a run, and begin the parameters at the same time. Gives the
/// records of both.
fn race(lab: &Lab, run: &str) -> [AttemptRecord; 2] {
    let acpype = project(".molfleet/mmgbsa/bin/acpype").canonicalize().unwrap();
    let begun = lab.path(&format!("{run}.begun"));
    let hosts = ["one", "other"].map(|host| {
        let of_host = |name: &str| lab.path(&format!("{host}/{name}"));
        fs::create_dir_all(of_host("bin")).unwrap();
        let script = ACPYPE_OF_A_HOST.replace("HOST", host).replace("BEGUN", &begun.display().to_string());
        fs::write(of_host("bin/acpype"), script.replace("ACPYPE", &acpype.display().to_string())).unwrap();
        fs::set_permissions(of_host("bin/acpype"), Permissions::from_mode(0o755)).unwrap();
        let [scratch, cache] = ["scratch", "cache"].map(|name| of_host(name).display().to_string());
        let flags = ["--run", run, "--exit-when", "drained", "--scratch", &scratch, "--cache", &cache];
        lab.worker_on(&of_host("bin"), &format!("{run}-{host}"), &flags)
    });
    for mut worker in hosts {
        assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    }
    let mut begun: Vec<String> = fs::read_to_string(begun).unwrap().lines().map(str::to_owned).collect();
    begun.sort_unstable();
    assert_eq!(begun, ["one", "other"], "both made them, each once");
    [0, 1].map(|task| records(lab, run, task).remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hosts_that_make_the_same_parameters_at_once_both_use_those_of_the_first() {
    let lab = lab().await;
    let options = helical(&lab, "md_ps = 1\nframes = 1\n");
    let poses = [pose("benzene.sdf"), moved(&pose("benzene.sdf"))].concat();
    let race = |run: &str, number: u32| {
        push(&lab, run, &poses, &options);
        let both = race(&lab, run);
        let [one, other] = both.each_ref().map(|record| step(record, "parameters_00000"));
        assert_eq!(one, other);
        let (ended, object) = (one.0, one.1.unwrap().to_owned());
        assert!(ended == "exit 0" && object.ends_with(&format!("/{number}")), "{one:?}");
        let stored = fs::read_to_string(lab.store_folder().join(&object)).unwrap();
        let (digest, parameters) = stored.split_once('\n').unwrap();
        assert_eq!(digest, sha256_hex(parameters.as_bytes()));
        assert_eq!(parameters.matches("; made on ").count(), 1, "{parameters}");
        for (task, record) in both.iter().enumerate() {
            assert!(kept(&lab, run, record, "parameters.itp") == parameters, "task {task} has its own");
            let (row, cells) = rows_of(&lab, run, task as u64).remove(0);
            assert_eq!((row.verdict, cells["parameters_sha256"].as_str()), (Verdict::Ok, digest));
        }
        object
    };
    let first = lab.store_folder().join(race("two", 0));
    // Neither uses an object that was torn: both make them again, and agree on another one.
    let whole = fs::read(&first).unwrap();
    let torn = &whole[..whole.len() / 2];
    fs::write(&first, torn).unwrap();
    let second = lab.store_folder().join(race("again", 1));
    assert_eq!(fs::read(&first).unwrap(), torn);
    let mut objects: Vec<_> =
        fs::read_dir(first.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    objects.sort();
    assert_eq!(objects, [first, second]);
}

/// Sends a signal to the `gmx` that runs.
fn signal_gmx(lab: &Lab, signal: Signal) {
    let processes = lab.processes();
    let (_, path) = processes.iter().find(|(name, _)| name == "gmx").unwrap();
    let pid = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

/// Whether a line of a worker's log tells of a bundle of the run `r` that holds a file of that name.
fn is_kept(lab: &Lab, line: &serde_json::Value, name: &str) -> bool {
    let holds = |object: &str| {
        let bundle = fs::read(lab.object("r", object)).unwrap_or_default();
        bundle.windows(name.len()).any(|found| found == name.as_bytes())
    };
    line["message"] == "checkpoint kept" && line["object"].as_str().is_some_and(holds)
}

/// Waits until the first molecule of an attempt has a file.
async fn until_left(lab: &Lab, worker: &LabWorker, name: &str) {
    eventually(&format!("a `{name}`"), async || {
        let folders = lab.scratch_folders();
        let of = |folder: &String| lab.path("scratch").join(folder).join("mmgbsa/00000").join(name);
        if folders.iter().any(|folder| of(folder).is_file()) { Ok(()) } else { Err(worker.last_words()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_in_the_middle_leave_nothing_running_and_change_no_byte() {
    let lab = lab().await;
    let options = helical(&lab, "md_ps = 150\nframes = 500\n");
    let limits = "[limits]\nlease_ms = 2400\nheartbeat_ms = 400\ncheckpoint_seconds = 1\ncheckpoint_jitter_seconds = 0\n";
    push(&lab, "r", &pose("benzene.sdf"), &format!("{options}{limits}"));
    // Killed in its dynamics, after a checkpoint got to the store.
    let mut first = lab.worker("first", &["--run", "r"]);
    first.until_logged("a checkpoint of the dynamics", |line| is_kept(&lab, line, "md.cpt")).await;
    assert!(lab.running().contains(&"gmx".to_owned()), "in the middle of the dynamics: {:?}", lab.running());
    first.kill9();
    lab.until_nothing_runs().await;
    // Told to leave in its dynamics.
    let mut second = lab.worker("second", &["--run", "r"]);
    lab.until_running(&second, "gmx").await;
    second.until_logged("a checkpoint", |line| line["message"] == "checkpoint kept").await;
    second.signal(Signal::SIGTERM);
    assert_eq!(second.left().await, 75, "{}", second.last_words());
    lab.until_nothing_runs().await;
    // Killed in its energies.
    let mut third = lab.worker("third", &["--run", "r"]);
    lab.until_running(&third, "sander").await;
    third.kill9();
    lab.until_nothing_runs().await;
    // Told to leave in its energies: `sander` is a grandchild of the step's program, and ends with it.
    let mut fourth = lab.worker("fourth", &["--run", "r"]);
    lab.until_running(&fourth, "sander").await;
    fourth.signal(Signal::SIGTERM);
    assert_eq!(fourth.left().await, 75, "{}", fourth.last_words());
    lab.until_nothing_runs().await;
    work(&lab, "r", &[]);

    let told = records(&lab, "r", 0);
    assert_eq!(
        names(&told[0]),
        ["receptor", "md_00000"],
        "it went on with the dynamics, and was told to leave"
    );
    assert_eq!(told[0].steps[1].ended, "stopped");
    let last = told.last().unwrap();
    assert!(!names(last).contains(&"parameters_00000"), "{:?}", names(last));
    let log = last.files.iter().find(|file| file.object.ends_with("/md.log")).unwrap();
    let log = fs::read_to_string(lab.object("r", &log.object)).unwrap();
    // The third may have been killed before its finished dynamics were stored: the fourth ended them once more then.
    let restarts = log.matches("Restarting from checkpoint").count();
    assert!((2..=3).contains(&restarts), "{restarts}: {}", third.last_words());
    push(&lab, "quiet", &pose("benzene.sdf"), &options);
    work(&lab, "quiet", &[]);
    let shard = |run| fs::read(lab.object(run, "shards/shard_0000000.csv")).unwrap();
    assert_eq!(String::from_utf8(shard("r")).unwrap(), String::from_utf8(shard("quiet")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_in_its_energies_leaves_nothing_running() {
    let lab = lab().await;
    let options = helical(&lab, "charges = 'gasteiger'\nmd_ps = 1\nframes = 500\n");
    let limits = "[limits]\nlease_ms = 2400\nheartbeat_ms = 400\n";
    push(&lab, "r", &pose("benzene.sdf"), &format!("{options}{limits}"));
    let mut worker = lab.worker("w", &["--run", "r", "--exit-when", "drained"]);
    lab.until_running(&worker, "sander").await;
    let ran = lab.launchpad(&["cancel", "r", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    lab.until_nothing_runs().await;
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    assert_eq!(lab.task("r", 0).await.state, State::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_step_has_its_own_time_limit() {
    let lab = lab().await;
    let options = helical(&lab, "md_ps = 10000\nframes = 1\n");
    let limits = "[limits]\nfailures_max = 1\nstep_seconds = { md = 1 }\n";
    push(&lab, "limited", &pose("benzene.sdf"), &format!("{options}{limits}"));
    let mut worker = lab.worker("limited", &["--run", "limited", "--exit-when", "drained"]);
    worker.left_in_its_own_time();
    let task = lab.task("limited", 0).await;
    assert_eq!((task.state, task.reason.as_deref()), (State::Dead, Some("time_limit")));
    let record = records(&lab, "limited", 0).remove(0);
    let ended: Vec<_> = record.steps.iter().map(|step| (step.name.as_str(), step.ended.as_str())).collect();
    let last = ended.last().unwrap();
    assert_eq!(*last, ("md_00000", "time limit"), "{ended:?}");
    assert!(ended.iter().rev().skip(1).all(|(_, ended)| *ended == "exit 0"), "{ended:?}");
}

/// The names of the steps that were run.
fn names(record: &AttemptRecord) -> Vec<&str> {
    record.steps.iter().map(|step| step.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_water_no_step_is_done_twice_and_the_equilibration_goes_on_to_the_same_bytes() {
    let lab = lab().await;
    let options = helical(&lab, "solvent = 'tip3p'\nmd_ps = 1\nequilibration_ps = 4\nframes = 2\n");
    let limits = "[limits]\nlease_ms = 2400\nheartbeat_ms = 400\ncheckpoint_seconds = 1\ncheckpoint_jitter_seconds = 0\n";
    push(&lab, "r", &pose("benzene.sdf"), &format!("{options}{limits}"));
    // Told to leave in its minimisation.
    let mut first = lab.worker("first", &["--run", "r"]);
    until_left(&lab, &first, "em.log").await;
    first.signal(Signal::SIGTERM);
    assert_eq!(first.left().await, 75, "{}", first.last_words());
    lab.until_nothing_runs().await;
    // Killed in its equilibration, after a checkpoint of that got to the store. It is held meanwhile, so as not to end before.
    let mut second = lab.worker("second", &["--run", "r"]);
    until_left(&lab, &second, "equilibrate.cpt").await;
    signal_gmx(&lab, Signal::SIGSTOP);
    let has_equilibration = |line: &serde_json::Value| is_kept(&lab, line, "equilibrate.cpt");
    second.until_logged("a checkpoint of the equilibration", has_equilibration).await;
    second.kill9();
    lab.until_nothing_runs().await;
    // Told to leave in it, when it has gone on for a while: then there is a former checkpoint.
    let mut third = lab.worker("third", &["--run", "r"]);
    until_left(&lab, &third, "equilibrate_prev.cpt").await;
    signal_gmx(&lab, Signal::SIGSTOP);
    third.signal(Signal::SIGTERM);
    signal_gmx(&lab, Signal::SIGCONT);
    assert_eq!(third.left().await, 75, "{}", third.last_words());
    lab.until_nothing_runs().await;
    work(&lab, "r", &[]);

    let told = records(&lab, "r", 0);
    let [first, third, last] = &told[..] else { panic!("{told:?}") };
    assert_eq!(names(first), ["receptor", "pose_00000", "parameters_00000", "complex_00000", "em_00000"]);
    assert_eq!(step(first, "em_00000").0, "stopped");
    assert_eq!(names(third), ["receptor", "equilibrate_00000"]);
    assert_eq!(step(third, "equilibrate_00000").0, "stopped");
    assert_eq!(names(last), ["receptor", "equilibrate_00000", "md_00000", "whole_00000", "energies_00000"]);
    for record in [third, last] {
        let said = kept(&lab, "r", record, "equilibrate_00000.stdout");
        assert!(said.contains("-cpi equilibrate.cpt"), "{said}");
    }

    push(&lab, "quiet", &pose("benzene.sdf"), &options);
    work(&lab, "quiet", &[]);
    let quiet = records(&lab, "quiet", 0).remove(0);
    for name in ["em.gro", "md.gro", "energies.csv"] {
        assert!(kept(&lab, "r", last, name) == kept(&lab, "quiet", &quiet, name), "{name}");
    }
    let shard = |run| fs::read_to_string(lab.object(run, "shards/shard_0000000.csv")).unwrap();
    assert_eq!(shard("r"), shard("quiet"));
    // The dynamics have a solvent and the energies none.
    let (benzene, cells) = rows(&lab, "quiet").remove(0);
    assert!((-20.0..-1.0).contains(&score(&benzene)), "{benzene:?}");
    assert_eq!((cells["solvent"].as_str(), cells["frames"].as_str()), ("tip3p", "2"));
    let atoms = |name: &str| {
        let text = kept(&lab, "quiet", &quiet, name);
        text.lines().nth(1).unwrap().trim().parse::<usize>().unwrap()
    };
    assert_eq!(atoms("last.gro"), atoms("complex.gro"));
    assert!(atoms("md.gro") > 10 * atoms("last.gro"));
}

/// The driver by itself with the real programs, in a folder of its own, on a molecule in water that is minimised.
struct Minimised {
    folder: PathBuf,
    path: String,
}

impl Minimised {
    fn new(lab: &Lab) -> Self {
        let bin = project(".molfleet/mmgbsa/bin").canonicalize().unwrap();
        let minimised =
            Self { folder: lab.path("minimised"), path: format!("{}:/usr/bin:/bin", bin.display()) };
        for (name, text) in [("receptor.pdb", helix()), ("benzene.sdf", pose("benzene.sdf"))] {
            fs::create_dir_all(&minimised.folder).unwrap();
            fs::write(minimised.folder.join(name), text).unwrap();
        }
        let task = serde_json::json!({
            "charges": "gas", "md_steps": 500, "frames": 1, "solvent": "tip3p", "equilibration_steps": 600, "threads": 1,
            "receptor": "receptor.pdb", "reference": null,
            "molecules": [{ "index": 0, "id": "benzene", "structure": "benzene.sdf", "seed": 7 }],
        });
        fs::write(minimised.folder.join("task.json"), task.to_string()).unwrap();
        for step in ["receptor", "pose", "parameters", "complex", "em"] {
            minimised.run(step);
        }
        minimised
    }

    /// Another folder with the same files.
    fn copy(&self, lab: &Lab, name: &str) -> Self {
        let copy = Self { folder: lab.path(name), path: self.path.clone() };
        fs::create_dir_all(copy.file("")).unwrap();
        fs::copy(self.folder.join("task.json"), copy.folder.join("task.json")).unwrap();
        for entry in fs::read_dir(self.file("")).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                fs::copy(entry.path(), copy.file("").join(entry.file_name())).unwrap();
            }
        }
        copy
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join("mmgbsa/00000").join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    fn start(&self, step: &str) -> Child {
        let log = fs::File::create(self.folder.join(format!("{step}.log"))).unwrap();
        let mut command = Command::new("python3");
        command.arg(project("drivers/gromacs_mmgbsa.py").canonicalize().unwrap()).args([step, "0"]);
        command.current_dir(&self.folder).env("PATH", &self.path);
        command.env_remove("MOLFLEET_GPU").process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn run(&self, step: &str) {
        let status = self.start(step).wait().unwrap();
        assert!(status.success() && !self.file("refused.json").exists(), "{step}: {}", self.said(step));
    }

    /// What a step printed.
    fn said(&self, step: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{step}.log"))).unwrap()
    }

    /// Equilibrates until that has begun, and tells it to end.
    async fn cut(&self) {
        let mut child = self.start("equilibrate");
        let frames = self.file("equilibrate.xtc");
        let has_begun = || fs::metadata(&frames).is_ok_and(|meta| meta.len() > 0);
        eventually("the first frame", async || if has_begun() { Ok(()) } else { Err("it is not there") })
            .await;
        killpg(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
        assert!(self.file("equilibrate.cpt").is_file() && !self.file("equilibrate.gro").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equilibration_goes_on_from_what_is_whole_or_starts_again_to_the_same_bytes() {
    let lab = lab().await;
    let quiet = Minimised::new(&lab);
    let cut = quiet.copy(&lab, "cut");
    quiet.run("equilibrate");
    cut.cut().await;
    let check = |name: &str, from: &Minimised, spoil: &dyn Fn(&Minimised), why_not: Option<&str>| {
        let copy = from.copy(&lab, name);
        spoil(&copy);
        copy.run("equilibrate");
        assert_eq!(
            copy.text("equilibrate.log").contains("Restarting from checkpoint"),
            why_not.is_none(),
            "{name}"
        );
        let said = copy.said("equilibrate");
        let is_torn = name.starts_with("torn");
        assert_eq!(said.contains("equilibrate.cpt can't be used: gmx dump ended with 1"), is_torn, "{said}");
        let told = said.split_once("it can't go on from the checkpoint: ").map(|(_, told)| told);
        let expected = why_not.filter(|_| !is_torn);
        assert_eq!(told.is_some(), expected.is_some(), "{said}");
        assert!(told.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{said}");
        for file in ["equilibrate.gro", "equilibrate.edr", "equilibrate.xtc"] {
            let [ours, expected] = [&copy, &quiet].map(|folder| fs::read(folder.file(file)).unwrap());
            assert!(ours == expected, "{file} of {name}");
        }
    };
    check("whole", &cut, &|_| (), None);
    // Its machine died after the last step and before that was noted.
    let forget_end = |copy: &Minimised| fs::remove_file(copy.file("equilibrate.gro")).unwrap();
    check("ended", &quiet, &forget_end, None);
    let halve = |copy: &Minimised, name: &str| {
        let whole = fs::read(copy.file(name)).unwrap();
        fs::write(copy.file(name), &whole[..whole.len() / 2]).unwrap();
    };
    let tear = |copy: &Minimised| {
        fs::copy(copy.file("equilibrate.cpt"), copy.file("equilibrate_prev.cpt")).unwrap();
        halve(copy, "equilibrate.cpt");
    };
    check("torn, with a former one", &cut, &tear, None);
    check("torn", &cut, &|copy| halve(copy, "equilibrate.cpt"), Some(""));
    let remove = |copy: &Minimised| fs::remove_file(copy.file("equilibrate.edr")).unwrap();
    check("bare", &cut, &remove, Some("there is no equilibrate.edr\n"));
    // mdrun refuses to append to what is shorter than its checkpoint says: the molecule is not to blame.
    check("too short", &cut, &|copy| halve(copy, "equilibrate.log"), Some("gmx mdrun ended with 1"));
    let other = |copy: &Minimised| {
        let log = copy.text("equilibrate.log").replace("Using 1 OpenMP thread", "Using 2 OpenMP threads");
        fs::write(copy.file("equilibrate.log"), log).unwrap();
    };
    check("of other threads", &cut, &other, Some("it was made with 2 threads (expected 1)\n"));

    // What goes wrong once it goes on, such as a full disk, leaves the checkpoint for another machine.
    stub(&lab, "gmx", GMX_ON_A_FULL_DISK);
    let path = format!("{}:{}", lab.path("stubs").display(), cut.path);
    let full = Minimised { path, ..cut.copy(&lab, "full") };
    assert!(full.start("equilibrate").wait().unwrap().success());
    assert!(full.text("refused.json").contains("No space left on device"));
    fs::remove_file(full.file("refused.json")).unwrap();
    check("on another machine", &Minimised { path: cut.path, ..full }, &|_| (), None);
}

/// The real one, but for an mdrun that fails while it writes.
const GMX_ON_A_FULL_DISK: &str = r#"#!/bin/sh
case "$*" in *" mdrun "*)
    echo Restarting >> equilibrate.log
    echo "Error: No space left on device"
    exit 1
esac
exec /usr/bin/gmx "$@"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_smiles_is_put_in_the_place_of_a_reference() {
    let lab = lab().await;
    let reference = project("examples/t4l-l99a/benzene.sdf");
    let options = format!("reference = '{}'\nmd_ps = 1\nframes = 1\n", reference.display());
    push(&lab, "placed", "Cc1ccccc1 toluene\nCCO ethanol\n", &lysozyme(&options));
    work(&lab, "placed", &[]);
    let scored = rows(&lab, "placed");
    let [(toluene, cells), (ethanol, missed)] = &scored[..] else { panic!("{scored:?}") };
    // The crystal's pose has −17.7 ± 1.
    assert!((-22.0..-10.0).contains(&score(toluene)), "{toluene:?}");
    assert_eq!(cells["flags"], "placed_on_reference");
    assert!(cells["pocket_distance"].parse::<f64>().unwrap() < 3.0, "{cells:?}");
    assert_eq!((ethanol.verdict, ethanol.reason.as_str()), (Verdict::Bad, "pose_missing"));
    assert!(missed["detail"].contains("heavy atoms in common with the reference"), "{missed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docked_pose_of_a_former_run_is_rescored_by_the_examples_settings() {
    let lab = lab().await;
    lab.push("docked", "c1ccccc1 benzene\n", &[]);
    work(&lab, "docked", &[]);
    let ran = lab.launchpad(&["poses", "docked", "-o", "poses.sdf"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let config = project("examples/t4l-l99a/mmgbsa.toml");
    let push = ["push", "poses.sdf", "--run", "rescored", "--config", config.to_str().unwrap()];
    let ran = lab.launchpad(&[&push[..], &["--charges", "gasteiger", "--confirm-after-ms", "0"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    work(&lab, "rescored", &[]);
    let scored = rows(&lab, "rescored");
    let [(benzene, cells)] = &scored[..] else { panic!("{scored:?}") };
    assert_eq!(benzene.molecule_id, "benzene");
    // The crystal's pose has −16.8 with these charges.
    assert!((-22.0..-10.0).contains(&score(benzene)), "{benzene:?}");
    let cell = |name: &str| cells[name].as_str();
    assert_eq!((cell("pose_smiles"), cell("flags")), ("c1ccccc1", "hydrogens_added"));
    assert_eq!((cell("charges"), cell("md_ps"), cell("frames")), ("gasteiger", "1", "1"));
    assert!(cells["pocket_distance"].parse::<f64>().unwrap() < 3.0, "{cells:?}");
}

/// A `gmx` that notes its arguments and leaves empty files where files are asked for.
const STUB_GMX: &str = r#"#!/bin/sh
echo "$*" >> gmx.calls
while [ $# -gt 0 ]; do
    case $1 in -o | -c) : > "$2" ;; esac
    shift
done
"#;

/// Puts a script in front of a program.
fn stub(lab: &Lab, program: &str, script: &str) {
    lab.set(program, script);
    fs::set_permissions(lab.path("stubs").join(program), Permissions::from_mode(0o755)).unwrap();
}

/// A folder for the driver with a task of one molecule.
fn task_folder(lab: &Lab, name: &str) -> PathBuf {
    let folder = lab.path(name);
    fs::create_dir_all(folder.join("mmgbsa/00000")).unwrap();
    let task = serde_json::json!({
        "solvent": "vacuum", "md_steps": 500, "frames": 1, "threads": 1, "molecules": [{ "index": 0, "seed": 7 }],
    });
    fs::write(folder.join("task.json"), task.to_string()).unwrap();
    folder
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
        let says = format!("#!/bin/sh\ncase \"$*\" in *\" mdrun \"*) echo '{said}'; exit 1 ;; esac\n");
        stub(&lab, "gmx", &says);
        let folder = task_folder(&lab, name);
        for step in ["em", "md"] {
            assert_eq!(driver(&lab, &folder, step, None), exit, "{step} {name}");
            assert_eq!(folder.join("mmgbsa/00000/refused.json").exists(), is_refused, "{step} {name}");
        }
    }
}

/// Without `-nogui` gmx_MMPBSA opens a window in the end, and waits for it where there is a screen.
#[tokio::test]
async fn gmx_mmpbsa_is_asked_for_no_window_and_for_the_radii_of_its_model() {
    let lab = Lab::new(PROGRAMS).await;
    stub(&lab, "gmx_MMPBSA", "#!/bin/sh\necho \"$*\" > calls\n: > made.dat\n");
    let folder = task_folder(&lab, "energies");
    assert_eq!(driver(&lab, &folder, "energies", None), 0);
    let read = |name: &str| fs::read_to_string(folder.join("mmgbsa/00000").join(name)).unwrap();
    let arguments = read("calls");
    assert!(arguments.split_whitespace().any(|word| word == "-nogui"), "{arguments}");
    assert!(arguments.starts_with("-O -i mmgbsa.in "), "{arguments}");
    let input = read("mmgbsa.in");
    assert!(input.contains("PBRadii=3,") && input.contains("igb=5,"), "{input}");
    assert_eq!(read("energies.dat"), "");
}

#[tokio::test]
async fn a_task_that_has_a_gpu_computes_on_it_and_no_other_does() {
    let lab = Lab::new(PROGRAMS).await;
    stub(&lab, "gmx", STUB_GMX);
    for (given, expect) in [(None, "-nb cpu"), (Some("GPU-5c1f3b0e"), "-nb gpu -gpu_id 0")] {
        let folder = task_folder(&lab, given.unwrap_or("none"));
        for step in ["em", "md"] {
            assert_eq!(driver(&lab, &folder, step, given), 0, "{step}");
        }
        let calls = fs::read_to_string(folder.join("mmgbsa/00000/gmx.calls")).unwrap();
        let runs: Vec<&str> = calls.lines().filter(|call| call.contains(" mdrun ")).collect();
        assert_eq!(runs.len(), 2, "{calls}");
        for run in runs {
            assert!(run.contains(&format!("-ntmpi 1 -ntomp 1 -reprod {expect}")), "{run}");
        }
    }
}

/// Has the driver do a step by itself, with the stubs. Gives its exit code.
#[expect(clippy::disallowed_methods, reason = "tests start programs")]
fn driver(lab: &Lab, folder: &Path, step: &str, gpu: Option<&str>) -> i32 {
    let script = project("drivers/gromacs_mmgbsa.py").canonicalize().unwrap();
    let mut command = Command::new("python3");
    command.arg(script).args([step, "0"]).current_dir(folder);
    command.env_clear().env("PATH", format!("{}:/usr/bin:/bin", lab.path("stubs").display()));
    command.envs(gpu.map(|gpu| ("MOLFLEET_GPU", gpu)));
    command.stdout(Stdio::null()).status().unwrap().code().unwrap()
}

#[tokio::test]
async fn what_has_no_pose_is_refused_before_anything_is_written() {
    let lab = Lab::new(PROGRAMS).await;
    let smiles = lab.write("x.smi", "c1ccccc1 benzene\n");
    let receptor = project("examples/t4l-l99a/receptor.pdb");
    let ran = lab.launchpad(&[
        "push",
        smiles.to_str().unwrap(),
        "--run",
        "x",
        "--engine",
        "gromacs-mmgbsa",
        "--receptor",
        receptor.to_str().unwrap(),
    ]);
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    let expect = "error: molecule `benzene` is a SMILES, and the engine `gromacs-mmgbsa` needs its pose in the receptor\n\
                  hint: dock it first and push the poses";
    assert!(ran.stderr.starts_with(expect), "{}", ran.stderr);
    assert!(!lab.store_folder().join("x").exists());
}
