//! The engine `gromacs-mmgbsa` with the real programs, end to end: launchpad, Redis, a store, a worker, GROMACS, acpype, AmberTools and
//! gmx_MMPBSA. `scripts/mmgbsa-venv` installs what Debian lacks; `./test` calls it.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::task::{AttemptRecord, Row, Shard, Verdict};
use tests::{Lab, Programs};

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

/// Pushes poses as one task of 1 ps and one frame each, which is what the example's file says.
fn push(lab: &Lab, run: &str, poses: &[String]) {
    let ligands = lab.write(&format!("{run}.sdf"), &poses.concat());
    let example = project("examples/t4l-l99a/mmgbsa.toml");
    let (ligands, example) = (ligands.to_str().unwrap(), example.to_str().unwrap());
    let ran = lab.launchpad(&["push", ligands, "--run", run, "--config", example, "--confirm-after-ms", "0"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// The rows of a run's only task, with the attempt that made them.
fn scored(lab: &Lab, run: &str) -> (Vec<Row>, AttemptRecord, Vec<String>) {
    let mut worker = lab.worker(run, &["--run", run, "--exit-when", "drained"]);
    assert_eq!(worker.left_in_its_own_time(), 0, "{}", worker.last_words());
    let shard = lab.object(run, "shards/shard_0000000.csv");
    assert!(shard.is_file(), "{}", worker.last_words());
    let shard = Shard::parse(&fs::read(shard).unwrap()).unwrap();
    assert_eq!(shard.score_unit, "kcal/mol");
    let attempts = fs::read_dir(lab.object(run, "attempts/0000000")).unwrap();
    let folders: Vec<PathBuf> = attempts.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "one attempt was enough");
    let record = fs::read(folders[0].join("attempt.json")).unwrap();
    (shard.rows, serde_json::from_slice(&record).unwrap(), shard.columns)
}

#[tokio::test(flavor = "multi_thread")]
async fn benzene_and_toluene_bind_to_t4_lysozyme_and_a_salt_costs_only_itself() {
    let lab = lab().await;
    push(&lab, "batch", &[pose("benzene.sdf"), SALT.to_owned(), pose("toluene.sdf")]);
    let (rows, record, columns) = scored(&lab, "batch");
    let [benzene, salt, toluene] = &rows[..] else { panic!("{rows:?}") };
    let score = |row: &Row| row.score.parse::<f64>().unwrap_or_else(|_| panic!("{row:?}"));
    // 1 ps and one frame: −15.25 kcal/mol, and 10 ps and ten frames −14.88.
    assert!((score(benzene) + 15.25).abs() <= 1.0, "{benzene:?}");
    assert!(score(toluene) < score(benzene), "{toluene:?}");
    assert_eq!((salt.verdict, salt.reason.as_str()), (Verdict::Bad, "several_fragments"));
    let cells: BTreeMap<_, _> = columns.iter().map(String::as_str).zip(benzene.columns.iter()).collect();
    assert_eq!((cells["charges"].as_str(), cells["pose_smiles"].as_str()), ("am1-bcc", "c1ccccc1"));

    // Each step has its own time in the record.
    let names: Vec<&str> = record.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names[..3], ["receptor", "ligand_00000", "complex_00000"]);
    assert_eq!(names.len(), 1 + 6 + 1 + 6, "the salt was not gone on with: {names:?}");
    for program in ["gmx_MMPBSA", "acpype", "ambertools", "gromacs", "rdkit"] {
        assert!(record.provenance.versions.contains_key(program), "{:?}", record.provenance.versions);
    }
    let kept = |name: &str| record.files.iter().any(|file| file.object.ends_with(name));
    assert!(kept("mmgbsa/00000/energies.csv") && kept("mmgbsa/00002/md.gro") && kept("ligand_00000.stdout"));

    // Another run, in another batch, gives the same numbers.
    push(&lab, "again", &[pose("benzene.sdf")]);
    let (again, ..) = scored(&lab, "again");
    assert_eq!(again, rows[..1]);
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
