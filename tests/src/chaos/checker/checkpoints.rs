//! Checkpoints: an attempt goes on from the newest bundle that was registered when it began, and bundles that are registered are there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::history::Past;
use super::{Found, Ledger, Rule, sha256};
use crate::chaos::toy::diary::{Deed, Entry};

/// Gives how many attempts went on from a bundle. `forgets` says that Redis may have forgotten what it had acknowledged, and so which
/// bundles were replaced: an attempt may then find none that is there.
pub(super) fn check(
    ledger: &Ledger,
    (run, forgets): (&Path, bool),
    pasts: &BTreeMap<u64, Past>,
    diary: impl Fn(u64) -> Vec<Entry>,
    found: &mut Found,
) -> u64 {
    let mut went_on = 0;
    for (task, past) in pasts {
        let mut step = 0;
        for Entry { attempt, deed } in diary(*task) {
            let mut say =
                |what: String| found.push((Rule::Checkpoint, format!("task {task}: {attempt} {what}")));
            // Of a lease that was forgotten, nothing is known.
            let Some(newest) = past.newest_bundle.get(&attempt) else { continue };
            let maker = newest.as_deref().and_then(|bundle| bundle.rsplit_once('-')).map(|(maker, _)| maker);
            match deed {
                Deed::Began if newest.is_some() && !forgets => {
                    say(format!("began anew (registered: {newest:?})"));
                }
                Deed::WentOn { from, .. } if Some(from.as_str()) != maker && !forgets => {
                    say(format!("went on from {from} (registered: {newest:?})"));
                }
                Deed::WentOn { step: at, .. } if at < step && !forgets => {
                    say(format!("went on from step {at}, and another had from step {step}"));
                }
                Deed::WentOn { step: at, .. } => (step, went_on) = (at, went_on + 1),
                Deed::Astray => say("found what nobody can have left".to_owned()),
                _ => {}
            }
        }
    }
    if !forgets {
        for (task, past) in pasts {
            older(run, *task, past, found);
        }
    }
    for (task, entry) in &ledger.checkpoints {
        if ledger.state(task) == "succeeded" {
            found.push((Rule::Checkpoint, format!("task {task} succeeded and has a checkpoint: {entry}")));
        } else if !forgets {
            missing(run, task, entry, found);
        }
    }
    went_on
}

/// Looks for attempts that went on from an older bundle of the same maker, which only their own records tell.
fn older(run: &Path, task: u64, past: &Past, found: &mut Found) {
    for (attempt, newest) in &past.newest_bundle {
        let record =
            fs::read(run.join(format!("attempts/{task:07}/{attempt}/attempt.json"))).unwrap_or_default();
        let record: Value = serde_json::from_slice(&record).unwrap_or_default();
        let Some(from) = record["resumed_from"].as_str() else { continue };
        let expected = newest.as_ref().map(|bundle| format!("checkpoints/{task:07}/{bundle}.tar"));
        if Some(from) != expected.as_deref() {
            let what = format!("task {task}: {attempt} went on from `{from}` (newest: {expected:?})");
            found.push((Rule::Checkpoint, what));
        }
    }
}

/// Looks for the bundles of an entry: how far it is, then `<lease name>-<number>:<sha256>`.
fn missing(run: &Path, task: &str, entry: &str, found: &mut Found) {
    let mut bundles = entry.split(' ').skip(1).peekable();
    if bundles.peek().is_none() {
        found.push((Rule::Checkpoint, format!("task {task} has a checkpoint without a bundle: {entry}")));
    }
    for bundle in bundles {
        let (name, digest) = bundle.split_once(':').unwrap_or((bundle, ""));
        let object = format!("checkpoints/{:07}/{name}.tar", task.parse::<u64>().unwrap_or(u64::MAX));
        let stored = fs::read(run.join(&object)).map(|bytes| sha256(&bytes)).unwrap_or_default();
        if stored != digest {
            found.push((Rule::Checkpoint, format!("`{object}` is `{stored}` (in Redis: {digest})")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often attempts went on, and whether something is wrong, when the second of three attempts did these things. The first had left
    /// a bundle before, and the third went on from step 5 of the second.
    fn of_second(deed: Deed, forgets: bool) -> (u64, Vec<Rule>) {
        let newest = [("1.a.1", None), ("2.b.1", Some("1.a.1-1")), ("3.c.1", Some("2.b.1-4"))];
        let newest = newest.map(|(attempt, from)| (attempt.to_owned(), from.map(str::to_owned)));
        let mut past = Past::default();
        past.newest_bundle = newest.into();
        let pasts = BTreeMap::from([(0, past)]);
        let last = Deed::WentOn { from: "2.b.1".into(), step: 5 };
        let deeds = [("1.a.1", Deed::Began), ("2.b.1", deed), ("3.c.1", last), ("3.z.9", Deed::Astray)];
        let entries = deeds.map(|(attempt, deed)| Entry { attempt: attempt.to_owned(), deed });
        let mut found = Vec::new();
        let ledger = Ledger::default();
        let went_on =
            check(&ledger, (Path::new(""), forgets), &pasts, |_| entries.clone().into(), &mut found);
        (went_on, found.into_iter().map(|(rule, _)| rule).collect())
    }

    #[test]
    fn a_record_of_an_older_bundle_is_found() {
        let run = tempfile::tempdir().unwrap();
        let folder = run.path().join("attempts/0000000/2.b.1");
        fs::create_dir_all(&folder).unwrap();
        let mut past = Past::default();
        past.newest_bundle = [("2.b.1".to_owned(), Some("1.a.1-3".to_owned()))].into();
        for (bundle, expect) in [("1.a.1-3", 0), ("1.a.1-2", 1)] {
            let record = format!("{{\"resumed_from\": \"checkpoints/0000000/{bundle}.tar\"}}");
            fs::write(folder.join("attempt.json"), record).unwrap();
            let mut found = Vec::new();
            older(run.path(), 0, &past, &mut found);
            assert_eq!(found.len(), expect, "{found:?}");
        }
    }

    #[test]
    fn an_attempt_goes_on_from_the_newest_bundle() {
        let went_on = |from: &str, step| Deed::WentOn { from: from.into(), step };
        let wrong = vec![Rule::Checkpoint];
        assert_eq!(of_second(went_on("1.a.1", 5), false), (2, vec![]));
        assert_eq!(of_second(went_on("1.a.1", 6), false).1, wrong);
        assert_eq!(of_second(went_on("1.a.0", 5), false), (1, wrong.clone()));
        assert_eq!(of_second(Deed::Began, false), (1, wrong.clone()));
        assert_eq!(of_second(Deed::Astray, false), (1, wrong.clone()));
        assert_eq!(of_second(Deed::Began, true), (1, vec![]), "what was forgotten");
        assert_eq!(of_second(Deed::Astray, true), (1, wrong));
    }
}
