//! Puts a pose into the molecule that was docked: a V2000 record (Dalby et al. 1992, doi:10.1021/ci00007a012) with the bonds and
//! charges of the prepared ligand and the coordinates of the pose.
//!
//! Open Babel writes the atoms of a ligand's PDBQT in the order of its torsion tree, without hydrogens on carbon and without names, but
//! leaves their coordinates as they were: an atom of the PDBQT is the atom of the prepared ligand that stands where it stands. Vina
//! keeps the PDBQT's order. So each atom of a pose is known exactly, and no bond has to be guessed.

use super::pdbqt::Point;

/// PDBQT has three decimals: half of the last one, and the same again for the rounding of the SDF's fourth.
const SAME_PLACE: f64 = 0.001;

/// A V2000 record in parts.
#[derive(Debug)]
pub(super) struct MolBlock<'a> {
    atoms: Vec<Atom<'a>>,
    bonds: Vec<Bond<'a>>,
    properties: Vec<Property<'a>>,
}

#[derive(Debug)]
struct Atom<'a> {
    at: Point,
    /// Symbol and everything behind it.
    rest: &'a str,
}

#[derive(Debug)]
struct Bond<'a> {
    ends: [usize; 2],
    order: &'a str,
}

/// A line `M  CHG`, `M  RAD` or `M  ISO`.
#[derive(Debug)]
struct Property<'a> {
    /// The start of the line.
    kind: &'a str,
    /// Atoms with their values.
    values: Vec<(usize, &'a str)>,
}

impl<'a> MolBlock<'a> {
    /// Reads a record.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        let mut lines = text.lines();
        let counts = lines.nth(3).filter(|line| line.contains("V2000")).ok_or("no V2000 record")?;
        let (atoms, bonds) = (number(counts, 0)?, number(counts, 3)?);
        let atoms = lines.by_ref().take(atoms).map(atom).collect::<Result<Vec<_>, _>>()?;
        let bonds =
            lines.by_ref().take(bonds).map(|line| bond(line, atoms.len())).collect::<Result<_, _>>()?;
        let mut properties = Vec::new();
        for line in lines {
            if line.starts_with("M  END") {
                return Ok(Self { atoms, bonds, properties });
            }
            if ["M  CHG", "M  RAD", "M  ISO"].iter().any(|kind| line.starts_with(kind)) {
                properties.push(property(line)?);
            }
        }
        Err("the record has no end".to_owned())
    }

    /// For each atom of the ligand's PDBQT, the atom of this record that stands at its place.
    pub(super) fn matched(&self, ligand: &[Point]) -> Result<Vec<usize>, String> {
        let here = |a: &Point, b: &Point| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= SAME_PLACE);
        let find = |(number, point): (usize, &Point)| {
            let mut found = self.atoms.iter().enumerate().filter(|(_, atom)| here(&atom.at, point));
            match (found.next(), found.next()) {
                (Some((position, _)), None) => Ok(position),
                (None, _) => Err(format!("atom {} of the PDBQT is not in the SDF", number + 1)),
                _ => Err(format!("atom {} of the PDBQT is two atoms of the SDF", number + 1)),
            }
        };
        let matched = ligand.iter().enumerate().map(find).collect::<Result<Vec<_>, _>>()?;
        let is_there = |position: &usize| matched.contains(position);
        match (0..self.atoms.len()).find(|position| !is_there(position) && !self.is_hydrogen(*position)) {
            Some(lost) => Err(format!("atom {} of the SDF is not in the PDBQT", lost + 1)),
            None => Ok(matched),
        }
    }

    fn is_hydrogen(&self, position: usize) -> bool {
        matches!(self.atoms[position].rest.split_whitespace().next(), Some("H" | "D" | "T"))
    }

    /// The record of a pose, up to and with `M  END`. Its atoms are those that were docked, in the order of this record; hydrogens on
    /// carbon are implied. Stereo marks are left out, since the coordinates tell.
    pub(super) fn posed(&self, title: &str, matched: &[usize], pose: &[Point]) -> Result<String, String> {
        if matched.len() != pose.len() {
            return Err(format!("the pose has {} atoms (expected {})", pose.len(), matched.len()));
        }
        let mut docked: Vec<(usize, &Point)> = matched.iter().copied().zip(pose).collect();
        docked.sort_unstable_by_key(|(position, _)| *position);
        let place =
            |atom: usize| docked.binary_search_by_key(&atom, |(position, _)| *position).ok().map(|at| at + 1);
        let bonds: Vec<_> = self
            .bonds
            .iter()
            .filter_map(|bond| Some((place(bond.ends[0])?, place(bond.ends[1])?, bond.order)))
            .collect();
        let mut lines = vec![title.to_owned(), "  molfleet          3D".to_owned(), String::new()];
        lines.push(format!("{:3}{:3}  0  0  0  0  0  0  0  0999 V2000", docked.len(), bonds.len()));
        let atom = |(position, [x, y, z]): &(usize, &Point)| {
            format!("{x:10.4}{y:10.4}{z:10.4}{}", self.atoms[*position].rest)
        };
        lines.extend(docked.iter().map(atom));
        lines.extend(bonds.iter().map(|(from, to, order)| format!("{from:3}{to:3}{order}  0")));
        for Property { kind, values } in &self.properties {
            let values: Vec<_> = values
                .iter()
                .filter_map(|(atom, value)| Some(format!(" {:3} {value}", place(*atom)?)))
                .collect();
            if !values.is_empty() {
                lines.push(format!("{kind}{:3}{}", values.len(), values.concat()));
            }
        }
        lines.push("M  END\n".to_owned());
        Ok(lines.join("\n"))
    }
}

/// A number of three columns.
fn number(line: &str, start: usize) -> Result<usize, String> {
    let number = line.get(start..start + 3).and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| format!("no number in columns {} to {} of `{line}`", start + 1, start + 3))
}

fn atom(line: &str) -> Result<Atom<'_>, String> {
    let coordinate = |start: usize| line.get(start..start + 10)?.trim().parse::<f64>().ok();
    let parse = || {
        let at = [coordinate(0)?, coordinate(10)?, coordinate(20)?];
        Some(Atom { at, rest: line.get(30..)? })
    };
    parse().ok_or_else(|| format!("no atom in `{line}`"))
}

fn bond(line: &str, atoms: usize) -> Result<Bond<'_>, String> {
    let end = |start| match number(line, start)? {
        end if (1..=atoms).contains(&end) => Ok(end - 1),
        end => Err(format!("a bond of atom {end} (the record has {atoms})")),
    };
    let order = line.get(6..9).ok_or_else(|| format!("no bond in `{line}`"))?;
    Ok(Bond { ends: [end(0)?, end(3)?], order })
}

fn property(line: &str) -> Result<Property<'_>, String> {
    let pair = |index: usize| {
        let start = 10 + 8 * index;
        let atom = number(line, start)?.checked_sub(1).ok_or_else(|| format!("atom 0 in `{line}`"))?;
        let value = line.get(start + 4..start + 7).ok_or_else(|| format!("cut short: `{line}`"))?;
        Ok((atom, value))
    };
    let values = (0..number(line, 6)?).map(pair).collect::<Result<_, String>>()?;
    Ok(Property { kind: &line[..6], values })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acetate with all its hydrogens, of which a PDBQT has none, and its atoms as a torsion tree might order them.
    const ACETATE: &str = "acetate\n     RDKit          3D\n\n  7  6  0  0  0  0  0  0  0  0999 V2000
   -1.0000    0.0004    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.5000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    1.1000    1.1000    0.0000 O   0  0  0  0  0  0  0  0  0  0  0  0
    1.1000   -1.1000    0.0000 O   0  0  0  0  0  1  0  0  0  0  0  0
   -1.3000    1.0000    0.0000 H   0  0  0  0  0  0  0  0  0  0  0  0
   -1.3000   -0.5000    0.8000 H   0  0  0  0  0  0  0  0  0  0  0  0
   -1.3000   -0.5000   -0.8000 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0\n  2  3  2  0\n  2  4  1  1\n  1  5  1  0\n  1  6  1  0\n  1  7  1  0
M  CHG  1   4  -1\nM  END\n$$$$\n";
    const ORDER: [Point; 4] = [[1.1, -1.1, 0.0], [0.5, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.1, 1.1, 0.0]];

    #[test]
    fn a_pose_keeps_bonds_and_charges_of_what_was_docked() {
        let block = MolBlock::parse(ACETATE).unwrap();
        let matched = block.matched(&ORDER).unwrap();
        assert_eq!(matched, [3, 1, 0, 2]);
        let pose = [[40.1, 0.0, 0.0], [40.2, 0.0, 0.0], [40.3, 0.0, 0.0], [40.4, -1.5, 0.125]];
        let expect = "x\n  molfleet          3D\n
  4  3  0  0  0  0  0  0  0  0999 V2000
   40.3000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
   40.2000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
   40.4000   -1.5000    0.1250 O   0  0  0  0  0  0  0  0  0  0  0  0
   40.1000    0.0000    0.0000 O   0  0  0  0  0  1  0  0  0  0  0  0
  1  2  1  0\n  2  3  2  0\n  2  4  1  0\nM  CHG  1   4  -1\nM  END\n";
        assert_eq!(block.posed("x", &matched, &pose).unwrap(), expect);
        assert_eq!(block.posed("x", &matched, &pose[1..]).unwrap_err(), "the pose has 3 atoms (expected 4)");
    }

    #[test]
    fn atoms_that_do_not_belong_together_are_refused() {
        let block = MolBlock::parse(ACETATE).unwrap();
        let mut moved = ORDER;
        moved[1][0] += 0.01;
        assert_eq!(block.matched(&moved).unwrap_err(), "atom 2 of the PDBQT is not in the SDF");
        assert_eq!(block.matched(&ORDER[..3]).unwrap_err(), "atom 3 of the SDF is not in the PDBQT");
    }

    #[test]
    fn records_that_are_cut_or_inconsistent_are_refused() {
        let check = |text: &str, expect: &str| assert_eq!(MolBlock::parse(text).unwrap_err(), expect);
        check("", "no V2000 record");
        check(&ACETATE.replace("M  END", ""), "the record has no end");
        check(&ACETATE.replace("  2  4  1", "  2  8  1"), "a bond of atom 8 (the record has 7)");
        check(&ACETATE.replace("  4  -1", "  0  -1"), "atom 0 in `M  CHG  1   0  -1`");
    }

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_of_any_bytes_never_panics(
            at in any::<prop::sample::Index>(), inserted in prop_oneof![any::<String>(), "[-0-9. \nMENDCHG]{0,12}"], dropped in 0..40_usize,
            title in any::<String>(),
        ) {
            let at = ACETATE.floor_char_boundary(at.index(ACETATE.len()));
            let rest: String = ACETATE[at..].chars().skip(dropped).collect();
            for text in [format!("{}{inserted}{rest}", &ACETATE[..at]), inserted] {
                if let Ok(block) = MolBlock::parse(&text) && let Ok(matched) = block.matched(&ORDER) {
                    _ = block.posed(&title, &matched, &ORDER);
                }
                _ = super::super::pdbqt::models(&text);
                _ = super::super::pdbqt::atoms(text.lines());
            }
        }
    }
}
