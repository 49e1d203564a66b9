//! From what an MM-GBSA task left behind to one row per molecule, or to the reason why it has none.
//!
//! A verdict comes from files alone: every program of this engine exits 0 in some case in which its numbers are worth nothing. How a step
//! ended, and what it printed, can only say that there is no verdict: a signal or a time limit must never become a molecule's reason.

use std::collections::HashMap;
use std::path::Path;

use common::digest::sha256_hex;
use common::task::{MmgbsaOptions, Row, Verdict};
use serde::Deserialize;

use super::command_verdict::is_reason;
use super::complex::Complex;
use super::ending::{breakdown, evidence};
use super::mmgbsa::{
    RECEPTOR_MADE, RECEPTOR_ROLE, RECEPTOR_STEP, Stage, done, of_molecule, stages, step_name,
};
use super::mmgbsa_energies::{DELTA_TERMS, Energies, TOTAL, Term};
use super::pose_check::CONTACT_ANGSTROM;
use super::reason::{ComplexReason, failure};
use super::{
    EngineFailure, Judged, MoleculeInput, StepOutcome, Workload, left_file, mdrun_log, mmgbsa_radii,
};
use crate::process::Ended;

/// More bond energy than this, per atom of the complex, has no molecule at 300 K: it has about 0.3 kcal/mol, and one cut in two by the
/// box, hundreds.
const BOND_PER_ATOM_MAX_KCAL_MOL: f64 = 5.0;
/// A smaller difference is none: the report has two digits.
const TOTAL_MIN_KCAL_MOL: f64 = 0.005;
/// Beyond these a difference tells of clashes or of a broken calculation, not of binding.
const TOTAL_RANGE_KCAL_MOL: std::ops::Range<f64> = -300.0..100.0;
/// How much farther from its pocket than at the beginning, in Å, a ligand may end. Bound ligands of picoseconds move by one or two.
const POCKET_SHIFT_MAX_ANGSTROM: f64 = 5.0;
/// How the word of a driver that refuses a molecule is called.
const REFUSED: &str = "refused.json";
/// What the driver tells of a ligand.
const LIGAND: &str = "ligand.json";
/// What gmx_MMPBSA was asked for.
const MODEL: &str = "mmgbsa.in";
/// The ligand's parameters.
const PARAMETERS: &str = "parameters.itp";

/// Judges every molecule of a task.
pub(crate) fn judge(
    options: &MmgbsaOptions,
    workload: &Workload<'_>,
    outcomes: &[StepOutcome],
) -> Result<Vec<Judged>, EngineFailure> {
    let steps = outcomes.iter().map(|outcome| (outcome.step.name.as_str(), outcome)).collect();
    let attempt = Attempt { options, workload, steps };
    attempt.receptor()?;
    Ok(workload.molecules.iter().map(|input| attempt.judged(input)).collect())
}

/// Why a molecule is bad, and the evidence in one sentence.
type Refusal = (String, String);

/// The driver's word on a molecule that it refuses.
#[derive(Deserialize)]
struct Refused {
    reason: String,
    #[serde(default)]
    detail: String,
}

/// What the driver tells of a ligand.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Ligand {
    smiles: String,
    charge: i64,
    flags: Vec<String>,
}

/// A complex that passed.
struct Measured {
    energies: Energies,
    contacts: usize,
    /// In Å.
    pocket_distance: f64,
}

/// An attempt's files and how its steps went.
struct Attempt<'a> {
    options: &'a MmgbsaOptions,
    workload: &'a Workload<'a>,
    steps: HashMap<&'a str, &'a StepOutcome>,
}

impl Attempt<'_> {
    /// Whether there is a receptor to work with.
    fn receptor(&self) -> Result<(), EngineFailure> {
        if !self.workload.shared.contains_key(RECEPTOR_ROLE) {
            let detail = format!("the run has no input `{RECEPTOR_ROLE}`");
            return Err(EngineFailure { reason: failure::INPUT_MISSING, detail });
        }
        let ended = self.ended(RECEPTOR_STEP)?;
        let said = breakdown(ended);
        if said.is_none() && self.is_there(RECEPTOR_MADE.as_ref()) {
            return Ok(());
        }
        let reason = match said {
            None | Some(failure::ENGINE_FAILED) => failure::RECEPTOR_INVALID,
            Some(reason) => reason,
        };
        let detail = format!("the receptor has no topology: {}", evidence(ended));
        Err(EngineFailure { reason, detail })
    }

    fn judged(&self, input: &MoleculeInput) -> Judged {
        let measured = match self.stopped_at(input)? {
            Some(refusal) => Err(refusal),
            None => self.measured(input).map_err(|(reason, detail)| (reason.name().to_owned(), detail)),
        };
        Ok(self.row(input, measured))
    }

    /// Why a molecule did not come to its end, if so. Outside the error: whether that is the molecule's fault.
    fn stopped_at(&self, input: &MoleculeInput) -> Result<Option<Refusal>, EngineFailure> {
        let done = done(self.options.solvent, |name| self.is_there(&of_molecule(input.index, name)));
        for (at, stage) in stages(self.options.solvent).enumerate() {
            let step = step_name(stage, input.index);
            let was_run = self.steps.get(step.as_str()).is_some_and(|outcome| outcome.ended.is_some());
            // By a former attempt, or somebody else. What it left may be used up.
            let was_done = at < done && !was_run;
            if !was_done {
                let ended = self.ended(&step)?;
                if let Some(reason) = breakdown(ended) {
                    let detail =
                        format!("step `{step}` of molecule `{}`: {}", input.molecule.id, evidence(ended));
                    return Err(EngineFailure { reason, detail });
                }
                if let Some(refusal) = self.refused(input)? {
                    return Ok(Some(refusal));
                }
            }
            let has_left = was_done || self.is_there(&of_molecule(input.index, stage.leaves));
            self.simulated(input, stage, has_left)?;
            if !has_left {
                let detail = format!("step `{}` ended well and left no `{}`", stage.name, stage.leaves);
                return Ok(Some((stage.reason.name().to_owned(), detail)));
            }
        }
        Ok(None)
    }

    /// Whether the simulation of a step, if it is one, had the same number of threads throughout, and came to its end.
    fn simulated(&self, input: &MoleculeInput, stage: Stage, has_left: bool) -> Result<(), EngineFailure> {
        let Some(log) = stage.log else { return Ok(()) };
        let (log, step) =
            (self.read(&of_molecule(input.index, log)).unwrap_or_default(), step_name(stage, input.index));
        mdrun_log::same_threads(&log, &step)?;
        if has_left || mdrun_log::has_ended(&log) {
            return Ok(());
        }
        Err(mdrun_log::cut_short(&log, &step, stage.leaves))
    }

    /// The driver's refusal, if there is one.
    fn refused(&self, input: &MoleculeInput) -> Result<Option<Refusal>, EngineFailure> {
        let path = of_molecule(input.index, REFUSED);
        if !self.is_there(&path) {
            return Ok(None);
        }
        let refused = serde_json::from_str::<Refused>(&self.read(&path).unwrap_or_default());
        match refused {
            Ok(Refused { reason, detail }) if is_reason(&reason) => Ok(Some((reason, detail))),
            _ => Err(EngineFailure {
                reason: failure::ENGINE_FAILED,
                detail: format!("`{}` gives no reason (expected a short_word)", path.display()),
            }),
        }
    }

    /// The energies, if they can be used. What is wrong with the geometry comes before what follows from it.
    fn measured(&self, input: &MoleculeInput) -> Result<Measured, (ComplexReason, String)> {
        let of = |name: &str| of_molecule(input.index, name);
        let start = self.complex(&of("complex.gro"))?;
        let pocket = start.pocket();
        if pocket.is_empty() {
            let detail = format!(
                "no heavy atom of the receptor within {CONTACT_ANGSTROM} Å of the pose that was given"
            );
            return Err((ComplexReason::NoContact, detail));
        }
        let energies = self
            .read(&of("energies.dat"))
            .and_then(|text| Energies::parse(&text).map_err(|error| error.to_string()));
        let energies = energies.map_err(|detail| (ComplexReason::EnergiesFailed, detail))?;
        let model = self.read(&of(MODEL)).map_err(|detail| (ComplexReason::RadiiMismatch, detail))?;
        if let Some(mismatch) = mmgbsa_radii::mismatch(&model) {
            return Err((ComplexReason::RadiiMismatch, format!("`{MODEL}`: {mismatch}")));
        }
        let total_kcal_mol = self.check(&energies, start.atoms)?;
        let last = self.complex(&of("last.gro"))?;
        if last.atoms != start.atoms {
            let detail = format!("the last frame has {} of {} atoms", last.atoms, start.atoms);
            return Err((ComplexReason::TrajectoryFailed, detail));
        }
        let (contacts, before) = (last.pocket().len(), start.distance_to(&pocket));
        let pocket_distance = last.distance_to(&pocket);
        if contacts == 0 || pocket_distance > before + POCKET_SHIFT_MAX_ANGSTROM {
            let detail = format!(
                "the ligand ends {pocket_distance:.1} Å from its pocket with {contacts} contacts (it began at {before:.1} Å)"
            );
            return Err((ComplexReason::LeftPocket, detail));
        }
        if !TOTAL_RANGE_KCAL_MOL.contains(&total_kcal_mol) {
            let detail = format!(
                "ΔG is {total_kcal_mol} kcal/mol (expected {} to {})",
                TOTAL_RANGE_KCAL_MOL.start, TOTAL_RANGE_KCAL_MOL.end
            );
            return Err((ComplexReason::EnergyOutOfRange, detail));
        }
        Ok(Measured { energies, contacts, pocket_distance })
    }

    /// Checks the numbers of a report and gives the total.
    fn check(&self, energies: &Energies, atoms: usize) -> Result<f64, (ComplexReason, String)> {
        let (frames, asked) = (energies.frames, self.options.frames);
        if frames != asked {
            let detail = format!("{frames} frames were evaluated (expected {asked})");
            return Err((ComplexReason::FramesMissing, detail));
        }
        for (_, name) in DELTA_TERMS {
            finite(&energies.delta, name)?;
        }
        let bond_kcal_mol = finite(&energies.complex, "BOND")?;
        let total_kcal_mol = finite(&energies.delta, TOTAL)?;
        let most = BOND_PER_ATOM_MAX_KCAL_MOL * atoms as f64;
        if bond_kcal_mol.abs() > most {
            let detail = format!(
                "the complex has {bond_kcal_mol} kcal/mol in its bonds (expected {most} at most for {atoms} atoms): is it whole?"
            );
            return Err((ComplexReason::ComplexBroken, detail));
        }
        if total_kcal_mol.abs() < TOTAL_MIN_KCAL_MOL {
            let detail = format!("ΔG is {total_kcal_mol:.2} kcal/mol: ligand and receptor are apart");
            return Err((ComplexReason::NoInteraction, detail));
        }
        Ok(total_kcal_mol)
    }

    fn complex(&self, path: &Path) -> Result<Complex, (ComplexReason, String)> {
        let parsed =
            self.read(path).and_then(|text| Complex::parse(&text).map_err(|error| error.to_string()));
        parsed.map_err(|detail| (ComplexReason::TrajectoryFailed, format!("{}: {detail}", path.display())))
    }

    fn row(&self, input: &MoleculeInput, measured: Result<Measured, Refusal>) -> Row {
        let ligand = self.read(&of_molecule(input.index, LIGAND)).unwrap_or_default();
        let is_told = !ligand.is_empty();
        let ligand: Ligand = serde_json::from_str(&ligand).unwrap_or_default();
        let none = String::new;
        let charge = if is_told { ligand.charge.to_string() } else { none() };
        let mut columns = vec![
            ligand.smiles,
            ligand.flags.join(";"),
            self.options.charges.name().to_owned(),
            charge,
            self.parameters_sha256(input),
            self.options.solvent.name().to_owned(),
            self.options.md_ps.to_string(),
            self.options.frames.to_string(),
        ];
        let (verdict, reason, score, detail) = match measured {
            Ok(measured) => {
                columns.extend(self.numbers(&measured));
                let total = measured.energies.delta.get(TOTAL).map_or_else(none, |term| term.average.clone());
                (Verdict::Ok, none(), total, none())
            }
            // A bad molecule has no numbers, so that none can be used by mistake.
            Err((reason, detail)) => {
                columns.extend(std::iter::repeat_n(none(), NUMBERS));
                (Verdict::Bad, reason, none(), detail)
            }
        };
        columns.extend([input.seed.to_string(), detail]);
        Row {
            molecule_id: input.molecule.id.clone(),
            smiles: input.molecule.smiles().to_owned(),
            verdict,
            reason,
            score,
            columns,
        }
    }

    /// Of the ligand's parameters; empty if it has none.
    fn parameters_sha256(&self, input: &MoleculeInput) -> String {
        let bytes = left_file::read(self.workload.scratch, &of_molecule(input.index, PARAMETERS));
        bytes.map(|bytes| sha256_hex(&bytes)).unwrap_or_default()
    }

    /// The cells of a complex that passed, [`NUMBERS`] of them. One frame has no spread.
    fn numbers(&self, measured: &Measured) -> Vec<String> {
        let Energies { delta, complex, .. } = &measured.energies;
        let cell = |terms: &HashMap<String, Term>, name: &str, of: fn(&Term) -> &String| {
            terms.get(name).map(of).cloned().unwrap_or_default()
        };
        let spread = |of| if self.options.frames > 1 { cell(delta, TOTAL, of) } else { String::new() };
        let mut cells = vec![spread(|term| &term.sd), spread(|term| &term.sem)];
        cells.extend(DELTA_TERMS.map(|(_, name)| cell(delta, name, |term| &term.average)));
        cells.push(cell(complex, "BOND", |term| &term.average));
        cells.extend([measured.contacts.to_string(), format!("{:.2}", measured.pocket_distance)]);
        cells
    }

    /// How a step went that has to have been run.
    fn ended(&self, step: &str) -> Result<&Ended, EngineFailure> {
        let outcome = self.steps.get(step);
        outcome.and_then(|outcome| outcome.ended.as_ref()).ok_or_else(|| EngineFailure {
            reason: if outcome.is_some() { failure::OUTPUT_LOST } else { failure::STOPPED },
            detail: format!("step `{step}` was not run"),
        })
    }

    fn is_there(&self, path: &Path) -> bool {
        left_file::is_own(self.workload.scratch, path)
            && std::fs::metadata(self.workload.scratch.join(path)).is_ok_and(|meta| meta.len() > 0)
    }

    fn read(&self, path: &Path) -> Result<String, String> {
        let bytes = left_file::read(self.workload.scratch, path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// How many columns have numbers of a complex: SD, SEM, the terms, the complex' bonds, contacts and distance.
const NUMBERS: usize = DELTA_TERMS.len() + 5;

/// A term's mean as a number.
fn finite(terms: &HashMap<String, Term>, name: &str) -> Result<f64, (ComplexReason, String)> {
    let found = terms.get(name).map_or("", |term| term.average.as_str());
    let number = found.parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| (ComplexReason::TermNotFinite, format!("the term {name} is `{found}`")))
}
