//! `show`: one task with its molecules, every attempt and what each left in the log, and its result.

use common::storage::key;
use common::task::{ManifestReader, Molecule, RunId, State, StepRecord, TaskId};
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::consolidation::read_manifest;
use crate::error::LaunchpadError;
use crate::find_task::find_task;
use crate::kept_checkpoint::KeptCheckpoint;
use crate::output::{Report, Table, duration};
use crate::push::structure;
use crate::task_history::{self, Attempt, ShownRow};

/// Molecules that are listed in text; JSON has all.
const LISTED: usize = 20;

/// A task as `--json` has it.
#[derive(Debug, Serialize)]
struct ShownTask<'a> {
    #[serde(skip)]
    run: &'a RunId,
    task: TaskId,
    state: &'static str,
    reason: Option<String>,
    failures: u64,
    lapses: u64,
    releases: u64,
    /// From where its next attempt can go on; absent if from nowhere.
    checkpoint: Option<KeptCheckpoint>,
    molecules: Vec<Molecule>,
    attempts: Vec<Attempt>,
    /// Milliseconds of the Redis clock.
    timings: Option<common::task::Timings>,
    shard: Option<String>,
    rows: Vec<ShownRow>,
    /// Why the rows can't be shown.
    shard_fault: Option<String>,
}

/// Shows a task.
pub(super) async fn show(context: &Context, arguments: &cli::Show) -> Result<(), LaunchpadError> {
    let run = &arguments.run;
    let queue = context.location.queue()?;
    let run_info = queue.run_info(run).await?;
    let store = context.location.run_store(&run_info.store, run)?;
    let manifest = read_manifest(&store, &run_info.spec).await?;
    let tasks = run_info.spec.manifest.tasks;
    let (task, molecules) = find_task(run, &arguments.task, tasks, ManifestReader::new(manifest.open()?))?;
    let absent = || LaunchpadError::NoSuchTask { run: run.clone(), task, tasks };
    let info = queue.tasks(run, &[task]).await?.pop().ok_or_else(absent)?;
    let tail = queue.tail(run, task).await?;
    let attempts = task_history::attempts(&store, task, &info, tail).await?;
    let (rows, shard_fault) = task_history::rows(&store, task, &info).await?;
    context.output.report(&ShownTask {
        run,
        task,
        state: info.state.name(),
        reason: info.reason,
        failures: info.failures,
        lapses: info.lapses,
        releases: info.releases,
        checkpoint: KeptCheckpoint::of(task, &info.checkpoint),
        molecules,
        attempts,
        timings: info.timings,
        shard: info.shard_sha256.map(|_| key::shard(task)),
        rows,
        shard_fault,
    })
}

impl Report for ShownTask<'_> {
    fn text(&self) -> String {
        let reason = self.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        let has_ended = [State::Dead, State::Cancelled].map(State::name).contains(&self.state);
        let back = if has_ended {
            format!("`launchpad retry {} --task {}` lets workers try it again.\n", self.run, self.task)
        } else {
            String::new()
        };
        let head = format!(
            "task {} is {}{reason}: {} failures, {} lapses, {} releases{}\n{back}\n",
            self.task,
            self.state,
            self.failures,
            self.lapses,
            self.releases,
            self.checkpoint.as_ref().map_or_else(String::new, KeptCheckpoint::sentence)
        );
        let mut molecules = Table::new(&["molecule", "structure"]);
        for molecule in self.molecules.iter().take(LISTED) {
            molecules.row([molecule.id.clone(), structure(molecule).to_owned()]);
        }
        let attempts: String = self.attempts.iter().map(attempt_text).collect();
        let fault = self.shard_fault.as_ref();
        let fault = fault.map_or(String::new(), |fault| format!("\nThe shard can't be shown: {fault}\n"));
        format!("{head}{molecules}{}{attempts}{}{fault}", more(self.molecules.len()), self.result())
    }
}

impl ShownTask<'_> {
    fn result(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&["molecule", "verdict", "reason", ">score", "unit"]);
        for row in self.rows.iter().take(LISTED) {
            let cells = [&row.molecule_id, row.verdict, &row.reason, &row.score, &row.unit];
            table.row(cells.map(str::to_owned));
        }
        let why = |row: &ShownRow| Some(format!("{}: {}\n", row.molecule_id, row.detail.as_ref()?));
        let details: String = self.rows.iter().take(LISTED).filter_map(why).collect();
        let gap = if details.is_empty() { "" } else { "\n" };
        format!("\n{table}{}{gap}{details}", more(self.rows.len()))
    }
}

fn more(listed: usize) -> String {
    let more = listed.saturating_sub(LISTED);
    if more > 0 { format!("and {more} more\n") } else { String::new() }
}

fn attempt_text(attempt: &Attempt) -> String {
    let mut lines = vec![String::new(), format!("attempt {}: {}", attempt.lease, attempt.ending)];
    if let Some(record) = &attempt.record {
        let why = [&record.reason, &record.detail].into_iter().flatten().cloned().collect::<Vec<_>>();
        if !why.is_empty() {
            lines.push(format!("  {}", why.join(": ")));
        }
        lines.push(format!("  host {}", record.provenance.host));
        lines.extend(record.provenance.gpu.as_ref().map(|gpu| format!("  GPU {gpu}")));
        lines.extend(record.resumed_from.as_ref().map(|bundle| format!("  went on from {bundle}")));
        let step = |step: &StepRecord| {
            format!("  step {}: {} after {}", step.name, step.ended, duration(step.elapsed_ms))
        };
        lines.extend(record.steps.iter().map(step));
    }
    if let Some(tail) = attempt.tail.as_ref().filter(|tail| !tail.trim().is_empty()) {
        lines.push("  the end of its log:".to_owned());
        lines.extend(tail.lines().map(|line| format!("    {line}")));
    }
    lines.push(String::new());
    lines.join("\n")
}
