//! The receipt: what was counted, in bytes that are a function of the run alone: no dates, no hosts.
//!
//! It can be checked again offline: `sha256sum results.csv` is `results_sha256`, and the lines `<task_id> <shard_sha256>`, one for
//! each scored task in order, taken from those two columns of the table, have the digest `shards_sha256`.

use std::collections::BTreeMap;
use std::io::Write as _;

use common::digest::Sha256Writer;
use common::task::{RunId, RunSpec, State, TaskId, Verdict};
use serde::Serialize;

use super::Enumeration;
use super::walk::{Checked, Outcome};

/// A task without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Missing {
    pub(crate) task: TaskId,
    pub(crate) molecules: Vec<String>,
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

/// How many molecules came to what; they add up to all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdicts {
    pub(crate) ok: u64,
    pub(crate) bad: u64,
    pub(crate) dead: u64,
    pub(crate) cancelled: u64,
    pub(crate) missing: u64,
}

/// The receipt of a consolidation.
#[derive(Debug, Serialize)]
pub(crate) struct Receipt {
    /// The version of this format.
    pub(crate) format: u32,
    pub(crate) run: RunId,
    pub(crate) complete: bool,
    pub(crate) spec_sha256: String,
    pub(crate) manifest_sha256: String,
    /// Of the table; absent when there is none.
    pub(crate) results_sha256: Option<String>,
    /// Of the lines `<task_id> <shard_sha256>` of the scored tasks.
    pub(crate) shards_sha256: String,
    pub(crate) tasks: u64,
    pub(crate) molecules: u64,
    pub(crate) states: BTreeMap<&'static str, u64>,
    pub(crate) verdicts: Verdicts,
    /// How many molecules are bad for each reason.
    pub(crate) bad_reasons: BTreeMap<String, u64>,
    /// Totals, of a run that enumerates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enumeration: Option<Enumeration>,
    pub(crate) dead: Vec<Missing>,
    pub(crate) cancelled: Vec<Missing>,
    pub(crate) missing: Vec<Missing>,
    #[serde(skip)]
    shards: Sha256Writer,
}

impl Receipt {
    /// The receipt of a run of which nothing was counted yet.
    pub(crate) fn new(spec: &RunSpec, spec_sha256: &str) -> Self {
        Self {
            format: 1,
            run: spec.run.clone(),
            complete: false,
            spec_sha256: spec_sha256.to_owned(),
            manifest_sha256: spec.manifest.sha256.clone(),
            results_sha256: None,
            shards_sha256: String::new(),
            tasks: spec.manifest.tasks,
            molecules: spec.manifest.molecules,
            states: BTreeMap::new(),
            verdicts: Verdicts::default(),
            bad_reasons: BTreeMap::new(),
            enumeration: None,
            dead: Vec::new(),
            cancelled: Vec::new(),
            missing: Vec::new(),
            shards: Sha256Writer::default(),
        }
    }

    /// Counts a task.
    pub(crate) fn count(&mut self, checked: &Checked) {
        *self.states.entry(checked.state.name()).or_default() += 1;
        let molecules = checked.molecules.len() as u64;
        let named = |reason: &str, detail: &str| Missing {
            task: checked.task,
            molecules: checked.molecules.iter().map(|molecule| molecule.id.clone()).collect(),
            reason: reason.to_owned(),
            detail: detail.to_owned(),
        };
        match &checked.outcome {
            Outcome::Scored { shard, sha256 } => {
                for row in &shard.rows {
                    match row.verdict {
                        Verdict::Ok => self.verdicts.ok += 1,
                        Verdict::Bad => {
                            self.verdicts.bad += 1;
                            *self.bad_reasons.entry(row.reason.clone()).or_default() += 1;
                        }
                    }
                }
                writeln!(self.shards, "{} {sha256}", checked.task).expect("a digest takes every byte");
            }
            Outcome::Ended { reason } if checked.state == State::Cancelled => {
                self.verdicts.cancelled += molecules;
                self.cancelled.push(named(reason, ""));
            }
            Outcome::Ended { reason } => {
                self.verdicts.dead += molecules;
                self.dead.push(named(reason, ""));
            }
            Outcome::Missing(fault) => {
                self.verdicts.missing += molecules;
                self.missing.push(named(fault.reason, &fault.detail));
            }
        }
    }

    /// Closes the count: the run is complete if nothing is missing. The digest is that of the table that it has to itself.
    pub(crate) fn close(&mut self, results_sha256: Option<String>) {
        self.complete = self.missing.is_empty();
        self.results_sha256 = results_sha256;
        (self.shards_sha256, _) = self.shards.clone().finish();
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

/// A receipt as it is written.
pub(super) fn encode(receipt: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(receipt).expect("text and numbers always become JSON");
    bytes.push(b'\n');
    bytes
}
