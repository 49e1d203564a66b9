//! What a quiet run would have made of each task, computed from the manifest alone: its shard, and how often its program may fail.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::sha256;
use crate::chaos::toy::windows::{REDUCTION, SAMPLES, WINDOWS, of_part, reduction};
use crate::chaos::toy::{BAD_REASON, Finding, Temper};

/// The columns of every shard of the toy.
const HEADER: [&str; 8] =
    ["molecule_id", "smiles", "verdict", "reason", "score", "score_unit", "value", "detail"];
/// The unit of its scores.
const UNIT: &str = "points";
/// The row of a molecule that crashed the program in two attempts while others of its task were scored.
const BLAMED: [&str; 2] = [
    "engine_crashed",
    "the engine broke down over it in two attempts and scored others; their records have the evidence",
];
/// The columns of a task of a group.
const GROUP_HEADER: [&str; 22] = [
    "molecule_id",
    "smiles",
    "verdict",
    "reason",
    "score",
    "score_unit",
    "part",
    "window",
    "lambda_coulomb",
    "lambda_vdw",
    "windows",
    "window_ps",
    "charges",
    "setup_sha256",
    "samples",
    "error",
    "mbar",
    "mbar_error",
    "overlap_min",
    "steps",
    "seed",
    "detail",
];

/// A line of the manifest.
struct Line {
    id: String,
    smiles: String,
    /// Its record in an SDF, if that is what it came as.
    record: Vec<u8>,
    seed: u32,
    /// What a task of a group does: `window` or `reduction`, and the window.
    part: (String, String),
}

/// What becomes of a task.
#[derive(Debug)]
pub(super) struct Fate {
    /// Its shard; none if its program never comes to an end.
    pub(super) shard: Option<Shard>,
    /// In how many attempts its program fails at most, unless it always does.
    pub(super) failures_max: Option<usize>,
    /// Whether a crash may stand in an attempt that succeeds, since the molecule is blamed for it.
    pub(super) is_blamed: bool,
}

/// What a shard has to be.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) bytes: Vec<u8>,
    pub(super) ok: u64,
    pub(super) bad: u64,
}

/// The fate of each task of a stored run.
pub(super) fn fates(run: &Path) -> io::Result<BTreeMap<u64, Fate>> {
    let spec: Value = serde_json::from_slice(&fs::read(run.join("spec.json"))?)?;
    let seed = spec["seed"].as_u64().ok_or_else(|| io::Error::other("the spec has no seed"))?;
    let tasks = manifest(run, seed)?;
    let fate = |(task, lines): (&u64, &Vec<Line>)| {
        let is_of_group = !lines[0].part.1.is_empty() || lines[0].part.0 == REDUCTION;
        (*task, if is_of_group { of_group(run, *task, &lines[0]) } else { of_molecules(lines) })
    };
    Ok(tasks.iter().map(fate).collect())
}

fn manifest(run: &Path, seed: u64) -> io::Result<BTreeMap<u64, Vec<Line>>> {
    let mut tasks: BTreeMap<u64, Vec<Line>> = BTreeMap::new();
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
        let [id, smiles, kind, window] =
            ["molecule_id", "smiles", "kind", "window"].map(|name| line[name].clone());
        let seed = molecule_seed(seed, &id);
        tasks.entry(number("task_id")?).or_default().push(Line {
            id,
            smiles,
            record,
            seed,
            part: (kind, window),
        });
    }
    Ok(tasks)
}

/// The seed of a molecule, as `docs/drivers.md` has it.
pub(crate) fn molecule_seed(run_seed: u64, id: &str) -> u32 {
    let digest = Sha256::digest(format!("{run_seed}\0{id}"));
    let number = u64::from_be_bytes(digest[..8].try_into().unwrap());
    u32::try_from(1 + number % ((1 << 31) - 2)).unwrap()
}

/// The fate of a task of some molecules, in their order.
fn of_molecules(lines: &[Line]) -> Fate {
    let findings: Vec<Finding> = lines
        .iter()
        .map(|line| {
            let text = if line.record.is_empty() { line.smiles.as_bytes() } else { &line.record };
            Finding::of(&line.id, text, line.seed)
        })
        .collect();
    let crashes_always = |finding: &Finding| finding.temper() == Temper::Crashes(None);
    let has_score = findings.iter().any(|finding| !finding.is_bad() && !crashes_always(finding));
    let failures = |finding: &Finding| match finding.temper() {
        Temper::Fine | Temper::Busy => Some(0),
        Temper::Fails(times) | Temper::Crashes(times @ Some(_)) => times,
        // The second crash is its verdict.
        Temper::Crashes(None) => has_score.then_some(1),
        Temper::Refused => None,
    };
    let failures_max = findings.iter().map(failures).sum::<Option<usize>>();
    let is_blamed = has_score && findings.iter().any(crashes_always);
    Fate { shard: failures_max.map(|_| shard(lines, &findings)), failures_max, is_blamed }
}

fn shard(lines: &[Line], findings: &[Finding]) -> Shard {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER).unwrap();
    let mut bad = 0;
    for (Line { id, smiles, .. }, finding) in lines.iter().zip(findings) {
        let (value, detail) = (finding.value(), finding.detail());
        let cells = if finding.temper() == Temper::Crashes(None) {
            ["bad", BLAMED[0], "", "", "", BLAMED[1]]
        } else if finding.is_bad() {
            ["bad", BAD_REASON, "", "", "", &detail]
        } else {
            ["ok", "", &value, UNIT, &value, ""]
        };
        writer.write_record([id, smiles].into_iter().map(String::as_str).chain(cells)).unwrap();
        bad += u64::from(cells[0] == "bad");
    }
    Shard { bytes: writer.into_inner().unwrap(), ok: lines.len() as u64 - bad, bad }
}

/// The fate of a window, or of the task that waits for the windows.
fn of_group(run: &Path, task: u64, line: &Line) -> Fate {
    let whole = Finding::of(&line.id, line.smiles.as_bytes(), line.seed);
    let (kind, window) = (&line.part.0, line.part.1.parse::<usize>().ok());
    // What is refused at its set-up comes no further.
    let temper = match window {
        _ if whole.is_bad() => Temper::Fine,
        Some(window) => of_part(&line.id, &window.to_string(), &line.smiles, line.seed).temper(),
        None => of_part(&line.id, REDUCTION, &line.smiles, line.seed).temper(),
    };
    let failures_max = match temper {
        Temper::Fine | Temper::Busy => Some(0),
        Temper::Fails(times) | Temper::Crashes(times) => times,
        Temper::Refused => None,
    };
    let group_tasks = WINDOWS.len() as u64 + 1;
    let setup = run.join(format!("groups/{:07}/setup.tar", task / group_tasks * group_tasks));
    let setup = fs::read(setup).map(|bytes| sha256(&bytes)).unwrap_or_default();
    let cells = group_cells(line, kind, window, whole, &setup);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(GROUP_HEADER).unwrap();
    writer.write_record(&cells).unwrap();
    // A molecule is counted where its group ends.
    let [ok, bad] = [false, true].map(|is_bad| u64::from(window.is_none() && whole.is_bad() == is_bad));
    let shard = Shard { bytes: writer.into_inner().unwrap(), ok, bad };
    Fate { shard: failures_max.map(|_| shard), failures_max, is_blamed: false }
}

fn group_cells(line: &Line, kind: &str, window: Option<usize>, whole: Finding, setup: &str) -> Vec<String> {
    let lambda = |which: usize| window.map_or_else(String::new, |window| WINDOWS[window][which].to_string());
    let mut verdict = ["ok", "", "", ""].map(str::to_owned);
    let mut numbers = [""; 7].map(str::to_owned);
    let mut detail = String::new();
    if whole.is_bad() {
        verdict = ["bad", BAD_REASON, "", ""].map(str::to_owned);
        detail = if window.is_some() { whole.detail() } else { format!("window 0: {}", whole.detail()) };
    } else if window.is_some() {
        let [samples, setup] = [SAMPLES.to_string(), setup.to_owned()];
        (numbers[0], numbers[1]) = (setup, samples);
    } else {
        let found = reduction(whole);
        let three = |value: &Value| format!("{:.3}", value.as_f64().unwrap_or(f64::NAN));
        let all = |name: &str| found[name].as_array().cloned().unwrap_or_default();
        let steps: Vec<String> = all("steps").iter().map(three).collect();
        let overlaps = all("overlaps");
        let least = overlaps.iter().min_by(|a, b| a.as_f64().partial_cmp(&b.as_f64()).unwrap()).unwrap();
        verdict = ["ok", "", &three(&found["bar"]), "kcal/mol"].map(str::to_owned);
        numbers = [
            setup.to_owned(),
            found["samples"].to_string(),
            three(&found["bar_error"]),
            three(&found["mbar"]),
            three(&found["mbar_error"]),
            three(least),
            steps.join(" "),
        ];
    }
    let window_cells = [window.map_or_else(String::new, |window| window.to_string()), lambda(0), lambda(1)];
    let constants = [WINDOWS.len().to_string(), "1".to_owned(), "gasteiger".to_owned()];
    [vec![line.id.clone(), line.smiles.clone()], verdict.into(), vec![kind.to_owned()], window_cells.into()]
        .into_iter()
        .chain([constants.to_vec(), numbers.to_vec(), vec![line.seed.to_string(), detail]])
        .flatten()
        .collect()
}
