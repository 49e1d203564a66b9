//! `logs`: everything that the programs of one attempt printed, by the names in its record. It lists nothing in the store. What a
//! running task prints is [`super::follow`]'s.

use common::digest::sha256_hex;
use common::queue::TaskInfo;
use common::storage::{RunStore, StorageError, key};
use common::task::{AttemptFile, AttemptRecord, Ending, LeaseName, State, StepRecord, TaskId};
use serde::Serialize;

use super::Context;
use super::follow::follow;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::{self, Report, duration};

/// What a step writes to.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// One log. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Log<'a> {
    task: TaskId,
    lease: &'a LeaseName,
    step: &'a str,
    stream: &'static str,
    /// How the step ended.
    ended: &'a str,
    elapsed_ms: u64,
    text: String,
}

impl Report for Log<'_> {
    fn text(&self) -> String {
        self.text.clone()
    }
}

/// Prints the logs of an attempt, step by step.
pub(super) async fn logs(context: &Context, arguments: &cli::Logs) -> Result<(), LaunchpadError> {
    let (run, task) = (&arguments.run, arguments.task);
    let queue = context.location.queue()?;
    let run_info = queue.run_info(run).await?;
    let tasks = run_info.spec.manifest.tasks;
    let absent = || LaunchpadError::NoSuchTask { run: run.clone(), task, tasks };
    let info = queue.tasks(run, &[task]).await?.pop().filter(|_| task.0 < tasks).ok_or_else(absent)?;
    if arguments.follow && !info.state.is_terminal() {
        return follow(context, &queue, run, task).await;
    }
    let lease = choose(task, &info, arguments.attempt)?;
    let store = context.location.run_store(&run_info.store, run)?;
    let stored = store.find(&key::attempt_record(task, lease)).await?;
    let record = stored.and_then(|bytes| serde_json::from_slice::<AttemptRecord>(&bytes).ok());
    let record = record.ok_or_else(|| LaunchpadError::NoLogs {
        task,
        lease: lease.clone(),
        why: why_none(&info, lease),
    })?;
    let mut printed = 0;
    for step in &record.steps {
        for stream in STREAMS {
            let name = key::attempt_file(task, lease, &format!("logs/{}.{stream}", step.name));
            if let Some(file) = record.files.iter().find(|file| file.object == name) {
                print(context, task, lease, (step, stream), &read(&store, file).await?)?;
                printed += 1;
            }
        }
    }
    if printed == 0 {
        context.output.note(&format!("attempt {lease} of task {task}: no program printed anything"));
    }
    Ok(())
}

/// The lease of an attempt by its number, or the latest one.
fn choose(task: TaskId, info: &TaskInfo, number: Option<u64>) -> Result<&LeaseName, LaunchpadError> {
    let leases: Vec<&LeaseName> = info.former.iter().map(|(lease, _)| lease).chain(&info.lease).collect();
    let chosen = match number {
        None => leases.last(),
        Some(number) => leases.iter().rfind(|lease| lease.number == number),
    };
    chosen.copied().ok_or_else(|| LaunchpadError::NoSuchAttempt {
        task,
        number,
        known: leases.iter().map(|lease| lease.number.to_string()).collect(),
    })
}

/// Why an attempt left no record.
fn why_none(info: &TaskInfo, lease: &LeaseName) -> &'static str {
    let former = info.former.iter().find(|(former, _)| former == lease).map(|(_, ending)| *ending);
    let is_latest = info.lease.as_ref() == Some(lease);
    match former.or(info.ending.filter(|_| is_latest)) {
        Some(Ending::Lapsed) => "its worker vanished",
        None if info.state == State::Leased => {
            "it is still running, and logs are stored at its end; -f follows it"
        }
        Some(Ending::Cancelled) => "it was cancelled, and its worker has not stored them",
        Some(Ending::Failed | Ending::Released | Ending::Succeeded) | None => {
            "it ended before its first step"
        }
    }
}

/// A log as it was uploaded.
async fn read(store: &RunStore, file: &AttemptFile) -> Result<Vec<u8>, LaunchpadError> {
    let bytes = store.read(&file.object).await?;
    let (theirs, ours) = (sha256_hex(&bytes), file.sha256.clone());
    if theirs == ours {
        return Ok(bytes.into());
    }
    let (object, url) = (file.object.clone(), store.url().to_owned());
    Err(StorageError::Digest { object, url, theirs, ours }.into())
}

fn print(
    context: &Context,
    task: TaskId,
    lease: &LeaseName,
    (step, stream): (&StepRecord, &'static str),
    content: &[u8],
) -> Result<(), LaunchpadError> {
    if context.output.is_json() {
        return context.output.report(&Log {
            task,
            lease,
            step: &step.name,
            stream,
            ended: &step.ended,
            elapsed_ms: step.elapsed_ms,
            text: String::from_utf8_lossy(content).into_owned(),
        });
    }
    let name = format!("{}.{stream} ({} after {})", step.name, step.ended, duration(step.elapsed_ms));
    output::log(&name, content)
}
