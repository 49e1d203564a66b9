//! What a run of the engine `gromacs-mmgbsa` computes: how ligands are charged, in what and how long the dynamics are, how many frames
//! count. Pure.

use serde::{Deserialize, Serialize};

/// The length of one step of the dynamics, in fs. The driver has the same.
const STEP_FS: u64 = 2;
/// The longest dynamics, in ps.
const PS_MAX: f64 = 1e6; // 1 µs
/// A task of more molecules would save nothing, and lose much to a machine that vanishes.
pub const MMGBSA_BATCH_MAX: u64 = 10;

/// Parameters of the engine `gromacs-mmgbsa`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmgbsaOptions {
    /// Where the ligand's partial charges come from.
    pub charges: ChargeModel,
    /// Length of the dynamics in ps, a multiple of 0.002, above 0.
    pub md_ps: f64,
    /// How many frames of it are evaluated, evenly spaced, from 1.
    pub frames: u32,
    /// What is round the complex in the dynamics.
    #[serde(default)]
    pub solvent: Solvent,
    /// How long water finds its place and density before the dynamics, in ps, a multiple of 0.002 above 0; 0 without water.
    #[serde(default)]
    pub equilibration_ps: f64,
}

/// What is round a complex in its dynamics. Energies are taken in implicit solvent either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Solvent {
    /// Nothing, but a permittivity that softens charges: quick.
    #[default]
    Vacuum,
    /// A box of TIP3P water with the ions that make it neutral.
    Tip3p,
}

impl Solvent {
    /// Its name in flags, results and drivers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vacuum => "vacuum",
            Self::Tip3p => "tip3p",
        }
    }
}

/// A model of partial charges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChargeModel {
    /// Semi-empirical AM1 with bond charge corrections: what GAFF2 was made with. Takes minutes for large ligands.
    #[default]
    Am1Bcc,
    /// Gasteiger's electronegativity equalisation: quick, and rough.
    Gasteiger,
}

impl ChargeModel {
    /// Its name in flags and results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Am1Bcc => "am1-bcc",
            Self::Gasteiger => "gasteiger",
        }
    }

    /// What acpype calls it.
    pub const fn acpype(self) -> &'static str {
        match self {
            Self::Am1Bcc => "bcc",
            Self::Gasteiger => "gas",
        }
    }
}

/// Says why the parameters of `gromacs-mmgbsa` can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MmgbsaError {
    /// No length that dynamics can have.
    #[error("md_ps is {found} (expected a multiple of 0.002 above 0, {PS_MAX} at most)")]
    Length {
        /// The length, in ps.
        found: f64,
    },
    /// Frames that can't be evenly spaced.
    #[error(
        "frames is {frames} (expected a divisor of the {steps} steps of 0.002 ps that md_ps {md_ps} has)"
    )]
    Frames {
        /// How many frames.
        frames: u32,
        /// How many steps.
        steps: u64,
        /// The length, in ps.
        md_ps: f64,
    },
    /// No length that an equilibration can have, or one without water.
    #[error("equilibration_ps is {found} (expected {expected} for solvent {})", solvent.name())]
    Equilibration {
        /// The length, in ps.
        found: f64,
        /// What it may be.
        expected: &'static str,
        /// The solvent.
        solvent: Solvent,
    },
    /// There is no default driver on a worker.
    #[error("the run has no driver")]
    NoDriver,
}

impl MmgbsaOptions {
    /// The steps of the dynamics; 0 if the length can't be one.
    pub fn md_steps(&self) -> u64 {
        whole_steps(self.md_ps)
    }

    /// The steps of the equilibration; 0 if there is none or the length can't be one.
    pub fn equilibration_steps(&self) -> u64 {
        whole_steps(self.equilibration_ps)
    }

    /// Checks each parameter and their relation.
    pub fn validate(&self, has_driver: bool) -> Result<(), MmgbsaError> {
        let (frames, md_ps, steps) = (self.frames, self.md_ps, self.md_steps());
        if steps == 0 {
            return Err(MmgbsaError::Length { found: md_ps });
        }
        if frames == 0 || !steps.is_multiple_of(u64::from(frames)) {
            return Err(MmgbsaError::Frames { frames, steps, md_ps });
        }
        let (solvent, found) = (self.solvent, self.equilibration_ps);
        let (is_well, expected) = match solvent {
            Solvent::Vacuum => (found == 0.0, "0"),
            Solvent::Tip3p => (self.equilibration_steps() > 0, "a multiple of 0.002 above 0"),
        };
        if !is_well {
            return Err(MmgbsaError::Equilibration { found, expected, solvent });
        }
        if has_driver { Ok(()) } else { Err(MmgbsaError::NoDriver) }
    }
}

/// The steps of dynamics of a length in ps; 0 if it can't be one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a length out of range becomes 0 first, and one in range has 500 million steps at most"
)]
pub(super) fn whole_steps(ps: f64) -> u64 {
    if !(ps > 0.0 && ps <= PS_MAX) {
        return 0;
    }
    let steps = ps * 1000.0 / STEP_FS as f64;
    let is_whole = (steps - steps.round()).abs() < 1e-6;
    if is_whole { steps.round() as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(md_ps: f64, frames: u32) -> MmgbsaOptions {
        let charges = ChargeModel::default();
        MmgbsaOptions { charges, md_ps, frames, solvent: Solvent::Vacuum, equilibration_ps: 0.0 }
    }

    #[test]
    fn a_length_is_a_whole_number_of_steps() {
        let check = |md_ps, steps| assert_eq!(options(md_ps, 1).md_steps(), steps, "{md_ps}");
        check(1.0, 500);
        check(0.002, 1);
        check(12.346, 6173);
        check(1e6, 500_000_000);
        for wrong in [0.0, -1.0, 0.001, 0.003, 1e-12, 1e7, f64::NAN, f64::INFINITY] {
            check(wrong, 0);
            assert!(matches!(options(wrong, 1).validate(true), Err(MmgbsaError::Length { .. })));
        }
    }

    #[test]
    fn frames_are_evenly_spaced() {
        assert_eq!(options(10.0, 10).validate(true), Ok(()));
        assert_eq!(options(1.0, 500).validate(true), Ok(()));
        for frames in [0, 3, 501] {
            assert!(matches!(options(1.0, frames).validate(true), Err(MmgbsaError::Frames { .. })));
        }
        assert_eq!(
            options(1.0, 3).validate(true).unwrap_err().to_string(),
            "frames is 3 (expected a divisor of the 500 steps of 0.002 ps that md_ps 1 has)"
        );
        assert_eq!(options(1.0, 1).validate(false), Err(MmgbsaError::NoDriver));
    }

    #[test]
    fn water_and_nothing_else_is_equilibrated() {
        let check = |solvent, equilibration_ps, expect: &str| {
            let checked = MmgbsaOptions { solvent, equilibration_ps, ..options(1.0, 1) }.validate(true);
            assert_eq!(checked.map_err(|error| error.to_string()).err().unwrap_or_default(), expect);
        };
        check(Solvent::Vacuum, 0.0, "");
        check(Solvent::Tip3p, 20.0, "");
        check(Solvent::Vacuum, 1.0, "equilibration_ps is 1 (expected 0 for solvent vacuum)");
        for wrong in [0.0, -1.0, 0.001] {
            let expect = format!(
                "equilibration_ps is {wrong} (expected a multiple of 0.002 above 0 for solvent tip3p)"
            );
            check(Solvent::Tip3p, wrong, &expect);
        }
    }
}
