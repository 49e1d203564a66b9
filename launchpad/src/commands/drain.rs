//! `drain`: tells workers to leave, which hands their tasks over.

use common::queue::{WORKER_GONE_MS, WorkerInfo};
use common::task::WorkerId;
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::Report;

#[derive(Debug, Serialize)]
struct Drained {
    /// Workers that heard it.
    told: Vec<WorkerId>,
}

impl Report for Drained {
    fn text(&self) -> String {
        if self.told.is_empty() {
            return "No worker was found to tell. `launchpad workers` lists all.\n".to_owned();
        }
        let told: Vec<&str> = self.told.iter().map(WorkerId::as_str).collect();
        format!("Told to leave: {}. `launchpad workers` shows those that are still there.\n", told.join(", "))
    }
}

/// Tells each of the workers that it should leave. One that does not hear it is named at the end.
pub(super) async fn drain(context: &Context, arguments: &cli::Drain) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let (mut chosen, mut away) = (arguments.workers.clone(), Vec::new());
    if chosen.is_empty() {
        let (registered, now_ms) = (queue.workers().await?, queue.now_ms().await?);
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
    context.output.report(&Drained { told })?;
    if deaf.is_empty() { Ok(()) } else { Err(LaunchpadError::Unheard { workers: deaf }) }
}

/// Whether a worker has all labels.
fn is_so(worker: &WorkerInfo, labels: &[cli::Label]) -> bool {
    labels.iter().all(|label| worker.fields.get(&label.name) == Some(&label.value))
}
