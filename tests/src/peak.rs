//! What a program needs: for benches, which print it.

use std::process::Command;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

/// What a program needed from its start to its end.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// The most memory that it or a child of it had at any time, in MiB.
    pub mib: f64,
    /// How long it ran, in seconds.
    pub seconds: f64,
}

/// Runs a program to its good end. The system tells only the largest of all children of a process, so each measurement needs a process of
/// its own.
#[expect(clippy::disallowed_methods, reason = "a measurement is of real time")]
pub fn peak_of(program: &mut Command) -> Peak {
    let started = Instant::now();
    assert!(program.status().unwrap().success(), "{program:?}");
    let peak_kib = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    Peak { mib: peak_kib as f64 / 1024.0, seconds: started.elapsed().as_secs_f64() }
}
