//! The checker: whether a fleet that has come to rest did what it promises. It knows the contract on `docs/protocol.md` and in the store,
//! and nothing of the code that keeps it: it reads keys with plain commands and objects as files, and recomputes the rest.

mod charges;
mod checkpoints;
mod counts;
mod expected;
mod history;
mod ledger;
mod remains;
mod results;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use expected::fates;
pub(crate) use expected::molecule_seed;
pub use ledger::{Ledger, TaskHash};
pub use remains::processes_with;
pub(crate) use results::sha256;

/// A promise that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Redis has the run of the stored manifest and spec, sealed and whole.
    Manifest,
    /// Each task is in exactly one place, that of its state.
    OnePlace,
    /// Each task has succeeded, or is dead because its program does nothing else, or was cancelled because a person said so.
    Terminal,
    /// The counters equal a recount.
    Counters,
    /// A task is charged with failures that its program really had, and with nothing that machines and networks did.
    Charged,
    /// A task is dead exactly when it has failed as often as it may.
    Limit,
    /// A task that failed keeps its reason and its last lines until it succeeds.
    Evidence,
    /// An attempt goes on from the newest bundle that was registered, which is there until the task succeeds.
    Checkpoint,
    /// The last task of a group runs when all others have succeeded, and never else.
    Group,
    /// Each shard is there, with the bytes of a quiet run.
    Shard,
    /// Redis has the digests of the stored bytes.
    Digest,
    /// Each result has its index, and each file that it names is there unchanged.
    Index,
    /// The events are a history that the contract allows, and it ends where Redis is.
    History,
    /// The numbers of a task's leases only grow, and none is given twice.
    LeaseNumbers,
    /// A task succeeds once.
    Once,
    /// Nothing that was seen of a succeeded task during the run has changed.
    Unchanged,
    /// No process of the fleet is left.
    Processes,
    /// No scratch is left.
    Scratch,
    /// Programs end as they say they do, without a panic.
    Programs,
    /// What can go on goes on: the fleet drains, and each worker works.
    Progress,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which promise.
    pub rule: Rule,
    /// What breaks it.
    pub what: String,
}

impl Violation {
    /// Of a rule.
    pub fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// A fleet that has come to rest.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The address of its Redis.
    pub redis_url: &'a str,
    /// The folder of its store.
    pub store: &'a Path,
    /// The folder of its scratch.
    pub scratch: &'a Path,
    /// What stands in the environment of each of its processes, and of no other.
    pub marker: &'a str,
    /// Its runs.
    pub runs: &'a [String],
    /// The tasks that a person cancelled at some time, by run.
    pub cancelled: &'a BTreeSet<(String, u64)>,
    /// The folder of the diaries of the toy.
    pub diaries: &'a Path,
    /// Whether Redis may have forgotten what it had acknowledged.
    pub forgets: bool,
}

/// What the checker looked at.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Tasks.
    pub tasks: u64,
    /// Of them, those that succeeded.
    pub succeeded: u64,
    /// Events.
    pub events: u64,
    /// Failures that tasks were ever charged with.
    pub failures: u64,
    /// How often a task died.
    pub deaths: u64,
    /// Of the tasks, those that are dead.
    pub dead: u64,
    /// Attempts that went on from a checkpoint.
    pub went_on: u64,
    /// Last tasks of groups that succeeded.
    pub groups: u64,
    /// Attempts that came to nothing through their machine.
    pub machine_faults: u64,
    /// Leases that expired, and those attempts.
    pub lapses: u64,
    /// Tasks that were handed back.
    pub releases: u64,
    /// Files in the store that were read and digested.
    pub files: u64,
}

/// Checks everything, and says what it looked at.
pub async fn check(scene: &Scene<'_>) -> (Vec<Violation>, Seen) {
    let mut violations = Vec::new();
    let mut seen = Seen::default();
    let mut connection = ledger::connect(scene.redis_url).await;
    for run in scene.runs {
        let ledger = match Ledger::read(&mut connection, run).await {
            Ok(ledger) => ledger,
            Err(error) => {
                violations
                    .push(Violation::new(Rule::Manifest, format!("{run}: Redis can't be read: {error}")));
                continue;
            }
        };
        seen.tasks += ledger.total();
        seen.succeeded += ledger.count("succeeded");
        seen.events += ledger.events.len() as u64;
        seen.lapses += ledger.count("lapses");
        seen.releases += ledger.count("releases");
        let found = check_run(scene, run, &ledger, &mut seen);
        violations
            .extend(found.into_iter().map(|(rule, what)| Violation::new(rule, format!("{run}: {what}"))));
    }
    violations.extend(remains::check(scene.marker, scene.scratch).await);
    (violations, seen)
}

fn check_run(scene: &Scene<'_>, run: &str, ledger: &Ledger, seen: &mut Seen) -> Found {
    let folder = scene.store.join(run);
    let fates = match fates(&folder) {
        Ok(fates) => fates,
        Err(error) => return vec![(Rule::Manifest, format!("the stored run can't be read: {error}"))],
    };
    let (mut found, pasts) = history::check(ledger);
    seen.failures += pasts.values().map(|past| past.charges.len() as u64).sum::<u64>();
    seen.deaths += pasts.values().map(|past| past.deaths).sum::<u64>();
    seen.machine_faults += pasts.values().map(|past| past.machine_faults).sum::<u64>();
    seen.dead += ledger.count("dead");
    let lasts = (0..ledger.total()).filter(|task| ledger.group(*task).is_some_and(|(_, last)| last == *task));
    seen.groups += lasts.filter(|task| ledger.state(&task.to_string()) == "succeeded").count() as u64;

    let cancelled = |task: u64| scene.cancelled.contains(&(run.to_owned(), task));
    let others = |task: u64| ledger.group(task).filter(|(_, last)| *last == task).map(|(others, _)| others);
    let may_be_cancelled =
        |task: u64| cancelled(task) || others(task).is_some_and(|mut all| all.any(cancelled));
    let limit = ledger.limit("failures_max");
    let fails_enough = |task: u64| {
        fates.get(&task).is_some_and(|fate| fate.failures_max.is_none_or(|most| most as u64 >= limit))
    };
    let may_die = |task: u64| fails_enough(task) || others(task).is_some_and(|mut all| all.any(fails_enough));
    found.extend(counts::check(ledger, may_be_cancelled, may_die));
    found.extend(results::check(ledger, &folder, &fates, &mut seen.files));
    let diary = |task: u64| charges::diary(scene.diaries, run, task);
    found.extend(charges::check(ledger, &pasts, &fates, diary));
    seen.went_on += checkpoints::check(ledger, (&folder, scene.forgets), &pasts, diary, &mut found);
    found
}

/// What a part of the checker finds in a run.
type Found = Vec<(Rule, String)>;
