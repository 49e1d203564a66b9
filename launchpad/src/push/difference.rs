//! What a push would change about a run that is there: by name, with both values. Pure.

use std::collections::BTreeMap;

use common::task::{ObjectRef, RunSpec};
use serde::Serialize;
use serde_json::Value;

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) name: String,
    /// What the run has.
    pub(crate) theirs: String,
    /// What the push says.
    pub(crate) ours: String,
}

/// The fields of two values of one type that differ.
pub(crate) fn changes<T: Serialize>(theirs: &T, ours: &T) -> Vec<Change> {
    let leaves = |value: &T| {
        let mut leaves = BTreeMap::new();
        collect(&serde_json::to_value(value).unwrap_or_default(), "", &mut leaves);
        leaves
    };
    let (theirs, ours) = (leaves(theirs), leaves(ours));
    let names = theirs.keys().chain(ours.keys().filter(|name| !theirs.contains_key(*name)));
    let shown = |leaf: Option<&String>| leaf.cloned().unwrap_or_else(|| "none".to_owned());
    let change = |name: &String| Change {
        name: name.clone(),
        theirs: shown(theirs.get(name)),
        ours: shown(ours.get(name)),
    };
    names.filter(|name| theirs.get(*name) != ours.get(*name)).map(change).collect()
}

/// What another spec under the same run id has that ours has not, each as a phrase, `theirs → ours`.
pub(crate) fn phrases(theirs: &RunSpec, ours: &RunSpec) -> Vec<String> {
    let mut phrases = molecules(theirs, ours);
    phrases.extend(objects("input", &theirs.inputs, &ours.inputs));
    phrases.extend(objects("driver", &theirs.drivers, &ours.drivers));
    let (theirs_name, ours_name) = (theirs.engine.name(), ours.engine.name());
    if theirs_name == ours_name {
        phrases.extend(changes(&theirs.engine, &ours.engine).into_iter().map(Change::phrase));
    } else {
        phrases.push(format!("engine {theirs_name} → {ours_name}"));
    }
    let rest = |spec: &RunSpec| {
        let RunSpec { schema, seed, threads_per_task, needs_gpu, .. } = spec;
        let numbers = [
            ("schema", u64::from(*schema)),
            ("seed", *seed),
            ("threads_per_task", u64::from(*threads_per_task)),
        ];
        let mut rest: BTreeMap<&str, Value> = numbers.map(|(name, number)| (name, number.into())).into();
        rest.insert("needs_gpu", (*needs_gpu).into());
        rest
    };
    phrases.extend(changes(&rest(theirs), &rest(ours)).into_iter().map(Change::phrase));
    if phrases.is_empty() {
        phrases.push("its spec is written in another way, by another version of launchpad".to_owned());
    }
    phrases
}

fn molecules(theirs: &RunSpec, ours: &RunSpec) -> Vec<String> {
    let (theirs, ours) = (&theirs.manifest, &ours.manifest);
    if theirs == ours {
        return Vec::new();
    }
    if (theirs.molecules, theirs.tasks) == (ours.molecules, ours.tasks) {
        return vec!["the molecules are not the same, or in another order".to_owned()];
    }
    vec![format!(
        "{} molecules in {} tasks → {} in {}",
        theirs.molecules, theirs.tasks, ours.molecules, ours.tasks
    )]
}

fn objects(
    what: &str,
    theirs: &BTreeMap<String, ObjectRef>,
    ours: &BTreeMap<String, ObjectRef>,
) -> Vec<String> {
    let name = |object: Option<&ObjectRef>| {
        object.map_or("none", |object| object.object.rsplit('/').next().unwrap_or_default()).to_owned()
    };
    let roles = theirs.keys().chain(ours.keys().filter(|role| !theirs.contains_key(*role)));
    let differing = roles.filter(|role| theirs.get(*role) != ours.get(*role));
    let phrase = |role: &String| {
        let (theirs, ours) = (name(theirs.get(role)), name(ours.get(role)));
        if theirs == ours {
            format!("{theirs} has other bytes")
        } else {
            format!("{what} {role} {theirs} → {ours}")
        }
    };
    differing.map(phrase).collect()
}

impl Change {
    fn phrase(self) -> String {
        format!("{} {} → {}", self.name, self.theirs, self.ours)
    }
}

/// The leaves of a value by their path. A list is one leaf.
fn collect(value: &Value, path: &str, leaves: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(value, &path, leaves);
            }
        }
        Value::Null => {}
        Value::String(text) => {
            leaves.insert(path.to_owned(), text.clone());
        }
        other => {
            leaves.insert(path.to_owned(), other.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use common::task::{EngineOptions, ManifestDigest, VinaOptions};

    use super::*;

    fn spec() -> RunSpec {
        let vina = VinaOptions { center: [0.0; 3], size: [1.0; 3], exhaustiveness: 8, modes: 9 };
        RunSpec {
            schema: 1,
            run: "r".parse().unwrap(),
            engine: EngineOptions::Vina(vina),
            seed: 42,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::from([("receptor".to_owned(), object("aa", "receptor.pdb"))]),
            drivers: BTreeMap::new(),
            manifest: ManifestDigest { sha256: "m".into(), tasks: 10, molecules: 30 },
        }
    }

    fn object(sha256: &str, name: &str) -> ObjectRef {
        ObjectRef { object: format!("inputs/{sha256}/{name}"), sha256: sha256.into(), bytes: 1 }
    }

    #[test]
    fn every_part_of_a_spec_is_named() {
        let check = |change: fn(&mut RunSpec), expect: &str| {
            let mut ours = spec();
            change(&mut ours);
            assert_eq!(phrases(&spec(), &ours), [expect]);
        };
        check(|spec| spec.seed = 7, "seed 42 → 7");
        check(|spec| spec.threads_per_task = 2, "threads_per_task 1 → 2");
        check(|spec| spec.needs_gpu = true, "needs_gpu false → true");
        check(|spec| spec.schema = 2, "schema 1 → 2");
        check(|spec| spec.manifest.molecules = 31, "30 molecules in 10 tasks → 31 in 10");
        check(|spec| spec.manifest.tasks = 15, "30 molecules in 10 tasks → 30 in 15");
        check(
            |spec| spec.manifest.sha256 = "n".into(),
            "the molecules are not the same, or in another order",
        );
        check(
            |spec| *spec.inputs.get_mut("receptor").unwrap() = object("bb", "receptor.pdb"),
            "receptor.pdb has other bytes",
        );
        check(
            |spec| *spec.inputs.get_mut("receptor").unwrap() = object("bb", "other.pdb"),
            "input receptor receptor.pdb → other.pdb",
        );
        check(
            |spec| drop(spec.drivers.insert("driver".into(), object("cc", "x.py"))),
            "driver driver none → x.py",
        );
        check(
            |spec| {
                let vina =
                    VinaOptions { center: [0.0; 3], size: [1.0, 2.0, 1.0], exhaustiveness: 8, modes: 9 };
                spec.engine = EngineOptions::Vina(vina);
            },
            "size [1.0,1.0,1.0] → [1.0,2.0,1.0]",
        );
        check(|_| {}, "its spec is written in another way, by another version of launchpad");
    }

    #[test]
    fn maps_are_compared_entry_by_entry() {
        let map = |seconds: &[(&str, u64)]| -> BTreeMap<String, BTreeMap<String, u64>> {
            let entries = seconds.iter().map(|(kind, seconds)| ((*kind).to_owned(), *seconds)).collect();
            BTreeMap::from([("step_seconds".to_owned(), entries)])
        };
        let found = changes(&map(&[("md", 5), ("dock", 1)]), &map(&[("md", 6), ("top", 2), ("dock", 1)]));
        let found: Vec<String> = found.into_iter().map(Change::phrase).collect();
        assert_eq!(found, ["step_seconds.md 5 → 6", "step_seconds.top none → 2"]);
    }
}
