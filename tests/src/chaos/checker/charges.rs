//! Failures: each that a task is charged with is one that its program really had, by the program's own diary, and what is charged has its
//! evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::expected::Fate;
use super::history::{Charge, Past};
use super::{Found, Ledger, Rule};
use crate::chaos::toy::diary::{Deed, Diary, Entry};
use crate::chaos::toy::last_words;

/// What the last task of a group is dead of.
const NEEDED: &str = "needed_task_dead";

/// What is a fault of the machine, and no failure of the task.
const MACHINE: &str = "machine";

/// Everything that is known of one task.
struct Case<'a> {
    ledger: &'a Ledger,
    task: u64,
    past: &'a Past,
    fate: &'a Fate,
    entries: Vec<Entry>,
}

/// The diary of a task of a run.
pub(super) fn diary(diaries: &Path, run: &str, task: u64) -> Vec<Entry> {
    Diary::of(diaries, run, &task.to_string()).read()
}

pub(super) fn check(
    ledger: &Ledger,
    pasts: &BTreeMap<u64, Past>,
    fates: &BTreeMap<u64, Fate>,
    diary: impl Fn(u64) -> Vec<Entry>,
) -> Found {
    let mut found = Vec::new();
    for (&task, past) in pasts {
        let Some(fate) = fates.get(&task) else { continue };
        let case = Case { ledger, task, past, fate, entries: diary(task) };
        let broken = [case.charged(), case.bounded(), case.completed(), case.evidence()];
        found.extend(broken.into_iter().filter_map(Result::err));
    }
    found
}

/// The word for a failure of this kind, as `docs/science.md` has it.
fn reason(deed: &Deed) -> Option<&'static str> {
    match deed {
        Deed::Failed(_) => Some("engine_failed"),
        Deed::Crashed(_) => Some("engine_crashed"),
        Deed::Refused(_) => Some("input_refused"),
        Deed::Busy(_) => Some(MACHINE),
        Deed::Began | Deed::WentOn { .. } | Deed::Astray => None,
    }
}

impl Case<'_> {
    fn broken(&self, rule: Rule, what: &str) -> Result<(), (Rule, String)> {
        Err((rule, format!("task {}: {what}", self.task)))
    }

    /// Why the program came to nothing in an attempt.
    fn reasons(&self, attempt: &str) -> BTreeSet<&'static str> {
        let of_attempt = self.entries.iter().filter(|entry| entry.attempt == attempt);
        of_attempt.filter_map(|entry| reason(&entry.deed)).collect()
    }

    /// Each charge is for a failure that took place.
    fn charged(&self) -> Result<(), (Rule, String)> {
        let mut attempts = BTreeSet::new();
        for Charge { lease, reason } in &self.past.charges {
            let reasons = self.reasons(lease);
            if reason == MACHINE || !reasons.contains(reason.as_str()) {
                let what = format!("{lease} is charged with `{reason}`, and its program had {reasons:?}");
                return self.broken(Rule::Charged, &what);
            }
            if !attempts.insert(lease) {
                return self.broken(Rule::Charged, &format!("{lease} is charged twice"));
            }
        }
        Ok(())
    }

    /// No more is charged than the molecules want.
    fn bounded(&self) -> Result<(), (Rule, String)> {
        let (charged, most) = (self.past.charges.len(), self.fate.failures_max);
        if most.is_some_and(|most| charged > most) {
            return self.broken(Rule::Charged, &format!("it is charged {charged} times (at most: {most:?})"));
        }
        Ok(())
    }

    /// An attempt whose program came to nothing does not succeed.
    fn completed(&self) -> Result<(), (Rule, String)> {
        let Some(lease) = &self.past.completed else { return Ok(()) };
        let mut reasons = self.reasons(lease);
        if self.fate.is_blamed {
            reasons.remove("engine_crashed");
        }
        if reasons.is_empty() {
            return Ok(());
        }
        self.broken(Rule::Charged, &format!("{lease} succeeded, and its program had {reasons:?}"))
    }

    /// What was charged last has its last lines until the task succeeds; a dead task has its reason, too.
    fn evidence(&self) -> Result<(), (Rule, String)> {
        let id = self.task.to_string();
        let (state, tail) = (self.ledger.state(&id), self.ledger.tails.get(&id));
        let says = self.ledger.tasks.get(&id).and_then(|hash| hash.get("reason")).map_or("", String::as_str);
        if state == "succeeded" {
            return match tail {
                Some(tail) => self.broken(Rule::Evidence, &format!("it succeeded and has a tail: {tail}")),
                None => Ok(()),
            };
        }
        if let Some((lease, is_charged)) = &self.past.last_failure {
            // A machine's fault has no words of the program.
            let words = if *is_charged { last_words(lease) } else { String::new() };
            if !tail.is_some_and(|tail| tail.contains(&words)) {
                return self.broken(Rule::Evidence, &format!("its tail is {tail:?} (expected: {words})"));
            }
        }
        let last = self.past.charges.last().map(|charge| charge.reason.as_str());
        let is_fine = state != "dead" || Some(says) == last || says == NEEDED && self.past.is_needy;
        if is_fine {
            return Ok(());
        }
        self.broken(Rule::Evidence, &format!("it is dead of `{says}` (charged last: {last:?})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a pending task that was charged with these failures, by a program that wants to fail `most` times.
    fn broken(charges: &[(&str, &str)], most: Option<usize>, completed: Option<&str>) -> Vec<Rule> {
        let charge =
            |(lease, reason): &(&str, &str)| Charge { lease: (*lease).into(), reason: (*reason).into() };
        let mut past = Past::default();
        past.charges = charges.iter().map(charge).collect();
        past.completed = completed.map(str::to_owned);
        let entry = |(attempt, deed): (&str, Deed)| Entry { attempt: attempt.into(), deed };
        let deeds = [
            ("1.a.1", Deed::Failed("x".into())),
            ("2.a.2", Deed::Failed("x".into())),
            ("3.a.3", Deed::Busy("x".into())),
            ("4.a.4", Deed::Crashed("x".into())),
        ];
        let fates = BTreeMap::from([(0, Fate { shard: None, failures_max: most, is_blamed: false })]);
        let found = check(&Ledger::default(), &BTreeMap::from([(0, past)]), &fates, |_| {
            deeds.clone().map(entry).into()
        });
        found.into_iter().map(|(rule, _)| rule).collect()
    }

    #[test]
    fn what_is_charged_took_place_once_and_no_oftener_than_wanted() {
        let (first, second) = (("1.a.1", "engine_failed"), ("2.a.2", "engine_failed"));
        assert_eq!(broken(&[first, second], Some(2), Some("5.a.5")), []);
        assert_eq!(broken(&[first, second], None, None), []);
        assert_eq!(broken(&[first, second], Some(1), None), [Rule::Charged]);
        assert_eq!(broken(&[first, first], Some(2), None), [Rule::Charged]);
        assert_eq!(broken(&[("1.a.1", "engine_crashed")], Some(1), None), [Rule::Charged]);
        assert_eq!(broken(&[("9.a.9", "engine_failed")], Some(1), None), [Rule::Charged]);
        assert_eq!(broken(&[("3.a.3", "machine")], Some(1), None), [Rule::Charged]);
        for attempt in ["1.a.1", "3.a.3", "4.a.4"] {
            assert_eq!(broken(&[], Some(1), Some(attempt)), [Rule::Charged], "{attempt}");
        }
    }
}
