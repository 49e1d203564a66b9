//! Every way in which GROMACS ends well with half a window or a worthless free energy, planted among real outputs: `judge` names each.
//! Not part of the program.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::task::{
    ChargeModel, EngineOptions, FepOptions, ManifestDigest, Molecule, MoleculeSource, ObjectRef, Row,
    RunSpec, SPEC_SCHEMA, Shard, TaskId, Verdict,
};
use tempfile::TempDir;

use super::fep::{DHDL, ENERGY, FINAL, Fep, LOG, REDUCTION, SETUP, STAGES, of_window};
use super::{Engine as _, EngineFailure, Judged, MoleculeInput, Remedy, StepOutcome, Workload};
use crate::process::{Ended, How};

/// Window 1 of methane, 1 ps.
const SAMPLES: &str = include_str!("../../../tests/golden/gromacs-2022.5-methane-window-1-of-4.xvg");
const ENERGIES: &str = include_str!("../../../tests/golden/gromacs-2022.5-methane-window-1-energy.xvg");
/// `mdrun -maxh` of it: exit 0, and these lines.
const MAXH_LOG: &str = include_str!("../../../tests/golden/gromacs-2022.5-methane-maxh.txt");
/// Four windows are too few for methane: BAR says 0.21 ± 0.19 kcal/mol.
const TOO_FEW: &str = include_str!("../../../tests/golden/gromacs-2022.5-methane-too-few-windows.json");
const LOG_TEXT: &str = "Using 1 MPI thread\nUsing 1 OpenMP thread \nFinished mdrun on rank 0\n";

/// An attempt whose files and steps can be spoilt. Untouched, it is ok.
struct Attempt {
    scratch: TempDir,
    spec: RunSpec,
    shared: BTreeMap<String, PathBuf>,
    molecules: Vec<MoleculeInput>,
    task: TaskId,
    options: FepOptions,
    /// How steps ended, other than by exit 0.
    endings: BTreeMap<String, How>,
    /// Whether the set-up had to be made.
    makes_setup: bool,
}

impl Attempt {
    fn new(task: u64) -> Self {
        let sha256 = "0f".repeat(32);
        let driver =
            ObjectRef { object: format!("drivers/{sha256}/mine.py"), sha256: sha256.clone(), bytes: 1 };
        let options = FepOptions {
            charges: ChargeModel::Am1Bcc,
            lambdas_coulomb: vec![0.0, 1.0, 1.0, 1.0],
            lambdas_vdw: vec![0.0, 0.0, 0.5, 1.0],
            window_ps: 1.0,
            discard_ps: 0.1,
            equilibration_ps: 5.0,
            box_nm: 2.0,
        };
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: "r".parse().unwrap(),
            engine: EngineOptions::GromacsFep(options.clone()),
            seed: 42,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::new(),
            drivers: BTreeMap::from([("driver".to_owned(), driver)]),
            manifest: ManifestDigest { sha256, tasks: 5, molecules: 1 },
        };
        let molecule =
            Molecule { id: "methane".into(), source: MoleculeSource::Smiles { smiles: "C".into() } };
        Self {
            scratch: TempDir::new().unwrap(),
            spec,
            shared: BTreeMap::from([("driver".to_owned(), PathBuf::from("/cache"))]),
            molecules: vec![MoleculeInput { index: 0, molecule, structure: None, seed: 7 }],
            task: TaskId(task),
            options,
            endings: BTreeMap::new(),
            makes_setup: false,
        }
    }

    /// Window 1, which found the set-up.
    fn window() -> Self {
        let attempt = Self::new(1);
        for (path, text) in
            [(SETUP, "box"), (DHDL, SAMPLES), (ENERGY, ENERGIES), (FINAL, "x"), (LOG, LOG_TEXT)]
        {
            attempt.write(path, text);
        }
        attempt
    }

    /// The reduction of four windows that are ok.
    fn reduction() -> Self {
        let attempt = Self::new(4);
        for number in 0..4 {
            attempt.write_window(number, &Self::window().row());
        }
        attempt.write(
            REDUCTION,
            r#"{"bar": 1.9121, "bar_error": 0.1655, "steps": [0.1, 0.8, 1.0], "overlaps": [0.99, 0.91, 0.68],
                "samples": 19, "mbar": 2.0913, "mbar_error": 0.1284}"#,
        );
        attempt
    }

    fn write_window(&self, number: usize, row: &Row) {
        let engine = Fep::new(self.options.clone());
        let columns = engine.columns().into_iter().map(str::to_owned).collect();
        let shard = Shard { score_unit: engine.score_unit().into(), columns, rows: vec![row.clone()] };
        let path = of_window(number, "shard.csv");
        self.write(path.to_str().unwrap(), &String::from_utf8(shard.encode()).unwrap());
        self.write(of_window(number, "dhdl.xvg").to_str().unwrap(), SAMPLES);
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.scratch.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.scratch.path().join(path)).unwrap();
    }

    fn judged(&self) -> Judged {
        let engine = Fep::new(self.options.clone());
        let workload = Workload {
            spec: &self.spec,
            task: self.task,
            molecules: &self.molecules,
            scratch: self.scratch.path(),
            shared: &self.shared,
            has_gpu: false,
            is_suspect: false,
        };
        let setup = engine.setup(&workload).filter(|_| self.makes_setup);
        let steps = setup.into_iter().flat_map(|setup| setup.steps).chain(engine.plan(&workload).steps);
        let outcome = |step: super::Step| {
            let is_run = step.needs.iter().all(|need| self.scratch.path().join(need).is_file());
            let how = self.endings.get(&step.name).copied().unwrap_or(How::Exited(0));
            let ended = Ended { how, elapsed_ms: 1, stdout_tail: String::new(), stderr_tail: "words".into() };
            StepOutcome { step, ended: is_run.then_some(ended) }
        };
        let outcomes: Vec<_> = steps.map(outcome).collect();
        engine.judge(&workload, &outcomes).unwrap().remove(0)
    }

    fn row(&self) -> Row {
        self.judged().unwrap()
    }

    fn failed(&self) -> EngineFailure {
        self.judged().unwrap_err()
    }

    /// The molecule is bad for this reason, without a number.
    fn refused(&self, reason: &str, detail: &str) {
        let row = self.row();
        assert_eq!((row.verdict, row.reason.as_str(), row.score.as_str()), (Verdict::Bad, reason, ""));
        assert!(cell(&row, "detail").contains(detail), "{}", cell(&row, "detail"));
        for numbers in ["samples", "error", "mbar", "overlap_min", "steps", "setup_sha256"] {
            assert_eq!(cell(&row, numbers), "", "{numbers}");
        }
    }
}

fn cell<'a>(row: &'a Row, column: &str) -> &'a str {
    let place = super::fep_verdict::COLUMNS.iter().position(|name| *name == column).unwrap();
    assert_eq!(row.columns.len(), super::fep_verdict::COLUMNS.len());
    &row.columns[place]
}

#[test]
fn a_window_is_ok_and_has_no_score() {
    let row = Attempt::window().row();
    assert_eq!((row.verdict, row.score.as_str()), (Verdict::Ok, ""));
    for (column, value) in [("part", "window"), ("window", "1"), ("lambda_coulomb", "1"), ("samples", "21")] {
        assert_eq!(cell(&row, column), value, "{column}");
    }
    assert_eq!(cell(&row, "setup_sha256"), common::digest::sha256_hex(b"box"));
}

#[test]
fn a_window_without_final_coordinates_was_cut_short_whatever_its_exit_code() {
    let attempt = Attempt::window();
    attempt.remove(FINAL);
    let failure = attempt.failed();
    assert_eq!((failure.reason, failure.remedy()), ("cut_short", Remedy::Retry));
    assert!(failure.detail.contains("before its last step"), "{failure}");
    attempt.write(LOG, MAXH_LOG);
    assert!(attempt.failed().detail.contains("cut short by `-maxh`"), "{}", attempt.failed());
}

#[test]
fn a_window_is_gone_on_with_from_all_its_files_or_not_at_all() {
    let attempt = Attempt::window();
    let engine = Fep::new(attempt.options.clone());
    let bundle = || {
        let snapshot = engine.checkpoint(attempt.scratch.path());
        snapshot.map(|snapshot| (snapshot.state, snapshot.appended))
    };
    attempt.remove(FINAL);
    for name in ["window.tpr", "window.edr", "window.xtc"] {
        attempt.write(&format!("window/{name}"), "x");
        assert_eq!(bundle(), None);
    }
    attempt.write("window/window.cpt", "x");
    let (state, appended) = bundle().unwrap();
    assert_eq!(state, ["window/window.cpt", "window/window.tpr"].map(PathBuf::from));
    assert_eq!(appended.len(), 4, "{appended:?}");
    attempt.write(FINAL, "x");
    assert_eq!(bundle(), None, "there is nothing left to do");
}

#[test]
fn a_checkpoint_tells_the_step_that_mdruns_log_has_of_it() {
    let attempt = Attempt::window();
    attempt.remove(FINAL);
    for name in ["window.cpt", "window.tpr", "window.edr", "window.xtc"] {
        attempt.write(&format!("window/{name}"), "x");
    }
    let engine = Fep::new(attempt.options.clone());
    let progress = |log: &str| {
        attempt.write(LOG, log);
        engine.checkpoint(attempt.scratch.path()).unwrap().progress
    };
    let note = |step: u64| format!("\nWriting checkpoint, step {step} at Thu Nov 26 04:06:02 2026\n\n\n");
    assert_eq!(progress(LOG_TEXT), None);
    let log =
        [note(100), note(120), "Received the TERM signal, stopping within 20 steps\n".into(), note(140)];
    assert_eq!(progress(&log.concat()), Some((140, 500)));
    let cut_off = log.concat() + "\nWriting checkpoint, step 1";
    assert_eq!(progress(&cut_off), Some((140, 500)));
    assert_eq!(progress(&note(501)), None, "of another window");
}

#[test]
fn a_window_that_changed_its_threads_is_refused() {
    let attempt = Attempt::window();
    attempt.write(
        LOG,
        &format!("{LOG_TEXT}Restarting from checkpoint\nUsing 1 MPI thread\nUsing 2 OpenMP threads \n"),
    );
    let failure = attempt.failed();
    assert_eq!((failure.reason, failure.remedy()), ("threads_changed", Remedy::GiveUp));
    assert!(failure.detail.ends_with("Using 1 OpenMP thread, then Using 2 OpenMP threads"), "{failure}");
    attempt.write(LOG, &format!("{LOG_TEXT}Restarting from checkpoint\n{LOG_TEXT}"));
    assert_eq!(attempt.row().verdict, Verdict::Ok, "the same number again");
}

#[test]
fn samples_and_energies_are_complete_finite_and_of_this_window() {
    let check = |path: &str, from: &str, to: &str, reason: &str, detail: &str| {
        let attempt = Attempt::window();
        let text = if path == DHDL { SAMPLES } else { ENERGIES };
        assert!(text.contains(from), "{from}");
        attempt.write(path, &text.replace(from, to));
        attempt.refused(reason, detail);
    };
    let last = SAMPLES.lines().last().unwrap();
    check(DHDL, &format!("{last}\n"), "", "samples_missing", "20 rows (expected 21)");
    check(DHDL, &last[last.len() - 12..], "", "samples_missing", "columns (expected 7)");
    let number = last.split(' ').nth(2).unwrap();
    check(DHDL, number, "-nan", "sample_not_finite", "row 21 has `-nan`");
    check(DHDL, " state 1:", " state 2:", "wrong_window", "is of window 2 (expected 1)");
    let last = ENERGIES.lines().last().unwrap();
    check(ENERGY, &format!("{last}\n"), "", "samples_missing", "`window/energy.xvg`: 1 rows (expected 2)");
    // Without an energy file, `gmx energy` has nothing to read.
    let attempt = Attempt::window();
    attempt.remove(ENERGY);
    attempt.refused("energies_failed", "`window/energy.xvg`");
    attempt.write("fep/refused.json", r#"{"reason": "energies_failed", "detail": "no window.edr"}"#);
    attempt.refused("energies_failed", "no window.edr");
}

#[test]
fn a_set_up_that_stops_is_named_by_its_step() {
    for (number, stage) in STAGES.iter().enumerate() {
        let mut attempt = Attempt::new(1);
        attempt.makes_setup = true;
        for before in &STAGES[..number] {
            attempt.write(before.leaves, "x");
        }
        if let Some(log) = stage.log {
            let failure = attempt.failed();
            assert_eq!((failure.reason, failure.remedy()), ("cut_short", Remedy::Retry));
            attempt.write(log, MAXH_LOG);
            assert!(attempt.failed().detail.contains("cut short by `-maxh`"), "{}", attempt.failed());
            attempt.write(log, LOG_TEXT);
        }
        attempt.refused(stage.reason.name(), &format!("step `{}` ended well and left no", stage.name));
    }
    let mut attempt = Attempt::new(1);
    attempt.makes_setup = true;
    attempt.write("fep/refused.json", r#"{"reason": "several_fragments", "detail": "2 fragments"}"#);
    attempt.refused("several_fragments", "2 fragments");
    attempt.endings.insert("solute".into(), How::Signalled(9));
    assert_eq!(attempt.failed().reason, "engine_crashed");
}

#[test]
fn a_reduction_gives_the_free_energy_with_its_errors() {
    let row = Attempt::reduction().row();
    assert_eq!((row.verdict, row.score.as_str()), (Verdict::Ok, "1.912"));
    let expect = [
        ("part", "reduction"),
        ("window", ""),
        ("windows", "4"),
        ("error", "0.166"),
        ("mbar", "2.091"),
        ("mbar_error", "0.128"),
        ("overlap_min", "0.680"),
        ("steps", "0.100 0.800 1.000"),
        ("samples", "19"),
        ("seed", "7"),
    ];
    for (column, value) in expect {
        assert_eq!(cell(&row, column), value, "{column}");
    }
    // Without alchemlyb.
    let attempt = Attempt::reduction();
    attempt.write(
        REDUCTION,
        r#"{"bar": 1, "bar_error": 0, "steps": [1, 0, 0], "overlaps": [1, 1, 1], "samples": 9}"#,
    );
    assert_eq!((cell(&attempt.row(), "mbar"), attempt.row().score.as_str()), ("", "1.000"));
}

#[test]
fn windows_that_have_too_little_in_common_are_named_though_the_free_energy_looks_well() {
    let attempt = Attempt::reduction();
    attempt.write(REDUCTION, TOO_FEW);
    attempt.refused("overlap_too_small", "windows 1 and 2 have 0.023 in common (expected 0.06 or more)");
}

#[test]
fn a_reduction_that_means_nothing_is_named() {
    let check = |from: &str, to: &str, reason: &str, detail: &str| {
        let attempt = Attempt::reduction();
        let text = std::fs::read_to_string(attempt.scratch.path().join(REDUCTION)).unwrap();
        assert!(text.contains(from), "{from}");
        attempt.write(REDUCTION, &text.replace(from, to));
        attempt.refused(reason, detail);
    };
    check("0.1655", "NaN", "result_not_finite", "expected value");
    check("1.9121", "-812.5", "energy_out_of_range", "ΔG is -812.500 kcal/mol (expected -100 to 50)");
    check("0.99, ", "", "reduction_failed", "2 pairs of windows (expected 3)");
    let attempt = Attempt::reduction();
    attempt.remove(REDUCTION);
    attempt.refused("reduction_failed", "fep/reduction.json");
}

#[test]
fn a_reduction_is_no_better_than_its_windows() {
    let attempt = Attempt::reduction();
    let other = Attempt::window();
    other.write(SETUP, "another box");
    attempt.write_window(2, &other.row());
    attempt.refused("setups_differ", "the windows started from 2 set-ups");
    let salt = Attempt::window();
    salt.write("fep/refused.json", r#"{"reason": "dynamics_failed", "detail": "LINCS"}"#);
    attempt.write_window(2, &salt.row());
    attempt.refused("dynamics_failed", "window 2: LINCS");
    attempt.write(of_window(3, "shard.csv").to_str().unwrap(), "cut");
    attempt.write_window(2, &Attempt::window().row());
    assert_eq!(attempt.failed().reason, "input_missing");
}
