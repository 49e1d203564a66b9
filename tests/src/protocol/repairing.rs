//! `repair`: what another hand than a script's left wrong, in each state, is put right; what is right, or is not seen any more, stays.

use redis::Pipeline;

use super::conformance::{complete, fail, lease, limits};
use super::snapshot::differences;
use super::step::Step;
use super::{Snapshot, Stage};
use common::queue::Charge;
use common::task::TaskId;

/// Tasks of the run; by their ids: dead, leased, delayed, succeeded, cancelled, pending, pending.
const TASKS: u64 = 7;

/// A counter with what it should be.
const COUNTERS: [&str; 4] = ["pending", "2", "failures", "2"];

/// Breaks the run in several ways, and compares what `repair` makes of it.
pub(super) async fn scenarios(stage: &mut Stage) -> Result<(), String> {
    stage.reset(&limits()).await?;
    let steps = [
        Step::Push { first: 0, tasks: TASKS },
        lease("w1", 1, 4),
        fail(0, "1.w1.1", Charge::LastFailure),
        fail(2, "1.w1.1", Charge::Failure),
        complete(3, "1.w1.1"),
        Step::CancelTasks(vec![TaskId(4)]),
    ];
    for step in steps {
        stage.take(&step).await?;
    }
    let sound = stage.now.found.clone();
    let all: Vec<u64> = (0..TASKS).collect();
    stands_everywhere(stage, &sound, &all).await?;
    stands_nowhere(stage, sound, &all).await?;
    has_gone_on(stage).await?;
    of_groups(stage).await
}

/// Tasks that wait stand nowhere, and the others where they belong, in the order in which they were named.
async fn of_groups(stage: &mut Stage) -> Result<(), String> {
    stage.reset_with(&limits(), Some(3)).await?;
    stage.take(&Step::Push { first: 0, tasks: 6 }).await?;
    let sound = stage.now.found.clone();
    let all: Vec<u64> = (0..6).collect();
    let mut pipe = redis::pipe();
    for id in &all {
        pipe.lpush(stage.key("pending"), id).lpush(stage.key("dead"), id);
        pipe.zadd(stage.key("delayed"), id, 7).zadd(stage.key("leases"), id, 7);
    }
    pipe.hset_multiple(stage.key("progress"), &[("waiting", 0), ("pending", 6)]);
    let counters = ["waiting", "2", "pending", "4"];
    repaired(stage, pipe, &counters, &all, sound, "waits, and stands everywhere").await
}

/// Every task stands in every place, twice where it can, and counters lie.
async fn stands_everywhere(stage: &mut Stage, sound: &Snapshot, all: &[u64]) -> Result<(), String> {
    let mut pipe = redis::pipe();
    for id in all.iter().chain(all) {
        pipe.lpush(stage.key("pending"), id).lpush(stage.key("dead"), id);
        // A place that it has stays as it is.
        for place in ["delayed", "leases"] {
            pipe.cmd("ZADD").arg(stage.key(place)).arg("NX").arg(7).arg(id);
        }
    }
    pipe.hset_multiple(stage.key("progress"), &[("pending", 99), ("failures", 0)]);
    repaired(stage, pipe, &COUNTERS, all, sound.clone(), "stands everywhere").await
}

/// No task stands anywhere: what has to is entered anew. A second time, the lease clock has never run.
async fn stands_nowhere(stage: &mut Stage, mut sound: Snapshot, all: &[u64]) -> Result<(), String> {
    let number = |sound: &Snapshot, name: &str| sound.get(name).and_then(|text| text.parse::<u64>().ok());
    let (clock, lease) = (number(&sound, "run clock_ms"), number(&sound, "run lease_ms"));
    let (Some(clock), Some(lease)) = (clock, lease) else { return Err("a run without a clock".to_owned()) };
    for clock in [Some(clock), None] {
        let mut pipe = redis::pipe();
        pipe.del(&["pending", "dead", "delayed", "leases"].map(|place| stage.key(place)));
        if clock.is_none() {
            pipe.hdel(stage.key("run"), "clock_ms");
            sound.remove("run clock_ms");
        }
        sound.insert("leases 1".to_owned(), (clock.unwrap_or(0) + lease).to_string());
        sound.insert("delayed 2".to_owned(), "now".to_owned());
        repaired(stage, pipe, &[], all, sound.clone(), "stands nowhere").await?;
    }
    Ok(())
}

/// What was seen before the latest event is not put right; without an event, nothing was seen.
async fn has_gone_on(stage: &mut Stage) -> Result<(), String> {
    let latest = latest_event(stage).await?;
    for (seen, reply) in [("", "busy"), ("1-1", "busy"), (latest.as_str(), "ok")] {
        asked(stage, seen, &[], &[], reply).await?;
    }
    let mut pipe = redis::pipe();
    pipe.del(stage.key("events"));
    pipe.exec_async(&mut stage.connection).await.map_err(|error| error.to_string())?;
    for (seen, reply) in [(latest.as_str(), "busy"), ("", "ok")] {
        asked(stage, seen, &[], &[], reply).await?;
    }
    asked(stage, latest.as_str(), &COUNTERS, &[1], "busy").await
}

/// Breaks the run, has it repaired, and compares.
async fn repaired(
    stage: &mut Stage,
    breaking: Pipeline,
    counters: &[&str],
    ids: &[u64],
    mut expected: Snapshot,
    what: &str,
) -> Result<(), String> {
    breaking.exec_async(&mut stage.connection).await.map_err(|error| error.to_string())?;
    let latest = latest_event(stage).await?;
    let (reply, mut found) = stage.call_raw("repair", &arguments(&latest, counters, ids)).await?;
    // Whose back-off was forgotten may be tried now.
    let (from, to) = stage.now.camera.between;
    let is_now = |at: &String| at.parse().is_ok_and(|at: u64| (from..=to).contains(&at));
    if expected.get("delayed 2").is_some_and(|at| at == "now") && found.get("delayed 2").is_some_and(is_now) {
        found.insert("delayed 2".to_owned(), "now".to_owned());
    }
    expected.retain(|name, _| !name.starts_with("events "));
    let events =
        ids.iter().zip(1..).map(|(id, n)| (format!("events {n:03}"), format!("verb repair task {id}")));
    expected.extend(events);
    let differing = differences(&found, &expected);
    if reply == ["ok"] && differing.is_empty() {
        Ok(())
    } else {
        Err(format!("repair of what {what}: {reply:?}\n{differing}"))
    }
}

/// Calls it where it has to change nothing.
async fn asked(
    stage: &mut Stage,
    seen: &str,
    counters: &[&str],
    ids: &[u64],
    reply: &str,
) -> Result<(), String> {
    let mut before = stage.now.camera.take(&mut stage.connection).await?;
    before.retain(|name, _| !name.starts_with("events "));
    let (answered, after) = stage.call_raw("repair", &arguments(seen, counters, ids)).await?;
    let differing = differences(&after, &before);
    if answered == [reply] && differing.is_empty() {
        Ok(())
    } else {
        Err(format!("repair after `{seen}` was seen: {answered:?} (expected: {reply})\n{differing}"))
    }
}

fn arguments(seen: &str, counters: &[&str], ids: &[u64]) -> Vec<String> {
    let mut arguments = vec![seen.to_owned(), (counters.len() / 2).to_string()];
    arguments.extend(counters.iter().map(|text| (*text).to_owned()));
    arguments.extend(ids.iter().map(u64::to_string));
    arguments
}

async fn latest_event(stage: &Stage) -> Result<String, String> {
    stage.queue.latest_event(&stage.run).await.map_err(|error| error.to_string())
}
