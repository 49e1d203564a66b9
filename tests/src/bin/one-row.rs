//! A quick engine that is legal: for a task with the one molecule `m<task>` it writes the row that the engine `command` wants to
//! see, with the moment at which it started, in µs since 1970. `/bin/true` writes none, so every molecule would be without a verdict.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

#[expect(
    clippy::disallowed_methods,
    reason = "an engine of the benches, which tells when it was started and for which task"
)]
fn main() -> ExitCode {
    let started_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let task = std::env::var("MOLFLEET_TASK").unwrap_or_default();
    let row = format!("molecule_id,started_us\nm{task},{started_us}\n");
    // Not emptied first: ext4 writes a file that was emptied to disk when it is closed, which no attempt ever comes to.
    let file = OpenOptions::new().write(true).create(true).truncate(false).open("rows.csv");
    match file.and_then(|mut file| file.write_all(row.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
