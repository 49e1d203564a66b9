//! Watches over a worker that is connected, has room, and is given nothing. That is mostly right, since there is nothing; but a
//! connection may also lead to a server that was left behind by a fail-over, or its subscription may be dead, and from inside neither
//! can be told from a quiet night. So now and then such a worker connects anew, and its card says so. It only keeps the time.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

/// Since when a worker has got nothing.
#[derive(Debug)]
pub(crate) struct Watchdog {
    patience: Duration,
    fed_at: Instant,
    due: Instant,
    /// How often it has barked since then.
    barks: u32,
    has_ever_barked: bool,
}

impl Watchdog {
    /// One that barks after so long without a task, and then every so often.
    pub(crate) fn new(patience: Duration) -> Self {
        let now = Instant::now();
        let mut new = Self { patience, fed_at: now, due: now, barks: 0, has_ever_barked: false };
        new.later();
        new
    }

    /// A task was given.
    pub(crate) fn fed(&mut self) {
        self.fed_at = Instant::now();
        self.barks = 0;
        self.later();
    }

    /// Since when the worker has got nothing, and how often it has connected anew for that; `None` if it got something in time.
    pub(crate) fn unfed(&self) -> Option<(Instant, u32)> {
        (self.barks > 0).then_some((self.fed_at, self.barks))
    }

    /// Whether there was ever anything to tell of it.
    pub(crate) const fn has_ever_barked(&self) -> bool {
        self.has_ever_barked
    }

    /// When it barks next, if the worker has room then.
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// How long the worker has got nothing, if that is too long.
    pub(crate) fn bark(&mut self) -> Option<Duration> {
        if Instant::now() < self.due {
            return None;
        }
        self.later();
        self.barks += 1;
        self.has_ever_barked = true;
        Some(self.fed_at.elapsed())
    }

    /// The jitter keeps a fleet that started together from connecting together.
    fn later(&mut self) {
        self.due = Instant::now() + self.patience.mul_f64(rand::rng().random_range(0.5..=1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_barks_within_its_patience_and_again_and_not_when_fed() {
        let patience = Duration::from_mins(10);
        let mut dog = Watchdog::new(patience);
        assert_eq!(dog.bark(), None);
        tokio::time::advance(patience / 3).await;
        dog.fed();
        tokio::time::advance(patience / 3).await;
        assert_eq!(dog.bark(), None);
        tokio::time::advance(patience).await;
        assert_eq!(dog.bark(), Some(patience / 3 + patience));
        assert_eq!(dog.bark(), None);
        tokio::time::sleep_until(dog.due()).await;
        assert!(dog.bark().is_some());
        assert_eq!(dog.unfed().map(|(_, barks)| barks), Some(2));
        dog.fed();
        assert!(dog.unfed().is_none() && dog.has_ever_barked());
    }
}
