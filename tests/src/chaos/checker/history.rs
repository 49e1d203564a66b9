//! The events of a run, played again: each is one that the contract allows after those before it, and the last state is Redis' own.

use std::collections::{BTreeMap, HashMap};

use super::{Found, Ledger, Rule};

/// What the events so far say of a task.
#[derive(Debug, Default)]
struct Played {
    state: &'static str,
    lease: String,
    number: u64,
    successes: u32,
    lapses: u64,
    releases: u64,
}

pub(super) fn check(ledger: &Ledger) -> Found {
    let mut found = Vec::new();
    if ledger.events_added != ledger.events.len() as u64 {
        found.push((
            Rule::History,
            format!("{} events, {} are there", ledger.events_added, ledger.events.len()),
        ));
        return found;
    }
    if ledger.events.first().and_then(|event| event.get("verb")).map(String::as_str) != Some("push") {
        found.push((
            Rule::History,
            "the events don't begin with a push: the run was too long for its stream".into(),
        ));
        return found;
    }
    let mut tasks: BTreeMap<u64, Played> = BTreeMap::new();
    for event in &ledger.events {
        if let Err((rule, what)) = play(event, &mut tasks) {
            found.push((rule, what));
        }
    }
    for (task, played) in &tasks {
        compare(ledger, *task, played, &mut found);
    }
    if tasks.len() as u64 != ledger.total() {
        found.push((Rule::History, format!("{} tasks were pushed (total: {})", tasks.len(), ledger.total())));
    }
    found
}

/// The state after a verb, for each state that the verb may find. A failure ends in one of two; the next event or the end tells.
fn after(verb: &str, state: &str) -> Option<&'static str> {
    match (verb, state) {
        // A bundle moves nothing by itself; the end of a hold is a `promote` of its own.
        ("lease", "pending") | ("checkpoint", "leased") => Some("leased"),
        ("complete", "leased" | "pending" | "delayed") | ("adopt", "pending" | "delayed") => {
            Some("succeeded")
        }
        ("fail", "leased") | ("checkpoint", "delayed") => Some("delayed"),
        ("release" | "reclaim", "leased")
        | ("promote", "delayed")
        | ("requeue", "dead" | "cancelled")
        | ("checkpoint", "pending") => Some("pending"),
        ("cancel", "pending" | "delayed" | "leased") => Some("cancelled"),
        _ => None,
    }
}

fn play(event: &HashMap<String, String>, tasks: &mut BTreeMap<u64, Played>) -> Result<(), (Rule, String)> {
    let field = |name: &str| event.get(name).map_or("", String::as_str);
    let number = |name: &str| field(name).parse::<u64>();
    let verb = field("verb");
    if verb == "set" {
        return Ok(());
    }
    let broken = |what: String| Err((Rule::History, what));
    let Ok(task) = number("task") else { return broken(format!("an event of no task: {event:?}")) };
    if verb == "push" {
        for task in task..task + number("tasks").unwrap_or(0) {
            tasks.insert(task, Played { state: "pending", ..Played::default() });
        }
        return Ok(());
    }
    let Some(played) = tasks.get_mut(&task) else {
        return broken(format!("`{verb}` of task {task}, which was not pushed"));
    };
    let Some(state) = after(verb, played.state) else {
        return broken(format!("`{verb}` of task {task}, which was {}", played.state));
    };
    let state = if verb == "release" && number("hold_ms").is_ok_and(|ms| ms > 0) { "delayed" } else { state };
    let lease = field("lease");
    if verb == "lease" {
        let next = lease.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        if next <= played.number {
            return Err((
                Rule::LeaseNumbers,
                format!("task {task} got lease {lease} after {}", played.lease),
            ));
        }
        (played.number, played.lease) = (next, lease.to_owned());
    } else if matches!(verb, "complete" | "fail" | "release" | "reclaim" | "checkpoint")
        && lease != played.lease
    {
        return broken(format!("`{verb}` of task {task} under {lease}, its lease was {}", played.lease));
    }
    played.state = state;
    played.successes += u32::from(matches!(verb, "complete" | "adopt"));
    played.lapses += u64::from(verb == "reclaim");
    played.releases += u64::from(verb == "release");
    // A requeue takes what was charged back, but for the releases.
    if verb == "requeue" {
        played.lapses = 0;
    }
    Ok(())
}

fn compare(ledger: &Ledger, task: u64, played: &Played, found: &mut Found) {
    let id = task.to_string();
    let (state, lease) = (ledger.state(&id), ledger.tasks.get(&id).and_then(|hash| hash.get("lease")));
    if state != played.state {
        found.push((Rule::History, format!("task {task} is {state} (its events end with {})", played.state)));
    }
    if lease.map_or("", String::as_str) != played.lease {
        found.push((
            Rule::LeaseNumbers,
            format!("task {task} has lease {lease:?} (its events: {})", played.lease),
        ));
    }
    if u32::from(state == "succeeded") != played.successes {
        found.push((Rule::Once, format!("task {task} is {state} and succeeded {} times", played.successes)));
    }
    for (counter, counted) in [("lapses", played.lapses), ("releases", played.releases)] {
        let says = ledger.number(&id, counter);
        if says != counted {
            found.push((Rule::History, format!("task {task} has {says} {counter} (its events: {counted})")));
        }
    }
}
