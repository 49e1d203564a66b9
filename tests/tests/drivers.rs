//! The engine `command` and drivers, end to end: launchpad, a real Redis, a store, workers, and scripts as users write them.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::digest::sha256_hex;
use common::task::{Shard, State, Verdict};
use tests::{Lab, Programs, Ran};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const THREE: &str = "C methane\nCC ethane\nc1cncc2c1ccs2 thieno[2,3-c]pyridine\n";
/// Writes the number of letters of each SMILES.
const COUNT: &str = r#"
import csv, json
task = json.load(open("task.json"))
with open(task["rows"], "w", newline="") as file:
    rows = csv.writer(file)
    rows.writerow(["molecule_id", "letters"])
    for molecule in task["molecules"]:
        rows.writerow([molecule["id"], sum(map(str.isalpha, molecule["smiles"]))])
        file.flush()
"#;

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Pushes molecules as run `r` with a driver and a column `letters`, in one task, with short leases.
fn try_push(lab: &Lab, driver: &str, smiles: &str, flags: &[&str]) -> Ran {
    let ligands = lab.write("r.smi", smiles);
    let driver = lab.write("driver.py", driver);
    let column = if flags.contains(&"--column") {
        vec![]
    } else {
        vec!["--column", "letters,unit=letters,min=1,max=500"]
    };
    let mut arguments = vec!["push", ligands.to_str().unwrap(), "--run", "r", "--engine", "command"];
    arguments.extend(["--driver", driver.to_str().unwrap(), "--confirm-after-ms", "0", "--backoff-ms", "10"]);
    arguments.extend(["--lease-ms", "2400", "--heartbeat-ms", "400", "--batch-size", "100"]);
    arguments.extend(column);
    arguments.extend_from_slice(flags);
    lab.launchpad(&arguments)
}

fn push(lab: &Lab, driver: &str, flags: &[&str]) {
    let ran = try_push(lab, driver, THREE, flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn shard(lab: &Lab) -> Shard {
    Shard::parse(&fs::read(lab.object("r", "shards/shard_0000000.csv")).unwrap()).unwrap()
}

/// The files of the first attempts of the only task, by path below the attempt.
fn kept(lab: &Lab) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for lease in fs::read_dir(lab.object("r", "attempts/0000000")).unwrap() {
        let lease = lease.unwrap().path();
        let mut folders = vec![lease.clone()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.strip_prefix(&lease).unwrap().display().to_string(), path);
                }
            }
        }
    }
    files
}

#[tokio::test]
async fn descriptors_of_a_thousand_molecules_by_two_workers() {
    let lab = Lab::new(PROGRAMS).await;
    let example = document("examples/descriptors");
    let molecules = fs::read_to_string(example.join("molecules.smi")).unwrap();
    let ligands = lab.write("molecules.smi", &format!("{molecules}CC(C)(C)(C)C five-bonds\n"));
    let config = example.join("run.toml");
    let mut push = vec!["push", ligands.to_str().unwrap(), "--config", config.to_str().unwrap()];
    push.extend(["--run", "descriptors", "--confirm-after-ms", "0"]);
    let pushed = lab.launchpad(&push);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    let mut workers = ["one", "other"].map(|name| lab.worker(name, &[]));
    for worker in &mut workers {
        assert_eq!(worker.left().await, 0, "{}", worker.log());
    }
    let progress = lab.progress("descriptors").await;
    assert_eq!((progress.total, progress.succeeded, progress.failures), (11, 11, 0));
    assert_eq!((progress.molecules_ok, progress.molecules_bad), (1000, 1));

    let ran = lab.launchpad(&["consolidate", "descriptors", "-o", "table.csv"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let table = fs::read_to_string(lab.path("table.csv")).unwrap();
    assert_eq!(table.lines().count(), 1002);
    let header = "task_id,molecule_id,smiles,verdict,reason,score,score_unit,mw,logp,tpsa,hbd,hba,rotatable_bonds,qed,detail,shard_sha256";
    assert_eq!(table.lines().next().unwrap(), header);
    let found = |molecule: &str| {
        let row = table.lines().find(|line| line.split(',').nth(1) == Some(molecule)).unwrap();
        row.split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    // Molecular weights from the IUPAC standard atomic weights; polar surface areas of Ertl et al. 2000 (aspirin 63.6, caffeine 61.8);
    // lipophilicities and QED of RDKit 2022.09.
    let check = |molecule: &str, expect: [(usize, f64, f64); 4]| {
        let row = found(molecule);
        assert_eq!(row[3], "ok");
        for (cell, value, tolerance) in expect {
            let number: f64 = row[cell].parse().unwrap();
            assert!((number - value).abs() <= tolerance, "{molecule}: {number} (expected {value})");
        }
    };
    check("benzene", [(7, 78.11, 0.01), (8, 1.6866, 1e-4), (9, 0.0, 0.0), (13, 0.4426, 1e-3)]);
    check("aspirin", [(7, 180.16, 0.01), (8, 1.3101, 1e-4), (9, 63.6, 0.01), (13, 0.5501, 1e-3)]);
    check("caffeine", [(7, 194.19, 0.01), (8, -1.0293, 1e-4), (9, 61.82, 0.03), (13, 0.5385, 1e-3)]);
    assert_eq!(found("aspirin")[10..13], ["1", "3", "2"], "donors, acceptors, rotatable bonds");
    assert_eq!(found("aspirin")[5], found("aspirin")[13], "the score is the declared column");
    assert_eq!(found("five-bonds")[3..5], ["bad", "smiles_invalid"]);
    assert!(found("five-bonds")[7].is_empty(), "a bad molecule has no numbers");

    let index = lab.launchpad(&["show", "descriptors", "0", "--json"]).stdout;
    let shown: serde_json::Value = serde_json::from_str(&index).unwrap();
    let provenance = &shown["attempts"][0]["record"]["provenance"];
    assert!(provenance["versions"]["rdkit"].as_str().unwrap().starts_with("20"), "{provenance}");
    let driver = fs::read(example.join("descriptors.py")).unwrap();
    assert_eq!(provenance["digests"]["driver"], sha256_hex(&driver));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests start programs")]
fn the_example_molecules_are_what_their_script_makes() {
    let mut python = std::process::Command::new("/usr/bin/python3");
    let made = python.arg(document("examples/descriptors/make_molecules.py")).output().unwrap();
    assert!(made.status.success());
    let stored = fs::read(document("examples/descriptors/molecules.smi")).unwrap();
    assert_eq!(String::from_utf8(made.stdout).unwrap(), String::from_utf8(stored).unwrap());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "tests start programs")]
fn every_script_that_ships_compiles() {
    let ours = ["drivers/vina_prepare.py", "examples/descriptors/descriptors.py"].map(document);
    let compile = "import sys; [compile(open(path).read(), path, 'exec') for path in sys.argv[1:]]";
    let mut python = std::process::Command::new("/usr/bin/python3");
    assert!(python.args(["-c", compile]).args(ours).status().unwrap().success());
}

#[tokio::test]
async fn a_driver_finds_what_the_contract_says() {
    let lab = Lab::new(PROGRAMS).await;
    let driver = format!(
        "{COUNT}
import os
out = os.environ['MOLFLEET_OUTPUT']
json.dump(dict(os.environ), open(out + '/environment.json', 'w'))
json.dump(task, open(out + '/task.json', 'w'))
os.mkdir(out + '/below')
open(out + '/below/site', 'w').write(open(task['inputs']['site']).read() + oct(os.stat(task['inputs']['site']).st_mode)[-3:])
open('poses.txt', 'w').write('pose')
open('secret', 'w').write('not kept')
os.symlink('/etc/passwd', out + '/link')
"
    );
    let site = lab.write("my site.json", "{}");
    let site = format!("site={}", site.display());
    push(&lab, &driver, &["--input", &site, "--expect", "poses.txt", "--threads-per-task", "1"]);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let shard = shard(&lab);
    assert_eq!(shard.columns, ["letters", "detail"]);
    let letters: Vec<(&str, &str)> =
        shard.rows.iter().map(|row| (row.molecule_id.as_str(), row.columns[0].as_str())).collect();
    assert_eq!(letters, [("methane", "1"), ("ethane", "2"), ("thieno[2,3-c]pyridine", "9")]);
    assert!(
        shard.rows.iter().all(|row| row.verdict == Verdict::Ok && row.score.is_empty()),
        "no score was declared"
    );

    let files = kept(&lab);
    let names: Vec<&str> =
        files.keys().map(String::as_str).filter(|name| !name.starts_with("logs/")).collect();
    assert_eq!(
        names,
        ["attempt.json", "output/below/site", "output/environment.json", "output/task.json", "poses.txt"]
    );
    assert_eq!(fs::read_to_string(&files["output/below/site"]).unwrap(), "{}444");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(&files[name]).unwrap()).unwrap()
    };
    let task = json("output/task.json");
    assert_eq!(task["inputs"]["site"], "inputs/site.json");
    assert_eq!(task["columns"][0]["unit"], "letters");
    assert_eq!(task["molecules"][2]["id"], "thieno[2,3-c]pyridine");
    assert!(task["molecules"][2]["seed"].as_u64().unwrap() > 0);

    let environment = json("output/environment.json");
    assert_eq!(
        (environment["MOLFLEET_RUN"].as_str(), environment["MOLFLEET_TASK"].as_str()),
        (Some("r"), Some("0"))
    );
    let ours = |name: &&String| name.starts_with("MOLFLEET_");
    let found: BTreeSet<String> = environment.as_object().unwrap().keys().filter(ours).cloned().collect();
    let page = fs::read_to_string(document("docs/drivers.md")).unwrap();
    let documented = page.lines().filter_map(|line| line.strip_prefix("| `MOLFLEET_")?.split('`').next());
    // This run needs no GPU, so its tasks are given none.
    let documented = documented.filter(|name| *name != "GPU");
    assert_eq!(found, documented.map(|name| format!("MOLFLEET_{name}")).collect());
}

#[tokio::test]
async fn exit_codes_say_what_becomes_of_a_task() {
    let lab = Lab::new(PROGRAMS).await;
    push(
        &lab,
        "import sys\nprint('progress 0/3')\nprint('no forcefield for it', file=sys.stderr)\nsys.exit(65)\n",
        &[],
    );
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.failures, task.reason.as_deref()), (State::Dead, 1, Some("input_refused")));
    let shown = lab.launchpad(&["show", "r", "0"]).stdout;
    for words in ["input_refused", "exit 65", "no forcefield for it", "progress 0/3"] {
        assert!(shown.contains(words), "{shown}");
    }
}

#[tokio::test]
async fn a_driver_that_says_not_now_costs_a_lapse_and_no_failure() {
    let lab = Lab::new(PROGRAMS).await;
    let gate = lab.write("no licence", "");
    let driver = format!(
        "import os, sys\nif os.path.exists({:?}):\n    sys.exit(75)\n{COUNT}",
        gate.display().to_string()
    );
    push(&lab, &driver, &[]);
    let mut worker = lab.worker("one", &[]);
    lab.until("r", "a lapse", |progress| progress.lapses >= 1).await;
    fs::remove_file(gate).unwrap();
    assert_eq!(worker.left().await, 0);
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.molecules_ok, progress.failures), (1, 3, 0));
    assert_eq!((progress.lapses, progress.releases), (1, 0));
}

/// A worker pauses after each fault of its machine: a task that came first again each time would keep all others from being leased.
#[tokio::test]
async fn a_task_that_no_machine_can_do_lets_the_others_by_and_dies() {
    let lab = Lab::new(PROGRAMS).await;
    let driver = format!(
        "import json, sys\nif json.load(open('task.json'))['molecules'][0]['id'] == 'methane':\n    sys.exit(75)\n{COUNT}"
    );
    let limits = lab.write("run.toml", "[limits]\nlapses_max = 2\n");
    push(&lab, &driver, &["--batch-size", "1", "--config", limits.to_str().unwrap()]);
    assert_eq!(lab.worker("one", &["--cores", "1"]).left().await, 0);
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.dead, progress.failures), (2, 1, 0));
    assert_eq!((progress.lapses, progress.releases), (2, 0));
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.reason.as_deref()), (State::Dead, Some("machine")));
    let mut requests = Vec::new();
    for task in 0..3 {
        requests.push(lab.task("r", task).await.lease.unwrap().request);
    }
    assert!(
        requests[1..].iter().all(|request| *request < requests[0]),
        "the others came before: {requests:?}"
    );
}

#[tokio::test]
async fn a_driver_that_lies_by_exit_0_scores_nothing() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, "open('rows.csv', 'w').write('molecule_id,letters\\nmethane,0\\nethane,2\\n')\n", &[]);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let shard = shard(&lab);
    let verdicts: Vec<(&str, &str)> =
        shard.rows.iter().map(|row| (row.reason.as_str(), row.columns[1].as_str())).collect();
    assert_eq!(
        verdicts,
        [
            ("out_of_range", "letters is 0 letters (plausible: 1 to 500)"),
            ("", ""),
            ("no_row", "rows.csv has no row with its id")
        ]
    );
}

#[tokio::test]
async fn a_molecule_that_crashes_a_driver_takes_no_neighbour_along() {
    let lab = Lab::new(PROGRAMS).await;
    let crash = "        if molecule['id'] == 'ethane':\n            import os\n            os.abort()\n";
    let worked = "        open('output/%s' % molecule['id'][:5], 'w').write('x')\n";
    let each = "    for molecule in task[\"molecules\"]:\n";
    push(&lab, &COUNT.replace(each, &format!("{each}{crash}{worked}")), &[]);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let shard = shard(&lab);
    let verdicts: Vec<(&str, &str)> =
        shard.rows.iter().map(|row| (row.reason.as_str(), row.columns[0].as_str())).collect();
    assert_eq!(verdicts, [("", "1"), ("engine_crashed", ""), ("", "9")]);
    assert_eq!(lab.task("r", 0).await.failures, 1, "the second attempt names it");
    let files = kept(&lab);
    let worked = files.keys().filter(|name| name.contains("output/")).count();
    assert_eq!(worked, 2, "each of the others was worked on once: {:?}", files.keys());
}

#[tokio::test]
async fn a_follow_up_run_has_the_driver_and_columns_of_the_first() {
    let lab = Lab::new(PROGRAMS).await;
    push(
        &lab,
        &COUNT.replace("[molecule[\"id\"], ", "[molecule[\"id\"] + task[\"columns\"][0][\"unit\"][7:], "),
        &["--column", "letters,unit=letters2,min=1,max=5"],
    );
    assert_eq!(lab.worker("one", &["--run", "r"]).left().await, 0);
    assert_eq!(shard(&lab).counts(), (0, 3), "the driver writes other ids");
    let own = lab.write("other.py", COUNT);
    let mut follow = vec!["push", "--from", "r", "--run", "next", "--driver", own.to_str().unwrap()];
    follow.extend(["--column", "letters,min=1,max=5", "--batch-size", "3", "--confirm-after-ms", "0"]);
    let ran = lab.launchpad(&follow);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(lab.worker("other", &["--run", "next"]).left().await, 0);
    let followed = Shard::parse(&fs::read(lab.object("next", "shards/shard_0000000.csv")).unwrap()).unwrap();
    let reasons: Vec<&str> = followed.rows.iter().map(|row| row.reason.as_str()).collect();
    assert_eq!(reasons, ["", "", "out_of_range"], "another driver and another range");
    let same = [
        "push",
        "--from",
        "next",
        "--run",
        "again",
        "--confirm-after-ms",
        "0",
        "--column",
        "letters,max=500",
    ];
    assert_eq!(lab.launchpad(&same).code, 0);
    assert_eq!(lab.worker("last", &["--run", "again"]).left().await, 0);
    assert_eq!(lab.progress("again").await.molecules_ok, 1, "the driver of the run that it follows");
    let engine = lab.launchpad(&["push", "--from", "r", "--run", "x", "--engine", "vina"]);
    assert_eq!(
        (engine.code, engine.stderr.contains("engine and from contradict each other")),
        (64, true),
        "{}",
        engine.stderr
    );
}

#[tokio::test]
async fn a_worker_refuses_a_driver_whose_stored_bytes_were_swapped() {
    let lab = Lab::new(PROGRAMS).await;
    push(&lab, COUNT, &["--failures-max", "1"]);
    let stored = lab.object("r", &format!("drivers/{}/driver.py", sha256_hex(COUNT.as_bytes())));
    fs::write(&stored, COUNT.replace("isalpha", "isdigit")).unwrap();
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let task = lab.task("r", 0).await;
    assert_eq!((task.state, task.reason.as_deref()), (State::Dead, Some("input_altered")));
    assert!(!lab.object("r", "shards").exists());
}

#[tokio::test]
async fn a_program_without_a_driver_writes_json_lines() {
    let lab = Lab::new(PROGRAMS).await;
    let ligands = lab.write("r.smi", THREE);
    let argv = "sh -c 'sed \"s/[{]/\\n{/g\" task.json | sed -n \"s/.*\\\"id\\\":\\(\\\"[^\\\"]*\\\"\\).*/{\\\"molecule_id\\\":\\1,\\\"n\\\":1.50}/p\" > rows.jsonl'";
    let mut arguments =
        vec!["push", ligands.to_str().unwrap(), "--run", "r", "--argv", argv, "--rows", "rows.jsonl"];
    arguments.extend(["--column", "n,max=2", "--score", "n", "--confirm-after-ms", "0", "--batch-size", "3"]);
    let ran = lab.launchpad(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    let scores: Vec<String> = shard(&lab).rows.into_iter().map(|row| row.score).collect();
    assert_eq!(scores, ["1.50"; 3], "the program's own digits");
}

#[tokio::test]
async fn drivers_are_listed_shown_published_and_compared() {
    let lab = Lab::new(PROGRAMS).await;
    let list = lab.launchpad(&["driver", "list", "--json"]).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let example = fs::read_to_string(document("examples/descriptors/descriptors.py")).unwrap();
    let listed = list["drivers"].as_array().unwrap();
    assert!(listed.iter().any(|driver| driver["sha256"] == sha256_hex(example.as_bytes())), "{list}");
    assert_eq!(lab.launchpad(&["driver", "show", "descriptors.py"]).stdout, example);
    let unknown = lab.launchpad(&["driver", "show", "nothing.py"]);
    assert_eq!(unknown.code, 64);
    assert!(
        unknown
            .stderr
            .contains("(known: vina_prepare.py, gromacs_mmgbsa.py, gromacs_fep.py, descriptors.py)"),
        "{}",
        unknown.stderr
    );

    let mine = lab.write("driver.py", COUNT);
    let mine = mine.to_str().unwrap();
    let publish = || -> serde_json::Value {
        serde_json::from_str(&lab.launchpad(&["driver", "publish", mine, "--json"]).stdout).unwrap()
    };
    let published = publish();
    let reference = published["driver"].as_str().unwrap().to_owned();
    assert_eq!(reference, format!("sha256:{}/driver.py", sha256_hex(COUNT.as_bytes())));
    assert_eq!((published["found"].as_bool(), publish()["found"].as_bool()), (Some(false), Some(true)));

    push(&lab, "another script", &["--driver", &reference]);
    assert_eq!(lab.worker("one", &[]).left().await, 0);
    assert_eq!(shard(&lab).counts(), (3, 0), "the published driver ran");
    lab.write("driver.py", COUNT);
    let same = lab.launchpad(&["driver", "diff", mine, "r"]);
    assert_eq!((same.code, same.stdout.starts_with("The same: ")), (0, true), "{}", same.stderr);
    lab.write("driver.py", &COUNT.replace("isalpha", "isdigit"));
    let other = lab.launchpad(&["driver", "diff", mine, "r"]);
    assert_eq!(other.code, 65);
    assert!(
        other.stdout.contains("\n-        rows.writerow([molecule[\"id\"], sum(map(str.isalpha"),
        "{}",
        other.stdout
    );
    assert!(
        other.stderr.contains("differs from the driver of run `r`") && other.stderr.contains("hint: "),
        "{}",
        other.stderr
    );
    let json = lab.launchpad(&["driver", "diff", mine, "r", "--json"]).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["same"], false);
}

#[tokio::test]
async fn what_a_command_run_lacks_is_named_before_anything_is_pushed() {
    let lab = Lab::new(PROGRAMS).await;
    let check = |flags: &[&str], message: &str, code: i32| {
        let ran = try_push(&lab, COUNT, THREE, flags);
        assert_eq!(ran.code, code, "{}", ran.stderr);
        assert!(ran.stderr.contains(message) && ran.stderr.contains("hint: "), "{}", ran.stderr);
    };
    check(
        &["--argv", "mytool"],
        "error: there is a driver and argv does not name it (expected `{driver}` in it)",
        78,
    );
    check(&["--column", "score"], "error: the column `score` has a reserved name", 78);
    check(&["--rows", "../rows.csv"], "error: the file of rows `../rows.csv` can't be used", 78);
    check(&["--receptor", "r.pdb"], "error: `receptor` is no parameter of the engine `command`", 78);
    check(&["--driver", "sha256:12/x.py"], "error: `sha256:12/x.py` is no published driver", 64);
    let dry = try_push(&lab, COUNT, THREE, &["--dry-run"]);
    assert!(dry.stdout.contains("columns     letters [letters] 1 to 500"), "{}{}", dry.stdout, dry.stderr);
    let receptor = document("examples/t4l-l99a/receptor.pdb");
    let docking =
        ["--receptor", receptor.to_str().unwrap(), "--box-center", "42,45,18", "--box-size", "14", "--json"];
    let ligands = lab.path("r.smi");
    let own = ["push", ligands.to_str().unwrap(), "--run", "r", "--driver", "driver.py", "--dry-run"];
    let dry: serde_json::Value =
        serde_json::from_str(&lab.launchpad(&[&own[..], &docking[..]].concat()).stdout).unwrap();
    let objects = dry["objects"].as_array().unwrap();
    let drivers = objects.iter().filter(|object| object["name"].as_str().unwrap().starts_with("drivers/"));
    let drivers: Vec<&str> = drivers.map(|object| object["name"].as_str().unwrap()).collect();
    assert_eq!(
        drivers,
        [format!("drivers/{}/driver.py", sha256_hex(COUNT.as_bytes()))],
        "vina takes one, too"
    );
    assert!(lab.queue().runs().await.unwrap().is_empty());
}
