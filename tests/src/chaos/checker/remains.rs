//! What is left on the machine: processes and scratch folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Rule, Violation};

/// How often to look, and how long to wait in between: what was killed takes a moment to go.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn check(marker: &str, scratch: &Path) -> Vec<Violation> {
    let mut left = remains(marker, scratch);
    for _ in 0..LOOKS {
        if left.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        left = remains(marker, scratch);
    }
    left
}

fn remains(marker: &str, scratch: &Path) -> Vec<Violation> {
    let processes = processes_with(marker)
        .into_iter()
        .map(|(pid, command)| Violation::new(Rule::Processes, format!("process {pid} is left: {command}")));
    let folders = visible(scratch)
        .into_iter()
        .map(|path| Violation::new(Rule::Scratch, format!("`{}` is left", path.display())));
    processes.chain(folders).collect()
}

/// The processes that have a text in their environment, with their command lines.
pub fn processes_with(marker: &str) -> Vec<(u32, String)> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marked = pids.filter(|pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(marker.len()).any(|part| part == marker.as_bytes())
    });
    let command = |pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    };
    marked.map(|pid| (pid, command(pid))).collect()
}

/// What is in a folder, but for hidden entries.
fn visible(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .collect()
}
