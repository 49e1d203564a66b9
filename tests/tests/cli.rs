//! The chemist's command, as a program against a real Redis: what it prints, what it refuses, and what is left when it is killed.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs and look into Redis behind the queue's back"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::digest::sha256_hex;
use common::queue::{Charge, Failed};
use common::storage::key;
use common::task::TaskId;
use rand::RngExt as _;
use serde_json::Value;
use tests::{Lab, Pretender, Programs, Ran, eventually, run_id};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const LIGANDS: &str =
    "c1ccccc1 benzene\nCc1ccccc1 toluene\nOc1ccccc1 phenol\nc1cncc2c1ccs2 thieno[2,3-c]pyridine\n";

fn receptor() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/t4l-l99a/receptor.pdb").display().to_string()
}

/// Runs a push that may be refused.
fn try_push(lab: &Lab, run: &str, ligands: &str, flags: &[&str]) -> Ran {
    let receptor = receptor();
    let mut arguments =
        vec!["push", ligands, "--run", run, "--receptor", &receptor, "--confirm-after-ms", "0"];
    if !flags.contains(&"--box-ligand") {
        arguments.extend(["--box-center", "42.32,45.43,18.17", "--box-size", "14"]);
    }
    arguments.extend_from_slice(flags);
    lab.launchpad(&arguments)
}

#[tokio::test]
async fn a_dry_run_shows_everything_and_writes_nothing() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("l.smi", LIGANDS);
    let pose = receptor().replace("receptor.pdb", "p-xylene-pose.pdb");
    let flags = ["--box-ligand", &pose, "--box-size", "14", "--batch-size", "3", "--dry-run"];
    let ran = try_push(&lab, "r", "l.smi", &flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for expect in [
        "tasks       2\n",
        "molecules   4\n",
        "box center  42.321 45.431 18.167 Å\n",
        "box size    14.000 14.000",
    ] {
        assert!(ran.stdout.contains(expect), "{}", ran.stdout);
    }
    let json = try_push(&lab, "r", "l.smi", &[&flags[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let objects: Vec<&str> =
        json["objects"].as_array().unwrap().iter().map(|object| object["name"].as_str().unwrap()).collect();
    assert!(objects[0].ends_with("/receptor.pdb") && objects[1].ends_with("/vina_prepare.py"), "{objects:?}");
    assert_eq!(objects[2..], ["manifest.csv", "spec.json"]);
    assert_eq!(json["last_shard"], "shards/shard_0000001.csv");
    assert!(lab.redis.contents("*").await.is_empty());
    assert!(!lab.store_folder().exists());
}

#[tokio::test]
async fn pushing_again_changes_nothing_and_something_else_is_refused() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    let before = lab.redis.contents("*").await;
    let ran = try_push(&lab, "r", "r.smi", &["--exhaustiveness", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("Everything was there already."), "{}", ran.stdout);

    lab.write("changed.smi", &LIGANDS.replace("Oc1ccccc1", "Nc1ccccc1"));
    let ran = try_push(&lab, "r", "changed.smi", &["--exhaustiveness", "1"]);
    assert_eq!(ran.code, 65);
    let said = "error: run `r` is there and is another (theirs → ours): the molecules are not the same, or in another order\n";
    assert!(ran.stderr.starts_with(said), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: push under another run id; or, if nobody needs"), "{}", ran.stderr);
    let receptor = fs::read_to_string(receptor()).unwrap();
    lab.write("receptor.pdb", &receptor.replacen("REMARK", "REMARK ours\nREMARK", 1));
    let more = lab.write("more.smi", &format!("{LIGANDS}C methane\n"));
    let flags = ["--exhaustiveness", "2", "--seed", "7", "--receptor", "receptor.pdb", "--batch-size", "2"];
    let ran = try_push(&lab, "r", more.to_str().unwrap(), &flags);
    let said =
        "4 molecules in 4 tasks → 5 in 3; receptor.pdb has other bytes; exhaustiveness 1 → 2; seed 42 → 7\n";
    assert!(ran.code == 65 && ran.stderr.contains(said), "{}", ran.stderr);
    assert_eq!(lab.redis.contents("*").await, before);

    let mut connection = lab.redis.connection().await;
    redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    let ran = try_push(&lab, "r", "changed.smi", &["--exhaustiveness", "1"]);
    assert_eq!(ran.code, 65, "refused by the store although Redis knows no such run");
    let said = "the store has another run `r` (theirs → ours): the molecules are not the same";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert!(lab.redis.contents("*").await.is_empty());
}

#[tokio::test]
async fn a_push_says_which_limits_and_labels_a_run_keeps() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("l.smi", LIGANDS);
    let first = ["--failures-max", "4", "--label", "target=t4l"];
    let ran = try_push(&lab, "r", "l.smi", &first);
    assert!(ran.code == 0 && !ran.stdout.contains("kept"), "{}", ran.stdout);
    let before = lab.redis.contents("molfleet:{r}:*").await;
    let ran = try_push(&lab, "r", "l.smi", &first);
    assert!(ran.code == 0 && !ran.stdout.contains("kept"), "{}", ran.stdout);
    let ran = try_push(&lab, "r", "l.smi", &["--failures-max", "5", "--label", "target=x"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said = "Everything was there already.\nkept       failures_max 4 (this push: 5)\nkept       label:target t4l (this push: x)\n";
    assert!(ran.stdout.contains(said), "{}", ran.stdout);
    let json = try_push(&lab, "r", "l.smi", &["--failures-max", "5", "--label", "target=t4l", "--json"]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    let kept = serde_json::json!([{"name": "failures_max", "theirs": "4", "ours": "5"}]);
    assert_eq!(json["kept"], kept);
    assert_eq!(lab.redis.contents("molfleet:{r}:*").await, before, "nothing was changed");
}

#[tokio::test]
async fn entries_that_cannot_be_used_are_named_and_nothing_is_pushed() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("a.csv", "id,smiles\na,C\nb,\nc,CC\na,CCC\n");
    lab.write("b.smi", "CCCC c\nCCCCC d\n");
    let ran = try_push(&lab, "r", "a.csv", &["b.smi"]);
    assert_eq!(ran.code, 65);
    let problems: Vec<&str> = ran.stderr.lines().collect();
    assert!(problems[0].starts_with("a.csv:3: "), "{problems:?}");
    assert_eq!(problems[1], "a.csv:5: the id `a` is that of line 2 already");
    assert_eq!(problems[2], "  hint: give every molecule an id of its own");
    assert_eq!(problems[3], "b.smi:1: the id `c` is that of a.csv:4 already", "the hint comes once");
    assert_eq!(problems[4], "error: 3 entries can't be used, nothing was pushed");
    assert!(lab.redis.contents("*").await.is_empty() && !lab.store_folder().exists());

    let ran = try_push(&lab, "r", "a.csv", &["b.smi", "--skip-bad", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("a.csv:3: "), "{}", ran.stderr);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["tasks"], &json["molecules"], &json["skipped"]), (&3.into(), &3.into(), &3.into()));
    let manifest = fs::read_to_string(lab.object("r", "manifest.csv")).unwrap();
    assert!(
        manifest.ends_with("0,a,C,,,,smiles,,,2\n1,c,CC,,,,smiles,,,4\n2,d,CCCCC,,,,smiles,,,2\n"),
        "{manifest}"
    );
}

#[tokio::test]
async fn an_sdf_is_stored_once_and_its_records_are_ranges() {
    let lab = Lab::new(PROGRAMS).await;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/t4l-l99a");
    let records = ["benzene", "toluene"].map(|name| {
        let record = fs::read_to_string(example.join(format!("{name}.sdf"))).unwrap();
        let (_title, rest) = record.split_once('\n').unwrap();
        format!("{name}\n{}\n$$$$\n", rest.trim_end())
    });
    let sdf = records.concat();
    lab.write("two.sdf", &sdf);
    let ran = try_push(&lab, "r", "two.sdf", &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let object = format!("inputs/{}/two.sdf", sha256_hex(sdf.as_bytes()));
    assert_eq!(fs::read_to_string(lab.object("r", &object)).unwrap(), sdf);
    for grant in Pretender::new(&lab, "r").lease(1, 2).await {
        let common::task::MoleculeSource::Sdf { object: named, offset, length } = &grant.molecules[0].source
        else {
            panic!("no SDF record: {grant:?}");
        };
        let (from, to) = (usize::try_from(*offset).unwrap(), usize::try_from(offset + length).unwrap());
        assert_eq!(named, &object);
        assert!(sdf[from..to].starts_with(&grant.molecules[0].id) && sdf[from..to].ends_with("$$$$\n"));
    }
}

/// The moments at which a push is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    ManifestStored,
    TasksInRedis(u64),
}

const TASKS: u64 = 100_000;

/// Returns how many tasks Redis had when the push was killed.
async fn kill_and_push_again(lab: &Lab, run: &str, moment: Moment) -> u64 {
    let (queue, id, receptor) = (lab.queue(), run_id(run), receptor());
    let arguments = [
        "push",
        "big.smi",
        "--run",
        run,
        "--receptor",
        &receptor,
        "--box-center",
        "42.32,45.43,18.17",
        "--box-size",
        "9",
        "--confirm-after-ms",
        "0",
        "--quiet",
    ];
    let mut push = lab.launchpad_command(&arguments).stdout(Stdio::null()).spawn().unwrap();
    eventually("the push gets so far", || {
        let ended = push.try_wait().unwrap().is_some();
        let (queue, id) = (queue.clone(), id.clone());
        async move {
            let reached = match moment {
                Moment::ManifestStored => lab.object(run, "manifest.csv").exists(),
                Moment::TasksInRedis(tasks) => {
                    queue.progress(&id).await.is_ok_and(|progress| progress.total >= tasks)
                }
            };
            if reached || ended { Ok(()) } else { Err(moment) }
        }
    })
    .await;
    push.kill().unwrap();
    push.wait().unwrap();
    let cut_at = queue.progress(&id).await.map_or(0, |progress| progress.total);
    let again = lab.launchpad_command(&arguments).output().unwrap();
    assert!(again.status.success(), "{moment:?}: {}", String::from_utf8_lossy(&again.stderr));

    let mut connection = lab.redis.connection().await;
    let list = |name: &str| format!("molfleet:{{{run}}}:{name}");
    let pending: Vec<u64> =
        redis::cmd("LRANGE").arg(list("pending")).arg(0).arg(-1).query_async(&mut connection).await.unwrap();
    assert!(pending.iter().copied().eq(0..TASKS), "{moment:?}: {} pending, or not each once", pending.len());
    let inputs: u64 = redis::cmd("HLEN").arg(list("inputs")).query_async(&mut connection).await.unwrap();
    let progress = queue.progress(&id).await.unwrap();
    assert_eq!((inputs, progress.total, progress.pending), (TASKS, TASKS, TASKS), "{moment:?}");
    assert!(queue.run_info(&id).await.unwrap().sealed, "{moment:?}");
    let names = ["pending", "inputs"].map(list);
    redis::cmd("UNLINK").arg(&names).exec_async(&mut connection).await.unwrap();
    cut_at
}

#[tokio::test]
async fn a_push_killed_at_any_moment_is_completed_by_the_same_push() {
    let lab = Lab::new(PROGRAMS).await;
    let molecules: Vec<String> = (0..TASKS).map(|n| format!("C m{n}\n")).collect();
    lab.write("big.smi", &molecules.concat());
    let mut cut_at = Vec::new();
    for round in 0..20 {
        let moment = match round % 5 {
            0 => Moment::ManifestStored,
            _ => Moment::TasksInRedis(rand::rng().random_range(0..TASKS)),
        };
        cut_at.push(kill_and_push_again(&lab, &format!("r{round}"), moment).await);
    }
    let halves = cut_at.iter().filter(|tasks| **tasks < TASKS).count();
    assert!(halves >= 15, "hardly any push was killed half-way: {cut_at:?}");
}

/// `100000` as `100,000`.
fn grouped(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

#[tokio::test]
async fn an_interrupted_push_says_how_to_go_on_and_does() {
    let lab = Lab::new(PROGRAMS).await;
    let molecules: Vec<String> = (0..TASKS).map(|n| format!("C m{n}\n")).collect();
    lab.write("big.smi", &molecules.concat());
    let receptor = receptor();
    let mut arguments = vec!["push", "big.smi", "--run", "r", "--receptor", &receptor, "--quiet"];
    arguments.extend(["--box-center", "42.32,45.43,18.17", "--box-size", "9", "--confirm-after-ms"]);
    // However quick this push is, it is still there when the signal comes: it would confirm after ten minutes.
    let mut command = lab.launchpad_command(&[&arguments[..], &["600000"]].concat());
    let push = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    lab.until_total("r", 1).await;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(push.id()).unwrap()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    let ended = push.wait_with_output().unwrap();
    let far = lab.progress("r").await.total;
    let mut connection = lab.redis.connection().await;
    // However far it came, it was not sealed, or is not any more: the signal may come after the seal.
    redis::cmd("HDEL").arg(&["molfleet:{r}:run", "sealed"]).exec_async(&mut connection).await.unwrap();
    let text = lab.launchpad(&["status", "r"]).stdout;
    let said = format!("not finished: {} of 100,000 tasks", grouped(far));
    assert!(text.contains(&format!("\npush       {said}\n")), "{text}");
    let all = lab.launchpad(&["status"]).stdout;
    assert!(all.contains(&format!("  push {said}\n")), "{all}");
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(75), "{told}");
    assert!(told.starts_with("error: the push of run `r` was interrupted with "), "{told}");
    assert!(told.contains(&format!(" of {TASKS} tasks in Redis\n")), "{told}");
    assert!(told.contains("hint: the same command again goes on where it stopped"), "{told}");

    let again = lab.launchpad(&[&arguments[..], &["0"]].concat());
    assert_eq!(again.code, 0, "{}", again.stderr);
    let progress = lab.progress("r").await;
    assert_eq!((progress.total, progress.pending), (TASKS, TASKS));
    assert!(lab.queue().run_info(&run_id("r")).await.unwrap().sealed);
}

#[tokio::test]
async fn status_says_how_it_goes_and_why_it_waits() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &["--label", "target=t4l", "--label", "b=1", "--campaign", "c"]);
    let status =
        || -> Value { serde_json::from_str(&lab.launchpad(&["status", "r", "--json"]).stdout).unwrap() };
    let first = status();
    assert_eq!((first["why"].as_str(), first["total"].as_u64()), (Some("no_worker"), Some(4)));
    assert_eq!(first["labels"], serde_json::json!({"campaign": "c", "label:b": "1", "label:target": "t4l"}));
    assert_eq!(first["sealed"], true);

    assert_eq!(lab.launchpad(&["pause", "r", "--why", "wrong receptor?"]).code, 0);
    let text = lab.launchpad(&["status", "r"]).stdout;
    assert!(text.starts_with("Paused (wrong receptor?): 0 tasks still run."), "{text}");
    // Pausing once more without a reason leaves the first one.
    let again = lab.launchpad(&["pause", "r"]);
    assert!(
        again.code == 0 && again.stdout.starts_with("r is paused: wrong receptor?. "),
        "{}",
        again.stdout
    );
    let text = lab.launchpad(&["pause", "r", "--why", "lunch"]).stdout;
    assert!(text.starts_with("r is paused: lunch. "), "{text}");
    assert_eq!(lab.launchpad(&["resume", "r"]).code, 0);
    let text = lab.launchpad(&["pause", "r", "--why", " "]).stdout;
    assert!(text.starts_with("r is paused: paused by hand. "), "a resumed run has no reason: {text}");
    assert_eq!(lab.launchpad(&["resume", "r"]).code, 0);
    assert_eq!(lab.launchpad(&["set", "r", "parallelism=1"]).code, 0);

    let pretender = Pretender::new(&lab, "r");
    let grant = pretender.lease(1, 4).await.remove(0);
    let capped = status();
    assert_eq!((capped["why"].as_str(), capped["leased"].as_u64()), (Some("cap"), Some(1)));
    assert_eq!(capped["leases"][0]["lease"], grant.lease.to_string());
    pretender.succeed(&grant).await;
    let going = status();
    assert_eq!(
        (going["molecules_ok"].as_u64(), going["phases"]["total"]["count"].as_u64()),
        (Some(1), Some(1))
    );
    assert!(going["rate_molecules_per_s"].as_f64().unwrap() > 0.0);

    assert_eq!(lab.launchpad(&["set", "r", "parallelism=0"]).code, 0);
    for grant in pretender.lease(2, 3).await {
        pretender.succeed(&grant).await;
    }
    let watched = lab.launchpad(&["status", "r", "--watch", "--json"]);
    let last: Value = serde_json::from_str(watched.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (watched.code, last["why"].as_str(), last["drained"].as_bool()),
        (0, Some("drained"), Some(true))
    );
    let all: Value = serde_json::from_str(&lab.launchpad(&["status", "--json"]).stdout).unwrap();
    assert_eq!((all[0]["run"].as_str(), all[0]["succeeded"].as_u64()), (Some("r"), Some(4)));
}

#[tokio::test]
async fn show_has_every_attempt_with_the_end_of_its_log() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &["--backoff-ms", "0"]);
    let pretender = Pretender::new(&lab, "r");
    let first = pretender.lease(1, 1).await.remove(0);
    pretender.fail(first.task, &first.lease, "vina: core dumped", Charge::Failure).await;
    let rest = pretender.lease(2, 9).await;
    let again = rest.iter().find(|grant| grant.task == first.task).unwrap();
    pretender.succeed(again).await;
    let json: Value = serde_json::from_str(&lab.launchpad(&["show", "r", "0", "--json"]).stdout).unwrap();
    let endings: Vec<&str> = json["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["ending"].as_str().unwrap())
        .collect();
    assert_eq!(endings, ["failed", "succeeded"]);
    assert_eq!((json["rows"][0]["score"].as_str(), json["failures"].as_u64()), (Some("-5.1"), Some(1)));

    let second = rest.iter().find(|grant| grant.task != first.task).unwrap();
    assert_eq!(
        pretender.fail(second.task, &second.lease, "vina: core dumped", Charge::LastFailure).await,
        Failed::Dead
    );
    let text = lab.launchpad(&["show", "r", &second.task.to_string()]).stdout;
    assert!(text.contains("is dead (engine_crashed)") && text.contains("    vina: core dumped"), "{text}");
    assert_eq!(lab.launchpad(&["show", "r", "4"]).code, 65);
}

#[tokio::test]
async fn a_complete_table_has_every_molecule_and_a_receipt_that_can_be_checked() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    let pretender = Pretender::new(&lab, "r");
    let grants = pretender.lease(1, 2).await;
    pretender.fail(grants[0].task, &grants[0].lease, "", Charge::LastFailure).await;
    pretender.succeed(&grants[1]).await;
    assert_eq!(lab.launchpad(&["cancel", "r", "--task", "2"]).code, 0);
    let last = pretender.lease(2, 1).await.remove(0);
    pretender.succeed(&last).await;

    let measured = lab.write("m.csv", "name,dg\ntoluene,-5.5\n");
    let measured = format!("{}:dg", measured.display());
    let ran = lab.launchpad(&["consolidate", "r", "-o", "out.csv", "--measured", &measured]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("toluene   ok       -5.20     -5.50        0.30"), "{}", ran.stdout);
    let results = fs::read(lab.path("out.csv")).unwrap();
    let text = String::from_utf8(results.clone()).unwrap();
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows[0], "task_id,molecule_id,smiles,verdict,reason,score,score_unit,modes,shard_sha256");
    assert_eq!(rows[1], "0,benzene,c1ccccc1,dead,engine_crashed,,,,");
    assert!(rows[2].starts_with("1,toluene,Cc1ccccc1,ok,,-5.2,kcal/mol,9,"), "{text}");
    assert_eq!(rows[3], "2,phenol,Oc1ccccc1,cancelled,cancelled,,,,");
    assert!(rows[4].starts_with("3,\"thieno[2,3-c]pyridine\","), "{text}");

    let receipt_bytes = fs::read(lab.path("out.receipt.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt_bytes).unwrap();
    assert_eq!((receipt["complete"].as_bool(), receipt["verdicts"]["ok"].as_u64()), (Some(true), Some(2)));
    assert_eq!(receipt["results_sha256"], sha256_hex(&results));
    let scored = rows[1..].iter().filter_map(|row| Some((row.split(',').next()?, row.rsplit(',').next()?)));
    let lines: Vec<String> = scored
        .filter(|(_, sha256)| !sha256.is_empty())
        .map(|(task, sha256)| format!("{task} {sha256}\n"))
        .collect();
    assert_eq!(receipt["shards_sha256"], sha256_hex(lines.concat().as_bytes()));
    assert_eq!(fs::read(lab.object("r", "results.csv")).unwrap(), results);
    assert_eq!(fs::read(lab.object("r", "receipt.json")).unwrap(), receipt_bytes);

    assert_eq!(lab.launchpad(&["consolidate", "r", "-o", "again.csv"]).code, 0);
    assert_eq!(fs::read(lab.path("again.csv")).unwrap(), results);
    assert_eq!(fs::read(lab.path("again.receipt.json")).unwrap(), receipt_bytes);
    assert_eq!(lab.launchpad(&["consolidate", "r", "-o", "results.csv"]).code, 0);
    assert_eq!(fs::read(lab.path("receipt.json")).unwrap(), receipt_bytes);
}

#[tokio::test]
async fn every_kind_of_damage_is_named_and_there_is_no_table() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    Pretender::new(&lab, "r").succeed_all(4).await;
    let shard = |task: u64| lab.object("r", &key::shard(TaskId(task)));
    let whole: Vec<Vec<u8>> = (0..4).map(|task| fs::read(shard(task)).unwrap()).collect();
    let altered = String::from_utf8(whole[0].clone()).unwrap().replace("-5.1", "-5.2");
    assert_ne!(altered.as_bytes(), whole[0]);

    let check = |expect: &[&str]| {
        let ran = lab.launchpad(&["consolidate", "r", "-o", "out.csv", "--quiet"]);
        assert_eq!(ran.code, 65, "{}", ran.stdout);
        let missing: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("missing: ")).collect();
        assert_eq!(missing.len(), expect.len(), "{missing:?}");
        for (line, expect) in missing.iter().zip(expect) {
            assert!(line.starts_with(&format!("missing: {expect}: ")), "{line}");
        }
        assert!(!lab.path("out.csv").exists());
        let receipt: Value =
            serde_json::from_slice(&fs::read(lab.path("out.receipt.json")).unwrap()).unwrap();
        assert_eq!((&receipt["complete"], &receipt["results_sha256"]), (&Value::Bool(false), &Value::Null));
        assert_eq!(receipt["missing"].as_array().unwrap().len(), expect.len());
        (0..4).for_each(|task: u64| fs::write(shard(task), &whole[usize::try_from(task).unwrap()]).unwrap());
    };
    fs::remove_file(shard(1)).unwrap();
    check(&["task 1, molecule `toluene`: shard_missing"]);
    fs::write(shard(2), &whole[2][..whole[2].len() - 9]).unwrap();
    check(&["task 2, molecule `phenol`: shard_truncated"]);
    fs::write(shard(0), altered).unwrap();
    check(&["task 0, molecule `benzene`: shard_altered"]);
    fs::write(shard(0), &whole[3]).unwrap();
    fs::write(shard(3), &whole[0]).unwrap();
    check(&[
        "task 0, molecule `benzene`: shard_swapped",
        "task 3, molecule `thieno[2,3-c]pyridine`: shard_swapped",
    ]);
    fs::remove_dir_all(lab.object("r", "index/0000002")).unwrap();
    check(&["task 2, molecule `phenol`: index_missing"]);
}

#[tokio::test]
async fn what_has_not_ended_is_missing_and_an_older_table_stays_with_its_receipt() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    let older = lab.write("out.csv", "older");
    let older_receipt = lab.write("out.receipt.json", "older, too");
    let ran = lab.launchpad(&["consolidate", "r", "-o", "out.csv"]);
    assert_eq!(ran.code, 65);
    assert!(
        ran.stderr.contains("task 3, molecule `thieno[2,3-c]pyridine`: not_terminal: the task is pending")
    );
    assert!(ran.stderr.contains("hint: `out.csv` is from an earlier consolidation"), "{}", ran.stderr);
    assert!(ran.stderr.contains("what is missing now is in `out.receipt.incomplete.json`"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(older).unwrap(), "older");
    assert_eq!(fs::read_to_string(older_receipt).unwrap(), "older, too");
    let receipt = fs::read(lab.path("out.receipt.incomplete.json")).unwrap();
    let receipt: Value = serde_json::from_slice(&receipt).unwrap();
    assert_eq!(
        (&receipt["complete"], receipt["missing"].as_array().unwrap().len()),
        (&Value::Bool(false), 4)
    );

    // Another run's table in the same folder has a receipt of its own.
    lab.push("r2", "C methane\n", &[]);
    Pretender::new(&lab, "r2").succeed_all(1).await;
    assert_eq!(lab.launchpad(&["consolidate", "r2", "-o", "two.csv"]).code, 0);
    let receipt: Value = serde_json::from_slice(&fs::read(lab.path("two.receipt.json")).unwrap()).unwrap();
    assert_eq!(receipt["run"], "r2");
    assert_eq!(fs::read_to_string(lab.path("out.receipt.json")).unwrap(), "older, too");
}

#[tokio::test]
async fn a_table_without_a_score_is_complete_but_not_without_a_warning() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    lab.push("r2", LIGANDS, &[]);
    let pretender = Pretender::new(&lab, "r");
    for grant in pretender.lease(1, 4).await {
        pretender.kill(&grant, "engine_failed").await;
    }
    let consolidate =
        |flags: &[&str]| lab.launchpad(&[&["consolidate", "r", "-o", "out.csv", "-q"], flags].concat());
    let ran = consolidate(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let said = "r is complete: 0 of 4 molecules are ok, 0 bad, 4 dead, 0 cancelled\n";
    assert!(ran.stdout.contains(said), "{}", ran.stdout);
    assert_eq!(ran.stderr, "warning: no molecule is ok: the table has no score\n");
    fs::remove_file(lab.path("out.csv")).unwrap();
    let ran = consolidate(&["--require-ok"]);
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    assert!(
        ran.stderr.starts_with("error: 4 of 4 molecules are not ok\nhint: the table was written"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_to_string(lab.path("out.csv")).unwrap().matches(",dead,engine_failed,").count(), 4);

    Pretender::new(&lab, "r2").succeed_all(4).await;
    let ran = lab.launchpad(&["consolidate", "r2", "-o", "out.csv", "--require-ok", "-q"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let ran = lab.launchpad(&["consolidate", "r2", "r", "-o", "both.csv", "--require-ok", "-q"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "each molecule is ok in one of them");
}

#[tokio::test]
async fn a_dash_is_standard_output() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    let incomplete = lab.launchpad(&["consolidate", "r", "-o", "-"]);
    assert_eq!((incomplete.code, incomplete.stdout.as_str()), (65, ""), "no half of a table");
    Pretender::new(&lab, "r").succeed_all(4).await;
    assert_eq!(lab.launchpad(&["consolidate", "r", "-o", "out.csv"]).code, 0);
    let table = fs::read_to_string(lab.path("out.csv")).unwrap();
    let receipt = fs::read_to_string(lab.path("out.receipt.json")).unwrap();
    fs::remove_file(lab.object("r", "results.csv")).unwrap();

    let ran = lab.launchpad(&["consolidate", "r", "-o", "-"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, table.as_str()), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("r is complete: ") && ran.stderr.contains("table    standard output"),
        "{}",
        ran.stderr
    );
    assert_eq!(fs::read_to_string(lab.object("r", "results.csv")).unwrap(), table, "the store has it, too");
    let ran = lab.launchpad(&["consolidate", "r", "-o", "out.csv", "--receipt", "-", "-q"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, receipt.as_str(), ""));
    let ran = lab.launchpad(&["consolidate", "r", "-o", "-", "--receipt", "-"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{}", ran.stderr);

    for line in [&["export", "r"][..], &["formulae", "--heavy-atoms", "2"]] {
        let dash = lab.launchpad(&[line, &["-o", "-"]].concat());
        assert_eq!(dash.stdout, lab.launchpad(line).stdout, "{line:?}");
        assert!(dash.code == 0 && dash.stdout.lines().count() > 3, "{line:?}: {}", dash.stderr);
    }
    assert!(!lab.path("-").exists() && !lab.path("receipt.json").exists());
}

#[tokio::test]
async fn remove_takes_a_run_and_nothing_else() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    lab.push("r2", LIGANDS, &[]);
    let pretender = Pretender::new(&lab, "r");
    pretender.succeed_all(4).await;
    Pretender::new(&lab, "r2").lease(1, 1).await;
    assert_eq!(lab.launchpad(&["consolidate", "r", "-o", "out.csv"]).code, 0);
    let others = lab.redis.contents("molfleet:{r2}:*").await;
    let refused = lab.launchpad(&["remove", "r", "--outputs"]);
    assert_eq!(refused.code, 64, "nobody can be asked");
    assert!(refused.stderr.contains("hint: --yes"), "{}", refused.stderr);
    assert_eq!(lab.launchpad(&["remove", "r2", "--yes"]).code, 75, "a worker holds a task");

    let ran = lab.launchpad(&["remove", "r", "--outputs", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(lab.redis.contents("molfleet:{r}:*").await.is_empty());
    assert_eq!(lab.redis.contents("molfleet:{r2}:*").await, others);
    assert!(!lab.store_folder().join("r").exists());
    assert!(lab.object("r2", "manifest.csv").exists());
    assert_eq!(lab.queue().runs().await.unwrap(), [run_id("r2")]);
    assert_eq!(lab.launchpad(&["remove", "r", "--outputs", "--yes"]).code, 65, "there is nothing any more");
}

#[tokio::test]
async fn cancel_stops_what_has_not_ended() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    let pretender = Pretender::new(&lab, "r");
    let grant = pretender.lease(1, 1).await.remove(0);
    pretender.succeed(&grant).await;
    let before = lab.redis.contents("*").await;
    let refused = lab.launchpad(&["cancel", "r"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (64, ""), "nobody can be asked");
    assert!(refused.stderr.contains("error: `cancel` asks first"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: --yes"), "{}", refused.stderr);
    assert_eq!(lab.redis.contents("*").await, before);
    let ran = lab.launchpad(&["cancel", "r", "--yes", "--json"]);
    assert_eq!(ran.stdout, "{\"run\":\"r\",\"cancelled\":3}\n");
    let progress = lab.progress("r").await;
    assert_eq!((progress.succeeded, progress.cancelled, progress.pending), (1, 3, 0));
    assert_eq!(lab.launchpad(&["cancel", "r", "--task", "9"]).code, 65);

    let said = |arguments: &[&str]| lab.launchpad(arguments).stdout;
    let status = said(&["status", "r"]);
    let hint = "Every task has ended; 3 are cancelled. `launchpad retry r --cancelled` brings them back.";
    assert!(status.starts_with(hint), "{status}");
    let retry = said(&["retry", "r"]);
    assert!(retry.ends_with(" 3 are cancelled: --cancelled takes those.\n"), "{retry}");
    let show = said(&["show", "r", "1"]);
    assert!(show.contains("`launchpad retry r --task 1` lets workers try it again."), "{show}");
    assert!(said(&["retry", "r", "--task", "1"]).contains("1 tasks of r are pending again"));
    let open = said(&["show", "r", "1"]);
    assert!(open.starts_with("task 1 is pending") && !open.contains("retry"), "{open}");
    let again = said(&["cancel", "r", "--yes"]);
    assert!(again.contains("Cancelled 1 tasks of r. `launchpad retry r --cancelled`"), "{again}");
}

fn bare(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(PROGRAMS.launchpad);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command.env_remove(common::env::REDIS).env_remove(common::env::STORE);
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn exit_codes_and_messages_say_who_is_to_blame() {
    let folder = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str], code: i32, expect: &str| {
        let ran = bare(folder.path(), arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expect) || ran.stdout.contains(expect), "{arguments:?}: {}", ran.stderr);
    };
    check(&["--help"], 0, "Examples:");
    check(&["--version"], 0, "launchpad 0.1.0");
    check(&["schema"], 0, "molfleet:{R}:progress");
    check(&["statsu"], 64, "unrecognized subcommand");
    check(&["push", "x.smi"], 64, "error: no run id was given\nhint: name the run with --run");
    check(&["push", "--config", "absent.toml"], 78, "error: could not open `absent.toml`: No such file");
    let away = ["--redis", "redis://127.0.0.1:1", "status"];
    check(&away, 69, "error: Redis at `redis://127.0.0.1:1` can't be reached: ");
    check(&away, 69, "hint: `launchpad local up`");
    check(&["--redis", "http://x", "status"], 78, "the Redis URL `http://x` is not valid");
}

/// A pipe that nobody reads any more.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn output_that_cannot_be_written_is_an_error_and_a_closed_pipe_is_none() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", LIGANDS, &[]);
    Pretender::new(&lab, "r").succeed_all(4).await;
    for line in [
        &["status"][..],
        &["status", "r", "--json"],
        &["top", "r", "-q"],
        &["tasks", "r"],
        &["show", "r", "0"],
        &["export", "r"],
        &["export", "r", "--jsonl", "-o", "-"],
        &["consolidate", "r", "-o", "-"],
        &["formulae", "--heavy-atoms", "2"],
        &["completions", "bash"],
        &["push", "--help"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ran = lab.launchpad_command(line).stdout(full).output().unwrap();
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(65), "{line:?}: {told}");
        assert!(told.contains("error: could not write `standard output`: No space left"), "{line:?}: {told}");
        let ran = lab.launchpad_command(line).stdout(closed_pipe()).output().unwrap();
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!((ran.status.code(), told.contains("error")), (Some(0), false), "{line:?}: {told}");
    }
}

#[tokio::test]
async fn nobody_has_to_hear_what_is_wrong() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("l.smi", LIGANDS);
    let receptor = receptor();
    let twice = ["push", "l.smi", "l.smi", "--run", "r", "--receptor", &receptor, "--box-center", "0,0,0"];
    for (line, code) in [
        (&[&twice[..], &["--box-size", "9"]].concat()[..], 65), // problems of entries, then an error with a hint
        (&["status", "r"], 65),
        (&["statsu"], 64),
        (&["--log", "trace", "status"], 0),
    ] {
        let ran = lab.launchpad_command(line).stderr(closed_pipe()).output().unwrap();
        assert_eq!(ran.status.code(), Some(code), "{line:?}");
    }
}

#[test]
fn the_private_redis_and_store_of_a_folder_are_found_from_below() {
    let folder = tempfile::Builder::new().prefix("my runs ").tempdir().unwrap();
    let below = folder.path().join("a/b");
    fs::create_dir_all(&below).unwrap();
    fs::write(below.join("l.smi"), LIGANDS).unwrap();
    let up = bare(folder.path(), &["local", "up"]);
    assert_eq!(up.code, 0, "{}", up.stderr);
    let receptor = receptor();
    let push = [
        "push",
        "l.smi",
        "--run",
        "r",
        "--receptor",
        &receptor,
        "--box-center",
        "42.32,45.43,18.17",
        "--box-size",
        "9",
        "--confirm-after-ms",
        "0",
    ];
    let pushed = bare(&below, &push);
    let down = bare(folder.path(), &["local", "down"]);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    assert!(folder.path().join(".molfleet/store/r/spec.json").is_file());
    assert!(down.stdout.starts_with("Stopped the private Redis"), "{}", down.stdout);
    assert_eq!(bare(&below, &["status"]).code, 69);
}

#[tokio::test]
async fn what_is_unusual_about_receptor_and_box_is_told() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("l.smi", "C[NH3+].[Cl-] methylammonium chloride\nCC b\nCCC c\nCCCC d\n");
    let pocket = fs::read_to_string(receptor()).unwrap();
    let few: Vec<&str> = pocket.lines().filter(|line| line.starts_with("ATOM")).take(150).collect();
    let few = lab.write("few.pdb", &few.join("\n"));
    let dry = |receptor: &str, center: &str, size: &str| {
        let place = ["--receptor", receptor, "--box-center", center, "--box-size", size];
        let ran =
            lab.launchpad(&[&["push", "l.smi", "--run", "r", "--dry-run", "--json"], &place[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        (serde_json::from_str::<Value>(&ran.stdout).unwrap(), ran.stderr)
    };
    let (usual, told) = dry(&receptor(), "42.32,45.43,18.17", "14");
    assert_eq!((told.as_str(), &usual["site"]["receptor_heavy_atoms"]), ("", &1290.into()));
    let within = usual["site"]["within_box"].as_u64().unwrap();
    assert!((50..300).contains(&within), "{within}");
    let first: Vec<_> = usual["first_molecules"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(first, ["methylammonium chloride", "b", "c"]);

    let (large, told) = dry(&receptor(), "42.32,45.43,18.17", "500");
    assert!(
        told.starts_with("warning: the search box of 500 × 500 × 500 Å has 125000000 Å³: above 27,000"),
        "{told}"
    );
    assert_eq!(large["site"]["within_box"], large["site"]["receptor_heavy_atoms"]);
    let (_, told) = dry(few.to_str().unwrap(), "59,35,25", "30");
    assert!(told.contains("heavy atoms, fewer than the smallest protein: is it a ligand?"), "{told}");
}

#[tokio::test]
async fn standard_input_is_a_file_like_others() {
    let lab = Lab::new(PROGRAMS).await;
    let path = lab.write("piped", "C a\nC(C b\n");
    let receptor = receptor();
    let push = |flags: &[&str]| {
        let fixed = [
            "push",
            "-",
            "--run",
            "r",
            "--receptor",
            &receptor,
            "--box-center",
            "42.32,45.43,18.17",
            "--box-size",
            "9",
        ];
        let mut command = lab.launchpad_command(&[&fixed[..], &["--confirm-after-ms", "0"], flags].concat());
        command.stdin(fs::File::open(&path).unwrap()).output().unwrap()
    };
    assert_eq!(push(&[]).status.code(), Some(64), "the format has to be named");
    let refused = push(&["--format", "smi"]);
    assert_eq!(refused.status.code(), Some(65));
    assert!(String::from_utf8(refused.stderr).unwrap().starts_with("stdin:2: "));
    assert_eq!(push(&["--format", "smi", "--skip-bad"]).status.code(), Some(0));
    assert_eq!(lab.progress("r").await.total, 1);
}

/// Pushes, kills Redis half-way, starts it again, and expects the same push to end well.
async fn push_through_a_restart(lab: Lab) {
    let molecules: Vec<String> = (0..TASKS).map(|n| format!("C m{n}\n")).collect();
    lab.write("big.smi", &molecules.concat());
    let receptor = receptor();
    let arguments = [
        "push",
        "big.smi",
        "--run",
        "r",
        "--receptor",
        &receptor,
        "--box-center",
        "42.32,45.43,18.17",
        "--box-size",
        "9",
        "--confirm-after-ms",
        "0",
        "--quiet",
    ];
    let push =
        lab.launchpad_command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    lab.until("r", "the push is on its way", |progress| progress.total > 0).await;
    lab.redis.kill9();
    lab.redis.restart().await;
    let ended = push.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let progress = lab.progress("r").await;
    assert_eq!((progress.total, progress.pending), (TASKS, TASKS));
    assert!(lab.queue().run_info(&run_id("r")).await.unwrap().sealed);
}

#[tokio::test]
async fn a_push_outlives_a_restart_of_redis() {
    push_through_a_restart(Lab::durable(PROGRAMS).await).await;
}

#[tokio::test]
async fn a_push_outlives_a_redis_that_forgets_everything() {
    push_through_a_restart(Lab::new(PROGRAMS).await).await;
}
