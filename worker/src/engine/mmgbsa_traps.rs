//! Every way in which GROMACS, acpype and gmx_MMPBSA end well with worthless numbers, planted among real outputs: `judge` names each. Not
//! part of the program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::task::{
    ChargeModel, EngineOptions, ManifestDigest, MmgbsaOptions, Molecule, MoleculeSource, ObjectRef, Row,
    RunSpec, SPEC_SCHEMA, Solvent, Verdict, step_kind,
};
use tempfile::TempDir;

use super::mmgbsa::Mmgbsa;
use super::{Engine as _, EngineFailure, Judged, MoleculeInput, Remedy, Snapshot, StepOutcome, Workload};
use crate::process::{Ended, How};

const START: &str = include_str!("../../../tests/golden/gromacs-2022.5-t4l-benzene-start.gro");
const START_AWAY: &str = include_str!("../../../tests/golden/gromacs-2022.5-t4l-benzene-10nm-away-start.gro");
const LAST: &str = include_str!("../../../tests/golden/gromacs-2022.5-t4l-benzene-last.gro");
const ENERGIES: &str = include_str!("../../../tests/golden/gmx_mmpbsa-1.7.1-t4l-benzene-10ps.dat");
const ONE_FRAME: &str = include_str!("../../../tests/golden/gmx_mmpbsa-1.7.1-t4l-benzene-1ps.dat");
const AWAY: &str = include_str!("../../../tests/golden/gmx_mmpbsa-1.7.1-t4l-benzene-10nm-away.dat");
/// `mdrun -maxh`: exit 0, and these lines in its log.
const MAXH_LOG: &str = include_str!("../../../tests/golden/gromacs-2022.5-methane-maxh.txt");
const FINISHED: &str = "Finished mdrun on rank 0 Thu Nov 26 04:06:02 2026\n";
/// What gmx_MMPBSA was asked for.
const MODEL: &str =
    "&general\nstartframe=2, endframe=9999999, interval=1, PBRadii=3,\n/\n&gb\nigb=5, saltcon=0.15,\n/\n";
const BROKEN: &str = include_str!("../../../tests/golden/gmx_mmpbsa-1.7.1-t4l-benzene-broken-molecules.dat");

const OPTIONS: MmgbsaOptions = MmgbsaOptions {
    charges: ChargeModel::Am1Bcc,
    md_ps: 10.0,
    frames: 10,
    solvent: Solvent::Vacuum,
    equilibration_ps: 0.0,
};

/// An attempt at two molecules whose files and steps can be spoilt. Untouched, both are scored.
struct Attempt {
    scratch: TempDir,
    spec: RunSpec,
    shared: BTreeMap<String, PathBuf>,
    molecules: Vec<MoleculeInput>,
    options: MmgbsaOptions,
    /// How steps ended, other than by exit 0.
    endings: BTreeMap<String, How>,
    /// Steps that were not run, since what they leave was there.
    left_out: Vec<String>,
    /// The step at which the attempt was cut off.
    until: Option<String>,
}

impl Attempt {
    fn new() -> Self {
        let sha256 = "0f".repeat(32);
        let object = |object: String| ObjectRef { object, sha256: sha256.clone(), bytes: 1 };
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: "r".parse().unwrap(),
            engine: EngineOptions::GromacsMmgbsa(OPTIONS),
            seed: 42,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::from([(
                "receptor".to_owned(),
                object(format!("inputs/{sha256}/receptor.pdb")),
            )]),
            drivers: BTreeMap::from([("driver".to_owned(), object(format!("drivers/{sha256}/mine.py")))]),
            manifest: ManifestDigest { sha256: sha256.clone(), tasks: 1, molecules: 2 },
        };
        let molecule = |(index, id): (usize, &str)| MoleculeInput {
            index,
            molecule: Molecule {
                id: id.into(),
                source: MoleculeSource::Sdf { object: "x".into(), offset: 0, length: 1 },
            },
            structure: None,
            seed: 7,
        };
        let shared = ["receptor", "driver"].map(|role| (role.to_owned(), PathBuf::from("/cache")));
        let attempt = Self {
            scratch: TempDir::new().unwrap(),
            spec,
            shared: shared.into(),
            molecules: ["benzene", "other"].into_iter().enumerate().map(molecule).collect(),
            options: OPTIONS,
            endings: BTreeMap::new(),
            left_out: Vec::new(),
            until: None,
        };
        attempt.write("receptor/receptor.json", "{\"dropped\": 0}");
        for index in ["00000", "00001"] {
            let write = |name: &str, text: &str| attempt.write(&format!("mmgbsa/{index}/{name}"), text);
            write(
                "ligand.json",
                "{\"charge\": 0, \"smiles\": \"c1ccccc1\", \"flags\": [\"hydrogens_added\"]}",
            );
            for name in ["structure.sdf", "parameters.itp", "boxed.gro", "em.gro", "md.gro"] {
                write(name, "x");
            }
            write("complex.gro", START);
            write("last.gro", LAST);
            write("mmgbsa.in", MODEL);
            write("energies.dat", ENERGIES);
        }
        attempt
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.scratch.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Overwrites a file of the first molecule.
    fn spoil(&self, name: &str, text: &str) {
        self.write(&format!("mmgbsa/00000/{name}"), text);
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.scratch.path().join("mmgbsa/00000").join(name)).unwrap();
    }

    fn workload(&self) -> Workload<'_> {
        Workload {
            spec: &self.spec,
            task: common::task::TaskId(0),
            molecules: &self.molecules,
            scratch: self.scratch.path(),
            shared: &self.shared,
            has_gpu: false,
            is_suspect: false,
        }
    }

    fn judged(&self) -> Result<Vec<Judged>, EngineFailure> {
        let (engine, workload) = (Mmgbsa::new(self.options.clone()), self.workload());
        let mut outcomes = Vec::new();
        for step in engine.plan(&workload).steps {
            if self.until.as_ref() == Some(&step.name) {
                break;
            }
            let has_needs = step.needs.iter().all(|need| self.scratch.path().join(need).is_file());
            let is_run = has_needs && !self.left_out.contains(&step.name);
            let how = self.endings.get(&step.name).copied().unwrap_or(How::Exited(0));
            let ended = Ended { how, elapsed_ms: 1, stdout_tail: String::new(), stderr_tail: "words".into() };
            outcomes.push(StepOutcome { step, ended: is_run.then_some(ended) });
        }
        engine.judge(&workload, &outcomes)
    }

    /// The rows of both molecules; the second one is ok whatever became of the first.
    fn first(&self) -> Row {
        let mut judged = self.judged().unwrap();
        let (other, first) = (judged.pop().unwrap().unwrap(), judged.pop().unwrap().unwrap());
        assert_eq!((other.verdict, other.score.as_str()), (Verdict::Ok, "-14.88"));
        first
    }

    /// The first molecule is bad for this reason, without a number, and the other one is not.
    fn refused(&self, reason: &str, detail: &str) {
        let row = self.first();
        assert_eq!((row.verdict, row.reason.as_str(), row.score.as_str()), (Verdict::Bad, reason, ""));
        assert!(cell(&row, "detail").contains(detail), "{}", cell(&row, "detail"));
        for numbers in ["sd", "delta_vdw", "complex_bond", "contacts", "pocket_distance"] {
            assert_eq!(cell(&row, numbers), "", "{numbers}");
        }
    }

    /// There is no verdict on the first molecule, and one on the other.
    fn failed(&self) -> EngineFailure {
        let judged = self.judged().unwrap();
        assert!(judged[1].is_ok());
        judged[0].clone().unwrap_err()
    }
}

fn cell<'a>(row: &'a Row, column: &str) -> &'a str {
    let engine = Mmgbsa::new(OPTIONS);
    let columns = engine.columns();
    assert_eq!(columns.len(), row.columns.len());
    &row.columns[columns.iter().position(|name| *name == column).unwrap()]
}

#[test]
fn a_complex_is_scored_with_the_programs_own_digits() {
    let row = Attempt::new().first();
    assert_eq!((row.score.as_str(), row.reason.as_str()), ("-14.88", ""));
    let expect = [
        ("pose_smiles", "c1ccccc1"),
        ("flags", "hydrogens_added"),
        ("charges", "am1-bcc"),
        ("charge", "0"),
        ("parameters_sha256", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"),
        ("solvent", "vacuum"),
        ("md_ps", "10"),
        ("frames", "10"),
        ("sd", "0.86"),
        ("sem", "0.27"),
        ("seed", "7"),
        ("detail", ""),
    ];
    for (column, value) in expect {
        assert_eq!(cell(&row, column), value, "{column}");
    }
    let number = |column: &str| cell(&row, column).parse::<f64>().unwrap();
    let parts = number("delta_gas") + number("delta_solvation");
    assert!((parts + 14.88).abs() < 0.02, "{parts}");
    assert!(number("contacts") > 10.0 && number("pocket_distance") < 3.0 && number("complex_bond") > 100.0);
}

#[test]
fn one_frame_has_no_spread() {
    let mut attempt = Attempt::new();
    attempt.options.frames = 1;
    attempt.molecules.truncate(1);
    attempt.spoil("energies.dat", ONE_FRAME);
    let row = attempt.judged().unwrap().remove(0).unwrap();
    assert_eq!((row.score.as_str(), cell(&row, "sd"), cell(&row, "sem")), ("-15.25", "", ""));
}

#[test]
fn a_ligand_ten_nanometres_away_is_named_by_its_pose_and_by_its_energy() {
    let attempt = Attempt::new();
    assert!(AWAY.contains("using 1 complex"), "it was one frame");
    attempt.spoil("energies.dat", &AWAY.replace("using 1 complex", "using 10 complex"));
    attempt.refused("no_interaction", "ΔG is -0.00 kcal/mol");
    attempt.spoil("complex.gro", START_AWAY);
    attempt.refused("no_contact", "no heavy atom of the receptor within 4.5 Å of the pose");
}

#[test]
fn a_ligand_that_leaves_its_pocket_is_named() {
    let attempt = Attempt::new();
    attempt.spoil("last.gro", START_AWAY);
    attempt.refused("left_pocket", "Å from its pocket with 0 contacts");
}

#[test]
fn molecules_that_the_box_has_cut_are_named_though_the_total_looks_well() {
    let attempt = Attempt::new();
    assert!(BROKEN.contains("ΔTOTAL                  -14.88"), "the trap: a good total");
    attempt.spoil("energies.dat", BROKEN);
    attempt.refused("complex_broken", "the complex has 19089356.33 kcal/mol in its bonds");
}

#[test]
fn radii_of_another_model_are_named_though_the_total_looks_well() {
    let attempt = Attempt::new();
    attempt.spoil("mmgbsa.in", &MODEL.replace("PBRadii=3", "PBRadii=2"));
    attempt.refused("radii_mismatch", "`mmgbsa.in`: PBRadii=2 (expected 3 for igb=5)");
    attempt.remove("mmgbsa.in");
    attempt.refused("radii_mismatch", "No such file");
    // A driver of one's own may have another model, with the radii of that.
    attempt.spoil("mmgbsa.in", &MODEL.replace("PBRadii=3", "PBRadii=4").replace("igb=5", "igb=8"));
    assert_eq!(attempt.first().score, "-14.88");
}

#[test]
fn a_simulation_that_was_cut_short_is_no_molecules_fault_whatever_its_exit_code() {
    // mdrun leaves a checkpoint, trajectory and log, and exits 0.
    for (name, solvent) in [("md", Solvent::Vacuum), ("equilibrate", Solvent::Tip3p), ("em", Solvent::Vacuum)]
    {
        let mut attempt = Attempt::new();
        attempt.options.solvent = solvent;
        for index in ["00000", "00001"] {
            attempt.write(&format!("mmgbsa/{index}/equilibrate.gro"), "x");
        }
        let (log, coordinates) = (format!("{name}.log"), format!("{name}.gro"));
        attempt.remove(&coordinates);
        let cut = |text: &str, how: &str| {
            attempt.spoil(&log, text);
            let failure = attempt.failed();
            assert_eq!((failure.reason, failure.remedy()), ("cut_short", Remedy::Retry));
            let expect = format!("mdrun was cut short {how} in `{name}_00000` and left no `{coordinates}`");
            assert_eq!(failure.detail, expect);
        };
        cut(MAXH_LOG, "by `-maxh`");
        // It notes its end then, too, and so does what went before a restart.
        cut(&format!("{MAXH_LOG}{FINISHED}"), "by `-maxh`");
        cut(
            &format!("{FINISHED}Restarting from checkpoint, appending to previous log file.\n"),
            "before its last step",
        );
        cut(&format!("Received the TERM signal, stopping within 20 steps\n{FINISHED}"), "by a signal");
        cut("", "before its last step");
        // A refusal with evidence, such as atoms that fly apart, stands.
        attempt.spoil("refused.json", "{\"reason\": \"dynamics_failed\", \"detail\": \"LINCS\"}");
        attempt.refused("dynamics_failed", "LINCS");
    }
}

#[test]
fn a_simulation_that_changed_its_threads_is_refused() {
    let attempt = Attempt::new();
    let again =
        |threads: &str| format!("{MAXH_LOG}Restarting from checkpoint\nUsing 1 MPI thread\n{threads}");
    attempt.spoil("md.log", &again("Using 1 OpenMP thread \n"));
    assert_eq!(attempt.first().score, "-14.88", "the same number again");
    attempt.spoil("md.log", &again("Using 2 OpenMP threads \n"));
    let failure = attempt.failed();
    assert_eq!((failure.reason, failure.remedy()), ("threads_changed", Remedy::GiveUp));
    let expect = "`md_00000` was gone on with on another number of threads, which changes its numbers: \
                  Using 1 OpenMP thread, then Using 2 OpenMP threads";
    assert_eq!(failure.detail, expect);
}

#[test]
fn a_step_that_ends_well_without_its_output_is_named() {
    let check = |name: &str, reason: &str| {
        let attempt = Attempt::new();
        attempt.remove(name);
        for log in ["em.log", "md.log"] {
            attempt.spoil(log, FINISHED);
        }
        attempt.refused(reason, &format!("left no `{name}`"));
        attempt.spoil(name, "");
        attempt.refused(reason, &format!("left no `{name}`"));
    };
    check("structure.sdf", "parameters_failed");
    check("parameters.itp", "parameters_failed");
    check("boxed.gro", "complex_failed");
    check("em.gro", "minimisation_failed");
    check("md.gro", "dynamics_failed");
    check("last.gro", "trajectory_failed");
    check("energies.dat", "energies_failed");
}

#[test]
fn numbers_that_are_none_and_frames_that_are_not_there_are_named() {
    let check = |from: &str, to: &str, reason: &str, detail: &str| {
        assert!(ENERGIES.contains(from), "{from}");
        let attempt = Attempt::new();
        attempt.spoil("energies.dat", &ENERGIES.replace(from, to));
        attempt.refused(reason, detail);
    };
    check("using 10 complex", "using 9 complex", "frames_missing", "9 frames were evaluated (expected 10)");
    check("-14.88", "   nan", "term_not_finite", "the term TOTAL is `nan`");
    check("-14.88", "******", "term_not_finite", "the term TOTAL is `******`");
    check("ΔEGB", "ΔGBSA", "term_not_finite", "the term EGB is ``");
    check("-14.88", "914.88", "energy_out_of_range", "ΔG is 914.88 kcal/mol (expected -300 to 100)");
    check("Delta (", "(", "energies_failed", "the report has no section of differences");
}

#[test]
fn the_drivers_refusal_stands_with_its_evidence() {
    // An empty ligand file and a salt, in the words of the driver.
    for (reason, detail) in [("structure_invalid", "RDKit can't read"), ("several_fragments", "2 fragments")]
    {
        let attempt = Attempt::new();
        attempt.remove("structure.sdf");
        let refused = serde_json::json!({ "reason": reason, "detail": detail }).to_string();
        attempt.spoil("refused.json", &refused);
        attempt.refused(reason, detail);
    }
    let attempt = Attempt::new();
    attempt.spoil("refused.json", "{\"reason\": \"No Such Word\"}");
    assert_eq!(attempt.failed().reason, "engine_failed");
}

#[test]
fn what_ended_a_step_from_outside_is_no_molecules_fault_and_costs_no_other() {
    let check = |how, reason: &str, remedy| {
        let mut attempt = Attempt::new();
        attempt.endings.insert("md_00000".into(), how);
        attempt.remove("md.gro");
        // A driver that was stopped may have refused its molecule in its last moment.
        attempt.spoil("refused.json", "{\"reason\": \"dynamics_failed\"}");
        attempt.endings.insert("pose_00000".into(), how);
        let failure = attempt.failed();
        assert_eq!((failure.reason, failure.remedy()), (reason, remedy), "{failure:?}");
        assert!(failure.detail.contains("of molecule `benzene`: "), "{}", failure.detail);
    };
    check(How::Signalled(9), "engine_crashed", Remedy::Retry);
    check(How::TimeLimit, "time_limit", Remedy::Retry);
    check(How::Stopped, "stopped", Remedy::Retry);
    check(How::Exited(1), "engine_failed", Remedy::Retry);
    check(How::Exited(75), "try_again", Remedy::HandBack);
    let mut attempt = Attempt::new();
    attempt.until = Some("md_00001".into());
    for gone in ["md.gro", "last.gro", "energies.dat"] {
        std::fs::remove_file(attempt.scratch.path().join("mmgbsa/00001").join(gone)).unwrap();
    }
    let judged = attempt.judged().unwrap();
    assert!(judged[0].is_ok(), "it was done before the stop");
    assert_eq!(judged[1].as_ref().unwrap_err().reason, "stopped");
}

#[test]
fn a_receptor_without_a_topology_is_no_molecules_fault() {
    let mut attempt = Attempt::new();
    std::fs::remove_file(attempt.scratch.path().join("receptor/receptor.json")).unwrap();
    for how in [How::Exited(0), How::Exited(1)] {
        attempt.endings.insert("receptor".into(), how);
        let failure = attempt.judged().unwrap_err();
        assert_eq!(failure.reason, "receptor_invalid");
        assert!(failure.detail.starts_with("the receptor has no topology: exit "), "{}", failure.detail);
    }
    attempt.endings.insert("receptor".into(), How::Signalled(9));
    assert_eq!(attempt.judged().unwrap_err().reason, "engine_crashed");
    attempt.shared.remove("receptor");
    assert_eq!(attempt.judged().unwrap_err().reason, "input_missing");
}

#[test]
fn each_step_is_one_of_the_drivers_and_needs_what_the_one_before_leaves() {
    let attempt = Attempt::new();
    let engine = Mmgbsa::new(OPTIONS);
    let plan = engine.plan(&attempt.workload());
    let names: Vec<&str> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names.len(), 15);
    assert_eq!(names[..4], ["receptor", "pose_00000", "parameters_00000", "complex_00000"]);
    assert_eq!(plan.steps[1].argv, ["python3", "driver/mine.py", "pose", "0"]);
    assert_eq!(plan.steps[2].needs, [Path::new("mmgbsa/00000/structure.sdf")]);
    let driver = include_str!("../../../drivers/gromacs_mmgbsa.py");
    let water = MmgbsaOptions { solvent: Solvent::Tip3p, equilibration_ps: 1.0, ..OPTIONS };
    let in_water = Mmgbsa::new(water).plan(&attempt.workload()).steps;
    assert_eq!((in_water.len(), in_water[5].name.as_str()), (17, "equilibrate_00000"));
    let kinds: BTreeSet<&str> = in_water.iter().map(|step| step_kind(&step.name)).collect();
    assert_eq!(kinds, EngineOptions::GromacsMmgbsa(OPTIONS).step_kinds().iter().copied().collect());
    for step in &in_water[1..9] {
        let word = &step.argv[2];
        assert!(driver.contains(&format!("\n    \"{word}\": (")), "the driver has no step {word}");
    }
    let task: serde_json::Value = serde_json::from_slice(&plan.files[0].1).unwrap();
    assert_eq!((&task["md_steps"], &task["charges"]), (&5000.into(), &"bcc".into()));
    assert_eq!((&task["receptor"], &task["threads"]), (&"inputs/receptor.pdb".into(), &1.into()));
}

#[test]
fn a_step_whose_output_was_there_before_needs_no_process() {
    let mut attempt = Attempt::new();
    // All of the second molecule is from a checkpoint, and of the first one what comes before the energies.
    let shared = ["pose_00000", "parameters_00000", "complex_00000", "em_00000", "md_00000", "whole_00000"];
    attempt.left_out = shared.map(str::to_owned).into();
    let second = ["pose", "parameters", "complex", "em", "md", "whole", "energies"];
    attempt.left_out.extend(second.map(|name| format!("{name}_00001")));
    assert_eq!(attempt.first().score, "-14.88");
    attempt.left_out.push("energies_00000".to_owned());
    attempt.remove("energies.dat");
    assert_eq!(
        attempt.failed().reason,
        "output_lost",
        "what it left is gone, and nobody refused the molecule"
    );
}

#[test]
fn each_step_tells_what_it_leaves_and_the_parameters_are_shared() {
    let attempt = Attempt::new();
    let engine = Mmgbsa::new(OPTIONS);
    let steps = engine.plan(&attempt.workload()).steps;
    assert_eq!((engine.leaves(&steps[0]), engine.shareable(&steps[0])), (None, None), "the receptor's");
    for pair in steps[1..8].windows(2) {
        assert_eq!(engine.leaves(&pair[0]).as_slice(), pair[1].needs);
    }
    let shareable: Vec<_> = steps.iter().filter_map(|step| engine.shareable(step)).collect();
    assert_eq!(shareable.len(), 2);
    assert_eq!(shareable[1].input, Path::new("mmgbsa/00001/structure.sdf"));
    assert_eq!(shareable[1].recipe, "parameters am1-bcc");
    for program in shareable[1].programs {
        assert!(engine.versions().iter().any(|(name, _)| name == program), "{program}");
    }
}

#[test]
fn a_step_is_done_if_a_later_one_is_whose_input_it_made() {
    let attempt = Attempt::new();
    let engine = Mmgbsa::new(OPTIONS);
    let steps = engine.plan(&attempt.workload()).steps;
    let done = |attempt: &Attempt| {
        let done = steps.iter().filter(|step| engine.is_done(attempt.scratch.path(), step));
        done.map(|step| step.name.clone()).filter(|name| name.ends_with("_00000")).collect::<Vec<_>>()
    };
    // A bundle that was made after the minimisation lacks what that used up.
    for gone in ["boxed.gro", "md.gro", "last.gro", "energies.dat"] {
        attempt.remove(gone);
    }
    let before = ["pose_00000", "parameters_00000", "complex_00000", "em_00000"];
    assert_eq!(done(&attempt), before);
    // And so the judge sees it, when what comes after went well.
    let mut attempt = Attempt::new();
    attempt.left_out = before.map(str::to_owned).into();
    attempt.remove("boxed.gro");
    assert_eq!(attempt.first().score, "-14.88");
}

/// What a bundle of the first of two molecules would hold: state, what is appended to, and the progress.
fn bundled(engine: &Mmgbsa, attempt: &Attempt) -> (Vec<String>, Vec<String>, (u64, u64)) {
    let Snapshot { state, appended, progress } = engine.checkpoint(attempt.scratch.path()).unwrap();
    let name = |file: PathBuf| file.strip_prefix("mmgbsa/00000").unwrap().to_str().unwrap().to_owned();
    let names = |files: Vec<PathBuf>| files.into_iter().map(name).collect();
    (names(state), names(appended), progress.unwrap())
}

/// An attempt at two molecules that has files of these names for the first one, and nothing for the second.
fn attempt_with(engine: &Mmgbsa, names: &str) -> Attempt {
    let attempt = Attempt::new();
    let task_json = engine.plan(&attempt.workload()).files.remove(0).1;
    attempt.write("task.json", &String::from_utf8(task_json).unwrap());
    std::fs::remove_dir_all(attempt.scratch.path().join("mmgbsa")).unwrap();
    for name in names.split_whitespace() {
        attempt.spoil(name, "x");
    }
    attempt
}

/// What the steps up to the complex leave, and what their programs leave beside it.
const COMPLEXED: &str = "ligand.json pose.sdf structure.sdf parameters.itp LIG.acpype/LIG_GMX.itp complex.top complex.gro groups.ndx \
    posre.itp ligand_types.itp ligand_molecule.itp system.top solvated.gro ions.tpr mdout.mdp boxed.gro";
/// What of it is in every later bundle.
const ALWAYS: &str = "ligand.json pose.sdf structure.sdf parameters.itp complex.top complex.gro posre.itp ligand_types.itp \
    ligand_molecule.itp";

#[test]
fn a_bundle_holds_what_finished_steps_left_for_later_ones() {
    let water = MmgbsaOptions { solvent: Solvent::Tip3p, equilibration_ps: 1.0, ..OPTIONS };
    let engine = Mmgbsa::new(water);
    // Its steps, and those of 1 and 10 ps of dynamics, for both molecules.
    let all = 2 * (6 + 500 + 5000);
    let check = |there: &str, expect: &str, steps: u64| {
        let (state, appended, progress) = bundled(&engine, &attempt_with(&engine, there));
        let mut expect: Vec<&str> = expect.split_whitespace().collect();
        expect.sort_unstable();
        assert_eq!(
            (state, appended, progress),
            (expect.into_iter().map(str::to_owned).collect(), Vec::new(), (steps, all))
        );
    };
    assert_eq!(engine.checkpoint(attempt_with(&engine, "ligand.json made.gro").scratch.path()), None);
    // What is left of a molecule that has its verdict from a former attempt is not the round's.
    let mut attempt = attempt_with(&engine, COMPLEXED);
    attempt.molecules.remove(0);
    let task_json = engine.plan(&attempt.workload()).files.remove(0).1;
    attempt.write("task.json", &String::from_utf8(task_json).unwrap());
    assert_eq!(engine.checkpoint(attempt.scratch.path()), None);
    // What a step has begun is not taken along, nor the word of a refusal.
    let done = "ligand.json pose.sdf structure.sdf parameters.itp";
    check(&format!("{done} complex.top posre.itp boxed.gro.unfinished refused.json"), done, 2);
    let mut there = COMPLEXED.to_owned();
    let mut then = |more: &str, expect: &str, steps| {
        there = format!("{there} {more}");
        check(&there, &format!("{ALWAYS} {expect}"), steps);
    };
    then("em.tpr em.log em.edr em.trr", "boxed.gro groups.ndx system.top", 3);
    // The dynamics that run have written no checkpoint yet.
    let running = "equilibrate.tpr equilibrate.log equilibrate.edr equilibrate.xtc";
    then(&format!("em.gro {running}"), "em.gro groups.ndx system.top", 4);
    then("equilibrate.cpt equilibrate.gro", "em.gro equilibrate.gro groups.ndx system.top", 504);
    let kept = "em.gro md.mdp md.log md.gro";
    let running = "md.tpr md.mdp md.log md.edr md.xtc";
    then(&format!("{running} md.cpt md.gro"), &format!("{kept} groups.ndx md.tpr md.xtc"), 5504);
    let whole = format!("{kept} last.gro whole.xtc");
    then("complex.tpr whole.xtc last.gro energies.csv", &format!("{whole} groups.ndx complex.tpr"), 5505);
    then("mmgbsa.in energies.dat", &format!("{whole} mmgbsa.in energies.csv energies.dat"), 5506);
}

#[test]
fn a_bundle_holds_dynamics_that_run_with_all_that_mdrun_wants_or_not_at_all() {
    let water = MmgbsaOptions { solvent: Solvent::Tip3p, equilibration_ps: 1.0, ..OPTIONS };
    for (options, name, before) in
        [(OPTIONS, "md", ""), (water.clone(), "equilibrate", ""), (water, "md", "equilibrate.gro")]
    {
        let engine = Mmgbsa::new(options);
        let of = |ends: &[&str]| ends.iter().map(|end| format!("{name}{end}")).collect::<Vec<_>>();
        let all = of(&[".tpr", ".mdp", ".cpt", "_prev.cpt", ".log", ".edr", ".xtc"]);
        let attempt = attempt_with(&engine, &format!("{COMPLEXED} em.gro {before} {}", all.join(" ")));
        let (state, appended, (before_it, _)) = bundled(&engine, &attempt);
        let log =
            "Writing checkpoint, step 120 at Thu Nov 26 04:06:02 2026\n\nWriting checkpoint, step 240 at";
        attempt.spoil(&format!("{name}.log"), log);
        assert_eq!(bundled(&engine, &attempt).2.0, before_it + 120, "the dynamics' own steps count");
        attempt.spoil(&format!("{name}.log"), "Writing checkpoint, step 5001 at noon");
        assert_eq!(bundled(&engine, &attempt).2.0, before_it, "of other dynamics");
        let is_own = |file: &&String| file.starts_with(name);
        let own = |state: &[String]| state.iter().filter(is_own).cloned().collect::<Vec<_>>();
        assert_eq!(own(&state), of(&[".cpt", ".mdp", ".tpr"]));
        assert_eq!(appended, of(&[".log", ".edr", ".xtc"]));
        assert_eq!(state.iter().any(|file| file == "equilibrate.gro"), !before.is_empty(), "its start");
        // While mdrun puts a new checkpoint in the place of the former one.
        attempt.remove(&format!("{name}.cpt"));
        assert_eq!(own(&bundled(&engine, &attempt).0), of(&[".mdp", ".tpr", "_prev.cpt"]));
        attempt.remove(&format!("{name}.edr"));
        let (state, appended, _) = bundled(&engine, &attempt);
        assert_eq!((own(&state), appended), (Vec::new(), Vec::new()));
        assert!(state.contains(&"em.gro".to_owned()), "the finished steps are there all the same: {state:?}");
    }
}
