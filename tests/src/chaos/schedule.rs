//! What goes wrong, where, when and for how long: a pure function of the seed. Each subject (a worker, a line, Redis, …) has a
//! timeline of its own, on which one fault ends before the next begins; those of different subjects overlap as they like.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::LEASE_MS;

/// What a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The worker of this site, from 0.
    Worker(usize),
    /// The line between this site's worker and Redis.
    Line(usize),
    /// The Redis server.
    Redis,
    /// The store, as workers reach it.
    Store,
    /// The scratch disk of all workers.
    Disk,
    /// A person at launchpad.
    Person,
    /// Another one, who looks on.
    Onlooker,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A worker gets SIGKILL; a new one comes later.
    WorkerKilled,
    /// A worker gets SIGSTOP, and SIGCONT when others have its tasks: the zombie.
    WorkerFrozen,
    /// The same befalls everything that the worker has started, as when its whole machine is suspended.
    MachineFrozen,
    /// A worker's guardian gets SIGKILL, and the worker has to start another one.
    GuardianKilled,
    /// A worker gets SIGTERM; a new one comes later.
    WorkerTerminated,
    /// All connections of a line break.
    LineCut,
    /// A line is down; its connections break.
    LineDown,
    /// A line carries nothing for a while, then everything: old requests arrive late.
    LineSilent,
    /// A line is slow.
    LineSlow,
    /// Answers of every script of a worker get lost after the script has run.
    AnswersLost,
    /// Redis gets SIGKILL, and is started again on its append-only file.
    RedisKilled,
    /// Redis gets SIGSTOP, then SIGCONT.
    RedisFrozen,
    /// Redis is full, and refuses to take more.
    RedisFull,
    /// Redis is made a replica, and takes no writes.
    RedisReadOnly,
    /// The primary of a Sentinel pair gets SIGKILL, and its replica has not heard of the last writes.
    RedisFailedOver,
    /// The primary gets SIGSTOP until its replica is the primary, then SIGCONT: for a while there are two, and one worker stays at the old one.
    RedisSplit,
    /// The store says 429 to some requests.
    StoreThrottles,
    /// The store says 503 to most requests.
    StoreUnavailable,
    /// The store is slow.
    StoreSlow,
    /// The store does what it is asked and its answer gets lost.
    StoreAnswersLost,
    /// The store takes no writes and does not say so.
    StoreStalls,
    /// The scratch disk is full. Only where it may be mounted.
    DiskFull,
    /// A worker comes that wants more free space than any disk has.
    DiskShunned,
    /// Some tasks are cancelled.
    Cancel,
    /// Cancelled tasks are requeued.
    Requeue,
    /// Dead tasks are requeued.
    Revive,
    /// A run is paused, then resumed.
    Pause,
    /// A run's parallelism is cut, then lifted.
    Parallelism,
    /// The output of a task is followed while it runs.
    Follow,
}

/// Every kind, each with the name that the summary has.
pub const KINDS: &[(Kind, &str)] = &[
    (Kind::WorkerKilled, "worker killed (SIGKILL)"),
    (Kind::WorkerFrozen, "worker frozen past its leases (SIGSTOP, SIGCONT)"),
    (Kind::MachineFrozen, "worker, guardian and engines frozen together"),
    (Kind::GuardianKilled, "guardian killed (SIGKILL)"),
    (Kind::WorkerTerminated, "worker told to leave (SIGTERM)"),
    (Kind::LineCut, "connections to Redis cut"),
    (Kind::LineDown, "line to Redis down"),
    (Kind::LineSilent, "line to Redis silent, then late"),
    (Kind::LineSlow, "line to Redis slow"),
    (Kind::AnswersLost, "answers of scripts to be lost"),
    (Kind::RedisKilled, "Redis killed and restarted"),
    (Kind::RedisFrozen, "Redis frozen for several leases"),
    (Kind::RedisFull, "Redis full (OOM)"),
    (Kind::RedisReadOnly, "Redis read-only (a replica)"),
    (Kind::RedisFailedOver, "Redis failed over, forgetting writes"),
    (Kind::RedisSplit, "Redis frozen and replaced, then two primaries"),
    (Kind::StoreThrottles, "store says 429"),
    (Kind::StoreUnavailable, "store says 503"),
    (Kind::StoreSlow, "store slow"),
    (Kind::StoreAnswersLost, "answers of the store lost"),
    (Kind::StoreStalls, "store stalls"),
    (Kind::DiskFull, "scratch disk full"),
    (Kind::DiskShunned, "worker that finds no disk empty enough"),
    (Kind::Cancel, "tasks cancelled"),
    (Kind::Requeue, "cancelled tasks requeued"),
    (Kind::Revive, "dead tasks requeued"),
    (Kind::Pause, "run paused and resumed"),
    (Kind::Parallelism, "parallelism cut and lifted"),
    (Kind::Follow, "output of a task followed"),
];

impl Kind {
    /// What the summary calls it.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).unwrap().1
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// When, in ms from the start.
    pub at_ms: u64,
    /// For how long, in ms; 0 for what is over at once.
    pub for_ms: u64,
    /// What.
    pub kind: Kind,
    /// A number that settles what the fault leaves open, such as which run or which script.
    pub choice: u64,
}

/// Everything that goes wrong, by subject, in the order of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(pub BTreeMap<Subject, Vec<Fault>>);

/// Bounds of a random length in ms.
type Range = (u64, u64);

/// The faults of a kind of subject: pauses between them, and for each kind its length.
struct Deck {
    pause: Range,
    kinds: &'static [(Kind, Range)],
}

const WORKER: Deck = Deck {
    pause: (3_000, 15_000),
    kinds: &[
        (Kind::WorkerKilled, (100, 3_000)),
        (Kind::WorkerFrozen, (LEASE_MS + LEASE_MS / 2, 4 * LEASE_MS)),
        (Kind::MachineFrozen, (LEASE_MS + LEASE_MS / 2, 4 * LEASE_MS)),
        (Kind::GuardianKilled, (0, 0)),
        (Kind::WorkerTerminated, (100, 3_000)),
    ],
};
const LINE: Deck = Deck {
    pause: (2_000, 12_000),
    kinds: &[
        (Kind::LineCut, (0, 0)),
        (Kind::LineDown, (300, 3 * LEASE_MS)),
        (Kind::LineSilent, (300, 3 * LEASE_MS)),
        (Kind::LineSlow, (1_000, 5_000)),
        (Kind::AnswersLost, (0, 0)),
        (Kind::AnswersLost, (0, 0)),
    ],
};
const REDIS: Deck = Deck {
    pause: (4_000, 15_000),
    kinds: &[
        (Kind::RedisKilled, (100, 2_000)),
        (Kind::RedisFrozen, (LEASE_MS, 4 * LEASE_MS)),
        (Kind::RedisFull, (500, 5_000)),
        (Kind::RedisReadOnly, (500, 5_000)),
    ],
};
// Within what the replica of a primary that is being given up may not have heard, and within what two primaries last under a sentinel.
const PAIR: Deck = Deck {
    pause: (2_000, 6_000),
    kinds: &[(Kind::RedisFailedOver, (500, 3_000)), (Kind::RedisSplit, (1_000, 5_000))],
};
const STORE: Deck = Deck {
    pause: (1_500, 8_000),
    kinds: &[
        (Kind::StoreThrottles, (1_000, 6_000)),
        (Kind::StoreUnavailable, (1_000, 6_000)),
        (Kind::StoreSlow, (1_000, 6_000)),
        (Kind::StoreAnswersLost, (1_000, 6_000)),
        (Kind::StoreStalls, (LEASE_MS, 2 * LEASE_MS)),
    ],
};
// Longer by far than workers look away on a busy machine.
const DISK: Deck = Deck {
    pause: (12_000, 30_000),
    kinds: &[(Kind::DiskFull, (4_000, 8_000)), (Kind::DiskShunned, (1_000, 4_000))],
};
const PERSON: Deck = Deck {
    pause: (1_000, 6_000),
    kinds: &[
        (Kind::Cancel, (0, 0)),
        (Kind::Cancel, (0, 0)),
        (Kind::Requeue, (0, 0)),
        (Kind::Revive, (0, 0)),
        (Kind::Revive, (0, 0)),
        (Kind::Pause, (500, 4_000)),
        (Kind::Parallelism, (1_000, 6_000)),
    ],
};

const ONLOOKER: Deck = Deck { pause: (1_000, 5_000), kinds: &[(Kind::Follow, (2_000, 8_000))] };

impl Schedule {
    /// What goes wrong within so many ms on so many sites.
    pub fn new(seed: u64, length_ms: u64, sites: usize) -> Self {
        Self::deal(seed, length_ms, sites, &REDIS)
    }

    /// The same for a fleet whose Redis is a Sentinel pair.
    pub fn of_pair(seed: u64, length_ms: u64, sites: usize) -> Self {
        Self::deal(seed, length_ms, sites, &PAIR)
    }

    fn deal(seed: u64, length_ms: u64, sites: usize, redis: &'static Deck) -> Self {
        let lines =
            (0..sites).flat_map(|site| [(Subject::Worker(site), &WORKER), (Subject::Line(site), &LINE)]);
        let others = [
            (Subject::Redis, redis),
            (Subject::Store, &STORE),
            (Subject::Disk, &DISK),
            (Subject::Person, &PERSON),
            (Subject::Onlooker, &ONLOOKER),
        ];
        // Each subject draws from its own numbers: one site more leaves the others' timelines as they are.
        let timeline = |(subject, deck): (Subject, &Deck)| {
            let mut rng = StdRng::seed_from_u64(seed ^ stream(subject).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            (subject, deck.deal(length_ms, &mut rng))
        };
        Self(lines.chain(others).map(timeline).collect())
    }

    /// How many faults there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A number for each subject.
const fn stream(subject: Subject) -> u64 {
    match subject {
        Subject::Redis => 1,
        Subject::Store => 2,
        Subject::Disk => 3,
        Subject::Person => 4,
        Subject::Onlooker => 5,
        Subject::Worker(site) => 100 + 2 * site as u64,
        Subject::Line(site) => 101 + 2 * site as u64,
    }
}

impl Deck {
    /// Deals shuffled decks until the time is over, so that each kind comes before any comes twice more.
    fn deal(&self, length_ms: u64, rng: &mut StdRng) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut hand: Vec<(Kind, Range)> = Vec::new();
        let mut at_ms = draw(rng, self.pause);
        while at_ms < length_ms {
            if hand.is_empty() {
                hand = self.kinds.to_vec();
                hand.shuffle(rng);
            }
            let Some((kind, length)) = hand.pop() else { break };
            let for_ms = draw(rng, length);
            faults.push(Fault { at_ms, for_ms, kind, choice: rng.random() });
            at_ms += for_ms + draw(rng, self.pause);
        }
        faults
    }
}

fn draw(rng: &mut StdRng, (low, high): Range) -> u64 {
    rng.random_range(low..=high)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_its_schedule_and_no_other() {
        let schedule = Schedule::new(7, 120_000, 4);
        assert_eq!(schedule, Schedule::new(7, 120_000, 4));
        assert_ne!(schedule, Schedule::new(8, 120_000, 4));
        let more = Schedule::new(7, 120_000, 5);
        assert!(schedule.0.iter().all(|(subject, faults)| more.0[subject] == *faults));
        assert_eq!(more.0.len(), schedule.0.len() + 2);
    }

    #[test]
    fn one_fault_of_a_subject_ends_before_the_next_begins() {
        for faults in Schedule::new(1, 600_000, 3).0.values() {
            assert!(faults.windows(2).all(|pair| pair[0].at_ms + pair[0].for_ms < pair[1].at_ms));
            assert!(faults.iter().all(|fault| fault.at_ms < 600_000));
        }
    }

    #[test]
    fn two_minutes_hold_every_kind() {
        for seed in 0..1000 {
            let of_pair = [Kind::RedisFailedOver, Kind::RedisSplit];
            let of_one = [Kind::RedisKilled, Kind::RedisFrozen, Kind::RedisFull, Kind::RedisReadOnly];
            let one = (Schedule::new(seed, 120_000, 4), BTreeSet::from(of_pair));
            let pair = (Schedule::of_pair(seed, 120_000, 4), BTreeSet::from(of_one));
            for (schedule, of_the_other) in [one, pair] {
                let seen: BTreeSet<Kind> = schedule.0.values().flatten().map(|fault| fault.kind).collect();
                let missing = KINDS.iter().map(|(kind, _)| *kind).filter(|kind| !seen.contains(kind));
                let missing: BTreeSet<Kind> = missing.collect();
                assert_eq!(missing, of_the_other, "seed {seed}");
            }
        }
    }
}
