//! The parameters of the engine `gromacs-fep`: flags over `run.toml` over those of the run that a push follows over defaults.

use common::queue::RunInfo;
use common::task::{ChargeModel, EngineOptions, FepOptions};

use super::PushError;
use crate::cli::{self};
use crate::run_file::OptionsTable;

const WINDOWS_DEFAULT: usize = 13;
/// A quick look; `docs/science.md` has its figures.
const WINDOW_PS_DEFAULT: f64 = 100.0;
const EQUILIBRATION_PS_DEFAULT: f64 = 20.0;
const BOX_NM_DEFAULT: f64 = 2.4;
/// The share of a window that does not count.
const DISCARD: f64 = 0.1;

/// The parameters.
pub(super) fn resolve(
    flags: &cli::Push,
    file: &OptionsTable,
    from: Option<&RunInfo>,
) -> Result<FepOptions, PushError> {
    let base = from.and_then(|from| match &from.spec.engine {
        EngineOptions::GromacsFep(fep) => Some(fep),
        _ => None,
    });
    let charges = flags.charges.or(file.charges).map(ChargeModel::from);
    let (lambdas_coulomb, lambdas_vdw) = schedule(flags, file, base)?;
    let window_ps = flags.window_ps.or(file.window_ps);
    let discard_ps = flags.discard_ps.or(file.discard_ps);
    // A part of another length is no default.
    let of_base = base.filter(|_| window_ps.is_none()).map(|base| base.discard_ps);
    let window_ps = window_ps.or(base.map(|base| base.window_ps)).unwrap_or(WINDOW_PS_DEFAULT);
    let options = FepOptions {
        charges: charges.or(base.map(|base| base.charges)).unwrap_or_default(),
        lambdas_coulomb,
        lambdas_vdw,
        window_ps,
        discard_ps: discard_ps.or(of_base).unwrap_or(window_ps * DISCARD),
        equilibration_ps: flags
            .equilibration_ps
            .or(file.equilibration_ps)
            .or(base.map(|base| base.equilibration_ps))
            .unwrap_or(EQUILIBRATION_PS_DEFAULT),
        box_nm: flags.box_nm.or(file.box_nm).or(base.map(|base| base.box_nm)).unwrap_or(BOX_NM_DEFAULT),
    };
    // Without a driver of its own, a run has the one that ships.
    options.validate(true)?;
    Ok(options)
}

/// The windows: by their number, or each by itself.
fn schedule(
    flags: &cli::Push,
    file: &OptionsTable,
    base: Option<&FepOptions>,
) -> Result<(Vec<f64>, Vec<f64>), PushError> {
    let windows = flags.windows.or(file.windows);
    match (windows, &file.lambdas_coulomb, &file.lambdas_vdw) {
        (None, Some(coulomb), Some(vdw)) => Ok((coulomb.clone(), vdw.clone())),
        (None, None, None) => match base {
            Some(base) => Ok((base.lambdas_coulomb.clone(), base.lambdas_vdw.clone())),
            None => Ok(FepOptions::schedule(WINDOWS_DEFAULT)?),
        },
        (Some(windows), None, None) => Ok(FepOptions::schedule(windows)?),
        (Some(_), ..) => {
            Err(PushError::Contradiction { one: "windows", other: "lambdas_coulomb and lambdas_vdw" })
        }
        (None, Some(_), None) => Err(super::request::nothing("lambdas_vdw", "give both lists, or windows")),
        (None, None, Some(_)) => {
            Err(super::request::nothing("lambdas_coulomb", "give both lists, or windows"))
        }
    }
}
