//! The cores on which a worker keeps its tasks, if it was told to pin them: each is its own as long as it lives.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::claim::claim;
use crate::config::Config;
use crate::process::own_cores;

/// Why a worker can't have cores of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoreError {
    #[error("the cores of this process can't be read, for --pin-cores")]
    Own(#[source] io::Error),
    #[error(
        "all {here} cores that this worker may use are other workers' (expected one that is free, for --pin-cores)"
    )]
    Taken { here: usize },
    #[error("the lock of core {number} can't be made")]
    Lock {
        number: usize,
        #[source]
        source: io::Error,
    },
}

impl CoreError {
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Own(_) => "without --pin-cores, tasks run on any core",
            Self::Taken { .. } => "the workers of a host can share its cores, by --cores",
            Self::Lock { .. } => "--cache names a folder that this user may write to",
        }
    }
}

/// The cores of a worker.
#[derive(Debug, Default)]
pub(crate) struct Cores {
    /// To pin tasks to, by their numbers; empty if tasks run on any.
    pub(crate) pinned: Vec<usize>,
    locks: Vec<File>,
}

impl Cores {
    /// Takes the first ones that no other worker of the host has pinned, as many as are to be used, or as are left.
    pub(crate) fn take(config: &Config) -> Result<Self, CoreError> {
        if !config.pin_cores {
            return Ok(Self::default());
        }
        let here = own_cores().map_err(CoreError::Own)?;
        let cores = Self::first_free(&here, config.cores, &config.cache)?;
        let (asked, has) = (config.cores, cores.limit(config.cores));
        tracing::info!(numbers = ?cores.pinned, "cores of this worker");
        if has < asked {
            tracing::warn!(
                asked,
                has,
                "the other cores are other workers' or not there, this worker uses its own"
            );
        }
        Ok(cores)
    }

    /// How many cores of so many are used.
    pub(crate) fn limit(&self, cores: u32) -> u32 {
        match u32::try_from(self.pinned.len()) {
            Ok(pinned) if pinned > 0 => pinned.min(cores),
            _ => cores,
        }
    }

    fn first_free(here: &[usize], wanted: u32, cache: &Path) -> Result<Self, CoreError> {
        let mut cores = Self::default();
        for &number in here {
            if u32::try_from(cores.pinned.len()).is_ok_and(|taken| taken == wanted) {
                break;
            }
            let claimed = claim(cache, &format!("core-{number}"));
            if let Some(lock) = claimed.map_err(|source| CoreError::Lock { number, source })? {
                cores.pinned.push(number);
                cores.locks.push(lock);
            }
        }
        if cores.pinned.is_empty() { Err(CoreError::Taken { here: here.len() }) } else { Ok(cores) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_a_host_pin_their_tasks_to_different_cores() {
        let cache = tempfile::tempdir().unwrap();
        let take = |wanted| Cores::first_free(&[2, 3, 5], wanted, cache.path());
        let first = take(2).unwrap();
        assert_eq!(first.pinned, [2, 3]);
        let second = take(2).unwrap();
        assert_eq!(second.pinned, [5], "what is left");
        assert!(matches!(take(1), Err(CoreError::Taken { here: 3 })));
        drop(first);
        assert_eq!(take(1).unwrap().pinned, [2], "who is gone has none");
        drop(second);
        assert_eq!(take(9).unwrap().pinned, [2, 3, 5]);
    }
}
