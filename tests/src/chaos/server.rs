//! Tells a Redis server something behind the queue's back.

use redis::{RedisResult, Value};

use crate::{TestRedis, eventually};

/// Tells a server something that may be told twice, until it answers: a sentinel breaks the connections to a server whose role it changes.
pub(super) async fn say(redis: &TestRedis, words: &[&str]) -> Value {
    eventually("a server answers", || async {
        say_once(redis, words).await.map_err(|error| error.to_string())
    })
    .await
}

#[expect(clippy::disallowed_methods, reason = "the chaos changes servers behind the queue's back")]
async fn say_once(redis: &TestRedis, words: &[&str]) -> RedisResult<Value> {
    let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.query_async(&mut connection).await
}
