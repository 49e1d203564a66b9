//! The engine `terachem` end to end: launchpad, Redis, a store, a worker, RDKit, and a double of a TeraChem server, which can't be had. Its
//! energies are made up; what is real is the protocol of the published `.proto`, and everything on our side of it.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::task::{METHODS, Row, Shard};
use tests::{Job, LEASE_MS, Lab, Programs, TerachemServer};
use worker::terachem_proto::job_input::RunType;
use worker::terachem_proto::mol::UnitType;

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn push(lab: &Lab, run: &str, molecules: &Path, flags: &[&str]) {
    let toml = format!(
        "engine = 'terachem'\n[options]\nmethod = 'b3lyp'\nbasis = '6-31g*'\nsettings = {{threall = '1.0e-14'}}\n\
         [limits]\nlease_ms = {LEASE_MS}\nheartbeat_ms = 400\nbackoff_ms = 10\n"
    );
    let config = lab.write(&format!("{run}.toml"), &toml);
    let (molecules, config) = (molecules.to_str().unwrap(), config.to_str().unwrap());
    let mut arguments = vec!["push", molecules, "--run", run, "--config", config, "--confirm-after-ms", "0"];
    arguments.extend_from_slice(flags);
    let ran = lab.launchpad(&arguments);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn shard(lab: &Lab, run: &str) -> Shard {
    Shard::parse(&fs::read(lab.object(run, "shards/shard_0000000.csv")).unwrap()).unwrap()
}

fn cells<'a>(shard: &'a Shard, row: &'a Row) -> BTreeMap<&'a str, &'a str> {
    shard.columns.iter().map(String::as_str).zip(row.columns.iter().map(String::as_str)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_everything_wrong_costs_no_molecule() {
    let lab = Lab::new(PROGRAMS).await;
    let server = TerachemServer::start(|number, input| match number {
        1 => Job::Busy,
        2 => Job::Crash,
        4 => Job::Half,
        5 => Job::Garbage,
        6 => Job::Oversized,
        8 => Job::Forget,
        9 => Job::Empty,
        10 => Job::WrongKind,
        12 => Job::Refuse,
        13 => Job::Decline,
        14 => Job::OtherAtoms,
        _ if input.mol.as_ref().unwrap().atoms.len() == 3 => Job::Energy(f64::NAN),
        _ => Job::Compute(2),
    })
    .await;
    let molecules = lab.write(
        "m.smi",
        "C methane\nO water\n[NH4+] ammonium\n[CH3] radical\nC(C)(C)(C)(C)C broken\nC[O-].[Na+] methanolate\n",
    );
    push(&lab, "qm", &molecules, &["--batch-size", "6"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "qm", "--endpoint", &url]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let progress = lab.progress("qm").await;
    assert_eq!((progress.failures, progress.releases, progress.lapses), (0, 0, 0));

    let shard = shard(&lab, "qm");
    assert_eq!(shard.score_unit, "hartree");
    let found: Vec<_> = shard.rows.iter().map(|row| (row.score.as_str(), row.reason.as_str())).collect();
    assert_eq!(
        found,
        [
            ("-5", ""),
            ("", "value_not_finite"),
            ("-5", ""),
            ("", "multiplicity_impossible"),
            ("", "smiles_invalid"),
            ("-5", ""),
        ]
    );
    let methane = cells(&shard, &shard.rows[0]);
    let kcal: f64 = methane["energy_kcal_mol"].parse().unwrap();
    assert!((kcal + 5.0 * 627.5095).abs() < 1e-3, "{kcal}");
    assert_eq!((methane["charge"], methane["multiplicity"], methane["atoms"]), ("0", "1", "5"));
    assert_eq!(cells(&shard, &shard.rows[2])["charge"], "1");
    let methanolate = cells(&shard, &shard.rows[5]);
    assert_eq!((methanolate["charge"], methanolate["flags"]), ("-1", "salt_stripped"));

    let job = server.jobs().remove(0);
    let mol = job.mol.unwrap();
    assert_eq!((job.run, job.method, job.basis.as_str()), (RunType::Energy as i32, 6, "6-31g*"));
    assert_eq!(job.user_options, ["threall", "1.0e-14"]);
    assert_eq!(mol.units, UnitType::Bohr as i32);
    assert_eq!((mol.charge, mol.multiplicity, mol.closed, mol.restricted), (0, 1, true, true));
    // A C–H bond of methane has 1.09 Å, which is 2.06 bohr.
    let bond = (0..3).map(|axis| (mol.xyz[axis] - mol.xyz[3 + axis]).powi(2)).sum::<f64>().sqrt();
    assert!((bond - 2.06).abs() < 0.03, "{bond}");

    // What was heard of the first job is kept, although it and the next one came to nothing.
    let ran = lab.launchpad(&["logs", "qm", "0"]);
    assert!(ran.stdout.contains("busy: it has a job"), "{}", ran.stdout);
    assert!(ran.stdout.contains("server_scratch/job_2"), "{}", ran.stdout);
    // So is what was wrong with the others.
    for said in [
        "a message of kind 0 and 4294967295 bytes",
        "(expected kind 0 and 268435456 bytes at most)",
        "it takes no job",
        "the output of job 14 has 4 other atoms",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {}", ran.stdout);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_geometry_is_taken_as_it_is_and_a_crash_in_mid_job_hands_the_task_back() {
    let lab = Lab::new(PROGRAMS).await;
    let mut server =
        TerachemServer::start(|number, _| Job::Compute(if number == 1 { 1_000_000 } else { 0 })).await;
    push(&lab, "pose", &project("examples/t4l-l99a/benzene.sdf"), &["--step-seconds-max", "20"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "pose", "--endpoint", &url]);
    server.until_submitted(1).await;
    // It answers while it computes, and the lease is renewed meanwhile.
    lab.until_lease_clock("pose", 2 * LEASE_MS).await;
    server.crash();
    lab.until("pose", "the task is handed back", |progress| progress.releases == 1).await;
    server.restart().await;
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let progress = lab.progress("pose").await;
    assert_eq!((progress.failures, progress.lapses, progress.molecules_ok), (0, 0, 1));
    assert_eq!(shard(&lab, "pose").rows[0].score, "-12");
    let xyz = server.jobs()[0].mol.clone().unwrap().xyz;
    let sdf = fs::read_to_string(project("examples/t4l-l99a/benzene.sdf")).unwrap();
    let first: f64 = sdf.lines().nth(4).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!((xyz[0] - first / 0.529_177_21).abs() < 1e-3, "{} Å became {} bohr", first, xyz[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_molecule_that_crashes_the_server_each_time_is_bad_and_its_neighbours_have_energies() {
    let lab = Lab::new(PROGRAMS).await;
    let server = TerachemServer::start(|_, input| {
        if input.mol.as_ref().unwrap().atoms.len() == 3 { Job::Crash } else { Job::Compute(1) }
    })
    .await;
    let molecules = lab.write("m.smi", "C methane\nO water\nN ammonia\n");
    push(&lab, "poison", &molecules, &["--batch-size", "3"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "poison", "--endpoint", &url]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let shard = shard(&lab, "poison");
    let found: Vec<_> = shard.rows.iter().map(|row| (row.score.as_str(), row.reason.as_str())).collect();
    assert_eq!(found, [("-5", ""), ("", "server_crashed"), ("-4", "")]);
    let progress = lab.progress("poison").await;
    assert_eq!((progress.succeeded, progress.failures, progress.releases), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_other_jobs_fail_the_task_and_condemn_no_molecule() {
    let lab = Lab::new(PROGRAMS).await;
    let server = TerachemServer::start(|_, input| {
        if input.mol.as_ref().unwrap().atoms.len() == 5 { Job::Other } else { Job::Compute(0) }
    })
    .await;
    let molecules = lab.write("m.smi", "C methane\nO water\n");
    push(&lab, "other", &molecules, &["--batch-size", "2", "--failures-max", "1"]);
    let url = server.url();
    let mut worker = lab.worker("w", &["--run", "other", "--endpoint", &url]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    assert_eq!(lab.task("other", 0).await.reason.as_deref(), Some("engine_failed"));
    let ran = lab.launchpad(&["logs", "other", "0"]);
    assert!(ran.stdout.contains("an output of job 2 (expected job 1)"), "{}", ran.stdout);
    assert_eq!(server.jobs().len(), 4, "methane three times, and water all the same");
}

#[test]
fn the_generated_messages_are_those_of_the_proto() {
    let folder = tempfile::tempdir().unwrap();
    let messages = protox::compile(["terachem_server.proto"], [project("worker/proto")]).unwrap();
    prost_build::Config::new().out_dir(folder.path()).compile_fds(messages).unwrap();
    let made = fs::read_to_string(folder.path().join("terachem_server.rs")).unwrap();
    let path = project("worker/src/server/terachem_proto.rs");
    let ours = fs::read_to_string(&path).unwrap();
    let (head, generated) = ours.split_at(ours.find("// This file is @generated").unwrap());
    if std::env::var_os("MOLFLEET_GOLDEN").is_some() {
        fs::write(&path, format!("{head}{made}")).unwrap();
    } else {
        assert!(
            generated == made,
            "MOLFLEET_GOLDEN=write cargo test -p tests --test terachem makes it again"
        );
    }
}

#[test]
fn the_methods_are_those_of_the_proto() {
    let proto = fs::read_to_string(project("worker/proto/terachem_server.proto")).unwrap();
    let body = proto.split_once("enum MethodType {").unwrap().1.split_once('}').unwrap().0;
    let lines = body.lines().filter_map(|line| line.trim().strip_suffix(';')?.split_once('='));
    let named: Vec<(&str, i32)> = lines
        .filter(|(name, _)| !name.starts_with("option"))
        .map(|(name, number)| (name.trim(), number.trim().parse().unwrap()))
        .collect();
    assert_eq!(named, METHODS);
}
