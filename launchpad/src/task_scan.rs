//! All tasks of a run in their order, a chunk at a time: a million of them must fit into any laptop. Reads only.

use std::ops::ControlFlow;

use common::queue::{Queue, TaskInfo};
use common::task::{RunId, State, TaskId};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::error::LaunchpadError;

/// Tasks per question to Redis: long enough that the way there does not count, short enough that workers don't wait.
const CHUNK: usize = 500;
/// Questions under way at a time.
const QUESTIONS: usize = 2;

/// Gives the tasks that are in one of some states to `take`, or every task that was pushed so far, until that has seen enough.
/// Where Redis lists a state's tasks, only those are asked for.
pub(crate) async fn scan(
    queue: &Queue,
    run: &RunId,
    states: &[State],
    mut take: impl FnMut(TaskId, TaskInfo) -> Result<ControlFlow<()>, LaunchpadError>,
) -> Result<(), LaunchpadError> {
    let chunks: Box<dyn Iterator<Item = Vec<TaskId>>> = match listed(queue, run, states).await? {
        Some(ids) => Box::new(ids.chunks(CHUNK).map(<[_]>::to_vec).collect::<Vec<_>>().into_iter()),
        None => Box::new(chunks(queue.progress(run).await?.total)),
    };
    let questions = chunks.map(async |ids| {
        let infos = queue.tasks(run, &ids).await?;
        Ok::<_, LaunchpadError>(ids.into_iter().zip(infos))
    });
    let mut answers = futures::stream::iter(questions).buffered(QUESTIONS);
    while let Some(chunk) = answers.try_next().await? {
        // A task may have gone on since its state's list was read.
        for (task, info) in chunk.filter(|(_, info)| states.is_empty() || states.contains(&info.state)) {
            if take(task, info)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// All task ids, chunk by chunk.
fn chunks(total: u64) -> impl Iterator<Item = Vec<TaskId>> {
    let chunk = move |first| (first..total.min(first + CHUNK as u64)).map(TaskId).collect();
    (0..total).step_by(CHUNK).map(chunk)
}

/// The tasks of these states in their order, if Redis lists each of the states.
async fn listed(queue: &Queue, run: &RunId, states: &[State]) -> Result<Option<Vec<TaskId>>, LaunchpadError> {
    let mut all = Vec::new();
    for state in states {
        match queue.tasks_in(run, *state).await? {
            Some(ids) => all.extend(ids),
            None => return Ok(None),
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok((!states.is_empty()).then_some(all))
}
