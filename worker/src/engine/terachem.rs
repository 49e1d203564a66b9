//! The engine `terachem`: SMILES or 3D SDF records → RDKit → single-point energies by a TeraChem server (Seritan et al. 2021,
//! doi:10.1002/wcms.1494).
//!
//! This file plans and judges, with the rules of `command_rows` and `command_verdict`. What talks to the servers is in `server`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{CommandOptions, RunSpec, TerachemOptions};

use super::docking::{self, PREPARE_ROLE, PREPARED_FILE, ligand_sdf};
use super::prepared::{self, Prepared, PreparedError};
use super::reason::failure;
use super::{
    Engine, EngineFailure, Judged, Plan, Preparation, StepOutcome, Workload, command_verdict, ending,
    left_file, task_file,
};
use crate::process::Ended;
use crate::server::{JOB, Protocol, Service, call_step};

/// The step that asks servers, which its logs are named after.
const STEP: &str = "terachem";

/// Energies from a TeraChem server.
#[derive(Debug, Clone)]
pub struct Terachem {
    options: TerachemOptions,
    rows: CommandOptions,
}

impl Terachem {
    /// With a run's parameters.
    pub fn new(options: TerachemOptions) -> Self {
        Self { rows: options.rows(), options }
    }
}

impl Engine for Terachem {
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        vec![("rdkit", docking::rdkit_version())]
    }

    fn server(&self) -> Option<Service<'_>> {
        Some(Service { protocol: Protocol::Terachem, health: "" })
    }

    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    /// One step prepares all molecules, as for docking, the other asks about them. Without a driver there is nothing to run, and the
    /// judge says why.
    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let Ok(driver) = docking::driver(workload) else { return Plan::default() };
        let job = serde_json::json!({ "options": self.options, "molecules": task_file::molecules(workload) });
        let mut call = call_step(STEP, Protocol::Terachem);
        call.needs.push(PathBuf::from(PREPARED_FILE));
        Plan {
            files: vec![docking::task_file(workload), (PathBuf::from(JOB), job.to_string().into_bytes())],
            steps: vec![docking::prepare(driver), call],
            ..Plan::default()
        }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        docking::driver(workload)?;
        let ended = |step: &str| {
            let outcome = outcomes.iter().find(|outcome| outcome.step.name == step);
            outcome.and_then(|outcome| outcome.ended.as_ref())
        };
        let prepare = ended(PREPARE_ROLE).ok_or_else(|| EngineFailure {
            reason: failure::PREPARE_FAILED,
            detail: "no molecule was prepared".to_owned(),
        })?;
        let is_prepared = ending::breakdown(prepare).is_none();
        if is_prepared {
            check_account(workload, prepare)?;
        }
        let call = ended(STEP).unwrap_or(prepare);
        // A server that is away leaves more molecules without a row than a preparation that broke off.
        let last = if is_prepared || ending::breakdown(call).is_some() { call } else { prepare };
        let judged = command_verdict::judge(&self.rows, workload, last)?;
        Ok(judged.into_iter().map(|one| one.map_err(EngineFailure::of_a_server)).collect())
    }

    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf> {
        let geometries = workload.molecules.iter().map(|input| ligand_sdf(input.index));
        [PREPARED_FILE, self.rows.rows.as_str()].into_iter().map(PathBuf::from).chain(geometries).collect()
    }

    fn score_unit(&self) -> &str {
        self.rows.score_unit()
    }

    fn columns(&self) -> Vec<&str> {
        self.rows.columns.iter().map(|column| column.name.as_str()).chain(["detail"]).collect()
    }
}

/// A preparation that ended well has a word on every molecule; otherwise those that it left out would be blamed for having no row.
fn check_account(workload: &Workload<'_>, ended: &Ended) -> Result<(), EngineFailure> {
    let positions: Vec<usize> = workload.molecules.iter().map(|input| input.index).collect();
    let read = left_file::read(workload.scratch, PREPARED_FILE.as_ref());
    let checked = read.and_then(|bytes| {
        prepared::parse(&String::from_utf8_lossy(&bytes), &positions).map_err(|error| error.to_string())
    });
    checked.map(drop).map_err(|detail| EngineFailure {
        reason: failure::PREPARE_FAILED,
        detail: format!("{PREPARED_FILE}: {detail}; {}", ending::evidence(ended)),
    })
}

/// What the preparation says of the molecules that it came to.
pub(crate) fn begun_account(scratch: &Path, positions: &[usize]) -> Result<Vec<Prepared>, PreparedError> {
    prepared::parse_begun(&docking::begun_account(scratch), positions)
}
