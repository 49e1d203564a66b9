//! What a task's programs print while they run, for those who follow it. Nobody tells anything as long as nobody asks: a request is a
//! message on the channel of the worker that holds the task, and makes no key.

use std::collections::HashMap;

use redis::AsyncCommands as _;
use redis::streams::StreamRangeReply;

use super::keys::{self, RunKeys};
use super::{Fate, Queue, QueueError, lease, scripts};
use crate::task::{LeaseName, RunId, TaskId};

/// How long a request for output holds, in ms. Who follows a task asks again well before.
pub const ASKED_MS: u64 = 15_000;
/// How much of a log is told at once, in bytes; with 64 pieces kept, a run has at most 1 MiB of live output in Redis.
pub const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Names its place among the pieces of the run.
    pub id: String,
    /// The task.
    pub task: TaskId,
    /// The attempt.
    pub lease: LeaseName,
    /// The log, `<step>.<stream>`.
    pub log: String,
    /// Where in the log it begins, in bytes.
    pub from: u64,
    /// What was printed.
    pub text: Vec<u8>,
}

impl Queue {
    /// Asks the worker that holds this lease for the output of its task, for [`ASKED_MS`]. It may not hear of it: ask again.
    pub async fn ask_for_output(
        &self,
        run: &RunId,
        task: TaskId,
        lease: &LeaseName,
    ) -> Result<(), QueueError> {
        let mut connection = self.connection().await?;
        let asked: Result<(), _> =
            connection.publish(keys::wake(&lease.worker), keys::follow_message(run, task)).await;
        asked.map_err(|source| self.error(source))
    }

    /// Tells a piece of a log of a task that is held under this lease, which begins at `from`. Repeating it is fine.
    pub async fn tell(
        &self,
        run: &RunId,
        task: TaskId,
        lease: &LeaseName,
        (log, from, text): (&str, u64, &[u8]),
    ) -> Result<Result<(), Fate>, QueueError> {
        let arguments = (task.0, lease.to_string(), log, from, text);
        let reply = self.run_script(&scripts::TELL, run, arguments).await?;
        if reply.code() == "ok" { Ok(Ok(())) } else { lease::fate(&reply).map(Err) }
    }

    /// The pieces of a task's output that came after the piece with this id, or all that are kept.
    pub async fn output(
        &self,
        run: &RunId,
        task: TaskId,
        after: Option<&str>,
    ) -> Result<(Vec<Piece>, Option<String>), QueueError> {
        let mut connection = self.connection().await?;
        let start = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
        let read: Result<StreamRangeReply, _> = connection.xrange(RunKeys::new(run).live(), start, "+").await;
        let read = read.map_err(|source| self.error(source))?;
        let last = read.ids.last().map(|entry| entry.id.clone());
        let pieces = read.ids.into_iter().filter_map(|entry| piece(entry.id, &entry.map));
        Ok((pieces.filter(|piece| piece.task == task).collect(), last.or_else(|| after.map(str::to_owned))))
    }
}

/// A piece from the fields of its entry; `None` if this version can't read it.
pub(super) fn piece(id: String, fields: &HashMap<String, redis::Value>) -> Option<Piece> {
    let text = |field: &str| redis::from_redis_value_ref::<String>(fields.get(field)?).ok();
    Some(Piece {
        id,
        task: text("task")?.parse().ok()?,
        lease: text("lease")?.parse().ok()?,
        log: text("log")?,
        from: text("from")?.parse().ok()?,
        text: redis::from_redis_value_ref(fields.get("text")?).ok()?,
    })
}
