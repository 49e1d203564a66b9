//! What Redis should hold according to the reference model: the same form as a [`Snapshot`]. Asks no Redis.

use common::queue::model::{Model, Success, Task};
use common::task::{Ending, LeaseName, State, encode_molecules};

use super::Snapshot;

/// What the model says of a run's keys, without the fields of the run's hash that no script changes.
pub(super) fn snapshot_of(model: &Model) -> Snapshot {
    let mut snapshot = Snapshot::new();
    run_and_progress(model, &mut snapshot);
    places(model, &mut snapshot);
    stats(model, &mut snapshot);
    for (number, event) in model.events.iter().enumerate() {
        snapshot.insert(format!("events {:03}", number + 1), event.clone());
    }
    for (number, piece) in model.live.iter().enumerate() {
        snapshot.insert(format!("live {:03}", number + 1), piece.clone());
        snapshot.insert("live expires".to_owned(), "yes".to_owned());
    }
    for (id, task) in model.tasks.iter().enumerate() {
        for (field, value) in task_fields(task) {
            snapshot.extend(value.map(|value| (format!("task:{id} {field}"), value)));
        }
        if task.state != State::Succeeded {
            snapshot.insert(format!("inputs {id}"), encode_molecules(&task.input));
        }
        if !task.checkpoint.bundles.is_empty() {
            snapshot.insert(format!("checkpoints {id}"), task.checkpoint.to_string());
        }
        snapshot.extend(task.tail.clone().map(|tail| (format!("tails {id}"), tail)));
    }
    snapshot
}

fn run_and_progress(model: &Model, snapshot: &mut Snapshot) {
    let has_ticked = model.ran_at.is_some() || model.clock_ms > 0;
    let text = |at: Option<u64>| at.map(|at| at.to_string());
    let fields = [
        ("clock_ms", has_ticked.then(|| model.clock_ms.to_string())),
        ("ran_at", text(model.ran_at)),
        ("last_terminal_at", text(model.last_terminal_at)),
        ("paused", model.paused.clone()),
        ("sealed", model.sealed.then(|| "1".to_owned())),
        ("parallelism", Some(model.limits.parallelism.to_string())),
    ];
    for (field, value) in fields {
        snapshot.extend(value.map(|value| (format!("run {field}"), value)));
    }
    let sum = |of: &dyn Fn(&Task) -> u64| model.tasks.iter().map(of).sum::<u64>();
    let of_success = |of: fn(&Success) -> u64| sum(&|task: &Task| task.success.as_ref().map_or(0, of));
    let counters = [
        ("total", model.tasks.len() as u64),
        ("failures", sum(&|task| task.failures)),
        ("lapses", sum(&|task| task.lapses)),
        ("releases", sum(&|task| task.releases)),
        ("molecules_ok", of_success(|success| success.molecules_ok)),
        ("molecules_bad", of_success(|success| success.molecules_bad)),
        ("bytes", of_success(|success| success.bytes.map_or(0, |(_, up)| up))),
    ];
    let states = State::ALL.map(|state| (state.name(), model.count(state) as u64));
    for (counter, count) in counters.into_iter().chain(states) {
        snapshot.insert(format!("progress {counter}"), count.to_string());
    }
}

fn places(model: &Model, snapshot: &mut Snapshot) {
    let joined = |ids: &mut dyn Iterator<Item = u64>| {
        let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    };
    let pending = joined(&mut model.pending.iter().copied());
    snapshot.extend(pending.map(|ids| ("pending".to_owned(), ids)));
    snapshot.extend(joined(&mut model.dead.iter().copied()).map(|ids| ("dead".to_owned(), ids)));
    for (place, entries) in [("delayed", &model.delayed), ("leases", &model.leases)] {
        snapshot.extend(entries.iter().map(|(at, id)| (format!("{place} {id}"), at.to_string())));
    }
    snapshot.extend(
        model.idle.iter().map(|(called_at, worker)| (format!("idle {worker}"), called_at.to_string())),
    );
    for (worker, (request, ids)) in &model.grants {
        let ids = joined(&mut ids.iter().copied()).unwrap_or_default();
        snapshot.insert(format!("grants {worker}"), format!("{request} {ids}"));
    }
}

fn stats(model: &Model, snapshot: &mut Snapshot) {
    for (phase, histogram) in &model.stats {
        for (bucket, count) in &histogram.buckets {
            snapshot.insert(format!("stats:{} {bucket}", phase.name()), count.to_string());
        }
    }
}

/// The fields of a task's hash; a task that never moved has none.
fn task_fields(task: &Task) -> Vec<(&'static str, Option<String>)> {
    if task.state == State::Pending && task.lease.is_none() && task.queued_at.is_none() {
        return Vec::new();
    }
    let counter = |count: u64| (count > 0).then(|| count.to_string());
    let word = |ending: Ending| format!("{ending:?}").to_lowercase();
    let former: Vec<String> =
        task.former.iter().map(|(name, ending)| format!("{name}:{}", word(*ending))).collect();
    let mut fields = vec![
        ("state", Some(task.state.name().to_owned())),
        ("lease", task.lease.as_ref().map(LeaseName::to_string)),
        ("worker", task.lease.as_ref().map(|name| name.worker.to_string())),
        ("ending", task.ending.map(word)),
        ("former", (!former.is_empty()).then(|| former.join(" "))),
        ("failures", counter(task.failures)),
        ("lapses", counter(task.lapses)),
        ("releases", counter(task.releases)),
        ("reason", task.reason.clone()),
        ("queued_at", task.queued_at.map(|at| at.to_string())),
    ];
    if let Some(success) = &task.success {
        fields.extend([
            ("shard_sha256", Some(success.shard_sha256.clone())),
            ("index_sha256", Some(success.index_sha256.clone())),
            ("molecules_ok", Some(success.molecules_ok.to_string())),
            ("molecules_bad", counter(success.molecules_bad)),
            ("bytes", success.bytes.map(|(down, up)| format!("{down} {up}"))),
            ("timings_ms", success.timings_ms.clone()),
        ]);
    }
    fields
}
