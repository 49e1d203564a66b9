//! `tasks`: lists the tasks of a run that fulfil some conditions, so that every number of `status` can be looked into.

use std::ops::ControlFlow;

use common::queue::TaskInfo;
use common::task::{LeaseName, TaskId, WorkerId};
use serde::Serialize;

use super::Context;
use crate::cli::{self, Having};
use crate::error::LaunchpadError;
use crate::kept_checkpoint::KeptCheckpoint;
use crate::output::{Line, thousands};
use crate::task_scan::scan;

/// A task. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
struct TaskLine {
    task: TaskId,
    state: &'static str,
    molecules_ok: u64,
    molecules_bad: u64,
    failures: u64,
    lapses: u64,
    releases: u64,
    /// Of the latest lease.
    worker: Option<WorkerId>,
    lease: Option<LeaseName>,
    reason: Option<String>,
    /// How far it is; absent if no checkpoint of it is kept.
    checkpoint: Option<KeptCheckpoint>,
}

impl Line for TaskLine {
    const COLUMNS: &'static [(&'static str, usize)] = &[
        (">task", 7),
        ("state", 9),
        (">ok", 5),
        (">bad", 5),
        (">failures", 8),
        (">lapses", 6),
        (">releases", 8),
        (">kept", 7),
        ("worker", 12),
        ("reason", 6),
    ];

    fn cells(&self) -> Vec<String> {
        let counts = [self.molecules_ok, self.molecules_bad, self.failures, self.lapses, self.releases];
        let worker = self.worker.as_ref().map_or_else(|| "-".to_owned(), WorkerId::to_string);
        let mut cells = vec![self.task.to_string(), self.state.to_owned()];
        cells.extend(counts.map(|count| count.to_string()));
        cells.push(KeptCheckpoint::cell(self.checkpoint.as_ref()));
        cells.extend([worker, self.reason.clone().unwrap_or_default()]);
        cells
    }
}

impl TaskLine {
    fn new(task: TaskId, info: TaskInfo) -> Self {
        Self {
            task,
            state: info.state.name(),
            molecules_ok: info.molecules_ok,
            molecules_bad: info.molecules_bad,
            failures: info.failures,
            lapses: info.lapses,
            releases: info.releases,
            worker: info.lease.as_ref().map(|lease| lease.worker.clone()),
            lease: info.lease,
            reason: info.reason,
            checkpoint: KeptCheckpoint::of(task, &info.checkpoint),
        }
    }
}

/// Lists tasks as they are read.
pub(super) async fn tasks(context: &Context, arguments: &cli::Tasks) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    queue.run_info(&arguments.run).await?;
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let total = queue.progress(&arguments.run).await?.total;
    let mut listed = 0_u64;
    let mut listing = context.output.listing();
    scan(&queue, &arguments.run, &arguments.states, |task, info| {
        if listed >= limit {
            return Ok(ControlFlow::Break(()));
        }
        if fulfils(arguments, &info) {
            listed += 1;
            if !listing.line(&TaskLine::new(task, info)) {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
    .await?;
    listing.finish()?;
    context.output.note(&format!("{} of {} tasks", thousands(listed), thousands(total)));
    Ok(())
}

/// Whether a task fulfils all conditions but that of its state.
fn fulfils(wanted: &cli::Tasks, info: &TaskInfo) -> bool {
    let has = |what: &Having| match what {
        Having::Failures => info.failures > 0,
        Having::Lapses => info.lapses > 0,
        Having::Releases => info.releases > 0,
        Having::Ok => info.molecules_ok > 0,
        Having::Bad => info.molecules_bad > 0,
    };
    let worker = info.lease.as_ref().map(|lease| &lease.worker);
    (wanted.with.is_empty() || wanted.with.iter().any(has))
        && wanted.worker.as_ref().is_none_or(|wanted| worker == Some(wanted))
        && wanted
            .reason
            .as_ref()
            .is_none_or(|regex| info.reason.as_ref().is_some_and(|reason| regex.is_match(reason)))
}
