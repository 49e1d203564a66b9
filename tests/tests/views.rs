//! The commands that only look: lists of tasks and workers, logs, the best molecules and their poses, timings. Real workers and
//! engines, and RDKit as the judge of what is written for chemists.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs;
use std::process::{Command, Stdio};

use common::queue::{Grant, LeaseReply};
use common::task::{Shard, State, TaskId};
use serde_json::Value;
use tests::{Lab, Programs, eventually, run_id};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// Charges, polar hydrogens, aromatic nitrogen, a stereocentre, a double bond, a ring, a salt: what a pose could lose.
const LIGANDS: &str = "C[C@H]([NH3+])C(=O)[O-] alanine\nC/C=C/C(=O)O crotonate\nC1CC no-ring\n\
    c1cncc2c1[nH]cc2 thieno[2,3-c]pyridine\nO=[N+]([O-])c1ccccc1 nitro\nCCO.[Na+].[Cl-] salt\n";

/// What launchpad prints, which has to end well.
fn printed(lab: &Lab, arguments: &[&str]) -> String {
    let ran = lab.launchpad(arguments);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    ran.stdout
}

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(lab, &[arguments, &["--json"]].concat())).unwrap()
}

fn json_lines(lab: &Lab, arguments: &[&str]) -> Vec<Value> {
    let text = printed(lab, &[arguments, &["--json"]].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The tasks that `tasks` lists under some conditions.
fn listed(lab: &Lab, conditions: &[&str]) -> Vec<u64> {
    let lines = json_lines(lab, &[&["tasks", "r"], conditions].concat());
    lines.iter().map(|line| line["task"].as_u64().unwrap()).collect()
}

/// Leases tasks as a worker that will never be heard of again.
async fn vanish_with(lab: &Lab, tasks: u64) -> Vec<Grant> {
    let (queue, run) = (lab.queue(), run_id("r"));
    let digest = queue.run_info(&run).await.unwrap().digest;
    match queue.lease(&run, &digest, &"vanished".parse().unwrap(), 1, tasks).await.unwrap() {
        LeaseReply::Granted { grants, .. } => grants,
        other => panic!("nothing was leased: {other:?}"),
    }
}

async fn docked(batch_size: &str) -> Lab {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &["--batch-size", batch_size]);
    assert_eq!(lab.worker("w", &["--run", "r", "--exit-when", "drained"]).left().await, 0);
    lab
}

/// Molecule id, docked SMILES and score of all rows that are ok, from the shards themselves.
fn rows(lab: &Lab, tasks: u64) -> Vec<(String, String, f64)> {
    let shard = |task| fs::read(lab.object("r", &common::storage::key::shard(TaskId(task)))).unwrap();
    let shards = (0..tasks).map(|task| Shard::parse(&shard(task)).unwrap());
    let rows = shards.flat_map(|shard| shard.rows).filter(|row| !row.score.is_empty());
    rows.map(|row| (row.molecule_id, row.columns[0].clone(), row.score.parse().unwrap())).collect()
}

/// What RDKit reads in an SDF file: id, canonical SMILES and score of each record. Stereo is taken from the coordinates.
const READ_SDF: &str = "\
import sys
from rdkit import Chem
for mol in Chem.SDMolSupplier(sys.argv[1]):
    Chem.AssignStereochemistryFrom3D(mol)
    print(mol.GetProp('molecule_id'), Chem.MolToSmiles(Chem.RemoveHs(mol)), mol.GetProp('score'), sep='\\t')
";

#[tokio::test]
async fn poses_are_the_docked_molecules_in_the_pocket() {
    let lab = docked("2").await;
    let mut best = rows(&lab, 3);
    assert_eq!(best.len(), 5, "{best:?}");
    best.sort_by(|a, b| a.2.total_cmp(&b.2));

    let written = json(&lab, &["poses", "r", "--top", "10", "--modes", "2", "-o", "best.sdf"]);
    assert_eq!((&written["molecules"], &written["tasks_included"]), (&5.into(), &3.into()));
    let read =
        Command::new("/usr/bin/python3").args(["-c", READ_SDF]).arg(lab.path("best.sdf")).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let records: Vec<Vec<String>> = String::from_utf8(read.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect())
        .collect();
    assert_eq!(Some(records.len() as u64), written["poses"].as_u64());
    let mut order: Vec<&str> = Vec::new();
    for record in &records {
        let (id, smiles, score) = (&record[0], &record[1], record[2].parse::<f64>().unwrap());
        let (_, docked, best_score) = best.iter().find(|row| row.0 == *id).unwrap();
        assert_eq!(smiles, docked, "{id}");
        if order.last() == Some(&id.as_str()) {
            assert!(score >= *best_score, "{id}");
        } else {
            assert!((score - best_score).abs() < 1e-9, "{id}");
            order.push(id);
        }
    }
    assert_eq!(order, best.iter().map(|row| row.0.as_str()).collect::<Vec<_>>());

    // The coordinates are those of the engine, in the pocket.
    let sdf = fs::read_to_string(lab.path("best.sdf")).unwrap();
    printed(&lab, &["poses", "r", "--top", "1", "-o", "best.pdbqt"]);
    let pdbqt = fs::read_to_string(lab.path("best.pdbqt")).unwrap();
    assert!(pdbqt.starts_with(&format!("MODEL 1\nREMARK  molecule_id = {}\n", best[0].0)), "{pdbqt}");
    assert!(pdbqt.ends_with("\nENDMDL\n") && pdbqt.matches("MODEL ").count() == 1);
    let first_record = sdf.split("$$$$").next().unwrap();
    let atoms = pdbqt.lines().filter(|line| line.starts_with("ATOM"));
    for atom in atoms {
        let numbers = [30, 38, 46].map(|start| atom[start..start + 8].trim().parse::<f64>().unwrap());
        let line = numbers.map(|number| format!("{number:10.4}")).concat();
        assert!(first_record.contains(&line), "{line} is not in\n{first_record}");
    }
}

#[tokio::test]
async fn poses_go_to_standard_output_as_to_a_file() {
    let lab = docked("1").await;
    printed(&lab, &["poses", "r", "-o", "best.sdf"]);
    let ran = lab.launchpad(&["poses", "r", "-o", "-", "-q"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, std::fs::read_to_string(lab.path("best.sdf")).unwrap());
    assert!(ran.stdout.ends_with("$$$$\n") && !lab.path("-").exists());
}

#[tokio::test]
async fn poses_that_cannot_be_trusted_are_refused_and_leave_no_file() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", "Cc1ccccc1 toluene\n", &[]);
    assert_eq!(lab.worker("w", &["--run", "r", "--exit-when", "drained"]).left().await, 0);
    let refused = lab.launchpad(&["poses", "r", "-o", "best.mol2"]);
    assert_eq!(refused.code, 64);
    assert!(
        refused.stderr.contains("`best.mol2` ends with neither .sdf nor .pdbqt\nhint: "),
        "{}",
        refused.stderr
    );
    let lease = lab.task("r", 0).await.lease.unwrap();
    let object = format!("attempts/0000000/{lease}/poses/00000.pdbqt");
    let poses = fs::read_to_string(lab.object("r", &object)).unwrap();
    fs::write(lab.object("r", &object), poses.replacen("ATOM ", "ATOM X", 1)).unwrap();
    let altered = lab.launchpad(&["poses", "r", "-o", "best.sdf"]);
    assert_eq!(altered.code, 65);
    assert!(
        altered.stderr.contains(&format!("`{object}` has other bytes than recorded")),
        "{}",
        altered.stderr
    );
    assert!(!lab.path("best.sdf").exists());
}

#[tokio::test]
async fn top_ranks_what_is_there_and_leaves_out_what_is_damaged() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &["--batch-size", "2"]);
    let none = json(&lab, &["top", "r"]);
    assert_eq!(
        (&none["tasks"], &none["tasks_included"], &none["best"]),
        (&3.into(), &0.into(), &Value::Array(vec![]))
    );
    assert_eq!(lab.worker("w", &["--run", "r", "--exit-when", "drained"]).left().await, 0);

    let mut best = rows(&lab, 3);
    best.sort_by(|a, b| a.2.total_cmp(&b.2));
    let ranked = |value: &Value| -> Vec<String> {
        value["best"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["molecule_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let lowest = json(&lab, &["top", "r", "-n", "2"]);
    assert_eq!(ranked(&lowest), [best[0].0.clone(), best[1].0.clone()]);
    assert_eq!((&lowest["molecules"], &lowest["tasks_included"]), (&5.into(), &3.into()));
    let highest = json(&lab, &["top", "r", "-n", "1", "--highest"]);
    assert_eq!(ranked(&highest), [best[4].0.clone()]);
    let contacts = json(&lab, &["top", "r", "--by", "contacts", "--highest"]);
    let values: Vec<u64> = contacts["best"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["value"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(values.len() == 5 && values.is_sorted_by(|a, b| a >= b), "{values:?}");
    let unknown = lab.launchpad(&["top", "r", "--by", "affinity"]);
    assert_eq!(unknown.code, 64);
    assert!(
        unknown.stderr.contains("the shards have no column `affinity` (known: score, docked_smiles, "),
        "{}",
        unknown.stderr
    );

    let shard = lab.object("r", "shards/shard_0000000.csv");
    fs::write(&shard, fs::read_to_string(&shard).unwrap().replace(",ok,,-", ",ok,,-9")).unwrap();
    let ran = lab.launchpad(&["top", "r"]);
    assert!(ran.stderr.contains("left out: task 0: shard_altered: "), "{}", ran.stderr);
    assert!(
        ran.stdout.contains("of 2 of 3 tasks; 1 were left out, their shards are damaged\n"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn every_number_of_status_is_a_list() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    let vanished = vanish_with(&lab, 1).await;
    lab.stub("vina").set("gate", "");
    let mut worker = lab.worker("w", &["--run", "r"]);
    lab.until_noted("waiting", 1).await;
    lab.launchpad(&["cancel", "r", "--task", "5", "--yes"]);

    // While it goes: who holds what.
    let leased = json_lines(&lab, &["tasks", "r", "--state", "leased"]);
    let holders: Vec<&str> = leased.iter().map(|line| line["worker"].as_str().unwrap()).collect();
    assert!(holders.len() == 2 && holders.contains(&"vanished"), "{leased:?}");
    let id = holders.iter().find(|holder| **holder != "vanished").unwrap();
    assert_eq!(listed(&lab, &["--worker", "vanished"]), [vanished[0].task.0]);
    let workers = eventually("the registry shows the task", || async {
        let workers = json(&lab, &["workers"]);
        let shown =
            workers.as_array().unwrap().iter().any(|worker| worker["tasks"] == serde_json::json!(["r/1"]));
        if shown { Ok(workers) } else { Err(workers) }
    })
    .await;
    let worker_line = &workers[0];
    assert_eq!((worker_line["id"].as_str(), worker_line["slots"].as_u64()), (Some(*id), Some(1)));
    assert_eq!((&worker_line["state"], worker_line["host"].is_string()), (&"working".into(), true));
    assert!(worker_line["seen_ms_ago"].as_u64().unwrap() < 60_000 && worker_line["version"].is_string());
    assert!(worker_line["up_ms"].is_u64(), "{worker_line}");
    assert!(printed(&lab, &["workers"]).lines().next().unwrap().starts_with("worker "));

    lab.unset("gate");
    lab.until("r", "all tasks have ended", |progress| progress.terminal() == progress.total).await;
    worker.kill9();
    let status = json(&lab, &["status", "r"]);
    for state in State::ALL {
        assert_eq!(
            Some(listed(&lab, &["--state", state.name()]).len() as u64),
            status[state.name()].as_u64(),
            "{state}"
        );
    }
    assert_eq!(listed(&lab, &[]).len(), 6);
    assert_eq!(listed(&lab, &["--state", "succeeded", "--state", "cancelled", "--limit", "4"]), [0, 1, 2, 3]);
    assert_eq!((listed(&lab, &["--with", "lapses"]), listed(&lab, &["--with", "bad"])), (vec![0], vec![2]));
    assert_eq!(listed(&lab, &["--with", "lapses", "--with", "bad", "--state", "dead"]), [0_u64; 0]);
    let text = lab.launchpad(&["tasks", "r", "--with", "bad"]);
    assert!(text.stdout.starts_with("   task  state         ok    bad  failures"), "{}", text.stdout);
    assert!(
        text.stdout.lines().nth(1).unwrap().starts_with("      2  succeeded      0      1         0"),
        "{}",
        text.stdout
    );
    assert_eq!(text.stderr, "1 of 6 tasks\n");
    assert_eq!(lab.launchpad(&["tasks", "r", "--state", "running"]).code, 64);
    assert_eq!(lab.launchpad(&["tasks", "r", "--reason", "("]).code, 64);
    assert_eq!(lab.launchpad(&["tasks", "nothing"]).code, 65);
}

#[tokio::test]
async fn reasons_are_searched() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", "C a\nCC b\n", &["--failures-max", "1"]);
    lab.stub("vina").set("crash", "");
    assert_eq!(lab.worker("w", &["--run", "r", "--exit-when", "drained"]).left().await, 0);
    let dead = listed(&lab, &["--state", "dead"]);
    assert_eq!(dead, [0, 1]);
    let reason = lab.task("r", 0).await.reason.unwrap();
    assert_eq!(listed(&lab, &["--reason", &format!("^{}", &reason[..4])]), dead);
    assert_eq!(listed(&lab, &["--reason", "no_such_reason"]), [0_u64; 0]);
}

#[tokio::test]
async fn logs_are_whole_and_attempts_without_any_say_why() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", "Cc1ccccc1 toluene\nC1CC no-ring\n", &["--batch-size", "2"]);
    let refused = |arguments: &[&str], expect: &str| {
        let ran = lab.launchpad(&[&["logs", "r"], arguments].concat());
        assert_eq!(ran.code, 65, "{}", ran.stdout);
        assert!(ran.stderr.contains(expect), "{}", ran.stderr);
    };
    refused(&["0"], "task 0 was never leased: it has no attempts");
    refused(&["1"], "run `r` has no task 1 (it has 1, from 0)");
    let lease = vanish_with(&lab, 1).await.remove(0).lease;
    refused(&["0"], &format!("attempt {lease} of task 0 has no logs: it is still running"));
    assert_eq!(lab.worker("w", &["--run", "r", "--exit-when", "drained"]).left().await, 0);
    refused(
        &["0", "--attempt", "1"],
        &format!("attempt {lease} of task 0 has no logs: its worker vanished\nhint: "),
    );
    refused(&["0", "--attempt", "3"], "task 0 has no attempt 3 (it has 1, 2)");

    let latest = lab.task("r", 0).await.lease.unwrap();
    let stored =
        fs::read_to_string(lab.object("r", &format!("attempts/0000000/{latest}/logs/dock_00000.stdout")))
            .unwrap();
    assert!(stored.contains("AutoDock Vina"), "{stored}");
    let text = printed(&lab, &["logs", "r", "0"]);
    let (convert, dock) = (
        text.find("==> convert_00000.").unwrap(),
        text.find("==> dock_00000.stdout (exit 0 after ").unwrap(),
    );
    assert!(convert < dock && text.contains(&format!(" <==\n{stored}")), "{text}");
    let lines = json_lines(&lab, &["logs", "r", "0", "--attempt", "2"]);
    let dock = lines.iter().find(|line| line["step"] == "dock_00000" && line["stream"] == "stdout").unwrap();
    assert_eq!(
        (dock["text"].as_str(), dock["lease"].as_str()),
        (Some(stored.as_str()), Some(latest.to_string().as_str()))
    );
}

#[tokio::test]
async fn an_export_has_the_times_of_every_task_and_changes_nothing() {
    let lab = docked("4").await;
    lab.push("other", "C a\n", &[]);
    let before = lab.progress("r").await;
    let csv = printed(&lab, &["export", "r"]);
    printed(&lab, &["export", "r", "--csv", "-o", "timings.csv"]);
    assert_eq!(fs::read_to_string(lab.path("timings.csv")).unwrap(), csv);
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        (lines.len(), lines[0][0], lines[0][11], lines[0][18]),
        (3, "task", "queued_ms", "completed_ms")
    );
    let rows = printed(&lab, &["export", "r", "--jsonl"]);
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (task, (row, line)) in rows.iter().zip(&lines[1..]).enumerate() {
        let info = lab.task("r", task as u64).await;
        let timings = info.timings.unwrap();
        assert_eq!(row["engine_ended_ms"].as_u64(), timings.moments.engine_ended);
        assert_eq!((row["completed_ms"].as_u64(), row["attempts"].as_u64()), (timings.completed, Some(1)));
        assert_eq!(
            (row["bytes_up"].as_u64(), row["state"].as_str()),
            (info.bytes.map(|bytes| bytes.1), Some("succeeded"))
        );
        for (name, cell) in lines[0].iter().zip(line) {
            let value = &row[*name];
            let text = value.as_str().map_or_else(
                || if value.is_null() { String::new() } else { value.to_string() },
                str::to_owned,
            );
            assert_eq!(*cell, text, "{name}");
        }
    }
    for (task, steps) in
        json_lines(&lab, &["export", "r", "--steps"]).chunk_by(|a, b| a["task"] == b["task"]).enumerate()
    {
        let kinds: Vec<&str> = steps.iter().map(|step| step["kind"].as_str().unwrap()).collect();
        assert_eq!((kinds[0], kinds.contains(&"convert"), kinds.last()), ("prepare", true, Some(&"dock")));
        let took: u64 = steps.iter().map(|step| step["elapsed_ms"].as_u64().unwrap()).sum();
        let moments = lab.task("r", task as u64).await.timings.unwrap().moments;
        let engine = moments.engine_ended.unwrap() - moments.engine_started.unwrap();
        assert!(took > 0 && took <= engine + steps.len() as u64, "{took} {engine} {steps:?}");
    }
    assert_eq!(json_lines(&lab, &["export", "other", "--steps"]), [Value::Null; 0], "nothing has succeeded");
    assert_eq!(lab.progress("r").await, before);
    let pending = json_lines(&lab, &["export", "other"]);
    assert_eq!(
        (&pending[0]["state"], &pending[0]["queued_ms"], &pending[0]["lease"]),
        (&"pending".into(), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_a_list() {
    let lab = Lab::new(PROGRAMS).await;
    let molecules: Vec<String> = (0..20_000).map(|n| format!("C m{n}\n")).collect();
    lab.push("r", &molecules.concat(), &[]);
    for list in [&["tasks", "r"][..], &["export", "r"]] {
        let mut command =
            lab.launchpad_command(list).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(command.stdout.take());
        let ended = command.wait_with_output().unwrap();
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr).contains("error")),
            (Some(0), false)
        );
    }
    assert_eq!(listed(&lab, &["--state", "pending"]).len(), 20_000);
}
