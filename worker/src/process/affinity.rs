//! On which cores a program runs. A child inherits those of the thread that starts it.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that this process may use, by their numbers.
pub fn own_cores() -> io::Result<Vec<usize>> {
    let own = sched_getaffinity(this_thread())?;
    Ok((0..CpuSet::count()).filter(|core| own.is_set(*core).unwrap_or(false)).collect())
}

/// Starts something that stays on these cores; on all of this process's if none is named.
pub(super) fn start_on<T>(cores: &[usize], start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if cores.is_empty() {
        return start();
    }
    let before = sched_getaffinity(this_thread())?;
    let mut only = CpuSet::new();
    for core in cores {
        only.set(*core)?;
    }
    sched_setaffinity(this_thread(), &only)?;
    let started = start();
    sched_setaffinity(this_thread(), &before)?;
    started
}

fn this_thread() -> Pid {
    Pid::from_raw(0)
}
