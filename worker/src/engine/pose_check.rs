//! The sanity rules for a docked molecule: a score counts only when its pose is where it was searched, touches the receptor,
//! and the number is one that the scoring function can mean.
//!
//! Pure: poses, receptor and box in, a score or a refusal out.

pub(crate) use common::task::CONTACT_ANGSTROM;

use super::pdbqt::{Point, Poses};
use super::reason::{Reason, Refusal};

/// How far, in Å, a pose's centroid may lie outside the box: twice Vina's grid spacing of 0.375 Å, since its final
/// minimisation is not confined to the grid.
const BOX_TOLERANCE_ANGSTROM: f64 = 0.75;

/// No ligand binds better than about −1.5 kcal/mol per heavy atom, levelling off near −15 kcal/mol (Kuntz et al. 1999,
/// doi:10.1073/pnas.96.18.9997); twice that is an artefact.
const SCORE_MIN_KCAL_MOL: f64 = -30.0;

/// Where was searched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region {
    /// Centre of the box, Å.
    pub(crate) center: Point,
    /// Its edges, Å.
    pub(crate) size: Point,
}

impl Region {
    fn holds(&self, point: Point) -> bool {
        (0..3).all(|axis| {
            (point[axis] - self.center[axis]).abs() <= self.size[axis] / 2.0 + BOX_TOLERANCE_ANGSTROM
        })
    }
}

/// A docked molecule that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Docked {
    /// In kcal/mol, with the engine's own digits.
    pub(crate) score: String,
    /// Poses that were written.
    pub(crate) modes: usize,
    /// Receptor heavy atoms that the best pose touches.
    pub(crate) contacts: usize,
}

/// Judges the best pose. The geometry comes before the score's range, since it explains a strange score.
pub(crate) fn check(
    poses: Poses,
    heavy_atoms: usize,
    receptor: &[Point],
    region: &Region,
) -> Result<Docked, Refusal> {
    if poses.count == 0 {
        return Err(refuse(Reason::NoPose, "the output has no model".into()));
    }
    let score = poses.score.parse::<f64>().ok().filter(|score| score.is_finite());
    let Some(score_kcal_mol) = score else {
        return Err(refuse(Reason::ScoreNotFinite, format!("the score is `{}`", poses.score)));
    };
    let pose = poses.heavy_atoms.map_err(|detail| refuse(Reason::PoseUnreadable, detail))?;
    if pose.len() != heavy_atoms || pose.is_empty() {
        let detail = format!("the pose has {} heavy atoms (expected {heavy_atoms})", pose.len());
        return Err(refuse(Reason::PoseUnreadable, detail));
    }
    let centroid = centroid(&pose);
    if !region.holds(centroid) {
        let [x, y, z] = centroid;
        let detail = format!("the pose's centroid is at {x:.1} {y:.1} {z:.1} Å (score `{}`)", poses.score);
        return Err(refuse(Reason::OutsideBox, detail));
    }
    let contacts = contacts(&pose, receptor);
    if contacts == 0 {
        let detail = format!(
            "no heavy atom of the receptor within {CONTACT_ANGSTROM} Å of the pose (score `{}`)",
            poses.score
        );
        return Err(refuse(Reason::NoContact, detail));
    }
    if score_kcal_mol <= SCORE_MIN_KCAL_MOL || score_kcal_mol >= 0.0 {
        let detail = format!(
            "the score is `{}` kcal/mol (expected above {SCORE_MIN_KCAL_MOL} and below 0)",
            poses.score
        );
        return Err(refuse(Reason::ScoreOutOfRange, detail));
    }
    Ok(Docked { score: poses.score, modes: poses.count, contacts })
}

fn refuse(reason: Reason, detail: String) -> Refusal {
    Refusal { reason, detail }
}

pub(crate) fn centroid(pose: &[Point]) -> Point {
    let sum = pose.iter().fold([0.0; 3], |sum, atom| [sum[0] + atom[0], sum[1] + atom[1], sum[2] + atom[2]]);
    sum.map(|coordinate| coordinate / pose.len() as f64)
}

fn contacts(pose: &[Point], receptor: &[Point]) -> usize {
    receptor.iter().filter(|atom| touches(pose, **atom)).count()
}

/// Whether a heavy atom of the receptor is in contact with a pose.
pub(crate) fn touches(pose: &[Point], atom: Point) -> bool {
    pose.iter().any(|other| distance(*other, atom) <= CONTACT_ANGSTROM)
}

/// In the unit of the points.
pub(crate) fn distance(one: Point, other: Point) -> f64 {
    (0..3).map(|axis| (one[axis] - other[axis]).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::pdbqt::{heavy_atoms, poses};
    use super::*;

    const TOLUENE: &str = include_str!("../../../tests/golden/vina-1.2.3-toluene.pdbqt");
    const EMPTY_BOX: &str = include_str!("../../../tests/golden/vina-1.2.3-empty-box.pdbqt");
    const CAVITY: &str = include_str!("../../../tests/golden/openbabel-3.1.1-t4l-l99a-cavity.pdbqt");
    const CAVITY_CENTER: Point = [42.32, 45.43, 18.17];
    const FAR_AWAY: Point = [200.0; 3];

    fn judge(output: &str, heavy: usize, center: Point) -> Result<Docked, Refusal> {
        let region = Region { center, size: [14.0; 3] };
        check(poses(output).unwrap(), heavy, &heavy_atoms(CAVITY).unwrap(), &region)
    }

    #[test]
    fn a_real_pose_keeps_the_engines_own_digits() {
        let docked = judge(TOLUENE, 7, CAVITY_CENTER).unwrap();
        assert_eq!((docked.score.as_str(), docked.modes), ("-4.850", 2));
        assert!((10..80).contains(&docked.contacts), "{} contacts in a closed cavity", docked.contacts);
    }

    #[test]
    fn every_lie_has_its_reason() {
        let refused = |output: &str, heavy, center, reason: Reason, evidence: &str| {
            let refusal = judge(output, heavy, center).unwrap_err();
            assert_eq!(refusal.reason, reason, "{}", refusal.detail);
            assert!(refusal.detail.contains(evidence), "{}", refusal.detail);
        };
        // Real output of a box in empty space: exit 0, score -0.000, the pose well inside its box.
        refused(EMPTY_BOX, 10, FAR_AWAY, Reason::NoContact, "within 4.5 Å of the pose (score `-0.000`)");
        refused(TOLUENE, 7, FAR_AWAY, Reason::OutsideBox, "-4.850");
        refused("", 7, CAVITY_CENTER, Reason::NoPose, "no model");
        refused(TOLUENE, 8, CAVITY_CENTER, Reason::PoseUnreadable, "7 heavy atoms (expected 8)");
        let score = |text: &str| TOLUENE.replacen("  -4.850", text, 1);
        refused(&score("     nan"), 7, CAVITY_CENTER, Reason::ScoreNotFinite, "`nan`");
        refused(&score("    -inf"), 7, CAVITY_CENTER, Reason::ScoreNotFinite, "`-inf`");
        refused(&score(" 4117814.147"), 7, CAVITY_CENTER, Reason::ScoreOutOfRange, "`4117814.147`");
        refused(&score("   0.000"), 7, CAVITY_CENTER, Reason::ScoreOutOfRange, "`0.000`");
        refused(&score(" -36.700"), 7, CAVITY_CENTER, Reason::ScoreOutOfRange, "`-36.700`");
        let renamed = TOLUENE.replace("VINA RESULT", "VINA SCORE");
        refused(&renamed, 7, CAVITY_CENTER, Reason::ScoreNotFinite, "``");
        let nan = TOLUENE.replacen(
            "ENDROOT",
            "ATOM      9  C   UNL     1         nan  44.585  18.477 0 0 0 A\nENDROOT",
            1,
        );
        refused(&nan, 8, CAVITY_CENTER, Reason::PoseUnreadable, "no finite coordinates");
    }

    #[test]
    fn the_box_has_edges() {
        let at = |x: f64| Region { center: [0.0; 3], size: [10.0, 2.0, 2.0] }.holds([x, 0.0, 0.0]);
        assert!(at(5.7) && at(-5.7));
        assert!(!at(5.8) && !at(-5.8));
    }
}
