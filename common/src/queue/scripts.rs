//! The scripts: one file per verb, each behind what it shares with others. No other file runs a script.

use std::sync::LazyLock;

use redis::Script;

/// A script with the name of its verb.
pub(super) struct NamedScript {
    pub(super) name: &'static str,
    pub(super) script: LazyLock<Script>,
}

/// What stands before scripts, by name.
pub const SHARED: &[(&str, &str)] =
    &[("clock", include_str!("lua/clock.lua")), ("prelude", include_str!("lua/prelude.lua"))];

/// Declares every script once: its static, and its entry in [`SOURCES`].
macro_rules! scripts {
    ($($id:ident = $name:literal after $($shared:literal),+;)*) => {
        /// Name and whole text of every script, for tests that call it by itself.
        pub const SOURCES: &[(&str, &str)] = &[$((
            $name,
            concat!(
                $(include_str!(concat!("lua/", $shared, ".lua")),)+
                include_str!(concat!("lua/", $name, ".lua")),
            ),
        )),*];
        $(
            #[expect(clippy::disallowed_methods, reason = "the one place that makes scripts")]
            pub(super) static $id: NamedScript = NamedScript {
                name: $name,
                script: LazyLock::new(|| {
                    let shared = [$(include_str!(concat!("lua/", $shared, ".lua"))),+].concat();
                    Script::new(&[&shared, include_str!(concat!("lua/", $name, ".lua"))].concat())
                }),
            };
        )*
    };
}

scripts! {
    ADOPT = "adopt" after "clock", "prelude";
    CANCEL = "cancel" after "clock", "prelude";
    CHECKPOINT = "checkpoint" after "clock", "prelude";
    COMPLETE = "complete" after "clock", "prelude";
    CREATE = "create" after "clock";
    FAIL = "fail" after "clock", "prelude";
    HEARTBEAT = "heartbeat" after "clock";
    LEASE = "lease" after "clock", "prelude";
    PUSH = "push" after "clock", "prelude";
    RELEASE = "release" after "clock", "prelude";
    REMOVE = "remove" after "clock";
    REPAIR = "repair" after "clock", "prelude";
    REQUEUE = "requeue" after "clock", "prelude";
    SEAL = "seal" after "clock";
    SET = "set" after "clock", "prelude";
    TELL = "tell" after "clock", "prelude";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::SOURCES;
    use crate::task::{State, TRANSITIONS, Verb};

    /// A script's own header lines and body, without what stands before it.
    fn parts(source: &str) -> (Vec<&str>, String) {
        let own = &source[source.find("-- purpose: ").unwrap()..];
        let header = own.lines().take_while(|line| line.starts_with("--")).collect();
        (
            header,
            own.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n"),
        )
    }

    fn field<'a>(header: &[&'a str], name: &str) -> &'a str {
        let found = header.iter().find_map(|line| line.strip_prefix(&format!("-- {name}: ")));
        found.unwrap_or_else(|| panic!("no `{name}:` in {header:?}"))
    }

    #[test]
    fn headers_name_the_arguments_that_bodies_read() {
        for (name, source) in SOURCES {
            let (header, body) = parts(source);
            let read: BTreeSet<u32> =
                body.split("ARGV[").skip(1).filter_map(|rest| rest.split(']').next()?.parse().ok()).collect();
            let told: BTreeSet<u32> = header
                .iter()
                .filter_map(|line| line.strip_prefix("-- ARGV[")?.split(']').next())
                .flat_map(|range| {
                    let mut ends = range.split("...").map(|end| end.parse::<u32>().ok());
                    let first = ends.next().flatten().unwrap();
                    first..=ends.next().flatten().unwrap_or(first)
                })
                .collect();
            assert!(read.is_subset(&told), "{name}: reads {read:?}, header tells {told:?}");
            let walks = body.contains("#ARGV") || body.contains("unpack(ARGV");
            assert!(walks || read == told, "{name}: reads {read:?}, header tells {told:?}");
            assert_eq!(field(&header, "KEYS[1]"), "molfleet:{R}:run", "{name}");
        }
    }

    #[test]
    fn headers_name_the_replies_that_bodies_give() {
        for (name, source) in SOURCES {
            let (header, body) = parts(source);
            let told = header.join(" ");
            for reply in body.split("{ '").skip(1).filter_map(|rest| rest.split('\'').next()) {
                let code = format!("{{'{reply}'");
                let is_list =
                    ["ipairs(", "PHASES = "].iter().any(|list| body.contains(&format!("{list}{{ '{reply}'")));
                assert!(
                    is_list || told.contains(&code),
                    "{name}: replies {code}, its header does not say so"
                );
            }
        }
    }

    /// The scripts in which a transition takes place.
    fn scripts_of(from: State, verb: Verb) -> &'static [&'static str] {
        match (from, verb) {
            (State::Waiting, Verb::Promote) => &["complete", "adopt"],
            (State::Delayed, Verb::Promote) => &["lease", "checkpoint"],
            (_, Verb::Reclaim | Verb::Promote) => &["lease"],
            (_, verb) => match SOURCES.iter().find(|(name, _)| *name == verb.name()) {
                Some((name, _)) => std::slice::from_ref(name),
                None => &[],
            },
        }
    }

    #[test]
    fn transitions_are_those_of_the_state_table() {
        let mut moved = BTreeSet::new();
        for (name, source) in SOURCES {
            let (header, body) = parts(source);
            let in_body: BTreeSet<(String, String)> = body
                .replace("move(last, '", "move(id, '")
                .split("move(id, '")
                .skip(1)
                .map(|rest| {
                    let mut words = rest.split('\'');
                    (words.next().unwrap().to_owned(), words.nth(1).unwrap().to_owned())
                })
                .collect();
            let in_header: BTreeSet<(String, String)> = field(&header, "transitions")
                .split(", ")
                .filter_map(|transition| transition.split(" (").next()?.split_once(" -> "))
                .filter(|(from, _)| *from != "absent")
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .collect();
            assert_eq!(in_body, in_header, "{name}");
            for (from, to) in in_body {
                let (from, to): (State, State) = (from.parse().unwrap(), to.parse().unwrap());
                let rows = TRANSITIONS
                    .iter()
                    .filter(|(f, verb, t)| (*f, *t) == (from, to) && scripts_of(*f, *verb).contains(name));
                let before = moved.len();
                moved.extend(rows.map(|(from, verb, to)| (*name, from.name(), verb.name(), to.name())));
                assert!(moved.len() > before, "{name}: {from} -> {to}");
            }
        }
        let told = TRANSITIONS.iter().flat_map(|(from, verb, to)| {
            scripts_of(*from, *verb).iter().map(|script| (*script, from.name(), verb.name(), to.name()))
        });
        assert_eq!(moved, told.collect(), "a transition of the table is in no script");
    }
}
