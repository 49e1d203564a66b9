//! The engine `command` as flags and `run.toml` describe it: flags over the file over defaults. Reads no file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{
    CommandError, CommandOptions, DRIVER_PLACEHOLDER, DRIVER_ROLE, ROWS_DEFAULT, StreamOptions, is_role,
};

use super::PushError;
use crate::cli;
use crate::run_file::OptionsTable;

/// Resolves the parameters; `driver` is the file name of a script that was named, `base` what the run that is followed has.
pub(super) fn resolve(
    flags: &cli::CommandFlags,
    file: &OptionsTable,
    driver: Option<&str>,
    (base, stream): (Option<&CommandOptions>, Option<StreamOptions>),
) -> Result<CommandOptions, CommandError> {
    let interpreter = driver.and_then(interpreter);
    let default_argv = interpreter.map(|program| [program, DRIVER_PLACEHOLDER].map(str::to_owned).to_vec());
    let default_versions = interpreter.map(|program| {
        BTreeMap::from([(program.to_owned(), vec![program.to_owned(), "--version".to_owned()])])
    });
    let argv = flags.argv.as_ref().map(|argv| argv.0.clone()).or_else(|| file.argv.clone());
    let argv = argv.or(default_argv).or_else(|| base.map(|base| base.argv.clone()));
    let versions = file.versions.clone().or_else(|| base.map(|base| base.versions.clone()));
    let rows = flags.rows.clone().or_else(|| file.rows.clone());
    let columns = flags.columns.iter().map(|column| column.0.clone()).collect();
    Ok(CommandOptions {
        argv: argv.ok_or(CommandError::NoProgram)?,
        versions: versions.or(default_versions).unwrap_or_default(),
        rows: rows.or_else(|| base.map(|base| base.rows.clone())).unwrap_or_else(|| ROWS_DEFAULT.to_owned()),
        columns: list(columns, file.columns.as_ref(), base.map(|base| &base.columns)),
        score: flags
            .score
            .clone()
            .or_else(|| file.score.clone())
            .or_else(|| base.and_then(|base| base.score.clone())),
        expect: list(flags.expect.clone(), file.expect.as_ref(), base.map(|base| &base.expect)),
        keep: list(flags.keep.clone(), file.keep.as_ref(), base.map(|base| &base.keep)),
        stream,
    })
}

/// The list of the flags, or of the file, or of the other run.
pub(super) fn list<T: Clone>(flags: Vec<T>, file: Option<&Vec<T>>, base: Option<&Vec<T>>) -> Vec<T> {
    if flags.is_empty() { file.or(base).cloned().unwrap_or_default() } else { flags }
}

/// What runs a script of this name unless `argv` says it.
fn interpreter(driver: &str) -> Option<&'static str> {
    match Path::new(driver).extension()?.to_str()? {
        "py" => Some("python3"),
        "sh" => Some("bash"),
        _ => None,
    }
}

/// Input files by role: flags beside those of the file, whose paths are relative to `folder`.
pub(super) fn inputs(
    flags: &cli::CommandFlags,
    file: &OptionsTable,
    folder: &Path,
) -> Result<BTreeMap<String, PathBuf>, PushError> {
    let beside = file.inputs.iter().map(|(role, path)| (role.clone(), folder.join(path)));
    let named = flags.inputs.iter().map(|input| (input.role.clone(), input.path.clone()));
    let inputs: BTreeMap<_, _> = beside.chain(named).collect();
    match inputs.keys().find(|role| !is_role(role) || *role == DRIVER_ROLE) {
        Some(role) => Err(PushError::Role { role: role.clone() }),
        None => Ok(inputs),
    }
}
