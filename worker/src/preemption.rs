//! Hears from the platform that this machine is about to be taken away: from the metadata server of Google Cloud or AWS, or from a
//! program. It decides nothing: the dispatcher leaves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use reqwest::{Client, StatusCode, redirect};
use tokio::sync::{mpsc, watch};
use url::Url;

use crate::attempt::Shared;
use crate::heartbeat::chain;
use crate::process::{How, Program, engine_environment};

/// Between two looks; AWS gives two minutes' notice and asks to be looked at every 5 s.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long Google's metadata server is let wait for a change, in seconds.
const CHANGE_SECONDS: u64 = 60;
/// How long a request may take beyond that.
const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long a token of AWS is good for, in seconds.
const TOKEN_SECONDS: &str = "21600";

/// Whose metadata server tells of preemptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    /// Google Compute Engine.
    Gce,
    /// Amazon EC2, by version 2 of its metadata service.
    Aws,
}

/// From where notices come.
#[derive(Debug, Clone)]
pub struct Notices {
    /// The platform, if any is asked.
    pub platform: Option<Platform>,
    /// Its metadata server.
    pub metadata: Url,
    /// A program that ends with 0 when the machine is about to go.
    pub command: Option<PathBuf>,
}

/// Listens to all of them. What comes is a reason to leave.
pub(crate) fn listen(shared: &Arc<Shared>) -> mpsc::Receiver<String> {
    let (sender, notices) = mpsc::channel(1);
    let Notices { platform, metadata, command } = shared.config.notices.clone();
    if let Some(platform) = platform {
        let sender = sender.clone();
        tokio::spawn(async move {
            let notice = watch_platform(platform, &metadata).await;
            // Nobody hears it when the worker has left.
            _ = sender.send(notice).await;
        });
    }
    if let Some(command) = command {
        let shared = Arc::clone(shared);
        tokio::spawn(async move { _ = sender.send(told_by(&command, &shared).await).await });
    }
    notices
}

fn client() -> reqwest::Result<Client> {
    Client::builder().no_proxy().redirect(redirect::Policy::none()).connect_timeout(ANSWER_TIME_LIMIT).build()
}

/// Looks until there is a notice. A metadata server that does not answer is no notice.
async fn watch_platform(platform: Platform, metadata: &Url) -> String {
    let mut was_told = false;
    loop {
        let looked = match (client(), platform) {
            (Err(error), _) => Err(error),
            (Ok(client), Platform::Gce) => gce(&client, metadata).await,
            (Ok(client), Platform::Aws) => aws(&client, metadata).await,
        };
        match looked {
            Ok(Some(notice)) => return notice,
            Ok(None) => was_told = false,
            Err(error) if !was_told => {
                was_told = true;
                tracing::warn!(error = %chain(&error), "the metadata server does not tell of preemptions, trying again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn below(metadata: &Url, path: &str) -> Url {
    let mut url = metadata.clone();
    url.set_path(path);
    url
}

/// Google's server answers at once the first time, and from then on when something changes. `None` if it does not say what it saw.
async fn gce(client: &Client, metadata: &Url) -> reqwest::Result<Option<String>> {
    let mut last_seen = "0".to_owned();
    loop {
        let mut url = below(metadata, "/computeMetadata/v1/instance/preempted");
        let query = format!("wait_for_change=true&last_etag={last_seen}&timeout_sec={CHANGE_SECONDS}");
        url.set_query(Some(&query));
        let request = client.get(url).header("Metadata-Flavor", "Google");
        let time_limit = ANSWER_TIME_LIMIT + Duration::from_secs(CHANGE_SECONDS);
        let response = request.timeout(time_limit).send().await?.error_for_status()?;
        let etag = response.headers().get("etag").and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        if response.text().await?.trim() == "TRUE" {
            return Ok(Some("Google Compute Engine preempts this machine".to_owned()));
        }
        // Without a mark, or with the same one before its time, it would be asked without a pause.
        let Some(etag) = etag.filter(|etag| *etag != last_seen) else { return Ok(None) };
        last_seen = etag;
    }
}

/// Looks until the token expires, `None`, or there is a notice.
async fn aws(client: &Client, metadata: &Url) -> reqwest::Result<Option<String>> {
    let token = client
        .put(below(metadata, "/latest/api/token"))
        .header("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)
        .timeout(ANSWER_TIME_LIMIT);
    let token = token.send().await?.error_for_status()?.text().await?;
    loop {
        let action = client
            .get(below(metadata, "/latest/meta-data/spot/instance-action"))
            .header("X-aws-ec2-metadata-token", token.trim())
            .timeout(ANSWER_TIME_LIMIT);
        let response = action.send().await?;
        match response.status() {
            StatusCode::NOT_FOUND => {}
            StatusCode::UNAUTHORIZED => return Ok(None),
            _ => {
                let action = response.error_for_status()?.text().await?;
                return Ok(Some(format!("AWS takes this machine away: {}", action.trim())));
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Runs a program again and again until it ends with 0.
async fn told_by(command: &std::path::Path, shared: &Shared) -> String {
    let (folder, path): (PathBuf, &OsString) = (shared.config.scratch.clone(), &shared.config.path);
    let name = command.display().to_string();
    let program = Program {
        argv: vec![name.clone()],
        env: engine_environment(path, &folder, 1, &[]),
        folder,
        cores: Vec::new(),
        logs: None,
        time_limit: Duration::from_hours(24 * 365),
        grace: shared.config.grace,
    };
    let goes_on = watch::Sender::new(false);
    loop {
        match shared.launcher.run(&program, goes_on.subscribe()).await {
            Ok(ended) if ended.how == How::Exited(0) => {
                return format!("`{name}` says that this machine goes");
            }
            Ok(ended) => tracing::debug!(command = name, how = ?ended.how, "no notice yet"),
            Err(error) => {
                tracing::warn!(command = name, error = %chain(&error), "the notice command can't be run");
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
