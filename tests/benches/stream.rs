//! How much memory a worker needs for a stream of lines, and how fast it stores them. Prints both for streams of different lengths: memory
//! that grows with the length would show. `cargo bench -p tests --bench stream`; lengths in millions of lines as arguments, else 1, 4, 16.
//!
//! Each worker is measured by a process of its own, this program again, since the system only tells the largest of all children. The
//! programs that write the lines, `yes` and `head`, are small beside a worker. It needs some 100 MB in the folder for temporary files.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program that measures and prints"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use tests::{Lab, Peak, Programs, peak_of};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};
/// The first argument of the process that measures one worker.
const MEASURE: &str = "measure";
/// Of a molecule with some 20 heavy atoms, as long as a line of Surge.
const LINE: &str = "CC(C)Cc1ccc(cc1)C(C)C(=O)NCCO";
const LINES_PER_PART: u64 = 250_000;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|first| first == MEASURE) {
        measure(&arguments[1..]);
        return;
    }
    let millions: Vec<u64> = arguments.iter().map(|argument| argument.parse().unwrap()).collect();
    for millions in if millions.is_empty() { vec![1, 4, 16] } else { millions } {
        stream(millions * 1_000_000).await;
    }
}

/// Runs a worker to its end and prints its peak.
fn measure(arguments: &[String]) {
    let mut worker = Command::new(PROGRAMS.worker);
    worker.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Peak { mib, seconds } = peak_of(&mut worker);
    println!("  peak {mib:.1} MiB after {seconds:.1} s");
}

async fn stream(lines: u64) {
    let lab = Lab::new(PROGRAMS).await;
    let program = lab.path("stubs/lines");
    let body = format!("#!/bin/sh\nyes '{LINE}' | head -n $1\necho \"-> $1 in \" >&2\n");
    fs::write(&program, body).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let config = lab.write(
        "run.toml",
        &format!(
            "engine = 'command'\n[options]\nargv = ['lines', '{lines}', '{{formula}}']\n\
             stream = {{total = '-> {{total}} in ', lines_per_part = {LINES_PER_PART}}}\n"
        ),
    );
    let list = lab.write("list", "C\n");
    let (list, config) = (list.to_str().unwrap(), config.to_str().unwrap());
    let pushed = lab.launchpad(&["push", list, "--run", "r", "--config", config, "--confirm-after-ms", "0"]);
    assert_eq!(pushed.code, 0, "{}", pushed.stderr);
    println!("{lines} lines in parts of {LINES_PER_PART}");
    let mut measured = Command::new(std::env::current_exe().unwrap());
    measured.args([MEASURE, "--redis", &lab.redis.url(), "--store", &lab.store_url(), "--run", "r"]);
    measured.args(["--exit-when", "drained", "--cores", "1", "--scratch-free-mib-min", "1"]);
    measured.arg("--scratch").arg(lab.path("scratch")).arg("--cache").arg(lab.path("cache"));
    measured.env("PATH", format!("{}:/usr/bin:/bin", lab.path("stubs").display()));
    assert!(measured.status().unwrap().success());
    let progress = lab.progress("r").await;
    assert_eq!((progress.molecules_ok, progress.failures), (1, 0));
}
