//! The engine `command`: any program, or a driver script, that turns `task.json` into a file of rows.
//!
//! This file plans; `command_verdict` judges. What a driver may rely on is written down in `docs/drivers.md`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use common::task::{
    CommandOptions, DRIVER_PLACEHOLDER, DRIVER_ROLE, INDEX_PLACEHOLDER, RunSpec, THREADS_PLACEHOLDER,
};

use super::reason::failure;
use super::{
    Engine, EngineFailure, Judged, Plan, Preparation, Snapshot, Step, StepOutcome, Workload, command_verdict,
    task_file,
};

/// The only step, which its logs are named after.
const STEP: &str = "command";
/// The folder below the scratch folder all of whose files are kept.
const OUTPUT: &str = "output";
/// The folder whose content is the checkpoint, and the file in it that says how far it is, `37/100`.
const CHECKPOINT: &str = "checkpoint";
const PROGRESS: &str = "progress";
/// How deep folders of files to keep may be nested.
const DEPTH_MAX: usize = 8;

/// Any program, or a driver script.
#[derive(Debug, Clone)]
pub struct CommandEngine {
    options: CommandOptions,
}

impl CommandEngine {
    /// With a run's parameters.
    pub fn new(options: CommandOptions) -> Self {
        Self { options }
    }

    fn argv(&self, workload: &Workload<'_>) -> Vec<String> {
        let driver = driver(workload).map(|(_, to)| to.to_string_lossy().into_owned()).unwrap_or_default();
        let threads = workload.spec.threads_per_task.to_string();
        let words = self.options.argv.iter();
        words
            .map(|word| word.replace(DRIVER_PLACEHOLDER, &driver).replace(THREADS_PLACEHOLDER, &threads))
            .collect()
    }

    /// What a driver reads: where everything is, and what is expected of it.
    fn task_json(&self, workload: &Workload<'_>) -> Vec<u8> {
        let names = |(role, _, to): (&str, _, PathBuf)| (role.to_owned(), to.to_string_lossy().into_owned());
        let inputs: BTreeMap<_, _> = inputs(workload).map(names).collect();
        let task = serde_json::json!({
            "rows": self.options.rows,
            "columns": self.options.columns,
            "inputs": inputs,
            "molecules": task_file::molecules(workload),
        });
        task.to_string().into_bytes()
    }
}

impl Engine for CommandEngine {
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        self.options.versions.iter().map(|(name, argv)| (name.as_str(), argv.clone())).collect()
    }

    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let inputs = inputs(workload).map(|(_, from, to)| (from, to));
        let step = Step { name: STEP.to_owned(), argv: self.argv(workload), needs: Vec::new() };
        Plan {
            files: vec![(PathBuf::from(task_file::NAME), self.task_json(workload))],
            copies: inputs.chain(driver(workload)).collect(),
            steps: vec![step],
        }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        let ended = outcomes.first().and_then(|outcome| outcome.ended.as_ref());
        let ended = ended.ok_or_else(|| EngineFailure {
            reason: failure::ENGINE_FAILED,
            detail: "the command was not run".to_owned(),
        })?;
        command_verdict::judge(&self.options, workload, ended)
    }

    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf> {
        let named = self.options.expect.iter().chain(&self.options.keep);
        let mut paths: Vec<PathBuf> = named.flat_map(|pattern| of_all(pattern, workload)).collect();
        paths.push(PathBuf::from(OUTPUT));
        let mut files: Vec<PathBuf> =
            paths.iter().flat_map(|path| files_below(workload.scratch, path, DEPTH_MAX)).collect();
        files.sort();
        files.dedup();
        files
    }

    fn checkpoint(&self, scratch: &Path) -> Option<Snapshot> {
        let mut files = files_below(scratch, Path::new(CHECKPOINT), DEPTH_MAX);
        files.sort();
        // Where a program has put nothing, or only says how far it is, there is nothing to go on from.
        let progress = Path::new(CHECKPOINT).join(PROGRESS);
        if files.iter().all(|file| *file == progress) {
            return None;
        }
        let said = std::fs::read_to_string(scratch.join(progress)).ok();
        let progress = said.and_then(|said| steps(&said));
        Some(Snapshot { state: files, appended: Vec::new(), progress })
    }

    fn score_unit(&self) -> &str {
        self.options.score_unit()
    }

    fn columns(&self) -> Vec<&str> {
        self.options.columns.iter().map(|column| column.name.as_str()).chain(["detail"]).collect()
    }
}

/// `37/100`: the steps done and all.
fn steps(text: &str) -> Option<(u64, u64)> {
    let (step, steps) = text.trim().split_once('/')?;
    Some((step.parse().ok()?, steps.parse().ok()?))
}

/// The run's inputs by role: the cached file, and where it goes below the scratch folder.
pub(crate) fn inputs<'a>(
    workload: &Workload<'a>,
) -> impl Iterator<Item = (&'a str, PathBuf, PathBuf)> + use<'a> {
    let (spec, shared) = (workload.spec, workload.shared);
    spec.inputs.iter().filter_map(move |(role, pinned)| {
        let from = shared.get(role)?.clone();
        let name = Path::new(pinned.file_name())
            .extension()
            .map_or_else(|| role.clone(), |extension| format!("{role}.{}", extension.to_string_lossy()));
        Some((role.as_str(), from, Path::new("inputs").join(name)))
    })
}

/// The run's driver: the cached file, and where it goes below the scratch folder.
pub(crate) fn driver(workload: &Workload<'_>) -> Option<(PathBuf, PathBuf)> {
    let pinned = workload.spec.drivers.get(DRIVER_ROLE)?;
    let from = workload.shared.get(DRIVER_ROLE)?.clone();
    Some((from, Path::new("driver").join(pinned.file_name())))
}

/// The file of one molecule: `{index}` becomes its `index` in `task.json`.
pub(crate) fn of_molecule(pattern: &str, index: usize) -> PathBuf {
    PathBuf::from(pattern.replace(INDEX_PLACEHOLDER, &format!("{index:05}")))
}

fn of_all(pattern: &str, workload: &Workload<'_>) -> Vec<PathBuf> {
    if pattern.contains(INDEX_PLACEHOLDER) {
        workload.molecules.iter().map(|input| of_molecule(pattern, input.index)).collect()
    } else {
        vec![PathBuf::from(pattern)]
    }
}

/// A file, or all files of a folder, by path below the scratch folder. Links are not followed: what they lead to is not the
/// program's.
pub(crate) fn files_below(scratch: &Path, path: &Path, depth: usize) -> Vec<PathBuf> {
    let Ok(meta) = std::fs::symlink_metadata(scratch.join(path)) else { return Vec::new() };
    if meta.is_file() {
        return vec![path.to_owned()];
    }
    if !meta.is_dir() || depth == 0 {
        return Vec::new();
    }
    let entries = std::fs::read_dir(scratch.join(path)).into_iter().flatten().flatten();
    let below = |name: &OsStr| files_below(scratch, &path.join(name), depth - 1);
    entries.flat_map(|entry| below(&entry.file_name())).collect()
}
