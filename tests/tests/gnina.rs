//! The engine `gnina`, from a push to a file of poses. The program itself is in no registry, so two stand-ins take its place, both with
//! its documented command line (`tests/gnina/`): a stub that docks nothing and lies when it is told to, and real docking with GNINA's
//! networks by `rustina`, whose results are labelled so.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{Lab, Programs};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};
/// Where `./test` puts rustina.
const RUSTINA: &str = "target/rustina-0.9.0/bin/python3";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A lab in which `gnina` is one of the stand-ins.
async fn lab(python: &Path, stand_in: &str) -> Lab {
    let lab = Lab::new(PROGRAMS).await;
    let script = root().join("tests/gnina").join(stand_in);
    let program = format!(
        "#!/bin/sh\nGNINA_STUB=\"$0\" exec '{}' -B '{}' \"$@\"\n",
        python.display(),
        script.display()
    );
    lab.set("gnina", &program);
    fs::set_permissions(lab.path("stubs/gnina"), Permissions::from_mode(0o755)).unwrap();
    lab
}

async fn drained(lab: &Lab, run: &str, cores: &str) {
    let mut worker = lab.worker(run, &["--run", run, "--exit-when", "drained", "--cores", cores]);
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
}

/// The rows of the table, each as its column's values by name.
fn table(lab: &Lab, run: &str) -> Vec<Value> {
    let ran = lab.launchpad(&["consolidate", run, "-o", "table.csv", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut reader = csv::Reader::from_path(lab.path("table.csv")).unwrap();
    let rows = reader.deserialize::<std::collections::BTreeMap<String, String>>();
    rows.map(|row| serde_json::to_value(row.unwrap()).unwrap()).collect()
}

fn number(row: &Value, column: &str) -> f64 {
    row[column].as_str().unwrap().parse().unwrap()
}

/// The value of a flag in a call.
fn flag<'a>(call: &'a Value, name: &str) -> &'a str {
    let words: Vec<&str> = call.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    words[words.iter().position(|word| *word == name).unwrap() + 1]
}

#[tokio::test]
async fn a_push_reaches_gninas_flags_and_its_tags_reach_the_table() {
    let lab = lab(Path::new("/usr/bin/python3"), "stub.py").await;
    let flags = ["--engine", "gnina", "--score", "CNN_VS", "--modes", "3", "--device", "1"];
    lab.push(
        "r",
        "c1ccccc1 benzene\nC1CC no-ring\nCCO ethanol\n",
        &[&flags[..], &["--cnn-scoring", "refinement"]].concat(),
    );
    drained(&lab, "r", "1").await;

    let rows = table(&lab, "r");
    let calls: Vec<Value> =
        lab.noted("calls").iter().map(|call| serde_json::from_str(call).unwrap()).collect();
    assert_eq!((rows.len(), calls.len()), (3, 2), "what can't be prepared is not docked");
    for call in &calls {
        let given = ["--num_modes", "--device", "--cnn_scoring", "--exhaustiveness", "--cpu"]
            .map(|name| flag(call, name));
        assert_eq!(given, ["3", "1", "refinement", "1", "1"]);
        let search = ["--center_x", "--center_y", "--center_z", "--size_x"].map(|name| flag(call, name));
        assert_eq!(search, ["42.32", "45.43", "18.17", "14"]);
        assert!(flag(call, "-r").ends_with("/receptor.pdb"), "{call}");
    }
    let seeds: Vec<&str> = rows.iter().map(|row| row["seed"].as_str().unwrap()).collect();
    assert!(calls.iter().all(|call| seeds.contains(&flag(call, "--seed"))), "{seeds:?} {calls:?}");
    let (benzene, no_ring) = (&rows[0], &rows[1]);
    assert_eq!((&benzene["score"], &benzene["score_unit"]), (&"3.7644898891".into(), &"".into()));
    let numbers =
        ["minimizedAffinity", "CNNscore", "CNNaffinity", "CNN_VS"].map(|tag| benzene[tag].as_str().unwrap());
    assert_eq!(numbers, ["-5.04999", "0.8700000048", "4.3269996643", "3.7644898891"]);
    assert_eq!(benzene["program"], "stub of gnina, docks nothing");
    assert_eq!((&no_ring["reason"], &no_ring["CNN_VS"]), (&"smiles_invalid".into(), &"".into()));

    let ran = lab.launchpad(&["poses", "r", "--highest", "--top", "1", "-o", "best.sdf", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let sdf = fs::read_to_string(lab.path("best.sdf")).unwrap();
    assert!(sdf.starts_with("benzene\n") && sdf.ends_with("$$$$\n"), "{sdf}");
    for item in [">  <score>\n3.7644898891\n", ">  <minimizedAffinity>\n-5.04999\n", ">  <mode>\n1\n"] {
        assert!(sdf.contains(item), "{item} is not in\n{sdf}");
    }
    let ran = lab.launchpad(&["poses", "r", "-o", "best.pdbqt"]);
    assert_eq!(ran.code, 65);
    assert!(
        ran.stderr.contains("the poses of the engine `gnina` are SDF records, not PDBQT\nhint: -o best.sdf"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn several_processes_share_a_gpu() {
    let lab = lab(Path::new("/usr/bin/python3"), "stub.py").await;
    lab.set("gate", "");
    lab.push("r", "c1ccccc1 benzene\nCCO ethanol\nCCC propane\n", &["--engine", "gnina"]);
    let mut worker = lab.worker("w", &["--run", "r", "--exit-when", "drained", "--cores", "3"]);
    let calls = lab.until_noted("calls", 3).await;
    // All three are held up at the gate, so they run at the same time.
    assert!(calls.iter().all(|call| call.contains(r#""--device", "0""#)), "{calls:?}");
    assert_eq!(lab.progress("r").await.leased, 3);
    lab.unset("gate");
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    assert_eq!(lab.progress("r").await.molecules_ok, 3);
}

#[tokio::test]
async fn a_gpu_of_the_worker_holds_as_many_processes_as_it_is_told() {
    let lab = lab(Path::new("/usr/bin/python3"), "stub.py").await;
    // There is no GPU here: what the first of two once said (see `gpus.rs`).
    let query = "0, GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43, Quadro RTX 4000, 535.129.03, 8192 MiB\n";
    let list = include_str!("../golden/nvidia-smi-535-rtx4000.txt");
    lab.has_gpus(query, list, "GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43, [N/A]\n");
    lab.set("gate", "");
    let ligands = "c1ccccc1 benzene\nCCO ethanol\nCCC propane\n";
    lab.push("r", ligands, &["--engine", "gnina", "--device", "1"]);
    let flags = ["--run", "r", "--exit-when", "drained", "--cores", "3", "--tasks-per-gpu", "2"];
    let mut worker = lab.worker("w", &flags);
    let calls = lab.until_noted("calls", 2).await;
    // Of the one GPU that it sees, whatever the run says.
    assert!(calls.iter().all(|call| call.contains(r#""--device", "0""#)), "{calls:?}");
    assert_eq!(lab.progress("r").await.leased, 2);
    lab.unset("gate");
    assert_eq!(worker.left().await, 0, "{}", worker.last_words());
    assert_eq!(lab.progress("r").await.molecules_ok, 3);
}

#[tokio::test]
async fn what_gnina_gets_wrong_is_named_or_tried_again() {
    let lab = lab(Path::new("/usr/bin/python3"), "stub.py").await;
    let bad = [
        ("far", "outside_box"),
        ("untagged", "score_not_finite"),
        ("nan", "score_not_finite"),
        ("empty", "no_pose"),
    ];
    let dead = [("silent", "output_lost"), ("refuse", "engine_failed")];
    let ligands: Vec<_> = bad.iter().chain(&dead).map(|(lie, _)| format!("c1ccccc1 {lie}\n")).collect();
    lab.push("r", &ligands.concat(), &["--engine", "gnina", "--failures-max", "1"]);
    drained(&lab, "r", "2").await;
    for (task, (lie, reason)) in (0..).zip(bad) {
        let shard = fs::read_to_string(lab.object("r", &format!("shards/shard_{task:07}.csv"))).unwrap();
        assert!(shard.contains(&format!(",bad,{reason},,,")), "{lie}: {shard}");
    }
    for (task, (lie, reason)) in (bad.len() as u64..).zip(dead) {
        let found = lab.task("r", task).await.reason.unwrap_or_default();
        assert!(found.starts_with(reason), "{lie}: {found}");
    }
}

#[tokio::test]
async fn ligands_are_docked_with_gninas_networks_and_labelled_rustina() {
    let python = root().join(RUSTINA);
    assert!(python.exists(), "{} is not there: ./test makes it", python.display());
    let lab = lab(&python, "rustina_dock.py").await;
    let ligands = "c1ccccc1 benzene\nCc1ccccc1 toluene\nOc1ccccc1 phenol\n";
    lab.push("r", ligands, &["--engine", "gnina", "--modes", "2"]);
    let worker = lab.worker("w", &["--run", "r"]);
    for molecules in 1..=3 {
        lab.until("r", "another molecule is docked", |progress| progress.molecules_ok >= molecules).await;
    }
    drop(worker);
    let rows = table(&lab, "r");
    // What Vina gives these rigid ligands, see docs/science.md: the same function by another program.
    for (row, vina_kcal_mol) in rows.iter().zip([-4.19, -4.87, -4.35]) {
        assert_eq!((&row["verdict"], &row["score_unit"]), (&"ok".into(), &"kcal/mol".into()), "{row}");
        let score = number(row, "score");
        assert!((score - vina_kcal_mol).abs() <= 0.3, "{row} (expected {vina_kcal_mol} ± 0.3)");
        let [pose, affinity, both] = ["CNNscore", "CNNaffinity", "CNN_VS"].map(|column| number(row, column));
        assert!((0.3..=1.0).contains(&pose) && (2.0..8.0).contains(&affinity), "{row}");
        assert!((pose * affinity - both).abs() < 1e-3, "{row}");
        assert_eq!(row["program"], "rustina 0.9.0, CNN weights of GNINA, not gnina itself");
    }
    let shown = lab.launchpad(&["show", "r", "0", "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let versions = &shown["attempts"][0]["record"]["provenance"]["versions"];
    assert!(versions["gnina"].as_str().unwrap().starts_with("rustina 0.9.0"), "{versions}");
    let ran = lab.launchpad(&["poses", "r", "--top", "3", "--modes", "2", "-o", "best.sdf", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let sdf = fs::read_to_string(lab.path("best.sdf")).unwrap();
    assert!(
        sdf.starts_with("toluene\n") && sdf.matches("<CNN_VS>").count() == sdf.matches("$$$$").count(),
        "{sdf}"
    );
}
