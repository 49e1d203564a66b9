//! From what a docking task with Gnina left behind to one row per molecule, or to the reason why the attempt as a whole is void: what
//! is Gnina's own of it. The rest is in `docking`.

use common::task::{CnnScoring, GninaOptions, GninaScore};

use super::docking::{Attempt, Scored, Tried, dock_step, prints_poses};
use super::gnina::{OWN_COLUMNS, VERSION_STEP, poses_sdf};
use super::pdbqt::Poses;
use super::pose_check::{self, Region};
use super::pose_sdf::PosesSdf;
use super::prepared::Prepared;
use super::reason::{Reason, Refusal, failure};
use super::receptor::Receptor;
use super::{EngineFailure, Judged, StepOutcome, Workload};
use crate::process::How;

/// The numbers behind a rank in Gnina's table of poses: affinity, CNN score and CNN affinity, since 1.3 the internal energy, too.
const TABLE_NUMBERS: usize = 3;

/// What a pK can be. The strongest binder known, biotin to streptavidin, has some 14; the networks learned from 2 to 12.
const PK: (f64, f64) = (-2.0, 16.0);

/// Judges every molecule of a task.
pub(crate) fn judge(
    options: &GninaOptions,
    workload: &Workload<'_>,
    receptor: &Receptor,
    outcomes: &[StepOutcome],
) -> Result<Vec<Judged>, EngineFailure> {
    let region = Region { center: options.center, size: options.size };
    let attempt = Attempt::new(workload, outcomes);
    let docking = Docking { attempt, region, receptor, options };
    docking.attempt.judge(OWN_COLUMNS.len(), |prepared| docking.docked(prepared))
}

struct Docking<'a> {
    attempt: Attempt<'a>,
    region: Region,
    receptor: &'a Receptor,
    options: &'a GninaOptions,
}

impl Docking<'_> {
    /// The molecule's numbers or refusal, unless its programs show that the machine is at fault.
    fn docked(&self, prepared: &Prepared) -> Tried<Scored> {
        let program = self.program()?;
        let step = dock_step(prepared.index);
        let ended = self.attempt.ended(&step)?;
        if ended.how != How::Exited(0) {
            return Err(self.attempt.failed(&step, ended));
        }
        let lost = |detail: &str| self.attempt.lost(&step, ended, detail);
        let text = self.attempt.read(&poses_sdf(prepared.index)).map_err(|detail| lost(&detail))?;
        let poses = PosesSdf::parse(&text).map_err(|error| lost(&error.to_string()))?;
        if poses.count() == 0 && prints_poses(&ended.stdout_tail, TABLE_NUMBERS) {
            return Err(lost("Gnina printed poses and its output has none"));
        }
        Ok(self.checked(&poses, prepared, program))
    }

    /// What the program calls itself: a stand-in for Gnina is named in every row that it makes. A breakdown over that is no molecule's.
    fn program(&self) -> Result<String, EngineFailure> {
        let ended = self.attempt.ended(VERSION_STEP).map_err(|found| {
            let reason = if found.is_breakdown() { failure::ENGINE_FAILED } else { found.reason };
            EngineFailure { reason, ..found }
        })?;
        let line = ended.stdout_tail.lines().find(|line| !line.trim().is_empty());
        match line {
            Some(line) if ended.how == How::Exited(0) => {
                Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
            }
            _ => Err(self.attempt.failed(VERSION_STEP, ended)),
        }
    }

    fn checked(&self, poses: &PosesSdf<'_>, prepared: &Prepared, program: String) -> Result<Scored, Refusal> {
        let tag = |number: GninaScore| poses.item(number.tag()).to_owned();
        let best = Poses {
            count: poses.count(),
            score: tag(GninaScore::MinimizedAffinity),
            heavy_atoms: poses.heavy_atoms(),
        };
        let docked = pose_check::check(best, prepared.heavy_atoms, &self.receptor.heavy_atoms, &self.region)?;
        let mut columns = vec![docked.score];
        for number in GninaScore::ALL.into_iter().filter(|number| number.is_of_cnn()) {
            let value = tag(number);
            // Old versions of Gnina have no CNN_VS: it is missed only where it is the score.
            let may_lack = number == GninaScore::CnnVs && number != self.options.score;
            columns.push(match self.options.cnn_scoring {
                CnnScoring::None => String::new(),
                _ if value.is_empty() && may_lack => value,
                _ => check_cnn(number, value)?,
            });
        }
        let position = GninaScore::ALL.iter().position(|number| *number == self.options.score);
        let score = position.map_or_else(String::new, |position| columns[position].clone());
        columns.extend([docked.modes.to_string(), docked.contacts.to_string(), program]);
        Ok(Scored { score, columns })
    }
}

/// A number of the networks, in the range that it can have.
fn check_cnn(number: GninaScore, value: String) -> Result<String, Refusal> {
    let (low, high) = if number == GninaScore::CnnScore { (0.0, 1.0) } else { PK };
    let tag = number.tag();
    let refuse = |reason, detail| Err(Refusal { reason, detail });
    match value.parse::<f64>().ok().filter(|value| value.is_finite()) {
        None => refuse(Reason::ScoreNotFinite, format!("{tag} is `{value}`")),
        Some(found) if !(low..=high).contains(&found) => {
            refuse(Reason::ScoreOutOfRange, format!("{tag} is `{value}` (expected {low} to {high})"))
        }
        Some(_) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use common::task::{CnnScoring, EngineOptions, GninaScore, Verdict};

    use super::super::docking::PREPARED_FILE;
    use super::super::left_docking::{CENTER, Left, SIZE};
    use super::*;

    /// Real output of GNINA's networks by another program: see `tests/gnina/`.
    const POSES: &str = include_str!("../../../tests/golden/rustina-0.9.0-toluene.sdf");
    const PREPARED: &str = r#"{"index": 0, "ok": true, "docked_smiles": "Cc1ccccc1", "heavy_atoms": 7, "flags": []}
{"index": 1, "ok": false, "reason": "embed_failed", "detail": "no 3D geometry", "flags": []}
"#;
    /// As Gnina 1.3 prints it, by its documentation.
    const TABLE: &str = "-----+------------+------------+------------+----------\n    1       -4.91       -0.11       0.7882      4.389\n";

    /// An attempt in which all went well.
    fn left() -> Left<GninaOptions> {
        let options = GninaOptions {
            center: CENTER,
            size: SIZE,
            exhaustiveness: 8,
            modes: 9,
            cnn_scoring: CnnScoring::Rescore,
            score: GninaScore::MinimizedAffinity,
            device: 0,
        };
        let mut left = Left::new(options, EngineOptions::Gnina, judge, &["poses"]);
        left.step("prepare", How::Exited(0), "", "");
        left.step(VERSION_STEP, How::Exited(0), "\ngnina v1.3.1   Built Oct  3 2024.\n", "");
        left.step("dock_00000", How::Exited(0), TABLE, "");
        left.step("dock_00001", None, "", "");
        left.write(PREPARED_FILE, PREPARED);
        left.write("poses/00000.sdf", POSES);
        left
    }

    /// Puts one text of the poses in place of another.
    fn edit(left: &Left<GninaOptions>, from: &str, to: &str) {
        assert!(POSES.contains(from), "{from}");
        left.write("poses/00000.sdf", &POSES.replacen(from, to, 1));
    }

    fn fails(reason: &str, evidence: &str, damage: impl Fn(&mut Left<GninaOptions>)) {
        left().fails(reason, evidence, damage);
    }

    fn refuses(reason: &str, evidence: &str, damage: impl Fn(&mut Left<GninaOptions>)) {
        let mut left = left();
        damage(&mut left);
        let rows = left.judged().unwrap();
        let (row, detail) = (&rows[0], rows[0].columns.last().unwrap());
        assert_eq!((row.verdict, row.reason.as_str()), (Verdict::Bad, reason), "{detail}");
        assert!(detail.contains(evidence), "{detail}");
        assert!(row.score.is_empty() && row.columns[2..9].iter().all(String::is_empty), "{row:?}");
        assert_eq!(rows[1].reason, "embed_failed");
    }

    #[test]
    fn the_numbers_of_the_best_pose_make_a_row() {
        let rows = left().judged().unwrap();
        assert_eq!((rows[0].verdict, rows[0].score.as_str()), (Verdict::Ok, "-4.91046"));
        let columns = &rows[0].columns;
        assert_eq!(
            columns[..7],
            ["Cc1ccccc1", "", "-4.91046", "0.7882226706", "4.3889470100", "3.4594675332", "2"]
        );
        assert_eq!(columns[8..], ["gnina v1.3.1 Built Oct 3 2024.", "7", ""]);
        assert_eq!(rows[1].reason, "embed_failed");
        assert_eq!(columns.len(), rows[1].columns.len());
    }

    #[test]
    fn each_number_can_be_the_score() {
        for (score, expect) in
            GninaScore::ALL.into_iter().zip(["-4.91046", "0.7882226706", "4.3889470100", "3.4594675332"])
        {
            let mut left = left();
            left.options.score = score;
            assert_eq!(left.judged().unwrap()[0].score, expect);
        }
    }

    #[test]
    fn without_networks_there_is_the_affinity_alone() {
        let mut left = left();
        left.options.cnn_scoring = CnnScoring::None;
        left.write("poses/00000.sdf", &POSES.replace("CNN", "Other"));
        let rows = left.judged().unwrap();
        assert_eq!(
            (rows[0].score.as_str(), &rows[0].columns[3..6]),
            ("-4.91046", &[const { String::new() }; 3][..])
        );
    }

    #[test]
    fn a_gnina_without_cnn_vs_is_good_enough_unless_it_is_the_score() {
        let without = |left: &mut Left<GninaOptions>| edit(left, "CNN_VS", "CNN_VSX");
        let mut left = left();
        without(&mut left);
        assert_eq!(left.judged().unwrap()[0].columns[5], "");
        refuses("score_not_finite", "CNN_VS is ``", |left| {
            left.options.score = GninaScore::CnnVs;
            without(left);
        });
    }

    #[test]
    fn every_lie_has_its_reason() {
        refuses("no_pose", "no model", |left| {
            left.write("poses/00000.sdf", "");
            left.step("dock_00000", How::Exited(0), "WARNING: no poses\n", "");
        });
        refuses("score_not_finite", "`nan`", |left| edit(left, "-4.91046", "nan"));
        refuses("score_not_finite", "``", |left| edit(left, "minimizedAffinity", "affinity"));
        refuses("score_not_finite", "CNNscore is `inf`", |left| edit(left, "0.7882226706", "inf"));
        refuses("score_not_finite", "CNNaffinity is ``", |left| edit(left, "CNNaffinity", "affinity"));
        refuses("score_out_of_range", "CNNscore is `1.2` (expected 0 to 1)", |left| {
            edit(left, "0.7882226706", "1.2");
        });
        refuses("score_out_of_range", "CNNaffinity is `43.8", |left| edit(left, "4.3889470100", "43.88947"));
        refuses("score_out_of_range", "`0.00000` kcal/mol", |left| edit(left, "-4.91046", "0.00000"));
        refuses("outside_box", "score `-4.91046`", |left| left.options.center = [0.0; 3]);
        // The networks find a pose in empty space quite likely (0.71): only the contact tells.
        refuses("no_contact", "within 4.5 Å", |left| {
            left.options.center = [142.32, 45.43, 18.17];
            let moved = |line: &str| match line.get(..10).and_then(|x| x.trim().parse::<f64>().ok()) {
                Some(x) if line.len() > 60 => format!("{:10.4}{}\n", x + 100.0, &line[10..]),
                _ => format!("{line}\n"),
            };
            left.write("poses/00000.sdf", &POSES.lines().map(moved).collect::<String>());
        });
        refuses("pose_unreadable", "8 heavy atoms (expected 7)", |left| edit(left, " H   0", " N   0"));
        refuses("pose_unreadable", "no V2000", |left| edit(left, "V2000", "V3000"));
    }

    #[test]
    fn a_broken_machine_is_no_molecules_fault() {
        fails("output_lost", "No such file", |left| {
            left.remove("poses/00000.sdf");
        });
        fails("output_lost", "Gnina printed poses and its output has none", |left| {
            left.write("poses/00000.sdf", "");
        });
        fails("output_lost", "cut short", |left| left.write("poses/00000.sdf", &POSES[..POSES.len() / 3]));
        fails("engine_failed", "CUDA out of memory", |left| {
            left.step("dock_00000", How::Exited(1), "", "CUDA out of memory\n");
        });
        fails("engine_crashed", "signal 11", |left| left.step("dock_00000", How::Signalled(11), "", ""));
        fails("time_limit", "of molecule `toluene`", |left| {
            left.step("dock_00000", How::TimeLimit, "", "");
        });
        for how in [How::Exited(0), How::Signalled(11), How::TimeLimit] {
            fails("engine_failed", "step `version`", |left| left.step(VERSION_STEP, how, "\n", ""));
        }
    }
}
