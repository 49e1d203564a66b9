//! How a worker leaves without a trace: off the idle lists of its runs, off the registry, and nothing kept that a lost answer gave it.

use common::queue::{Grant, LeaseReply, QueueError};
use common::task::RunId;
use futures::{FutureExt as _, StreamExt as _};

use super::{Dispatcher, GOODBYE};
use crate::heartbeat::{Card, chain};
use crate::patience::insist;
use crate::serving::Serving;

/// Runs that are told at once.
const GOODBYES_AT_ONCE: usize = 64;

impl Dispatcher {
    /// Takes the worker off the registry and off the idle lists of its runs, as far as Redis answers in time.
    /// One that leaves because it is quarantined stays in the registry, for people.
    pub(super) async fn say_goodbye(&self) {
        let leaves_word = self.quarantine.is_some() && self.leave_by.is_none();
        if !leaves_word {
            self.held.show(Card::default());
        }
        let goodbye = async {
            self.ask_for_nothing().await?;
            if leaves_word {
                self.show_for_the_last_time().await
            } else {
                insist("goodbye", || self.shared.queue.hide_worker(&self.worker)).await
            }
        };
        match tokio::time::timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = %chain(&error), "the registry keeps this worker for a while");
            }
            Err(_) => tracing::debug!("the registry keeps this worker for a while"),
        }
    }

    /// Takes the worker off the idle lists of its runs, side by side: one whose node is away must not cost the others theirs.
    async fn ask_for_nothing(&self) -> Result<(), QueueError> {
        let requests: Vec<_> = self
            .runs
            .requests()
            .map(|(serving, request)| self.ask_run_for_nothing(serving, request).boxed())
            .collect();
        let told: Vec<_> = futures::stream::iter(requests).buffer_unordered(GOODBYES_AT_ONCE).collect().await;
        told.into_iter().collect()
    }

    async fn ask_run_for_nothing(&self, serving: &Serving, request: u64) -> Result<(), QueueError> {
        let (run, digest) = (&serving.run, &serving.info.digest);
        let ask = || self.shared.queue.lease(run, digest, &self.worker, request, 0);
        match insist("goodbye", ask).await {
            Ok(LeaseReply::Granted { grants, .. }) => self.hand_back(run, grants).await,
            Ok(_) | Err(QueueError::NoSuchRun(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn show_for_the_last_time(&self) -> Result<(), QueueError> {
        let now_ms = insist("goodbye", || self.shared.queue.now_ms()).await?;
        let card = self.card().at(now_ms);
        insist("goodbye", || self.shared.queue.show_worker(&self.worker, now_ms, &card)).await.map(drop)
    }

    /// Once nothing runs, a quarantined worker tells its runs that it waits for no task: a hint would be lost on it.
    pub(super) async fn sign_off(&mut self) {
        let is_due = self.quarantine.as_ref().is_some_and(|quarantine| !quarantine.is_signed_off);
        let is_quiet = self.running.is_empty() && self.asking.is_empty() && self.asking_again.is_empty();
        if !is_due || !is_quiet || self.leave_by.is_some() {
            return;
        }
        let signed_off = tokio::time::timeout(GOODBYE, self.ask_for_nothing()).await;
        if let Some(quarantine) = &mut self.quarantine {
            quarantine.is_signed_off = matches!(signed_off, Ok(Ok(())));
        }
    }

    /// Tasks of a request whose answer was lost are ours without our knowing, until the same request is made again.
    async fn hand_back(&self, run: &RunId, grants: Vec<Grant>) -> Result<(), QueueError> {
        for Grant { task, lease, .. } in grants {
            let release = || self.shared.queue.release(run, task, &lease, "leaving", 0);
            let released = insist("release", release).await?;
            tracing::info!(%run, task_id = %task, ?released, "task of a lost answer handed back");
        }
        Ok(())
    }
}
