//! Batches that lose nothing: molecules that crash their engine, workers that die or leave in the middle. Real workers and real docking;
//! stubs choose the molecule. Whatever happens, each unharmed molecule is docked once where its row was kept, and has the row of a quiet run.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use common::digest::sha256_hex;
use common::task::{AttemptRecord, Ending, Shard, State};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::AsyncCommands as _;
use tests::{Lab, Programs, eventually};
use tokio::sync::OnceCell;

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const UNTIL_DRAINED: &[&str] = &["--exit-when", "drained"];
/// Molecules as SMILES and id. Their rows depend on these alone, not on the batch that they are in.
const MOLECULES: [(&str, &str); 10] = [
    ("c1ccccc1", "benzene"),
    ("Cc1ccccc1", "toluene"),
    ("Oc1ccccc1", "phenol"),
    ("Cc1ccc(C)cc1", "p-xylene"),
    ("Nc1ccccc1", "aniline"),
    ("c1ccc2[nH]ccc2c1", "indole"),
    ("Fc1ccccc1", "toxic"),
    ("c1ccc2occc2c1", "benzofuran"),
    ("CC(C)(C)(C)C", "malformed"),
    ("C1C=Cc2ccccc12", "indene"),
];
/// What a docking has in its input when it is this molecule's.
const TOXIC: &str = "Name = toxic\n";
const XYLENE: &str = "Name = p-xylene\n";
/// The shard of a run of all molecules in which nothing happens.
static QUIET: OnceCell<String> = OnceCell::const_new();

/// A lab with molecules pushed as one task of run `r`, and a stub in front of Vina.
async fn lab(ids: &[&str]) -> Lab {
    let lab = Lab::new(PROGRAMS).await;
    lab.stub("vina");
    let smiles = |id: &&str| MOLECULES.iter().find(|(_, name)| name == id).unwrap().0;
    let batch: Vec<String> = ids.iter().map(|id| format!("{} {id}", smiles(id))).collect();
    lab.push("r", &batch.join("\n"), &["--batch-size", "10"]);
    lab
}

fn all() -> Vec<&'static str> {
    MOLECULES.iter().map(|(_, id)| *id).collect()
}

fn shard(lab: &Lab) -> String {
    fs::read_to_string(lab.object("r", "shards/shard_0000000.csv")).unwrap()
}

/// The line of a molecule in a shard.
fn line<'a>(shard: &'a str, id: &str) -> &'a str {
    shard.lines().find(|line| line.starts_with(&format!("{id},"))).unwrap()
}

/// How often each molecule was docked, by the stub's own log.
fn dockings(lab: &Lab, molecules: usize) -> Vec<usize> {
    let starts = lab.noted("starts");
    let docked = |index: usize| {
        let ligand = format!("ligands/{index:05}.pdbqt");
        starts.iter().filter(|line| line.contains(&ligand)).count()
    };
    (0..molecules).map(docked).collect()
}

/// Checks that each molecule but for `harmed` ones has the row of a quiet run, byte by byte, and the others the reason given here.
async fn only_these_are_harmed(lab: &Lab, harmed: &[(&str, &str)]) {
    let quiet = QUIET
        .get_or_init(async || {
            let lab = self::lab(&all()).await;
            assert_eq!(lab.worker("quiet", UNTIL_DRAINED).left().await, 0);
            shard(&lab)
        })
        .await;
    let ours = shard(lab);
    let rows = Shard::parse(ours.as_bytes()).unwrap().rows;
    for row in &rows {
        let id = row.molecule_id.as_str();
        match harmed.iter().find(|(harmed, _)| *harmed == id) {
            Some((_, reason)) => assert_eq!(row.reason, *reason, "{id}"),
            None => assert_eq!(line(&ours, id), line(quiet, id)),
        }
    }
    assert_eq!(line(&ours, "molecule_id"), line(quiet, "molecule_id"), "the header");
    let consolidated = lab.launchpad(&["consolidate", "r", "-o", "results.csv"]);
    assert_eq!(consolidated.code, 0, "{}", consolidated.stderr);
}

async fn index(lab: &Lab) -> AttemptRecord {
    let sha256 = lab.task("r", 0).await.shard_sha256.unwrap();
    let bytes = fs::read(lab.object("r", &format!("index/0000000/{sha256}.json"))).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_crash_at_molecule_seven_keeps_the_others_and_names_it() {
    let lab = lab(&all()).await;
    lab.set("crash", TOXIC);
    let mut worker = lab.worker("one", UNTIL_DRAINED);
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.failures, task.lapses), (State::Succeeded, 1, 0));
    assert_eq!((task.molecules_ok, task.molecules_bad), (8, 2));
    assert_eq!(dockings(&lab, 10), [1, 1, 1, 1, 1, 1, 2, 1, 0, 1], "{:?}", lab.noted("starts"));
    assert_eq!(Shard::parse(shard(&lab).as_bytes()).unwrap().rows[8].reason, "smiles_invalid");
    only_these_are_harmed(&lab, &[("toxic", "engine_crashed")]).await;

    let index = index(&lab).await;
    assert_eq!(index.suspects, ["toxic"]);
    let [carried] = index.carried.as_slice() else { panic!("one attempt's rows: {:?}", index.carried) };
    assert_eq!((&carried.lease, carried.molecules.len()), (&task.former[0].0, 9));
    for pose in [0, 1, 2, 3, 4, 5, 7, 9].map(|index| format!("/poses/{index:05}.pdbqt")) {
        let mut files = index.files.iter().filter(|file| file.object.ends_with(&pose));
        let file = files.next().unwrap();
        assert!(files.next().is_none(), "one pose file per molecule");
        assert_eq!(sha256_hex(&fs::read(lab.object("r", &file.object)).unwrap()), file.sha256);
    }
    assert!(!index.files.iter().any(|file| file.object.ends_with("/poses/00006.pdbqt")));
    let best = lab.path("best.sdf");
    let poses = lab.launchpad(&["poses", "r", "--top", "10", "-o", best.to_str().unwrap()]);
    assert_eq!(poses.code, 0, "{}", poses.stderr);
    let best = fs::read_to_string(best).unwrap();
    assert_eq!((best.matches("$$$$").count(), best.matches(&carried.lease.to_string()).count()), (8, 8));
}

#[tokio::test]
async fn one_crash_is_no_verdict() {
    let lab = lab(&["benzene", "toxic", "phenol"]).await;
    lab.set("crash", TOXIC);
    let mut connection = lab.redis.connection().await;
    let backoff = [("backoff_ms", 3_600_000), ("backoff_max_ms", 3_600_000)];
    let (): () = connection.hset_multiple("molfleet:{r}:run", &backoff).await.unwrap();
    let mut first = lab.worker("first", UNTIL_DRAINED);
    lab.until("r", "the first attempt fails", |progress| progress.failures == 1).await;
    first.signal(Signal::SIGTERM);
    assert_eq!(first.left().await, 75);
    lab.unset("crash");
    let (): () = connection.zadd("molfleet:{r}:delayed", "0", 0).await.unwrap();
    assert_eq!(lab.worker("second", UNTIL_DRAINED).left().await, 0);
    assert_eq!(dockings(&lab, 3), [1, 2, 1]);
    only_these_are_harmed(&lab, &[]).await;
    assert!(index(&lab).await.suspects.is_empty());
}

#[tokio::test]
async fn a_killed_worker_and_then_crashes_harm_no_other_molecule() {
    let lab = lab(&["benzene", "p-xylene", "toxic", "malformed"]).await;
    lab.set("gate", XYLENE);
    let mut first = lab.worker("first", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    first.kill9();
    lab.set("crash", TOXIC);
    lab.unset("gate");
    assert_eq!(lab.worker("second", UNTIL_DRAINED).left().await, 0);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.failures, task.lapses), (State::Succeeded, 1, 1));
    assert_eq!(dockings(&lab, 4), [2, 2, 2, 0], "what was killed left no rows");
    only_these_are_harmed(&lab, &[("toxic", "engine_crashed")]).await;
}

/// Lets a first worker begin, and tells it to leave during the docking of p-xylene.
async fn leave_at_the_xylene(lab: &Lab) {
    lab.set("gate", XYLENE);
    let mut first = lab.worker("first", UNTIL_DRAINED);
    lab.until_noted("waiting", 1).await;
    first.signal(Signal::SIGTERM);
    assert_eq!(first.left().await, 75);
    lab.unset("gate");
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.releases, task.failures), (State::Pending, 1, 0));
}

#[tokio::test]
async fn what_a_leaving_worker_has_docked_is_not_docked_again() {
    let lab = lab(&["benzene", "malformed", "p-xylene", "phenol"]).await;
    leave_at_the_xylene(&lab).await;
    assert_eq!(lab.worker("second", UNTIL_DRAINED).left().await, 0);
    assert_eq!(dockings(&lab, 4), [1, 0, 2, 1]);
    only_these_are_harmed(&lab, &[]).await;
    assert_eq!(lab.task("r", 0).await.former[0].1, Ending::Released);
    assert_eq!(index(&lab).await.carried[0].molecules, ["benzene", "malformed"]);
}

#[tokio::test]
async fn rows_that_were_altered_are_computed_again() {
    let lab = lab(&["benzene", "malformed", "p-xylene", "phenol"]).await;
    leave_at_the_xylene(&lab).await;
    let lease = lab.task("r", 0).await.lease.unwrap();
    let rows = lab.object("r", &format!("attempts/0000000/{lease}/rows.csv"));
    let text = fs::read_to_string(&rows).unwrap();
    fs::remove_file(&rows).unwrap();
    fs::write(&rows, text.replacen(",ok,,-", ",ok,,-9", 1)).unwrap();
    let mut second = lab.worker("second", UNTIL_DRAINED);
    assert_eq!(second.left().await, 0);
    assert!(second.log().contains("the rows of a former attempt are not used"), "{}", second.log());
    assert_eq!(dockings(&lab, 4), [2, 0, 2, 1]);
    only_these_are_harmed(&lab, &[]).await;
    assert!(index(&lab).await.carried.is_empty());
}

#[tokio::test]
async fn a_failure_waits_until_its_rows_are_durable() {
    let lab = lab(&["benzene", "toxic"]).await;
    lab.set("crash", TOXIC);
    lab.write("store.stall", "");
    let mut worker = lab.worker("one", UNTIL_DRAINED);
    eventually("an upload waits", || async { lab.path("store.stalled").exists().then_some(()).ok_or(()) })
        .await;
    lab.until_lease_clock("r", 12_000).await;
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.failures, task.lapses), (State::Leased, 0, 0));
    fs::remove_file(lab.path("store.stall")).unwrap();
    assert_eq!(worker.left().await, 0);
    assert_eq!(lab.task("r", 0).await.failures, 1);
    only_these_are_harmed(&lab, &[("toxic", "engine_crashed")]).await;
}

/// A python3 under which the preparation, one process for the whole batch, aborts at a molecule and notes those that it came to.
const ABORTING_PYTHON: &str = r#"#!/usr/bin/python3
import os, sys
if not sys.argv[1].endswith(".py"):
    os.execv("/usr/bin/python3", ["python3", *sys.argv[1:]])
source = open(sys.argv[1]).read()
inject = '''def record(molecule):
    with open(os.environ["PATH"].split(":")[0] + "/prepared", "a") as log:
        log.write(molecule["id"] + "\\n")
    if molecule["id"] == "toxic":
        os.abort()
'''
exec(source.replace("def record(molecule):\n", inject))
"#;

#[tokio::test]
async fn a_program_that_works_on_the_whole_batch_goes_on_behind_the_molecule_that_crashes_it() {
    let lab = lab(&["benzene", "toxic", "phenol", "malformed"]).await;
    let python = lab.path("stubs/python3");
    fs::write(&python, ABORTING_PYTHON).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let mut worker = lab.worker("one", UNTIL_DRAINED);
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    assert_eq!(lab.noted("prepared"), ["benzene", "toxic", "phenol", "malformed", "toxic"]);
    assert_eq!(dockings(&lab, 4), [1, 0, 1, 0]);
    assert_eq!(lab.task("r", 0).await.failures, 1);
    only_these_are_harmed(&lab, &[("toxic", "engine_crashed")]).await;
    let shown = lab.launchpad(&["show", "r", "0"]);
    assert!(shown.stdout.contains("step round_2_prepare: exit 0"), "{}", shown.stdout);
}

/// An engine that says a lot, and then waits for what comes.
const TALKATIVE: &str = r#"
import os, signal, sys
for n in range(5000):
    print("frame %d of the dynamics" % n, flush=n % 100 == 0)
print("bonds: 1 to 2 broke", file=sys.stderr, flush=True)
print("the last words", flush=True)
with open(LAB + "/engine", "w") as file:
    file.write(str(os.getpid()))
os.rename(LAB + "/engine", LAB + "/engine.pid")
signal.pause()
"#;

#[tokio::test]
async fn the_last_lines_of_an_engine_that_gets_sigsegv_are_kept() {
    let lab = Lab::new(PROGRAMS).await;
    let folder = format!("{:?}", lab.path("").display().to_string());
    let driver = lab.write("driver.py", &TALKATIVE.replace("LAB", &folder));
    let ligands = lab.write("one.smi", "C methane\n");
    let mut push = vec!["push", ligands.to_str().unwrap(), "--run", "r", "--engine", "command"];
    push.extend(["--driver", driver.to_str().unwrap(), "--column", "energy,min=-9,max=9"]);
    push.extend(["--failures-max", "1", "--confirm-after-ms", "0"]);
    let ran = lab.launchpad(&push);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut worker = lab.worker("w", UNTIL_DRAINED);
    let pid: i32 = eventually("the engine waits", || async {
        let pid = fs::read_to_string(lab.path("engine.pid")).unwrap_or_default();
        pid.parse().map_err(|_| worker.last_words())
    })
    .await;
    kill(Pid::from_raw(pid), Signal::SIGSEGV).unwrap();
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.failures, task.lapses), (State::Dead, 1, 0));
    assert_eq!(task.reason.as_deref(), Some("engine_crashed"));
    let mut connection = lab.redis.connection().await;
    let tail: String = connection.hget("molfleet:{r}:tails", 0).await.unwrap();
    let shown = lab.launchpad(&["show", "r", "0"]).stdout;
    let logs = lab.launchpad(&["logs", "r", "0"]).stdout;
    for words in ["the last words", "bonds: 1 to 2 broke", "frame 4999 of the dynamics"] {
        assert!(logs.contains(words), "{words}: {logs}");
        assert!(shown.contains(words), "{words}: {shown}");
        assert!(tail.contains(words), "{words}: {tail}");
    }
    assert!(shown.contains("signal 11"), "{shown}");
    assert!(logs.contains("frame 0 of the dynamics"), "the whole of it is in the store");
}
