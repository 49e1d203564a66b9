//! The guardian's own process: reads what the worker registers and, at the worker's end, kills what it left.
//!
//! It prints and logs nothing, and touches no process without the worker's marker or outside a group of one with it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write as _};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::{Pid, getpgid, setsid};

use super::{MARKER_VARIABLE, READY};
use crate::process::procfs;

/// Between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(50);
/// Looks that must find nothing before we believe it: a process between fork and exec has no environment to be known by.
const CLEAN_LOOKS: u32 = 3;
/// Looks in all, 10 s of them; a process in an uninterruptible wait may outlast any number.
const LOOKS_MAX: u32 = 200;

/// Watches over a worker until `orders`, its pipe, ends; then kills what the worker left running and returns.
///
/// Call it first thing in `main`, before any thread is started: it leaves the worker's session and blocks signals.
pub fn main_loop(orders: impl BufRead) -> io::Result<()> {
    let mut orders = orders.lines();
    let marker = orders.next().transpose()?.and_then(|line| line.strip_prefix('=').map(str::to_owned));
    let Some(marker) = marker.filter(|marker| !marker.is_empty()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "expected `=<marker>` first"));
    };
    leave_the_worker();
    // It fails if the worker has died meanwhile: then there is all the more to do.
    _ = io::stdout().write_all(READY.as_bytes()).and_then(|()| io::stdout().flush());
    // A read error is as much the end as the end.
    let groups = orders.map_while(Result::ok).fold(BTreeSet::new(), |groups, order| apply(groups, &order));
    end(&format!("{MARKER_VARIABLE}={marker}"), &groups);
    Ok(())
}

/// Makes sure that what ends the worker's process group, session or service doesn't end its guardian first.
fn leave_the_worker() {
    // It fails for a group leader, such as a guardian started by hand, which has no worker to leave.
    _ = setsid();
    let signals: SigSet = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    // It fails only for an invalid `how` argument.
    _ = signals.thread_block();
}

fn apply(mut groups: BTreeSet<Pid>, order: &str) -> BTreeSet<Pid> {
    // Group 0 would be our own and 1 is init's; the worker sends neither.
    let parse = |id: &str| id.parse().ok().filter(|id| *id > 1).map(Pid::from_raw);
    if let Some(group) = order.strip_prefix('+').and_then(parse) {
        groups.insert(group);
    } else if let Some(group) = order.strip_prefix('-').and_then(parse) {
        groups.remove(&group);
    }
    groups
}

/// Kills until nothing with the marker is left.
fn end(marker: &str, groups: &BTreeSet<Pid>) {
    let mut clean_looks = 0;
    for _ in 0..LOOKS_MAX {
        clean_looks = if kill_marked(marker.as_bytes(), groups) == 0 { clean_looks + 1 } else { 0 };
        if clean_looks == CLEAN_LOOKS {
            return;
        }
        pause();
    }
}

/// Kills every process that has the marker, and each registered group that has such a member; returns how many had it.
///
/// The marker tells a group of ours from one that was given the same id after ours had ended.
fn kill_marked(marker: &[u8], groups: &BTreeSet<Pid>) -> usize {
    let marked = procfs::processes().filter(|process| procfs::has_variable(*process, marker));
    marked
        .inspect(|process| {
            // Errors mean that it has ended since, or that it is not ours to end (set-uid).
            if let Ok(group) = getpgid(Some(*process))
                && groups.contains(&group)
            {
                _ = killpg(group, Signal::SIGKILL);
            }
            _ = kill(*process, Signal::SIGKILL);
        })
        .count()
}

#[expect(
    clippy::disallowed_methods,
    reason = "polls /proc, which notifies nobody, in a process without a runtime"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_add_and_remove_groups() {
        let orders = ["+10", "+11", "-10", "+0", "+1", "+-5", "nonsense", "+"];
        let groups = orders.into_iter().fold(BTreeSet::new(), apply);
        assert_eq!(groups, BTreeSet::from([Pid::from_raw(11)]));
    }

    #[test]
    fn a_guardian_without_marker_refuses() {
        let error = main_loop(&b"+10\n"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
