//! Waiting for a condition. Never for a duration.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a condition may take: far beyond anything that a busy machine needs.
const LONGEST: Duration = Duration::from_mins(1);

/// Looks at a condition until it is `Ok`, and panics with the last state that was not, after a minute.
pub async fn eventually<T, S, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, S>>,
    S: Debug,
{
    let mut ticks = tokio::time::interval(INTERVAL);
    let mut last = None;
    for _ in 0..LONGEST.as_millis() / INTERVAL.as_millis() {
        ticks.tick().await;
        match look().await {
            Ok(found) => return found,
            Err(state) => last = Some(state),
        }
    }
    panic!("{what}: not within {LONGEST:?}, last state: {last:?}");
}
