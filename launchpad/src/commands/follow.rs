//! `logs -f`: what a task's programs print, as they print it, until the task has ended. It asks the worker that holds the task again
//! and again, and says in words what becomes of the attempts.

use std::time::Duration;

use common::queue::{ASKED_MS, Disposition, Piece, Queue, TaskInfo};
use common::task::{LeaseName, RunId, State, TaskId};
use serde::Serialize;

use super::Context;
use crate::error::LaunchpadError;
use crate::followed::Seen;
use crate::output::{self, Output, Report};

/// Between two looks.
const REFRESH: Duration = Duration::from_millis(500);
/// A request for output is renewed at every tenth look: thrice while it holds.
const ASK_EVERY: u32 = 10;
const _: () = assert!(ASK_EVERY as u128 * REFRESH.as_millis() * 3 <= ASKED_MS as u128);

/// What happened. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Happened<'a> {
    /// A program printed something.
    Output {
        task: TaskId,
        lease: &'a LeaseName,
        log: &'a str,
        /// Where in the log it begins, in bytes.
        from: u64,
        /// Bytes before it that were not told.
        skipped_bytes: u64,
        text: String,
    },
    /// The task is in another state or has another attempt.
    State {
        task: TaskId,
        state: &'static str,
        lease: Option<&'a LeaseName>,
        reason: Option<&'a str>,
        /// The same in words.
        text: String,
    },
}

impl Report for Happened<'_> {
    fn text(&self) -> String {
        match self {
            Self::Output { text, .. } | Self::State { text, .. } => text.clone(),
        }
    }
}

/// Follows a task to its end, or until the person has seen enough.
pub(super) async fn follow(
    context: &Context,
    queue: &Queue,
    run: &RunId,
    task: TaskId,
) -> Result<(), LaunchpadError> {
    let follower = Follower { output: context.output, queue, run, task, seen: Seen::default(), header: None };
    tokio::select! {
        ended = follower.until_it_ends() => ended,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt.map_err(LaunchpadError::Runtime)?;
            context.output.note(&format!("no longer following task {task}; it goes on"));
            Ok(())
        }
    }
}

struct Follower<'a> {
    output: Output,
    queue: &'a Queue,
    run: &'a RunId,
    task: TaskId,
    seen: Seen,
    /// The attempt and log whose output was printed last.
    header: Option<(LeaseName, String)>,
}

impl Follower<'_> {
    async fn until_it_ends(mut self) -> Result<(), LaunchpadError> {
        let (mut after, mut looks, mut away) = (None, 0_u32, false);
        loop {
            match self.look(&mut after, looks.is_multiple_of(ASK_EVERY)).await {
                Ok(info) if info.state.is_terminal() => return Ok(()),
                Ok(_) => away = false,
                Err(LaunchpadError::Queue(error)) if error.disposition() == Disposition::Retry => {
                    if !away {
                        self.output.note("Redis does not answer, trying again");
                    }
                    away = true;
                }
                Err(error) => return Err(error),
            }
            looks += 1;
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Prints what is new. The state is read before the output, so that nothing is missing of an attempt that has ended.
    async fn look(&mut self, after: &mut Option<String>, ask: bool) -> Result<TaskInfo, LaunchpadError> {
        let info = self.queue.tasks(self.run, &[self.task]).await?.remove(0);
        let is_new = self.seen.lease != info.lease;
        if let Some(lease) = info.lease.as_ref().filter(|_| info.state == State::Leased && (ask || is_new)) {
            self.queue.ask_for_output(self.run, self.task, lease).await?;
        }
        let is_first = after.is_none();
        let (pieces, last) = self.queue.output(self.run, self.task, after.as_deref()).await?;
        // What somebody else followed before is kept for a while; an attempt that was over before we came is none of our business.
        let pieces =
            pieces.into_iter().filter(|piece| !is_first || Some(&piece.lease) == info.lease.as_ref());
        let (current, former): (Vec<_>, Vec<_>) =
            pieces.partition(|piece| Some(&piece.lease) == info.lease.as_ref());
        for piece in &former {
            self.print(piece)?;
        }
        let has_ended = info.state != State::Leased;
        if !has_ended {
            self.say(&info)?;
        }
        for piece in &current {
            self.print(piece)?;
        }
        if has_ended {
            self.say(&info)?;
        }
        *after = Some(last.unwrap_or_else(|| "0".to_owned()));
        Ok(info)
    }

    /// Says what became of the task since the last look, if anything did.
    fn say(&mut self, info: &TaskInfo) -> Result<(), LaunchpadError> {
        let Some(text) = self.seen.change(self.run, self.task, info) else { return Ok(()) };
        if self.output.is_json() {
            let (lease, reason) = (info.lease.as_ref(), info.reason.as_deref());
            self.output.report(&Happened::State {
                task: self.task,
                state: info.state.name(),
                lease,
                reason,
                text,
            })?;
        } else {
            self.output.note(&text);
        }
        Ok(())
    }

    fn print(&mut self, piece: &Piece) -> Result<(), LaunchpadError> {
        let Some((skipped_bytes, new)) = self.seen.new_part(piece) else { return Ok(()) };
        if self.output.is_json() {
            return self.output.report(&Happened::Output {
                task: self.task,
                lease: &piece.lease,
                log: &piece.log,
                from: piece.from + (piece.text.len() - new.len()) as u64,
                skipped_bytes,
                text: String::from_utf8_lossy(new).into_owned(),
            });
        }
        let header = (piece.lease.clone(), piece.log.clone());
        if self.header.as_ref() != Some(&header) {
            let name = format!("{} of attempt {}", piece.log, piece.lease.number);
            output::log_header(&name, self.header.is_none())?;
            self.header = Some(header);
        }
        if skipped_bytes > 0 {
            output::log_part(format!("[{skipped_bytes} bytes are left out here]\n").as_bytes())?;
        }
        output::log_part(new)
    }
}
