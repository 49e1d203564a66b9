//! Holding a run in Redis against itself and against the store, and putting right what is wrong: for a person, after a fail-over that
//! forgot what had been acknowledged, or after another hand than a script's. Judges nothing.

use std::collections::BTreeSet;

use redis::AsyncCommands as _;

use super::keys::RunKeys;
use super::{Queue, QueueError, scripts};
use crate::task::{RunId, TaskId};

/// How many ids are read at a time.
const CHUNK: isize = 10_000;

/// Where ids stand, each as often as it stands there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// In the list of pending tasks.
    pub pending: Vec<TaskId>,
    /// In the set of delayed tasks.
    pub delayed: BTreeSet<TaskId>,
    /// In the set of leases.
    pub leases: BTreeSet<TaskId>,
    /// In the list of dead tasks.
    pub dead: Vec<TaskId>,
}

/// A stored result that Redis has no record of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Its task.
    pub task: TaskId,
    /// The number of the task's latest lease when this was found; 0 if it was never leased.
    pub lease_number: u64,
    /// Of the stored shard.
    pub shard_sha256: String,
    /// Of the stored index object.
    pub index_sha256: String,
    /// Molecules that are ok.
    pub molecules_ok: u64,
    /// Molecules that are bad.
    pub molecules_bad: u64,
}

impl Queue {
    /// Records stored results, each only if its task is pending or delayed and was not leased since. Returns how many were.
    pub async fn adopt(&self, run: &RunId, results: &[Adoption]) -> Result<u64, QueueError> {
        let arguments: Vec<String> = results
            .iter()
            .flat_map(|found| {
                [
                    found.task.to_string(),
                    found.lease_number.to_string(),
                    found.shard_sha256.clone(),
                    found.index_sha256.clone(),
                    found.molecules_ok.to_string(),
                    found.molecules_bad.to_string(),
                ]
            })
            .collect();
        self.run_script(&scripts::ADOPT, run, arguments).await?.number(1)
    }

    /// The id of the latest event: as long as it stays the same, no task has changed its state. Empty if there was none.
    pub async fn latest_event(&self, run: &RunId) -> Result<String, QueueError> {
        let mut connection = self.connection().await?;
        let key = RunKeys::new(run).events();
        let latest: Result<Vec<(String, redis::Value)>, _> =
            connection.xrevrange_count(key, "+", "-", 1).await;
        let latest = latest.map_err(|source| self.error(source))?;
        Ok(latest.into_iter().next().map_or_else(String::new, |(id, _)| id))
    }

    /// Where the ids of tasks stand, read bit by bit: it holds together only if [`Self::latest_event`] stays the same meanwhile.
    pub async fn places(&self, run: &RunId) -> Result<Places, QueueError> {
        let keys = RunKeys::new(run);
        Ok(Places {
            pending: self.ids(&keys.pending(), true).await?,
            delayed: self.ids(&keys.delayed(), false).await?.into_iter().collect(),
            leases: self.ids(&keys.leases(), false).await?.into_iter().collect(),
            dead: self.ids(&keys.dead(), true).await?,
        })
    }

    async fn ids(&self, key: &str, is_list: bool) -> Result<Vec<TaskId>, QueueError> {
        let mut connection = self.connection().await?;
        let mut ids = Vec::new();
        for first in (0..).step_by(CHUNK.unsigned_abs()) {
            let last = first + CHUNK - 1;
            let chunk: Result<Vec<u64>, _> = if is_list {
                connection.lrange(key, first, last).await
            } else {
                connection.zrange(key, first, last).await
            };
            let chunk = chunk.map_err(|source| self.error(source))?;
            if chunk.is_empty() {
                break;
            }
            ids.extend(chunk.into_iter().map(TaskId));
        }
        Ok(ids)
    }

    /// Sets counters, and puts tasks where their state belongs, if nothing has happened in the run since this event. Returns whether
    /// it did.
    pub async fn repair(
        &self,
        run: &RunId,
        latest_event: &str,
        counters: &[(&str, u64)],
        tasks: &[TaskId],
    ) -> Result<bool, QueueError> {
        let mut arguments = vec![latest_event.to_owned(), counters.len().to_string()];
        arguments.extend(counters.iter().flat_map(|(name, value)| [(*name).to_owned(), value.to_string()]));
        arguments.extend(tasks.iter().map(TaskId::to_string));
        let reply = self.run_script(&scripts::REPAIR, run, arguments).await?;
        match reply.code() {
            "ok" => Ok(true),
            "busy" => Ok(false),
            _ => Err(reply.unknown()),
        }
    }
}
