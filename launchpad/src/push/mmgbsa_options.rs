//! The parameters of the engine `gromacs-mmgbsa`: flags over `run.toml` over those of the run that a push follows over defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::queue::RunInfo;
use common::task::{ChargeModel, EngineOptions, MmgbsaOptions, Solvent};

use super::PushError;
use crate::cli;
use crate::run_file::OptionsTable;

/// The role of a ligand in the receptor, in whose place a SMILES is put.
pub(super) const REFERENCE_ROLE: &str = "reference";
/// A quick look; `docs/science.md` has its figures.
const MD_PS_DEFAULT: f64 = 10.0;
const FRAMES_DEFAULT: u32 = 10;
/// Of water, which needs some tens of ps for its density.
const EQUILIBRATION_PS_DEFAULT: f64 = 50.0;

/// The parameters.
pub(super) fn resolve(
    flags: &cli::Push,
    file: &OptionsTable,
    from: Option<&RunInfo>,
) -> Result<MmgbsaOptions, PushError> {
    let base = from.and_then(|from| match &from.spec.engine {
        EngineOptions::GromacsMmgbsa(mmgbsa) => Some(mmgbsa),
        _ => None,
    });
    let charges = flags.charges.or(file.charges).map(ChargeModel::from);
    let solvent = flags.solvent.or(file.solvent).map(Solvent::from);
    let solvent = solvent.or(base.map(|base| base.solvent)).unwrap_or_default();
    let of_base = base.filter(|base| base.solvent == solvent).map(|base| base.equilibration_ps);
    let of_solvent = match solvent {
        Solvent::Vacuum => 0.0,
        Solvent::Tip3p => EQUILIBRATION_PS_DEFAULT,
    };
    let options = MmgbsaOptions {
        charges: charges.or(base.map(|base| base.charges)).unwrap_or_default(),
        md_ps: flags.md_ps.or(file.md_ps).or(base.map(|base| base.md_ps)).unwrap_or(MD_PS_DEFAULT),
        frames: flags.frames.or(file.frames).or(base.map(|base| base.frames)).unwrap_or(FRAMES_DEFAULT),
        solvent,
        equilibration_ps: flags.equilibration_ps.or(file.equilibration_ps).or(of_base).unwrap_or(of_solvent),
    };
    // Without a driver of its own, a run has the one that ships.
    options.validate(true)?;
    Ok(options)
}

/// The reference, where there is one: its role and file.
pub(super) fn reference(flags: &cli::Push, file: &OptionsTable, folder: &Path) -> BTreeMap<String, PathBuf> {
    let beside = file.reference.as_ref().map(|path| folder.join(path));
    let reference = flags.reference.clone().or(beside);
    reference.map(|path| (REFERENCE_ROLE.to_owned(), path)).into_iter().collect()
}
