//! The stable short words by which molecules are refused, attempts fail and preparations are remarked on.
//!
//! `docs/science.md` explains each to chemists; a test holds this list and its tables against each other.

/// Why a docked molecule has no usable score. Reasons of the preparation come from its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Open Babel made no PDBQT of it, or one with other atoms.
    LigandConversionFailed,
    /// Vina read its PDBQT and refused it.
    EngineRejected,
    /// Vina found no pose.
    NoPose,
    /// The best pose's coordinates are no finite numbers, or of other atoms.
    PoseUnreadable,
    /// The best pose's score is no finite number.
    ScoreNotFinite,
    /// The best pose lies outside the search box.
    OutsideBox,
    /// The best pose does not touch the receptor.
    NoContact,
    /// The score is no binding score.
    ScoreOutOfRange,
}

impl Reason {
    /// The word in the shard.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::LigandConversionFailed => "ligand_conversion_failed",
            Self::EngineRejected => "engine_rejected",
            Self::NoPose => "no_pose",
            Self::PoseUnreadable => "pose_unreadable",
            Self::ScoreNotFinite => "score_not_finite",
            Self::OutsideBox => "outside_box",
            Self::NoContact => "no_contact",
            Self::ScoreOutOfRange => "score_out_of_range",
        }
    }
}

/// A molecule without a usable score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) reason: Reason,
    /// One sentence with the evidence.
    pub(crate) detail: String,
}

/// Why a row of a command can't be used. Drivers name reasons of their own, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowReason {
    /// The program ended well and wrote no row for the molecule.
    NoRow,
    /// Several rows have its id.
    DuplicateRow,
    /// The row's verdict or reason is no such word.
    VerdictInvalid,
    /// A column of numbers is empty.
    ValueMissing,
    /// A column of numbers holds something else, or no finite number.
    ValueNotFinite,
    /// A value lies outside the plausible range of its column.
    OutOfRange,
    /// The preparation's structure is no geometry for quantum chemistry.
    GeometryUnreadable,
    /// The atoms have no such number of unpaired electrons.
    MultiplicityImpossible,
    /// A server says that it can't compute the molecule.
    ServerRefused,
}

impl RowReason {
    /// The word in the shard.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoRow => "no_row",
            Self::DuplicateRow => "duplicate_row",
            Self::VerdictInvalid => "verdict_invalid",
            Self::ValueMissing => "value_missing",
            Self::ValueNotFinite => "value_not_finite",
            Self::OutOfRange => "out_of_range",
            Self::GeometryUnreadable => "geometry_unreadable",
            Self::MultiplicityImpossible => "multiplicity_impossible",
            Self::ServerRefused => "server_refused",
        }
    }
}

/// Why a complex has no usable free energy. Other reasons come from the driver, which shares those of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ComplexReason {
    /// No parameters for the ligand.
    ParametersFailed,
    /// Ligand and receptor could not be joined.
    ComplexFailed,
    /// No minimised structure.
    MinimisationFailed,
    /// No equilibrated water.
    EquilibrationFailed,
    /// The dynamics have no end.
    DynamicsFailed,
    /// No trajectory with whole molecules.
    TrajectoryFailed,
    /// No energies, or in an unknown form.
    EnergiesFailed,
    /// The pose that was given does not touch the receptor.
    NoContact,
    /// The radii are not those of the solvent's model.
    RadiiMismatch,
    /// Fewer or more frames than asked for.
    FramesMissing,
    /// An energy term is no finite number.
    TermNotFinite,
    /// The bonds of the complex are stretched beyond reason.
    ComplexBroken,
    /// The difference is nothing.
    NoInteraction,
    /// The ligand is elsewhere in the end.
    LeftPocket,
    /// The difference is no free energy of binding.
    EnergyOutOfRange,
}

impl ComplexReason {
    /// The word in the shard.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ParametersFailed => "parameters_failed",
            Self::ComplexFailed => "complex_failed",
            Self::MinimisationFailed => "minimisation_failed",
            Self::EquilibrationFailed => "equilibration_failed",
            Self::DynamicsFailed => "dynamics_failed",
            Self::TrajectoryFailed => "trajectory_failed",
            Self::EnergiesFailed => "energies_failed",
            Self::NoContact => "no_contact",
            Self::RadiiMismatch => "radii_mismatch",
            Self::FramesMissing => "frames_missing",
            Self::TermNotFinite => "term_not_finite",
            Self::ComplexBroken => "complex_broken",
            Self::NoInteraction => "no_interaction",
            Self::LeftPocket => "left_pocket",
            Self::EnergyOutOfRange => "energy_out_of_range",
        }
    }
}

/// Why a molecule has no usable free energy of hydration, or a window no samples. Other reasons come from the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FepReason {
    /// No parameters for the molecule.
    ParametersFailed,
    /// No box of water round it.
    SolvationFailed,
    /// No minimised structure.
    MinimisationFailed,
    /// No equilibrated box.
    EquilibrationFailed,
    /// The energy file can't be read back.
    EnergiesFailed,
    /// Fewer or other samples than asked for.
    SamplesMissing,
    /// A sample is no finite number.
    SampleNotFinite,
    /// The samples are of another window.
    WrongWindow,
    /// The windows did not start from the same box.
    SetupsDiffer,
    /// No free energy, or in an unknown form.
    ReductionFailed,
    /// The free energy or its error is no finite number.
    ResultNotFinite,
    /// Two neighbouring windows have too little in common.
    OverlapTooSmall,
    /// The difference is no free energy of hydration.
    EnergyOutOfRange,
}

impl FepReason {
    /// The word in the shard.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ParametersFailed => "parameters_failed",
            Self::SolvationFailed => "solvation_failed",
            Self::MinimisationFailed => "minimisation_failed",
            Self::EquilibrationFailed => "equilibration_failed",
            Self::EnergiesFailed => "energies_failed",
            Self::SamplesMissing => "samples_missing",
            Self::SampleNotFinite => "sample_not_finite",
            Self::WrongWindow => "wrong_window",
            Self::SetupsDiffer => "setups_differ",
            Self::ReductionFailed => "reduction_failed",
            Self::ResultNotFinite => "result_not_finite",
            Self::OverlapTooSmall => "overlap_too_small",
            Self::EnergyOutOfRange => "energy_out_of_range",
        }
    }
}

/// Why a formula has no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamReason {
    /// Its text is no formula.
    FormulaInvalid,
    /// The program says so.
    FormulaRefused,
}

impl StreamReason {
    /// The word in the shard.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FormulaInvalid => "formula_invalid",
            Self::FormulaRefused => "formula_refused",
        }
    }
}

/// Why there is no verdict on a molecule, or on any.
pub(crate) mod failure {
    /// A simulation stopped before its last step, whatever its exit code.
    pub(crate) const CUT_SHORT: &str = "cut_short";
    /// A program was ended by a signal that was not ours.
    pub(crate) const ENGINE_CRASHED: &str = "engine_crashed";
    /// A program ended by itself with an error that is not about a molecule.
    pub(crate) const ENGINE_FAILED: &str = "engine_failed";
    /// A driver says by exit 65 that its input is bad.
    pub(crate) const INPUT_REFUSED: &str = "input_refused";
    /// The program that a stream is filtered by crashed, ran out of time, failed for every batch, or answered with lines that it was
    /// not given.
    pub(crate) const FILTER_FAILED: &str = "filter_failed";
    /// The run lacks a receptor or the preparation's driver.
    pub(crate) const INPUT_MISSING: &str = "input_missing";
    /// A program broke down before it came to the molecule.
    pub(crate) const NOT_TRIED: &str = "not_tried";
    /// A program says that it succeeded and its output is not there: a full or broken disk.
    pub(crate) const OUTPUT_LOST: &str = "output_lost";
    /// A file that the run expects is not there, or empty.
    pub(crate) const OUTPUT_MISSING: &str = "output_missing";
    /// The preparation's driver broke off.
    pub(crate) const PREPARE_FAILED: &str = "prepare_failed";
    /// The receptor has no atoms, or a program refuses it.
    pub(crate) const RECEPTOR_INVALID: &str = "receptor_invalid";
    /// The receptor is called PDBQT, and its atoms have no charge or no AutoDock type in their places.
    pub(crate) const RECEPTOR_NOT_PDBQT: &str = "receptor_not_pdbqt";
    /// The file of rows is missing or has not the declared columns.
    pub(crate) const ROWS_INVALID: &str = "rows_invalid";
    /// No server of the engine could be asked.
    pub(crate) const SERVER_AWAY: &str = "server_away";
    /// Servers that were well crashed over a molecule, several times in a row or in several attempts.
    pub(crate) const SERVER_CRASHED: &str = "server_crashed";
    /// A server crashed over a molecule, or over several, and none could be asked since.
    pub(crate) const SERVER_LOST: &str = "server_lost";
    /// The attempt was stopped.
    pub(crate) const STOPPED: &str = "stopped";
    /// A simulation was gone on with on another number of threads.
    pub(crate) const THREADS_CHANGED: &str = "threads_changed";
    /// The stream of structures ends within a line, or has another number of lines than its program tells.
    pub(crate) const STREAM_TRUNCATED: &str = "stream_truncated";
    /// A program ended its stream of structures and did not tell how many it wrote.
    pub(crate) const TOTAL_MISSING: &str = "total_missing";
    /// A program ran longer than it may.
    pub(crate) const TIME_LIMIT: &str = "time_limit";
    /// A driver asks by exit 75 for another try: something around it is not there.
    pub(crate) const TRY_AGAIN: &str = "try_again";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SCIENCE: &str = include_str!("../../../docs/science.md");
    const DRIVER: &str = include_str!("../../../drivers/vina_prepare.py");
    const FEP_DRIVER: &str = include_str!("../../../drivers/gromacs_fep.py");
    const MMGBSA_DRIVER: &str = include_str!("../../../drivers/gromacs_mmgbsa.py");

    const REASONS: [Reason; 8] = [
        Reason::LigandConversionFailed,
        Reason::EngineRejected,
        Reason::NoPose,
        Reason::PoseUnreadable,
        Reason::ScoreNotFinite,
        Reason::OutsideBox,
        Reason::NoContact,
        Reason::ScoreOutOfRange,
    ];
    const COMPLEX_REASONS: [ComplexReason; 15] = [
        ComplexReason::ParametersFailed,
        ComplexReason::ComplexFailed,
        ComplexReason::MinimisationFailed,
        ComplexReason::EquilibrationFailed,
        ComplexReason::DynamicsFailed,
        ComplexReason::TrajectoryFailed,
        ComplexReason::EnergiesFailed,
        ComplexReason::NoContact,
        ComplexReason::RadiiMismatch,
        ComplexReason::FramesMissing,
        ComplexReason::TermNotFinite,
        ComplexReason::ComplexBroken,
        ComplexReason::NoInteraction,
        ComplexReason::LeftPocket,
        ComplexReason::EnergyOutOfRange,
    ];
    const FEP_REASONS: [FepReason; 13] = [
        FepReason::ParametersFailed,
        FepReason::SolvationFailed,
        FepReason::MinimisationFailed,
        FepReason::EquilibrationFailed,
        FepReason::EnergiesFailed,
        FepReason::SamplesMissing,
        FepReason::SampleNotFinite,
        FepReason::WrongWindow,
        FepReason::SetupsDiffer,
        FepReason::ReductionFailed,
        FepReason::ResultNotFinite,
        FepReason::OverlapTooSmall,
        FepReason::EnergyOutOfRange,
    ];
    const FAILURES: [&str; 22] = [
        failure::CUT_SHORT,
        failure::THREADS_CHANGED,
        failure::ENGINE_CRASHED,
        failure::ENGINE_FAILED,
        failure::FILTER_FAILED,
        failure::INPUT_MISSING,
        failure::INPUT_REFUSED,
        failure::NOT_TRIED,
        failure::OUTPUT_LOST,
        failure::OUTPUT_MISSING,
        failure::PREPARE_FAILED,
        failure::RECEPTOR_INVALID,
        failure::RECEPTOR_NOT_PDBQT,
        failure::ROWS_INVALID,
        failure::SERVER_AWAY,
        failure::SERVER_CRASHED,
        failure::SERVER_LOST,
        failure::STOPPED,
        failure::STREAM_TRUNCATED,
        failure::TOTAL_MISSING,
        failure::TIME_LIMIT,
        failure::TRY_AGAIN,
    ];

    /// The first cells of the table under a heading of `docs/science.md`.
    fn table(heading: &str) -> BTreeSet<String> {
        let section = SCIENCE.split_once(&format!("### {heading}\n")).unwrap().1;
        let section = section.split("\n#").next().unwrap();
        section
            .lines()
            .filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
            .collect()
    }

    /// The words of a tuple in a driver.
    fn tuple(driver: &str, name: &str) -> BTreeSet<String> {
        let body = driver.split_once(&format!("\n{name} = (")).unwrap().1.split_once("\n)").unwrap().0;
        body.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_documentation_tells_of_each_engine_what_was_reproduced_and_how_it_fails() {
        let engines = SCIENCE
            .split("\n## ")
            .filter(|section| section.starts_with("Engine `") || section.starts_with("Enumeration\n"));
        assert_eq!(engines.clone().count(), 8);
        for section in engines {
            let has = |what: &str| section.lines().any(|line| line.starts_with(what));
            let name = section.lines().next().unwrap();
            assert!(has("### Known failure modes"), "{name}");
            assert!(has("### Reference ") || has("Reference values, "), "{name}");
        }
    }

    #[test]
    fn the_documentation_lists_exactly_the_reasons_of_the_code() {
        let mut reasons = tuple(DRIVER, "REASONS");
        reasons.extend(REASONS.map(|reason| reason.name().to_owned()));
        // Of a molecule that two attempts broke down over.
        reasons.extend([failure::ENGINE_CRASHED, failure::TIME_LIMIT].map(str::to_owned));
        assert_eq!(table("Reasons of a bad molecule"), reasons);
    }

    #[test]
    fn the_documentation_lists_exactly_the_reasons_of_rows() {
        let reasons = [
            RowReason::NoRow,
            RowReason::DuplicateRow,
            RowReason::VerdictInvalid,
            RowReason::ValueMissing,
            RowReason::ValueNotFinite,
            RowReason::OutOfRange,
            RowReason::GeometryUnreadable,
            RowReason::MultiplicityImpossible,
            RowReason::ServerRefused,
        ];
        assert_eq!(table("Reasons of a bad row"), reasons.map(|reason| reason.name().to_owned()).into());
    }

    #[test]
    fn the_documentation_lists_exactly_the_reasons_of_formulae() {
        let reasons = [StreamReason::FormulaInvalid, StreamReason::FormulaRefused];
        assert_eq!(table("Reasons of a bad formula"), reasons.map(|reason| reason.name().to_owned()).into());
    }

    #[test]
    fn the_documentation_lists_exactly_the_failures_of_the_code() {
        assert_eq!(table("Reasons of a failed attempt"), FAILURES.map(str::to_owned).into());
    }

    #[test]
    fn the_documentation_lists_exactly_the_flags_of_the_driver() {
        assert_eq!(table("Flags"), tuple(DRIVER, "FLAGS"));
    }

    #[test]
    fn the_documentation_lists_exactly_the_reasons_of_hydrations() {
        let mut reasons = tuple(FEP_DRIVER, "REASONS");
        reasons.extend(FEP_REASONS.map(|reason| reason.name().to_owned()));
        assert_eq!(table("Reasons of a bad hydration"), reasons);
    }

    #[test]
    fn the_documentation_lists_exactly_the_reasons_of_complexes() {
        let mut reasons = tuple(MMGBSA_DRIVER, "REASONS");
        reasons.extend(COMPLEX_REASONS.map(|reason| reason.name().to_owned()));
        assert_eq!(table("Reasons of a bad complex"), reasons);
        assert_eq!(table("Flags of a complex"), tuple(MMGBSA_DRIVER, "FLAGS"));
    }
}
