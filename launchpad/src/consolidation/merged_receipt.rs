//! The receipt of a table of several runs: that of each run, as if it stood alone, and what became of their molecules together.

use std::collections::BTreeMap;

use common::task::RunId;
use serde::Serialize;

use super::merge::Settled;
use super::receipt::Verdicts;
use super::{Enumeration, Receipt};
use crate::cli::Prefer;

/// The receipt of several runs.
#[derive(Debug, Serialize)]
pub(crate) struct MergedReceipt {
    /// The version of this format.
    pub(crate) format: u32,
    pub(crate) complete: bool,
    /// Of the table; absent when there is none.
    pub(crate) results_sha256: Option<String>,
    /// Of two rows that are both ok, or both not, the one of the first or last run stands.
    pub(crate) prefer: Prefer,
    /// Molecules of all runs, each counted once.
    pub(crate) molecules: u64,
    pub(crate) verdicts: Verdicts,
    /// How many molecules are bad for each reason.
    pub(crate) bad_reasons: BTreeMap<String, u64>,
    /// The structures of all formulae together, of runs that enumerate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enumeration: Option<Enumeration>,
    /// How many rows come from each run.
    pub(crate) rows: BTreeMap<RunId, u64>,
    /// Molecules that are ok in more than one run.
    pub(crate) ok_in_several: Vec<String>,
    /// Each run with its digests, in the order of the command line. The table's digest is above.
    pub(crate) runs: Vec<Receipt>,
}

impl MergedReceipt {
    /// The receipt of runs of which nothing was counted yet.
    pub(crate) fn new(prefer: Prefer) -> Self {
        Self {
            format: 1,
            complete: false,
            results_sha256: None,
            prefer,
            molecules: 0,
            verdicts: Verdicts::default(),
            bad_reasons: BTreeMap::new(),
            enumeration: None,
            rows: BTreeMap::new(),
            ok_in_several: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Counts a row of the table.
    pub(crate) fn count(&mut self, settled: &Settled) {
        let row = &settled.row;
        self.molecules += 1;
        match row.verdict {
            "ok" => self.verdicts.ok += 1,
            "dead" => self.verdicts.dead += 1,
            "cancelled" => self.verdicts.cancelled += 1,
            _ => {
                self.verdicts.bad += 1;
                *self.bad_reasons.entry(row.reason.clone()).or_default() += 1;
            }
        }
        if let Some(run) = &row.run {
            *self.rows.entry(run.clone()).or_default() += 1;
        }
        if settled.ok_in > 1 {
            self.ok_in_several.push(row.molecule_id.clone());
        }
    }

    /// The first run of which something is missing.
    pub(crate) fn incomplete(&self) -> Option<&Receipt> {
        self.runs.iter().find(|run| !run.complete)
    }

    /// Closes the count with the table's digest.
    pub(crate) fn close(&mut self, results_sha256: String) {
        (self.complete, self.results_sha256) = (true, Some(results_sha256));
    }

    /// Its bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        super::receipt::encode(self)
    }
}
