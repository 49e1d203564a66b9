//! The store against Redis, and both against what a quiet run would have made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::expected::{Fate, Shard};
use super::{Found, Ledger, Rule, TaskHash};

pub(super) fn check(ledger: &Ledger, run: &Path, fates: &BTreeMap<u64, Fate>, files: &mut u64) -> Found {
    let mut found = Vec::new();
    if let Err(error) = identity(ledger, run, &mut found) {
        found.push((Rule::Manifest, format!("the stored run can't be read: {error}")));
    }
    if fates.len() as u64 != ledger.total() || ledger.info.get("sealed").map(String::as_str) != Some("1") {
        let (total, sealed) = (ledger.total(), ledger.info.get("sealed"));
        found.push((Rule::Manifest, format!("{} tasks (total: {total}, sealed: {sealed:?})", fates.len())));
    }
    for (task, fate) in fates {
        let mut result = TaskResult { run, task: *task, files, found: &mut found };
        let succeeded = ledger
            .tasks
            .get(&task.to_string())
            .filter(|hash| hash.get("state").is_some_and(|state| state == "succeeded"));
        match (succeeded, &fate.shard) {
            (Some(hash), Some(expected)) => result.check(hash, expected),
            (Some(_), None) => result.say(Rule::Shard, "it succeeded, and its program never comes to an end"),
            (None, expected) => result.check_unfinished(expected.as_ref()),
        }
    }
    found
}

/// Compares the run's own digests.
fn identity(ledger: &Ledger, run: &Path, found: &mut Found) -> io::Result<()> {
    let spec = fs::read(run.join("spec.json"))?;
    let stored =
        [("digest", sha256(&spec)), ("manifest_sha256", sha256(&fs::read(run.join("manifest.csv"))?))];
    for (field, digest) in stored {
        if ledger.info.get(field) != Some(&digest) {
            let says = ledger.info.get(field);
            found.push((Rule::Manifest, format!("`{field}` is {says:?} (stored: {digest})")));
        }
    }
    Ok(())
}

/// One task's result in the store.
struct TaskResult<'a> {
    run: &'a Path,
    task: u64,
    files: &'a mut u64,
    found: &'a mut Found,
}

impl TaskResult<'_> {
    fn read(&mut self, object: &str) -> Option<Vec<u8>> {
        *self.files += 1;
        fs::read(self.run.join(object)).ok()
    }

    fn say(&mut self, rule: Rule, what: &str) {
        self.found.push((rule, format!("task {}: {what}", self.task)));
    }

    fn shard_name(&self) -> String {
        format!("shards/shard_{:07}.csv", self.task)
    }

    /// A task that succeeded has its shard, and Redis has what is in it.
    fn check(&mut self, hash: &TaskHash, expected: &Shard) {
        let field = |name: &str| hash.get(name).map_or("", String::as_str);
        let Some(stored) = self.read(&self.shard_name()) else {
            return self.say(Rule::Shard, "it succeeded and has no shard");
        };
        if stored != expected.bytes {
            self.say(Rule::Shard, "its shard differs from that of a quiet run");
        }
        let digest = sha256(&stored);
        if field("shard_sha256") != digest {
            let what = format!("its shard is {digest} (in Redis: {})", field("shard_sha256"));
            self.say(Rule::Digest, &what);
        }
        let says = ["molecules_ok", "molecules_bad"].map(|name| field(name).parse().unwrap_or(0));
        if says != [expected.ok, expected.bad] {
            self.say(
                Rule::Counters,
                &format!("ok and bad are {says:?} (counted: {}, {})", expected.ok, expected.bad),
            );
        }
        self.check_index(&digest, field("index_sha256"));
    }

    /// A task that did not succeed may have a shard, if its cancelling came in between; then it is the right one.
    fn check_unfinished(&mut self, expected: Option<&Shard>) {
        let stored = self.read(&self.shard_name());
        if stored.is_some_and(|stored| expected.is_none_or(|expected| stored != expected.bytes)) {
            self.say(Rule::Shard, "it did not succeed, and its shard differs from that of a quiet run");
        }
    }

    fn check_index(&mut self, shard_sha256: &str, index_sha256: &str) {
        let object = format!("index/{:07}/{shard_sha256}.json", self.task);
        let Some(stored) = self.read(&object) else { return self.say(Rule::Index, "its index is missing") };
        if sha256(&stored) != index_sha256 {
            self.say(Rule::Digest, &format!("its index is {} (in Redis: {index_sha256})", sha256(&stored)));
        }
        let index: Value = serde_json::from_slice(&stored).unwrap_or_default();
        if index["shard_sha256"] != shard_sha256 || index["task"] != self.task {
            self.say(Rule::Index, "its index is of another task or shard");
        }
        for file in index["files"].as_array().into_iter().flatten() {
            let object = file["object"].as_str().unwrap_or_default();
            match self.read(object) {
                Some(bytes) if file["sha256"] == sha256(&bytes) => {}
                Some(_) => self.say(Rule::Index, &format!("`{object}` is not what its index says")),
                None => self.say(Rule::Index, &format!("`{object}` is missing")),
            }
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
