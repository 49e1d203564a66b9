//! A run in a real Redis and in the reference model: takes each step in both, and compares the replies, everything that Redis
//! holds, and who was told that there may be work. What differs is a text, so that the mutation check can go on.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use common::queue::model::Model;
use common::queue::{Bundle, Queue, QueueError, RunDefinition, SOURCES, Sealed};
use common::task::{Limits, RunId};
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use super::snapshot::{Camera, Snapshot, differences};
use super::step::{Answer, BUNDLE, PIECE, Step, WHY_PAUSED, WHY_RELEASED, failure};
use super::{expected, invariants};
use crate::{sample_input, sample_spec};

/// Workers whose ids start with this hear their channel; the others are gone.
pub(super) const LISTENS: &str = "ear";
/// How long an answer may take: far beyond the largest script on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// The fields of the run's hash that scripts change; the model knows them.
const DRIVEN: [&str; 6] = ["clock_ms", "ran_at", "last_terminal_at", "paused", "sealed", "parallelism"];

/// A run in Redis and in the model.
#[derive(Debug)]
pub struct Stage {
    pub(super) queue: Queue,
    pub(super) connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
    pub(super) run: RunId,
    pub(super) digest: String,
    spec_json: String,
    pub(super) now: Moment,
}

/// Where a stage stands: what Redis holds, and what the model says of it.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) model: Model,
    pub(super) found: Snapshot,
    pub(super) camera: Camera,
    /// What of Redis no script changes, and so no model knows.
    fixed: Snapshot,
}

impl Stage {
    /// Opens a stage on this Redis, which must hold nothing else.
    pub async fn open(url: &str) -> Self {
        let (sender, pushes) = mpsc::unbounded_channel();
        let config = redis::AsyncConnectionConfig::new().set_push_sender(sender);
        let config = config.set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(format!("{url}?protocol=resp3")).unwrap();
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        connection.psubscribe(format!("molfleet:worker:{LISTENS}*:wake")).await.unwrap();
        let run: RunId = "stage".parse().unwrap();
        let spec_json = serde_json::to_string(&sample_spec(&run, 0)).unwrap();
        let now = Moment {
            model: Model::new(Limits::default(), 0),
            found: Snapshot::new(),
            camera: Camera::new(""),
            fixed: Snapshot::new(),
        };
        load_scripts(&mut connection).await.unwrap();
        Self {
            queue: Queue::open(url).unwrap(),
            connection,
            pushes,
            digest: common::digest::sha256_hex(spec_json.as_bytes()),
            spec_json,
            run,
            now,
        }
    }

    /// Forgets everything and makes a run without tasks or groups.
    pub async fn reset(&mut self, limits: &Limits) -> Result<(), String> {
        self.reset_with(limits, None).await
    }

    /// Forgets everything and makes a run without tasks, whose groups have this many.
    pub async fn reset_with(&mut self, limits: &Limits, group_tasks: Option<u64>) -> Result<(), String> {
        redis::pipe().cmd("FLUSHALL").exec_async(&mut self.connection).await.map_err(|e| e.to_string())?;
        let definition = RunDefinition {
            run: &self.run,
            digest: &self.digest,
            spec_json: &self.spec_json,
            store: "file:///nowhere",
            manifest_sha256: "00",
            limits,
            group_tasks,
            labels: &[],
        };
        self.queue.create(&definition).await.map_err(|error| in_words("create", &error))?;
        let mut camera = Camera::new(&self.key(""));
        let found = camera.take(&mut self.connection).await?;
        let pushed_at = found.get("run pushed_at").and_then(|at| at.parse().ok());
        let pushed_at = pushed_at.ok_or("create: no `pushed_at`")?;
        let is_driven = |name: &str| DRIVEN.iter().any(|field| name.strip_prefix("run ") == Some(*field));
        let fixed = found.iter().filter(|(name, _)| name.starts_with("run ") && !is_driven(name));
        let fixed = fixed.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut model = Model::new(limits.clone(), pushed_at);
        model.group_tasks = group_tasks.map(|tasks| usize::try_from(tasks).expect("a few"));
        self.now = Moment { model, found: found.clone(), camera, fixed };
        self.compare(&found, "create")
    }

    /// The name of one of the run's keys.
    pub(super) fn key(&self, name: &str) -> String {
        format!("molfleet:{{{}}}:{name}", self.run)
    }

    /// Takes a step in Redis and in the model. Says what differs between them, or what no history may lead to.
    pub async fn take(&mut self, step: &Step) -> Result<Answer, String> {
        self.get_over_the_lag().await?;
        let answer = self.in_redis(step).await?;
        let found = self.now.camera.take(&mut self.connection).await?;
        let expected = self.follow(step, found)?;
        if answer == expected {
            Ok(answer)
        } else {
            Err(format!("Redis answered {answer:?}, the model {expected:?}"))
        }
    }

    /// Lets the last call of a worker lie so far back that the next one records when it took place.
    pub(super) async fn get_over_the_lag(&mut self) -> Result<(), String> {
        let model = &mut self.now.model;
        let Some(ran_at) = model.ran_at else { return Ok(()) };
        let earlier = ran_at.saturating_sub(model.lag_ms());
        model.ran_at = Some(earlier);
        let set = self.connection.hset(self.key("run"), "ran_at", earlier).await;
        set.map_err(|error: redis::RedisError| error.to_string())
    }

    /// Takes a step, which has been taken in Redis, in the model, and compares what both hold then.
    pub(super) fn follow(&mut self, step: &Step, found: Snapshot) -> Result<Answer, String> {
        invariants::check(&self.now.found, &found, step, &self.now.model.limits)?;
        let moment = moment_of(step, &found);
        self.is_in_time(step, moment)?;
        let workers = if let Step::Lease { worker, .. } = step { Some(worker) } else { None };
        let listening = workers.filter(|worker| worker.as_str().starts_with(LISTENS));
        self.now.model.listening.extend(listening.cloned());
        let answer = step.in_model(&mut self.now.model, moment);
        self.compare(&found, &step.to_string())?;
        self.now.found = found;
        Ok(answer)
    }

    /// Whether a call that moves the clocks took the time from Redis. What a system's clock may jump in between is let pass.
    fn is_in_time(&self, step: &Step, moment: u64) -> Result<(), String> {
        const JUMP_MS: u64 = 1_000;
        let (before, after) = self.now.camera.between;
        let moves_the_clocks = matches!(
            step,
            Step::Lease { .. }
                | Step::Heartbeat(_)
                | Step::Complete(_)
                | Step::Fail { .. }
                | Step::Release(..)
                | Step::Checkpoint(..)
                | Step::Tell(..)
        );
        let is_in_time = (before.saturating_sub(JUMP_MS)..=after + JUMP_MS).contains(&moment);
        (is_in_time || !moves_the_clocks)
            .then_some(())
            .ok_or_else(|| format!("`{step}` took place at {moment}, between {before} and {after}"))
    }

    /// Compares what Redis holds, and which workers it told since the last time, with the model.
    fn compare(&mut self, found: &Snapshot, after: &str) -> Result<(), String> {
        let mut expected = expected::snapshot_of(&self.now.model);
        expected.extend(self.now.fixed.clone());
        let differences = differences(found, &expected);
        if !differences.is_empty() {
            return Err(format!("after `{after}` Redis and the model differ:\n{differences}"));
        }
        self.now.model.events.clear();
        let told = self.told();
        let expected: Vec<String> = std::mem::take(&mut self.now.model.told)
            .iter()
            .map(|worker| format!("molfleet:worker:{worker}:wake {}", self.key("run")))
            .collect();
        if told == expected {
            Ok(())
        } else {
            Err(format!("after `{after}` were told: {told:?}, expected {expected:?}"))
        }
    }

    /// The hints that came since the last time. All that were sent before the last answer on this connection are here.
    fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Ok(push) = self.pushes.try_recv() {
            if push.kind == PushKind::PMessage {
                let texts = push.data.into_iter().skip(1).map(redis::from_redis_value::<String>);
                told.push(texts.filter_map(Result::ok).collect::<Vec<_>>().join(" "));
            }
        }
        told
    }

    /// Takes the step in Redis.
    async fn in_redis(&mut self, step: &Step) -> Result<Answer, String> {
        if let Step::Pass(_) | Step::Clock(_) = step {
            return self.let_time_pass(step).await.map(|()| Answer::Nothing).map_err(|e| e.to_string());
        }
        self.call(step).await.map_err(|error| in_words(&step.to_string(), &error))
    }

    async fn call(&self, step: &Step) -> Result<Answer, QueueError> {
        let (queue, run) = (&self.queue, &self.run);
        Ok(match step {
            Step::Push { first, tasks } => {
                let inputs: Vec<String> = (*first..first + tasks).map(sample_input).collect();
                Answer::Total(queue.push(run, &self.digest, common::task::TaskId(*first), &inputs).await?)
            }
            Step::Seal(tasks) => Answer::Sealed(queue.seal(run, *tasks).await? == Sealed::Yes),
            Step::Lease { worker, request, slots } => {
                Answer::Lease(queue.lease(run, &self.digest, worker, *request, *slots).await?)
            }
            Step::Heartbeat(leases) => Answer::Pulses(queue.heartbeat(run, leases).await?),
            Step::Complete(successes) => {
                let completions: Vec<_> =
                    successes.iter().map(|(.., success)| success.completion()).collect();
                let named = successes.iter().zip(&completions);
                let named: Vec<_> =
                    named.map(|((task, lease, _), completion)| (*task, lease, completion)).collect();
                Answer::Completed(queue.complete_all(run, &named).await?)
            }
            Step::Fail { task, lease, charge, jitter_ppm } => {
                Answer::Failed(queue.fail(run, *task, lease, &failure(*charge, *jitter_ppm)).await?)
            }
            Step::Release(task, lease, hold_ms) => {
                Answer::Released(queue.release(run, *task, lease, WHY_RELEASED, *hold_ms).await?)
            }
            Step::Checkpoint(task, lease, number) => {
                let (sha256, progress) = BUNDLE;
                let bundle = Bundle { lease: lease.clone(), number: *number, sha256: sha256.to_owned() };
                Answer::Kept(queue.checkpoint(run, *task, &bundle, Some(progress)).await?)
            }
            Step::Tell(task, lease, from) => {
                let (log, text) = PIECE;
                Answer::Released(queue.tell(run, *task, lease, (log, *from, text.as_bytes())).await?)
            }
            Step::Adopt(results) => Answer::Count(queue.adopt(run, results).await?),
            Step::CancelTasks(tasks) => Answer::Count(queue.cancel_tasks(run, tasks).await?),
            Step::CancelNext(bound) => Answer::Count(queue.cancel_next(run, *bound).await?),
            Step::Requeue(seen) => Answer::Count(queue.requeue(run, seen).await?),
            Step::Pause(paused) => {
                queue.set_paused(run, paused.then_some(WHY_PAUSED)).await?;
                Answer::Nothing
            }
            Step::Parallelism(leases) => {
                queue.set_parallelism(run, *leases).await?;
                Answer::Nothing
            }
            Step::Pass(_) | Step::Clock(_) => unreachable!("no script lets time pass"),
        })
    }

    /// Moves what a run remembers of the clocks, as the model does: nothing waits.
    async fn let_time_pass(&mut self, step: &Step) -> redis::RedisResult<()> {
        let mut pipe = redis::pipe();
        match step {
            Step::Pass(ms) => {
                let model = &self.now.model;
                for (field, at) in [("ran_at", model.ran_at), ("last_terminal_at", model.last_terminal_at)] {
                    if let Some(at) = at {
                        pipe.hset(self.key("run"), field, at.saturating_add_signed(-ms));
                    }
                }
                for (ready_at, id) in &model.delayed {
                    pipe.zadd(self.key("delayed"), id, ready_at.saturating_add_signed(-ms));
                }
                for (called_at, worker) in &model.idle {
                    pipe.zadd(self.key("idle"), worker.as_str(), called_at.saturating_add_signed(-ms));
                }
            }
            Step::Clock(ms) => _ = pipe.hincr(self.key("run"), "clock_ms", *ms),
            other => unreachable!("`{other}` is a call"),
        }
        // redis-rs refuses a pipeline without commands.
        pipe.ping().exec_async(&mut self.connection).await
    }

    /// Calls a script with arguments that no typed method would send, and takes a picture.
    pub(super) async fn call_raw(
        &mut self,
        script: &str,
        arguments: &[String],
    ) -> Result<(Vec<String>, Snapshot), String> {
        let reply = self.quietly(script, arguments).await?;
        Ok((reply, self.now.camera.take(&mut self.connection).await?))
    }

    /// Runs `set`, Lua in which `at` is the Redis time in ms and `later`, and calls a script right after it. Returns how many ms
    /// before `at` the call took place, by its reply's second element, and the reply.
    pub(super) async fn right_after(
        &mut self,
        set: &str,
        later: i64,
        script: &str,
        arguments: &[String],
    ) -> Result<(i64, Vec<String>), String> {
        let time = "local time = redis.call('TIME')";
        let at = format!("local at = time[1] * 1000 + math.floor(time[2] / 1000) + {later}");
        let mut pipe = redis::pipe();
        pipe.cmd("EVAL").arg(format!("{time} {at} {set} return at")).arg(0);
        pipe.cmd("EVALSHA").arg(digest_of(script)).arg(1).arg(self.key("run")).arg(arguments);
        let answers: (i64, Vec<Value>) =
            pipe.query_async(&mut self.connection).await.map_err(|error| error.to_string())?;
        let reply: Vec<String> = answers.1.into_iter().map(text).collect();
        let now: Option<i64> = reply.get(1).and_then(|now| now.parse().ok());
        Ok((answers.0 - now.ok_or_else(|| format!("{script}: no moment in {reply:?}"))?, reply))
    }

    /// Calls a script with these arguments, and returns its reply as texts.
    pub(super) async fn quietly(
        &mut self,
        script: &str,
        arguments: &[String],
    ) -> Result<Vec<String>, String> {
        let mut pipe = redis::pipe();
        pipe.cmd("EVALSHA").arg(digest_of(script)).arg(1).arg(self.key("run")).arg(arguments);
        let replies: Result<Vec<Vec<Value>>, _> = pipe.query_async(&mut self.connection).await;
        Ok(replies.map_err(|error| error.to_string())?.remove(0).into_iter().map(text).collect())
    }
}

/// The digest that names a script on the wire.
pub(super) fn digest_of(script: &str) -> &'static str {
    #[expect(clippy::disallowed_methods, reason = "the queue keeps its digests for itself")]
    static DIGESTS: LazyLock<BTreeMap<&str, String>> = LazyLock::new(|| {
        let digest =
            |(name, source): &(&'static str, &str)| (*name, redis::Script::new(source).get_hash().to_owned());
        SOURCES.iter().map(digest).collect()
    });
    &DIGESTS[script]
}

/// Makes Redis know all scripts under their digests, as it does once each has been called.
async fn load_scripts(connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
    let mut pipe = redis::pipe();
    for (_, source) in SOURCES {
        pipe.cmd("SCRIPT").arg("LOAD").arg(source);
    }
    pipe.exec_async(connection).await
}

fn text(value: Value) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Array(items) => items.into_iter().map(text).collect::<Vec<_>>().join("|"),
        other => redis::from_redis_value(other).unwrap_or_else(|error| error.to_string()),
    }
}

fn in_words(step: &str, error: &QueueError) -> String {
    let source = std::error::Error::source(error).map_or(String::new(), |source| format!(": {source}"));
    format!("`{step}`: {error}{source}")
}

/// When Redis took a step: read from what the script itself wrote. 0 if the step depends on no time.
fn moment_of(step: &Step, found: &Snapshot) -> u64 {
    let field = |name: &str| found.get(name).and_then(|at| at.parse().ok());
    let at = match step {
        Step::CancelTasks(_) | Step::CancelNext(_) | Step::Adopt(_) => field("run last_terminal_at"),
        Step::Requeue(_) => {
            let queued = found.iter().filter(|(name, _)| name.ends_with(" queued_at"));
            queued.filter_map(|(_, at)| at.parse().ok()).max()
        }
        _ => field("run ran_at"),
    };
    at.unwrap_or(0)
}
