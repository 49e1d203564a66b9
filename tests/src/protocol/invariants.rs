//! What must hold after every step, whatever happened before, seen from Redis alone: nothing here asks the model or knows a script.

use std::collections::BTreeMap;

use common::task::{LeaseName, Limits, State};

use super::{Snapshot, Step};

/// A task as Redis has it.
struct Task<'a> {
    id: String,
    state: &'a str,
    fields: BTreeMap<&'a str, &'a str>,
}

/// Checks what Redis holds after a step, and the step itself against what it held before.
pub(super) fn check(before: &Snapshot, after: &Snapshot, step: &Step, limits: &Limits) -> Result<(), String> {
    let (tasks_before, tasks) = (tasks_of(before), tasks_of(after));
    for task in &tasks {
        in_one_place(after, task)?;
        well_named(after, task)?;
    }
    groups_hold(after, &tasks)?;
    counters_are_a_recount(after, &tasks)?;
    for (was, is) in tasks_before.iter().zip(&tasks) {
        ended_for_good(before, after, (was, is), step)?;
        numbers_grow(was, is)?;
    }
    if tasks.len() < tasks_before.len() {
        return Err("tasks are gone".to_owned());
    }
    clock_is_steady(before, after, step, limits)?;
    cap_holds(before, after, step)
}

fn number(found: &Snapshot, name: &str) -> Result<u64, String> {
    let value = found.get(name).ok_or_else(|| format!("no `{name}`"))?;
    value.parse().map_err(|_| format!("`{name}` is `{value}`"))
}

fn tasks_of(found: &Snapshot) -> Vec<Task<'_>> {
    let total = number(found, "progress total").unwrap_or(0);
    let task = |id: u64| {
        let prefix = format!("task:{id} ");
        let fields: BTreeMap<&str, &str> = found
            .range(prefix.clone()..)
            .map_while(|(name, value)| Some((name.strip_prefix(&prefix)?, value.as_str())))
            .collect();
        Task { id: id.to_string(), state: fields.get("state").copied().unwrap_or("pending"), fields }
    };
    (0..total).map(task).collect()
}

/// A task stands in the place of its state, once, and nowhere else; its input is there until it succeeds.
fn in_one_place(found: &Snapshot, task: &Task<'_>) -> Result<(), String> {
    let times = |list: &str| {
        found.get(list).map_or(0, |ids| ids.split(' ').filter(|other| **other == task.id).count())
    };
    let holds = |set: &str| usize::from(found.contains_key(&format!("{set} {}", task.id)));
    let places = [times("pending"), times("dead"), holds("delayed"), holds("leases"), holds("inputs")];
    let is = |state: State| usize::from(task.state == state.name());
    let expected = [
        is(State::Pending),
        is(State::Dead),
        is(State::Delayed),
        is(State::Leased),
        1 - is(State::Succeeded),
    ];
    if places == expected {
        return Ok(());
    }
    let Task { id, state, .. } = task;
    Err(format!(
        "task {id} is {state}; times in pending, dead, delayed, leases, inputs: {places:?}, expected {expected:?}"
    ))
}

/// How many tasks a group has, in a run of groups.
fn group_tasks(found: &Snapshot) -> Option<usize> {
    found.get("run group_tasks")?.parse().ok()
}

/// The last task of a group waits exactly as long as it may still come to run, and runs only once all others have succeeded.
fn groups_hold(found: &Snapshot, tasks: &[Task<'_>]) -> Result<(), String> {
    let Some(size) = group_tasks(found) else { return Ok(()) };
    for group in tasks.chunks(size) {
        let Some((last, others)) = group.split_last().filter(|(_, others)| others.len() + 1 == size) else {
            return Err(format!("the last group has {} of {size} tasks", group.len()));
        };
        let are_done = others.iter().all(|task| task.state == State::Succeeded.name());
        let is_hopeless = others.iter().any(|task| matches!(task.state, "dead" | "cancelled"));
        let fits = match last.state {
            "waiting" => !are_done && !is_hopeless,
            "dead" | "cancelled" => true,
            _ => are_done,
        };
        if !fits {
            let others: Vec<&str> = others.iter().map(|task| task.state).collect();
            return Err(format!(
                "task {} is {}, and the others of its group {others:?}",
                last.id, last.state
            ));
        }
    }
    Ok(())
}

/// A leased task has a lease name with a number, its worker, and an expiry.
fn well_named(found: &Snapshot, task: &Task<'_>) -> Result<(), String> {
    if task.state != State::Leased.name() {
        return Ok(());
    }
    number(found, &format!("leases {}", task.id))?;
    let lease: Option<LeaseName> = task.fields.get("lease").and_then(|lease| lease.parse().ok());
    let lease = lease.ok_or_else(|| format!("task {} is leased without a lease name", task.id))?;
    let is_named = task.fields.get("worker") == Some(&lease.worker.as_str()) && lease.number > 0;
    is_named.then_some(()).ok_or_else(|| format!("task {}: {lease} is not its worker's", task.id))
}

/// The counters of the run are sums over its tasks.
fn counters_are_a_recount(found: &Snapshot, tasks: &[Task<'_>]) -> Result<(), String> {
    let in_state = |state: State| tasks.iter().filter(|task| task.state == state.name()).count() as u64;
    let sum = |field: &str, word: usize| -> u64 {
        let values = tasks.iter().filter_map(|task| task.fields.get(field)?.split(' ').nth(word));
        values.filter_map(|value| value.parse::<u64>().ok()).sum()
    };
    let recounted = State::ALL.map(|state| (state.name(), in_state(state))).into_iter().chain([
        ("failures", sum("failures", 0)),
        ("lapses", sum("lapses", 0)),
        ("releases", sum("releases", 0)),
        ("molecules_ok", sum("molecules_ok", 0)),
        ("molecules_bad", sum("molecules_bad", 0)),
        ("bytes", sum("bytes", 1)),
    ]);
    for (counter, expected) in recounted {
        let counted = number(found, &format!("progress {counter}"))?;
        if counted != expected {
            return Err(format!("`{counter}` is {counted}, a recount gives {expected}"));
        }
    }
    let timed = tasks.iter().filter(|task| task.fields.contains_key("timings_ms")).count() as u64;
    let totals = found.iter().filter(|(name, _)| name.starts_with("stats:total "));
    let counted: u64 = totals.filter_map(|(_, count)| count.parse::<u64>().ok()).sum();
    (timed == counted).then_some(()).ok_or_else(|| format!("{counted} durations of {timed} successes"))
}

/// A terminal task changes by a requeue of its own only, and a succeeded one never.
fn ended_for_good(
    before: &Snapshot,
    after: &Snapshot,
    (was, is): (&Task<'_>, &Task<'_>),
    step: &Step,
) -> Result<(), String> {
    let is_terminal = was.state.parse::<State>().is_ok_and(State::is_terminal);
    // What waits for others of its group comes back with them.
    let is_of_it = |task: u64| match (group_tasks(after), was.id.parse::<u64>()) {
        (Some(size), Ok(id)) if (id + 1).is_multiple_of(size as u64) => {
            task / size as u64 == id / size as u64
        }
        (_, id) => id == Ok(task),
    };
    let is_requeued = was.state != State::Succeeded.name()
        && matches!(step, Step::Requeue(seen) if seen.iter().any(|(task, _)| is_of_it(task.0)));
    let tail = format!("tails {}", was.id);
    if !is_terminal || is_requeued || (was.fields == is.fields && before.get(&tail) == after.get(&tail)) {
        return Ok(());
    }
    Err(format!("task {} was {}, but changed from {:?} to {:?}", was.id, was.state, was.fields, is.fields))
}

/// A task's lease changes only to one with the next number, and what it was is remembered.
fn numbers_grow(was: &Task<'_>, is: &Task<'_>) -> Result<(), String> {
    let (old, new) = (was.fields.get("lease"), is.fields.get("lease"));
    if old == new {
        return Ok(());
    }
    let number =
        |name: Option<&&str>| name.map_or(Some(0), |name| name.parse().ok().map(|n: LeaseName| n.number));
    let is_next = number(new).is_some_and(|new| number(old).is_some_and(|old| new == old + 1));
    let former = is.fields.get("former").copied().unwrap_or("");
    let is_remembered = old.is_none_or(|old| {
        let last = former.rsplit(' ').next().unwrap_or("");
        last.split(':').next() == Some(old)
    });
    if is_next && is_remembered {
        return Ok(());
    }
    Err(format!("task {}: its lease went from {old:?} to {new:?}, former ones `{former}`", was.id))
}

/// The lease clock never goes back, and no call moves it by more than a sixth of a lease.
fn clock_is_steady(before: &Snapshot, after: &Snapshot, step: &Step, limits: &Limits) -> Result<(), String> {
    let clock = |found: &Snapshot| number(found, "run clock_ms").unwrap_or(0);
    let (was, is) = (clock(before), clock(after));
    if matches!(step, Step::Clock(_)) || (was..=was + limits.lease_ms / 6).contains(&is) {
        return Ok(());
    }
    Err(format!("the lease clock went from {was} to {is}"))
}

/// A call that gives leases gives none beyond the cap.
fn cap_holds(before: &Snapshot, after: &Snapshot, step: &Step) -> Result<(), String> {
    if !matches!(step, Step::Lease { .. }) {
        return Ok(());
    }
    let leased = |found: &Snapshot| found.keys().filter(|name| name.starts_with("leases ")).count() as u64;
    let (was, is, cap) = (leased(before), leased(after), number(after, "run parallelism")?);
    let is_kept = cap == 0 || is <= cap.max(was);
    is_kept.then_some(()).ok_or_else(|| format!("{is} leases under a cap of {cap}"))
}
