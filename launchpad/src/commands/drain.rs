//! `drain`: tells workers to leave, which hands their tasks over.

use common::queue::{WORKER_GONE_MS, WorkerInfo};
use common::task::WorkerId;
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::Report;

/// Slips of the finger in an id that is meant, at most.
const SLIPS_MAX: usize = 3;
/// Ids that are named when none fits.
const NEAR_MAX: usize = 3;

#[derive(Debug, Serialize)]
struct Drained {
    /// Workers that heard it.
    told: Vec<WorkerId>,
    /// Those that did not.
    unheard: Vec<WorkerId>,
}

impl Report for Drained {
    fn text(&self) -> String {
        if self.told.is_empty() && !self.unheard.is_empty() {
            return "No worker heard it.\n".to_owned();
        }
        if self.told.is_empty() {
            return "No worker was found to tell. `launchpad workers` lists all.\n".to_owned();
        }
        let told: Vec<&str> = self.told.iter().map(WorkerId::as_str).collect();
        format!("Told to leave: {}. `launchpad workers` shows those that are still there.\n", told.join(", "))
    }
}

/// Tells each of the workers that it should leave. One that does not hear it is named at the end. Nobody is told anything if one of those
/// that were named is not in the registry: a note for a mistyped name would concern nobody, and the person would think it done.
pub(super) async fn drain(context: &Context, arguments: &cli::Drain) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let (mut chosen, mut away) = (arguments.workers.clone(), Vec::new());
    let registered = queue.workers().await?;
    if let Some(unknown) = chosen.iter().find(|id| registered.iter().all(|worker| worker.id != **id)) {
        return Err(LaunchpadError::UnknownWorker {
            near: near(unknown, &registered),
            worker: unknown.clone(),
        });
    }
    if chosen.is_empty() {
        let now_ms = queue.now_ms().await?;
        let is_there = |worker: &WorkerInfo| now_ms.saturating_sub(worker.seen_ms) <= WORKER_GONE_MS;
        let meant = registered.iter().filter(|worker| is_so(worker, &arguments.labels));
        // Most of those that are away are gone; one that comes back is meant, too.
        let (there, gone): (Vec<_>, Vec<_>) = meant.partition(|worker| is_there(worker));
        chosen.extend(there.into_iter().map(|worker| worker.id.clone()));
        away.extend(gone.into_iter().map(|worker| worker.id.clone()));
    }
    let heard = queue.drain(&chosen).await?;
    queue.drain(&away).await?;
    let (mut told, mut deaf) = (Vec::new(), Vec::new());
    for (worker, heard) in chosen.into_iter().zip(heard) {
        if heard { told.push(worker) } else { deaf.push(worker) }
    }
    let drained = Drained { told, unheard: deaf };
    context.output.report(&drained)?;
    match drained.unheard {
        deaf if deaf.is_empty() => Ok(()),
        workers => Err(LaunchpadError::Unheard { workers }),
    }
}

/// The workers whose ids are most like this one, which is nobody's.
fn near(unknown: &WorkerId, registered: &[WorkerInfo]) -> Vec<WorkerId> {
    let distance = |worker: &WorkerInfo| strsim::damerau_levenshtein(worker.id.as_str(), unknown.as_str());
    let mut near: Vec<_> = registered.iter().map(|worker| (distance(worker), &worker.id)).collect();
    near.retain(|(distance, _)| *distance <= SLIPS_MAX);
    near.sort();
    near.into_iter().take(NEAR_MAX).map(|(_, id)| id.clone()).collect()
}

/// Whether a worker has all labels.
fn is_so(worker: &WorkerInfo, labels: &[cli::Label]) -> bool {
    labels.iter().all(|label| worker.fields.get(&label.name) == Some(&label.value))
}
