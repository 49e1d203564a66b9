//! What the metadata servers of the clouds tell of the end of this machine. Each function asks one of them until it has said so, or
//! until it has to be asked anew. It decides nothing.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use serde::Deserialize;
use url::Url;

/// Between two looks; AWS gives two minutes' notice and asks to be looked at every 5 s.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long Google's metadata server is let wait for a change, in seconds.
const CHANGE_SECONDS: u64 = 60;
/// How long a request may take beyond that.
const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Azure's first answer of a machine's life takes up to two minutes.
const AZURE_TIME_LIMIT: Duration = Duration::from_secs(130);
/// How long a token of AWS is good for, in seconds.
const TOKEN_SECONDS: &str = "21600";

/// A metadata server and how it is asked: never through a proxy, and wherever it points to.
#[derive(Debug)]
pub(crate) struct Metadata {
    client: Client,
    server: Url,
}

/// What a look came to: why this machine goes, if it does. `None` has the server asked anew.
pub(crate) type Looked = reqwest::Result<Option<String>>;

/// A value of Google's that says that the machine goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GoogleSign {
    key: &'static str,
    value: &'static str,
    notice: &'static str,
}

/// The machine is a spot machine, and somebody else pays more: 30 s.
pub(crate) const PREEMPTED: GoogleSign =
    GoogleSign { key: "preempted", value: "TRUE", notice: "Google Compute Engine preempts this machine" };
/// The host is maintained, and this machine can't be moved alive: 60 s, or an hour where it has GPUs.
pub(crate) const MAINTAINED: GoogleSign = GoogleSign {
    key: "maintenance-event",
    value: "TERMINATE_ON_HOST_MAINTENANCE",
    notice: "Google Compute Engine stops this machine for the maintenance of its host",
};

impl Metadata {
    pub(crate) fn new(server: &Url) -> reqwest::Result<Self> {
        let client = Client::builder().no_proxy().redirect(redirect::Policy::none());
        let client = client.connect_timeout(ANSWER_TIME_LIMIT).build()?;
        Ok(Self { client, server: server.clone() })
    }

    fn url(&self, path: &str, query: &str) -> Url {
        let mut url = self.server.clone();
        url.set_path(path);
        url.set_query((!query.is_empty()).then_some(query));
        url
    }

    /// Google's server answers at once the first time, and from then on when something changes. `None` if it does not say what it saw.
    pub(crate) async fn google(&self, sign: GoogleSign) -> Looked {
        let path = format!("/computeMetadata/v1/instance/{}", sign.key);
        let mut last_seen = "0".to_owned();
        loop {
            let query = format!("wait_for_change=true&last_etag={last_seen}&timeout_sec={CHANGE_SECONDS}");
            let request = self.client.get(self.url(&path, &query)).header("Metadata-Flavor", "Google");
            let time_limit = ANSWER_TIME_LIMIT + Duration::from_secs(CHANGE_SECONDS);
            let response = request.timeout(time_limit).send().await?.error_for_status()?;
            let etag = response.headers().get("etag").and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            if response.text().await?.trim() == sign.value {
                return Ok(Some(sign.notice.to_owned()));
            }
            // Without a mark, or with the same one before its time, it would be asked without a pause.
            let Some(etag) = etag.filter(|etag| *etag != last_seen) else { return Ok(None) };
            last_seen = etag;
        }
    }

    /// Looks until the token expires, `None`, or there is a notice. That a machine is likely to go is no notice: it is only told.
    pub(crate) async fn aws(&self) -> Looked {
        let token = self.client.put(self.url("/latest/api/token", ""));
        let token = token.header("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        let token = token.timeout(ANSWER_TIME_LIMIT).send().await?.error_for_status()?.text().await?;
        let ask = |path: &str| {
            let request = self.client.get(self.url(&format!("/latest/meta-data/{path}"), ""));
            said(request.header("X-aws-ec2-metadata-token", token.trim()).timeout(ANSWER_TIME_LIMIT))
        };
        let mut is_warned = false;
        loop {
            match ask("spot/instance-action").await? {
                Said::Nothing => {}
                Said::TokenExpired => return Ok(None),
                Said::Text(action) => {
                    return Ok(Some(format!("AWS takes this machine away: {}", action.trim())));
                }
            }
            // Older machines do not know of it.
            if !is_warned && let Ok(Said::Text(since)) = ask("events/recommendations/rebalance").await {
                is_warned = true;
                tracing::warn!(said = since.trim(), "AWS may take this machine away soon, going on");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks until there is an event that ends this machine. A freeze of seconds does not. All machines of a set hear of each other's.
    pub(crate) async fn azure(&self) -> Looked {
        let ask = async |path: &str, query: &str| {
            let request = self.client.get(self.url(path, query)).header("Metadata", "true");
            request.timeout(AZURE_TIME_LIMIT).send().await?.error_for_status()?.text().await
        };
        let name = ask("/metadata/instance/compute/name", "api-version=2021-02-01&format=text").await?;
        loop {
            let events = ask("/metadata/scheduledevents", "api-version=2020-07-01").await?;
            if let Some(event) = azure_event(&events, name.trim()) {
                return Ok(Some(format!("Azure takes this machine away: {event}")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// An answer of AWS.
enum Said {
    Nothing,
    TokenExpired,
    Text(String),
}

async fn said(request: RequestBuilder) -> reqwest::Result<Said> {
    let response = request.send().await?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(Said::Nothing),
        StatusCode::UNAUTHORIZED => Ok(Said::TokenExpired),
        _ => Ok(Said::Text(response.error_for_status()?.text().await?)),
    }
}

/// The list of events, of which only what is read here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzureEvents {
    events: Vec<AzureEvent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AzureEvent {
    event_type: String,
    #[serde(default)]
    resources: Vec<String>,
}

/// The first event that ends the machine of this name. What is no list of events tells of none.
fn azure_event(text: &str, name: &str) -> Option<String> {
    let all: AzureEvents = serde_json::from_str(text).ok()?;
    let ends = |event: &AzureEvent| {
        matches!(event.event_type.as_str(), "Preempt" | "Terminate" | "Reboot" | "Redeploy")
            && event.resources.iter().any(|resource| resource == name)
    };
    all.events.into_iter().find(ends).map(|event| event.event_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_that_end_this_machine_count() {
        let events = |kind: &str, resource: &str| {
            format!(
                r#"{{"DocumentIncarnation":2,"Events":[{{"EventId":"A1","EventStatus":"Scheduled","EventType":"Freeze",
                "Resources":["vm_0"]}},{{"EventId":"A2","EventStatus":"Scheduled","EventType":"{kind}","ResourceType":"VirtualMachine",
                "Resources":["vm_7","{resource}"],"NotBefore":"Thu, 26 Nov 2026 04:17:47 GMT"}}]}}"#
            )
        };
        assert_eq!(azure_event(&events("Preempt", "vm_0"), "vm_0").as_deref(), Some("Preempt"));
        assert_eq!(azure_event(&events("Preempt", "vm_1"), "vm_0"), None);
        assert_eq!(azure_event(&events("Freeze", "vm_0"), "vm_0"), None);
        for other in ["", "[]", r#"{"Events":[]}"#, r#"{"Events":[{"EventType":"Preempt"}]}"#] {
            assert_eq!(azure_event(other, "vm_0"), None, "{other}");
        }
    }
}
