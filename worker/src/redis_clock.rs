//! The time of Redis, as a worker knows it: what Redis said once, plus what has passed since on the monotonic clock.

use common::clock::{Clock as _, SystemClock};

/// Counts on from a Redis time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RedisClock {
    said_ms: u64,
    since: SystemClock,
}

impl RedisClock {
    /// Starts from a time that Redis has just said.
    pub(crate) fn new(said_ms: u64) -> Self {
        Self { said_ms, since: SystemClock::start() }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.said_ms.saturating_add(self.since.elapsed_ms())
    }
}
