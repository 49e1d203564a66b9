//! `export`: one line per task with everything that Redis knows of its times, or one per step of its engine with what its record knows, as
//! CSV or JSON Lines. It changes nothing.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::queue::{Queue, TaskInfo};
use common::storage::{RunStore, key};
use common::task::{AttemptRecord, LeaseName, RunId, State, StepRecord, TaskId, WorkerId, step_kind};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::new_file::NewFile;
use crate::output::{self, Report, thousands};
use crate::task_scan::scan;

/// Records that are fetched at a time.
const FETCHES: usize = 32;

/// A task. Columns are added at the end, never renamed. Moments are ms of the Redis clock, of the attempt that succeeded.
#[derive(Debug, Serialize)]
struct Exported {
    task: TaskId,
    state: &'static str,
    worker: Option<WorkerId>,
    lease: Option<LeaseName>,
    /// Leases that it had.
    attempts: u64,
    failures: u64,
    lapses: u64,
    releases: u64,
    reason: Option<String>,
    molecules_ok: u64,
    molecules_bad: u64,
    queued_ms: Option<u64>,
    leased_ms: Option<u64>,
    staged_ms: Option<u64>,
    engine_started_ms: Option<u64>,
    engine_ended_ms: Option<u64>,
    upload_started_ms: Option<u64>,
    upload_ended_ms: Option<u64>,
    completed_ms: Option<u64>,
    bytes_down: Option<u64>,
    bytes_up: Option<u64>,
}

impl Exported {
    fn new(task: TaskId, info: TaskInfo) -> Self {
        let moments = info.timings.map(|timings| timings.moments);
        Self {
            task,
            state: info.state.name(),
            worker: info.lease.as_ref().map(|lease| lease.worker.clone()),
            attempts: info.lease.as_ref().map_or(0, |lease| lease.number),
            lease: info.lease,
            failures: info.failures,
            lapses: info.lapses,
            releases: info.releases,
            reason: info.reason,
            molecules_ok: info.molecules_ok,
            molecules_bad: info.molecules_bad,
            queued_ms: moments.map(|moments| moments.queued),
            leased_ms: moments.map(|moments| moments.leased),
            staged_ms: moments.and_then(|moments| moments.staged),
            engine_started_ms: moments.and_then(|moments| moments.engine_started),
            engine_ended_ms: moments.and_then(|moments| moments.engine_ended),
            upload_started_ms: moments.and_then(|moments| moments.upload_started),
            upload_ended_ms: moments.and_then(|moments| moments.upload_ended),
            completed_ms: info.timings.and_then(|timings| timings.completed),
            bytes_down: info.bytes.map(|(down, _)| down),
            bytes_up: info.bytes.map(|(_, up)| up),
        }
    }
}

/// A step of an engine, of the attempt that succeeded. Columns are added at the end, never renamed.
#[derive(Debug, Serialize)]
struct ExportedStep<'a> {
    task: TaskId,
    lease: &'a LeaseName,
    /// Its name, as its logs have it.
    step: &'a str,
    /// What it is a step of: its name without the molecule's number, and without the round.
    kind: &'a str,
    /// How its program ended, such as `exit 0`.
    ended: &'a str,
    elapsed_ms: u64,
}

/// How lines are written.
enum Sink<W: Write> {
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
}

impl<W: Write> Sink<W> {
    fn new(json: bool, to: W) -> Self {
        if json { Self::JsonLines(to) } else { Self::Csv(Box::new(csv::Writer::from_writer(to))) }
    }

    fn write(&mut self, row: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Csv(csv) => csv.serialize(row).map_err(as_io),
            Self::JsonLines(to) => {
                serde_json::to_writer(&mut *to, row)?;
                to.write_all(b"\n")
            }
        }
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Csv(csv) => csv.into_inner().map_err(csv::IntoInnerError::into_error),
            Self::JsonLines(mut to) => to.flush().map(|()| to),
        }
    }
}

/// The system's own error, by which a closed pipe is told from a full disk.
fn as_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[derive(Debug, Serialize)]
struct Summary<'a> {
    run: &'a RunId,
    tasks: u64,
    output: PathBuf,
}

impl Report for Summary<'_> {
    fn text(&self) -> String {
        format!("{} tasks of {} in {}\n", thousands(self.tasks), self.run, self.output.display())
    }
}

/// Exports all tasks.
pub(super) async fn export(context: &Context, arguments: &cli::Export) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let run = &arguments.run;
    let info = queue.run_info(run).await?;
    let store = context.location.run_store(&info.store, run)?;
    let source = Source { queue, store, run, steps: arguments.steps };
    let json = arguments.jsonl || (context.output.is_json() && !arguments.csv);
    let Some(path) = &arguments.output else {
        let sink = Sink::new(json, BufWriter::new(output::stdout()));
        return match source.write_to(sink, Path::new("standard output")).await {
            // A reader that has seen enough (`| head`) is no error of ours.
            Err(LaunchpadError::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map(drop),
        };
    };
    let file = NewFile::create(path)?;
    let (tasks, file) = source.write_to(Sink::new(json, file), path).await?;
    file.publish()?;
    context.output.report(&Summary { run, tasks, output: path.clone() });
    Ok(())
}

/// The steps of a task's latest lease.
type Steps = (TaskId, LeaseName, Vec<StepRecord>);

/// From where lines are taken.
struct Source<'a> {
    queue: Queue,
    store: RunStore,
    run: &'a RunId,
    /// Whether there is one for each step.
    steps: bool,
}

impl Source<'_> {
    /// Writes all tasks, and gives their number and the destination back.
    async fn write_to<W: Write>(&self, mut sink: Sink<W>, path: &Path) -> Result<(u64, W), LaunchpadError> {
        let failed = |source| LaunchpadError::File { action: "write", path: path.to_owned(), source };
        let mut tasks = 0;
        let mut succeeded = Vec::new();
        let states: &[State] = if self.steps { &[State::Succeeded] } else { &[] };
        scan(&self.queue, self.run, states, |task, info| {
            tasks += 1;
            match info.lease {
                Some(lease) if self.steps => succeeded.push((task, lease)),
                _ if self.steps => {}
                _ => sink.write(&Exported::new(task, info)).map_err(failed)?,
            }
            Ok(ControlFlow::Continue(()))
        })
        .await?;
        let looks = succeeded.into_iter().map(|(task, lease)| self.steps(task, lease));
        let mut looks = futures::stream::iter(looks).buffered(FETCHES);
        while let Some((task, lease, steps)) = looks.try_next().await? {
            for StepRecord { name, ended, elapsed_ms, .. } in &steps {
                let (lease, step, kind, elapsed_ms) = (&lease, name.as_str(), step_kind(name), *elapsed_ms);
                sink.write(&ExportedStep { task, lease, step, kind, ended, elapsed_ms }).map_err(failed)?;
            }
        }
        Ok((tasks, sink.finish().map_err(failed)?))
    }

    /// The steps of an attempt that succeeded; none if its record is gone, since a result counts without it.
    async fn steps(&self, task: TaskId, lease: LeaseName) -> Result<Steps, LaunchpadError> {
        let record = self.store.find(&key::attempt_record(task, &lease)).await?;
        let record = record.and_then(|bytes| serde_json::from_slice::<AttemptRecord>(&bytes).ok());
        Ok((task, lease, record.map(|record| record.steps).unwrap_or_default()))
    }
}
