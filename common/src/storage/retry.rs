//! The one retry policy of all store requests: classified, full jitter, bounded in tries and in total time.

use std::future::Future;
use std::time::Duration;

use object_store::Error;

use crate::backoff::Backoff;
use crate::clock::{Clock as _, SystemClock};

/// How often and how long a request is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries at most, from 1.
    pub tries_max: u32,
    /// No new try starts after this.
    pub total_max: Duration,
    /// How long one try may take without an answer.
    pub try_max: Duration,
    /// The pauses between tries.
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries_max: 8,
            total_max: Duration::from_mins(3),
            try_max: Duration::from_mins(2),
            backoff: Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(20) },
        }
    }
}

/// How a request ended that was tried as often as it may be.
#[derive(Debug)]
pub(super) enum GaveUp {
    /// An answer that trying again does not change.
    Answer(Error),
    /// Passing faults only; the last one is there unless it was a time-out.
    Passing { tries: u32, elapsed_ms: u64, last: Option<Error> },
}

/// Whether an error may pass: what the store itself said clearly stays.
const fn may_pass(error: &Error) -> bool {
    match error {
        Error::NotFound { .. }
        | Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. }
        | Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::UnknownConfigurationKey { .. } => false,
        _ => true, // `object_store::Error` is open: a kind that this version does not know is tried again, within bounds
    }
}

impl RetryPolicy {
    /// Does a request until it is answered or the bounds are reached. A request may be done several times.
    pub(super) async fn run<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, GaveUp>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let clock = SystemClock::start();
        let mut tries = 0;
        loop {
            tries += 1;
            let last = match tokio::time::timeout(self.try_max, request()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if !may_pass(&error) => return Err(GaveUp::Answer(error)),
                Ok(Err(error)) => Some(error),
                Err(_) => None,
            };
            let pause = self.backoff.pause(tries, &mut rand::rng());
            let elapsed_ms = clock.elapsed_ms();
            if tries >= self.tries_max || Duration::from_millis(elapsed_ms) + pause > self.total_max {
                return Err(GaveUp::Passing { tries, elapsed_ms, last });
            }
            tracing::debug!(
                tries,
                error = last.as_ref().map(tracing::field::display),
                "store request failed, trying again"
            );
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: RetryPolicy = RetryPolicy {
        tries_max: 4,
        total_max: Duration::from_mins(1),
        try_max: Duration::from_mins(1),
        backoff: Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(1) },
    };

    fn passing() -> Error {
        Error::Generic { store: "test", source: "503".into() }
    }

    fn missing() -> Error {
        Error::NotFound { path: "x".into(), source: "404".into() }
    }

    #[tokio::test]
    async fn passing_faults_are_tried_again() {
        let mut tries = 0;
        let answer = QUICK.run(|| {
            tries += 1;
            let answer = if tries < 3 { Err(passing()) } else { Ok(tries) };
            async { answer }
        });
        assert_eq!(answer.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn clear_answers_are_not() {
        let mut tries = 0;
        let answer = QUICK.run(|| {
            tries += 1;
            async { Err::<(), _>(missing()) }
        });
        assert!(matches!(answer.await, Err(GaveUp::Answer(Error::NotFound { .. }))));
        assert_eq!(tries, 1);
    }

    #[tokio::test]
    async fn tries_are_bounded() {
        let answer = QUICK.run(|| async { Err::<(), _>(passing()) }).await;
        assert!(matches!(answer, Err(GaveUp::Passing { tries: 4, last: Some(_), .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_without_an_answer_ends() {
        let answer = QUICK.run(std::future::pending::<Result<(), Error>>).await;
        assert!(matches!(answer, Err(GaveUp::Passing { last: None, .. })));
    }
}
