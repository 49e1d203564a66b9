//! All tasks of a run in their order, a chunk at a time: a million of them must fit into any laptop. Reads only.

use std::ops::ControlFlow;

use common::queue::{Queue, TaskInfo};
use common::task::{RunId, TaskId};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::error::LaunchpadError;

/// Tasks per question to Redis: long enough that the way there does not count, short enough that workers don't wait.
const CHUNK: u64 = 500;
/// Questions under way at a time.
const QUESTIONS: usize = 2;

/// Gives every task that was pushed so far to `take`, until that has seen enough.
pub(crate) async fn scan(
    queue: &Queue,
    run: &RunId,
    mut take: impl FnMut(TaskId, TaskInfo) -> Result<ControlFlow<()>, LaunchpadError>,
) -> Result<(), LaunchpadError> {
    let total = queue.progress(run).await?.total;
    let step = usize::try_from(CHUNK).expect("it is small");
    let questions = (0..total).step_by(step).map(async |first| {
        let ids: Vec<TaskId> = (first..total.min(first + CHUNK)).map(TaskId).collect();
        let infos = queue.tasks(run, &ids).await?;
        Ok::<_, LaunchpadError>(ids.into_iter().zip(infos))
    });
    let mut answers = futures::stream::iter(questions).buffered(QUESTIONS);
    while let Some(chunk) = answers.try_next().await? {
        for (task, info) in chunk {
            if take(task, info)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}
