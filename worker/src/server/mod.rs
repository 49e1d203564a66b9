//! Engines whose program is a server in a container of its own. What talks to one is a program, too: this one, started by a step of the
//! engine as `call`. So a call has the time limit, the logs, the stop and the end of any step, and no answer can harm the worker.
//!
//! Nothing in here judges a molecule, and no address of a server becomes part of a run.

mod answer;
mod call;
mod endpoint;
mod geometry;
mod http;
mod http_call;
mod pool;
mod terachem;
mod terachem_call;
#[rustfmt::skip]
#[expect(missing_docs, clippy::doc_markdown, reason = "generated")]
pub mod terachem_proto;

pub(crate) use call::{Call, call};
pub use endpoint::{Endpoint, EndpointError};

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Step;
use http::HttpClient;
pub(crate) use pool::Trouble;

/// This program, from inside of it.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Its hidden command.
const CALL: &str = "call";
/// The file below the scratch folder that says what to ask.
pub(crate) const JOB: &str = "call.json";
/// The file below it with an [`Unanswered`] in JSON per line.
pub(crate) const UNANSWERED: &str = "unanswered.jsonl";
/// Where servers of HTTP say that they are well, unless a run knows another place.
pub(crate) const HEALTH_DEFAULT: &str = "/health";
/// How long a server may take to say that it is well.
const HEALTH_TIME_LIMIT: Duration = Duration::from_secs(5);

/// What is spoken with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// JSON over HTTP.
    Http,
    /// TeraChem's own, over TCP.
    Terachem,
}

impl Protocol {
    /// Its name on a command line.
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Terachem => "terachem",
        }
    }

    /// How URLs of its servers begin.
    pub(crate) const fn schemes(self) -> &'static str {
        match self {
            Self::Http => "http:// or https://",
            Self::Terachem => "terachem://",
        }
    }
}

/// A molecule without a row, and why a call has none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Unanswered {
    pub(crate) molecule_id: String,
    pub(crate) why: Why,
    /// What was seen, in one sentence.
    pub(crate) detail: String,
}

/// Why a call has no row of a molecule, where that says something of the molecule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Why {
    /// Servers that were well crashed over it several times in a row.
    Crashed,
    /// One did, over it alone or over several of which it is one, or stands still since, and none could be asked any more.
    Lost,
    /// There was no time left to ask about it.
    NotAsked,
}

/// What an engine needs to have servers of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service<'a> {
    /// What is spoken with them.
    pub protocol: Protocol,
    /// Where they say that they are well, if the protocol does not tell.
    pub health: &'a str,
}

/// The servers that a worker may use.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    /// Where they are.
    pub endpoints: Vec<Endpoint>,
    /// The file of the token that they want to see, read anew for each call.
    pub token_file: Option<PathBuf>,
}

impl Servers {
    /// Those that speak a protocol.
    pub(crate) fn speaking(&self, protocol: Protocol) -> Vec<Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.protocol() == protocol).cloned().collect()
    }

    /// Asks a server whether it is well; otherwise what is wrong with it.
    pub(crate) async fn check(&self, endpoint: &Endpoint, health: &str) -> Result<(), Trouble> {
        match endpoint.protocol() {
            Protocol::Http => {
                let client = HttpClient::new(self.token_file.as_deref()).map_err(Trouble::Unwell)?;
                client.check(endpoint, health).await
            }
            Protocol::Terachem => {
                let asked = tokio::time::timeout(HEALTH_TIME_LIMIT, terachem::check(endpoint)).await;
                asked.unwrap_or_else(|_| Err(Trouble::Away("no answer in time".to_owned())))
            }
        }
    }

    /// Whether any server of an engine is well; otherwise what is wrong with each. One that is busy is well.
    pub(crate) async fn any_is_well(&self, service: Service<'_>) -> Result<(), String> {
        let mut wrong = Vec::new();
        for endpoint in self.speaking(service.protocol) {
            match self.check(&endpoint, service.health).await {
                Ok(()) | Err(Trouble::Busy { .. }) => return Ok(()),
                Err(error) => wrong.push(format!("{endpoint}: {error}")),
            }
        }
        Err(wrong.join("; "))
    }
}

/// The step that has a server work on what [`JOB`] says.
pub(crate) fn call_step(name: &str, protocol: Protocol) -> Step {
    let argv = [OWN_PROGRAM, CALL, protocol.name(), JOB].map(str::to_owned).into();
    Step { name: name.to_owned(), argv, needs: Vec::new() }
}

/// Whether a step is a call, and so needs to know the servers.
pub(crate) fn is_call(argv: &[String]) -> bool {
    argv.iter().map(String::as_str).take(2).eq([OWN_PROGRAM, CALL])
}

/// The token of a file, without white space round it.
fn token(file: &Path) -> Result<String, String> {
    let read = std::fs::read_to_string(file);
    let token =
        read.map_err(|error| format!("the token file `{}` can't be read: {error}", file.display()))?;
    Ok(token.trim().to_owned())
}
