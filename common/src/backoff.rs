//! How long to wait before trying again: exponential with full jitter, the random number passed in.
//!
//! Full jitter after M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// A doubling range of pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first pause.
    pub first: Duration,
    /// Where the doubling ends.
    pub longest: Duration,
}

impl Backoff {
    /// The longest pause before try number `tries` + 1, where `tries` counts the failed ones from 1.
    pub fn ceiling(&self, tries: u32) -> Duration {
        let factor = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// A pause drawn evenly from 1 ms to the ceiling: never 0, so that a loop over it never spins.
    pub fn pause(&self, tries: u32, rng: &mut impl Rng) -> Duration {
        let ceiling = u64::try_from(self.ceiling(tries).as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(rng.random_range(1..=ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };

    #[test]
    fn ceilings_double_and_end() {
        let seconds: Vec<u64> = (1..=7).map(|tries| BACKOFF.ceiling(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(BACKOFF.ceiling(u32::MAX), BACKOFF.longest);
    }

    #[test]
    fn pauses_fill_the_whole_range() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let pauses: Vec<_> = (0..1000).map(|_| BACKOFF.pause(3, &mut rng)).collect();
        assert!(
            pauses.iter().all(|pause| *pause >= Duration::from_millis(1) && *pause <= Duration::from_secs(4))
        );
        assert!(pauses.iter().any(|pause| *pause < Duration::from_millis(400)));
        assert!(pauses.iter().any(|pause| *pause > Duration::from_millis(3600)));
    }
}
