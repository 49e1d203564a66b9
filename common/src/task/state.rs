//! The states of a task and every change between them that the protocol allows.

use std::fmt;
use std::str::FromStr;

use super::InvalidId;

/// Where a task is. The last three are *terminal*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Needs other tasks of the run first.
    Waiting,
    /// May be leased now.
    Pending,
    /// Becomes pending when its time comes: the back-off after a failure, or the hold until a last bundle is there.
    Delayed,
    /// Held by one worker under a lease name, until it expires on the run's lease clock.
    Leased,
    /// Its shard is durable and its digest is recorded.
    Succeeded,
    /// Gave up; kept with its evidence for a person.
    Dead,
    /// A person said stop.
    Cancelled,
}

/// What changes a state. The same words name scripts, methods, commands and events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the words are defined once, in docs/protocol.md")]
pub enum Verb {
    Push,
    Lease,
    Complete,
    Fail,
    Release,
    Reclaim,
    Promote,
    Cancel,
    Requeue,
    Adopt,
}

/// Every transition of an existing task; push alone makes one, as [`State::Pending`] or [`State::Waiting`].
pub const TRANSITIONS: &[(State, Verb, State)] = &[
    (State::Pending, Verb::Lease, State::Leased),
    (State::Leased, Verb::Reclaim, State::Pending),
    (State::Leased, Verb::Reclaim, State::Dead),
    (State::Waiting, Verb::Reclaim, State::Dead),
    (State::Delayed, Verb::Promote, State::Pending),
    (State::Waiting, Verb::Promote, State::Pending),
    (State::Leased, Verb::Complete, State::Succeeded),
    (State::Pending, Verb::Complete, State::Succeeded),
    (State::Delayed, Verb::Complete, State::Succeeded),
    (State::Pending, Verb::Adopt, State::Succeeded),
    (State::Delayed, Verb::Adopt, State::Succeeded),
    (State::Leased, Verb::Fail, State::Delayed),
    (State::Leased, Verb::Fail, State::Dead),
    (State::Waiting, Verb::Fail, State::Dead),
    (State::Leased, Verb::Release, State::Pending),
    (State::Leased, Verb::Release, State::Delayed),
    (State::Pending, Verb::Cancel, State::Cancelled),
    (State::Delayed, Verb::Cancel, State::Cancelled),
    (State::Leased, Verb::Cancel, State::Cancelled),
    (State::Waiting, Verb::Cancel, State::Cancelled),
    (State::Dead, Verb::Requeue, State::Pending),
    (State::Cancelled, Verb::Requeue, State::Pending),
    (State::Dead, Verb::Requeue, State::Waiting),
    (State::Cancelled, Verb::Requeue, State::Waiting),
];

impl State {
    /// All states, in the order in which people read them.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Pending,
        Self::Delayed,
        Self::Leased,
        Self::Succeeded,
        Self::Dead,
        Self::Cancelled,
    ];

    /// The state's name in Redis, in JSON and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Delayed => "delayed",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing but a person's requeue leads out of it.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Waiting | Self::Pending | Self::Delayed | Self::Leased => false,
            Self::Succeeded | Self::Dead | Self::Cancelled => true,
        }
    }
}

impl Verb {
    /// The verb's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Lease => "lease",
            Self::Complete => "complete",
            Self::Fail => "fail",
            Self::Release => "release",
            Self::Reclaim => "reclaim",
            Self::Promote => "promote",
            Self::Cancel => "cancel",
            Self::Requeue => "requeue",
            Self::Adopt => "adopt",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for State {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| InvalidId::unknown_state(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_states() {
        for state in State::ALL {
            assert_eq!(state.name().parse::<State>().unwrap(), state);
        }
        assert!("canceled".parse::<State>().is_err());
    }

    #[test]
    fn only_requeue_leaves_a_terminal_state_and_nothing_leaves_succeeded() {
        for (from, verb, _) in TRANSITIONS {
            assert_eq!(from.is_terminal(), *verb == Verb::Requeue);
            assert_ne!(*from, State::Succeeded);
        }
    }
}
