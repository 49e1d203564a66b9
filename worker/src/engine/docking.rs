//! What the docking engines have in common: how ligands are prepared, how files are named, and the way from the steps of an attempt to
//! a row per molecule or to the reason why there is none.
//!
//! A verdict comes from files alone. How a program ended, and what it printed, can only void an attempt: a signal, a time
//! limit, a full disk or a broken receptor must never become a molecule's reason.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::task::{Row, Verdict};

use super::ending::evidence;
use super::prepared::{self, Prepared};
use super::reason::{Refusal, failure};
use super::{EngineFailure, Judged, MoleculeInput, Step, StepOutcome, Workload, left_file, task_file};
use crate::process::{Ended, How};

/// Role of the driver that makes 3D structures.
pub(crate) const PREPARE_ROLE: &str = "prepare";
/// What that driver writes.
pub(crate) const PREPARED_FILE: &str = "prepared.jsonl";

/// A molecule that was docked and passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scored {
    /// With the engine's own digits.
    pub(crate) score: String,
    /// The engine's own columns; a bad molecule has them empty.
    pub(crate) columns: Vec<String>,
}

/// Outside whether the attempt counts, inside the verdict.
pub(crate) type Tried<T> = Result<Result<T, Refusal>, EngineFailure>;

/// The step that prepares all molecules.
pub(crate) fn prepare(driver: String) -> Step {
    Step { name: PREPARE_ROLE.to_owned(), argv: vec!["python3".to_owned(), driver], needs: Vec::new() }
}

/// The path of the preparation's driver.
pub(crate) fn driver(workload: &Workload<'_>) -> Result<String, EngineFailure> {
    let driver = workload.shared.get(PREPARE_ROLE).ok_or_else(|| EngineFailure {
        reason: failure::INPUT_MISSING,
        detail: format!("the run has no driver `{PREPARE_ROLE}`"),
    })?;
    Ok(driver.to_string_lossy().into_owned())
}

/// The command that prints the version of what that driver uses.
pub(crate) fn rdkit_version() -> Vec<String> {
    ["python3", "-c", "import rdkit; print(rdkit.__version__)"].map(str::to_owned).into()
}

/// What that driver reads.
pub(crate) fn task_file(workload: &Workload<'_>) -> (PathBuf, Vec<u8>) {
    let task = serde_json::json!({ "molecules": task_file::molecules(workload) });
    (PathBuf::from(task_file::NAME), task.to_string().into_bytes())
}

/// The columns of a row, with the engine's own in the middle.
pub(crate) fn columns<'a>(own: &[&'a str]) -> Vec<&'a str> {
    ["docked_smiles", "flags"].into_iter().chain(own.iter().copied()).chain(["seed", "detail"]).collect()
}

/// The step that docks a molecule.
pub(crate) fn dock_step(index: usize) -> String {
    format!("dock_{index:05}")
}

/// The prepared molecule.
pub(crate) fn ligand_sdf(index: usize) -> PathBuf {
    PathBuf::from(format!("ligands/{index:05}.sdf"))
}

/// An attempt's files and how its steps went.
pub(crate) struct Attempt<'a> {
    workload: &'a Workload<'a>,
    steps: HashMap<&'a str, &'a StepOutcome>,
}

impl<'a> Attempt<'a> {
    /// Of a workload and its steps.
    pub(crate) fn new(workload: &'a Workload<'a>, outcomes: &'a [StepOutcome]) -> Self {
        let steps = outcomes.iter().map(|outcome| (outcome.step.name.as_str(), outcome)).collect();
        Self { workload, steps }
    }

    /// Judges every molecule by what `docked` says of those that could be prepared. `own` is how many columns an engine has of its own.
    pub(crate) fn judge(
        &self,
        own: usize,
        docked: impl Fn(&Prepared) -> Tried<Scored>,
    ) -> Result<Vec<Judged>, EngineFailure> {
        let prepared = self.prepared()?;
        let judge = |(input, prepared): (&MoleculeInput, Result<Prepared, EngineFailure>)| {
            let prepared = prepared?;
            let judged = if prepared.ok {
                docked(&prepared)?.map_err(|refusal| (refusal.reason.name(), refusal.detail))
            } else {
                Err((prepared.reason.as_str(), prepared.detail.clone()))
            };
            Ok(row(input, &prepared, judged, own))
        };
        Ok(self.workload.molecules.iter().zip(prepared).map(judge).collect())
    }

    /// The driver's account of every molecule, or why it has none.
    fn prepared(&self) -> Result<Vec<Result<Prepared, EngineFailure>>, EngineFailure> {
        let positions: Vec<usize> = self.workload.molecules.iter().map(|input| input.index).collect();
        let ended = match self.ended(PREPARE_ROLE) {
            Err(failure) if failure.is_breakdown() => return self.begun(&positions, failure),
            ended => ended?,
        };
        let broken = |detail: String| EngineFailure {
            reason: failure::PREPARE_FAILED,
            detail: format!("{PREPARED_FILE}: {detail}; {}", evidence(ended)),
        };
        if ended.how != How::Exited(0) {
            return Err(broken("the driver did not end well".into()));
        }
        let text = left_file::read(self.workload.scratch, PREPARED_FILE.as_ref()).map_err(broken)?;
        let text = String::from_utf8_lossy(&text);
        let prepared = prepared::parse(&text, &positions).map_err(|error| broken(error.to_string()))?;
        Ok(prepared.into_iter().map(Ok).collect())
    }

    /// The account of a driver that broke down: it says which molecule it was at, and those behind that were not tried.
    fn begun(
        &self,
        positions: &[usize],
        breakdown: EngineFailure,
    ) -> Result<Vec<Result<Prepared, EngineFailure>>, EngineFailure> {
        let text = begun_account(self.workload.scratch);
        let prepared = prepared::parse_begun(&text, positions).map_err(|error| EngineFailure {
            reason: failure::PREPARE_FAILED,
            detail: format!("{PREPARED_FILE}: {error}; {breakdown}"),
        })?;
        let untried =
            EngineFailure { reason: failure::NOT_TRIED, detail: format!("not prepared, since {breakdown}") };
        let behind = std::iter::once(breakdown).chain(std::iter::repeat(untried));
        Ok(prepared.into_iter().map(Ok).chain(behind.map(Err)).take(positions.len()).collect())
    }

    /// How a step went that has to have been run.
    pub(crate) fn ended(&self, step: &str) -> Result<&Ended, EngineFailure> {
        let outcome = self.steps.get(step);
        if let Some(outcome) = outcome {
            ended_by_itself(outcome, self.workload)?;
        }
        let ended = outcome.and_then(|outcome| outcome.ended.as_ref());
        ended.ok_or_else(|| EngineFailure {
            reason: failure::OUTPUT_LOST,
            detail: format!("step `{step}` was not run, since a file that it needs is missing"),
        })
    }

    /// The text of a file that a step left.
    pub(crate) fn read(&self, path: &Path) -> Result<String, String> {
        let bytes = left_file::read(self.workload.scratch, path)?;
        // A molecule's name may be anything, the numbers are ASCII.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A step that ended well and whose output is not there.
    pub(crate) fn lost(&self, step: &str, ended: &Ended, detail: &str) -> EngineFailure {
        let step = subject(step, self.workload);
        EngineFailure {
            reason: failure::OUTPUT_LOST,
            detail: format!("{step}: {detail} (is the disk full?); {}", evidence(ended)),
        }
    }

    /// A step that ended with an error that is not about a molecule.
    pub(crate) fn failed(&self, step: &str, ended: &Ended) -> EngineFailure {
        let step = subject(step, self.workload);
        EngineFailure { reason: failure::ENGINE_FAILED, detail: format!("{step}: {}", evidence(ended)) }
    }
}

fn row(
    input: &MoleculeInput,
    prepared: &Prepared,
    judged: Result<Scored, (&str, String)>,
    own: usize,
) -> Row {
    let (verdict, reason, scored, detail) = match judged {
        Ok(scored) => (Verdict::Ok, "", scored, String::new()),
        Err((reason, detail)) => {
            let none = Scored { score: String::new(), columns: vec![String::new(); own] };
            (Verdict::Bad, reason, none, detail)
        }
    };
    let mut columns = vec![prepared.docked_smiles.clone(), prepared.flags.join(";")];
    columns.extend(scored.columns);
    columns.extend([input.seed.to_string(), detail]);
    Row {
        molecule_id: input.molecule.id.clone(),
        smiles: input.molecule.smiles().to_owned(),
        verdict,
        reason: reason.to_owned(),
        score: scored.score,
        columns,
    }
}

/// No step may have been ended from outside.
fn ended_by_itself(outcome: &StepOutcome, workload: &Workload<'_>) -> Result<(), EngineFailure> {
    let Some(ended) = &outcome.ended else { return Ok(()) };
    let reason = match ended.how {
        How::Exited(_) => return Ok(()),
        How::Signalled(_) => failure::ENGINE_CRASHED,
        How::TimeLimit => failure::TIME_LIMIT,
        How::Stopped => failure::STOPPED,
    };
    let step = subject(&outcome.step.name, workload);
    Err(EngineFailure { reason, detail: format!("{step}: {}", evidence(ended)) })
}

/// A step with its molecule: the one in its name, or for the preparation the first that has no line yet.
fn subject(step: &str, workload: &Workload<'_>) -> String {
    let input = if step == PREPARE_ROLE {
        workload.molecules.get(begun_account(workload.scratch).lines().count())
    } else {
        let index = step.rsplit('_').next().and_then(|index| index.parse().ok());
        workload.molecules.iter().find(|input| Some(input.index) == index)
    };
    match input {
        Some(input) => format!("step `{step}` of molecule `{}`", input.molecule.id),
        None => format!("step `{step}`"),
    }
}

/// The whole lines of the driver's account, which may have been cut off in the middle of one.
pub(crate) fn begun_account(scratch: &Path) -> String {
    let bytes = left_file::read(scratch, PREPARED_FILE.as_ref()).unwrap_or_default();
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    text
}

/// Whether a table of poses ends a program's output: a rank and as many numbers as `numbers`, at least.
pub(crate) fn prints_poses(stdout_tail: &str, numbers: usize) -> bool {
    let last = stdout_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut cells = last.split_whitespace();
    let ranked = cells.next().is_some_and(|rank| rank.parse::<u32>().is_ok());
    let cells: Vec<_> = cells.collect();
    ranked && cells.len() >= numbers && cells.iter().all(|cell| cell.parse::<f64>().is_ok())
}
