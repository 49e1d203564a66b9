//! Everything that Redis holds, as readable text by name, in one round trip; and how two such pictures differ. Judges nothing.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;

/// What Redis holds: `progress total` → `8`, `task:3 lease` → `1.w1.1`, `pending` → `2 0 1`. Keys of the run are named without
/// their prefix, others whole.
pub type Snapshot = BTreeMap<String, String>;

/// The script that takes the picture.
pub(super) const SOURCE: &str = include_str!("snapshot.lua");

/// Takes pictures of one run's Redis. Each shows the events since the one before.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    script: redis::Script,
    prefix: String,
    last_event: String,
    /// Redis times in ms: of the picture before the last one, and of the last one.
    pub(super) between: (u64, u64),
}

impl Camera {
    /// For a run whose keys start with `prefix`, before its first event.
    #[expect(clippy::disallowed_methods, reason = "a test looks behind the queue's back")]
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            script: redis::Script::new(SOURCE),
            prefix: prefix.to_owned(),
            last_event: "0-0".to_owned(),
            between: (0, 0),
        }
    }

    /// Takes a picture.
    pub(super) async fn take(&mut self, connection: &mut MultiplexedConnection) -> Result<Snapshot, String> {
        let mut call = self.script.prepare_invoke();
        let taken = call.arg(&self.prefix).arg(&self.last_event).invoke_async(connection).await;
        let (at, last_event, text): (u64, String, String) = taken.map_err(|error| error.to_string())?;
        self.between = (self.between.1, at);
        self.last_event = last_event;
        Ok(parse(&text))
    }
}

fn parse(text: &str) -> Snapshot {
    let entries = text.split_terminator('\x1e').filter_map(|entry| entry.split_once('\x1f'));
    entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// What differs, one line each; empty if nothing does.
pub(super) fn differences(found: &Snapshot, expected: &Snapshot) -> String {
    if found == expected {
        return String::new();
    }
    let names = found.keys().chain(expected.keys().filter(|name| !found.contains_key(*name)));
    let shown = |value: Option<&String>| value.map_or("absent".to_owned(), |value| format!("`{value}`"));
    let differing = names.filter(|name| found.get(*name) != expected.get(*name));
    let line = |name: &String| {
        format!("  {name}: {}, expected {}\n", shown(found.get(name)), shown(expected.get(name)))
    };
    differing.map(line).collect()
}
