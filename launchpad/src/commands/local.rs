//! `local`: the private Redis of a folder. It only calls `local_redis` and tells what came of it.

use serde::Serialize;

use super::Context;
use crate::cli::Local;
use crate::error::LaunchpadError;
use crate::local_redis::{self, Running};
use crate::output::Report;

#[derive(Debug, Serialize)]
struct LocalStatus {
    running: bool,
    url: Option<String>,
    pid: Option<i32>,
    #[serde(skip)]
    text: String,
}

impl LocalStatus {
    fn running(running: Running, what: &str) -> Self {
        let Running { url, pid, .. } = &running;
        let text = format!("{what} at {url} (process {pid})\n`redis-cli -u {url}` looks into it.\n");
        Self { running: true, url: Some(running.url), pid: Some(running.pid), text }
    }

    fn stopped(text: String) -> Self {
        Self { running: false, url: None, pid: None, text }
    }
}

impl Report for LocalStatus {
    fn text(&self) -> String {
        self.text.clone()
    }
}

/// Starts, stops or finds the private Redis.
pub(super) fn local(context: &Context, arguments: &Local) -> Result<(), LaunchpadError> {
    let none =
        || LocalStatus::stopped("No private Redis runs here. `launchpad local up` starts one.\n".into());
    let status = match arguments {
        Local::Up(at) => {
            let running = local_redis::up(&at.folder)?;
            let what =
                if running.already { "The private Redis runs already" } else { "Started a private Redis" };
            LocalStatus::running(running, what)
        }
        Local::Down(at) => match local_redis::down(&at.folder)? {
            Some(pid) => {
                LocalStatus::stopped(format!("Stopped the private Redis (process {pid}); its data stay.\n"))
            }
            None => none(),
        },
        Local::Status(at) => local_redis::status(&at.folder)?
            .map_or_else(none, |running| LocalStatus::running(running, "A private Redis runs")),
    };
    context.output.report(&status)
}
