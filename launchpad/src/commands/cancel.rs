//! `cancel`: stops a run or some of its tasks, in bounded steps.

use common::task::RunId;
use serde::Serialize;

use super::{Context, confirm};
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::{self, Report, thousands};

/// Tasks per call: Redis is held for some 10 ms.
const STEP: u64 = 1000;

#[derive(Debug, Serialize)]
struct Cancelled<'a> {
    run: &'a RunId,
    cancelled: u64,
}

impl Report for Cancelled<'_> {
    fn text(&self) -> String {
        let back = match self.cancelled {
            0 => String::new(),
            _ => format!(" `launchpad retry {} --cancelled` brings cancelled ones back.", self.run),
        };
        format!("Cancelled {} tasks of {}.{back}\n", thousands(self.cancelled), self.run)
    }
}

/// Cancels what has not ended yet. It asks before it stops a whole run; tasks that were named are asked about on a terminal only.
pub(super) async fn cancel(context: &Context, arguments: &cli::Cancel) -> Result<(), LaunchpadError> {
    let run = &arguments.run;
    let queue = context.location.queue()?;
    let progress = queue.progress(run).await?;
    if let Some(task) = arguments.tasks.iter().find(|task| task.0 >= progress.total) {
        return Err(LaunchpadError::NoSuchTask { run: run.clone(), task: *task, tasks: progress.total });
    }
    let open = if arguments.tasks.is_empty() {
        progress.total - progress.terminal()
    } else {
        arguments.tasks.len() as u64
    };
    let is_named = !arguments.tasks.is_empty();
    if !arguments.yes && (!is_named || output::can_ask()) {
        confirm("cancel", &format!("Cancel {} tasks of {run}?", thousands(open)))?;
    }
    let mut cancelled = 0;
    if arguments.tasks.is_empty() {
        loop {
            match queue.cancel_next(run, STEP).await? {
                0 => break,
                step => cancelled += step,
            }
        }
    } else {
        cancelled = queue.cancel_tasks(run, &arguments.tasks).await?;
    }
    context.output.report(&Cancelled { run, cancelled })
}
