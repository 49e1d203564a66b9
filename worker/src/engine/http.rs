//! The engine `http`: a model server that takes molecules and gives rows as JSON.
//!
//! This file plans and judges, with the rules of `command_rows` and `command_verdict`: a row of a server is a row of a program. What talks
//! to the servers is in `server`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::task::{CommandOptions, HttpOptions, RunSpec};

use super::reason::failure;
use super::{
    Engine, EngineFailure, Judged, Plan, Preparation, StepOutcome, Workload, command_verdict, served,
    task_file,
};
use crate::server::{JOB, Protocol, Service, call_step};

/// The only step, which its logs are named after.
const STEP: &str = "http";

/// A model server.
#[derive(Debug, Clone)]
pub struct HttpEngine {
    options: HttpOptions,
    rows: CommandOptions,
}

impl HttpEngine {
    /// With a run's parameters.
    pub fn new(options: HttpOptions) -> Self {
        Self { rows: options.rows(), options }
    }
}

impl Engine for HttpEngine {
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        Vec::new()
    }

    fn server(&self) -> Option<Service<'_>> {
        Some(Service { protocol: Protocol::Http, health: &self.options.health })
    }

    /// Its programs are servers, and its call asks about each alone.
    fn keeps_apart(&self) -> bool {
        true
    }

    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let job = serde_json::json!({
            "options": self.options,
            "molecules": task_file::molecules(workload),
            "are_suspects": workload.is_suspect,
        });
        Plan {
            files: vec![(PathBuf::from(JOB), job.to_string().into_bytes())],
            steps: vec![call_step(STEP, Protocol::Http)],
            ..Plan::default()
        }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        let ended = outcomes.first().and_then(|outcome| outcome.ended.as_ref());
        let ended = ended.ok_or_else(|| EngineFailure {
            reason: failure::ENGINE_FAILED,
            detail: "no server was asked".to_owned(),
        })?;
        let judged = command_verdict::judge(&self.rows, workload, ended)?;
        Ok(served::of_servers(workload, judged))
    }

    fn keeps(&self, _: &Workload<'_>) -> Vec<PathBuf> {
        vec![PathBuf::from(&self.rows.rows)]
    }

    fn score_unit(&self) -> &str {
        self.rows.score_unit()
    }

    fn columns(&self) -> Vec<&str> {
        self.rows.columns.iter().map(|column| column.name.as_str()).chain(["detail"]).collect()
    }
}
