//! The engine `http` as flags and `run.toml` describe it: flags over the file over the run that is followed over defaults. Reads no file.

use common::task::{HttpError, HttpOptions};

use super::command_options::list;
use crate::cli;
use crate::run_file::OptionsTable;

/// Where molecules are posted to unless a run says otherwise.
const PATH_DEFAULT: &str = "/score";
/// Where servers say that they are well.
const HEALTH_DEFAULT: &str = "/health";
/// The key of a request that takes the molecules.
const MOLECULES_DEFAULT: &str = "molecules";

/// Resolves the parameters; `base` is what the run that is followed has.
pub(super) fn resolve(
    flags: &cli::CommandFlags,
    file: &OptionsTable,
    base: Option<&HttpOptions>,
) -> Result<HttpOptions, HttpError> {
    let word = |said: &Option<String>, theirs: fn(&HttpOptions) -> &String, default: &str| {
        said.clone().or_else(|| base.map(|base| theirs(base).clone())).unwrap_or_else(|| default.to_owned())
    };
    let columns = flags.columns.iter().map(|column| column.0.clone()).collect();
    let score = flags.score.clone().or_else(|| file.score.clone());
    let options = HttpOptions {
        path: word(&file.path, |base| &base.path, PATH_DEFAULT),
        health: word(&file.health, |base| &base.health, HEALTH_DEFAULT),
        request: file.request.clone().or_else(|| base.map(|base| base.request.clone())).unwrap_or_default(),
        molecules: word(&file.molecules, |base| &base.molecules, MOLECULES_DEFAULT),
        fields: file
            .fields
            .clone()
            .or_else(|| base.map(|base| base.fields.clone()))
            .unwrap_or_else(HttpOptions::fields_default),
        answer: word(&file.answer, |base| &base.answer, ""),
        columns: list(columns, file.columns.as_ref(), base.map(|base| &base.columns)),
        score: score.or_else(|| base.and_then(|base| base.score.clone())),
    };
    options.validate()?;
    Ok(options)
}
