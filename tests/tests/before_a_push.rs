//! What a person runs before a large push: both doctors and the trial, against a real Redis, a real store and real engines.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs and set Redis up behind the queue's back"
)]

use std::fs::{self, File};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::{Lab, Programs, Ran, Server, eventually};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// Sends commands to the lab's Redis.
async fn redis(lab: &Lab, commands: &[&[&str]]) {
    let mut connection = lab.redis.connection().await;
    for command in commands {
        redis::cmd(command[0]).arg(&command[1..]).exec_async(&mut connection).await.unwrap();
    }
}

/// The names and verdicts of a doctor's JSON that are neither ok nor a note.
fn complaints(ran: &Ran) -> Vec<(String, String)> {
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let checks = json["checks"].as_array().unwrap();
    assert!(checks.len() > 3, "{checks:?}");
    let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
    let told = checks.iter().map(|check| (text(check, "name"), text(check, "verdict")));
    let complaints: Vec<_> =
        told.filter(|(_, verdict)| !["ok", "note"].contains(&verdict.as_str())).collect();
    assert_eq!(json["ok"], complaints.is_empty());
    for check in checks.iter().filter(|check| check["verdict"] == "wrong") {
        assert!(check["hint"].is_string(), "{check}");
    }
    complaints
}

fn named(complaints: &[(String, String)]) -> Vec<&str> {
    complaints.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_good_redis_and_store_pass_and_nothing_is_left() {
    let lab = Lab::durable(PROGRAMS).await;
    let ran = lab.launchpad(&["doctor", "--tasks", "100000", "--workers", "500"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("\nok          store_write_once   a second object"), "{}", ran.stdout);
    assert!(ran.stdout.contains("100,000 tasks will take 65.0 MB more"), "{}", ran.stdout);
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    assert!(fs::read_dir(lab.store_folder()).unwrap().next().is_none());
    let mut connection = lab.redis.connection().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn what_has_to_be_changed_is_named_with_a_hint() {
    let lab = Lab::new(PROGRAMS).await;
    redis(
        &lab,
        &[
            &["CONFIG", "SET", "maxmemory", "20mb"],
            &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
            &["CONFIG", "SET", "maxclients", "100"],
        ],
    )
    .await;
    let ran = lab.launchpad(&["doctor", "--tasks", "100000", "--workers", "40", "--json"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    let expect = ["redis_eviction", "redis_append_only", "redis_clients", "redis_memory"];
    assert_eq!(named(&complaints(&ran)), expect);
    assert!(ran.stderr.starts_with("error: 4 of 16 checks found something"), "{}", ran.stderr);
    let ran = lab.launchpad(&["doctor"]);
    assert!(ran.stdout.contains("\nwrong       redis_eviction"), "{}", ran.stdout);
    assert!(ran.stdout.contains("hint: a full Redis would drop tasks"), "{}", ran.stdout);

    redis(
        &lab,
        &[&["CONFIG", "SET", "maxmemory-policy", "noeviction"], &["CONFIG", "SET", "appendonly", "yes"]],
    )
    .await;
    let ran = lab.launchpad(&["doctor", "--tasks", "1000", "--json"]);
    assert_eq!((ran.code, complaints(&ran)), (0, vec![]));
}

#[tokio::test]
async fn an_eviction_policy_is_wrong_before_there_is_a_limit_and_replicas_are_told_of() {
    let lab = Lab::durable(PROGRAMS).await;
    redis(&lab, &[&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]]).await;
    assert_eq!(named(&complaints(&lab.launchpad(&["doctor", "--json"]))), ["redis_eviction"]);
    redis(&lab, &[&["CONFIG", "SET", "maxmemory-policy", "noeviction"]]).await;
    let tells = |text: &str| {
        let ran = lab.launchpad(&["doctor"]);
        let line = ran.stdout.lines().find(|line| line.contains("redis_replicas")).unwrap_or_default();
        let told = ran.code == 0 && line.starts_with("note ") && line.contains(text);
        if told { Ok(()) } else { Err(format!("{ran:?}")) }
    };
    tells("none is connected").unwrap();
    let port = lab.redis.port();
    let replica = Server::start(|_, _| format!("replicaof 127.0.0.1 {port}")).await;
    eventually("the replica is told of", || async { tells("1 connected, but min-replicas-to-write is 0") })
        .await;
    redis(&lab, &[&["CONFIG", "SET", "min-replicas-to-write", "1"]]).await;
    tells("1 connected, and min-replicas-to-write is set").unwrap();
    drop(replica);
}

#[tokio::test]
async fn what_this_user_may_not_ask_is_no_failure() {
    let lab = Lab::durable(PROGRAMS).await;
    redis(&lab, &[&["ACL", "SETUSER", "chemist", "on", ">secret", "~*", "&*", "+@all", "-info", "-config"]])
        .await;
    let url = format!("redis://chemist:secret@127.0.0.1:{}", lab.redis.port());
    let output = Command::new(PROGRAMS.launchpad)
        .args(["--redis", &url, "--store", &lab.store_url(), "doctor"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("can't tell how it is set up: this user may not ask"), "{stdout}");
    assert!(!stdout.contains("secret"), "{stdout}");
}

#[tokio::test]
async fn a_run_is_checked_in_its_own_store() {
    let lab = Lab::durable(PROGRAMS).await;
    lab.push("r", "c1ccccc1 benzene\nCc1ccccc1 toluene\n", &[]);
    let ran = lab.launchpad(&["doctor", "r"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("what is left of the run, 2 tasks, will take 500 B more"), "{}", ran.stdout);
    assert!(ran.stdout.contains("has the run's spec"), "{}", ran.stdout);
    assert_eq!(lab.launchpad(&["doctor", "absent"]).code, 65);

    fs::rename(lab.object("r", "spec.json"), lab.path("taken away")).unwrap();
    let ran = lab.launchpad(&["doctor", "r", "--json"]);
    assert_eq!((ran.code, named(&complaints(&ran))), (69, vec!["store"]));
}

#[tokio::test]
async fn who_does_not_answer_is_told_from_what_is_wrong() {
    let lab = Lab::durable(PROGRAMS).await;
    lab.redis.kill9();
    let ran = lab.launchpad(&["doctor", "--json"]);
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert_eq!(complaints(&ran), [("redis".to_owned(), "unreachable".to_owned())]);

    lab.redis.restart().await;
    fs::remove_dir(lab.store_folder()).unwrap();
    lab.write("store", "a file where the store should be");
    let ran = lab.launchpad(&["doctor", "--json"]);
    assert_eq!((ran.code, named(&complaints(&ran))), (69, vec!["store"]));
}

#[tokio::test]
async fn a_machine_that_can_work_says_with_what() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("r", "c1ccccc1 benzene\n", &[]);
    let ran = lab.worker_doctor(&["--run", "r", "--scratch-free-mib-min", "1"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(complaints(&ran).is_empty());
    for found in ["vina AutoDock Vina v1.", "rdkit 20", "`r` can be served with `vina`", "has the run's spec"]
    {
        assert!(ran.stdout.contains(found), "{found}: {}", ran.stdout);
    }
    let progress = lab.progress("r").await;
    assert_eq!((progress.pending, progress.leased), (1, 0), "it leased nothing");
    for folder in ["scratch", "cache"] {
        assert!(fs::read_dir(lab.path(folder)).unwrap().next().is_none(), "{folder}");
    }
    let probes = fs::read_dir(lab.store_folder().join(".molfleet-doctor"));
    assert!(probes.map_or(0, Iterator::count) == 0, "the probe is gone");
}

#[tokio::test]
async fn a_machine_that_cannot_work_says_what_to_change() {
    let lab = Lab::new(PROGRAMS).await;
    lab.push("wide", "c1ccccc1 benzene\n", &["--threads-per-task", "64"]);
    let check = |flags: &[&str], expect: &str| {
        let ran = lab.worker_doctor(flags);
        assert_eq!((ran.code, named(&complaints(&ran))), (78, vec![expect]), "{}", ran.stdout);
    };
    check(&["--scratch-free-mib-min", "999999999", "--cores", "1"], "scratch");
    check(&["--scratch-free-mib-min", "1", "--run", "wide", "--cores", "1"], "run");
    check(&["--scratch-free-mib-min", "1", "--run", "absent"], "run");
    check(&["--scratch-free-mib-min", "1", "--cores", "999"], "cores");
}

/// Flags of a trial in the example's pocket.
fn trial<'a>(receptor: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let pocket = ["--box-center", "42.32,45.43,18.17", "--box-size", "14", "--exhaustiveness", "1"];
    let mut arguments = vec!["trial", "ligands.smi", "--run", "r", "--receptor", receptor, "--json"];
    arguments.extend(pocket);
    arguments.extend(["--confirm-after-ms", "0"]);
    arguments.extend_from_slice(flags);
    arguments
}

fn receptor() -> String {
    format!("{}/../examples/t4l-l99a/receptor.pdb", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn a_trial_waits_for_a_worker_and_shows_the_first_scores() {
    let lab = Lab::new(PROGRAMS).await;
    let molecules: Vec<String> = (0..50).map(|n| format!("c1ccccc1{} m{n}", "C".repeat(n % 5))).collect();
    lab.write("ligands.smi", &molecules.join("\n"));
    let (receptor, told) = (receptor(), lab.path("told"));
    let mut command = lab.launchpad_command(&trial(&receptor, &["-n", "2", "--batch-size", "25"]));
    let child = command.stdout(Stdio::piped()).stderr(File::create(&told).unwrap()).spawn().unwrap();
    eventually("the trial asks for a worker", || async {
        let told = fs::read_to_string(&told).unwrap();
        if told.contains("`worker --run r-trial` starts one") { Ok(()) } else { Err(told) }
    })
    .await;
    let mut worker = lab.worker("w", &["--run", "r-trial"]);
    assert_eq!(worker.left().await, 0);
    let output = child.wait_with_output().unwrap();
    let told = fs::read_to_string(&told).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("\nm0 ok -") && told.contains("\nm1 ok -"), "{told}");

    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["run"], &json["molecules"]), (&"r-trial".into(), &50.into()));
    let tried = json["tried"].as_array().unwrap();
    let ids: Vec<&str> = tried.iter().map(|one| one["molecule_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m0", "m1"]);
    assert!(tried.iter().all(|one| one["score"].as_str().unwrap().parse::<f64>().unwrap() < 0.0));
    let (mean, one_slot) =
        (json["pace"]["mean_ms"].as_u64().unwrap(), json["whole"][0]["seconds"].as_u64().unwrap());
    assert!(mean > 0 && one_slot == (50 * mean).div_ceil(1000), "{json}");
    let progress = lab.progress("r-trial").await;
    assert_eq!((progress.total, progress.molecules_ok), (2, 2));
    assert_eq!(lab.launchpad(&["status", "r"]).code, 65, "the run itself is not pushed");
}

#[tokio::test]
async fn a_trial_without_a_score_fails() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("ligands.smi", "CC(C)(C)(C)C broken\nc1ccccc1 benzene\n");
    let receptor = receptor();
    let _worker = lab.worker("w", &["--exit-when", "never"]);
    let ran = lab.launchpad(&trial(&receptor, &["-n", "1"]));
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    assert!(ran.stderr.contains("none of the 1 molecules of run `r-trial` was scored"), "{}", ran.stderr);
    assert!(ran.stdout.contains("smiles_invalid"), "{}", ran.stdout);
}

/// Tunes with the descriptors of the example, and gives its JSON.
fn tuned(lab: &Lab, numbers: &str, flags: &[&str]) -> (Ran, Value) {
    let config = format!("{}/../examples/descriptors/run.toml", env!("CARGO_MANIFEST_DIR"));
    let mut arguments = vec!["tune", "--config", &config, "--run", "r", "--json", "--side-by-side", numbers];
    arguments.extend(["--confirm-after-ms", "0"]);
    arguments.extend_from_slice(flags);
    let ran = lab.launchpad(&arguments);
    let json = serde_json::from_str(&ran.stdout).unwrap_or_default();
    (ran, json)
}

#[tokio::test]
async fn numbers_side_by_side_are_tried_as_far_as_the_machine_has_room() {
    let lab = Lab::new(PROGRAMS).await;
    let mut worker = lab.worker("w", &["--run", "r-tune-1", "--run", "r-tune-3", "--cores", "2"]);
    let (ran, json) = tuned(&lab, "1,3,4", &["--usd-per-hour", "0.5"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let levels = json["levels"].as_array().unwrap();
    let of = |level: &Value| {
        ["side_by_side", "at_once", "workers", "ok"].map(|name| level[name].as_u64().unwrap())
    };
    // There was no room for three, so that four were not tried, and one is what is known.
    assert_eq!(levels.iter().map(of).collect::<Vec<_>>(), [[1, 1, 1, 2], [3, 2, 1, 6]], "{json}");
    assert_eq!(json["best"], 1);
    let pace = levels[0]["molecules_per_hour"].as_f64().unwrap();
    assert!((levels[0]["usd_per_1000"].as_f64().unwrap() * pace - 500.0).abs() < 1e-6, "{json}");
    assert_eq!(lab.progress("r-tune-3").await.molecules_ok, 6);
    assert_eq!(lab.launchpad(&["status", "r-tune-4"]).code, 65);
}

#[tokio::test]
async fn dockings_are_tuned_with_the_first_molecules_of_the_input() {
    let lab = Lab::new(PROGRAMS).await;
    lab.write("ligands.smi", "c1ccccc1 benzene\nCc1ccccc1 toluene\nOc1ccccc1 phenol\n");
    let mut worker = lab.worker("w", &["--run", "r-tune-1", "--run", "r-tune-2", "--cores", "2"]);
    let receptor = receptor();
    let mut arguments = trial(&receptor, &["--side-by-side", "1,2", "-n", "2"]);
    arguments[0] = "tune";
    let ran = lab.launchpad(&arguments);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let levels = json["levels"].as_array().unwrap();
    let of =
        |level: &Value| ["side_by_side", "at_once", "ok", "bad"].map(|name| level[name].as_u64().unwrap());
    assert_eq!(levels.iter().map(of).collect::<Vec<_>>(), [[1, 1, 2, 0], [2, 2, 4, 0]], "{json}");
    assert!(levels.iter().all(|level| level["molecules_per_hour"].as_f64().unwrap() > 0.0), "{json}");
    assert!([1, 2].map(Value::from).contains(&json["best"]), "{json}");
    for (run, molecules) in [("r-tune-1", 2), ("r-tune-2", 4)] {
        assert_eq!(lab.progress(run).await.molecules_ok, molecules);
        let manifest = fs::read_to_string(lab.object(run, "manifest.csv")).unwrap();
        assert!(manifest.contains(",Cc1ccccc1,") && !manifest.contains(",Oc1ccccc1,"), "{manifest}");
    }
}

#[tokio::test]
async fn a_machine_on_which_all_fails_has_no_best_number() {
    let lab = Lab::new(PROGRAMS).await;
    let driver = lab.write("broken.py", "raise SystemExit(1)\n");
    let _worker = lab.worker("w", &["--exit-when", "never"]);
    let (ran, json) = tuned(&lab, "2,4", &["--driver", driver.to_str().unwrap()]);
    assert_eq!((ran.code, &json["best"]), (65, &Value::Null), "{}{}", ran.stdout, ran.stderr);
    assert_eq!((&json["levels"][0]["dead"], &json["levels"][1]), (&4.into(), &Value::Null));
    assert!(ran.stderr.contains("no number of tasks side by side could be measured"), "{}", ran.stderr);
}

#[test]
fn windows_of_free_energies_cannot_be_tuned() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.smi"), "C a\n").unwrap();
    let mut tune = Command::new(PROGRAMS.launchpad);
    tune.args(["tune", "a.smi", "--run", "r", "--engine", "gromacs-fep"]).current_dir(folder.path());
    let output = tune.output().unwrap();
    assert_eq!(output.status.code(), Some(65));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("several tasks of a molecule") && told.contains("hint: "), "{told}");
}

#[test]
fn manual_pages_and_completions_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(PROGRAMS.launchpad, &["man", "-o", "man1"]);
    run(PROGRAMS.worker, &["man", "-o", "man1"]);
    for page in ["launchpad.1", "launchpad-push.1", "launchpad-doctor.1", "worker.1", "worker-doctor.1"] {
        let text = fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
        assert!(text.contains(".TH") && text.contains("Example"), "{page}: {text}");
    }
    let help = run(PROGRAMS.launchpad, &["--help"]);
    let commands = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 12, "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = run(PROGRAMS.launchpad, &["completions", shell]);
        for command in &commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}
