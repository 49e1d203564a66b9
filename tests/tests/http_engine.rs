//! The engine `http` end to end: launchpad, Redis, a store, a worker, and a model server that is busy, crashes, and answers nonsense.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use common::task::{Row, Shard, Verdict};
use serde_json::{Value, json};
use tests::{Act, Asked, LEASE_MS, Lab, ModelServer, Programs, eventually};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};
const FIVE: &str = "C a\nCC b\nCCC c\nCCCC d\nCCCCC e\n";

/// Pushes molecules as tasks of the engine `http`.
fn push(lab: &Lab, run: &str, smiles: &str, flags: &[&str]) {
    let ligands = lab.write(&format!("{run}.smi"), smiles);
    let toml = format!(
        "engine = 'http'\n[options]\nscore = 'made_up'\nrequest = {{model = 'm'}}\n\
         [[options.columns]]\nname = 'made_up'\nunit = 'kcal/mol'\nmin = -100\nmax = 0\n\
         [limits]\nlease_ms = {LEASE_MS}\nheartbeat_ms = 400\nbackoff_ms = 10\n"
    );
    let config = lab.write(&format!("{run}.toml"), &toml);
    let (ligands, config) = (ligands.to_str().unwrap(), config.to_str().unwrap());
    let mut arguments = vec!["push", ligands, "--run", run, "--config", config, "--confirm-after-ms", "0"];
    arguments.extend_from_slice(flags);
    let ran = lab.launchpad(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn rows(lab: &Lab, run: &str) -> Vec<Row> {
    Shard::parse(&fs::read(lab.object(run, "shards/shard_0000000.csv")).unwrap()).unwrap().rows
}

/// Scores and reasons by molecule.
fn verdicts(rows: &[Row]) -> Vec<(&str, &str)> {
    rows.iter().map(|row| (row.score.as_str(), row.reason.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_server_says_of_a_molecule_is_the_molecules() {
    let lab = Lab::new(PROGRAMS).await;
    let server = ModelServer::start(|all| {
        let last = all.last().unwrap();
        match all.len() {
            1 => Act::Say(503, "retry-after: 1\r\n", "loading the model".into()),
            2 => Act::Reset,
            3 => Act::Half,
            4 => Act::Say(500, "", "CUDA out of memory".into()),
            _ if last.ids().contains(&"b") => Act::Say(422, "", "no such element".into()),
            _ if last.ids() == ["a"] => Act::Say(200, "", r#"[{"molecule_id": "a", "made_up": NaN}]"#.into()),
            // It forgets `d` as long as it is one of several.
            _ => Act::Say(200, "", answer(last, |id, alone| id != "d" || alone)),
        }
    })
    .await;
    push(&lab, "model", FIVE, &["--batch-size", "5"]);
    let token = lab.write("token", "open sesame\n");
    let url = server.url();
    let mut worker = lab.worker(
        "w",
        &["--run", "model", "--endpoint", &url, "--endpoint-token-file", token.to_str().unwrap()],
    );
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());

    let rows = rows(&lab, "model");
    assert_eq!(
        verdicts(&rows),
        [
            ("", "value_not_finite"),
            ("", "server_refused"),
            ("-3.0", ""),
            ("-4.0", ""),
            ("-500.0", "").into_bad("out_of_range")
        ]
    );
    assert!(rows[1].columns[1].contains("422") && rows[1].columns[1].contains("no such element"), "{rows:?}");
    let progress = lab.progress("model").await;
    assert_eq!((progress.failures, progress.releases, progress.lapses), (0, 0, 0));

    let asked = server.asked();
    assert_eq!(asked[0].json["model"], "m");
    assert_eq!(asked[0].ids(), ["a", "b", "c", "d", "e"]);
    assert!(asked.iter().all(|one| one.headers["authorization"] == "Bearer open sesame"));
    assert!(server.checks() >= 4, "before it is used, and after each trouble");
    let spec = fs::read_to_string(lab.object("model", "spec.json")).unwrap_or_default();
    assert!(!spec.contains("127.0.0.1") && !worker.log().contains("sesame"));
}

/// Rows of the molecules that are kept.
fn answer(asked: &Asked, keep: impl Fn(&str, bool) -> bool) -> String {
    let molecules = asked.json["molecules"].as_array().unwrap();
    let keeps = |one: &&Value| keep(one["molecule_id"].as_str().unwrap(), molecules.len() == 1);
    let row = |one: &Value| {
        let length = one["smiles"].as_str().unwrap().len();
        let made_up = if length == 5 { "-500.0".to_owned() } else { format!("-{length}.0") };
        format!(r#"{{"molecule_id": {}, "made_up": {made_up}}}"#, one["molecule_id"])
    };
    format!("[{}]", molecules.iter().filter(keeps).map(row).collect::<Vec<_>>().join(","))
}

trait IntoBad<'a> {
    fn into_bad(self, reason: &'a str) -> (&'a str, &'a str);
}

impl<'a> IntoBad<'a> for (&'a str, &'a str) {
    /// A bad molecule has no score.
    fn into_bad(self, reason: &'a str) -> (&'a str, &'a str) {
        ("", reason)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_again_and_again_costs_no_molecule_and_no_failure() {
    let lab = Lab::new(PROGRAMS).await;
    let flaky = |all: &[Asked]| if all.len().is_multiple_of(2) { Act::Score } else { Act::Reset };
    let (first, second) = (ModelServer::start(flaky).await, ModelServer::start(flaky).await);
    let smiles: Vec<String> = (1..=20).map(|n| format!("{} m{n}\n", "C".repeat(n))).collect();
    push(&lab, "flaky", &smiles.concat(), &[]);
    let endpoints = format!("{},{}", first.url(), second.url());
    let mut worker = lab.worker("w", &["--run", "flaky", "--endpoint", &endpoints]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let progress = lab.progress("flaky").await;
    assert_eq!((progress.succeeded, progress.molecules_ok), (20, 20));
    assert_eq!((progress.failures, progress.releases, progress.lapses), (0, 0, 0));
    let asked = [first.asked().len(), second.asked().len()];
    assert!(asked[0] > 0 && asked[1] > 0, "both share the load: {asked:?}");
}

/// The model server as a process, at one place however often it is killed.
struct ServerProcess {
    child: Child,
    folder: PathBuf,
    port: u16,
}

/// How often it is killed.
const KILLS: usize = 50;

impl ServerProcess {
    async fn start(folder: PathBuf) -> Self {
        let child = Self::spawn(&folder, 0);
        let port = eventually("the server has a port", || async {
            let port = fs::read_to_string(folder.join("port")).unwrap_or_default();
            port.parse().map_err(|_| port)
        })
        .await;
        Self { child, folder, port }
    }

    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    fn spawn(folder: &Path, port: u16) -> Child {
        let mut server = Command::new(env!("CARGO_BIN_EXE_model-server"));
        server.arg(port.to_string()).arg(folder).arg(KILLS.to_string()).spawn().unwrap()
    }

    /// The molecules in a file of its folder, in their order.
    fn noted(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Kills it with SIGKILL.
    fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Self::spawn(&self.folder, self.port);
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Each kill is in the middle of a task, and each time over another molecule: none of them is to blame.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_process_that_is_killed_50_times_in_mid_task_costs_nothing_but_time() {
    let lab = Lab::new(PROGRAMS).await;
    let mut server = ServerProcess::start(lab.path("")).await;
    let smiles: Vec<String> = (1..=60).map(|n| format!("{} m{n}\n", "C".repeat(n))).collect();
    push(&lab, "killed", &smiles.concat(), &[]);
    let url = format!("http://127.0.0.1:{}", server.port);
    let flags = ["--run", "killed", "--endpoint", &url];
    let mut workers = ["one", "two"].map(|name| lab.worker(name, &flags));
    for kill in 1..=KILLS {
        eventually("the server is in the middle of a task", || async {
            let hangs = server.noted("hangs").len();
            if hangs == kill {
                Ok(())
            } else {
                Err((hangs, workers[0].last_words(), workers[1].last_words()))
            }
        })
        .await;
        server.kill9();
        server.restart();
    }
    for worker in &mut workers {
        assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    }
    let progress = lab.progress("killed").await;
    assert_eq!((progress.succeeded, progress.molecules_ok, progress.molecules_bad), (60, 60, 0));
    assert_eq!((progress.failures, progress.releases, progress.lapses), (0, 0, 0));
    let once = |noted: Vec<String>| (noted.len(), noted.into_iter().collect::<BTreeSet<_>>().len());
    assert_eq!(once(server.noted("hangs")), (KILLS, KILLS), "over another one each time");
    assert_eq!(once(server.noted("scored")), (60, 60), "all of them, and none twice");
    let audited = lab.launchpad(&["audit", "killed"]);
    assert_eq!(audited.code, 0, "{}{}", audited.stdout, audited.stderr);
    let consolidated = lab.launchpad(&["consolidate", "killed", "-o", "scores.csv"]);
    assert_eq!(consolidated.code, 0, "{}", consolidated.stderr);
    let scores = fs::read_to_string(lab.path("scores.csv")).unwrap();
    for n in 1..=60 {
        let row = format!(",m{n},{},ok,,-{n}.0,", "C".repeat(n));
        assert_eq!(scores.matches(&row).count(), 1, "{row}: {scores}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_molecule_that_crashes_every_server_dies_with_its_evidence_and_its_neighbours_succeed() {
    let lab = Lab::new(PROGRAMS).await;
    let is_poisoned: fn(&Asked) -> bool = |asked| asked.ids().contains(&"poison");
    let crashing =
        move |all: &[Asked]| if is_poisoned(all.last().unwrap()) { Act::Reset } else { Act::Score };
    let (first, second) = (ModelServer::start(crashing).await, ModelServer::start(crashing).await);
    push(&lab, "poison", "C a\nCC poison\nCCC c\n", &["--failures-max", "2"]);
    let endpoints = format!("{},{}", first.url(), second.url());
    let mut worker = lab.worker("w", &["--run", "poison", "--endpoint", &endpoints]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());

    let progress = lab.progress("poison").await;
    assert_eq!((progress.succeeded, progress.molecules_ok, progress.dead), (2, 2, 1));
    assert_eq!((progress.failures, progress.releases, progress.lapses), (2, 0, 0));
    assert_eq!(lab.task("poison", 1).await.reason.as_deref(), Some("server_crashed"));
    let all = [first.asked(), second.asked()].concat();
    assert_eq!(all.iter().filter(|asked| is_poisoned(asked)).count(), 6, "three times in each attempt");
    let ran = lab.launchpad(&["show", "poison", "1"]);
    assert!(ran.stdout.contains("servers that were well crashed over it 3 times in a row"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_batch_the_molecule_that_crashes_servers_is_found_and_no_other_is_lost() {
    let lab = Lab::new(PROGRAMS).await;
    let server =
        ModelServer::start(
            |all| {
                if all.last().unwrap().ids().contains(&"d") { Act::Half } else { Act::Score }
            },
        )
        .await;
    push(&lab, "batch", FIVE, &["--batch-size", "5"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "batch", "--endpoint", &url]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let rows = rows(&lab, "batch");
    let expect = [("-1.0", ""), ("-2.0", ""), ("-3.0", ""), ("", "server_crashed"), ("-5.0", "")];
    assert_eq!(verdicts(&rows), expect);
    let progress = lab.progress("batch").await;
    assert_eq!((progress.failures, progress.releases), (1, 0), "one crash condemns nobody");
    // All five; then `d`, with ever fewer others; then alone, three times in each of two attempts.
    let crashed: Vec<usize> =
        server.asked().iter().map(Asked::ids).filter(|ids| ids.contains(&"d")).map(|ids| ids.len()).collect();
    assert_eq!(crashed, [5, 3, 2, 1, 1, 1, 1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_molecule_over_which_the_only_server_is_lost_is_handed_back_twice_and_then_charged() {
    let lab = Lab::new(PROGRAMS).await;
    let mut server =
        ModelServer::start(|all| if all.last().unwrap().ids() == ["b"] { Act::Hang } else { Act::Score })
            .await;
    push(&lab, "lost", "CC b\nC a\n", &["--step-seconds-max", "20", "--failures-max", "1"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "lost", "--endpoint", &url]);
    for attempt in 1..=3 {
        server.until_asked(usize::try_from(attempt).unwrap()).await;
        server.crash();
        lab.until("lost", "the attempt ends", |progress| progress.releases + progress.dead == attempt).await;
        server.restart().await;
    }
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let progress = lab.progress("lost").await;
    assert_eq!((progress.releases, progress.failures, progress.dead, progress.succeeded), (2, 1, 1, 1));
    assert_eq!(lab.task("lost", 0).await.reason.as_deref(), Some("server_crashed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_over_which_the_only_server_is_lost_each_is_asked_about_alone_and_one_is_bad() {
    let lab = Lab::new(PROGRAMS).await;
    let mut server =
        ModelServer::start(
            |all| {
                if all.last().unwrap().ids().contains(&"b") { Act::Hang } else { Act::Score }
            },
        )
        .await;
    push(&lab, "lost", "CC b\nC a\nCCC c\n", &["--step-seconds-max", "20", "--batch-size", "3"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "lost", "--endpoint", &url]);
    for attempt in 1..=2 {
        server.until_asked(usize::try_from(attempt).unwrap()).await;
        server.crash();
        lab.until("lost", "the task is handed back", |progress| progress.releases == attempt).await;
        server.restart().await;
    }
    server.until_asked(5).await;
    server.crash();
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let rows = rows(&lab, "lost");
    assert_eq!(verdicts(&rows), [("", "server_crashed"), ("-1.0", ""), ("-3.0", "")]);
    let progress = lab.progress("lost").await;
    assert_eq!((progress.releases, progress.failures), (2, 0));
    let asked: Vec<String> = server.asked().iter().map(|asked| asked.ids().concat()).collect();
    assert_eq!(asked, ["bac", "b", "a", "c", "b"], "those that are suspected least come first");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspects_that_take_long_one_by_one_share_no_time_limit() {
    let lab = Lab::new(PROGRAMS).await;
    let mut server = ModelServer::start(|all| if all.len() == 1 { Act::Hang } else { Act::Late }).await;
    push(&lab, "slow", "C a\nCC b\n", &["--step-seconds-max", "40", "--batch-size", "2"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "slow", "--endpoint", &url]);
    server.until_asked(1).await;
    server.crash();
    lab.until("slow", "the task is handed back", |progress| progress.releases == 1).await;
    server.restart().await;
    server.until_asked(2).await;
    // More than half of the step for the first one alone.
    lab.until_lease_clock("slow", 21_000).await;
    server.hurry();
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    assert_eq!(verdicts(&rows(&lab, "slow")), [("-1.0", ""), ("-2.0", "")]);
    let progress = lab.progress("slow").await;
    assert_eq!((progress.releases, progress.failures), (1, 0));
    let log = lab.launchpad(&["logs", "slow", "0"]).stdout;
    assert!(log.contains("half of the step's time is over"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_server_is_there_tasks_are_handed_back_and_none_is_leased() {
    let lab = Lab::new(PROGRAMS).await;
    let mut server = ModelServer::start(|all| if all.len() == 1 { Act::Hang } else { Act::Score }).await;
    push(&lab, "away", "CC b\n", &["--step-seconds-max", "20"]);
    server.crash();
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "away", "--endpoint", &url]);
    worker
        .until_logged("the server is missed", |line| line["message"] == "this worker can't serve the run")
        .await;
    assert_eq!(lab.progress("away").await.pending, 1, "it leases nothing that it can't do");

    server.restart().await;
    server.until_asked(1).await;
    server.crash();
    lab.until("away", "the task is handed back", |progress| progress.releases == 1).await;
    server.restart().await;
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let progress = lab.progress("away").await;
    assert_eq!((progress.failures, progress.lapses, progress.molecules_ok), (0, 0, 1));
    assert_eq!(verdicts(&rows(&lab, "away")), [("-2.0", "")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_and_is_not_well_is_away_and_one_that_is_well_is_too_slow() {
    let lab = Lab::new(PROGRAMS).await;
    let server = ModelServer::start(|_| Act::Hang).await;
    push(&lab, "still", "CC b\n", &["--step-seconds-max", "5", "--failures-max", "1"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "still", "--endpoint", &url]);
    server.until_asked(1).await;
    server.sicken(true);
    let progress = lab.until("still", "it is handed back", |progress| progress.releases == 1).await;
    assert_eq!(progress.failures, 0);
    server.sicken(false);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let task = lab.task("still", 0).await;
    assert_eq!((task.reason.as_deref(), server.asked().len()), (Some("time_limit"), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_hangs_up_at_once() {
    let lab = Lab::new(PROGRAMS).await;
    let server = ModelServer::start(|_| Act::Hang).await;
    push(&lab, "hang", "CC b\n", &[]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "hang", "--endpoint", &url]);
    server.until_asked(1).await;
    // Leases of 2.4 s: only a worker whose heartbeat goes on while the server says nothing still has its own after two of them.
    lab.until_lease_clock("hang", 2 * LEASE_MS).await;
    assert_eq!(lab.progress("hang").await.leased, 1);
    let ran = lab.launchpad(&["cancel", "hang", "--yes"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    eventually("the worker hangs up", || async {
        if server.abandoned() == 1 { Ok(()) } else { Err(server.abandoned()) }
    })
    .await;
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    assert_eq!(lab.progress("hang").await.cancelled, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_fails_the_task_and_condemns_no_molecule() {
    let lab = Lab::new(PROGRAMS).await;
    let html = |all: &[Asked]| {
        if all.last().unwrap().ids() == ["a"] {
            Act::Score
        } else {
            Act::Say(200, "", "<html>hello</html>".into())
        }
    };
    let server = ModelServer::start(html).await;
    push(&lab, "html", "C a\nCC b\n", &["--batch-size", "2", "--failures-max", "1"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "html", "--endpoint", &url]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let task = lab.task("html", 0).await;
    assert_eq!(task.reason.as_deref(), Some("engine_failed"));
    let ran = lab.launchpad(&["logs", "html", "0"]);
    assert!(ran.stdout.contains("<html>hello</html>"), "{}", ran.stdout);
    // What was found out of its neighbour is kept for the next attempt.
    let found: Vec<_> = fs::read_dir(lab.object("html", "attempts/0000000")).unwrap().collect();
    let kept = fs::read(found[0].as_ref().unwrap().path().join("rows.csv")).unwrap();
    let kept = Shard::parse(&kept).unwrap().rows;
    assert_eq!((kept.len(), kept[0].molecule_id.as_str(), kept[0].verdict), (1, "a", Verdict::Ok));
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "tests start programs")]
async fn a_doctor_and_a_worker_say_which_server_is_missing() {
    let lab = Lab::new(PROGRAMS).await;
    let server = ModelServer::start(|_| Act::Score).await;
    let mut gone = ModelServer::start(|_| Act::Score).await;
    gone.crash();
    push(&lab, "model", "CC b\n", &[]);
    let mut worker = lab.worker("w", &["--run", "model"]);
    assert_eq!(worker.left_in_its_own_time(), 78);
    assert!(worker.last_words().contains("this worker was told none"), "{}", worker.last_words());

    let (url, gone_url) = (server.url(), gone.url());
    let output = std::process::Command::new(PROGRAMS.worker)
        .args(["doctor", "--json", "--redis", &lab.redis.url(), "--endpoint", &url, "--endpoint", &gone_url])
        .env("MOLFLEET_SCRATCH", lab.path("scratch"))
        .env("MOLFLEET_CACHE", lab.path("cache"))
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let verdicts: Vec<_> = checks.iter().filter(|check| check["name"] == "endpoint").collect();
    assert_eq!(verdicts[0]["verdict"], json!("ok"), "{verdicts:?}");
    assert_eq!(verdicts[1]["verdict"], json!("wrong"), "{verdicts:?}");
    assert!(verdicts[1]["found"].as_str().unwrap().starts_with(&gone_url), "{verdicts:?}");
    assert_eq!(output.status.code(), Some(78));
}
