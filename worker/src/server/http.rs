//! One request to a model server, and what its status, its silence or its end means.

use std::path::Path;
use std::time::Duration;

use common::excerpt::excerpt_to;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};

use super::pool::{Health, Trouble};
use super::{Endpoint, HEALTH_TIME_LIMIT, token};

/// How long a connection may take to be made.
const CONNECT_TIME_LIMIT: Duration = Duration::from_secs(5);
/// How often a silent connection is probed: a machine that vanished says nothing.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// More than any answer; what is longer is none.
const ANSWER_BYTES_MAX: usize = 64 << 20; // 64 MiB
/// How much of what a server says goes into a table, in characters.
const DETAIL_CHARACTERS_MAX: usize = 200;

/// What a server made of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The text of its answer.
    Answer(String),
    /// It says that what was asked can't be computed, and why.
    Refused(String),
}

/// A client of model servers.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: Client,
}

/// The servers of one engine.
#[derive(Debug)]
pub(crate) struct HttpServers<'a> {
    pub(crate) client: &'a HttpClient,
    /// Where they say that they are well.
    pub(crate) health: &'a str,
}

impl Health for HttpServers<'_> {
    async fn check(&self, endpoint: &Endpoint) -> Result<(), Trouble> {
        self.client.check(endpoint, self.health).await
    }
}

impl HttpClient {
    /// With the token of a file, if there is one.
    pub(crate) fn new(token_file: Option<&Path>) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        if let Some(file) = token_file {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token(file)?));
            let mut bearer =
                bearer.map_err(|_| format!("the token of `{}` is no printable ASCII", file.display()))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIME_LIMIT)
            .tcp_keepalive(KEEPALIVE)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build();
        Ok(Self { client: client.map_err(|error| format!("no HTTP client can be made: {}", chain(&error)))? })
    }

    /// Whether a server is well.
    pub(crate) async fn check(&self, endpoint: &Endpoint, health: &str) -> Result<(), Trouble> {
        let request = self.client.get(endpoint.below(health)).timeout(HEALTH_TIME_LIMIT);
        let response = request.send().await.map_err(|error| Trouble::Away(chain(&error.without_url())))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(busy(response).await),
            status => Err(Trouble::Unwell(format!("its health check at {health} answers {status}"))),
        }
    }

    /// Posts JSON to a server.
    pub(crate) async fn post(&self, endpoint: &Endpoint, path: &str, json: String) -> Result<Reply, Trouble> {
        let request =
            self.client.post(endpoint.below(path)).header(CONTENT_TYPE, "application/json").body(json);
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        match status {
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                let said = said(response).await?;
                Ok(Reply::Refused(format!("{status}: {}", excerpt_to(&said, DETAIL_CHARACTERS_MAX))))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(busy(response).await),
            // A proxy's words for a server behind it.
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                Err(Trouble::Crashed(status.to_string()))
            }
            _ if status.is_success() => Ok(Reply::Answer(said(response).await?)),
            _ if status.is_server_error() => {
                let said = said(response).await?;
                Err(Trouble::Nonsense(format!("{status}: {}", excerpt_to(&said, DETAIL_CHARACTERS_MAX))))
            }
            // A redirection, a missing path, a missing right: another server than the run's, and no molecule's fault.
            _ => Err(Trouble::Unwell(format!("{path} answers {status}"))),
        }
    }
}

/// What it means that a request got no answer: only over a connection was the server at it.
fn unanswered(error: reqwest::Error) -> Trouble {
    let trouble = if error.is_connect() { Trouble::Away } else { Trouble::Crashed };
    trouble(chain(&error.without_url()))
}

/// The body of a response, whole.
async fn said(mut response: Response) -> Result<String, Trouble> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Trouble::Crashed(format!("its answer broke off: {}", chain(&error.without_url()))))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(Trouble::Nonsense(format!("more than {ANSWER_BYTES_MAX} bytes of an answer")));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn busy(response: Response) -> Trouble {
    let after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let status = response.status();
    let said = said(response).await.unwrap_or_default();
    let said = format!("{status} {}", excerpt_to(&said, DETAIL_CHARACTERS_MAX));
    Trouble::Busy { after: after.map(Duration::from_secs), said: said.trim_end().to_owned() }
}

/// An error with all that it comes from, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    crate::heartbeat::chain(error)
}
