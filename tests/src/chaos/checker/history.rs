//! The events of a run, played again: each is one that the contract allows after those before it, and the last state is Redis' own.

use std::collections::{BTreeMap, HashMap};

use super::{Found, Ledger, Rule};

/// A failure that a task was charged with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Charge {
    /// The attempt.
    pub(super) lease: String,
    pub(super) reason: String,
}

/// What the events say of a task.
#[derive(Debug, Default)]
pub(super) struct Past {
    state: &'static str,
    lease: String,
    number: u64,
    successes: u32,
    failures: u64,
    lapses: u64,
    releases: u64,
    /// How often it died.
    pub(super) deaths: u64,
    /// How often a worker's machine could not do it.
    pub(super) machine_faults: u64,
    /// All that it was ever charged with.
    pub(super) charges: Vec<Charge>,
    /// The last attempt that failed, and whether the task was charged for it, not its machine.
    pub(super) last_failure: Option<(String, bool)>,
    /// The attempt that succeeded.
    pub(super) completed: Option<String>,
    /// Whether it died since another one did that it waited for.
    pub(super) is_needy: bool,
    /// Of each attempt, the newest bundle when it began: `<lease name>-<number>`.
    pub(super) newest_bundle: HashMap<String, Option<String>>,
    bundle: Option<String>,
}

/// All tasks of a run.
struct Play<'a> {
    ledger: &'a Ledger,
    tasks: BTreeMap<u64, Past>,
}

/// An event by its fields.
#[derive(Clone, Copy)]
struct Event<'a>(&'a HashMap<String, String>);

type Broken = (Rule, String);

/// What is wrong, and what the events say of each task as far as they could be played.
pub(super) fn check(ledger: &Ledger) -> (Found, BTreeMap<u64, Past>) {
    let mut found = Vec::new();
    let mut play = Play { ledger, tasks: BTreeMap::new() };
    if ledger.events_added != ledger.events.len() as u64 {
        let what = format!("{} events, {} are there", ledger.events_added, ledger.events.len());
        return (vec![(Rule::History, what)], play.tasks);
    }
    if ledger.events.first().and_then(|event| event.get("verb")).map(String::as_str) != Some("push") {
        let what = "the events don't begin with a push: the run was too long for its stream";
        return (vec![(Rule::History, what.into())], play.tasks);
    }
    for event in &ledger.events {
        found.extend(play.event(Event(event)).err());
    }
    for (task, past) in &play.tasks {
        past.compare(ledger, *task, &mut found);
    }
    let pushed = play.tasks.len();
    if pushed as u64 != ledger.total() {
        found.push((Rule::History, format!("{pushed} tasks were pushed (total: {})", ledger.total())));
    }
    (found, play.tasks)
}

/// The state after a verb, for each state that the verb may find. What depends on more than that is for [`Play`].
fn after(verb: &str, state: &str) -> Option<&'static str> {
    match (verb, state) {
        // A bundle moves nothing by itself; the end of a hold is a `promote` of its own.
        ("lease", "pending") | ("checkpoint", "leased") => Some("leased"),
        ("complete", "leased" | "pending" | "delayed") | ("adopt", "pending" | "delayed") => {
            Some("succeeded")
        }
        ("fail", "leased") | ("checkpoint", "delayed") => Some("delayed"),
        ("fail" | "reclaim", "waiting") => Some("dead"),
        ("release" | "reclaim", "leased")
        | ("promote", "delayed" | "waiting")
        | ("requeue", "dead" | "cancelled")
        | ("checkpoint", "pending") => Some("pending"),
        ("cancel", "pending" | "delayed" | "leased" | "waiting") => Some("cancelled"),
        _ => None,
    }
}

impl<'a> Event<'a> {
    fn field(self, name: &str) -> &'a str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(self, name: &str) -> Option<u64> {
        self.field(name).parse().ok()
    }

    fn verb(self) -> &'a str {
        self.field("verb")
    }

    /// Whether a failure is the machine's, and counts a lapse.
    fn is_of_machine(self) -> bool {
        self.field("charged") == "lapses"
    }
}

impl Play<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<(), Broken> {
        let verb = event.verb();
        if verb == "set" {
            return Ok(());
        }
        let broken = |what: String| Err((Rule::History, what));
        let Some(task) = event.number("task") else {
            return broken(format!("an event of no task: {:?}", event.0));
        };
        if verb == "push" {
            for task in task..task + event.number("tasks").unwrap_or(0) {
                let waits = self.ledger.group(task).is_some_and(|(_, last)| last == task);
                let state = if waits { "waiting" } else { "pending" };
                self.tasks.insert(task, Past { state, ..Past::default() });
            }
            return Ok(());
        }
        let group = self.of_group(task, event)?;
        let limits = ["failures_max", "lapses_max"].map(|limit| self.ledger.limit(limit));
        let Some(past) = self.tasks.get_mut(&task) else {
            return broken(format!("`{verb}` of task {task}, which was not pushed"));
        };
        let Some(state) = after(verb, past.state) else {
            return broken(format!("`{verb}` of task {task}, which was {}", past.state));
        };
        past.take(task, event)?;
        let before = past.state;
        past.state = group.unwrap_or(state);
        if verb == "release" && event.number("hold_ms").is_some_and(|ms| ms > 0) {
            past.state = "delayed";
        }
        let is_spent = past.failures >= limits[0] || past.lapses >= limits[1];
        let is_final = verb == "fail" && event.field("reason") == "input_refused";
        if before == "leased" && matches!(verb, "fail" | "reclaim") && (is_spent || is_final) {
            past.state = "dead";
        }
        past.deaths += u64::from(past.state == "dead" && before != "dead");
        Ok(())
    }

    /// Holds the last task of a group against the others, and says what a requeue makes of it.
    fn of_group(&self, task: u64, event: Event<'_>) -> Result<Option<&'static str>, Broken> {
        let Some((others, _)) = self.ledger.group(task).filter(|(_, last)| *last == task) else {
            return Ok(None);
        };
        let states: Vec<&str> =
            others.filter_map(|other| self.tasks.get(&other)).map(|past| past.state).collect();
        let (are_done, verb) = (states.iter().all(|state| *state == "succeeded"), event.verb());
        let state = self.tasks.get(&task).map_or("", |past| past.state);
        let is_fine = match (verb, state) {
            ("promote", "waiting") | ("lease" | "complete" | "adopt", _) => are_done,
            ("fail" | "reclaim", "waiting") => states.contains(&"dead"),
            ("requeue", _) => !states.contains(&"dead") && !states.contains(&"cancelled"),
            _ => true,
        };
        if !is_fine {
            let what =
                format!("`{verb}` of task {task}, which was {state} and needs tasks that were {states:?}");
            return Err((Rule::Group, what));
        }
        Ok((verb == "requeue" && !are_done).then_some("waiting"))
    }
}

impl Past {
    /// Notes what an event says besides the state.
    fn take(&mut self, task: u64, event: Event<'_>) -> Result<(), Broken> {
        let (verb, lease) = (event.verb(), event.field("lease"));
        // What befalls a task that waits is another one's failure.
        let is_own = self.state != "waiting";
        if verb == "lease" {
            let next = lease.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            if next <= self.number {
                let what = format!("task {task} got lease {lease} after {}", self.lease);
                return Err((Rule::LeaseNumbers, what));
            }
            (self.number, self.lease) = (next, lease.to_owned());
            self.newest_bundle.insert(lease.to_owned(), self.bundle.clone());
        } else if is_own
            && matches!(verb, "complete" | "fail" | "release" | "reclaim" | "checkpoint")
            && lease != self.lease
        {
            let what = format!("`{verb}` of task {task} under {lease}, its lease was {}", self.lease);
            return Err((Rule::History, what));
        }
        match verb {
            "complete" | "adopt" => {
                self.successes += 1;
                self.completed = Some(lease.to_owned());
            }
            "checkpoint" => self.bundle = Some(format!("{lease}-{}", event.field("number"))),
            "fail" | "reclaim" if !is_own => self.is_needy = true,
            "fail" => self.fail(lease, event),
            "reclaim" => self.lapses += 1,
            "release" => self.releases += 1,
            // A requeue takes what was charged back, but for the releases.
            "requeue" => (self.failures, self.lapses) = (0, 0),
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, lease: &str, event: Event<'_>) {
        let is_charged = !event.is_of_machine();
        self.last_failure = Some((lease.to_owned(), is_charged));
        if is_charged {
            self.failures += 1;
            self.charges.push(Charge { lease: lease.to_owned(), reason: event.field("reason").to_owned() });
        } else {
            (self.lapses, self.machine_faults) = (self.lapses + 1, self.machine_faults + 1);
        }
    }

    fn compare(&self, ledger: &Ledger, task: u64, found: &mut Found) {
        let id = task.to_string();
        let (state, lease) = (ledger.state(&id), ledger.tasks.get(&id).and_then(|hash| hash.get("lease")));
        if state != self.state {
            let rule = if [state, self.state].contains(&"dead") { Rule::Limit } else { Rule::History };
            found.push((rule, format!("task {task} is {state} (its events end with {})", self.state)));
        }
        if lease.map_or("", String::as_str) != self.lease {
            found.push((
                Rule::LeaseNumbers,
                format!("task {task} has lease {lease:?} (its events: {})", self.lease),
            ));
        }
        if u32::from(state == "succeeded") != self.successes {
            found
                .push((Rule::Once, format!("task {task} is {state} and succeeded {} times", self.successes)));
        }
        let counted = [("failures", self.failures), ("lapses", self.lapses), ("releases", self.releases)];
        for (counter, counted) in counted {
            let says = ledger.number(&id, counter);
            if says != counted {
                let rule = if counter == "failures" { Rule::Charged } else { Rule::History };
                found.push((rule, format!("task {task} has {says} {counter} (its events: {counted})")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that a run of three tasks breaks whose events are these: a verb, a task, and further fields.
    fn broken(info: &[(&str, &str)], events: &[&str]) -> Vec<Rule> {
        let event = |text: &&str| {
            let mut words = text.split(' ');
            let mut fields = HashMap::from(
                ["verb", "task"].map(|name| (name.to_owned(), words.next().unwrap().to_owned())),
            );
            fields.extend(
                words
                    .filter_map(|word| word.split_once('='))
                    .map(|(name, value)| (name.to_owned(), value.to_owned())),
            );
            fields
        };
        let events: Vec<_> = ["push 0 tasks=3"].iter().chain(events).map(event).collect();
        let limits = [("failures_max", "2"), ("lapses_max", "2")];
        let info = limits
            .iter()
            .chain(info)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let ledger = Ledger { info, events_added: events.len() as u64, events, ..Ledger::default() };
        let mut play = Play { ledger: &ledger, tasks: BTreeMap::new() };
        let errors = ledger.events.iter().filter_map(|event| play.event(Event(event)).err());
        errors.map(|(rule, _)| rule).collect()
    }

    const FAIL_0: [&str; 2] = ["lease 0 lease=1.a.1", "fail 0 lease=1.a.1 reason=x charged=failures"];
    const AGAIN_0: [&str; 3] =
        ["promote 0", "lease 0 lease=2.a.2", "fail 0 lease=2.a.2 reason=x charged=failures"];

    #[test]
    fn a_task_is_dead_with_its_last_failure_or_lapse() {
        let check = |events: &[&[&str]], expect: &[Rule]| assert_eq!(broken(&[], &events.concat()), expect);
        check(&[&FAIL_0, &AGAIN_0, &["requeue 0", "lease 0 lease=3.a.3"]], &[]);
        check(&[&FAIL_0, &["requeue 0"]], &[Rule::History]);
        check(&[&FAIL_0, &AGAIN_0, &["promote 0"]], &[Rule::History]);
        let by_machine = "fail 0 lease=1.a.1 reason=machine charged=lapses";
        check(&[&["lease 0 lease=1.a.1", by_machine], &AGAIN_0, &["promote 0"]], &[]);
        let lapses = ["promote 0", "lease 0 lease=2.a.2", "reclaim 0 lease=2.a.2"];
        check(&[&["lease 0 lease=1.a.1", by_machine], &lapses, &["requeue 0"]], &[]);
        check(
            &[&[
                "lease 0 lease=1.a.1",
                "fail 0 lease=1.a.1 reason=input_refused charged=failures",
                "requeue 0",
            ]],
            &[],
        );
        check(&[&["lease 0 lease=1.a.1", "fail 0 lease=9.a.1 reason=x"]], &[Rule::History]);
        check(
            &[&["lease 0 lease=2.a.1", "reclaim 0 lease=2.a.1", "lease 0 lease=2.b.1"]],
            &[Rule::LeaseNumbers],
        );
    }

    #[test]
    fn the_last_task_of_a_group_follows_the_others() {
        let check = |events: &[&[&str]], expect: &[Rule]| {
            assert_eq!(broken(&[("group_tasks", "3")], &events.concat()), expect);
        };
        let first = ["lease 0 lease=1.a.1", "complete 0 lease=1.a.1"];
        let second = ["lease 1 lease=1.a.2", "complete 1 lease=1.a.2"];
        check(&[&first, &second, &["promote 2", "lease 2 lease=1.a.3", "complete 2 lease=1.a.3"]], &[]);
        check(&[&first, &["promote 2"]], &[Rule::Group]);
        check(&[&first, &["lease 2 lease=1.a.3"]], &[Rule::Group]);
        check(&[&first, &second, &["lease 2 lease=1.a.3"]], &[Rule::History]);
        let dies = ["fail 2 reason=needed_task_dead"];
        check(&[&FAIL_0, &AGAIN_0, &dies, &["requeue 0", "requeue 2", "cancel 2"]], &[]);
        check(&[&FAIL_0, &dies], &[Rule::Group]);
        check(&[&FAIL_0, &AGAIN_0, &dies, &["requeue 2"]], &[Rule::Group]);
        check(&[&["cancel 0", "cancel 2", "requeue 0", "requeue 2", "promote 2"]], &[Rule::Group]);
        check(&[&first, &second, &["cancel 2", "requeue 2", "lease 2 lease=1.a.3"]], &[]);
    }

    #[test]
    fn each_attempt_knows_the_newest_bundle_before_it() {
        let events = [
            "push 0 tasks=1",
            "lease 0 lease=1.a.1",
            "checkpoint 0 lease=1.a.1 number=1",
            "reclaim 0 lease=1.a.1",
            "lease 0 lease=2.b.1",
            "release 0 lease=2.b.1 hold_ms=9",
            "checkpoint 0 lease=2.b.1 number=1",
            "promote 0",
            "lease 0 lease=3.c.1",
        ];
        assert_eq!(broken(&[], &events), []);
        let mut past = Past { state: "pending", ..Past::default() };
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (verb, lease) in [
            ("lease", "1.a.1"),
            ("checkpoint", "1.a.1"),
            ("lease", "2.b.1"),
            ("checkpoint", "2.b.1"),
            ("lease", "3.c.1"),
        ] {
            past.take(
                0,
                Event(&HashMap::from([field("verb", verb), field("lease", lease), field("number", "3")])),
            )
            .unwrap();
        }
        let newest = ["1.a.1", "2.b.1", "3.c.1"].map(|lease| past.newest_bundle[lease].as_deref());
        assert_eq!(newest, [None, Some("1.a.1-3"), Some("2.b.1-3")]);
    }
}
