//! Whatever programs leave behind and whatever a spec that was accepted says: reading it never panics, and no plan leaves the scratch
//! folder, makes a flag of a name, or puts a molecule on a command line. Not part of the program.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use common::task::{
    Column, ColumnKind, EngineOptions, Molecule, MoleculeSource, ObjectRef, RowsFormat, RunSpec,
    decode_molecules, encode_molecules,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::command_rows::FoundRows;
use super::complex::Complex;
use super::mmgbsa_energies::Energies;
use super::{MoleculeInput, Plan, Workload, command, engine_for, pdbqt, pose_sdf, prepared, receptor};

const POSES: &str = include_str!("../../../tests/golden/vina-1.2.3-toluene.pdbqt");
const POSES_SDF: &str = include_str!("../../../tests/golden/rustina-0.9.0-toluene.sdf");
const COMPLEX: &str = include_str!("../../../tests/golden/gromacs-2022.5-t4l-benzene-last.gro");
const ENERGIES: &str = include_str!("../../../tests/golden/gmx_mmpbsa-1.7.1-t4l-benzene-1ps.dat");
const PREPARED: &str =
    "{\"index\": 0, \"ok\": true, \"docked_smiles\": \"C\", \"heavy_atoms\": 1, \"flags\": []}\n";
const ROWS: &str = "molecule_id,mw\na,1\nb,\"2\"\n";

/// As many as `PROPTEST_CASES` says, 256 by default: these parse whole files.
fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A text of a format with something else in the middle of it.
fn damaged(whole: &'static str) -> impl Strategy<Value = String> {
    let inserted = prop_oneof![any::<String>(), "[-0-9.eE+naif \n\",{}]{0,12}"];
    (any::<prop::sample::Index>(), inserted, 0..30_usize).prop_map(move |(at, inserted, dropped)| {
        let at = whole.floor_char_boundary(at.index(whole.len()));
        let rest: String = whole[at..].chars().skip(dropped).collect();
        format!("{}{inserted}{rest}", &whole[..at])
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn poses_of_any_bytes_are_refused_or_finite(damaged in damaged(POSES), any in any::<String>()) {
        for text in [damaged, any] {
            if let Ok(poses) = pdbqt::poses(&text) {
                prop_assert!(poses.count <= text.lines().count());
                prop_assert!(poses.heavy_atoms.into_iter().flatten().flatten().all(f64::is_finite));
            }
            if let Ok(atoms) = pdbqt::heavy_atoms(&text) {
                prop_assert!(atoms.into_iter().flatten().all(f64::is_finite));
            }
            text.lines().for_each(|line| _ = receptor::is_hydrogen(line));
        }
    }

    #[test]
    fn records_of_any_bytes_are_refused_or_finite(damaged in damaged(POSES_SDF), any in any::<String>()) {
        for text in [damaged, any] {
            if let Ok(poses) = pose_sdf::PosesSdf::parse(&text) {
                prop_assert!(poses.count() <= text.lines().count());
                _ = poses.item("CNNscore");
                prop_assert!(poses.heavy_atoms().into_iter().flatten().flatten().all(f64::is_finite));
            }
        }
    }

    #[test]
    fn an_account_of_any_bytes_has_one_line_per_molecule_at_most(damaged in damaged(PREPARED), any in any::<String>()) {
        for text in [damaged, any] {
            for account in [prepared::parse_begun(&text, &[0, 7]), prepared::parse(&text, &[0])].into_iter().flatten() {
                prop_assert!(account.len() <= 2 && account.iter().all(|line| line.index == 0 || line.index == 7));
            }
        }
    }

    #[test]
    fn energies_and_complexes_of_any_bytes_are_refused_or_whole(
        complex in damaged(COMPLEX), energies in damaged(ENERGIES), any in any::<String>(),
    ) {
        for text in [&complex, &any] {
            if let Ok(complex) = Complex::parse(text) {
                prop_assert!(complex.ligand.iter().chain(&complex.receptor).flatten().all(|x| x.is_finite()));
                prop_assert!(!complex.ligand.is_empty() && complex.distance_to(&complex.pocket()) >= 0.0
                    || complex.pocket().is_empty());
            }
        }
        for text in [&energies, &any] {
            if let Ok(energies) = Energies::parse(text) {
                prop_assert!(energies.delta.values().all(|term| !term.average.contains(char::is_whitespace)));
            }
        }
    }

    #[test]
    fn rows_of_any_bytes_are_found_by_id_or_not_at_all(damaged in damaged(ROWS), any in any::<String>(), whole: bool) {
        let column = Column { name: "mw".into(), kind: ColumnKind::Number, unit: String::new(), min: None, max: None };
        for (text, format) in [(&damaged, RowsFormat::Csv), (&any, RowsFormat::Csv), (&any, RowsFormat::JsonLines)] {
            if let Ok(found) = FoundRows::parse(text, format, std::slice::from_ref(&column), whole) {
                prop_assert!(found.of("a").len() <= text.len());
                _ = found.stranger(&["a", "b"]);
            }
        }
    }

    #[test]
    fn no_plan_leaves_its_folder_or_makes_a_flag_of_a_name(
        (id, smiles, dashed) in (any::<String>(), "[!-~]{1,30}", any::<bool>()),
        role in name(), name in name(), path in name(),
    ) {
        let dash = |text: String| if dashed { format!("-{text}") } else { text };
        let (id, smiles) = (dash(id), dash(smiles));
        for json in specs(&role, &name, &path) {
            // Only what the reader of specs and molecules lets through ever gets to a plan.
            let Ok(spec) = RunSpec::read(&json, &"r".parse().expect("a run id")) else { continue };
            let molecule = Molecule { id: id.clone(), source: MoleculeSource::Smiles { smiles: smiles.clone() } };
            let Ok(molecules) = decode_molecules(&encode_molecules(&[molecule])) else { continue };
            check_plan(&spec, &molecules)?;
        }
    }
}

/// What somebody would try as a role, a file's name or a path, and anything else.
fn name() -> impl Strategy<Value = String> {
    const TRIED: [&str; 13] = [
        "../x",
        "..",
        "a/../../b",
        "/etc/x",
        "-rf",
        "--help",
        "a\nb",
        "a\0b",
        ".",
        "",
        "x/../y",
        "a",
        "a_1.pdb",
    ];
    prop_oneof![prop::sample::select(&TRIED[..]).prop_map(str::to_owned), any::<String>()]
}

/// A spec of each engine with these texts where a push has roles, file names and paths; the last two of each are sound ones.
fn specs(role: &str, name: &str, path: &str) -> Vec<String> {
    let sha256 = "0f".repeat(32);
    let spec = |role: &str, name: &str, path: &str, engine: serde_json::Value, driver: &str| {
        let object = |folder: &str, name: &str| serde_json::json!({ "object": format!("{folder}/{sha256}/{name}"), "sha256": sha256, "bytes": 1 });
        let mut engine = engine;
        if engine["name"] == "command" {
            engine["keep"] = serde_json::json!([path]);
        }
        serde_json::json!({
            "schema": 1, "run": "r", "engine": engine, "seed": 1, "threads_per_task": 1,
            "inputs": { role: object("inputs", name) }, "drivers": { driver: object("drivers", name) },
            "manifest": { "sha256": sha256, "tasks": 1, "molecules": 1 },
        })
        .to_string()
    };
    let command = serde_json::json!({
        "name": "command", "argv": ["python3", "{driver}"], "versions": {}, "rows": "rows.csv",
        "columns": [{ "name": "mw" }], "score": null, "expect": ["{index}.sdf"], "keep": [],
    });
    let vina = serde_json::json!({
        "name": "vina", "center": [-1.5, 0.0, 0.0], "size": [9.0, 9.0, 9.0], "exhaustiveness": 1, "modes": 1,
    });
    let gnina = serde_json::json!({
        "name": "gnina", "center": [-1.5, 0.0, 0.0], "size": [9.0, 9.0, 9.0], "exhaustiveness": 1, "modes": 1,
        "cnn_scoring": "rescore", "score": "CNN_VS", "device": 0,
    });
    let mmgbsa =
        serde_json::json!({ "name": "gromacs-mmgbsa", "charges": "am1-bcc", "md_ps": 1.0, "frames": 1 });
    let fep = serde_json::json!({
        "name": "gromacs-fep", "charges": "gasteiger", "lambdas_coulomb": [0.0, 1.0, 1.0], "lambdas_vdw": [0.0, 0.0, 1.0],
        "window_ps": 1.0, "discard_ps": 0.0, "equilibration_ps": 1.0, "box_nm": 2.0,
    });
    let http = serde_json::json!({
        "name": "http", "path": "/p", "health": "/h", "request": {}, "molecules": "m", "fields": { "i": "id", "s": "smiles" },
        "answer": "", "columns": [{ "name": "mw" }], "score": null,
    });
    let terachem = serde_json::json!({
        "name": "terachem", "method": "HF", "basis": "sto-3g", "charge": null, "multiplicity": 1, "settings": {},
    });
    let mut specs = Vec::new();
    let engines = [
        (command, "driver"),
        (vina, "prepare"),
        (gnina, "prepare"),
        (mmgbsa, "driver"),
        (fep, "driver"),
        (http, "driver"),
        (terachem, "prepare"),
    ];
    for (engine, driver) in engines {
        specs.push(spec(role, "a.pdb", "kept", engine.clone(), driver));
        specs.push(spec("receptor", name, "kept", engine.clone(), driver));
        specs.push(spec("receptor", "a.pdb", path, engine.clone(), driver));
        specs.push(spec("receptor", "a.pdbqt", "kept", engine, driver));
    }
    specs
}

fn check_plan(spec: &RunSpec, molecules: &[Molecule]) -> TestCaseResult {
    let folder = tempfile::tempdir().expect("a folder");
    let cached = |name: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, POSES).expect("a file");
        path
    };
    let pinned = spec.inputs.iter().chain(&spec.drivers);
    let mut shared: BTreeMap<String, PathBuf> =
        pinned.map(|(role, object)| (role.clone(), cached(object.file_name()))).collect();
    for (role, name) in [("receptor_pdbqt", "receptor.pdbqt"), ("receptor", "receptor.pdb")] {
        shared.entry(role.to_owned()).or_insert_with(|| cached(name));
    }
    let input = |(index, molecule): (usize, &Molecule)| MoleculeInput {
        index,
        molecule: molecule.clone(),
        structure: None,
        seed: 1,
    };
    let molecules: Vec<_> = molecules.iter().enumerate().map(input).collect();
    let workload = Workload {
        spec,
        task: common::task::TaskId(0),
        molecules: &molecules,
        scratch: folder.path(),
        shared: &shared,
        has_gpu: false,
        is_suspect: false,
    };
    let engine = engine_for(&spec.engine);
    let Plan { files, copies, steps } = engine.plan(&workload);
    prop_assert!(!steps.is_empty() || !spec.inputs.contains_key("receptor"));
    let written = files.iter().map(|(path, _)| path).chain(copies.iter().map(|(_, to)| to));
    for path in written.chain(steps.iter().flat_map(|step| &step.needs)).chain(&engine.keeps(&workload)) {
        prop_assert!(is_below(path), "{}", path.display());
    }
    let made = engine.preparations(spec, &shared);
    for step in steps.iter().chain(made.iter().map(|preparation| &preparation.step)) {
        prop_assert!(
            step.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)),
            "{}",
            step.name
        );
        check_argv(&step.argv, spec, &molecules)?;
    }
    Ok(())
}

/// No word is a molecule's, none is a file's name without a folder in front of it, and none is for a shell to read.
fn check_argv(argv: &[String], spec: &RunSpec, molecules: &[MoleculeInput]) -> TestCaseResult {
    prop_assert!(
        ["python3", "obabel", "vina", "gnina", "/proc/self/exe"].contains(&argv[0].as_str()),
        "{argv:?}"
    );
    for word in &argv[1..] {
        let mut names = spec.inputs.values().chain(spec.drivers.values()).map(ObjectRef::file_name);
        // `-ipdb` ends with a file called `b`, too.
        if let Some(name) = names.find(|name| name.len() > 2 && word.ends_with(*name)) {
            prop_assert!(word.ends_with(&format!("/{name}")) && !word.starts_with('-'), "{argv:?}");
        }
        for MoleculeInput { molecule, .. } in molecules {
            prop_assert!(*word != molecule.id || molecule.id.len() < 3, "{argv:?}");
            prop_assert!(*word != molecule.smiles() || molecule.smiles().len() < 3, "{argv:?}");
        }
    }
    if let EngineOptions::Command(_) = spec.engine {
        prop_assert_eq!(argv.len(), 2);
    }
    Ok(())
}

fn is_below(path: &Path) -> bool {
    path.components().next().is_some() && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[test]
fn a_file_of_a_molecule_is_named_by_its_number() {
    assert_eq!(command::of_molecule("poses/{index}.sdf", 7), PathBuf::from("poses/00007.sdf"));
}
