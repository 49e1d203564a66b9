//! What a task has behind it: every attempt with the end of its log, and the rows of its result. Reads only, and only by name.

use common::queue::TaskInfo;
use common::storage::{RunStore, StorageError, key};
use common::task::{AttemptFile, AttemptRecord, Ending, LeaseName, Shard, State, TaskId};
use serde::Serialize;

/// Lines of a log that are shown, and the bytes at its end in which they are looked for.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;

/// The column of a shard in which engines say in a sentence why a molecule is bad.
const DETAIL: &str = "detail";

/// One attempt. What only its record says is absent when it left none.
#[derive(Debug, Serialize)]
pub(crate) struct Attempt {
    pub(crate) lease: LeaseName,
    pub(crate) ending: String,
    pub(crate) record: Option<AttemptRecord>,
    pub(crate) tail: Option<String>,
}

/// A row of the result.
#[derive(Debug, Serialize)]
pub(crate) struct ShownRow {
    pub(crate) molecule_id: String,
    pub(crate) verdict: &'static str,
    pub(crate) reason: String,
    pub(crate) score: String,
    pub(crate) unit: String,
    /// Why it is bad, in a sentence; absent if the engine gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// All attempts, the oldest first. The tail in Redis is that of the last failed one.
pub(crate) async fn attempts(
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
            Some(record) => stored_tail(store, &record.files).await?,
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

/// The word for the end of an attempt.
pub(crate) const fn ending_name(ending: Ending) -> &'static str {
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
async fn stored_tail(store: &RunStore, files: &[AttemptFile]) -> Result<Option<String>, StorageError> {
    let is_log = |file: &&AttemptFile| file.object.contains("stderr") && file.bytes > 0;
    let Some(log) = files.iter().rev().find(is_log) else { return Ok(None) };
    let length = log.bytes.min(TAIL_BYTES);
    match store.read_range(&log.object, log.bytes - length, length).await {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            Ok(Some(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")))
        }
        // A log that is not what its record says is no reason to show nothing of the others.
        Err(StorageError::Missing { .. } | StorageError::Short { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rows of a succeeded task, or why they can't be shown.
pub(crate) async fn rows(
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
    let at = shard.columns.iter().position(|column| column == DETAIL);
    let rows = shard.rows.into_iter().map(|row| ShownRow {
        molecule_id: row.molecule_id,
        detail: at.and_then(|at| row.columns.get(at)).filter(|detail| !detail.is_empty()).cloned(),
        verdict: row.verdict.name(),
        reason: row.reason,
        unit: if row.score.is_empty() { String::new() } else { unit.clone() },
        score: row.score,
    });
    Ok((rows.collect(), None))
}

#[cfg(test)]
mod tests {
    use common::storage::Store;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_log_is_shown_if_it_is_what_its_record_says() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("file://{}", folder.path().display())).unwrap();
        let store = store.run(&"r".parse().unwrap());
        let object = "attempts/0000000/1.w.1/logs/dock.stderr".to_owned();
        store.create(&object, "first\nlast\n".into()).await.unwrap();
        let file = |bytes: u64| AttemptFile { object: object.clone(), sha256: String::new(), bytes };
        assert_eq!(stored_tail(&store, &[file(11)]).await.unwrap().as_deref(), Some("first\nlast"));
        assert_eq!(stored_tail(&store, &[file(u64::MAX)]).await.unwrap(), None);
    }
}
