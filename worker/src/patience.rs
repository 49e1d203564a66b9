//! Trying again without an end, for what must not get lost because Redis or the store is away for minutes.

use std::future::Future;
use std::time::Duration;

use common::backoff::Backoff;
use common::queue::{Disposition, QueueError};
use common::storage::{StorageDisposition, StorageError};

use crate::heartbeat::chain;

/// The pauses between tries; the store's own policy has its own, shorter ones.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(10) };

/// How long something may take before it is said that it is waited for; each time after that, twice as long, and a minute at most.
const SAY_AFTER: Duration = Duration::from_secs(1);
const SAY_EVERY: Duration = Duration::from_mins(1);

/// Does something that may take long, and says meanwhile that it is waited for.
pub(crate) async fn say_while_waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let (mut pause, mut waited) = (SAY_AFTER, Duration::ZERO);
    loop {
        if let Ok(done) = tokio::time::timeout(pause, &mut work).await {
            return done;
        }
        waited += pause;
        pause = (2 * pause).min(SAY_EVERY);
        tracing::warn!(what, seconds = waited.as_secs(), "no answer yet, waiting");
    }
}

/// Calls the queue until it answers. Only an error that trying again does not mend comes back.
pub(crate) async fn insist<T, F>(what: &str, mut call: impl FnMut() -> F) -> Result<T, QueueError>
where
    F: Future<Output = Result<T, QueueError>>,
{
    let mut tries = 0;
    loop {
        match call().await {
            Err(error) if error.disposition() == Disposition::Retry => {
                tries += 1;
                let (said, hint) = (chain(&error), error.hint());
                tracing::warn!(what, tries, error = %said, hint, "Redis did not take it, trying again");
                let pause = BACKOFF.pause(tries, &mut rand::rng());
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
}

/// Does a request to the store until it is answered. Only an error that trying again does not mend comes back, and one of the local
/// disk: another machine may do better.
pub(crate) async fn insist_store<T, F>(what: &str, mut request: impl FnMut() -> F) -> Result<T, StorageError>
where
    F: Future<Output = Result<T, StorageError>>,
{
    let mut tries = 0;
    loop {
        match request().await {
            Err(StorageError::Local { object, source }) => {
                return Err(StorageError::Local { object, source });
            }
            Err(error) if error.disposition() == StorageDisposition::Retry => {
                tries += 1;
                tracing::warn!(what, tries, error = %chain(&error), "the store was not reached, trying again");
                let pause = BACKOFF.pause(tries, &mut rand::rng());
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
}
