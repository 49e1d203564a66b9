//! `status`: all runs, or one; once, or again and again until every task has ended.

use std::time::Duration;

use common::queue::{Disposition, Queue};
use common::task::{Phase, RunId, State};
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::kept_checkpoint::KeptCheckpoint;
use crate::output::{self, Report, Table, bytes, duration, thousands};
use crate::run_status::{RunLine, RunStatus, unfinished};

/// Between two looks.
const REFRESH: Duration = Duration::from_secs(1);
/// Rows of a list in text; JSON has more.
const LISTED: usize = 10;

/// Shows what was asked for.
pub(super) async fn status(context: &Context, arguments: &cli::Status) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let Some(run) = &arguments.run else { return all_runs(context, &queue).await };
    if arguments.watch || arguments.until_drained {
        let last = watch(context, &queue, run, arguments.watch).await?;
        return context.output.report(&last);
    }
    context.output.report(&RunStatus::gather(&queue, run).await?)
}

/// Looks until the run is drained. Passing faults of Redis are waited out.
async fn watch(
    context: &Context,
    queue: &Queue,
    run: &RunId,
    visible: bool,
) -> Result<RunStatus, LaunchpadError> {
    let first = RunStatus::gather(queue, run).await?;
    let mut line = visible.then(|| context.output.progress("tasks ended", first.progress.total));
    let mut status = first;
    let mut told = "";
    while !status.drained {
        if let Some(line) = &mut line {
            line.describe(&suffix(&status));
            line.set(status.progress.terminal());
            if !context.output.can_redraw() && told != status.why {
                context.output.note(&status.why_text);
                told = status.why;
            }
        }
        tokio::time::sleep(REFRESH).await;
        match RunStatus::gather(queue, run).await {
            Ok(next) => status = next,
            Err(error) if error.disposition() == Disposition::Retry => {
                if let Some(line) = &mut line {
                    line.describe("Redis does not answer, trying again");
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(mut line) = line {
        line.describe(&suffix(&status));
        line.set(status.progress.terminal());
        line.finish();
    }
    Ok(status)
}

/// What stands behind the bar.
fn suffix(status: &RunStatus) -> String {
    let left = left(status);
    let rate = status.rate_molecules_per_s;
    format!(
        "{rate:.2} molecules/s{left}, {} bad, {} dead, {}",
        status.progress.molecules_bad, status.progress.dead, status.why
    )
}

/// How long it will go on, with the band that the tasks so far allow for.
fn left(status: &RunStatus) -> String {
    let shown = |seconds: u64| duration(seconds.saturating_mul(1000));
    let point = status.seconds_left.map_or(String::new(), |s| format!(", about {} left", shown(s)));
    match (status.seconds_left_low, status.seconds_left_high) {
        (Some(low), Some(high)) if !point.is_empty() => {
            format!("{point} ({} to {})", shown(low), shown(high))
        }
        _ => point,
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct AllRuns(Vec<RunLine>);

async fn all_runs(context: &Context, queue: &Queue) -> Result<(), LaunchpadError> {
    let mut lines = Vec::new();
    for run in queue.runs().await? {
        match RunLine::gather(queue, run).await {
            Ok(line) => lines.extend(line),
            Err(error) if error.is_about_one_run() => output::problem(&LaunchpadError::from(error).chain()),
            Err(error) => return Err(error.into()),
        }
    }
    context.output.report(&AllRuns(lines))
}

impl Report for AllRuns {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "There is no run. `launchpad push --help` tells how to make one.\n".into();
        }
        let mut table = Table::new(&[
            "run",
            ">tasks",
            ">pending",
            ">delayed",
            ">leased",
            ">succeeded",
            ">dead",
            ">cancelled",
            ">ok",
            ">bad",
            "note",
        ]);
        for line in &self.0 {
            let progress = &line.progress;
            let counts = [
                progress.total,
                progress.pending,
                progress.delayed,
                progress.leased,
                progress.succeeded,
                progress.dead,
                progress.cancelled,
                progress.molecules_ok,
                progress.molecules_bad,
            ];
            let cells = std::iter::once(line.run.to_string()).chain(counts.map(thousands));
            table.row(cells.chain([line.note()]));
        }
        table.to_string()
    }
}

impl Report for RunStatus {
    fn text(&self) -> String {
        let progress = &self.progress;
        let states = State::ALL.into_iter().filter(|state| *state != State::Waiting || progress.waiting > 0);
        let states: Vec<_> =
            states.map(|state| format!("{} {state}", thousands(progress.of(state)))).collect();
        let left = left(self);
        let push = if self.sealed {
            String::new()
        } else {
            format!("push       {}\n", unfinished(progress.total, self.manifest_tasks))
        };
        let trouble = self.redis_trouble.as_ref().map_or(String::new(), |trouble| format!("{trouble}.\n"));
        format!(
            "{trouble}{}\n\nrun        {}\n{push}tasks      {}: {}\nmolecules  {}: {} ok, {} bad\nrate       {:.2} molecules/s{left}\n\
             trouble    {} failures, {} lapses, {} releases\nuploaded   {}\n\n{}{}",
            self.why_text,
            self.run,
            thousands(progress.total),
            states.join(", "),
            thousands(self.molecules),
            thousands(progress.molecules_ok),
            thousands(progress.molecules_bad),
            self.rate_molecules_per_s,
            thousands(progress.failures),
            thousands(progress.lapses),
            thousands(progress.releases),
            bytes(progress.bytes),
            phases(self),
            who_works(self),
        )
    }
}

fn phases(status: &RunStatus) -> String {
    let mut table = Table::new(&["phase", ">tasks", ">half in at most", ">9 of 10 in at most"]);
    let shown = |ms: Option<u64>| ms.map_or("-".to_owned(), duration);
    for (name, phase) in Phase::ALL.iter().filter_map(|phase| status.phases.get_key_value(phase.name())) {
        if phase.count > 0 {
            table.row([(*name).to_owned(), thousands(phase.count), shown(phase.p50_ms), shown(phase.p90_ms)]);
        }
    }
    if table.is_empty() { String::new() } else { format!("{table}\n") }
}

fn who_works(status: &RunStatus) -> String {
    if status.drained {
        return String::new();
    }
    let mut table = Table::new(&[">task", ">kept", "lease", "host"]);
    for lease in status.leases.iter().take(LISTED) {
        let host = lease.host.clone().unwrap_or_else(|| "-".into());
        let kept = KeptCheckpoint::cell(lease.checkpoint.as_ref());
        table.row([lease.task.to_string(), kept, lease.lease.to_string(), host]);
    }
    let more = status.progress.leased.saturating_sub(LISTED as u64);
    let more = if more > 0 { format!("and {} more\n", thousands(more)) } else { String::new() };
    let leases = if table.is_empty() { String::new() } else { format!("{table}{more}") };
    format!("{} workers are there\n{leases}", status.workers_there)
}
