//! `export`: one line per task with everything that Redis knows of its times, or one per step of its engine with what its record knows, as
//! CSV or JSON Lines. It changes nothing.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::queue::Queue;
use common::storage::{RunStore, key};
use common::task::{AttemptRecord, LeaseName, RunId, State, StepRecord, TaskId, step_kind};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::exported::{Exported, ExportedStep, Sink};
use crate::new_file::{NewFile, is_stdout};
use crate::output::{self, Report, STDOUT_NAME, checked, thousands};
use crate::task_scan::scan;

/// Records that are fetched at a time.
const FETCHES: usize = 32;

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
    let Some(path) = arguments.output.as_deref().filter(|path| !is_stdout(path)) else {
        let sink = Sink::new(json, BufWriter::new(output::stdout()));
        return match source.write_to(sink, Path::new(STDOUT_NAME)).await {
            Err(LaunchpadError::File { source, .. }) => checked::<()>(Err(source)),
            other => other.map(drop),
        };
    };
    let file = NewFile::create(path)?;
    let (tasks, file) = source.write_to(Sink::new(json, file), path).await?;
    file.publish()?;
    context.output.report(&Summary { run, tasks, output: path.to_owned() })
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
