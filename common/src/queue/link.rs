//! One connection to Redis, or to the nodes of a cluster: carries many calls at once, and knows when it is of no more use.

use std::collections::HashMap;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::line::Concern;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};

use redis::{Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, ServerErrorKind, Value};

/// Parts of one pipeline that are on their way to a cluster at once.
const PARTS_AT_ONCE: usize = 64;

/// A connection. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    way: Way,
    is_broken: Arc<AtomicBool>,
    /// Whom this clone of it asks, if that matters.
    concern: Option<Concern>,
}

#[derive(Clone)]
enum Way {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(super) fn single(connection: MultiplexedConnection) -> Self {
        Self { way: Way::Single(connection), is_broken: Arc::default(), concern: None }
    }

    pub(super) fn cluster(connection: ClusterConnection) -> Self {
        Self { way: Way::Cluster(connection), is_broken: Arc::default(), concern: None }
    }

    /// The same, for calls to one node of a cluster.
    pub(super) fn about(mut self, concern: Concern) -> Self {
        self.concern = Some(concern);
        self
    }

    /// Whether a new one has to be made: it was cut, did not answer, or leads to a server that takes no writes any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }

    /// Has the next call make a new one.
    pub(super) fn give_up(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match &mut self.way {
            Way::Single(connection) => connection.subscribe(channel).await,
            Way::Cluster(connection) => connection.subscribe(channel).await,
        }
    }

    /// Sends a command that names no key: to the server, or to any primary of a cluster.
    pub(super) async fn ask_one(&mut self, command: Cmd) -> RedisResult<Value> {
        let answer = match &mut self.way {
            Way::Single(connection) => connection.req_packed_command(&command).await,
            Way::Cluster(connection) => {
                let one = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
                connection.route_command(command, one).await
            }
        };
        self.noting(answer, slice::from_ref)
    }

    /// Looks at an answer and at the values in it: redis-rs hands on what a single server refuses as a value, and makes an error of it later.
    fn noting<T>(&self, answer: RedisResult<T>, values: impl Fn(&T) -> &[Value]) -> RedisResult<T> {
        let is_refusal =
            |value: &Value| matches!(value, Value::ServerError(error) if ends_link(&error.clone().into()));
        let ends = match &answer {
            Ok(answer) => values(answer).iter().any(is_refusal),
            Err(error) => ends_link(error),
        };
        if let Some(concern) = &self.concern {
            concern.note(!ends);
        }
        // A node that is away is no reason to hang up on the others: whoever asks it goes aside.
        if ends && self.concern.as_ref().is_none_or(|concern| concern.is_aside) {
            self.give_up();
        }
        answer
    }
}

/// Whether an error says that another connection may do better, so that this one is not used again.
fn ends_link(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || matches!(
            error.kind(),
            ErrorKind::ClusterConnectionNotFound
                | ErrorKind::Server(
                    // A primary that became a replica: the sentinels, or the cluster, know the new one.
                    ServerErrorKind::ReadOnly
                        | ServerErrorKind::MasterDown
                        // A node of a cluster whose place nobody has taken yet.
                        | ServerErrorKind::Moved
                        | ServerErrorKind::Ask
                )
        )
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let answer = match &mut self.way {
                Way::Single(connection) => connection.req_packed_command(command).await,
                Way::Cluster(connection) => match &self.concern {
                    // A script is loaded where it is to run: all nodes would be waited for.
                    Some(concern) if loads_script(command) => {
                        let there = Route::with_key(&concern.key, SlotAddr::Master);
                        let there = SingleNodeRoutingInfo::SpecificNode(there);
                        connection.route_command(command.clone(), RoutingInfo::SingleNode(there)).await
                    }
                    _ => connection.req_packed_command(command).await,
                },
            };
            self.noting(answer, slice::from_ref)
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let answer = match &mut self.way {
                Way::Single(connection) => connection.req_packed_commands(pipeline, offset, count).await,
                Way::Cluster(connection) => by_slot(connection, pipeline).await,
            };
            self.noting(answer, Vec::as_slice)
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        match &self.way {
            Way::Single(connection) => connection.get_db(),
            Way::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Sends a pipeline to a cluster: the commands of each slot in their order, the slots side by side. Nothing here uses transactions:
/// what belongs together is one script.
async fn by_slot(connection: &ClusterConnection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    let mut parts: HashMap<Option<Route>, (Vec<usize>, Pipeline)> = HashMap::new();
    for (place, command) in pipeline.cmd_iter().enumerate() {
        let (places, part) = parts.entry(route(command)).or_default();
        places.push(place);
        part.add_command(command.clone());
    }
    let sent = parts.into_values().map(|(places, part)| {
        let mut connection = connection.clone();
        async move {
            let answers = connection.req_packed_commands(&part, 0, part.len()).await?;
            Ok::<_, RedisError>(places.into_iter().zip(answers))
        }
    });
    let mut answers = vec![Value::Nil; pipeline.len()];
    let mut arriving = futures::stream::iter(sent).buffer_unordered(PARTS_AT_ONCE);
    while let Some(part) = arriving.try_next().await? {
        for (place, answer) in part {
            answers[place] = answer;
        }
    }
    Ok(answers)
}

fn loads_script(command: &Cmd) -> bool {
    matches!(command.args_iter().next(), Some(Arg::Simple(b"SCRIPT")))
}

/// Where a command of a pipeline belongs: each of ours names one key, behind its name.
fn route(command: &Cmd) -> Option<Route> {
    match command.args_iter().nth(1) {
        Some(Arg::Simple(key)) => Some(Route::with_key(key, SlotAddr::Master)),
        _ => None,
    }
}
