//! How the output of engines that enumerate is cut, as flags and `run.toml` describe it: flags over the file over the run that is
//! followed over defaults. Reads no file.

use common::queue::RunInfo;
use common::task::{
    EngineOptions, LINES_PER_PART_DEFAULT, SPLIT_MAX, SURGE_TOTAL, StreamOptions, SurgeOptions,
};

use super::PushError;
use crate::cli;
use crate::run_file::OptionsTable;

/// The parameters of `surge`, which tells its total in its own words.
pub(super) fn surge(
    flags: &cli::Push,
    file: &OptionsTable,
    from: Option<&RunInfo>,
) -> Result<SurgeOptions, PushError> {
    if file.stream.as_ref().is_some_and(|stream| stream.total.is_some()) {
        let (parameter, engine, owner) = ("stream.total", "surge", "command");
        return Err(PushError::OtherEngine { parameter, engine, owner });
    }
    let stream = resolve(flags, file, from, Some(SURGE_TOTAL));
    let stream = stream.unwrap_or_else(|| StreamOptions {
        total: SURGE_TOTAL.to_owned(),
        lines_per_part: flags.lines_per_part.unwrap_or(LINES_PER_PART_DEFAULT),
        filter: None,
    });
    stream.validate()?;
    Ok(SurgeOptions { stream })
}

/// The stream of a command, if it has one: its file, or the run that is followed, says so.
pub(super) fn resolve(
    flags: &cli::Push,
    file: &OptionsTable,
    from: Option<&RunInfo>,
    total: Option<&str>,
) -> Option<StreamOptions> {
    let base = from.and_then(|from| from.spec.engine.stream());
    let table = file.stream.as_ref();
    if table.is_none() && base.is_none() {
        return None;
    }
    let said = table.and_then(|table| table.total.clone()).or_else(|| total.map(str::to_owned));
    let lines_per_part = flags.lines_per_part.or(table.and_then(|table| table.lines_per_part));
    let filter = table.and_then(|table| table.filter.clone());
    Some(StreamOptions {
        // None at all is refused with the words of a wrong one.
        total: said.or_else(|| base.map(|base| base.total.clone())).unwrap_or_default(),
        lines_per_part: lines_per_part
            .or(base.map(|base| base.lines_per_part))
            .unwrap_or(LINES_PER_PART_DEFAULT),
        filter: filter.or_else(|| base.and_then(|base| base.filter.clone())),
    })
}

/// Tasks of each formula; parameters of streams are refused where there is none. Formulae of another run are split already.
pub(super) fn split(
    flags: &cli::Push,
    file: &OptionsTable,
    engine: &EngineOptions,
    from: Option<&RunInfo>,
) -> Result<u64, PushError> {
    let split = flags.split.or(file.split);
    let given = [
        ("split", split.is_some()),
        ("lines_per_part", flags.lines_per_part.is_some()),
        ("stream", file.stream.is_some()),
    ];
    if engine.stream().is_none()
        && let Some((parameter, _)) = given.into_iter().find(|(_, given)| *given)
    {
        return Err(PushError::OtherEngine { parameter, engine: engine.name(), owner: "surge" });
    }
    if split.is_some() && from.is_some() {
        return Err(PushError::Contradiction { one: "split", other: "from" });
    }
    match split.unwrap_or(1) {
        split if (1..=SPLIT_MAX).contains(&split) => Ok(split),
        found => Err(common::task::StreamError::Count { name: "split", found, max: SPLIT_MAX }.into()),
    }
}
