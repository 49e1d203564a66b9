//! The receptor of a docking run: which file the engine reads, how it is made, and whether it is one.
//!
//! Reads shared inputs, writes nothing, spawns nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::excerpt::excerpt;
use common::pdbqt::untyped_atom;
use common::task::RunSpec;

use super::pdbqt::{self, PdbqtError, Point};
use super::reason::failure;
use super::{EngineFailure, Preparation, Step};

/// Role of the user's file.
const GIVEN: &str = "receptor";
/// Role of the PDBQT made from it.
const CONVERTED: &str = "receptor_pdbqt";

/// A file with fewer hydrogens than this share of its heavy atoms has none to speak of: a protein's polar hydrogens alone
/// are a quarter of them.
const HYDROGEN_SHARE_MIN: f64 = 0.1;

/// The receptor as the engine reads it.
#[derive(Debug)]
pub(crate) struct Receptor {
    /// The PDBQT file.
    pub(crate) path: PathBuf,
    /// Its heavy atoms, one at least.
    pub(crate) heavy_atoms: Vec<Point>,
}

impl Receptor {
    /// Finds the PDBQT file among the shared inputs and reads it.
    ///
    /// Open Babel exits 0 after it made an empty file of an unreadable receptor, and Vina exits 0 after docking into an empty
    /// one, so nothing but the atoms counts.
    pub(crate) fn read(spec: &RunSpec, shared: &BTreeMap<String, PathBuf>) -> Result<Self, EngineFailure> {
        let role = if is_pdbqt(spec) { GIVEN } else { CONVERTED };
        Self::of_role(role, spec, shared, pdbqt::heavy_atoms)
    }

    /// The user's file, for an engine that reads PDB by itself.
    pub(crate) fn as_given(
        spec: &RunSpec,
        shared: &BTreeMap<String, PathBuf>,
    ) -> Result<Self, EngineFailure> {
        let read = if is_pdbqt(spec) { pdbqt::heavy_atoms } else { heavy_atoms_of_pdb };
        Self::of_role(GIVEN, spec, shared, read)
    }

    fn of_role(
        role: &str,
        spec: &RunSpec,
        shared: &BTreeMap<String, PathBuf>,
        heavy_atoms: fn(&str) -> Result<Vec<Point>, PdbqtError>,
    ) -> Result<Self, EngineFailure> {
        let path = shared.get(role).ok_or_else(|| EngineFailure {
            reason: failure::INPUT_MISSING,
            detail: format!("the run has no input `{role}`"),
        })?;
        let refuse = |reason, detail: String| EngineFailure {
            reason,
            detail: format!("the receptor `{}` {detail}", file_name(spec)),
        };
        let invalid = |detail| refuse(failure::RECEPTOR_INVALID, detail);
        let bytes = std::fs::read(path).map_err(|error| invalid(format!("is not readable ({error})")))?;
        // Remarks may be in any encoding, atoms are ASCII.
        let text = String::from_utf8_lossy(&bytes);
        let heavy_atoms = heavy_atoms(&text).map_err(|error| invalid(format!("has {error}")))?;
        if heavy_atoms.is_empty() {
            return Err(invalid("has no atoms (is it a PDB file with ATOM records?)".into()));
        }
        if let Some((number, line)) = untyped_atom(&text).filter(|_| is_pdbqt(spec)) {
            let line = excerpt(line.trim_end());
            let detail = format!(
                "has no partial charge and AutoDock type in line {number}, `{line}` (is it a PDB file?)"
            );
            return Err(refuse(failure::RECEPTOR_NOT_PDBQT, detail));
        }
        Ok(Self { path: path.clone(), heavy_atoms })
    }
}

/// The conversion of a PDB file to PDBQT; a PDBQT file is used as it is.
///
/// A file with hydrogens keeps its protonation. Only one without gets hydrogens, for pH 7.4: on a protonated one, Open
/// Babel 3.1.1 adds a superfluous hydrogen in a random direction to every lysine and arginine, and the scores differ
/// from host to host.
pub(crate) fn preparation(spec: &RunSpec, shared: &BTreeMap<String, PathBuf>) -> Option<Preparation> {
    if is_pdbqt(spec) {
        return None;
    }
    let given = shared.get(GIVEN)?;
    let output = "receptor.pdbqt";
    let mut options = vec!["-opdbqt", "-O", output, "-xr"];
    if !has_hydrogens(given) {
        options.extend(["-p", "7.4"]);
    }
    let recipe = format!("obabel -ipdb {}", options.join(" "));
    let mut argv = vec!["obabel".to_owned(), "-ipdb".to_owned(), format!("input/{}", file_name(spec))];
    argv.extend(options.into_iter().map(str::to_owned));
    Some(Preparation {
        role: CONVERTED.to_owned(),
        from: GIVEN.to_owned(),
        recipe,
        step: Step { name: "receptor".to_owned(), argv, needs: Vec::new() },
        output: PathBuf::from(output),
    })
}

fn file_name(spec: &RunSpec) -> &str {
    spec.inputs.get(GIVEN).map_or("", |object| object.file_name())
}

fn is_pdbqt(spec: &RunSpec) -> bool {
    Path::new(file_name(spec)).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pdbqt"))
}

/// Whether a PDB file comes with its hydrogens. An unreadable file has none: its conversion will fail with a reason.
fn has_hydrogens(path: &Path) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let atoms = text.lines().filter(|line| line.starts_with("ATOM") || line.starts_with("HETATM"));
    let (hydrogens, heavy): (Vec<_>, Vec<_>) = atoms.partition(|line| is_hydrogen(line));
    hydrogens.len() as f64 > HYDROGEN_SHARE_MIN * heavy.len() as f64
}

/// The heavy atoms of a PDB file, whose coordinates stand where those of PDBQT do.
fn heavy_atoms_of_pdb(text: &str) -> Result<Vec<Point>, PdbqtError> {
    pdbqt::heavy_atoms_but(text.lines(), is_hydrogen)
}

/// By the element in columns 77–78; many files have none, then by the atom name in columns 13–16, whose element ends in
/// column 14 unless the name has four characters (` HG ` and `1HB2` are hydrogens, `HG  ` is mercury).
pub(super) fn is_hydrogen(line: &str) -> bool {
    match line.get(76..78).map(str::trim) {
        Some(element) if !element.is_empty() => matches!(element, "H" | "D"),
        _ => {
            let name = line.get(12..16).unwrap_or_default();
            let element = if name.trim().len() == 4 {
                name.trim_start_matches(|letter: char| letter.is_ascii_digit())
            } else {
                name.get(1..).unwrap_or_default()
            };
            element.starts_with(['H', 'D'])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hydrogens_are_told_from_mercury_and_carbon() {
        let check = |line: &str, expect| assert_eq!(is_hydrogen(line), expect, "{line}");
        check("ATOM      2  H1  MET     1      58.699  35.066  25.237", true);
        check("ATOM      2 HH11 ARG     1      58.699  35.066  25.237", true);
        check("ATOM      2 1HB2 MET     1      58.699  35.066  25.237", true);
        check("ATOM      1  N   MET     1      59.470  35.630  24.910", false);
        check("ATOM      1  CH2 TRP     1      59.470  35.630  24.910", false);
        check("HETATM    1 HG    HG     1      59.470  35.630  24.910", false);
        check("HETATM    1 HG    HG     1      59.470  35.630  24.910  1.00  0.00          HG  ", false);
        check("ATOM      2  HB2 MET     1      58.699  35.066  25.237  1.00  0.00           H  ", true);
        check("ATOM      2 2HB  MET     1      58.699  35.066  25.237", true);
        check("ATOM      2 ÅB  MET", false);
    }
}
