//! Reads the report of gmx_MMPBSA. Pure; judges nothing.

use std::collections::HashMap;

/// How the section of differences begins.
const DELTA: &str = "Delta (Complex - Receptor - Ligand):";
/// How the complex' own section begins.
const COMPLEX: &str = "Complex:";
/// How a section's header begins.
const HEADER: &str = "Energy Component";
/// What stands before and after the number of frames.
const FRAMES: [&str; 2] = ["Calculations performed using ", " complex frames"];

/// The differences that become columns, with their names in the report, in its order.
pub(crate) const DELTA_TERMS: [(&str, &str); 11] = [
    ("delta_bond", "BOND"),
    ("delta_angle", "ANGLE"),
    ("delta_dihedral", "DIHED"),
    ("delta_vdw", "VDWAALS"),
    ("delta_electrostatic", "EEL"),
    ("delta_vdw_14", "1-4 VDW"),
    ("delta_electrostatic_14", "1-4 EEL"),
    ("delta_gb", "EGB"),
    ("delta_surface", "ESURF"),
    ("delta_gas", "GGAS"),
    ("delta_solvation", "GSOLV"),
];
/// The sum of all.
pub(crate) const TOTAL: &str = "TOTAL";

/// One energy with the program's own digits, in kcal/mol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// Mean over the frames.
    pub(crate) average: String,
    /// Standard deviation over the frames.
    pub(crate) sd: String,
    /// Standard error of the mean, as if frames were independent.
    pub(crate) sem: String,
}

/// What the report says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Energies {
    /// Frames that were evaluated.
    pub(crate) frames: u32,
    /// Terms of the complex by name.
    pub(crate) complex: HashMap<String, Term>,
    /// Terms of the difference by name, without the `Δ`.
    pub(crate) delta: HashMap<String, Term>,
}

/// Says what is missing in a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the report has no {0}")]
pub(crate) struct Missing(&'static str);

impl Energies {
    /// Reads `FINAL_RESULTS_MMPBSA.dat`.
    pub(crate) fn parse(text: &str) -> Result<Self, Missing> {
        let frames = text.lines().find_map(|line| {
            let (_, rest) = line.split_once(FRAMES[0])?;
            rest.split_once(FRAMES[1])?.0.trim().parse().ok()
        });
        Ok(Self {
            frames: frames.ok_or(Missing("number of frames"))?,
            complex: section(text, COMPLEX).ok_or(Missing("section of the complex"))?,
            delta: section(text, DELTA).ok_or(Missing("section of differences"))?,
        })
    }
}

/// The terms between a section's header and the next section.
fn section(text: &str, title: &str) -> Option<HashMap<String, Term>> {
    let mut lines = text.lines().skip_while(|line| line.trim() != title).skip(1);
    let header = lines.find_map(|line| line.trim().strip_prefix(HEADER))?;
    // Some columns have names of two words.
    let columns: Vec<&str> = header.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    let at = |name: &str| columns.iter().position(|column| *column == name);
    let [average, sd, sem] = [at("Average")?, at("SD")?, at("SEM")?];
    let term = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // A term's own name may have spaces.
        let (name, values) = words.split_at_checked(words.len().checked_sub(columns.len())?)?;
        let value = |at: usize| Some((*values.get(at)?).to_owned());
        let term = Term { average: value(average)?, sd: value(sd)?, sem: value(sem)? };
        let name = name.join(" ");
        (!name.is_empty()).then(|| (name.trim_start_matches('Δ').to_owned(), term))
    };
    Some(lines.take_while(|line| !line.trim().ends_with(':')).filter_map(term).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENZENE: &str = include_str!("../../../tests/golden/gmx_mmpbsa-1.7.1-t4l-benzene-10ps.dat");

    #[test]
    fn a_report_is_read_with_its_own_digits() {
        let energies = Energies::parse(BENZENE).unwrap();
        assert_eq!(energies.frames, 10);
        let total = &energies.delta["TOTAL"];
        assert_eq!(
            (total.average.as_str(), total.sd.is_empty(), total.sem.is_empty()),
            ("-14.88", false, false)
        );
        assert!(energies.delta.contains_key("1-4 VDW") && energies.complex.contains_key("BOND"));
        assert_eq!(energies.delta.len(), 12, "{:?}", energies.delta);
    }

    #[test]
    fn a_report_of_another_form_is_refused_by_name() {
        let check = |from: &str, to: &str, expect: &str| {
            assert!(BENZENE.contains(from), "{from}");
            let error = Energies::parse(&BENZENE.replace(from, to)).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        check("complex frames", "frames", "the report has no number of frames");
        check(COMPLEX, "Both:", "the report has no section of the complex");
        check("Delta (", "Difference (", "the report has no section of differences");
        check("SEM ", "S.E.M. ", "the report has no section of the complex");
        assert!(Energies::parse("").is_err());
    }
}
