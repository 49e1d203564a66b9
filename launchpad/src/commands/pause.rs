//! `pause` and `resume`: whether more tasks of a run are leased.

use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::Report;

#[derive(Debug, Serialize)]
struct Paused<'a> {
    run: &'a common::task::RunId,
    paused: Option<&'a str>,
}

impl Report for Paused<'_> {
    fn text(&self) -> String {
        match self.paused {
            Some(why) => {
                format!("{} is paused: {why}. `launchpad resume {}` lets it go on.\n", self.run, self.run)
            }
            None => format!("{} goes on.\n", self.run),
        }
    }
}

/// Lets no more tasks be leased.
pub(super) async fn pause(context: &Context, arguments: &cli::Pause) -> Result<(), LaunchpadError> {
    // An empty reason would be a resume.
    let why = if arguments.why.trim().is_empty() { "paused by hand" } else { arguments.why.as_str() };
    context.location.queue()?.set_paused(&arguments.run, Some(why)).await?;
    context.output.report(&Paused { run: &arguments.run, paused: Some(why) })
}

/// Lets a run go on.
pub(super) async fn resume(context: &Context, arguments: &cli::Resume) -> Result<(), LaunchpadError> {
    context.location.queue()?.set_paused(&arguments.run, None).await?;
    context.output.report(&Paused { run: &arguments.run, paused: None })
}
