//! `pause` and `resume`: whether more tasks of a run are leased.

use common::queue::Queue;
use common::task::RunId;
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::Report;

#[derive(Debug, Serialize)]
struct Paused<'a> {
    run: &'a RunId,
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

/// Lets no more tasks be leased. A pause that has a reason keeps it unless there is a new one.
pub(super) async fn pause(context: &Context, arguments: &cli::Pause) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    // An empty reason would be a resume.
    let said = arguments.why.as_deref().filter(|why| !why.trim().is_empty());
    let kept = match said {
        Some(_) => None,
        None => reason(&queue, &arguments.run).await?,
    };
    let why = said.or(kept.as_deref()).unwrap_or("paused by hand");
    queue.set_paused(&arguments.run, Some(why)).await?;
    context.output.report(&Paused { run: &arguments.run, paused: Some(why) })
}

/// Why a run is paused, if it is. One that nobody can read can be paused all the same.
async fn reason(queue: &Queue, run: &RunId) -> Result<Option<String>, LaunchpadError> {
    match queue.run_info(run).await {
        Ok(info) => Ok(info.paused),
        Err(error) if error.is_about_one_run() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lets a run go on.
pub(super) async fn resume(context: &Context, arguments: &cli::Resume) -> Result<(), LaunchpadError> {
    context.location.queue()?.set_paused(&arguments.run, None).await?;
    context.output.report(&Paused { run: &arguments.run, paused: None })
}
