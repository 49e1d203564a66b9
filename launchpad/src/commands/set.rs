//! `set`: changes how a run is driven while it goes.

use serde::Serialize;

use super::Context;
use crate::cli::{self, Setting};
use crate::error::LaunchpadError;
use crate::output::Report;

#[derive(Debug, Serialize)]
struct Changed<'a> {
    run: &'a common::task::RunId,
    parallelism: u64,
}

impl Report for Changed<'_> {
    fn text(&self) -> String {
        match self.parallelism {
            0 => format!("{}: any number of tasks at a time\n", self.run),
            tasks => format!("{}: {tasks} tasks at a time at most\n", self.run),
        }
    }
}

/// Carries out the settings in their order.
pub(super) async fn set(context: &Context, arguments: &cli::Set) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    for Setting::Parallelism(parallelism) in arguments.settings.iter().copied() {
        queue.set_parallelism(&arguments.run, parallelism).await?;
        context.output.report(&Changed { run: &arguments.run, parallelism })?;
    }
    Ok(())
}
