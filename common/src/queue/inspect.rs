//! Reading a run without changing it: everything that `status` and `show` tell, each with one or two plain commands.

use std::collections::BTreeMap;

use redis::AsyncCommands as _;

use super::keys::{self, RunKeys};
use super::lease::parse_former;
use super::{Checkpoint, Queue, QueueError};
use crate::digest::sha256_hex;
use crate::excerpt::excerpt;
use crate::task::{Ending, LeaseName, Limits, Phase, RunId, RunSpec, State, TaskId, Timings, WorkerId};

/// How long after it was last seen a worker is silent, in ms: it lets itself be seen every 55 s at the latest, and has missed that.
pub const WORKER_SILENT_MS: u64 = 60_000;

/// How long after it was last seen a worker counts as gone, in ms.
pub const WORKER_GONE_MS: u64 = 90_000;

/// The `state` in the registry of a worker that leases no more because its machine is suspected.
pub const QUARANTINED: &str = "quarantined";

/// The counters of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "each field is the counter of that name in docs/protocol.md")]
pub struct Progress {
    pub total: u64,
    pub waiting: u64,
    pub pending: u64,
    pub delayed: u64,
    pub leased: u64,
    pub succeeded: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub failures: u64,
    pub lapses: u64,
    pub releases: u64,
    pub molecules_ok: u64,
    pub molecules_bad: u64,
    pub bytes: u64,
}

impl Progress {
    /// The count of a state.
    pub const fn of(&self, state: State) -> u64 {
        match state {
            State::Waiting => self.waiting,
            State::Pending => self.pending,
            State::Delayed => self.delayed,
            State::Leased => self.leased,
            State::Succeeded => self.succeeded,
            State::Dead => self.dead,
            State::Cancelled => self.cancelled,
        }
    }

    /// How many tasks are in a terminal state.
    pub const fn terminal(&self) -> u64 {
        self.succeeded + self.dead + self.cancelled
    }
}

/// A run's own hash.
#[derive(Debug, Clone, PartialEq)]
pub struct RunInfo {
    /// What it computes.
    pub spec: RunSpec,
    /// The digest of the spec's bytes.
    pub digest: String,
    /// Where its objects are.
    pub store: String,
    /// How it is driven.
    pub limits: Limits,
    /// Whether its push has finished.
    pub sealed: bool,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// When its push started, Redis time in ms.
    pub pushed_at_ms: u64,
    /// When a task last reached a terminal state, Redis time in ms.
    pub last_terminal_at_ms: Option<u64>,
    /// Campaign and labels, by field.
    pub labels: BTreeMap<String, String>,
}

/// A task's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskInfo {
    /// Where it is.
    pub state: State,
    /// Its latest lease; `None` if it was never leased.
    pub lease: Option<LeaseName>,
    /// How the latest lease ended, if it ended without success.
    pub ending: Option<Ending>,
    /// Former leases, the oldest first.
    pub former: Vec<(LeaseName, Ending)>,
    /// How often it failed.
    pub failures: u64,
    /// How often its worker vanished.
    pub lapses: u64,
    /// How often it was handed back.
    pub releases: u64,
    /// Why it failed or died.
    pub reason: Option<String>,
    /// Of its stored shard.
    pub shard_sha256: Option<String>,
    /// Of its stored index.
    pub index_sha256: Option<String>,
    /// Molecules that are ok.
    pub molecules_ok: u64,
    /// Molecules that are bad.
    pub molecules_bad: u64,
    /// When the phases of its success were.
    pub timings: Option<Timings>,
    /// Bytes downloaded and uploaded for its success.
    pub bytes: Option<(u64, u64)>,
    /// How far it is, and from where its next attempt can go on; nothing after a success.
    pub checkpoint: Checkpoint,
}

/// A lease that is held now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The task.
    pub task: TaskId,
    /// The lease.
    pub lease: LeaseName,
    /// How far the task is, by its bundles.
    pub checkpoint: Checkpoint,
}

/// A transition, from the bounded stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, Redis time in ms.
    pub at_ms: u64,
    /// Its fields, `verb` and `task` among them.
    pub fields: BTreeMap<String, String>,
}

/// The durations of a phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Histogram {
    /// How many are at most this long and longer than the bucket before.
    pub buckets: BTreeMap<u64, u64>,
}

impl Histogram {
    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// An upper bound of this share of all durations, in ms, by the bucket that holds it; `None` without durations.
    pub fn quantile_ms(&self, share: f64) -> Option<u64> {
        let wanted = (share * self.count() as f64).ceil().max(1.0);
        let mut seen = 0;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen as f64 >= wanted).then_some(*bucket)
        })
    }
}

/// A worker, from the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerInfo {
    /// The worker.
    pub id: WorkerId,
    /// When it was last seen, Redis time in ms.
    pub seen_ms: u64,
    /// What it tells of itself.
    pub fields: BTreeMap<String, String>,
}

impl WorkerInfo {
    /// Whether it leases no more because its machine is suspected.
    pub fn is_quarantined(&self) -> bool {
        self.fields.get("state").is_some_and(|state| state == QUARANTINED)
    }
}

type Fields = BTreeMap<String, String>;

impl Queue {
    /// The registered runs, the highest priority first.
    pub async fn runs(&self) -> Result<Vec<RunId>, QueueError> {
        let mut connection = self.connection_to(keys::RUNS).await?;
        let ids: Result<Vec<String>, _> = connection.zrevrange(keys::RUNS, 0, -1).await;
        Ok(ids.map_err(|source| self.error(source))?.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// A run's own hash.
    pub async fn run_info(&self, run: &RunId) -> Result<RunInfo, QueueError> {
        let fields = self.hash(run, &RunKeys::new(run).run()).await?;
        if fields.is_empty() {
            return Err(QueueError::NoSuchRun(run.clone()));
        }
        if fields.contains_key("removing") {
            return Err(QueueError::Removing(run.clone()));
        }
        run_info(run, fields)
    }

    /// A run's counters.
    pub async fn progress(&self, run: &RunId) -> Result<Progress, QueueError> {
        let fields = self.hash(run, &RunKeys::new(run).progress()).await?;
        if fields.is_empty() {
            return Err(QueueError::NoSuchRun(run.clone()));
        }
        let counter = |name: &str| fields.get(name).and_then(|value| value.parse().ok()).unwrap_or(0);
        Ok(Progress {
            total: counter("total"),
            waiting: counter("waiting"),
            pending: counter("pending"),
            delayed: counter("delayed"),
            leased: counter("leased"),
            succeeded: counter("succeeded"),
            dead: counter("dead"),
            cancelled: counter("cancelled"),
            failures: counter("failures"),
            lapses: counter("lapses"),
            releases: counter("releases"),
            molecules_ok: counter("molecules_ok"),
            molecules_bad: counter("molecules_bad"),
            bytes: counter("bytes"),
        })
    }

    /// Tasks by id, in the order asked for; a task without a hash is pending.
    pub async fn tasks(&self, run: &RunId, ids: &[TaskId]) -> Result<Vec<TaskInfo>, QueueError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = RunKeys::new(run);
        let hashes = self.hashes(ids.iter().map(|id| keys.task(*id)));
        let (hashes, checkpoints) = futures::future::try_join(hashes, self.checkpoints(&keys, ids)).await?;
        hashes
            .iter()
            .zip(checkpoints)
            .map(|(fields, checkpoint)| task_info(run, fields, checkpoint))
            .collect()
    }

    /// From where the next attempts of tasks can go on, in the order asked for.
    async fn checkpoints(&self, keys: &RunKeys, ids: &[TaskId]) -> Result<Vec<Checkpoint>, QueueError> {
        let mut connection = self.connection().await?;
        let ids: Vec<u64> = ids.iter().map(|id| id.0).collect();
        let texts: Result<Vec<Option<String>>, _> = connection.hmget(keys.checkpoints(), &ids).await;
        let texts = texts.map_err(|source| self.error(source))?.into_iter();
        Ok(texts.map(|text| text.as_deref().map(Checkpoint::parse).unwrap_or_default()).collect())
    }

    /// The tasks that are in a state now, in their order, where Redis has a list of them; `None` where every task would have to be asked.
    pub async fn tasks_in(&self, run: &RunId, state: State) -> Result<Option<Vec<TaskId>>, QueueError> {
        let keys = RunKeys::new(run);
        let mut connection = self.connection().await?;
        let ids: Result<Vec<u64>, _> = match state {
            State::Delayed => connection.zrange(keys.delayed(), 0, -1).await,
            State::Leased => connection.zrange(keys.leases(), 0, -1).await,
            State::Dead => connection.lrange(keys.dead(), 0, -1).await,
            // Pending ones are listed, too, but a million at once would hold up the workers.
            State::Waiting | State::Pending | State::Succeeded | State::Cancelled => return Ok(None),
        };
        let mut ids: Vec<TaskId> =
            ids.map_err(|source| self.error(source))?.into_iter().map(TaskId).collect();
        ids.sort_unstable();
        Ok(Some(ids))
    }

    /// The last lines of a task's last failed attempt.
    pub async fn tail(&self, run: &RunId, task: TaskId) -> Result<Option<String>, QueueError> {
        let mut connection = self.connection().await?;
        let tail: Result<Option<String>, _> = connection.hget(RunKeys::new(run).tails(), task.0).await;
        tail.map_err(|source| self.error(source))
    }

    /// Up to `bound` leases that are held now, the ones that expire first in front.
    pub async fn leases(&self, run: &RunId, bound: usize) -> Result<Vec<LeaseInfo>, QueueError> {
        let mut connection = self.connection().await?;
        let last = isize::try_from(bound).unwrap_or(isize::MAX) - 1;
        let ids: Result<Vec<u64>, _> = connection.zrange(RunKeys::new(run).leases(), 0, last).await;
        let ids: Vec<TaskId> = ids.map_err(|source| self.error(source))?.into_iter().map(TaskId).collect();
        let tasks = self.tasks(run, &ids).await?;
        let held = ids.into_iter().zip(tasks).filter(|(_, info)| info.state == State::Leased);
        let lease = |(task, info): (TaskId, TaskInfo)| {
            Some(LeaseInfo { task, lease: info.lease?, checkpoint: info.checkpoint })
        };
        Ok(held.filter_map(lease).collect())
    }

    /// Up to `bound` of the latest transitions, the newest first.
    pub async fn events(&self, run: &RunId, bound: usize) -> Result<Vec<Event>, QueueError> {
        let mut connection = self.connection().await?;
        let key = RunKeys::new(run).events();
        let entries: Result<Vec<(String, Fields)>, _> =
            connection.xrevrange_count(key, "+", "-", bound).await;
        let entries = entries.map_err(|source| self.error(source))?;
        Ok(entries
            .into_iter()
            .filter_map(|(id, fields)| Some(Event { at_ms: id.split('-').next()?.parse().ok()?, fields }))
            .collect())
    }

    /// The durations of a phase.
    pub async fn histogram(&self, run: &RunId, phase: Phase) -> Result<Histogram, QueueError> {
        let fields = self.hash(run, &RunKeys::new(run).stats(phase)).await?;
        let buckets =
            fields.iter().filter_map(|(bucket, count)| Some((bucket.parse().ok()?, count.parse().ok()?)));
        Ok(Histogram { buckets: buckets.collect() })
    }

    /// All workers in the registry, the one seen last in front.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>, QueueError> {
        let mut connection = self.connection().await?;
        let seen: Result<Vec<(String, f64)>, _> = connection.zrevrange_withscores(keys::WORKERS, 0, -1).await;
        let seen: Vec<(WorkerId, f64)> = seen
            .map_err(|source| self.error(source))?
            .into_iter()
            .filter_map(|(id, at)| Some((id.parse().ok()?, at)))
            .collect();
        let cards = self.hashes(seen.iter().map(|(id, _)| keys::worker(id))).await?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a score is a time in ms, far below 2^53"
        )]
        let workers = seen.into_iter().zip(cards).map(|((id, at), fields)| WorkerInfo {
            id,
            seen_ms: at as u64,
            fields,
        });
        Ok(workers.collect())
    }

    /// Several hashes in one round trip.
    async fn hashes(&self, keys: impl Iterator<Item = String>) -> Result<Vec<Fields>, QueueError> {
        let mut pipe = redis::pipe();
        for key in keys {
            pipe.hgetall(key);
        }
        // redis-rs refuses a pipeline without commands.
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connection().await?;
        pipe.query_async(&mut connection).await.map_err(|source| self.error(source))
    }

    async fn hash(&self, run: &RunId, key: &str) -> Result<Fields, QueueError> {
        let mut connection = self.connection_of(run).await?;
        connection.hgetall(key).await.map_err(|source| self.error(source))
    }
}

/// Limits of kinds of steps, such as `md=36000 parameters=600`.
fn step_seconds(text: &str) -> Option<BTreeMap<String, u64>> {
    let limit = |limit: &str| {
        let (kind, seconds) = limit.split_once('=')?;
        Some((kind.to_owned(), seconds.parse().ok()?))
    };
    text.split(' ').map(limit).collect()
}

pub(super) fn run_info(run: &RunId, mut fields: Fields) -> Result<RunInfo, QueueError> {
    let unreadable = |field: &'static str, value: Option<&String>| QueueError::Field {
        run: run.clone(),
        field,
        value: excerpt(value.map_or("", String::as_str)),
    };
    let number = |field: &'static str| {
        let value = fields.get(field);
        value.and_then(|value| value.parse::<u64>().ok()).ok_or_else(|| unreadable(field, value))
    };
    let step_seconds = match fields.get("step_seconds") {
        None => BTreeMap::new(),
        Some(text) => step_seconds(text).ok_or_else(|| unreadable("step_seconds", Some(text)))?,
    };
    let limits = Limits {
        step_seconds,
        parallelism: number("parallelism")?,
        failures_max: number("failures_max")?,
        lapses_max: number("lapses_max")?,
        lease_ms: number("lease_ms")?,
        heartbeat_ms: number("heartbeat_ms")?,
        backoff_ms: number("backoff_ms")?,
        backoff_max_ms: number("backoff_max_ms")?,
        step_seconds_max: number("step_seconds_max")?,
        checkpoint_seconds: number("checkpoint_seconds")?,
        checkpoint_jitter_seconds: number("checkpoint_jitter_seconds")?,
    };
    limits.validate().map_err(|source| QueueError::Limits { run: run.clone(), source })?;
    let pushed_at_ms = number("pushed_at")?;
    let last_terminal_at_ms =
        fields.contains_key("last_terminal_at").then(|| number("last_terminal_at")).transpose()?;
    let json = fields.get("spec").ok_or_else(|| unreadable("spec", None))?;
    let spec = RunSpec::read(json, run).map_err(|source| QueueError::Spec { run: run.clone(), source })?;
    let ours = sha256_hex(json.as_bytes());
    let mut take = |field: &'static str| fields.remove(field).ok_or_else(|| unreadable(field, None));
    let (digest, store) = (take("digest")?, take("store")?);
    // The digest is what workers confirm in the store: it has to be that of what they read here.
    if digest != ours {
        return Err(QueueError::Digest { run: run.clone(), theirs: excerpt(&digest), ours });
    }
    let (sealed, paused) = (fields.contains_key("sealed"), fields.remove("paused"));
    fields.retain(|name, _| name == "campaign" || name.starts_with("label:"));
    Ok(RunInfo {
        spec,
        digest,
        store,
        limits,
        sealed,
        paused,
        pushed_at_ms,
        last_terminal_at_ms,
        labels: fields,
    })
}

pub(super) fn task_info(
    run: &RunId,
    fields: &Fields,
    checkpoint: Checkpoint,
) -> Result<TaskInfo, QueueError> {
    let unreadable = |field: &'static str| QueueError::Field {
        run: run.clone(),
        field,
        value: excerpt(fields.get(field).map_or("", String::as_str)),
    };
    let text = |field: &str| fields.get(field).cloned();
    let counter = |field: &str| fields.get(field).and_then(|value| value.parse().ok()).unwrap_or(0);
    let state = fields.get("state").map_or(Ok(State::Pending), |state| state.parse());
    let lease = fields.get("lease").map(|lease| lease.parse()).transpose();
    let ending = fields.get("ending").map(|ending| match ending.as_str() {
        "failed" => Ok(Ending::Failed),
        "released" => Ok(Ending::Released),
        "lapsed" => Ok(Ending::Lapsed),
        "cancelled" => Ok(Ending::Cancelled),
        _ => Err(unreadable("ending")),
    });
    let former = parse_former(fields.get("former").map_or("", String::as_str));
    Ok(TaskInfo {
        state: state.map_err(|_| unreadable("state"))?,
        lease: lease.map_err(|_| unreadable("lease"))?,
        ending: ending.transpose()?,
        former: former.ok_or_else(|| unreadable("former"))?,
        failures: counter("failures"),
        lapses: counter("lapses"),
        releases: counter("releases"),
        reason: text("reason"),
        shard_sha256: text("shard_sha256"),
        index_sha256: text("index_sha256"),
        molecules_ok: counter("molecules_ok"),
        molecules_bad: counter("molecules_bad"),
        timings: fields.get("timings_ms").and_then(|text| Timings::parse(text)),
        bytes: fields.get("bytes").and_then(|text| {
            let (down, up) = text.split_once(' ')?;
            Some((down.parse().ok()?, up.parse().ok()?))
        }),
        checkpoint,
    })
}
