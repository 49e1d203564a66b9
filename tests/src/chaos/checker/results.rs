//! The store against Redis, and both against what a quiet run would have made, computed here from the manifest alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Found, Ledger, Rule, TaskHash};
use crate::chaos::toy::{BAD_REASON, Finding};

/// The columns of every shard of the toy.
const HEADER: [&str; 8] =
    ["molecule_id", "smiles", "verdict", "reason", "score", "score_unit", "value", "detail"];
/// The unit of its scores.
const UNIT: &str = "points";

/// A line of the manifest.
struct Molecule {
    id: String,
    smiles: String,
    /// Its record in an SDF, if that is what it came as.
    record: Vec<u8>,
}

/// What a shard has to be.
struct Expected {
    bytes: Vec<u8>,
    ok: u64,
    bad: u64,
}

pub(super) fn check(ledger: &Ledger, run: &Path, files: &mut u64) -> Found {
    let mut found = Vec::new();
    let (seed, tasks) = match identity(ledger, run, &mut found).and_then(|seed| Ok((seed, manifest(run)?))) {
        Ok(read) => read,
        Err(error) => {
            found.push((Rule::Manifest, format!("the stored run can't be read: {error}")));
            return found;
        }
    };
    if tasks.len() as u64 != ledger.total() || ledger.info.get("sealed").map(String::as_str) != Some("1") {
        let (total, sealed) = (ledger.total(), ledger.info.get("sealed"));
        found.push((Rule::Manifest, format!("{} tasks (total: {total}, sealed: {sealed:?})", tasks.len())));
    }
    for (task, molecules) in &tasks {
        let mut result = TaskResult { run, task: *task, files, found: &mut found };
        let expected = shard(seed, molecules);
        match ledger
            .tasks
            .get(&task.to_string())
            .filter(|hash| hash.get("state").is_some_and(|s| s == "succeeded"))
        {
            Some(hash) => result.check(hash, &expected),
            None => result.check_unfinished(&expected),
        }
    }
    found
}

/// Compares the run's own digests, and gives its seed.
fn identity(ledger: &Ledger, run: &Path, found: &mut Found) -> io::Result<u64> {
    let spec = fs::read(run.join("spec.json"))?;
    let stored =
        [("digest", sha256(&spec)), ("manifest_sha256", sha256(&fs::read(run.join("manifest.csv"))?))];
    for (field, digest) in stored {
        if ledger.info.get(field) != Some(&digest) {
            let says = ledger.info.get(field);
            found.push((Rule::Manifest, format!("`{field}` is {says:?} (stored: {digest})")));
        }
    }
    let spec: Value = serde_json::from_slice(&spec)?;
    spec["seed"].as_u64().ok_or_else(|| io::Error::other("the spec has no seed"))
}

fn manifest(run: &Path) -> io::Result<BTreeMap<u64, Vec<Molecule>>> {
    let mut tasks: BTreeMap<u64, Vec<Molecule>> = BTreeMap::new();
    let mut reader = csv::Reader::from_path(run.join("manifest.csv"))?;
    for line in reader.deserialize::<BTreeMap<String, String>>() {
        let line = line?;
        let number = |name: &str| line[name].parse::<u64>().map_err(io::Error::other);
        let mut record = Vec::new();
        if !line["object"].is_empty() {
            let mut file = File::open(run.join(&line["object"]))?;
            file.seek(SeekFrom::Start(number("offset")?))?;
            file.take(number("length")?).read_to_end(&mut record)?;
        }
        let molecule = Molecule { id: line["molecule_id"].clone(), smiles: line["smiles"].clone(), record };
        tasks.entry(number("task_id")?).or_default().push(molecule);
    }
    Ok(tasks)
}

/// The shard of some molecules, in their order.
fn shard(seed: u64, molecules: &[Molecule]) -> Expected {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).unwrap();
    let mut bad = 0;
    for Molecule { id, smiles, record } in molecules {
        let text = if record.is_empty() { smiles.as_bytes() } else { record };
        let finding = Finding::of(id, text, molecule_seed(seed, id));
        let (value, detail) = (finding.value(), finding.detail());
        let cells = if finding.is_bad() {
            ["bad", BAD_REASON, "", "", "", &detail]
        } else {
            ["ok", "", &value, UNIT, &value, ""]
        };
        writer.write_record([id, smiles].into_iter().map(String::as_str).chain(cells)).unwrap();
        bad += u64::from(finding.is_bad());
    }
    Expected { bytes: writer.into_inner().unwrap(), ok: molecules.len() as u64 - bad, bad }
}

/// The seed of a molecule, as `docs/drivers.md` has it.
fn molecule_seed(run_seed: u64, id: &str) -> u32 {
    let digest = Sha256::digest(format!("{run_seed}\0{id}"));
    let number = u64::from_be_bytes(digest[..8].try_into().unwrap());
    u32::try_from(1 + number % ((1 << 31) - 2)).unwrap()
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
    fn check(&mut self, hash: &TaskHash, expected: &Expected) {
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
    fn check_unfinished(&mut self, expected: &Expected) {
        if self.read(&self.shard_name()).is_some_and(|stored| stored != expected.bytes) {
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
