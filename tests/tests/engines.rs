//! Engines with the real programs: RDKit, Open Babel and AutoDock Vina from the Debian packages.
//!
//! Runs what `Engine::plan` asks for, step by step, in a folder of its own; no worker, no Redis, no store.
#![expect(
    clippy::disallowed_methods,
    reason = "these tests are about engines alone, so they start the programs without the worker's process supervision"
)]
#![expect(
    clippy::unwrap_used,
    reason = "the whole file is a test; an error here is a failure with its place"
)]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::task::{
    EngineOptions, ManifestDigest, Molecule, MoleculeSource, ObjectRef, Row, RunSpec, SPEC_SCHEMA, Verdict,
    VinaOptions, molecule_seed,
};
use tempfile::TempDir;
use worker::engine::{
    Engine, EngineFailure, MoleculeInput, Preparation, Remedy, Step, StepOutcome, Workload, engine_for,
};
use worker::process::{Ended, How};

/// Centroid of p-xylene's crystal-like pose in the cavity of T4 lysozyme L99A, Å.
const CAVITY: [f64; 3] = [42.32, 45.43, 18.17];
/// Where there is no atom for 100 Å.
const EMPTY_SPACE: [f64; 3] = [200.0; 3];
/// Parsed by RDKit 2022.09, and the stereo of its bridgeheads is impossible: no embedding.
const IMPOSSIBLE: &str = "C1C[C@@H]2CC[C@@H]1C2";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/t4l-l99a").join(name)
}

fn driver() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../drivers/vina_prepare.py").canonicalize().unwrap()
}

/// A docking run against one receptor file.
struct Docking {
    spec: RunSpec,
    engine: Box<dyn Engine>,
    shared: BTreeMap<String, PathBuf>,
    host: TempDir,
}

/// What a task left.
struct Done {
    rows: Vec<Row>,
    kept: BTreeMap<PathBuf, Vec<u8>>,
}

impl Docking {
    fn new(receptor: &Path, center: [f64; 3], exhaustiveness: u32) -> Self {
        let options = EngineOptions::Vina(VinaOptions { center, size: [14.0; 3], exhaustiveness, modes: 9 });
        let name = receptor.file_name().unwrap().to_str().unwrap();
        let object = ObjectRef { object: format!("inputs/0/{name}"), sha256: "0".repeat(64), bytes: 0 };
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: "engines".parse().unwrap(),
            engine: options.clone(),
            seed: 42,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::from([("receptor".to_owned(), object)]),
            drivers: BTreeMap::new(),
            manifest: ManifestDigest { sha256: "0".repeat(64), tasks: 1, molecules: 1 },
        };
        let shared = BTreeMap::from([
            ("receptor".to_owned(), receptor.canonicalize().unwrap()),
            ("prepare".to_owned(), driver()),
        ]);
        let mut docking = Self { spec, engine: engine_for(&options), shared, host: TempDir::new().unwrap() };
        for preparation in docking.engine.preparations(&docking.spec, &docking.shared) {
            docking.prepare(&preparation);
        }
        docking
    }

    fn prepare(&mut self, preparation: &Preparation) {
        let folder = self.host.path().join(&preparation.role);
        std::fs::create_dir_all(folder.join("input")).unwrap();
        let from = &self.shared[&preparation.from];
        std::fs::copy(from, folder.join("input").join(from.file_name().unwrap())).unwrap();
        let outcome = run(&preparation.step, &folder);
        let output = folder.join(&preparation.output);
        assert!(output.exists(), "{outcome:?}");
        self.shared.insert(preparation.role.clone(), output);
    }

    fn try_dock(&self, molecules: &[Molecule]) -> Result<Done, EngineFailure> {
        let scratch = TempDir::new().unwrap();
        let inputs = molecules.iter().enumerate();
        let inputs: Vec<_> =
            inputs.map(|(index, molecule)| self.stage(index, molecule, scratch.path())).collect();
        let workload = Workload {
            spec: &self.spec,
            task: common::task::TaskId(0),
            molecules: &inputs,
            scratch: scratch.path(),
            shared: &self.shared,
            has_gpu: false,
            is_suspect: false,
        };
        let plan = self.engine.plan(&workload);
        for (path, bytes) in plan.files {
            std::fs::write(scratch.path().join(path), bytes).unwrap();
        }
        let outcomes: Vec<_> = plan.steps.iter().map(|step| run(step, scratch.path())).collect();
        let rows = self.engine.judge(&workload, &outcomes)?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let kept = self.engine.keeps(&workload).into_iter();
        let kept =
            kept.filter_map(|path| Some((path.clone(), std::fs::read(scratch.path().join(path)).ok()?)));
        Ok(Done { rows, kept: kept.collect() })
    }

    fn dock(&self, molecules: &[Molecule]) -> Done {
        self.try_dock(molecules).unwrap()
    }

    fn stage(&self, index: usize, molecule: &Molecule, scratch: &Path) -> MoleculeInput {
        let structure = match &molecule.source {
            MoleculeSource::Smiles { .. } => None,
            MoleculeSource::Sdf { object, .. } => {
                let path = scratch.join(object);
                std::fs::copy(example(object), &path).unwrap();
                Some(path)
            }
        };
        let seed = molecule_seed(self.spec.seed, &molecule.id);
        MoleculeInput { index, molecule: molecule.clone(), structure, seed }
    }
}

fn run(step: &Step, folder: &Path) -> StepOutcome {
    if step.needs.iter().any(|path| !folder.join(path).exists()) {
        return StepOutcome { step: step.clone(), ended: None };
    }
    let output = Command::new(&step.argv[0])
        .args(&step.argv[1..])
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let how = output.status.code().map_or_else(
        || How::Signalled(output.status.signal().expect("without a code there is a signal")),
        How::Exited,
    );
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ended =
        Ended { how, elapsed_ms: 0, stdout_tail: text(&output.stdout), stderr_tail: text(&output.stderr) };
    StepOutcome { step: step.clone(), ended: Some(ended) }
}

fn smiles(id: &str, smiles: &str) -> Molecule {
    Molecule { id: id.into(), source: MoleculeSource::Smiles { smiles: smiles.into() } }
}

fn sdf(id: &str, file: &str) -> Molecule {
    Molecule { id: id.into(), source: MoleculeSource::Sdf { object: file.into(), offset: 0, length: 1 } }
}

impl Done {
    fn words(&self) -> Vec<(&str, &str)> {
        self.rows.iter().map(|row| (row.molecule_id.as_str(), row.reason.as_str())).collect()
    }
}

fn check_reference(molecule: Molecule, reference_kcal_mol: f64) {
    let done = Docking::new(&example("receptor.pdb"), CAVITY, 8).dock(&[molecule]);
    let row = &done.rows[0];
    assert_eq!((row.verdict, row.reason.as_str()), (Verdict::Ok, ""), "{row:?}");
    let score: f64 = row.score.parse().unwrap();
    assert!(
        (score - reference_kcal_mol).abs() <= 0.1,
        "{score} kcal/mol (expected {reference_kcal_mol} ± 0.1)"
    );
}

// References: `docs/science.md`, the rigid ligands of the set.

#[test]
fn benzene_scores_as_the_reference() {
    check_reference(smiles("benzene", "c1ccccc1"), -4.19);
}

#[test]
fn p_xylene_scores_as_the_reference() {
    check_reference(smiles("p-xylene", "Cc1ccc(C)cc1"), -3.59);
}

#[test]
fn benzofuran_scores_as_the_reference() {
    check_reference(smiles("benzofuran", "c1ccc2occc2c1"), -4.04);
}

#[test]
fn phenol_from_an_sdf_scores_as_the_reference() {
    check_reference(sdf("phenol", "phenol.sdf"), -4.35);
}

#[test]
fn bad_molecules_are_named_and_their_neighbours_unharmed() {
    let docking = Docking::new(&example("receptor.pdb"), CAVITY, 1);
    let good = smiles("benzene", "c1ccccc1");
    let alone = docking.dock(std::slice::from_ref(&good));
    let batch = [
        smiles("unclosed ring", "C1CC"),
        smiles("five bonds", "CC(C)(C)(C)C"),
        smiles("in/out norbornane", IMPOSSIBLE),
        good,
        smiles("amine, \"salt\"", "Cl.CC(N)c1ccccc1"),
        smiles("nothing", "[H][H]"),
        smiles("boronic acid", "OB(O)c1ccccc1"),
        smiles("polymer", &"C".repeat(101)),
        sdf("toluene", "toluene.sdf"),
        sdf("no record", "p-xylene-pose.pdb"),
    ];
    let done = docking.dock(&batch);
    let expect = [
        ("unclosed ring", "smiles_invalid"),
        ("five bonds", "smiles_invalid"),
        ("in/out norbornane", "embed_failed"),
        ("benzene", ""),
        ("amine, \"salt\"", ""),
        ("nothing", "no_heavy_atoms"),
        ("boronic acid", "unsupported_element"),
        ("polymer", "too_large"),
        ("toluene", ""),
        ("no record", "structure_invalid"),
    ];
    assert_eq!(done.words(), expect);
    assert_eq!(done.rows[3], alone.rows[0], "a neighbour changed benzene's row");
    assert_eq!(done.kept[Path::new("poses/00003.pdbqt")], alone.kept[Path::new("poses/00000.pdbqt")]);
    assert!(done.rows.iter().filter(|row| row.verdict == Verdict::Bad).all(|row| row.score.is_empty()));
    assert_eq!(done.rows[1].columns[5], "Explicit valence for atom # 1 C, 5, is greater than permitted");
    let (salt, toluene) = (&done.rows[4].columns, &done.rows[8]);
    assert_eq!(salt[1], "salt_stripped;stereo_undefined");
    assert!(["C[C@H](N)c1ccccc1", "C[C@@H](N)c1ccccc1"].contains(&salt[0].as_str()), "{salt:?}");
    assert_eq!((toluene.smiles.as_str(), toluene.columns[0].as_str()), ("", "Cc1ccccc1"));
}

#[test]
fn a_box_in_empty_space_is_no_score() {
    let docking = Docking::new(&example("receptor.pdb"), EMPTY_SPACE, 1);
    let done = docking.dock(&[smiles("n-butylbenzene", "CCCCc1ccccc1"), smiles("broken", "C1CC")]);
    assert_eq!(done.words(), [("n-butylbenzene", "no_contact"), ("broken", "smiles_invalid")]);
    assert!(done.rows[0].score.is_empty());
    let poses = String::from_utf8(done.kept[Path::new("poses/00000.pdbqt")].clone()).unwrap();
    assert!(poses.contains("REMARK VINA RESULT:"), "Vina itself reports a score there");
}

#[test]
fn the_same_molecules_give_the_same_bytes_on_two_hosts() {
    let molecules = [
        smiles("n-butylbenzene", "CCCCc1ccccc1"),
        smiles("mixed stereo", "CC(N)C(O)CC"),
        sdf("toluene", "toluene.sdf"),
    ];
    let once = |()| Docking::new(&example("receptor.pdb"), CAVITY, 1).dock(&molecules);
    let [first, second] = [(), ()].map(once);
    assert_eq!(first.rows, second.rows);
    assert_eq!(
        first.kept.len(),
        10,
        "three ligands as SDF and PDBQT, their poses, and the account of the preparation"
    );
    assert!(first.kept == second.kept, "poses differ");
}

#[test]
fn a_receptor_keeps_its_hydrogens_or_gets_them() {
    let polar_hydrogens = |receptor: &Path| {
        let [first, second] = [(), ()].map(|()| {
            let docking = Docking::new(receptor, CAVITY, 1);
            std::fs::read_to_string(&docking.shared["receptor_pdbqt"]).unwrap()
        });
        assert_eq!(first, second, "{} was not prepared alike twice", receptor.display());
        first.lines().filter(|line| line.trim_end().ends_with("HD")).count()
    };
    let folder = TempDir::new().unwrap();
    let bare = folder.path().join("bare receptor.pdb");
    let protonated = std::fs::read_to_string(example("receptor.pdb")).unwrap();
    let is_heavy = |line: &&str| {
        let name = line.get(12..16).unwrap_or_default().trim();
        !name.trim_start_matches(|letter: char| letter.is_ascii_digit()).starts_with('H')
    };
    std::fs::write(&bare, protonated.lines().filter(is_heavy).collect::<Vec<_>>().join("\n")).unwrap();
    assert_eq!(polar_hydrogens(&example("receptor.pdb")), 325, "of the file itself");
    assert_eq!(polar_hydrogens(&bare), 322, "added by Open Babel 3.1.1 for pH 7.4");
}

#[test]
fn a_receptor_without_atoms_is_nobodys_fault_but_its_own() {
    let folder = TempDir::new().unwrap();
    for name in ["receptor.pdb", "receptor.PDBQT"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "not a protein\n").unwrap();
        let failure =
            Docking::new(&path, CAVITY, 1).try_dock(&[smiles("benzene", "c1ccccc1")]).err().unwrap();
        assert_eq!(failure.reason, "receptor_invalid");
        assert!(
            failure.detail.starts_with(&format!("the receptor `{name}` has no atoms")),
            "{}",
            failure.detail
        );
    }
}

#[test]
fn a_receptor_that_vina_refuses_is_no_molecules_fault() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("receptor.pdbqt");
    let good = Docking::new(&example("receptor.pdb"), CAVITY, 1);
    let text = std::fs::read_to_string(&good.shared["receptor_pdbqt"]).unwrap();
    std::fs::write(&path, text.replacen(" OA\n", " Xx\n", 1)).unwrap();
    let failure = Docking::new(&path, CAVITY, 1).try_dock(&[smiles("benzene", "c1ccccc1")]).err().unwrap();
    assert_eq!(failure.reason, "receptor_invalid");
    assert!(failure.detail.contains("Atom type Xx is not a valid AutoDock type"), "{}", failure.detail);
}

#[test]
fn a_pdb_file_that_is_called_pdbqt_is_given_up_before_vina_is_asked() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("receptor.pdbqt");
    std::fs::copy(example("receptor.pdb"), &path).unwrap();
    let failure = Docking::new(&path, CAVITY, 1).try_dock(&[smiles("benzene", "c1ccccc1")]).err().unwrap();
    assert_eq!((failure.reason, failure.remedy()), ("receptor_not_pdbqt", Remedy::GiveUp));
    assert!(failure.detail.contains("in line 2, `ATOM      1  N   MET"), "{}", failure.detail);
}

#[test]
fn a_driver_that_breaks_off_voids_the_attempt() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("driver.py");
    std::fs::write(&path, "raise SystemExit('no module named rdkit')\n").unwrap();
    let mut docking = Docking::new(&example("receptor.pdb"), CAVITY, 1);
    docking.shared.insert("prepare".into(), path);
    let failure = docking.try_dock(&[smiles("benzene", "c1ccccc1")]).err().unwrap();
    assert_eq!(failure.reason, "prepare_failed");
    assert!(failure.detail.contains("no module named rdkit"), "{}", failure.detail);
}
