//! Watches a run whose tasks are single molecules, and tells each as it comes in.

use std::time::Duration;

use common::queue::{Disposition, Queue, QueueError, TaskInfo};
use common::storage::{RunStore, Store};
use common::task::{Molecule, RunId, TaskId};

use super::Context;
use crate::error::LaunchpadError;
use crate::push::StagedManifest;
use crate::run_status::RunStatus;
use crate::task_history;
use crate::trial_report::Tried;

/// Between two looks.
const REFRESH: Duration = Duration::from_secs(1);

/// A run of single molecules, until it is drained.
pub(super) struct Watched<'a> {
    context: &'a Context,
    queue: &'a Queue,
    store: RunStore,
    run: &'a RunId,
}

impl<'a> Watched<'a> {
    pub(super) fn new(
        context: &'a Context,
        queue: &'a Queue,
        run: &'a RunId,
        store_url: &str,
    ) -> Result<Self, LaunchpadError> {
        Ok(Self { context, queue, store: Store::open(store_url)?.run(run), run })
    }

    /// Tells each molecule as it comes in, and why nothing moves. Passing faults of Redis are waited out.
    pub(super) async fn until_drained(
        &self,
        manifest: &StagedManifest,
    ) -> Result<Vec<(Tried, TaskInfo)>, LaunchpadError> {
        let molecules: Vec<(TaskId, Vec<Molecule>)> = manifest.tasks().collect::<Result<_, _>>()?;
        let ids: Vec<TaskId> = molecules.iter().map(|(task, _)| *task).collect();
        let mut tried: Vec<Option<(Tried, TaskInfo)>> = vec![None; ids.len()];
        let mut told = "drained";
        loop {
            match self.look(&ids).await {
                Ok((status, tasks)) => {
                    for (((task, molecules), info), known) in molecules.iter().zip(&tasks).zip(&mut tried) {
                        if known.is_none() && info.state.is_terminal() {
                            let came = self.tried(*task, &molecules[0], info).await?;
                            self.context.output.note(&came.line());
                            *known = Some((came, info.clone()));
                        }
                    }
                    if status.drained && tried.iter().all(Option::is_some) {
                        return Ok(tried.into_iter().flatten().collect());
                    }
                    if status.why != told {
                        self.context.output.note(&status.why_text);
                        told = status.why;
                    }
                }
                Err(error) if error.disposition() == Disposition::Retry => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(REFRESH).await;
        }
    }

    async fn look(&self, ids: &[TaskId]) -> Result<(RunStatus, Vec<TaskInfo>), QueueError> {
        let status = RunStatus::gather(self.queue, self.run).await?;
        Ok((status, self.queue.tasks(self.run, ids).await?))
    }

    async fn tried(
        &self,
        task: TaskId,
        molecule: &Molecule,
        info: &TaskInfo,
    ) -> Result<Tried, LaunchpadError> {
        let (rows, fault) = task_history::rows(&self.store, task, info).await?;
        let took = info.timings.and_then(|timings| timings.completed?.checked_sub(timings.moments.leased));
        let row = rows.into_iter().next();
        Ok(Tried {
            task,
            molecule_id: molecule.id.clone(),
            verdict: row.as_ref().map_or(info.state.name(), |row| row.verdict),
            reason: fault
                .or_else(|| row.as_ref().map(|row| row.reason.clone()))
                .or_else(|| info.reason.clone())
                .unwrap_or_default(),
            score: row.as_ref().map(|row| row.score.clone()).unwrap_or_default(),
            unit: row.map(|row| row.unit).unwrap_or_default(),
            ms: took,
        })
    }
}
