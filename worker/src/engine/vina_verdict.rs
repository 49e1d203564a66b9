//! From what a docking task with Vina left behind to one row per molecule, or to the reason why the attempt as a whole is void: what
//! is Vina's own of it. The rest is in `docking`.

use common::task::VinaOptions;

use super::docking::{Attempt, Scored, Tried, dock_step, prints_poses};
use super::pose_check::{self, Region};
use super::prepared::Prepared;
use super::reason::{Reason, Refusal, failure};
use super::receptor::Receptor;
use super::vina::{OWN_COLUMNS, convert_step, ligand_pdbqt, poses_pdbqt};
use super::{EngineFailure, Judged, StepOutcome, Workload, pdbqt};
use crate::process::{Ended, How};

/// Vina's words when a line of its input is wrong; the line follows after [`QUOTE`].
const PARSING_ERROR: &str = "PDBQT parsing error";
/// Vina's words when it meets what it has no others for, such as an ATOM line that ends too early.
const UNKNOWN_ERROR: &str = "An unknown error occurred";
/// What Vina prints once it has read both molecules.
const GRID: &str = "Computing Vina grid";
/// What stands before a quoted line of input.
const QUOTE: &str = "> ";
/// The numbers behind a rank in Vina's table of poses: affinity and two distances.
const TABLE_NUMBERS: usize = 3;

/// Judges every molecule of a task.
pub(crate) fn judge(
    options: &VinaOptions,
    workload: &Workload<'_>,
    receptor: &Receptor,
    outcomes: &[StepOutcome],
) -> Result<Vec<Judged>, EngineFailure> {
    let region = Region { center: options.center, size: options.size };
    let docking = Docking { attempt: Attempt::new(workload, outcomes), region, receptor };
    docking.attempt.judge(OWN_COLUMNS.len(), |prepared| docking.docked(prepared))
}

struct Docking<'a> {
    attempt: Attempt<'a>,
    region: Region,
    receptor: &'a Receptor,
}

impl Docking<'_> {
    /// The molecule's score or refusal, unless its programs show that the machine is at fault.
    fn docked(&self, prepared: &Prepared) -> Tried<Scored> {
        let ligand = match self.converted(prepared)? {
            Ok(ligand) => ligand,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let step = dock_step(prepared.index);
        let ended = self.attempt.ended(&step)?;
        if ended.how != How::Exited(0) {
            return self.rejected(&step, ended, &ligand).map(Err);
        }
        let lost = |detail: &str| self.attempt.lost(&step, ended, detail);
        let text = self.attempt.read(&poses_pdbqt(prepared.index)).map_err(|detail| lost(&detail))?;
        let poses = pdbqt::poses(&text).map_err(|error| lost(&error.to_string()))?;
        if poses.count == 0 && prints_poses(&ended.stdout_tail, TABLE_NUMBERS) {
            return Err(lost("Vina printed poses and its output has none"));
        }
        let checked =
            pose_check::check(poses, prepared.heavy_atoms, &self.receptor.heavy_atoms, &self.region);
        Ok(checked.map(|docked| Scored {
            score: docked.score,
            columns: vec![docked.modes.to_string(), docked.contacts.to_string()],
        }))
    }

    /// The ligand's PDBQT, if Open Babel made one of all its heavy atoms. It exits 0 in any case.
    fn converted(&self, prepared: &Prepared) -> Tried<String> {
        let step = convert_step(prepared.index);
        let ended = self.attempt.ended(&step)?;
        let lost = |detail: &str| self.attempt.lost(&step, ended, detail);
        if ended.how != How::Exited(0) {
            return Err(self.attempt.failed(&step, ended));
        }
        let text = self.attempt.read(&ligand_pdbqt(prepared.index)).map_err(|detail| lost(&detail))?;
        let atoms = pdbqt::heavy_atoms(&text).map_or(0, |atoms| atoms.len());
        if atoms == prepared.heavy_atoms && atoms > 0 {
            return Ok(Ok(text));
        }
        let converted =
            [&ended.stdout_tail, &ended.stderr_tail].iter().any(|tail| tail.contains("1 molecule converted"));
        if atoms == 0 && converted {
            return Err(lost("Open Babel converted the ligand and its output is empty"));
        }
        let detail = format!("the PDBQT has {atoms} heavy atoms (expected {})", prepared.heavy_atoms);
        Ok(Err(Refusal { reason: Reason::LigandConversionFailed, detail }))
    }

    /// Vina ended with an error: a refusal of the ligand only if it quotes the ligand's own line.
    fn rejected(&self, step: &str, ended: &Ended, ligand: &str) -> Result<Refusal, EngineFailure> {
        let complaint = [&ended.stderr_tail, &ended.stdout_tail]
            .into_iter()
            .find_map(|tail| tail.split_once(PARSING_ERROR))
            .map(|(_, complaint)| complaint);
        let Some(complaint) = complaint else {
            return Err(self.unexplained(step, ended));
        };
        let detail = complaint.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ");
        let quoted =
            complaint.lines().find_map(|line| Some(line.trim_start().strip_prefix(QUOTE)?.trim_end()));
        let in_ligand = quoted.is_some_and(|quoted| ligand.lines().any(|line| line.trim_end() == quoted));
        if in_ligand {
            return Ok(Refusal { reason: Reason::EngineRejected, detail });
        }
        Err(EngineFailure {
            reason: failure::RECEPTOR_INVALID,
            detail: format!("Vina refuses the receptor: {detail}"),
        })
    }

    /// Vina ended without a reason. The ligand was read atom by atom when it was converted, so what it could not read is the receptor.
    fn unexplained(&self, step: &str, ended: &Ended) -> EngineFailure {
        let failed = self.attempt.failed(step, ended);
        if ended.stderr_tail.contains(UNKNOWN_ERROR) && !ended.stdout_tail.contains(GRID) {
            let detail = format!("Vina can't read the receptor: {}", failed.detail);
            return EngineFailure { reason: failure::RECEPTOR_INVALID, detail };
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use common::task::{EngineOptions, Verdict};

    use super::super::docking::PREPARED_FILE;
    use super::super::left_docking::{CAVITY, CENTER, Left, SIZE};
    use super::*;

    const LIGAND: &str = include_str!("../../../tests/golden/openbabel-3.1.1-toluene.pdbqt");
    const POSES: &str = include_str!("../../../tests/golden/vina-1.2.3-toluene.pdbqt");
    const PREPARED: &str = r#"{"index": 0, "ok": true, "docked_smiles": "Cc1ccccc1", "heavy_atoms": 7, "flags": []}
{"index": 1, "ok": false, "reason": "embed_failed", "detail": "no 3D geometry", "flags": ["stereo_undefined"]}
"#;
    const VINA_TABLE: &str =
        "-----+------------+----------+----------\n   1        -4.85          0          0\n";

    /// An attempt in which all went well.
    fn left() -> Left<VinaOptions> {
        let options = VinaOptions { center: CENTER, size: SIZE, exhaustiveness: 8, modes: 9 };
        let mut left = Left::new(options, EngineOptions::Vina, judge, &["ligands", "poses"]);
        left.step("prepare", How::Exited(0), "", "");
        left.step("convert_00000", How::Exited(0), "", "1 molecule converted\n");
        left.step("dock_00000", How::Exited(0), VINA_TABLE, "");
        left.step("convert_00001", None, "", "");
        left.step("dock_00001", None, "", "");
        left.write(PREPARED_FILE, PREPARED);
        left.write("ligands/00000.pdbqt", LIGAND);
        left.write("poses/00000.pdbqt", POSES);
        left
    }

    fn fails(reason: &str, evidence: &str, damage: impl Fn(&mut Left<VinaOptions>)) {
        left().fails(reason, evidence, damage);
    }

    fn refuses(reason: &str, evidence: &str, damage: impl Fn(&mut Left<VinaOptions>)) {
        let mut left = left();
        damage(&mut left);
        let rows = left.judged().unwrap();
        assert_eq!(
            (rows[0].verdict, rows[0].reason.as_str(), rows[0].score.as_str()),
            (Verdict::Bad, reason, "")
        );
        assert!(rows[0].columns[5].contains(evidence), "{}", rows[0].columns[5]);
        assert_eq!(rows[1].reason, "embed_failed");
    }

    #[test]
    fn a_task_that_went_well_has_a_row_per_molecule() {
        let rows = left().judged().unwrap();
        let ok = &rows[0];
        assert_eq!((ok.verdict, ok.reason.as_str(), ok.score.as_str()), (Verdict::Ok, "", "-4.850"));
        assert_eq!(
            (ok.columns[0].as_str(), ok.columns[2].as_str(), ok.columns[4].as_str()),
            ("Cc1ccccc1", "2", "7")
        );
        let bad = &rows[1];
        assert_eq!(
            (bad.verdict, bad.reason.as_str(), bad.score.as_str()),
            (Verdict::Bad, "embed_failed", "")
        );
        assert_eq!(bad.columns, ["", "stereo_undefined", "", "", "7", "no 3D geometry"]);
    }

    #[test]
    fn an_end_from_outside_is_no_verdict() {
        let dock = |how| move |left: &mut Left<VinaOptions>| left.step("dock_00000", how, "", "");
        fails("engine_crashed", "step `dock_00000` of molecule `toluene`: signal 9", dock(How::Signalled(9)));
        fails("time_limit", "step `dock_00000` of molecule `toluene`", dock(How::TimeLimit));
        fails("stopped", "step `dock_00000`", dock(How::Stopped));
        // The account ends after the first molecule: the second one killed the driver.
        fails("engine_crashed", "step `prepare` of molecule `cage`: signal 11", |left| {
            left.write(
                PREPARED_FILE,
                PREPARED.lines().next().map(|line| format!("{line}\n")).unwrap().as_str(),
            );
            left.step("prepare", How::Signalled(11), "", "");
        });
    }

    #[test]
    fn a_driver_that_breaks_down_harms_no_molecule_before_it_and_leaves_the_rest_untried() {
        let mut left = left();
        left.step("prepare", How::Signalled(11), "", "");
        let (first, second) = PREPARED.split_once('\n').unwrap();
        left.write(PREPARED_FILE, &format!("{first}\n{}", &second[..20]));
        let judged = left.judged_each().unwrap();
        assert_eq!(judged[0].as_ref().unwrap().score, "-4.850");
        assert_eq!(judged[1].as_ref().unwrap_err().reason, "engine_crashed");
        left.write(PREPARED_FILE, "");
        let judged = left.judged_each().unwrap();
        let reasons: Vec<_> = judged.into_iter().map(|judged| judged.unwrap_err().reason).collect();
        assert_eq!(reasons, ["engine_crashed", "not_tried"]);
        left.step("prepare", How::Stopped, "", "");
        assert_eq!(left.judged_each().unwrap_err().reason, "stopped");
    }

    #[test]
    fn a_broken_machine_is_no_verdict() {
        fails("prepare_failed", "No such file", |left| left.remove(PREPARED_FILE));
        fails("prepare_failed", "it ends after 0 of 2 molecules", |left| left.write(PREPARED_FILE, ""));
        fails("prepare_failed", "ModuleNotFoundError: rdkit", |left| {
            left.step("prepare", How::Exited(1), "", "Traceback\nModuleNotFoundError: rdkit\n");
        });
        fails("engine_failed", "insufficient memory!", |left| {
            left.step("dock_00000", How::Exited(1), "", "\n\nError: insufficient memory!\n");
        });
        let unknown = include_str!("../../../tests/golden/vina-1.2.3-unknown-error.txt");
        fails("receptor_invalid", "can't read the receptor", |left| {
            left.step("dock_00000", How::Exited(1), "Verbosity: 1\n\n", unknown);
        });
        fails("engine_failed", "last words `An unknown error occurred.`", |left| {
            left.step("dock_00000", How::Exited(1), "Computing Vina grid ... done.\n", unknown);
        });
        fails("engine_failed", "exit 127", |left| left.step("convert_00000", How::Exited(127), "", ""));
        fails("output_lost", "its output is empty", |left| left.write("ligands/00000.pdbqt", ""));
        fails("output_lost", "its output has none", |left| left.write("poses/00000.pdbqt", ""));
        fails("output_lost", "No such file", |left| left.remove("poses/00000.pdbqt"));
        fails("output_lost", "cut short", |left| left.write("poses/00000.pdbqt", &POSES[..POSES.len() / 3]));
        fails("output_lost", "step `dock_00000` was not run", |left| {
            left.forget_step("dock_00000");
        });
    }

    #[test]
    fn a_molecule_that_a_program_refuses_is_named() {
        refuses("ligand_conversion_failed", "0 heavy atoms (expected 7)", |left| {
            left.write("ligands/00000.pdbqt", "");
            left.step("convert_00000", How::Exited(0), "", "0 molecules converted\n");
        });
        refuses("ligand_conversion_failed", "6 heavy atoms (expected 7)", |left| {
            let (first, rest) = LIGAND.split_once("ATOM").unwrap();
            left.write("ligands/00000.pdbqt", &format!("{first}{}", rest.split_once('\n').unwrap().1));
        });
        refuses("no_pose", "no model", |left| {
            left.write("poses/00000.pdbqt", "");
            left.step("dock_00000", How::Exited(0), "WARNING: Could not find any conformations\n", "");
        });
        let rejection =
            |line: &str| format!("\n\nPDBQT parsing error: Atom type Q is not valid.\n > {line}\n\n");
        let own = LIGAND.lines().find(|line| line.starts_with("ATOM")).unwrap();
        refuses("engine_rejected", "Atom type Q is not valid.", |left| {
            left.step("dock_00000", How::Exited(1), "", &rejection(own));
        });
        fails("receptor_invalid", "Atom type Q is not valid.", |left| {
            let receptors = CAVITY.lines().next().unwrap();
            left.step("dock_00000", How::Exited(1), "", &rejection(receptors));
        });
    }
}
