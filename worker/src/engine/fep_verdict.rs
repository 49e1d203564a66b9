//! From what a window or a reduction left behind to the row of its molecule, or to the reason why it has none.
//!
//! A verdict comes from files alone: mdrun exits 1 after a clean checkpoint, and 0 when it was cut short without final coordinates. How
//! a step ended, and what it printed, can only say that there is no verdict.

use std::path::Path;

use common::digest::sha256_hex;
use common::task::{FepOptions, FepPart, Row, Shard, Verdict};
use serde::Deserialize;

use super::command_verdict::is_reason;
use super::ending::{breakdown, evidence};
use super::fep::{
    DHDL, DHDL_EVERY, ENERGY, ENERGY_EVERY, FINAL, LOG, REDUCTION, SETUP, STAGES, STEP_PS, Stage, of_window,
};
use super::fep_samples::{Expected, Samples, SamplesError};
use super::reason::{FepReason, failure};
use super::{EngineFailure, Judged, MoleculeInput, StepOutcome, Workload, left_file, mdrun_log};
use crate::process::Ended;

/// The engine's columns.
pub(crate) const COLUMNS: [&str; 16] = [
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

/// Neighbouring windows with less in common than this tell nothing of the difference between them: twice the 0.03 of an MBAR overlap
/// matrix (Klimovich, Shirts and Mobley 2015, doi:10.1007/s10822-015-9840-9).
const OVERLAP_MIN: f64 = 0.06;
/// Beyond these a difference tells of clashes or of a broken calculation, not of a neutral molecule in water.
const RANGE_KCAL_MOL: std::ops::Range<f64> = -100.0..50.0;
/// How the word of a driver that refuses a molecule is called.
const REFUSED: &str = "fep/refused.json";

/// Judges the molecule of a task.
pub(crate) fn judge(options: &FepOptions, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Vec<Judged> {
    let attempt = Attempt { options, workload, outcomes };
    workload.molecules.iter().map(|input| attempt.judged(input)).collect()
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

/// What the reduction found, in kcal/mol.
#[derive(Deserialize)]
struct Reduction {
    bar: f64,
    bar_error: f64,
    steps: Vec<f64>,
    overlaps: Vec<f64>,
    samples: u64,
    mbar: Option<f64>,
    mbar_error: Option<f64>,
}

/// A task's result.
enum Found {
    Window { samples: u64, setup_sha256: String },
    Reduction { reduction: Reduction, setup_sha256: String },
}

/// An attempt's files and how its steps went.
struct Attempt<'a> {
    options: &'a FepOptions,
    workload: &'a Workload<'a>,
    outcomes: &'a [StepOutcome],
}

fn bad(reason: FepReason, detail: impl Into<String>) -> Refusal {
    (reason.name().to_owned(), detail.into())
}

impl Attempt<'_> {
    fn judged(&self, input: &MoleculeInput) -> Judged {
        let found = match self.options.part(self.workload.task) {
            FepPart::Window(number) => self.window(number),
            FepPart::Reduction => self.reduction(),
        };
        Ok(self.row(input, found?))
    }

    /// The result of a window. Outside the refusal: what is not the molecule's fault.
    fn window(&self, number: usize) -> Result<Result<Found, Refusal>, EngineFailure> {
        let has_setup = self.is_there(SETUP.as_ref());
        for stage in STAGES.iter().filter(|stage| self.outcome(stage.name).is_some()) {
            if let Some(refusal) = self.step(stage.name)? {
                return Ok(Err(refusal));
            }
            // Another task may have been the first to make it.
            if !has_setup && !self.is_there(stage.leaves.as_ref()) {
                self.simulated(stage)?;
                let detail = format!("step `{}` ended well and left no `{}`", stage.name, stage.leaves);
                return Ok(Err(bad(stage.reason, detail)));
            }
        }
        if let Some(refusal) = self.step("window")? {
            return Ok(Err(refusal));
        }
        self.uncut()?;
        if let Some(refusal) = self.step("energies")? {
            return Ok(Err(refusal));
        }
        Ok(self.samples(number))
    }

    /// Whether the simulation of a step without its output, if it is one, came to its end all the same.
    fn simulated(&self, stage: &Stage) -> Result<(), EngineFailure> {
        let Some(log) = stage.log else { return Ok(()) };
        let log = self.read(log.as_ref()).unwrap_or_default();
        if mdrun_log::has_ended(&log) {
            return Ok(());
        }
        Err(mdrun_log::cut_short(&log, stage.name, stage.leaves))
    }

    /// Whether mdrun came to its end, with the same number of threads throughout.
    fn uncut(&self) -> Result<(), EngineFailure> {
        let log = self.read(LOG.as_ref()).unwrap_or_default();
        mdrun_log::same_threads(&log, "window")?;
        if self.is_there(FINAL.as_ref()) { Ok(()) } else { Err(mdrun_log::cut_short(&log, "window", FINAL)) }
    }

    fn samples(&self, number: usize) -> Result<Found, Refusal> {
        let steps = self.options.window_steps();
        let named = |file: &str, error: SamplesError| {
            let reason = match error {
                SamplesError::NotFinite { .. } => FepReason::SampleNotFinite,
                SamplesError::Shape { .. } => FepReason::SamplesMissing,
            };
            bad(reason, format!("`{file}`: {error}"))
        };
        let read = |file: &str, reason| {
            let text = self.read(file.as_ref()).map_err(|error| bad(reason, format!("`{file}`: {error}")))?;
            Samples::parse(&text).map_err(|error| named(file, error))
        };
        let expect = |every: u64, columns| Expected {
            rows: steps / every + 1,
            columns,
            every_ps: every as f64 * STEP_PS,
        };
        let energies = read(ENERGY, FepReason::EnergiesFailed)?;
        energies.check(expect(ENERGY_EVERY, 2)).map_err(|error| named(ENERGY, error))?;
        let samples = read(DHDL, FepReason::SamplesMissing)?;
        // Time, the derivatives along both λ, and a difference to each window.
        let expected = expect(DHDL_EVERY, 3 + self.options.windows());
        samples.check(expected).map_err(|error| named(DHDL, error))?;
        if samples.window != Some(number) {
            let of = samples.window.map_or("none".to_owned(), |window| window.to_string());
            return Err(bad(
                FepReason::WrongWindow,
                format!("`{DHDL}` is of window {of} (expected {number})"),
            ));
        }
        let setup = left_file::read(self.workload.scratch, SETUP.as_ref());
        let setup = setup.map_err(|error| bad(FepReason::SetupsDiffer, format!("`{SETUP}`: {error}")))?;
        Ok(Found::Window { samples: expected.rows, setup_sha256: sha256_hex(&setup) })
    }

    fn reduction(&self) -> Result<Result<Found, Refusal>, EngineFailure> {
        let setup_sha256 = match self.windows()? {
            Ok(setup_sha256) => setup_sha256,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(refusal) = self.step("reduce")? {
            return Ok(Err(refusal));
        }
        Ok(self.reduced().map(|reduction| Found::Reduction { reduction, setup_sha256 }))
    }

    /// The set-up that all windows started from, if each of them is ok. A window that was refused speaks for its molecule.
    fn windows(&self) -> Result<Result<String, Refusal>, EngineFailure> {
        let mut setups = Vec::new();
        for number in 0..self.options.windows() {
            let path = of_window(number, "shard.csv");
            let shard = self
                .read(&path)
                .and_then(|text| Shard::parse(text.as_bytes()).map_err(|error| error.to_string()));
            let shard = shard.map_err(|error| EngineFailure {
                reason: failure::INPUT_MISSING,
                detail: format!("the result of window {number} can't be used: {error}"),
            })?;
            let cell = |row: &Row, name: &str| {
                let place = COLUMNS.iter().position(|column| *column == name);
                place.and_then(|place| row.columns.get(place)).cloned().unwrap_or_default()
            };
            let Some(row) = shard.rows.first() else { continue };
            if row.verdict == Verdict::Bad {
                let detail = format!("window {number}: {}", cell(row, "detail"));
                return Ok(Err((row.reason.clone(), detail)));
            }
            setups.push(cell(row, "setup_sha256"));
        }
        setups.sort();
        setups.dedup();
        match &setups[..] {
            [setup] => Ok(Ok(setup.clone())),
            several => {
                let detail = format!("the windows started from {} set-ups", several.len());
                Ok(Err(bad(FepReason::SetupsDiffer, detail)))
            }
        }
    }

    fn reduced(&self) -> Result<Reduction, Refusal> {
        let text = self.read(REDUCTION.as_ref());
        let text =
            text.map_err(|error| bad(FepReason::ReductionFailed, format!("`{REDUCTION}`: {error}")))?;
        // What is no number is no JSON either.
        let reduction: Reduction = serde_json::from_str(&text)
            .map_err(|error| bad(FepReason::ResultNotFinite, format!("`{REDUCTION}`: {error}")))?;
        let pairs = self.options.windows() - 1;
        if reduction.overlaps.len() != pairs || reduction.steps.len() != pairs {
            let detail = format!("{} pairs of windows (expected {pairs})", reduction.overlaps.len());
            return Err(bad(FepReason::ReductionFailed, detail));
        }
        let least = reduction.overlaps.iter().zip(0..).min_by(|a, b| a.0.total_cmp(b.0));
        if let Some((overlap, pair)) = least.filter(|(overlap, _)| **overlap < OVERLAP_MIN) {
            let detail = format!(
                "windows {pair} and {} have {overlap:.3} in common (expected {OVERLAP_MIN} or more): put one between them",
                pair + 1
            );
            return Err(bad(FepReason::OverlapTooSmall, detail));
        }
        if !RANGE_KCAL_MOL.contains(&reduction.bar) {
            let (found, range) = (reduction.bar, RANGE_KCAL_MOL);
            let detail = format!("ΔG is {found:.3} kcal/mol (expected {} to {})", range.start, range.end);
            return Err(bad(FepReason::EnergyOutOfRange, detail));
        }
        Ok(reduction)
    }

    fn row(&self, input: &MoleculeInput, found: Result<Found, Refusal>) -> Row {
        let FepOptions { lambdas_coulomb, lambdas_vdw, window_ps, charges, .. } = self.options;
        let part = self.options.part(self.workload.task);
        let of_window = |of: &dyn Fn(usize) -> String| part.window().map_or_else(String::new, of);
        let mut columns = vec![
            part.name().to_owned(),
            of_window(&|number| number.to_string()),
            of_window(&|number| lambdas_coulomb[number].to_string()),
            of_window(&|number| lambdas_vdw[number].to_string()),
            self.options.windows().to_string(),
            window_ps.to_string(),
            charges.name().to_owned(),
        ];
        let three = |number: f64| format!("{number:.3}");
        let none = String::new;
        let (mut score, mut reason, mut detail) = (none(), none(), none());
        match found {
            Ok(Found::Window { samples, setup_sha256 }) => {
                columns.extend([setup_sha256, samples.to_string(), none(), none(), none(), none(), none()]);
            }
            Ok(Found::Reduction { reduction, setup_sha256 }) => {
                score = three(reduction.bar);
                let least = reduction.overlaps.iter().copied().fold(f64::INFINITY, f64::min);
                let steps: Vec<String> = reduction.steps.iter().copied().map(three).collect();
                columns.extend([
                    setup_sha256,
                    reduction.samples.to_string(),
                    three(reduction.bar_error),
                    reduction.mbar.map_or_else(none, three),
                    reduction.mbar_error.map_or_else(none, three),
                    three(least),
                    steps.join(" "),
                ]);
            }
            // What is bad has no numbers, so that none can be used by mistake.
            Err(refusal) => {
                columns.extend(std::iter::repeat_n(none(), NUMBERS));
                (reason, detail) = refusal;
            }
        }
        columns.extend([input.seed.to_string(), detail]);
        Row {
            molecule_id: input.molecule.id.clone(),
            smiles: input.molecule.smiles().to_owned(),
            verdict: if reason.is_empty() { Verdict::Ok } else { Verdict::Bad },
            reason,
            score,
            columns,
        }
    }

    fn outcome(&self, step: &str) -> Option<&StepOutcome> {
        self.outcomes.iter().find(|outcome| outcome.step.name == step)
    }

    /// How a step went that has to have been run: the driver's refusal, if there is one. What broke it down is no verdict.
    fn step(&self, step: &str) -> Result<Option<Refusal>, EngineFailure> {
        let ended = self.ended(step)?;
        if let Some(reason) = breakdown(ended) {
            return Err(EngineFailure { reason, detail: format!("step `{step}`: {}", evidence(ended)) });
        }
        if !self.is_there(REFUSED.as_ref()) {
            return Ok(None);
        }
        let refused = serde_json::from_str::<Refused>(&self.read(REFUSED.as_ref()).unwrap_or_default());
        match refused {
            Ok(Refused { reason, detail }) if is_reason(&reason) => Ok(Some((reason, detail))),
            _ => Err(EngineFailure {
                reason: failure::ENGINE_FAILED,
                detail: format!("`{REFUSED}` gives no reason (expected a short_word)"),
            }),
        }
    }

    fn ended(&self, step: &str) -> Result<&Ended, EngineFailure> {
        let outcome = self.outcome(step);
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

/// How many columns a bad row leaves empty: from `setup_sha256` to `steps`.
const NUMBERS: usize = 7;
