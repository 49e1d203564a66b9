//! Reads what a verdict needs of an SDF of poses: numbers and heavy atoms of the best one, and how many there are.
//!
//! Pure. Knows V2000's table of atoms and nothing of what makes a pose good.

use common::sdf::{SdfError, SdfRecord, records};

use super::pdbqt::Point;

/// The poses of one ligand, the one that the engine ranks best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PosesSdf<'a>(Vec<SdfRecord<'a>>);

impl<'a> PosesSdf<'a> {
    /// Reads a file; one without any record has no poses.
    pub(crate) fn parse(text: &'a str) -> Result<Self, SdfError> {
        records(text).map(Self)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// A data item of the best pose; empty if it has none.
    pub(crate) fn item(&self, name: &str) -> &'a str {
        self.0.first().map_or("", |best| best.item(name))
    }

    /// The best pose's heavy atoms, or why they can't be read.
    pub(crate) fn heavy_atoms(&self) -> Result<Vec<Point>, String> {
        let block = self.0.first().map(SdfRecord::block).unwrap_or_default();
        let lines = atom_lines(block).ok_or("no V2000 table of atoms")?;
        let heavy = lines.iter().filter(|line| !is_hydrogen(line));
        heavy.map(|line| position(line).ok_or_else(|| format!("no finite coordinates in `{line}`"))).collect()
    }
}

/// The fourth line counts the atoms in its first three columns.
fn atom_lines<'a, 'b>(block: &'b [&'a str]) -> Option<&'b [&'a str]> {
    let counts = block.get(3).filter(|counts| counts.contains("V2000"))?;
    let atoms: usize = counts.get(..3)?.trim().parse().ok()?;
    block.get(4..)?.get(..atoms)
}

/// The symbol stands in columns 32–34.
fn is_hydrogen(atom: &str) -> bool {
    matches!(atom.get(31..).unwrap_or_default().split_whitespace().next(), Some("H" | "D" | "T"))
}

/// x, y and z stand in ten columns each.
fn position(atom: &str) -> Option<Point> {
    let coordinate = |start: usize| {
        let number: f64 = atom.get(start..start + 10)?.trim().parse().ok()?;
        number.is_finite().then_some(number)
    };
    Some([coordinate(0)?, coordinate(10)?, coordinate(20)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLUENE: &str = include_str!("../../../tests/golden/rustina-0.9.0-toluene.sdf");

    #[test]
    fn the_best_pose_of_real_output() {
        let poses = PosesSdf::parse(TOLUENE).unwrap();
        assert_eq!(poses.count(), 2);
        assert_eq!((poses.item("minimizedAffinity"), poses.item("CNNscore")), ("-4.91046", "0.7882226706"));
        let atoms = poses.heavy_atoms().unwrap();
        assert_eq!((atoms.len(), atoms[0]), (7, [43.18, 46.261, 16.747]), "toluene has 7 heavy atoms");
    }

    #[test]
    fn what_is_broken_is_named() {
        let atoms = |text: &str| PosesSdf::parse(text).unwrap().heavy_atoms().unwrap_err();
        assert_eq!(atoms(&TOLUENE.replacen("V2000", "V3000", 1)), "no V2000 table of atoms");
        assert_eq!(atoms(&TOLUENE.replacen(" 15 15", "999 15", 1)), "no V2000 table of atoms");
        let nan = atoms(&TOLUENE.replacen("   43.1800", "       nan", 1));
        assert!(nan.starts_with("no finite coordinates in `       nan"), "{nan}");
        assert_eq!(atoms(""), "no V2000 table of atoms");
    }
}
