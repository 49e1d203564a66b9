//! `trial`: pushes the first molecules as a run of their own, shows each score as a worker brings it, and says what all would take.
//! It runs no engine: that is a worker's.

use std::collections::BTreeSet;
use std::time::Duration;

use common::queue::{Disposition, Queue, QueueError, TaskInfo};
use common::storage::{RunStore, Store};
use common::task::{Molecule, MoleculeSource, RunId, TaskId};

use super::Context;
use super::push::{fill, read};
use crate::cli;
use crate::error::LaunchpadError;
use crate::push::{DryRun, LigandFile, PushPlan, PushRequest, SharedObjects, StagedManifest};
use crate::run_status::RunStatus;
use crate::task_history;
use crate::trial_report::{TrialReport, Tried};

/// Between two looks.
const REFRESH: Duration = Duration::from_secs(1);

/// Tries the first molecules of a push.
pub(super) async fn trial(context: &Context, arguments: &cli::Trial) -> Result<(), LaunchpadError> {
    let flags = &arguments.push;
    let mut request = PushRequest::resolve(flags, None)?;
    (request.run, request.batch_size) = (trial_of(&request.run)?, 1);
    let store_url = context.location.store_url(request.store.as_deref())?;
    let (whole, files) = read(&request, flags.skip_bad)?;
    let first = whole.first(arguments.molecules)?;
    let files = referenced(files, &first)?;
    let shared = SharedObjects::of_files(&request, request.script(&store_url).await?)?;
    let plan = PushPlan::new(&request, shared, first, files);
    if flags.dry_run {
        context.output.report(&DryRun::new(&plan, &store_url));
        return Ok(());
    }
    let queue = context.location.queue()?;
    fill(context, &queue, flags, &request, &plan, &store_url).await?;
    context
        .output
        .note(&format!("Run `{}` has the first molecules of {}.", request.run, whole.digest.molecules));
    let watched =
        Watched { context, queue, store: Store::open(&store_url)?.run(&request.run), run: &request.run };
    let tried = watched.until_drained(&plan.manifest).await?;
    let report =
        TrialReport::new(request.run.clone(), tried, whole.digest.molecules, request.threads_per_task);
    context.output.report(&report);
    if report.has_score() {
        return Ok(());
    }
    Err(LaunchpadError::TrialFailed { run: request.run.clone(), molecules: report.tried() })
}

fn trial_of(run: &RunId) -> Result<RunId, LaunchpadError> {
    format!("{run}-trial").parse().map_err(|_| LaunchpadError::TrialName { run: run.clone() })
}

/// The files whose objects a manifest names; an SDF without a molecule in the trial is not uploaded for it.
fn referenced(
    mut files: Vec<LigandFile>,
    manifest: &StagedManifest,
) -> Result<Vec<LigandFile>, LaunchpadError> {
    let mut named = BTreeSet::new();
    for task in manifest.tasks() {
        for molecule in task?.1 {
            if let MoleculeSource::Sdf { object, .. } = molecule.source {
                named.insert(object);
            }
        }
    }
    files.retain(|file| file.object().is_some_and(|object| named.contains(&object.object)));
    Ok(files)
}

/// A trial that goes on.
struct Watched<'a> {
    context: &'a Context,
    queue: Queue,
    store: RunStore,
    run: &'a RunId,
}

impl Watched<'_> {
    /// Tells each molecule as it comes in, and why nothing moves. Passing faults of Redis are waited out.
    async fn until_drained(&self, manifest: &StagedManifest) -> Result<Vec<Tried>, LaunchpadError> {
        let molecules: Vec<(TaskId, Vec<Molecule>)> = manifest.tasks().collect::<Result<_, _>>()?;
        let ids: Vec<TaskId> = molecules.iter().map(|(task, _)| *task).collect();
        let mut tried: Vec<Option<Tried>> = vec![None; ids.len()];
        let mut told = "drained";
        loop {
            match self.look(&ids).await {
                Ok((status, tasks)) => {
                    for (((task, molecules), info), known) in molecules.iter().zip(&tasks).zip(&mut tried) {
                        if known.is_none() && info.state.is_terminal() {
                            let came = self.tried(*task, &molecules[0], info).await?;
                            self.context.output.note(&came.line());
                            *known = Some(came);
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
        let status = RunStatus::gather(&self.queue, self.run).await?;
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
