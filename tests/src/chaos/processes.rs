//! The processes that a worker has started, found in `/proc`: for faults that befall more than the worker itself.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// The ids of a process' descendants, by id, with their command lines.
pub(super) fn descendants(of: u32) -> BTreeMap<u32, String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: BTreeMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let descends = |pid: u32| {
        let mut ancestors = std::iter::successors(parents.get(&pid), |parent| parents.get(parent));
        ancestors.any(|ancestor| *ancestor == of)
    };
    let command = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    };
    parents.keys().filter(|pid| descends(**pid)).map(|pid| (*pid, command(*pid))).collect()
}

/// Sends a signal to processes, some of which may have ended.
pub(super) fn signal(pids: impl IntoIterator<Item = u32>, signal: Signal) {
    for pid in pids {
        _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
    }
}

/// Waits until a process stands still after SIGSTOP, or is gone.
pub(super) async fn until_stopped(pid: u32) {
    eventually("a frozen process stands still", || async move {
        match stat(pid).as_deref().and_then(|stat| stat.chars().next()) {
            None | Some('T' | 'Z' | 'X') => Ok(()),
            Some(state) => Err(state),
        }
    })
    .await;
}

/// What follows the name of a process in its `stat`; the name may hold anything.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit(')').next()?.trim_start().to_owned())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test starts a process to find")]
    fn a_child_is_found_with_its_command() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let found = descendants(std::process::id());
        assert!(descendants(child.id()).is_empty());
        signal([child.id()], Signal::SIGKILL);
        child.wait().unwrap();
        assert!(found.contains_key(&child.id()), "{found:?}");
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
