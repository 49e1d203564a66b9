//! The lines of an export: a task, or a step of its engine, as CSV or JSON Lines. Pure, but for the writing.

use std::io::{self, Write};

use common::queue::TaskInfo;
use common::task::{LeaseName, TaskId, WorkerId};
use serde::Serialize;

/// A task. Columns are added at the end, never renamed. Moments are ms of the Redis clock, of the attempt that succeeded.
#[derive(Debug, Serialize)]
pub(crate) struct Exported {
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
    pub(crate) fn new(task: TaskId, info: TaskInfo) -> Self {
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
pub(crate) struct ExportedStep<'a> {
    pub(crate) task: TaskId,
    pub(crate) lease: &'a LeaseName,
    /// Its name, as its logs have it.
    pub(crate) step: &'a str,
    /// What it is a step of: its name without the molecule's number, and without the round.
    pub(crate) kind: &'a str,
    /// How its program ended, such as `exit 0`.
    pub(crate) ended: &'a str,
    pub(crate) elapsed_ms: u64,
}

/// How lines are written.
pub(crate) enum Sink<W: Write> {
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
}

impl<W: Write> Sink<W> {
    pub(crate) fn new(json: bool, to: W) -> Self {
        if json { Self::JsonLines(to) } else { Self::Csv(Box::new(csv::Writer::from_writer(to))) }
    }

    pub(crate) fn write(&mut self, row: &impl Serialize) -> io::Result<()> {
        match self {
            Self::Csv(csv) => csv.serialize(row).map_err(as_io),
            Self::JsonLines(to) => {
                serde_json::to_writer(&mut *to, row)?;
                to.write_all(b"\n")
            }
        }
    }

    pub(crate) fn finish(self) -> io::Result<W> {
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
