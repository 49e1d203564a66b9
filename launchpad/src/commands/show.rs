//! `show`: one task with its molecules, every attempt and what each left in the log, and its result.

use bytes::Buf as _;
use common::queue::TaskInfo;
use common::storage::{RunStore, StorageError, key};
use common::task::{
    AttemptFile, AttemptRecord, Ending, LeaseName, ManifestReader, Molecule, Shard, State, StepRecord, TaskId,
};
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::consolidation::read_manifest;
use crate::error::LaunchpadError;
use crate::output::{Report, Table, duration};

/// Lines of a log that are shown, and the bytes at its end in which they are looked for.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;
/// Molecules that are listed in text; JSON has all.
const LISTED: usize = 20;

/// A task as `--json` has it.
#[derive(Debug, Serialize)]
struct ShownTask {
    task: TaskId,
    state: &'static str,
    reason: Option<String>,
    failures: u64,
    lapses: u64,
    releases: u64,
    molecules: Vec<Molecule>,
    attempts: Vec<Attempt>,
    /// Milliseconds of the Redis clock.
    timings: Option<common::task::Timings>,
    shard: Option<String>,
    rows: Vec<ShownRow>,
    /// Why the rows can't be shown.
    shard_fault: Option<String>,
}

/// One attempt. What only its record says is absent when it left none.
#[derive(Debug, Serialize)]
struct Attempt {
    lease: LeaseName,
    ending: String,
    record: Option<AttemptRecord>,
    tail: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownRow {
    molecule_id: String,
    verdict: &'static str,
    reason: String,
    score: String,
    unit: String,
}

/// Shows a task.
pub(super) async fn show(context: &Context, arguments: &cli::Show) -> Result<(), LaunchpadError> {
    let (run, task) = (&arguments.run, arguments.task);
    let queue = context.location.queue()?;
    let run_info = queue.run_info(run).await?;
    let store = context.location.run_store(&run_info.store, run)?;
    let manifest = read_manifest(&store, &run_info.spec).await?;
    let absent =
        || LaunchpadError::NoSuchTask { run: run.clone(), task, tasks: run_info.spec.manifest.tasks };
    let position = usize::try_from(task.0).map_err(|_| absent())?;
    let (_, molecules) = ManifestReader::new(manifest.reader()).nth(position).ok_or_else(absent)??;
    let info = queue.tasks(run, &[task]).await?.pop().ok_or_else(absent)?;
    let tail = queue.tail(run, task).await?;
    let attempts = attempts(&store, task, &info, tail).await?;
    let (rows, shard_fault) = rows(&store, task, &info).await?;
    context.output.report(&ShownTask {
        task,
        state: info.state.name(),
        reason: info.reason,
        failures: info.failures,
        lapses: info.lapses,
        releases: info.releases,
        molecules,
        attempts,
        timings: info.timings,
        shard: info.shard_sha256.map(|_| key::shard(task)),
        rows,
        shard_fault,
    });
    Ok(())
}

/// All attempts, the oldest first. The tail in Redis is that of the last failed one.
async fn attempts(
    store: &RunStore,
    task: TaskId,
    info: &TaskInfo,
    tail: Option<String>,
) -> Result<Vec<Attempt>, StorageError> {
    let former = info.former.iter().map(|(lease, ending)| (lease, Some(*ending)));
    let latest = info.lease.as_ref().map(|lease| (lease, info.ending));
    let mut attempts = Vec::new();
    for (lease, ending) in former.chain(latest) {
        let record = store.find(&key::attempt_record(task, lease)).await?;
        let record = record.and_then(|bytes| serde_json::from_slice::<AttemptRecord>(&bytes).ok());
        let log = match &record {
            Some(record) => stored_tail(store, record).await?,
            None => None,
        };
        let ending = ending.map_or_else(|| unended(info.state), ending_name);
        attempts.push(Attempt { lease: lease.clone(), ending: ending.to_owned(), record, tail: log });
    }
    let failed = attempts.iter_mut().rev().find(|attempt| attempt.ending == ending_name(Ending::Failed));
    if let (Some(attempt), Some(tail)) = (failed, tail) {
        attempt.tail = Some(tail);
    }
    Ok(attempts)
}

const fn ending_name(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::Failed => "failed",
        Ending::Released => "released",
        Ending::Lapsed => "lapsed",
        Ending::Cancelled => "cancelled",
    }
}

/// What became of the latest attempt when the task's hash names no ending.
const fn unended(state: State) -> &'static str {
    match state {
        State::Succeeded => "succeeded",
        State::Leased => "running",
        State::Waiting | State::Pending | State::Delayed | State::Dead | State::Cancelled => "not known",
    }
}

/// The last lines of the standard error of an attempt's last step that wrote any.
async fn stored_tail(store: &RunStore, record: &AttemptRecord) -> Result<Option<String>, StorageError> {
    let is_log = |file: &&AttemptFile| file.object.contains("stderr") && file.bytes > 0;
    let Some(log) = record.files.iter().rev().find(is_log) else { return Ok(None) };
    let length = log.bytes.min(TAIL_BYTES);
    match store.read_range(&log.object, log.bytes - length, length).await {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            Ok(Some(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")))
        }
        Err(StorageError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn rows(
    store: &RunStore,
    task: TaskId,
    info: &TaskInfo,
) -> Result<(Vec<ShownRow>, Option<String>), StorageError> {
    if info.state != State::Succeeded {
        return Ok((Vec::new(), None));
    }
    let Some(bytes) = store.find(&key::shard(task)).await? else {
        return Ok((Vec::new(), Some(format!("`{}` is not in the store", key::shard(task)))));
    };
    let shard = match Shard::parse(&bytes) {
        Ok(shard) => shard,
        Err(error) => return Ok((Vec::new(), Some(error.to_string()))),
    };
    let unit = shard.score_unit;
    let rows = shard.rows.into_iter().map(|row| ShownRow {
        molecule_id: row.molecule_id,
        verdict: row.verdict.name(),
        reason: row.reason,
        unit: if row.score.is_empty() { String::new() } else { unit.clone() },
        score: row.score,
    });
    Ok((rows.collect(), None))
}

impl Report for ShownTask {
    fn text(&self) -> String {
        let reason = self.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        let head = format!(
            "task {} is {}{reason}: {} failures, {} lapses, {} releases\n\n",
            self.task, self.state, self.failures, self.lapses, self.releases
        );
        let mut molecules = Table::new(&["molecule", "structure"]);
        for molecule in self.molecules.iter().take(LISTED) {
            let structure = if molecule.smiles().is_empty() { "SDF record" } else { molecule.smiles() };
            molecules.row([molecule.id.clone(), structure.to_owned()]);
        }
        let attempts: String = self.attempts.iter().map(Attempt::text).collect();
        let fault = self.shard_fault.as_ref();
        let fault = fault.map_or(String::new(), |fault| format!("\nThe shard can't be shown: {fault}\n"));
        format!("{head}{molecules}{}{attempts}{}{fault}", more(self.molecules.len()), self.result())
    }
}

impl ShownTask {
    fn result(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&["molecule", "verdict", "reason", ">score", "unit"]);
        for row in self.rows.iter().take(LISTED) {
            let cells = [&row.molecule_id, row.verdict, &row.reason, &row.score, &row.unit];
            table.row(cells.map(str::to_owned));
        }
        format!("\n{table}{}", more(self.rows.len()))
    }
}

fn more(listed: usize) -> String {
    let more = listed.saturating_sub(LISTED);
    if more > 0 { format!("and {more} more\n") } else { String::new() }
}

impl Attempt {
    fn text(&self) -> String {
        let mut lines = vec![String::new(), format!("attempt {}: {}", self.lease, self.ending)];
        if let Some(record) = &self.record {
            let why = [&record.reason, &record.detail].into_iter().flatten().cloned().collect::<Vec<_>>();
            if !why.is_empty() {
                lines.push(format!("  {}", why.join(": ")));
            }
            lines.push(format!("  host {}", record.provenance.host));
            let step = |step: &StepRecord| {
                format!("  step {}: {} after {}", step.name, step.ended, duration(step.elapsed_ms))
            };
            lines.extend(record.steps.iter().map(step));
        }
        if let Some(tail) = self.tail.as_ref().filter(|tail| !tail.trim().is_empty()) {
            lines.push("  the end of its log:".to_owned());
            lines.extend(tail.lines().map(|line| format!("    {line}")));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}
