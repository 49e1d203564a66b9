//! What launchpad does to a run: create, push, seal, set, cancel, requeue, remove; and the connection behind all calls.

use std::sync::Arc;

use deadpool::managed::PoolError;
use redis::{PushInfo, PushKind, ToRedisArgs};
use tokio::sync::mpsc;

use super::access::Access;
use super::connector::{Connector, Listening};
use super::keys::{self, RunKeys};
use super::line::{Aside, Line};
use super::link::Link;
use super::reply::Reply;
use super::scripts::NamedScript;
use super::{QueueError, scripts};
use crate::task::{Limits, RunId, SPEC_SCHEMA, TaskId, WorkerId};

/// A way to one Redis. Cheap to clone; a broken connection is replaced at the next call.
#[derive(Clone)]
pub struct Queue {
    main: Line,
    /// Of a cluster: for those whose node is away.
    aside: Option<Aside>,
    connector: Arc<Connector>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// What a worker is told on its channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// There may be work.
    Work,
    /// A person wants the worker to leave.
    Drain,
    /// Somebody wants to see the output of this task, if the worker holds it.
    Follow {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
    },
}

impl Wake {
    pub(super) fn of(message: &PushInfo) -> Self {
        let text = message.data.last().and_then(|value| redis::from_redis_value_ref::<String>(value).ok());
        if text.as_deref() == Some(keys::DRAIN_MESSAGE) {
            return Self::Drain;
        }
        let followed = text.and_then(|text| keys::followed(&text));
        followed.map_or(Self::Work, |(run, task)| Self::Follow { run, task })
    }
}

/// What comes on a worker's channel.
#[derive(Debug)]
pub struct Wakes {
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl Wakes {
    /// Waits for the next hint.
    pub async fn next(&mut self) -> Wake {
        while let Some(push) = self.pushes.recv().await {
            if push.kind == PushKind::Message {
                return Wake::of(&push);
            }
        }
        std::future::pending().await
    }
}

/// A run as push defines it.
#[derive(Debug, Clone)]
pub struct RunDefinition<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The digest of `spec_json`: the run's identity.
    pub digest: &'a str,
    /// The spec's bytes, as they are stored.
    pub spec_json: &'a str,
    /// Where the run's objects are.
    pub store: &'a str,
    /// The manifest's digest.
    pub manifest_sha256: &'a str,
    /// How the run is driven.
    pub limits: &'a Limits,
    /// In a run of groups, how many tasks each has, from 2: the last one waits for the others. The manifest is made of whole groups.
    pub group_tasks: Option<u64>,
    /// Further fields of the run's hash, such as `campaign` and `label:<name>`.
    pub labels: &'a [(String, String)],
}

/// What became of creating a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is new.
    New,
    /// The same run was there.
    Exists {
        /// Tasks that it has already.
        total: u64,
        /// Whether its push had finished.
        sealed: bool,
    },
}

/// What became of sealing a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// It is sealed.
    Yes,
    /// Tasks are missing: a fail-over forgot some of the push.
    Short {
        /// How many are there.
        total: u64,
    },
}

impl Queue {
    /// A queue behind a URL, over one connection, which carries many calls at once. Nothing is sent yet.
    pub fn open(access: impl Into<Access>) -> Result<Self, QueueError> {
        Self::build(access.into(), None)
    }

    /// The same, and its connection also listens for hints to this worker.
    pub fn open_listening(access: impl Into<Access>, worker: &WorkerId) -> Result<(Self, Wakes), QueueError> {
        let (sender, pushes) = mpsc::unbounded_channel();
        let listening = Listening { channel: keys::wake(worker), sender };
        Ok((Self::build(access.into(), Some(listening))?, Wakes { pushes }))
    }

    fn build(access: Access, listening: Option<Listening>) -> Result<Self, QueueError> {
        let connector = Arc::new(Connector::new(access.clone(), listening)?);
        let aside = if connector.is_of_cluster() {
            Some(Aside::new(Arc::new(Connector::new(access, None)?)))
        } else {
            None
        };
        Ok(Self { main: Line::new(Arc::clone(&connector)), aside, connector })
    }

    /// The URL, without its password.
    pub fn url(&self) -> &str {
        self.connector.url()
    }

    /// Has the next call make a new connection, which finds out anew who is the primary.
    pub fn reconnect(&self) {
        self.main.give_up();
    }

    /// The connection in use.
    pub(super) async fn connection(&self) -> Result<Link, QueueError> {
        self.main.link().await.map_err(|error| self.pool_error(error))
    }

    /// The connection for calls about a run.
    pub(super) async fn connection_of(&self, run: &RunId) -> Result<Link, QueueError> {
        match self.aside {
            None => self.connection().await,
            Some(_) => self.connection_to(&RunKeys::new(run).run()).await,
        }
    }

    /// The connection for calls about a key, and those about others in the same pipeline.
    pub(super) async fn connection_to(&self, key: &str) -> Result<Link, QueueError> {
        let Some(aside) = &self.aside else { return self.connection().await };
        aside.choose(&self.main, key).await.map_err(|error| self.pool_error(error))
    }

    fn pool_error(&self, error: PoolError<QueueError>) -> QueueError {
        match error {
            PoolError::Backend(error) => error,
            other => self.error(std::io::Error::other(other.to_string()).into()),
        }
    }

    /// What to make of an error of a call.
    pub(super) fn error(&self, source: redis::RedisError) -> QueueError {
        QueueError::from_redis(self.url(), source)
    }

    /// Runs a script of a run.
    pub(super) async fn run_script(
        &self,
        script: &NamedScript,
        run: &RunId,
        arguments: impl ToRedisArgs,
    ) -> Result<Reply, QueueError> {
        let mut connection = self.connection_of(run).await?;
        let called =
            script.script.key(RunKeys::new(run).run()).arg(arguments).invoke_async(&mut connection).await;
        let reply = Reply::new(script.name, called.map_err(|source| self.error(source))?);
        if reply.code() == "gone" { Err(QueueError::NoSuchRun(run.clone())) } else { Ok(reply) }
    }

    /// Makes a run, or finds that the same one is there. Refuses another one under the same id.
    pub async fn create(&self, definition: &RunDefinition<'_>) -> Result<Created, QueueError> {
        let limits = definition.limits;
        let mut arguments = vec![definition.digest.to_owned()];
        let mut field = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        field("schema", SPEC_SCHEMA.to_string());
        field("spec", definition.spec_json.to_owned());
        field("store", definition.store.to_owned());
        field("manifest_sha256", definition.manifest_sha256.to_owned());
        for (name, value) in limit_fields(limits) {
            field(name, value.to_string());
        }
        if !limits.step_seconds.is_empty() {
            let seconds = limits.step_seconds.iter().map(|(kind, seconds)| format!("{kind}={seconds}"));
            field("step_seconds", seconds.collect::<Vec<_>>().join(" "));
        }
        if let Some(tasks) = definition.group_tasks {
            field("group_tasks", tasks.to_string());
        }
        for (name, value) in definition.labels {
            field(name, value.clone());
        }
        let reply = self.run_script(&scripts::CREATE, definition.run, arguments).await?;
        match reply.code() {
            "created" => Ok(Created::New),
            "exists" => Ok(Created::Exists { total: reply.number(1)?, sealed: reply.number(2)? == 1 }),
            "differs" => Err(differs(definition.run, reply.text(1)?, definition.digest)),
            "removing" => Err(QueueError::Removing(definition.run.clone())),
            _ => Err(reply.unknown()),
        }
    }

    /// Enters a run in the registry, where workers without `--run` find it; higher priorities are served first.
    pub async fn register(&self, run: &RunId, priority: i64) -> Result<(), QueueError> {
        let mut connection = self.connection().await?;
        let mut pipe = redis::pipe();
        pipe.zadd(keys::RUNS, run.as_str(), priority).ignore();
        pipe.query_async(&mut connection).await.map_err(|source| self.error(source))
    }

    /// Pushes the tasks `first`, `first` + 1, … and returns how many the run then has. Tasks that are there already are skipped.
    /// A total below `first` means that Redis forgot some: push again from there. A sealed run takes no more.
    pub async fn push(
        &self,
        run: &RunId,
        digest: &str,
        first: TaskId,
        inputs: &[String],
    ) -> Result<u64, QueueError> {
        let arguments = (digest, first.0, inputs);
        let reply = self.run_script(&scripts::PUSH, run, arguments).await?;
        match reply.code() {
            "ok" | "gap" | "sealed" => reply.number(1),
            "differs" => Err(differs(run, reply.text(1)?, digest)),
            _ => Err(reply.unknown()),
        }
    }

    /// Declares a run complete, if it has all `tasks` of its manifest.
    pub async fn seal(&self, run: &RunId, tasks: u64) -> Result<Sealed, QueueError> {
        let reply = self.run_script(&scripts::SEAL, run, tasks).await?;
        match reply.code() {
            "ok" => Ok(Sealed::Yes),
            "short" => Ok(Sealed::Short { total: reply.number(1)? }),
            _ => Err(reply.unknown()),
        }
    }

    /// Cancels up to `bound` tasks of the whole run and returns how many; 0 when none was left to cancel.
    pub async fn cancel_next(&self, run: &RunId, bound: u64) -> Result<u64, QueueError> {
        let reply = self.run_script(&scripts::CANCEL, run, bound).await?;
        reply.number(1)
    }

    /// Cancels these tasks and returns how many were not terminal before.
    pub async fn cancel_tasks(&self, run: &RunId, tasks: &[TaskId]) -> Result<u64, QueueError> {
        if tasks.is_empty() {
            return Ok(0);
        }
        let ids: Vec<u64> = tasks.iter().map(|task| task.0).collect();
        let reply = self.run_script(&scripts::CANCEL, run, (0, ids)).await?;
        reply.number(1)
    }

    /// Revives dead or cancelled tasks, each only if its latest lease still has the number that was seen (0: never leased).
    pub async fn requeue(&self, run: &RunId, tasks: &[(TaskId, u64)]) -> Result<u64, QueueError> {
        let arguments: Vec<u64> = tasks.iter().flat_map(|(task, number)| [task.0, *number]).collect();
        let reply = self.run_script(&scripts::REQUEUE, run, arguments).await?;
        reply.number(1)
    }

    /// Lets no more tasks of a run be leased, and says why; `None` lets it go on.
    pub async fn set_paused(&self, run: &RunId, why: Option<&str>) -> Result<(), QueueError> {
        self.set(run, "paused", why.unwrap_or("")).await
    }

    /// Sets how many leases a run may have at any time, fleet-wide; 0 for no limit.
    pub async fn set_parallelism(&self, run: &RunId, leases: u64) -> Result<(), QueueError> {
        self.set(run, "parallelism", &leases.to_string()).await
    }

    async fn set(&self, run: &RunId, field: &'static str, value: &str) -> Result<(), QueueError> {
        let reply = self.run_script(&scripts::SET, run, (field, value)).await?;
        if reply.code() == "ok" { Ok(()) } else { Err(reply.unknown()) }
    }

    /// Forgets up to `bound` tasks of a run from `first` on, and the run itself with the last of them. Returns whether more is left.
    pub async fn remove(&self, run: &RunId, first: TaskId, bound: u64) -> Result<bool, QueueError> {
        let reply = self.run_script(&scripts::REMOVE, run, (first.0, bound)).await?;
        match reply.code() {
            "more" => Ok(true),
            "done" => self.unregister(run).await.map(|()| false),
            _ => Err(reply.unknown()),
        }
    }

    async fn unregister(&self, run: &RunId) -> Result<(), QueueError> {
        let mut connection = self.connection().await?;
        let mut pipe = redis::pipe();
        pipe.zrem(keys::RUNS, run.as_str()).ignore();
        pipe.query_async(&mut connection).await.map_err(|source| self.error(source))
    }
}

/// The limits as the run's hash has them.
pub(super) fn limit_fields(limits: &Limits) -> [(&'static str, u64); 10] {
    [
        ("parallelism", limits.parallelism),
        ("failures_max", limits.failures_max),
        ("lapses_max", limits.lapses_max),
        ("lease_ms", limits.lease_ms),
        ("heartbeat_ms", limits.heartbeat_ms),
        ("backoff_ms", limits.backoff_ms),
        ("backoff_max_ms", limits.backoff_max_ms),
        ("step_seconds_max", limits.step_seconds_max),
        ("checkpoint_seconds", limits.checkpoint_seconds),
        ("checkpoint_jitter_seconds", limits.checkpoint_jitter_seconds),
    ]
}

fn differs(run: &RunId, theirs: &str, ours: &str) -> QueueError {
    QueueError::Differs { run: run.clone(), theirs: theirs.to_owned(), ours: ours.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let queue = Queue::open("redis://chemist:secret@localhost:1/0").unwrap();
        assert_eq!(queue.url(), "redis://chemist:***@localhost:1/0");
        assert!(!format!("{queue:?}").contains("secret"));
    }

    #[test]
    fn a_wrong_url_is_named() {
        let error = Queue::open("http://localhost").unwrap_err();
        assert_eq!(error.to_string(), "the Redis URL `http://localhost` is not valid");
    }
}
