//! Names of runs, tasks, workers and leases. A name is checked once, when it is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// Says which name was refused and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{found}` is not valid (expected {expected})")]
pub struct InvalidId {
    what: &'static str,
    found: String,
    expected: &'static str,
}

impl InvalidId {
    pub(super) fn unknown_state(found: &str) -> Self {
        Self {
            what: "state",
            found: excerpt(found),
            expected: "waiting, pending, delayed, leased, succeeded, dead or cancelled",
        }
    }
}

/// A run's id, `[A-Za-z0-9][A-Za-z0-9_.-]{0,63}`: it is part of Redis keys and object names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

impl RunId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts && text.len() <= 64 && text.chars().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidId {
            what: "run id",
            found: excerpt(text),
            expected: "1 to 64 of A-Z a-z 0-9 _ . -, the first a letter or digit",
        })
    }
}

/// A task's ordinal in its run's manifest, from 0. Redis has it as a plain number, object names with seven digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub u64);

impl TaskId {
    /// The form that object names use: seven digits, more only when they are needed.
    pub fn padded(self) -> String {
        format!("{:07}", self.0)
    }
}

impl FromStr for TaskId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().map(Self).ok_or_else(|| InvalidId {
            what: "task id",
            found: excerpt(text),
            expected: "the task's number in the manifest, from 0",
        })
    }
}

/// One worker process. Drawn at random at its start, so that a restarted worker is another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkerId(String);

impl WorkerId {
    /// Draws a new id of 12 lower-case letters and digits (62 bits).
    pub fn random(rng: &mut impl rand::Rng) -> Self {
        use rand::RngExt as _;
        const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        Self((0..12).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=32).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidId {
            what: "worker id",
            found: excerpt(text),
            expected: "1 to 32 lower-case letters and digits",
        })
    }
}

/// The fencing token of one attempt, `<number>.<worker>.<request>`. Every script that writes compares it whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LeaseName {
    /// The lease's number, growing by one with each lease of its task, from 1.
    pub number: u64,
    /// The worker that asked.
    pub worker: WorkerId,
    /// The number of the worker's request that was answered with it.
    pub request: u64,
}

impl FromStr for LeaseName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let parse = || {
            let mut parts = text.split('.');
            let (number, worker, request) = (parts.next()?, parts.next()?, parts.next()?);
            let name = Self {
                number: number.parse().ok()?,
                worker: worker.parse().ok()?,
                request: request.parse().ok()?,
            };
            (parts.next().is_none() && name.to_string() == text).then_some(name)
        };
        parse().ok_or_else(|| InvalidId {
            what: "lease name",
            found: excerpt(text),
            expected: "<number>.<worker>.<request>",
        })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.number, self.worker, self.request)
    }
}

/// Gives an id type its conversions from and to `String`, through its own checks.
macro_rules! text_conversions {
    ($($id:ty),*) => {$(
        impl TryFrom<String> for $id {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }
    )*};
}
text_conversions!(RunId, WorkerId, LeaseName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_safe_in_keys_and_paths() {
        for good in ["a", "prod_100k_v1", "t4l-l99a", "0.x"] {
            assert_eq!(good.parse::<RunId>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".", "a/b", "a{b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn task_ids_are_padded_to_seven_digits() {
        assert_eq!(TaskId(42).padded(), "0000042");
        assert_eq!(TaskId(12_345_678).padded(), "12345678");
        assert!("+1".parse::<TaskId>().is_err());
        assert!("1_000".parse::<TaskId>().is_err());
    }

    #[test]
    fn lease_names_survive_the_way_through_text() {
        let name: LeaseName = "3.abc123.17".parse().unwrap();
        assert_eq!((name.number, name.worker.as_str(), name.request), (3, "abc123", 17));
        assert_eq!(name.to_string(), "3.abc123.17");
        for bad in ["", "1", "1.a", "1.a.2.3", "01.a.2", "+1.a.2", "1.A.2", "1..2"] {
            assert!(bad.parse::<LeaseName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_worker_ids_are_valid_and_differ() {
        let mut rng = rand::rng();
        let (a, b) = (WorkerId::random(&mut rng), WorkerId::random(&mut rng));
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<WorkerId>().unwrap(), a);
    }
}
