//! All that Redis has of a run, as it stands there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use redis::{AsyncCommands as _, RedisResult};

/// The fields of a task's hash.
pub type TaskHash = HashMap<String, String>;

/// A run in Redis.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The hash of the run.
    pub info: HashMap<String, String>,
    /// The counters.
    pub progress: BTreeMap<String, i64>,
    /// The ids in the lists and sets of tasks, by the state that they stand for.
    pub places: BTreeMap<&'static str, Vec<String>>,
    /// The hash of each task that has one, by id.
    pub tasks: BTreeMap<String, TaskHash>,
    /// The tasks that have an input.
    pub inputs: BTreeSet<String>,
    /// The last lines of tasks that failed.
    pub tails: BTreeMap<String, String>,
    /// How far tasks are, with their bundles.
    pub checkpoints: BTreeMap<String, String>,
    /// How many durations of whole tasks were counted.
    pub stats_total: u64,
    /// All events that are there, the oldest first.
    pub events: Vec<HashMap<String, String>>,
    /// How many there ever were.
    pub events_added: u64,
}

/// Where ids stand: the end of the key, and the state.
const LISTS: [(&str, &str); 2] = [("pending", "pending"), ("dead", "dead")];
const SETS: [(&str, &str); 2] = [("delayed", "delayed"), ("leases", "leased")];

/// A plain connection.
pub(super) async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

/// How many events a stream ever had.
#[expect(clippy::disallowed_methods, reason = "the checker reads Redis behind the queue's back")]
async fn events_added(connection: &mut MultiplexedConnection, stream: &str) -> RedisResult<u64> {
    let mut about = redis::cmd("XINFO");
    let about: HashMap<String, redis::Value> =
        about.arg("STREAM").arg(stream).query_async(connection).await?;
    let added = about.get("entries-added").cloned().unwrap_or(redis::Value::Nil);
    Ok(redis::from_redis_value(added)?)
}

impl Ledger {
    /// Reads a run.
    pub(super) async fn read(connection: &mut MultiplexedConnection, run: &str) -> RedisResult<Self> {
        let key = |name: &str| format!("molfleet:{{{run}}}:{name}");
        let mut ledger = Self {
            info: connection.hgetall(key("run")).await?,
            progress: connection.hgetall(key("progress")).await?,
            stats_total: connection.hvals::<_, Vec<u64>>(key("stats:total")).await?.iter().sum(),
            inputs: connection.hkeys(key("inputs")).await?,
            tails: connection.hgetall(key("tails")).await?,
            checkpoints: connection.hgetall(key("checkpoints")).await?,
            ..Self::default()
        };
        for (name, state) in LISTS {
            ledger.places.insert(state, connection.lrange(key(name), 0, -1).await?);
        }
        for (name, state) in SETS {
            ledger.places.insert(state, connection.zrange(key(name), 0, -1).await?);
        }
        let prefix = key("task:");
        // Braces mean nothing in a pattern of Redis, and a run's id holds no other letter that does.
        let keys: Vec<String> = connection.keys(format!("{prefix}*")).await?;
        for task in keys {
            let hash = connection.hgetall(&task).await?;
            ledger.tasks.insert(task[prefix.len()..].to_owned(), hash);
        }
        let events: StreamRangeReply = connection.xrange_all(key("events")).await?;
        let fields = |map: HashMap<String, redis::Value>| {
            map.into_iter()
                .filter_map(|(name, value)| Some((name, redis::from_redis_value(value).ok()?)))
                .collect()
        };
        ledger.events = events.ids.into_iter().map(|event| fields(event.map)).collect();
        ledger.events_added = events_added(connection, &key("events")).await?;
        Ok(ledger)
    }

    /// A counter.
    pub(super) fn count(&self, counter: &str) -> u64 {
        self.progress.get(counter).and_then(|count| u64::try_from(*count).ok()).unwrap_or(0)
    }

    /// How many tasks there are.
    pub(super) fn total(&self) -> u64 {
        self.count("total")
    }

    /// A limit or another number of the run itself; 0 if it is not there.
    pub(super) fn limit(&self, field: &str) -> u64 {
        self.info.get(field).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The tasks of a task's group but the last one, and that one; `None` if the run has no groups.
    pub(super) fn group(&self, task: u64) -> Option<(Range<u64>, u64)> {
        let tasks = self.limit("group_tasks");
        let first = task.checked_div(tasks)? * tasks;
        Some((first..first + tasks - 1, first + tasks - 1))
    }

    /// A task's state: one without a hash is pending.
    pub(super) fn state(&self, task: &str) -> &str {
        self.tasks.get(task).map_or("pending", |hash| hash.get("state").map_or("", String::as_str))
    }

    /// A number in a task's hash; 0 if it is not there.
    pub(super) fn number(&self, task: &str, field: &str) -> u64 {
        let hash = self.tasks.get(task);
        hash.and_then(|hash| hash.get(field)).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}
