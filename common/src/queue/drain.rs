//! Telling workers to leave: by a message, which only those hear that are connected, and by a note, which the others find when they next
//! let themselves be seen. A worker's id is that of one process, so a note can't concern anybody else.

use redis::AsyncCommands as _;

use super::keys;
use super::{Queue, QueueError};
use crate::task::WorkerId;

/// How long notes are kept after the last one, in seconds: as long as the registry remembers a worker.
const NOTES_SECONDS: i64 = 7 * 24 * 3600;

impl Queue {
    /// Tells workers to leave, and says of each whether it heard. One that did not leaves when it is next seen in the registry.
    pub async fn drain(&self, workers: &[WorkerId]) -> Result<Vec<bool>, QueueError> {
        if workers.is_empty() {
            return Ok(Vec::new());
        }
        let now_ms = self.now_ms().await?;
        let mut connection = self.connection().await?;
        let notes: Vec<(u64, &str)> = workers.iter().map(|worker| (now_ms, worker.as_str())).collect();
        let mut pipe = redis::pipe();
        pipe.zadd_multiple(keys::DRAINS, &notes).ignore();
        pipe.expire(keys::DRAINS, NOTES_SECONDS).ignore();
        let noted: Result<(), _> = pipe.query_async(&mut connection).await;
        noted.map_err(|source| self.error(source))?;
        let mut heard = Vec::with_capacity(workers.len());
        for worker in workers {
            let listeners: Result<u64, _> = connection.publish(keys::wake(worker), keys::DRAIN_MESSAGE).await;
            heard.push(listeners.map_err(|source| self.error(source))? > 0);
        }
        Ok(heard)
    }
}
