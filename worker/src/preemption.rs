//! Hears from the platform that this machine is about to be taken away: from the metadata server of Google Cloud, AWS or Azure, or from
//! a program. It decides nothing: the dispatcher leaves.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use tokio::sync::{mpsc, watch};
use url::Url;

use crate::attempt::Shared;
use crate::heartbeat::chain;
use crate::metadata::{GoogleSign, LOOK_EVERY, MAINTAINED, Metadata, PREEMPTED};
use crate::process::{How, Program, engine_environment};

/// Whose metadata server tells of preemptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Platform {
    /// Google Compute Engine.
    Gce,
    /// Amazon EC2, by version 2 of its metadata service.
    Aws,
    /// Microsoft Azure, by its scheduled events.
    Azure,
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
    for look in platform.map_or(&[][..], looks) {
        let (sender, metadata) = (sender.clone(), metadata.clone());
        // Nobody hears it when the worker has left.
        tokio::spawn(async move { _ = sender.send(told_by_server(*look, &metadata).await).await });
    }
    if let Some(command) = command {
        let shared = Arc::clone(shared);
        tokio::spawn(async move { _ = sender.send(told_by(&command, &shared).await).await });
    }
    notices
}

/// Something that a metadata server is asked for.
#[derive(Debug, Clone, Copy)]
enum Look {
    Google(GoogleSign),
    Aws,
    Azure,
}

/// All that tells of the end of a machine of this platform.
const fn looks(platform: Platform) -> &'static [Look] {
    match platform {
        Platform::Gce => &[Look::Google(PREEMPTED), Look::Google(MAINTAINED)],
        Platform::Aws => &[Look::Aws],
        Platform::Azure => &[Look::Azure],
    }
}

/// Looks until there is a notice. A metadata server that does not answer is no notice.
async fn told_by_server(look: Look, server: &Url) -> String {
    let mut was_told = false;
    loop {
        let looked = match (Metadata::new(server), look) {
            (Err(error), _) => Err(error),
            (Ok(metadata), Look::Google(sign)) => metadata.google(sign).await,
            (Ok(metadata), Look::Aws) => metadata.aws().await,
            (Ok(metadata), Look::Azure) => metadata.azure().await,
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
