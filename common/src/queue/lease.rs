//! What a worker does to the tasks of a run: lease, heartbeat, complete, fail, release; and its own card in the registry.

use super::reply::Reply;
use super::{Checkpoint, Queue, QueueError, keys, scripts};
use crate::checkup::chain;
use crate::task::{
    Ending, LeaseName, Molecule, Moments, RunId, TaskId, WorkerId, bucket_of, decode_molecules,
};

/// The answer to a request for tasks.
#[derive(Debug, Clone, PartialEq)]
pub enum LeaseReply {
    /// Tasks were given: raise the request's number.
    Granted {
        /// The Redis time in ms.
        now_ms: u64,
        /// The leases.
        grants: Vec<Grant>,
    },
    /// No task was given: ask again under the same number, later.
    Nothing(Nothing),
    /// This request was answered long ago and nothing of its answer is held: raise the number beyond `answered`.
    Stale {
        /// The highest number of this worker that was answered.
        answered: u64,
    },
    /// Under this id there is another run than the one that the worker knows: read it again. No task was given.
    Differs,
}

/// Why there is no task, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nothing {
    /// The reason.
    pub why: WhyNothing,
    /// When asking again makes sense, in ms from now.
    pub wait_ms: u64,
}

/// Why a request got no task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyNothing {
    /// A person, or the run itself, paused it.
    Paused,
    /// As many leases as the run may have.
    Cap,
    /// All tasks are leased or delayed, or the push goes on.
    Empty,
    /// Sealed, every task terminal, and settled: the end.
    Drained,
    /// Zero slots were offered.
    NoneAsked,
    /// Tasks are pending, and none of them is on the list or can be read: another hand than the queue's has been there.
    Damaged,
}

/// A lease of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The task.
    pub task: TaskId,
    /// The whole lease name: it fences every write and names every file of the attempt.
    pub lease: LeaseName,
    /// What to work on; empty if the task's input is missing or can't be used: the other tasks of the answer are not to blame.
    pub molecules: Vec<Molecule>,
    /// Why there is nothing to work on, if so.
    pub unusable: Option<String>,
    /// Former leases of the task, the oldest first, with how each ended; without those whose names can't be read.
    pub former: Vec<(LeaseName, Ending)>,
    /// When the task became pending, Redis time in ms.
    pub queued_ms: u64,
    /// How often the task has failed.
    pub failures: u64,
    /// From where a former attempt may be taken up; without bundles whose names can't be read.
    pub checkpoint: Checkpoint,
}

/// What a heartbeat says of one lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// Renewed.
    Held,
    /// Ours was the latest lease and nobody else has the task: go on, `complete` will be adopted.
    Unheld,
    /// A person stopped the task.
    Cancelled,
    /// Somebody else has it, or had it: stop, commit nothing.
    Lost,
}

/// A success.
#[derive(Debug, Clone)]
pub struct Completion<'a> {
    /// Of the stored shard.
    pub shard_sha256: &'a str,
    /// Of the stored index object.
    pub index_sha256: &'a str,
    /// Molecules that are ok.
    pub molecules_ok: u64,
    /// Molecules that are bad.
    pub molecules_bad: u64,
    /// Bytes downloaded for it.
    pub bytes_down: u64,
    /// Bytes uploaded for it.
    pub bytes_up: u64,
    /// When its phases were.
    pub moments: Moments,
}

/// What an attempt that came to nothing is charged as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    /// A failure of the task, which is tried again.
    Failure,
    /// A failure of the task, and trying again is of no use.
    LastFailure,
    /// A lapse: the worker's machine could not do it.
    Lapse,
}

impl Charge {
    /// The word of the script.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failure => "again",
            Self::LastFailure => "never",
            Self::Lapse => "machine",
        }
    }
}

/// An attempt that came to nothing.
#[derive(Debug, Clone)]
pub struct Failure<'a> {
    /// A stable short word.
    pub reason: &'a str,
    /// What it is charged as.
    pub charge: Charge,
    /// The last lines of the engine's output.
    pub tail: &'a str,
    /// The back-off's jitter, from 0 to 999,999 millionths.
    pub jitter_ppm: u32,
}

/// Why a write under a lease name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// A person stopped the task.
    Cancelled,
    /// The lease is not the task's, or not any more; the task's state follows.
    Lost(String),
}

/// What became of a completion.
pub type Completed = Result<(), Fate>;
/// What became of a release.
pub type Released = Result<(), Fate>;

/// What became of a failure that was charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// It will be tried again.
    Delayed {
        /// When it becomes pending, Redis time in ms.
        ready_at_ms: u64,
    },
    /// It gave up.
    Dead,
    /// Nothing was charged.
    Refused(Fate),
}

/// What the registry shows of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerCard {
    /// Fields of its hash, such as `host`, `slots`, `version`, `tasks`.
    pub fields: Vec<(&'static str, String)>,
}

/// How long the registry keeps a worker that is not seen any more: 7 days, in seconds.
const CARD_SECONDS: i64 = 7 * 24 * 3600;

/// What the script `complete` takes for each success.
const COMPLETE_ARGUMENTS: usize = 15;

impl Queue {
    /// Asks for up to `slots` tasks of the run whose spec has this digest. The same `request` gives the same tasks until the worker
    /// raises it.
    pub async fn lease(
        &self,
        run: &RunId,
        digest: &str,
        worker: &WorkerId,
        request: u64,
        slots: u64,
    ) -> Result<LeaseReply, QueueError> {
        let reply = self.run_script(&scripts::LEASE, run, (worker.as_str(), request, slots, digest)).await?;
        match reply.code() {
            "granted" => {
                let now_ms = reply.number(1)?;
                let grants: Vec<Grant> =
                    reply.lists(2)?.iter().filter_map(|fields| grant(now_ms, fields)).collect();
                if grants.is_empty() {
                    return Err(reply.unknown());
                }
                Ok(LeaseReply::Granted { now_ms, grants })
            }
            "nothing" => {
                let why = match reply.text(2)? {
                    "paused" => WhyNothing::Paused,
                    "cap" => WhyNothing::Cap,
                    "empty" => WhyNothing::Empty,
                    "drained" => WhyNothing::Drained,
                    "none_asked" => WhyNothing::NoneAsked,
                    "damaged" => WhyNothing::Damaged,
                    _ => return Err(reply.unknown()),
                };
                Ok(LeaseReply::Nothing(Nothing { why, wait_ms: reply.number(3)? }))
            }
            "stale" => Ok(LeaseReply::Stale { answered: reply.number(2)? }),
            "differs" => Ok(LeaseReply::Differs),
            _ => Err(reply.unknown()),
        }
    }

    /// Renews leases, each under its whole name, and says of each what became of it.
    pub async fn heartbeat(
        &self,
        run: &RunId,
        leases: &[(TaskId, LeaseName)],
    ) -> Result<Vec<Pulse>, QueueError> {
        let arguments: Vec<String> =
            leases.iter().flat_map(|(task, lease)| [task.to_string(), lease.to_string()]).collect();
        let reply = self.run_script(&scripts::HEARTBEAT, run, arguments).await?;
        let pulses = reply.texts(2)?.into_iter().map(|answer| match answer {
            "held" => Some(Pulse::Held),
            "unheld" => Some(Pulse::Unheld),
            "cancelled" => Some(Pulse::Cancelled),
            "lost" => Some(Pulse::Lost),
            _ => None,
        });
        let pulses: Option<Vec<Pulse>> = pulses.collect();
        pulses.filter(|pulses| pulses.len() == leases.len()).ok_or_else(|| reply.unknown())
    }

    /// Records a success. Repeating it under the same name is fine.
    pub async fn complete(
        &self,
        run: &RunId,
        task: TaskId,
        lease: &LeaseName,
        completion: &Completion<'_>,
    ) -> Result<Completed, QueueError> {
        let mut answers = self.complete_all(run, &[(task, lease, completion)]).await?;
        Ok(answers.pop().expect("one answer for each success"))
    }

    /// Records several successes of a run in one call, and says of each what became of it.
    pub async fn complete_all(
        &self,
        run: &RunId,
        successes: &[(TaskId, &LeaseName, &Completion<'_>)],
    ) -> Result<Vec<Completed>, QueueError> {
        let mut arguments = Vec::with_capacity(successes.len() * COMPLETE_ARGUMENTS);
        for (task, lease, completion) in successes {
            arguments.extend([
                task.to_string(),
                lease.to_string(),
                completion.shard_sha256.to_owned(),
                completion.index_sha256.to_owned(),
                completion.molecules_ok.to_string(),
                completion.molecules_bad.to_string(),
                completion.bytes_down.to_string(),
                completion.bytes_up.to_string(),
            ]);
            let (steps, latest) = completion.moments.steps();
            arguments.extend([steps, latest.to_string()]);
            let buckets = completion.moments.durations();
            arguments.extend(buckets.map(|(_, ms)| ms.map_or(String::new(), |ms| bucket_of(ms).to_string())));
        }
        let reply = self.run_script(&scripts::COMPLETE, run, arguments).await?;
        if reply.code() != "answers" {
            return Err(reply.unknown());
        }
        let answers: Vec<Completed> = reply
            .lists(1)?
            .into_iter()
            .map(|answer| match answer[..] {
                ["ok"] => Ok(Ok(())),
                ["cancelled"] => Ok(Err(Fate::Cancelled)),
                ["lost", state] => Ok(Err(Fate::Lost(state.to_owned()))),
                _ => Err(reply.unknown()),
            })
            .collect::<Result<_, _>>()?;
        if answers.len() == successes.len() { Ok(answers) } else { Err(reply.unknown()) }
    }

    /// Charges an attempt that came to nothing.
    pub async fn fail(
        &self,
        run: &RunId,
        task: TaskId,
        lease: &LeaseName,
        failure: &Failure<'_>,
    ) -> Result<Failed, QueueError> {
        let arguments = (
            task.0,
            lease.to_string(),
            failure.reason,
            failure.charge.word(),
            failure.jitter_ppm,
            failure.tail,
        );
        let reply = self.run_script(&scripts::FAIL, run, arguments).await?;
        match reply.code() {
            "delayed" => Ok(Failed::Delayed { ready_at_ms: reply.number(1)? }),
            "dead" => Ok(Failed::Dead),
            _ => fate(&reply).map(Failed::Refused),
        }
    }

    /// Hands a task back unharmed. With a hold, in ms up to [`HOLD_MAX_MS`](super::HOLD_MAX_MS), nobody else gets it until this lease
    /// has registered its last bundle or the hold is over.
    pub async fn release(
        &self,
        run: &RunId,
        task: TaskId,
        lease: &LeaseName,
        why: &str,
        hold_ms: u64,
    ) -> Result<Released, QueueError> {
        let arguments = (task.0, lease.to_string(), why, hold_ms);
        let reply = self.run_script(&scripts::RELEASE, run, arguments).await?;
        if reply.code() == "ok" { Ok(Ok(())) } else { fate(&reply).map(Err) }
    }

    /// Shows a worker in the registry, seen at this Redis time. Says whether it was told to leave.
    pub async fn show_worker(
        &self,
        worker: &WorkerId,
        seen_ms: u64,
        card: &WorkerCard,
    ) -> Result<bool, QueueError> {
        let key = keys::worker(worker);
        let mut pipe = redis::pipe();
        if !card.fields.is_empty() {
            pipe.hset_multiple(&key, &card.fields).ignore();
        }
        pipe.expire(&key, CARD_SECONDS).ignore();
        let forgotten = seen_ms.saturating_sub(CARD_SECONDS.unsigned_abs() * 1000);
        pipe.zrembyscore(keys::WORKERS, "-inf", forgotten).ignore();
        self.see(worker, seen_ms, pipe).await
    }

    /// Says that a worker whose card has not changed was seen at this Redis time. Says whether it was told to leave.
    pub async fn see_worker(&self, worker: &WorkerId, seen_ms: u64) -> Result<bool, QueueError> {
        self.see(worker, seen_ms, redis::pipe()).await
    }

    async fn see(
        &self,
        worker: &WorkerId,
        seen_ms: u64,
        mut pipe: redis::Pipeline,
    ) -> Result<bool, QueueError> {
        pipe.zadd(keys::WORKERS, worker.as_str(), seen_ms).ignore();
        pipe.zrank(keys::DRAINS, worker.as_str());
        let mut connection = self.connection_to(keys::WORKERS).await?;
        let seen: Result<(Option<u64>,), _> = pipe.query_async(&mut connection).await;
        seen.map(|(note,)| note.is_some()).map_err(|source| self.error(source))
    }

    /// Takes a worker that leaves off the registry, and the note that it should.
    pub async fn hide_worker(&self, worker: &WorkerId) -> Result<(), QueueError> {
        let mut pipe = redis::pipe();
        pipe.zrem(keys::WORKERS, worker.as_str()).ignore();
        pipe.zrem(keys::DRAINS, worker.as_str()).ignore();
        pipe.del(keys::worker(worker)).ignore();
        let mut connection = self.connection_to(keys::WORKERS).await?;
        pipe.query_async(&mut connection).await.map_err(|source| self.error(source))
    }

    /// The Redis time in ms.
    pub async fn now_ms(&self) -> Result<u64, QueueError> {
        let mut connection = self.connection().await?;
        #[expect(clippy::disallowed_methods, reason = "this is common/src/queue")]
        let time = redis::cmd("TIME").query_async::<(u64, u64)>(&mut connection).await;
        let (seconds, micros) = time.map_err(|source| self.error(source))?;
        Ok(seconds * 1000 + micros / 1000)
    }
}

pub(super) fn fate(reply: &Reply) -> Result<Fate, QueueError> {
    match reply.code() {
        "cancelled" => Ok(Fate::Cancelled),
        "lost" => Ok(Fate::Lost(reply.text(1)?.to_owned())),
        _ => Err(reply.unknown()),
    }
}

/// Reads one lease of an answer. What a stranger may have damaged in its task costs nothing but itself: the answer's other leases are held.
/// `None` if not even its name can be read; it lapses.
pub(super) fn grant(now_ms: u64, fields: &[&str]) -> Option<Grant> {
    let [task, lease, input, former, queued, failures, checkpoint] = fields else { return None };
    let (molecules, unusable) = match decode_molecules(input) {
        Ok(molecules) => (molecules, None),
        Err(_) if input.is_empty() => (Vec::new(), Some("it is missing".to_owned())),
        Err(error) => (Vec::new(), Some(chain(&error))),
    };
    Some(Grant {
        task: task.parse().ok()?,
        lease: lease.parse().ok()?,
        molecules,
        unusable,
        // What former attempts left is a help, and never needed.
        former: former.split(' ').filter_map(parse_former_one).collect(),
        queued_ms: queued.parse().unwrap_or(now_ms).min(now_ms),
        failures: failures.parse().unwrap_or(0),
        checkpoint: Checkpoint::parse(checkpoint),
    })
}

/// Reads the field `former`: `<lease name>:<ending>` for each, a space between them.
pub(super) fn parse_former(text: &str) -> Option<Vec<(LeaseName, Ending)>> {
    text.split(' ').filter(|part| !part.is_empty()).map(parse_former_one).collect()
}

fn parse_former_one(text: &str) -> Option<(LeaseName, Ending)> {
    let (lease, ending) = text.split_once(':')?;
    let ending = match ending {
        "failed" => Ending::Failed,
        "released" => Ending::Released,
        "lapsed" => Ending::Lapsed,
        "cancelled" => Ending::Cancelled,
        _ => return None,
    };
    Some((lease.parse().ok()?, ending))
}
