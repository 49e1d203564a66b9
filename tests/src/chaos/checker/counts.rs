//! Each task in one place, each in an end that it may have, and the counters equal to a recount.

use std::collections::BTreeMap;

use super::{Found, Ledger, Rule};

/// The states that have a place of their own; the ids of others stand in their hash alone.
const PLACED: [&str; 4] = ["pending", "delayed", "leased", "dead"];
const UNPLACED: [&str; 3] = ["waiting", "succeeded", "cancelled"];

pub(super) fn check(
    ledger: &Ledger,
    may_be_cancelled: impl Fn(u64) -> bool,
    may_die: impl Fn(u64) -> bool,
) -> Found {
    let mut found = Vec::new();
    places(ledger, &mut found);
    for task in 0..ledger.total() {
        let id = task.to_string();
        match ledger.state(&id) {
            "succeeded" => {}
            "cancelled" if may_be_cancelled(task) => {}
            "cancelled" => {
                found.push((Rule::Terminal, format!("task {task} is cancelled, and nobody did that")));
            }
            "dead" if may_die(task) => {}
            state => found.push((Rule::Terminal, format!("task {task} is {state}"))),
        }
    }
    recount(ledger, &mut found);
    found
}

/// Compares where each id stands with its state.
fn places(ledger: &Ledger, found: &mut Found) {
    let mut stands: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (place, ids) in &ledger.places {
        for id in ids {
            stands.entry(id).or_default().push(place);
        }
    }
    let known =
        |id: &str| id.parse::<u64>().is_ok_and(|task| task < ledger.total() && task.to_string() == id);
    for id in stands.keys().copied().chain(ledger.tasks.keys().map(String::as_str)).filter(|id| !known(id)) {
        found.push((Rule::OnePlace, format!("task {id} is none of the run's {}", ledger.total())));
    }
    for id in (0..ledger.total()).map(|task| task.to_string()) {
        let state = ledger.state(&id);
        let expected = if PLACED.contains(&state) { vec![state] } else { vec![] };
        let at = stands.get(id.as_str()).cloned().unwrap_or_default();
        if at != expected || !(PLACED.contains(&state) || UNPLACED.contains(&state)) {
            found.push((Rule::OnePlace, format!("task {id} is {state} and stands in {at:?}")));
        }
        let (has_input, wants_input) = (ledger.inputs.contains(&id), state != "succeeded");
        if has_input != wants_input {
            found.push((Rule::OnePlace, format!("task {id} is {state} and has an input: {has_input}")));
        }
    }
}

/// Counts again what the counters say.
fn recount(ledger: &Ledger, found: &mut Found) {
    let mut counted: BTreeMap<&str, i64> = BTreeMap::new();
    let mut uploaded = 0;
    for id in (0..ledger.total()).map(|task| task.to_string()) {
        let state = ledger.state(&id);
        *counted
            .entry(PLACED.into_iter().chain(UNPLACED).find(|known| *known == state).unwrap_or("?"))
            .or_default() += 1;
        for counter in ["failures", "lapses", "releases", "molecules_ok", "molecules_bad"] {
            *counted.entry(counter).or_default() +=
                i64::try_from(ledger.number(&id, counter)).unwrap_or(i64::MAX);
        }
        let bytes =
            ledger.tasks.get(&id).and_then(|hash| hash.get("bytes")?.split(' ').nth(1)?.parse::<i64>().ok());
        uploaded += bytes.unwrap_or(0);
    }
    counted.insert("bytes", uploaded);
    counted.insert("total", i64::try_from(ledger.total()).unwrap_or(i64::MAX));
    for (counter, expected) in PLACED.into_iter().chain(UNPLACED).map(|state| (state, 0)).chain([("?", 0)]) {
        counted.entry(counter).or_insert(expected);
    }
    for (counter, counted) in counted {
        let says = ledger.progress.get(counter).copied().unwrap_or(0);
        if says != counted {
            found.push((Rule::Counters, format!("`{counter}` is {says} (counted: {counted})")));
        }
    }
    // Nobody knows how long a result took that an audit found in the store.
    let adopted = ledger.events.iter().filter(|event| event.get("verb").is_some_and(|verb| verb == "adopt"));
    let (timed, succeeded) = (ledger.stats_total, ledger.count("succeeded"));
    if timed + adopted.count() as u64 != succeeded {
        found.push((Rule::Counters, format!("{timed} durations of {succeeded} successes")));
    }
}
