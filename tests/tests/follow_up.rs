//! What a person does with a run that did not go well: retry, a follow-up run of what has no score, one table of both.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs and look into Redis behind the queue's back"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::digest::sha256_hex;
use common::task::{State, TaskId};
use serde_json::{Value, json};
use tests::{Lab, Pretender, Programs, eventually, run_id};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const LIGANDS: &str = "c1ccccc1 a\nCc1ccccc1 b\nOc1ccccc1 c\nNc1ccccc1 d\nFc1ccccc1 e\nClc1ccccc1 f\n";

/// What launchpad printed as JSON, having done what it was told.
fn told(lab: &Lab, arguments: &[&str]) -> Value {
    let ran = lab.launchpad(&[arguments, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// What Redis holds of a run.
async fn contents(lab: &Lab, run: &str) -> BTreeMap<String, Vec<u8>> {
    lab.redis.contents(&format!("molfleet:{{{run}}}:*")).await
}

async fn states(lab: &Lab, run: &str) -> Vec<&'static str> {
    let tasks: Vec<TaskId> = (0..lab.progress(run).await.total).map(TaskId).collect();
    let infos = lab.queue().tasks(&run_id(run), &tasks).await.unwrap();
    infos.iter().map(|info| info.state.name()).collect()
}

/// A run whose tasks are: two dead for different reasons, one cancelled, one succeeded, one leased, one pending.
async fn mixed(lab: &Lab) -> Pretender {
    lab.push("r", LIGANDS, &[]);
    let pretender = Pretender::new(lab, "r");
    assert_eq!(lab.launchpad(&["cancel", "r", "--task", "2"]).code, 0);
    let grants = pretender.lease(1, 4).await;
    pretender.kill(&grants[0], "engine_crashed").await;
    pretender.kill(&grants[1], "step_timed_out").await;
    pretender.succeed(&grants[2]).await;
    assert_eq!(states(lab, "r").await, ["dead", "dead", "cancelled", "succeeded", "leased", "pending"]);
    pretender
}

#[tokio::test]
async fn retry_touches_only_what_it_names() {
    let lab = Lab::new(PROGRAMS).await;
    mixed(&lab).await;
    let before = contents(&lab, "r").await;
    let shown = told(&lab, &["retry", "r", "--dry-run"]);
    let tasks = json!([
        {"task": 0, "state": "dead", "reason": "engine_crashed"},
        {"task": 1, "state": "dead", "reason": "step_timed_out"},
    ]);
    assert_eq!(shown, json!({"run": "r", "dry_run": true, "selected": 2, "requeued": 0, "tasks": tasks}));
    let check_dry = |flags: &[&str], expect: &[u64]| {
        let shown = told(&lab, &[&["retry", "r", "--dry-run"], flags].concat());
        let tasks = shown["tasks"].as_array().unwrap().iter().map(|chosen| chosen["task"].as_u64().unwrap());
        assert_eq!(tasks.collect::<Vec<_>>(), expect, "{flags:?}");
    };
    check_dry(&["--cancelled"], &[2]);
    check_dry(&["--dead", "--cancelled"], &[0, 1, 2]);
    check_dry(&["--limit", "1"], &[0]);
    check_dry(&["--reason", "^step_"], &[1]);
    check_dry(&["--reason", "crash", "--cancelled"], &[]);
    check_dry(&["--task", "5", "--task", "2", "--task", "1", "--task", "3", "--task", "4"], &[1, 2]);
    check_dry(&["--task", "2", "--task", "1", "--dead"], &[1]);
    assert_eq!(contents(&lab, "r").await, before, "a dry run changes nothing");

    let ran = lab.launchpad(&["retry", "r", "--reason", "^step_"]);
    assert!(ran.stdout.contains("1 tasks of r are pending again (1 step_timed_out).\n"), "{}", ran.stdout);
    assert_eq!(states(&lab, "r").await, ["dead", "pending", "cancelled", "succeeded", "leased", "pending"]);
    let after = contents(&lab, "r").await;
    for task in [0, 2, 3, 4] {
        let key = format!("molfleet:{{r}}:task:{task}");
        assert_eq!(after.get(&key), before.get(&key), "task {task}");
    }
    assert_eq!(lab.task("r", 1).await.failures, 0, "it has all its tries again");

    let again = lab.launchpad(&["retry", "r", "--reason", "^step_"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "No task of r fits. Nothing was changed.\n"));
    assert_eq!(contents(&lab, "r").await, after, "repeated, it changes nothing");
    let named = ["retry", "r", "--task", "2", "--task", "3", "--task", "4", "--task", "5"];
    assert_eq!(told(&lab, &named)["requeued"], 1);
    assert_eq!(states(&lab, "r").await, ["dead", "pending", "pending", "succeeded", "leased", "pending"]);
}

#[tokio::test]
async fn a_task_that_is_leased_while_retry_looks_is_left_alone() {
    let lab = Lab::new(PROGRAMS).await;
    let pretender = mixed(&lab).await;
    // Redis has to know the script already, or the one that is first would have to load it and come last.
    assert_eq!(lab.queue().requeue(&run_id("r"), &[(TaskId(0), 9)]).await.unwrap(), 0);
    let mut connection = lab.redis.connection().await;
    redis::cmd("CLIENT").arg(&["PAUSE", "60000", "WRITE"]).exec_async(&mut connection).await.unwrap();
    // Reads go through, so that retry sees two dead tasks; its own script has to wait behind somebody else's.
    let (queue, run) = (lab.queue(), run_id("r"));
    let faster = tokio::spawn(async move { queue.requeue(&run, &[(TaskId(0), 1)]).await.unwrap() });
    until_held(&lab, 1).await;
    let leased = tokio::spawn(async move { pretender.lease(2, 9).await });
    until_held(&lab, 2).await;
    let retry = lab.launchpad_command(&["retry", "r", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    until_held(&lab, 3).await;
    redis::cmd("CLIENT").arg("UNPAUSE").exec_async(&mut connection).await.unwrap();
    assert_eq!((faster.await.unwrap(), leased.await.unwrap().len()), (1, 2));
    let retried: Value = serde_json::from_slice(&retry.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((&retried["selected"], &retried["requeued"]), (&json!(2), &json!(1)));
    assert_eq!(states(&lab, "r").await, ["leased", "pending", "cancelled", "succeeded", "leased", "leased"]);
    assert_eq!(lab.task("r", 0).await.lease.unwrap().number, 2, "the new lease is held");
}

/// Waits until Redis holds up this many clients.
async fn until_held(lab: &Lab, clients: usize) {
    eventually(&format!("{clients} clients are held up"), || async {
        let mut connection = lab.redis.connection().await;
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
        let held = list.lines().filter(|line| line.contains(" flags=b")).count();
        if held == clients { Ok(()) } else { Err(list) }
    })
    .await;
}

#[tokio::test]
async fn what_retry_cannot_do_is_said() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    let check = |arguments: &[&str], code: i32, expect: &str| {
        let ran = lab.launchpad(arguments);
        assert_eq!(ran.code, code, "{arguments:?}");
        assert!(ran.stderr.contains(expect), "{arguments:?}: {}", ran.stderr);
    };
    check(&["retry", "x"], 65, "there is no run `x`");
    check(&["retry", "r", "--task", "6"], 65, "run `r` has no task 6 (it has 6, from 0)");
    check(&["retry", "r", "--reason", "("], 64, "unclosed group");
    check(&["push", "--from", "x", "--run", "y"], 65, "there is no run `x`");
    check(&["push", "--from", "r", "--run", "r"], 64, "run `r` can't follow itself\nhint: name the new run");
    check(&["push", "--from", "r"], 64, "no run id was given");
    check(&["push", "--run", "y", "--bad"], 64, "--from");
    check(&["push", "l.smi", "--from", "r", "--run", "y"], 64, "cannot be used with");
    check(&["push", "--from", "r", "--run", "y", "--sample", "3"], 64, "--of-top");
    check(&["push", "--from", "r", "--run", "y"], 65, "task 5: not_terminal: the task is pending\n");
    check(
        &["push", "--from", "r", "--run", "y"],
        65,
        "run `r` has 6 tasks without a result that can be trusted, nothing was pushed\nhint: `launchpad status r`",
    );
    check(&["consolidate", "r", "r", "-o", "out.csv"], 65, "run `r` is named twice");
    check(&["consolidate", "r", "-o", "out.csv", "--prefer", "last"], 64, "<FOLLOWUP>");
}

/// Two records of an SDF that the examples have.
fn two_records() -> String {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/t4l-l99a");
    let records = ["benzene", "toluene"].map(|name| {
        let record = fs::read_to_string(example.join(format!("{name}.sdf"))).unwrap();
        let (_title, rest) = record.split_once('\n').unwrap();
        format!("{name}\n{}\n$$$$\n", rest.trim_end())
    });
    records.concat()
}

/// A run of three tasks with the molecules a b | c d | e f and, from an SDF, benzene toluene: b is bad, c and d are dead, toluene is bad.
async fn ended(lab: &Lab) {
    lab.write("two.sdf", &two_records());
    let flags =
        ["two.sdf", "--batch-size", "2", "--seed", "7", "--label", "target=t4l", "--campaign", "camp"];
    lab.push("first", LIGANDS, &flags);
    let pretender = Pretender::new(lab, "first");
    let grants = pretender.lease(1, 4).await;
    pretender.kill(&grants[1], "engine_crashed").await;
    for grant in [&grants[0], &grants[2], &grants[3]] {
        let score = |id: &str| (id != "b" && id != "toluene").then(|| format!("-{}.5", grant.task));
        pretender.succeed_with(grant, score).await;
    }
}

fn manifest(lab: &Lab, run: &str) -> Vec<String> {
    let text = fs::read_to_string(lab.object(run, "manifest.csv")).unwrap();
    text.lines().skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_follow_up_has_the_molecules_without_a_score_and_all_else_of_its_run() {
    let lab = Lab::new(PROGRAMS).await;
    ended(&lab).await;
    let before = contents(&lab, "first").await;
    let push = ["push", "--from", "first", "--run", "second", "--confirm-after-ms", "0"];
    let dry = told(&lab, &[&push[..], &["--dry-run"]].concat());
    assert_eq!((&dry["tasks"], &dry["molecules"]), (&json!(4), &json!(4)));
    assert!(!lab.store_folder().join("second").exists());
    let pushed = told(&lab, &push);
    assert_eq!(pushed["digest"], dry["digest"]);

    let sdf = two_records();
    let object = format!("inputs/{}/two.sdf", sha256_hex(sdf.as_bytes()));
    let offset = sdf.find("toluene").unwrap();
    let toluene = format!("3,toluene,,{object},{offset},{},sdf,,", sdf.len() - offset);
    let rows = manifest(&lab, "second");
    assert_eq!(
        rows[..3],
        ["0,b,Cc1ccccc1,,,,smiles,,,2", "1,c,Oc1ccccc1,,,,smiles,,,3", "2,d,Nc1ccccc1,,,,smiles,,,4"]
    );
    assert!(rows.len() == 4 && rows[3].starts_with(&toluene), "{rows:?}");
    assert_eq!(rows[3].rsplit(',').next(), manifest(&lab, "first")[7].rsplit(',').next(), "the user's line");
    assert_eq!(fs::read_to_string(lab.object("second", &object)).unwrap(), sdf);

    let queue = lab.queue();
    let (first, second) =
        (queue.run_info(&run_id("first")).await.unwrap(), queue.run_info(&run_id("second")).await.unwrap());
    let mut expected = first.spec.clone();
    (expected.run, expected.manifest) = (run_id("second"), second.spec.manifest.clone());
    assert_eq!(second.spec, expected);
    assert_eq!((&second.limits, &second.store), (&first.limits, &first.store));
    for object in second.spec.inputs.values().chain(second.spec.drivers.values()) {
        assert_eq!(sha256_hex(&fs::read(lab.object("second", &object.object)).unwrap()), object.sha256);
    }
    let label = |name: &str| second.labels.get(name).map(String::as_str);
    assert_eq!((label("label:from"), label("label:target")), (Some("first"), Some("t4l")));
    assert_eq!(label("campaign"), Some("camp"));
    assert_eq!(contents(&lab, "first").await, before, "the first run stays as it is");

    assert_eq!(told(&lab, &push)["found"], 4, "pushed again, it is there already");
    let other = lab.launchpad(&[&push[..], &["--bad"]].concat());
    assert!(
        other.code == 65 && other.stderr.contains("run `second` is there and is another"),
        "{}",
        other.stderr
    );
}

#[tokio::test]
async fn flags_choose_molecules_and_change_what_the_follow_up_does() {
    let lab = Lab::new(PROGRAMS).await;
    ended(&lab).await;
    let push = |run: &str, flags: &[&str]| {
        let push = ["push", "--from", "first", "--run", run, "--confirm-after-ms", "0"];
        told(&lab, &[&push[..], flags].concat())
    };
    let ids = |run: &str| -> Vec<String> {
        manifest(&lab, run).iter().map(|row| row.split(',').take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    push("bad", &["--bad", "--batch-size", "2", "--exhaustiveness", "3", "--box-size", "20", "--seed", "8"]);
    assert_eq!(ids("bad"), ["0 b", "0 toluene"]);
    let (first, bad) = (
        lab.queue().run_info(&run_id("first")).await.unwrap().spec,
        lab.queue().run_info(&run_id("bad")).await.unwrap().spec,
    );
    let (common::task::EngineOptions::Vina(first_vina), common::task::EngineOptions::Vina(vina)) =
        (&first.engine, &bad.engine)
    else {
        panic!("a docking run")
    };
    assert_eq!((vina.center, vina.size, vina.exhaustiveness), (first_vina.center, [20.0; 3], 3));
    assert_eq!((vina.modes, bad.seed, &bad.inputs), (first_vina.modes, 8, &first.inputs));

    push("dead", &["--dead"]);
    assert_eq!(ids("dead"), ["0 c", "1 d"]);
    assert!(fs::read_dir(lab.store_folder().join("dead/inputs")).unwrap().count() == 1, "no SDF is needed");
    // The best three are benzene −3.5, e −2.5 and f −2.5; a is −0.5.
    push("sample", &["--sample", "9", "--of-top", "3"]);
    assert_eq!(ids("sample"), ["0 e", "1 f", "2 benzene"]);
    push("drawn", &["--sample", "1", "--of-top", "3"]);
    assert_eq!(ids("drawn").len(), 1);

    // A run of runs: the dead ones of a follow-up come from it, and when all are ok nothing is left to push.
    Pretender::new(&lab, "dead").succeed_all(2).await;
    let nothing = lab.launchpad(&["push", "--from", "dead", "--run", "third"]);
    assert_eq!(nothing.code, 0);
    assert_eq!(nothing.stdout, "dead has no such molecules: nothing was pushed as third.\n");
    let nothing = told(&lab, &["push", "--from", "dead", "--run", "third"]);
    assert_eq!(nothing, json!({"run": "third", "from": "dead", "tasks": 0, "molecules": 0}));
    assert!(!lab.store_folder().join("third").exists() && contents(&lab, "third").await.is_empty());
}

#[tokio::test]
async fn a_result_that_cannot_be_trusted_is_not_followed() {
    let lab = Lab::new(PROGRAMS).await;
    ended(&lab).await;
    let shard = lab.object("first", &common::storage::key::shard(TaskId(2)));
    fs::write(&shard, fs::read_to_string(&shard).unwrap().replace("-2.5", "-9.5")).unwrap();
    let ran = lab.launchpad(&["push", "--from", "first", "--run", "second"]);
    assert_eq!(ran.code, 65);
    assert!(ran.stderr.contains("task 2: shard_altered: "), "{}", ran.stderr);
    assert!(contents(&lab, "second").await.is_empty() && !lab.store_folder().join("second").exists());
}

fn rows(lab: &Lab, table: &str) -> Vec<String> {
    let text = fs::read_to_string(lab.path(table)).unwrap();
    let row = |line: &str| line.split(',').take(7).collect::<Vec<_>>().join(",");
    text.lines().map(row).collect()
}

/// The merged table of three runs, with this row for molecule b.
fn merged_rows(b: &str) -> Vec<String> {
    let lines = [
        "run,task_id,molecule_id,smiles,verdict,reason,score",
        "first,0,a,c1ccccc1,ok,,-0.5",
        b,
        "first,1,c,Oc1ccccc1,dead,engine_crashed,",
        "second,2,d,Nc1ccccc1,ok,,-8.2",
        "first,2,e,Fc1ccccc1,ok,,-2.5",
        "first,2,f,Clc1ccccc1,ok,,-2.5",
        "first,3,benzene,,ok,,-3.5",
        "first,3,toluene,,bad,no_contact,",
        "third,1,new,Ic1ccccc1,ok,,-5.2",
    ];
    lines.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn several_runs_become_one_table_with_each_molecule_once() {
    let lab = Lab::new(PROGRAMS).await;
    ended(&lab).await;
    assert_eq!(lab.launchpad(&["consolidate", "first", "-o", "first.csv"]).code, 0);
    let (alone, alone_receipt) =
        (fs::read(lab.path("first.csv")).unwrap(), fs::read(lab.path("first.receipt.json")).unwrap());
    let push = ["push", "--from", "first", "--run", "second", "--confirm-after-ms", "0"];
    told(&lab, &push);
    let pretender = Pretender::new(&lab, "second");
    let grants = pretender.lease(1, 4).await;
    for grant in &grants[..3] {
        pretender.succeed_with(grant, |id| (id != "c").then(|| format!("-8.{}", grant.task))).await;
    }
    let merge = ["consolidate", "first", "second", "-o", "all.csv"];
    let ran = lab.launchpad(&merge);
    assert_eq!(ran.code, 65);
    assert!(
        ran.stderr.contains("missing: run second, task 3, molecule `toluene`: not_terminal"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("error: run `second` is incomplete: 1 molecules of 1 tasks"),
        "{}",
        ran.stderr
    );
    assert!(!lab.path("all.csv").exists());
    let receipt: Value = serde_json::from_slice(&fs::read(lab.path("all.receipt.json")).unwrap()).unwrap();
    assert_eq!((&receipt["complete"], &receipt["runs"][0]["complete"]), (&json!(false), &json!(true)));
    pretender.kill(&grants[3], "engine_crashed").await;

    // A third run has a molecule of its own, and one that is ok already.
    lab.push("third", "Cc1ccccc1 b\nIc1ccccc1 new\n", &[]);
    Pretender::new(&lab, "third").succeed_all(2).await;
    let measured = lab.write("m.csv", "name,dg\na,-1\nb,-8\nnew,-5\n");
    let measured = format!("{}:dg", measured.display());
    let told_all =
        told(&lab, &["consolidate", "first", "second", "third", "-o", "all.csv", "--measured", &measured]);
    assert_eq!(rows(&lab, "all.csv"), merged_rows("second,0,b,Cc1ccccc1,ok,,-8.0"));
    let receipt = &told_all["receipt"];
    assert_eq!(receipt["results_sha256"], sha256_hex(&fs::read(lab.path("all.csv")).unwrap()));
    assert_eq!(receipt["verdicts"], json!({"ok": 7, "bad": 1, "dead": 1, "cancelled": 0, "missing": 0}));
    assert_eq!((&receipt["molecules"], &receipt["ok_in_several"]), (&json!(9), &json!(["b"])));
    assert_eq!(receipt["rows"], json!({"first": 6, "second": 2, "third": 1}));
    assert_eq!(told_all["comparison"]["n"], 3);
    let single: Value = serde_json::from_slice(&alone_receipt).unwrap();
    for digest in ["spec_sha256", "manifest_sha256", "shards_sha256"] {
        assert_eq!(receipt["runs"][0][digest], single[digest], "{digest}");
    }

    let last =
        lab.launchpad(&["consolidate", "first", "second", "third", "-o", "last.csv", "--prefer", "last"]);
    assert!(
        last.stdout.contains("1 molecules are ok in several runs: the last one named"),
        "{}",
        last.stdout
    );
    let mut expected = merged_rows("third,0,b,Cc1ccccc1,ok,,-5.1");
    expected[3] = "second,1,c,Oc1ccccc1,bad,no_contact,".to_owned();
    expected[8] = "second,3,toluene,,dead,engine_crashed,".to_owned();
    assert_eq!(rows(&lab, "last.csv"), expected);

    assert_eq!(lab.launchpad(&["consolidate", "first", "-o", "first.csv"]).code, 0);
    assert_eq!(fs::read(lab.path("first.csv")).unwrap(), alone);
    assert_eq!(fs::read(lab.path("first.receipt.json")).unwrap(), alone_receipt);
    assert_eq!(fs::read(lab.object("first", "results.csv")).unwrap(), alone, "a run's own table stays");
}

#[tokio::test]
async fn scores_of_two_structures_under_one_id_are_not_merged() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("one", "C a\n", &[]);
    lab.push("two", "CC a\n", &[]);
    Pretender::new(&lab, "one").succeed_all(1).await;
    Pretender::new(&lab, "two").succeed_all(1).await;
    let ran = lab.launchpad(&["consolidate", "one", "two", "-o", "out.csv"]);
    assert_eq!(ran.code, 65);
    let expect =
        "molecule `a` is ok with two structures (ours: `C` in run `one`, theirs: `CC` in run `two`)\nhint: ";
    assert!(ran.stderr.contains(expect), "{}", ran.stderr);
    assert!(!lab.path("out.csv").exists());
}

#[tokio::test]
async fn molecules_that_killed_their_engine_are_docked_by_a_follow_up() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("two.sdf", &two_records());
    lab.stub("vina").set("crash", "");
    lab.push("first", "Oc1ccccc1 phenol\n", &["two.sdf", "--failures-max", "1"]);
    assert_eq!(lab.worker("w", &["--run", "first", "--exit-when", "drained"]).left().await, 0);
    assert_eq!(lab.progress("first").await.dead, 3);
    assert_eq!(lab.task("first", 0).await.state, State::Dead);

    lab.unset("crash");
    told(&lab, &["push", "--from", "first", "--run", "second", "--confirm-after-ms", "0"]);
    assert_eq!(lab.worker("w2", &["--run", "second", "--exit-when", "drained"]).left().await, 0);
    let merged = told(&lab, &["consolidate", "first", "second", "-o", "all.csv"]);
    assert_eq!(merged["receipt"]["verdicts"]["ok"], 3, "{merged}");
    assert_eq!(merged["receipt"]["rows"], json!({"second": 3}));
}
