//! From what a docking task left behind to one row per molecule, or to the reason why the attempt as a whole is void.
//!
//! A verdict comes from files alone. How a program ended, and what it printed, can only void an attempt: a signal, a time
//! limit, a full disk or a broken receptor must never become a molecule's reason.

use std::collections::HashMap;
use std::path::Path;

use common::task::{Row, Verdict, VinaOptions};

use super::pdbqt;
use super::pose_check::{self, Docked};
use super::prepared::{self, Prepared};
use super::reason::{Reason, Refusal, failure};
use super::receptor::Receptor;
use super::vina::{PREPARE_ROLE, PREPARED_FILE, convert_step, dock_step, ligand_pdbqt, poses_pdbqt};
use super::{EngineFailure, MoleculeInput, StepOutcome, Workload};
use crate::process::{Ended, How};

/// Vina's words when a line of its input is wrong; the line follows after [`QUOTE`].
const PARSING_ERROR: &str = "PDBQT parsing error";
/// What stands before a quoted line of input.
const QUOTE: &str = "> ";

/// Judges every molecule of a task.
pub(crate) fn judge(
    options: &VinaOptions,
    workload: &Workload<'_>,
    receptor: &Receptor,
    outcomes: &[StepOutcome],
) -> Result<Vec<Row>, EngineFailure> {
    for outcome in outcomes {
        ended_by_itself(outcome, workload)?;
    }
    let attempt = Attempt {
        options,
        workload,
        receptor,
        steps: outcomes.iter().map(|outcome| (outcome.step.name.as_str(), outcome)).collect(),
    };
    let prepared = attempt.prepared()?;
    workload.molecules.iter().zip(&prepared).map(|(input, prepared)| attempt.row(input, prepared)).collect()
}

/// Everything that a verdict may look at.
struct Attempt<'a> {
    options: &'a VinaOptions,
    workload: &'a Workload<'a>,
    receptor: &'a Receptor,
    steps: HashMap<&'a str, &'a StepOutcome>,
}

/// A score, or the reason why there is none.
type Verdicted = Result<Docked, Refusal>;

impl Attempt<'_> {
    fn prepared(&self) -> Result<Vec<Prepared>, EngineFailure> {
        let ended = self.ended(PREPARE_ROLE)?;
        let broken = |detail: String| EngineFailure {
            reason: failure::PREPARE_FAILED,
            detail: format!("{PREPARED_FILE}: {detail}; {}", evidence(ended)),
        };
        if ended.how != How::Exited(0) {
            return Err(broken("the driver did not end well".into()));
        }
        let text = std::fs::read_to_string(self.workload.scratch.join(PREPARED_FILE))
            .map_err(|error| broken(error.to_string()))?;
        prepared::parse(&text, self.workload.molecules.len()).map_err(|error| broken(error.to_string()))
    }

    fn row(&self, input: &MoleculeInput, prepared: &Prepared) -> Result<Row, EngineFailure> {
        let flags = prepared.flags.join(";");
        let row = |verdict, reason: &str, score: String, own: [String; 3]| {
            let [modes, contacts, detail] = own;
            Row {
                molecule_id: input.molecule.id.clone(),
                smiles: input.molecule.smiles().to_owned(),
                verdict,
                reason: reason.to_owned(),
                score,
                columns: vec![
                    prepared.docked_smiles.clone(),
                    flags.clone(),
                    modes,
                    contacts,
                    input.seed.to_string(),
                    detail,
                ],
            }
        };
        let bad = |reason: &str, detail: String| {
            row(Verdict::Bad, reason, String::new(), [String::new(), String::new(), detail])
        };
        if !prepared.ok {
            return Ok(bad(&prepared.reason, prepared.detail.clone()));
        }
        Ok(match self.docked(prepared)? {
            Err(Refusal { reason, detail }) => bad(reason.name(), detail),
            Ok(Docked { score, modes, contacts }) => {
                row(Verdict::Ok, "", score, [modes.to_string(), contacts.to_string(), String::new()])
            }
        })
    }

    fn docked(&self, prepared: &Prepared) -> Result<Verdicted, EngineFailure> {
        let ligand = match self.converted(prepared)? {
            Ok(ligand) => ligand,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let step = dock_step(prepared.index);
        let ended = self.ended(&step)?;
        if ended.how != How::Exited(0) {
            return self.rejected(&step, ended, &ligand).map(Err);
        }
        let lost = |detail: &str| self.lost(&step, ended, detail);
        let text = self.read(&poses_pdbqt(prepared.index)).map_err(|detail| lost(&detail))?;
        let poses = pdbqt::poses(&text).map_err(|error| lost(&error.to_string()))?;
        if poses.count == 0 && prints_modes(&ended.stdout_tail) {
            return Err(lost("Vina printed poses and its output has none"));
        }
        Ok(pose_check::check(poses, prepared.heavy_atoms, &self.receptor.heavy_atoms, self.options))
    }

    /// The ligand's PDBQT, if Open Babel made one of all its heavy atoms. It exits 0 in any case.
    fn converted(&self, prepared: &Prepared) -> Result<Result<String, Refusal>, EngineFailure> {
        let step = convert_step(prepared.index);
        let ended = self.ended(&step)?;
        let lost = |detail: &str| self.lost(&step, ended, detail);
        if ended.how != How::Exited(0) {
            return Err(self.failed(&step, ended));
        }
        let text = self.read(&ligand_pdbqt(prepared.index)).map_err(|detail| lost(&detail))?;
        let atoms = pdbqt::heavy_atoms(&text).map_or(0, |atoms| atoms.len());
        if atoms == prepared.heavy_atoms && atoms > 0 {
            return Ok(Ok(text));
        }
        let converted =
            [&ended.stdout_tail, &ended.stderr_tail].iter().any(|tail| tail.contains("1 molecule converted"));
        if atoms == 0 && converted {
            return Err(lost("Open Babel converted the ligand and its output is empty"));
        }
        let detail = format!("the PDBQT has {atoms} heavy atoms (expected {})", prepared.heavy_atoms);
        Ok(Err(Refusal { reason: Reason::LigandConversionFailed, detail }))
    }

    /// Vina ended with an error: a refusal of the ligand only if it quotes the ligand's own line.
    fn rejected(&self, step: &str, ended: &Ended, ligand: &str) -> Result<Refusal, EngineFailure> {
        let complaint = [&ended.stderr_tail, &ended.stdout_tail]
            .into_iter()
            .find_map(|tail| tail.split_once(PARSING_ERROR))
            .map(|(_, complaint)| complaint);
        let Some(complaint) = complaint else {
            return Err(self.failed(step, ended));
        };
        let detail = complaint.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ");
        let quoted =
            complaint.lines().find_map(|line| Some(line.trim_start().strip_prefix(QUOTE)?.trim_end()));
        let in_ligand = quoted.is_some_and(|quoted| ligand.lines().any(|line| line.trim_end() == quoted));
        if in_ligand {
            return Ok(Refusal { reason: Reason::EngineRejected, detail });
        }
        Err(EngineFailure {
            reason: failure::RECEPTOR_INVALID,
            detail: format!("Vina refuses the receptor: {detail}"),
        })
    }

    fn ended(&self, step: &str) -> Result<&Ended, EngineFailure> {
        let ended = self.steps.get(step).and_then(|outcome| outcome.ended.as_ref());
        ended.ok_or_else(|| EngineFailure {
            reason: failure::OUTPUT_LOST,
            detail: format!("step `{step}` was not run, since a file that it needs is missing"),
        })
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        let bytes = std::fs::read(self.workload.scratch.join(path));
        // A molecule's name may be anything, the numbers are ASCII.
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|error| error.to_string())
    }

    fn lost(&self, step: &str, ended: &Ended, detail: &str) -> EngineFailure {
        let step = subject(step, self.workload);
        EngineFailure {
            reason: failure::OUTPUT_LOST,
            detail: format!("{step}: {detail} (is the disk full?); {}", evidence(ended)),
        }
    }

    fn failed(&self, step: &str, ended: &Ended) -> EngineFailure {
        let step = subject(step, self.workload);
        EngineFailure { reason: failure::ENGINE_FAILED, detail: format!("{step}: {}", evidence(ended)) }
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
    let index = if step == PREPARE_ROLE {
        let text = std::fs::read_to_string(workload.scratch.join(PREPARED_FILE)).unwrap_or_default();
        Some(text.matches('\n').count())
    } else {
        step.rsplit('_').next().and_then(|index| index.parse().ok())
    };
    match index.and_then(|index| workload.molecules.get(index)) {
        Some(input) => format!("step `{step}` of molecule `{}`", input.molecule.id),
        None => format!("step `{step}`"),
    }
}

/// How a program ended and the last thing that it said.
fn evidence(ended: &Ended) -> String {
    let how = match ended.how {
        How::Exited(code) => format!("exit {code}"),
        How::Signalled(signal) => format!("signal {signal}"),
        How::TimeLimit => "time limit".to_owned(),
        How::Stopped => "stopped".to_owned(),
    };
    let last = ended.stderr_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("{how} after {} ms, last words `{}`", ended.elapsed_ms, last.trim())
}

/// Whether Vina's table of modes ends its output: rank, affinity and two distances.
fn prints_modes(stdout_tail: &str) -> bool {
    let last = stdout_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let cells: Vec<_> = last.split_whitespace().collect();
    cells.len() == 4 && cells[0].parse::<u32>().is_ok()
}
