//! Reads what a verdict needs of an SDF of poses: tags and heavy atoms of the best one, and how many there are.
//!
//! Pure. Knows the format (V2000, Dalby et al. 1992, doi:10.1021/ci00007a012) and nothing of what makes a pose good.

use super::pdbqt::Point;

/// What ends a record.
const RECORD_END: &str = "$$$$";

/// Says what is wrong with an SDF of poses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoseSdfError {
    /// The file ends within a record.
    #[error("record {record} has no end: the file was cut short")]
    CutShort {
        /// Counted from 1.
        record: usize,
    },
    /// A record without a readable table of atoms.
    #[error("no V2000 table of atoms")]
    NoAtoms,
    /// Coordinates are no numbers, or NaN or infinite.
    #[error("no finite coordinates in `{line}`")]
    Coordinates {
        /// The line.
        line: String,
    },
}

/// The poses of one ligand, the one that the engine ranks best first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PosesSdf<'a> {
    /// How many there are.
    pub(crate) count: usize,
    /// The first one's heavy atoms, or why they can't be read.
    pub(crate) heavy_atoms: Result<Vec<Point>, PoseSdfError>,
    /// The first one's lines.
    best: Vec<&'a str>,
}

impl<'a> PosesSdf<'a> {
    /// Reads a file; one without any record has the count 0.
    pub(crate) fn parse(text: &'a str) -> Result<Self, PoseSdfError> {
        let (mut count, mut begun) = (0, false);
        let mut best = Vec::new();
        for line in text.lines() {
            if line.trim_end() == RECORD_END {
                (count, begun) = (count + 1, false);
                continue;
            }
            begun |= !line.trim().is_empty();
            if count == 0 {
                best.push(line);
            }
        }
        if begun {
            return Err(PoseSdfError::CutShort { record: count + 1 });
        }
        Ok(Self { count, heavy_atoms: heavy_atoms(&best), best })
    }

    /// The value of a tag of the first pose; empty if it has none.
    pub(crate) fn tag(&self, name: &str) -> &'a str {
        let is_it = |line: &&&str| line.starts_with('>') && tag_name(line) == Some(name);
        let mut lines = self.best.iter();
        match lines.by_ref().find(is_it) {
            Some(_) => lines.next().map_or("", |value| value.trim()),
            None => "",
        }
    }
}

/// `>  <name>`, with whatever a program writes round it.
fn tag_name(line: &str) -> Option<&str> {
    line.split_once('<')?.1.split_once('>').map(|(name, _)| name)
}

/// The fourth line counts the atoms in its first three columns.
fn heavy_atoms(record: &[&str]) -> Result<Vec<Point>, PoseSdfError> {
    let counts = record.get(3).filter(|counts| counts.contains("V2000")).ok_or(PoseSdfError::NoAtoms)?;
    let atoms = counts.get(..3).and_then(|atoms| atoms.trim().parse().ok()).ok_or(PoseSdfError::NoAtoms)?;
    let lines = record.get(4..).and_then(|lines| lines.get(..atoms)).ok_or(PoseSdfError::NoAtoms)?;
    let heavy = lines.iter().filter(|line| !is_hydrogen(line));
    heavy
        .map(|line| position(line).ok_or_else(|| PoseSdfError::Coordinates { line: (*line).to_owned() }))
        .collect()
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
        assert_eq!(poses.count, 2);
        assert_eq!((poses.tag("minimizedAffinity"), poses.tag("CNNscore")), ("-4.91046", "0.7882226706"));
        assert_eq!(poses.tag("CNN"), "", "no part of a name");
        let atoms = poses.heavy_atoms.unwrap();
        assert_eq!((atoms.len(), atoms[0]), (7, [43.18, 46.261, 16.747]), "toluene has 7 heavy atoms");
    }

    #[test]
    fn tags_are_found_as_every_program_writes_them() {
        let tag = |line: &str| {
            let text = format!("x\n\n\n  0  0  0 V2000\nM  END\n{line}\n 1.5 \n\n$$$$\n");
            PosesSdf::parse(&text).unwrap().tag("CNN_VS").to_owned()
        };
        for line in ["> <CNN_VS>", ">  <CNN_VS>", ">  <CNN_VS>  (1) ", ">25 <CNN_VS>"] {
            assert_eq!(tag(line), "1.5", "{line}");
        }
        for line in ["<CNN_VS>", "> CNN_VS", "> <CNN_VS", "> <cnn_vs>"] {
            assert_eq!(tag(line), "", "{line}");
        }
    }

    #[test]
    fn what_is_cut_or_broken_is_named() {
        let cut = &TOLUENE[..TOLUENE.rfind("$$$$").unwrap()];
        assert_eq!(PosesSdf::parse(cut), Err(PoseSdfError::CutShort { record: 2 }));
        let atoms = |text: &str| PosesSdf::parse(text).unwrap().heavy_atoms.unwrap_err();
        assert_eq!(atoms(&TOLUENE.replacen("V2000", "V3000", 1)), PoseSdfError::NoAtoms);
        assert_eq!(atoms(&TOLUENE.replacen(" 15 15", "999 15", 1)), PoseSdfError::NoAtoms);
        assert!(matches!(
            atoms(&TOLUENE.replacen("   43.1800", "       nan", 1)),
            PoseSdfError::Coordinates { .. }
        ));
        assert_eq!(PosesSdf::parse("").unwrap().count, 0);
    }
}
