//! A ligand in its receptor, from a GROMACS `.gro` file: heavy atoms, contacts, and how far the ligand is from where it began.
//!
//! Pure: text in, positions in Å out. The ligand is the last residue of the file.

use super::pdbqt::Point;
use super::pose_check::{centroid, distance, touches};

/// Heavy atoms of both partners, in Å.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Complex {
    /// Of the receptor, in the file's order.
    pub(crate) receptor: Vec<Point>,
    /// Of the ligand, one at least.
    pub(crate) ligand: Vec<Point>,
    /// All atoms of the file, hydrogens included.
    pub(crate) atoms: usize,
}

/// Says why a text is no complex.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ComplexError {
    /// The second line is no number of atoms.
    #[error("its second line is `{found}` (expected the number of atoms)")]
    Count {
        /// The line.
        found: String,
    },
    /// It ends early.
    #[error("it has {found} of {expected} atoms")]
    Short {
        /// Atoms that are there.
        found: usize,
        /// What its second line says.
        expected: usize,
    },
    /// An atom is nowhere.
    #[error("its atom {atom} has no finite coordinates")]
    Position {
        /// Counted from 1.
        atom: usize,
    },
    /// Only one partner.
    #[error(
        "it has {receptor} heavy atoms before its last residue and {ligand} in it (expected some of both)"
    )]
    Alone {
        /// Heavy atoms before the last residue.
        receptor: usize,
        /// Heavy atoms in it.
        ligand: usize,
    },
}

/// Columns of an atom's line.
const RESIDUE: std::ops::Range<usize> = 0..10;
const NAME: std::ops::Range<usize> = 10..15;
/// Nanometres are ten ångström.
const ANGSTROM_PER_NM: f64 = 10.0;

impl Complex {
    /// Reads a `.gro` file.
    pub(crate) fn parse(text: &str) -> Result<Self, ComplexError> {
        let mut lines = text.lines().skip(1);
        let count = lines.next().unwrap_or_default().trim();
        let expected = count.parse().map_err(|_| ComplexError::Count { found: excerpt(count) })?;
        let atoms: Vec<&str> = lines.take(expected).collect();
        if atoms.len() < expected {
            return Err(ComplexError::Short { found: atoms.len(), expected });
        }
        let last = atoms.last().and_then(|line| line.get(RESIDUE));
        let of_ligand = atoms.iter().rev().take_while(|line| line.get(RESIDUE) == last).count();
        let first_of_ligand = atoms.len() - of_ligand;
        let (mut receptor, mut ligand) = (Vec::new(), Vec::new());
        for (at, line) in atoms.iter().enumerate() {
            let position = position(line).ok_or(ComplexError::Position { atom: at + 1 })?;
            if !is_hydrogen(line) {
                if at < first_of_ligand { receptor.push(position) } else { ligand.push(position) }
            }
        }
        if receptor.is_empty() || ligand.is_empty() {
            return Err(ComplexError::Alone { receptor: receptor.len(), ligand: ligand.len() });
        }
        Ok(Self { receptor, ligand, atoms: expected })
    }

    /// Which heavy atoms of the receptor touch the ligand.
    pub(crate) fn pocket(&self) -> Vec<usize> {
        let touched = |(at, atom): (usize, &Point)| touches(&self.ligand, *atom).then_some(at);
        self.receptor.iter().enumerate().filter_map(touched).collect()
    }

    /// Between the centroid of the ligand and that of some heavy atoms of the receptor, in Å. These are `pocket`'s of a complex with
    /// the same receptor; others are left out.
    pub(crate) fn distance_to(&self, pocket: &[usize]) -> f64 {
        let pocket: Vec<Point> = pocket.iter().filter_map(|at| self.receptor.get(*at).copied()).collect();
        distance(centroid(&self.ligand), centroid(&pocket))
    }
}

fn excerpt(text: &str) -> String {
    common::excerpt::excerpt(text)
}

fn position(line: &str) -> Option<Point> {
    let mut position = [0.0; 3];
    for (axis, value) in position.iter_mut().enumerate() {
        let nm: f64 = line.get(20 + 8 * axis..28 + 8 * axis)?.trim().parse().ok()?;
        *value = Some(nm * ANGSTROM_PER_NM).filter(|x| x.is_finite())?;
    }
    Some(position)
}

/// By its name: neither the force field nor GAFF2 has an element other than hydrogen that begins with H.
fn is_hydrogen(line: &str) -> bool {
    let name = line.get(NAME).unwrap_or_default().trim();
    name.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('H')
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = include_str!("../../../tests/golden/gromacs-2022.5-t4l-benzene-start.gro");
    const LAST: &str = include_str!("../../../tests/golden/gromacs-2022.5-t4l-benzene-last.gro");

    #[test]
    fn a_ligand_stays_in_its_pocket() {
        let (start, last) = (Complex::parse(START).unwrap(), Complex::parse(LAST).unwrap());
        assert_eq!((start.ligand.len(), last.ligand.len()), (6, 6), "benzene has six carbons");
        assert_eq!(start.receptor.len(), last.receptor.len());
        let pocket = start.pocket();
        assert!(pocket.len() > 20, "{}", pocket.len());
        let moved = last.distance_to(&pocket) - start.distance_to(&pocket);
        assert!(moved.abs() < 1.0, "{moved}");
    }

    #[test]
    fn what_is_no_complex_is_refused_by_name() {
        let check =
            |text: &str, expect: &str| assert_eq!(Complex::parse(text).unwrap_err().to_string(), expect);
        check("", "its second line is `` (expected the number of atoms)");
        check("title\nmany\n", "its second line is `many` (expected the number of atoms)");
        check("title\n2\n    1MET      N    1   0.100   0.200   0.300\n", "it has 1 of 2 atoms");
        check(
            "title\n1\n    1MET      N    1   0.100     nan   0.300\n",
            "its atom 1 has no finite coordinates",
        );
        check(
            "title\n1\n    1MET      N    1   0.100   0.200   0.300\n",
            "it has 0 heavy atoms before its last residue and 1 in it (expected some of both)",
        );
    }
}
