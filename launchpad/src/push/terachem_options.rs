//! The engine `terachem` as `run.toml` describes it: the file over the run that is followed over defaults. Reads no file.

use common::task::{TerachemError, TerachemOptions};

use crate::run_file::OptionsTable;

/// Resolves the parameters; `base` is what the run that is followed has. There is no default method or basis.
pub(super) fn resolve(
    file: &OptionsTable,
    base: Option<&TerachemOptions>,
) -> Result<TerachemOptions, TerachemError> {
    let method = file.method.as_ref().map(|method| method.to_ascii_uppercase());
    let options = TerachemOptions {
        method: method.or_else(|| base.map(|base| base.method.clone())).unwrap_or_default(),
        basis: file.basis.clone().or_else(|| base.map(|base| base.basis.clone())).unwrap_or_default(),
        charge: file.charge.or_else(|| base.and_then(|base| base.charge)),
        multiplicity: file.multiplicity.or(base.map(|base| base.multiplicity)).unwrap_or(1),
        settings: file
            .settings
            .clone()
            .or_else(|| base.map(|base| base.settings.clone()))
            .unwrap_or_default(),
    };
    options.validate()?;
    Ok(options)
}
