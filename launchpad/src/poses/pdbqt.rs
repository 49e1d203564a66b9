//! Reads PDBQT: the atoms of a ligand, and the models of a docking. Fixed columns of the PDB. Pure.

/// What Vina writes before a pose's score.
const SCORE_REMARK: &str = "REMARK VINA RESULT:";

/// Cartesian coordinates in Å.
pub(super) type Point = [f64; 3];

/// One pose.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model<'a> {
    /// The engine's own digits; empty if there are none.
    pub(super) score: &'a str,
    /// What stands between `MODEL` and `ENDMDL`.
    pub(super) lines: Vec<&'a str>,
}

/// The models of a docking, best first, or what is wrong with the text.
pub(super) fn models(text: &str) -> Result<Vec<Model<'_>>, String> {
    let mut models = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in text.lines() {
        if line.starts_with("MODEL") {
            if open.replace(Vec::new()).is_some() {
                return Err(format!("model {} has no end", models.len() + 1));
            }
        } else if line.starts_with("ENDMDL") {
            let lines = open.take().ok_or_else(|| format!("model {} has no start", models.len() + 1))?;
            let score =
                lines.iter().find_map(|line| line.strip_prefix(SCORE_REMARK)?.split_whitespace().next());
            models.push(Model { score: score.unwrap_or_default(), lines });
        } else if let Some(lines) = &mut open {
            lines.push(line);
        }
    }
    if open.is_some() { Err(format!("model {} has no end", models.len() + 1)) } else { Ok(models) }
}

/// The coordinates of all atoms in their order, or the line that has none.
pub(super) fn atoms<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Vec<Point>, String> {
    let is_atom = |line: &&str| line.starts_with("ATOM") || line.starts_with("HETATM");
    let atoms = lines.filter(is_atom);
    atoms.map(|line| position(line).ok_or_else(|| format!("no finite coordinates in `{line}`"))).collect()
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

    #[test]
    fn the_models_of_real_output() {
        let models = models(TOLUENE).unwrap();
        assert_eq!(models.iter().map(|model| model.score).collect::<Vec<_>>(), ["-4.850", "-4.843"]);
        let second = atoms(models[1].lines.iter().copied()).unwrap();
        assert_eq!((second.len(), second[0]), (7, [43.096, 46.262, 16.693]));
    }

    #[test]
    fn what_was_cut_or_broken_is_named() {
        assert_eq!(models(&TOLUENE[..2000]).unwrap_err(), "model 2 has no end");
        assert_eq!(models(&TOLUENE.replacen("MODEL 1", "", 1)).unwrap_err(), "model 1 has no start");
        let broken = "ATOM      1  C   UNL     1      43.079     nan  16.712  0.00  0.00    +0.000 C ";
        assert!(atoms([broken].into_iter()).unwrap_err().starts_with("no finite coordinates in `ATOM"));
    }
}
