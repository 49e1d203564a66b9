//! Reads the parts of PDBQT files that a verdict needs: heavy atoms of receptors, scores and heavy atoms of docked poses.
//!
//! Pure. Knows the format (fixed columns of the PDB, atom type last) and nothing of what makes a pose good.

/// Cartesian coordinates in Å.
pub(crate) type Point = [f64; 3];

/// AutoDock's atom types of hydrogen.
const HYDROGEN_TYPES: [&str; 3] = ["H", "HD", "HS"];

/// What Vina writes before a pose's score.
const SCORE_REMARK: &str = "REMARK VINA RESULT:";

/// Says which line of a PDBQT file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PdbqtError {
    /// Coordinates are no numbers, or NaN or infinite.
    #[error("no finite coordinates in `{line}`")]
    Coordinates {
        /// The line.
        line: String,
    },
    /// A model starts before the last one ended, or the file ends within one.
    #[error("model {model} has no end: the file was cut short")]
    CutShort {
        /// Counted from 1.
        model: usize,
    },
}

/// What is judged of the poses of one ligand, best first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Poses {
    /// How many there are.
    pub(crate) count: usize,
    /// The first pose's score with the engine's own digits; empty when it has none.
    pub(crate) score: String,
    /// The first pose's heavy atoms, or why they can't be read.
    pub(crate) heavy_atoms: Result<Vec<Point>, String>,
}

/// The heavy atoms of a structure without models.
pub(crate) fn heavy_atoms(text: &str) -> Result<Vec<Point>, PdbqtError> {
    heavy_atoms_of(text.lines())
}

/// The poses in an output file of Vina; a file without any has the count 0.
pub(crate) fn poses(text: &str) -> Result<Poses, PdbqtError> {
    let mut count = 0;
    let mut inside = false;
    let mut best = Vec::new();
    for line in text.lines() {
        if line.starts_with("MODEL") {
            if inside {
                return Err(PdbqtError::CutShort { model: count });
            }
            (inside, count) = (true, count + 1);
        } else if line.starts_with("ENDMDL") {
            inside = false;
        } else if count == 1 && inside {
            best.push(line);
        }
    }
    if inside {
        return Err(PdbqtError::CutShort { model: count });
    }
    let score = best.iter().find_map(|line| line.strip_prefix(SCORE_REMARK)?.split_whitespace().next());
    Ok(Poses {
        count,
        score: score.unwrap_or_default().to_owned(),
        heavy_atoms: heavy_atoms_of(best.iter().copied()).map_err(|error| error.to_string()),
    })
}

fn heavy_atoms_of<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Point>, PdbqtError> {
    heavy_atoms_but(lines, |line| {
        line.split_whitespace().next_back().is_some_and(|kind| HYDROGEN_TYPES.contains(&kind))
    })
}

/// All atoms but those that a format has as hydrogens.
pub(crate) fn heavy_atoms_but<'a>(
    lines: impl Iterator<Item = &'a str>,
    is_hydrogen: fn(&str) -> bool,
) -> Result<Vec<Point>, PdbqtError> {
    lines
        .filter(|line| line.starts_with("ATOM") || line.starts_with("HETATM"))
        .filter(|line| !is_hydrogen(line))
        .map(|line| position(line).ok_or_else(|| PdbqtError::Coordinates { line: line.to_owned() }))
        .collect()
}

/// x, y and z stand in columns 31–38, 39–46 and 47–54.
fn position(line: &str) -> Option<Point> {
    let coordinate = |start: usize| {
        let number: f64 = line.get(start..start + 8)?.trim().parse().ok()?;
        number.is_finite().then_some(number)
    };
    Some([coordinate(30)?, coordinate(38)?, coordinate(46)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLUENE: &str = include_str!("../../../tests/golden/vina-1.2.3-toluene.pdbqt");
    const CAVITY: &str = include_str!("../../../tests/golden/openbabel-3.1.1-t4l-l99a-cavity.pdbqt");

    #[test]
    fn the_best_pose_of_real_output() {
        let poses = poses(TOLUENE).unwrap();
        assert_eq!((poses.count, poses.score.as_str()), (2, "-4.850"));
        let atoms = poses.heavy_atoms.unwrap();
        assert_eq!(atoms.len(), 7, "toluene has 7 heavy atoms");
        let first = TOLUENE.lines().find(|line| line.starts_with("ATOM")).unwrap();
        assert!(first.contains(&format!("{:8.3}{:8.3}{:8.3}", atoms[0][0], atoms[0][1], atoms[0][2])));
    }

    #[test]
    fn hydrogens_do_not_count() {
        let all = CAVITY.lines().filter(|line| line.starts_with("ATOM")).count();
        let hydrogens = CAVITY.lines().filter(|line| line.trim_end().ends_with("HD")).count();
        assert!(hydrogens > 0);
        assert_eq!(heavy_atoms(CAVITY).unwrap().len(), all - hydrogens);
    }

    #[test]
    fn a_file_cut_short_is_named() {
        let cut = &TOLUENE[..TOLUENE.rfind("ENDROOT").unwrap()];
        assert_eq!(poses(cut), Err(PdbqtError::CutShort { model: 2 }));
        let doubled = TOLUENE.replacen("ENDMDL", "", 1);
        assert_eq!(poses(&doubled), Err(PdbqtError::CutShort { model: 1 }));
    }

    #[test]
    fn files_without_poses_have_none() {
        let check = |text: &str| {
            let poses = poses(text).unwrap();
            assert_eq!((poses.count, poses.score.as_str()), (0, ""));
        };
        check("");
        check("REMARK VINA RESULT:    -4.850      0.000      0.000\n");
    }

    #[test]
    fn coordinates_must_be_finite_numbers() {
        let line = "ATOM      1  C   UNL     1         nan  44.585  18.477  0.00  0.00    +0.000 A ";
        assert_eq!(heavy_atoms(line), Err(PdbqtError::Coordinates { line: line.into() }));
        assert!(heavy_atoms("ATOM      1  C   UNL     1      41.2").is_err());
    }
}
