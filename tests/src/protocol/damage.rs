//! What another hand than a script's has damaged: it costs no other task, and stays on the list.

use common::task::Limits;
use redis::Pipeline;

use super::Stage;
use super::step::Step;

/// Leases tasks beside such as can't be read.
pub async fn check(stage: &mut Stage) -> Result<(), String> {
    a_task_that_is_no_hash(stage).await?;
    inputs_that_are_no_hash(stage).await?;
    a_lease_that_is_no_name(stage).await
}

async fn a_task_that_is_no_hash(stage: &mut Stage) -> Result<(), String> {
    begin(stage, 3, |stage, pipe| {
        pipe.set(stage.key("task:0"), "no hash").hset(stage.key("grants"), "w1", "no grant");
    })
    .await?;
    leases(stage, "w1", "granted 1:1.w1.1", &["2", "0"]).await?;
    leases(stage, "w2", "granted 2:1.w2.1", &["0"]).await?;
    leases(stage, "w3", "damaged", &["0"]).await
}

async fn inputs_that_are_no_hash(stage: &mut Stage) -> Result<(), String> {
    begin(stage, 2, |stage, pipe| {
        pipe.set(stage.key("inputs"), "no hash");
    })
    .await?;
    leases(stage, "w1", "damaged", &["0", "1"]).await
}

/// Its number starts again.
async fn a_lease_that_is_no_name(stage: &mut Stage) -> Result<(), String> {
    begin(stage, 2, |stage, pipe| {
        pipe.hset(stage.key("task:0"), "state", "pending").hset(stage.key("task:0"), "lease", "no name");
    })
    .await?;
    leases(stage, "w1", "granted 0:1.w1.1 1:1.w1.1", &[]).await
}

/// A run of so many tasks, damaged.
async fn begin(stage: &mut Stage, tasks: u64, damage: impl Fn(&Stage, &mut Pipeline)) -> Result<(), String> {
    stage.reset(&Limits::default()).await?;
    stage.take(&Step::Push { first: 0, tasks }).await?;
    let mut pipe = redis::pipe();
    damage(stage, &mut pipe);
    pipe.exec_async(&mut stage.connection).await.map_err(|error| error.to_string())
}

/// A worker asks for two tasks and gets these, or none for this reason; and these are pending then, in this order.
async fn leases(stage: &mut Stage, worker: &str, expected: &str, pending: &[&str]) -> Result<(), String> {
    let ask = [worker, "1", "2", &stage.digest].map(str::to_owned);
    let reply = stage.quietly("lease", &ask).await?;
    let given = reply.iter().skip(2);
    let found = match reply.first().map_or("", String::as_str) {
        "nothing" => given.take(1).cloned().collect(),
        code => {
            let names = given.map(|grant| grant.split('|').take(2).collect::<Vec<_>>().join(":"));
            names.fold(code.to_owned(), |line, name| line + " " + &name)
        }
    };
    let (mut list, key) = (redis::pipe(), stage.key("pending"));
    let left: (Vec<String>,) = list
        .lrange(key, 0, -1)
        .query_async(&mut stage.connection)
        .await
        .map_err(|error| error.to_string())?;
    if found == expected && left.0 == pending {
        Ok(())
    } else {
        Err(format!(
            "{worker} got `{found}`, expected `{expected}`; pending {:?}, expected {pending:?}",
            left.0
        ))
    }
}
