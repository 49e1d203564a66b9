//! Which processes there are, by `/proc`. Reads only.

use std::fs;

use nix::unistd::{Pid, getpgid};

/// All processes of this machine (or container).
pub(super) fn processes() -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

/// Whether a process was started with this variable. No for one that has ended, or that we may not look into.
pub(super) fn has_variable(process: Pid, assignment: &[u8]) -> bool {
    // The file is complete up to the exec; a process can't hide by calling unsetenv.
    let environ = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|variable| variable == assignment)
}

/// Whether any process of a group still runs. Those that have ended and wait to be reaped don't count.
pub(super) fn group_runs(group: Pid) -> bool {
    processes().any(|process| getpgid(Some(process)) == Ok(group) && !has_ended(process))
}

fn has_ended(process: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return true };
    // "pid (name) state …", where the name may hold anything, also parentheses.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}
