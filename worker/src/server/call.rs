//! The program `call`: asks servers about the molecules of [`JOB`](super::JOB), writes a row as soon as it has one, and says by its exit
//! code what to think of the molecules that have none, as every driver does: 75 that no server could be asked, 70 that their answers are
//! none.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use common::{env, exit_code};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::http_call::HttpCall;
use super::pool::{GaveUp, Patience, Pool};
use super::terachem_call::TerachemCall;
use super::{Endpoint, Protocol, Servers, UNANSWERED, Unanswered, Why};

/// Arguments of `call`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Call {
    /// What to speak
    protocol: Protocol,
    /// The file that says what to ask
    job: PathBuf,
    /// The servers
    #[arg(long = "endpoint", env = env::ENDPOINTS, value_delimiter = ',')]
    endpoints: Vec<Endpoint>,
    /// The file of their token
    #[arg(long, env = env::ENDPOINT_TOKEN_FILE)]
    endpoint_token_file: Option<PathBuf>,
    /// How long all of it may take
    #[arg(long, env = env::STEP_SECONDS_MAX, default_value_t = 3600)]
    step_seconds_max: u64,
}

/// Why a call came to no good end.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The servers.
    #[error(transparent)]
    Servers(#[from] GaveUp),
    /// A server neither answers nor is well shortly before the step's end.
    #[error("{0}")]
    Hangs(String),
    /// Half of the step is over.
    #[error("half of the step's time is over, the other molecules have another call")]
    HalfTime,
    /// This machine.
    #[error("{0}")]
    Local(String),
}

impl CallError {
    /// Whether a server was there for what was asked, so that others may be asked about.
    pub(super) const fn is_about_what_was_asked(&self) -> bool {
        matches!(self, Self::Servers(GaveUp::Nonsense { .. } | GaveUp::Crashed { .. }) | Self::HalfTime)
    }

    /// What it says of what was asked, if it does: that a server crashed, or stands still, over it.
    pub(super) const fn why(&self) -> Option<Why> {
        match self {
            Self::Servers(GaveUp::Crashed { .. }) => Some(Why::Crashed),
            Self::Servers(GaveUp::Lost { .. }) | Self::Hangs(_) => Some(Why::Lost),
            Self::Servers(GaveUp::Away { .. } | GaveUp::Nonsense { .. })
            | Self::HalfTime
            | Self::Local(_) => None,
        }
    }

    /// What to think of the molecules without a row.
    const fn exit_code(&self) -> u8 {
        if self.is_about_what_was_asked() { exit_code::SOFTWARE } else { exit_code::TRY_AGAIN }
    }
}

impl Call {
    /// Reads the job.
    pub(super) fn job<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        let text = fs::read_to_string(&self.job).map_err(|error| local("the job can't be read", &error))?;
        serde_json::from_str(&text).map_err(|error| local("the job is none", &error))
    }

    pub(super) fn token_file(&self) -> Option<&Path> {
        self.endpoint_token_file.as_deref()
    }

    /// How long all of it may take.
    pub(super) const fn step(&self) -> Duration {
        Duration::from_secs(self.step_seconds_max)
    }

    /// The servers that speak a protocol.
    pub(super) fn pool(&self, protocol: Protocol) -> Pool {
        let servers = Servers { endpoints: self.endpoints.clone(), token_file: None };
        Pool::new(servers.speaking(protocol), Patience::within(self.step()))
    }
}

/// Runs the program.
pub(crate) async fn call(call: Call) -> ExitCode {
    let done = match call.protocol {
        Protocol::Http => match HttpCall::begin(&call) {
            Ok(mut called) => called.run().await,
            Err(error) => Err(error),
        },
        Protocol::Terachem => match TerachemCall::begin(&call) {
            Ok(mut called) => called.run().await,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::from(exit_code::OK),
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

pub(super) fn local(what: &str, error: &dyn std::fmt::Display) -> CallError {
    CallError::Local(format!("{what}: {error}"))
}

/// A molecule as `task.json` has it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct JobMolecule {
    pub(super) index: usize,
    pub(super) id: String,
    pub(super) smiles: Option<String>,
    pub(super) structure: Option<PathBuf>,
    pub(super) seed: u32,
}

/// What a call found out of molecules: the file of rows, and that of why there are none.
#[derive(Debug)]
pub(super) struct Findings {
    rows: File,
    unanswered: File,
}

impl Findings {
    pub(super) fn create(rows: &str) -> Result<Self, CallError> {
        let create = |path| File::create(path).map_err(|error| local("no rows can be written", &error));
        Ok(Self { rows: create(rows)?, unanswered: create(UNANSWERED)? })
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &str) -> Result<(), CallError> {
        self.rows.write_all(lines.as_bytes()).map_err(|error| local("no row can be written", &error))
    }

    /// Writes down why there is no row of these molecules.
    pub(super) fn note<'a>(
        &mut self,
        why: Why,
        error: &CallError,
        molecules: impl IntoIterator<Item = &'a JobMolecule>,
    ) -> Result<(), CallError> {
        for molecule in molecules {
            let unanswered = Unanswered { molecule_id: molecule.id.clone(), why, detail: error.to_string() };
            let line = serde_json::to_string(&unanswered).expect("texts always become JSON");
            writeln!(self.unanswered, "{line}").map_err(|error| local("no reason can be told", &error))?;
        }
        Ok(())
    }

    /// Writes the row of a bad molecule.
    pub(super) fn refuse(&mut self, id: &str, reason: &str, detail: &str) -> Result<(), CallError> {
        let row = json!({ "molecule_id": id, "verdict": "bad", "reason": reason, "detail": detail });
        self.write(&format!("{row}\n"))
    }
}
