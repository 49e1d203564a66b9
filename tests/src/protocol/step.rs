//! One step of a history: a call of one script through the typed queue, or time that passes; and what it answered. Takes it in the
//! model; Redis is the stage's.

use std::fmt;

use common::queue::model::Model;
use common::queue::{
    Adoption, Charge, Completed, Completion, Failed, Failure, Fate, Kept, LeaseReply, Pulse, Released,
};
use common::task::{LeaseName, Molecule, Moments, TaskId, WorkerId, decode_molecules};

use crate::sample_input;

/// What happens.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the verbs and their words are those of docs/protocol.md")]
pub enum Step {
    Push {
        first: u64,
        tasks: u64,
    },
    Seal(u64),
    Lease {
        worker: WorkerId,
        request: u64,
        slots: u64,
    },
    Heartbeat(Vec<(TaskId, LeaseName)>),
    /// Several successes in one call.
    Complete(Vec<(TaskId, LeaseName, Success)>),
    Fail {
        task: TaskId,
        lease: LeaseName,
        charge: Charge,
        jitter_ppm: u32,
    },
    /// Handed back, for so many ms to nobody.
    Release(TaskId, LeaseName, u64),
    /// A bundle of this number.
    Checkpoint(TaskId, LeaseName, u64),
    /// A piece of a log, from this byte on.
    Tell(TaskId, LeaseName, u64),
    Adopt(Vec<Adoption>),
    CancelTasks(Vec<TaskId>),
    CancelNext(u64),
    Requeue(Vec<(TaskId, u64)>),
    Pause(bool),
    Parallelism(u64),
    /// Nobody calls for this many ms of plain time; the system's clock jumps back if it is negative.
    Pass(i64),
    /// The lease clock goes on by this many ms, as it does over many calls.
    Clock(u64),
}

/// What a worker says of its success.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "as in `Completion`")]
pub struct Success {
    pub molecules_ok: u64,
    pub molecules_bad: u64,
    pub bytes: (u64, u64),
    pub moments: Moments,
}

/// What a step answered, in one form for Redis and model.
#[derive(Debug, PartialEq)]
#[expect(missing_docs, reason = "one for each form of reply")]
pub enum Answer {
    Total(u64),
    Sealed(bool),
    Lease(LeaseReply),
    Pulses(Vec<Pulse>),
    Completed(Vec<Completed>),
    Failed(Failed),
    Released(Released),
    Kept(Kept),
    Count(u64),
    Nothing,
}

/// A log, and what is told of it.
pub(super) const PIECE: (&str, &str) = ("dock.stdout", "a line");
/// Why a run of a history is paused, and why a task is released.
pub(super) const WHY_PAUSED: &str = "a test";
pub(super) const WHY_RELEASED: &str = "drain";
/// Digest of a bundle, and how far it is.
pub(super) const BUNDLE: (&str, (u64, u64)) = ("b0", (3, 9));

impl Success {
    pub(super) const fn completion(&self) -> Completion<'static> {
        Completion {
            shard_sha256: "5a",
            index_sha256: "1d",
            molecules_ok: self.molecules_ok,
            molecules_bad: self.molecules_bad,
            bytes_down: self.bytes.0,
            bytes_up: self.bytes.1,
            moments: self.moments,
        }
    }
}

pub(super) const fn failure(charge: Charge, jitter_ppm: u32) -> Failure<'static> {
    Failure { reason: "exit_code", charge, tail: "last line", jitter_ppm }
}

impl Step {
    /// Takes the step in the model, at the moment at which Redis took it.
    pub(super) fn in_model(&self, model: &mut Model, now: u64) -> Answer {
        match self {
            Self::Push { first, tasks } => {
                let inputs: Vec<Vec<Molecule>> = (*first..first + tasks)
                    .map(|task| decode_molecules(&sample_input(task)).expect("a sample can be read"))
                    .collect();
                Answer::Total(model.push(*first, &inputs))
            }
            Self::Seal(tasks) => Answer::Sealed(model.seal(*tasks)),
            Self::Lease { worker, request, slots } => {
                Answer::Lease(model.lease(worker, *request, *slots, now))
            }
            Self::Heartbeat(leases) => Answer::Pulses(model.heartbeat(leases, now)),
            Self::Complete(successes) => {
                let complete = |(task, lease, success): &(TaskId, LeaseName, Success)| {
                    model.complete(*task, lease, &success.completion(), now)
                };
                Answer::Completed(successes.iter().map(complete).collect())
            }
            Self::Fail { task, lease, charge, jitter_ppm } => {
                Answer::Failed(model.fail(*task, lease, &failure(*charge, *jitter_ppm), now))
            }
            Self::Release(task, lease, hold_ms) => {
                Answer::Released(model.release(*task, lease, (WHY_RELEASED, *hold_ms), now))
            }
            Self::Checkpoint(task, lease, number) => {
                let (sha256, progress) = BUNDLE;
                Answer::Kept(model.checkpoint(*task, lease, (*number, sha256, Some(progress)), now))
            }
            Self::Tell(task, lease, from) => {
                let (log, text) = PIECE;
                Answer::Released(model.tell(*task, lease, (log, *from, text), now))
            }
            Self::Adopt(results) => Answer::Count(model.adopt(results, now)),
            Self::CancelTasks(tasks) => Answer::Count(model.cancel_tasks(tasks, now)),
            Self::CancelNext(bound) => Answer::Count(model.cancel_next(*bound, now)),
            Self::Requeue(seen) => Answer::Count(model.requeue(seen, now)),
            _ => {
                self.drive(model);
                Answer::Nothing
            }
        }
    }

    /// What a person or time does, without an answer.
    fn drive(&self, model: &mut Model) {
        match self {
            Self::Pause(paused) => model.set_paused(paused.then_some(WHY_PAUSED)),
            Self::Parallelism(leases) => model.set_parallelism(*leases),
            Self::Pass(ms) => model.pass(*ms),
            Self::Clock(ms) => model.clock_ms += ms,
            other => unreachable!("{other} has an answer"),
        }
    }
}

/// Tasks and what goes with each, `0 as 1.w1.1, 2 as 1.w1.1`.
fn listed<T: fmt::Display>(entries: &[(TaskId, T)], word: &str) -> String {
    let entries: Vec<String> = entries.iter().map(|(task, with)| format!("{task} {word} {with}")).collect();
    entries.join(", ")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push { first, tasks } => write!(f, "push {tasks} tasks from {first}"),
            Self::Seal(tasks) => write!(f, "seal at {tasks} tasks"),
            Self::Lease { worker, request, slots } => {
                write!(f, "lease by {worker}, request {request}, {slots} slots")
            }
            Self::Heartbeat(leases) => write!(f, "heartbeat of {}", listed(leases, "as")),
            Self::Complete(successes) => {
                let successes: Vec<String> = successes
                    .iter()
                    .map(|(task, lease, success)| format!("{task} as {lease} with {success:?}"))
                    .collect();
                write!(f, "complete {}", successes.join(", "))
            }
            Self::Fail { task, lease, charge, jitter_ppm } => {
                write!(f, "fail {task} as {lease}, {}, jitter {jitter_ppm} ppm", charge.word())
            }
            Self::Release(task, lease, hold_ms) => {
                write!(f, "release {task} as {lease}, held for {hold_ms} ms")
            }
            Self::Checkpoint(task, lease, number) => write!(f, "checkpoint {number} of {task} as {lease}"),
            Self::Tell(task, lease, from) => write!(f, "tell of {task} as {lease} from byte {from}"),
            Self::Adopt(results) => {
                let seen: Vec<(TaskId, u64)> =
                    results.iter().map(|found| (found.task, found.lease_number)).collect();
                write!(f, "adopt {}", listed(&seen, "seen at lease"))
            }
            Self::CancelTasks(tasks) => {
                let tasks: Vec<String> = tasks.iter().map(TaskId::to_string).collect();
                write!(f, "cancel {}", tasks.join(", "))
            }
            Self::CancelNext(bound) => write!(f, "cancel the next {bound}"),
            Self::Requeue(seen) => write!(f, "requeue {}", listed(seen, "seen at lease")),
            Self::Pause(true) => write!(f, "pause"),
            Self::Pause(false) => write!(f, "resume"),
            Self::Parallelism(leases) => write!(f, "parallelism {leases}"),
            Self::Pass(ms) => write!(f, "{ms} ms pass without a call"),
            Self::Clock(ms) => write!(f, "the lease clock goes on by {ms} ms"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(LeaseReply::Granted { grants, .. }) => {
                let grants: Vec<(TaskId, &LeaseName)> =
                    grants.iter().map(|grant| (grant.task, &grant.lease)).collect();
                write!(f, "granted {}", listed(&grants, "as"))
            }
            Self::Lease(other) => write!(f, "{other:?}"),
            Self::Total(total) => write!(f, "total {total}"),
            Self::Sealed(true) => write!(f, "sealed"),
            Self::Sealed(false) => write!(f, "short"),
            Self::Pulses(pulses) => write!(f, "{pulses:?}"),
            Self::Completed(answers) => {
                let answers =
                    answers.iter().map(|answer| answer.as_ref().map_or_else(refusal, |()| "ok".into()));
                write!(f, "{}", answers.collect::<Vec<String>>().join(", "))
            }
            Self::Released(Ok(())) => write!(f, "ok"),
            Self::Kept(Ok(bundles)) => {
                let bundles: Vec<String> = bundles.iter().map(ToString::to_string).collect();
                write!(f, "kept {}", bundles.join(", "))
            }
            Self::Kept(Err(fate)) | Self::Released(Err(fate)) | Self::Failed(Failed::Refused(fate)) => {
                write!(f, "{}", refusal(fate))
            }
            Self::Failed(other) => write!(f, "{other:?}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Nothing => write!(f, "-"),
        }
    }
}

fn refusal(fate: &Fate) -> String {
    match fate {
        Fate::Cancelled => "cancelled".to_owned(),
        Fate::Lost(state) => format!("lost: {state}"),
    }
}
