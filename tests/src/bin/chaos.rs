//! A fleet in bad weather, for as long as one likes: `cargo run --release -p tests --bin chaos -- --minutes 30 --seed 7`.
//!
//! It prints the faults that it injected, what the checker found, and the command that makes the same faults happen again. It ends with 1
//! if a promise was broken, and then leaves everything where it is. The one program also plays the parts of launchpad, of the workers
//! with their guardians, and of their engine, by the name that it is called by.
#![expect(clippy::print_stdout, reason = "a test program that prints its report")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tests::chaos::{Options, ROLES, STANDS_FOR, toy};

/// Runs real workers on short tasks while everything round them fails by a seeded schedule, and checks what comes of it
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How long faults happen, in minutes
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "seconds")]
    minutes: u64,
    /// The same in seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// What the schedule is made from [default: drawn]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many workers there are at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// Make Redis a Sentinel pair that fails over and forgets, instead of one server that is killed and frozen
    #[arg(long)]
    sentinel: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let name = Path::new(&arguments[0]).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let [launchpad, worker, toy] = ROLES;
    // A worker starts its guardian by its own file, not by its name.
    if name == worker || arguments.get(1).is_some_and(|argument| argument == "guardian") {
        worker::main(tests::open_unruly)
    } else if name == launchpad {
        ExitCode::from(launchpad::run(std::env::args_os()))
    } else if name == toy {
        toy::main(&arguments)
    } else if STANDS_FOR.contains(&name) {
        toy::windows::main(&arguments)
    } else {
        harness(&Arguments::parse())
    }
}

fn harness(arguments: &Arguments) -> ExitCode {
    let options = Options {
        seed: arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
        length: Duration::from_secs(arguments.seconds.unwrap_or(arguments.minutes * 60)),
        sites: arguments.workers.into(),
        sentinel: arguments.sentinel,
        program: PathBuf::from("/proc/self/exe").canonicalize().unwrap_or_else(|_| PathBuf::from("chaos")),
    };
    println!("seed {}, {} s", options.seed, options.length.as_secs());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = runtime.block_on(tests::chaos::run(options));
    println!("{report}");
    if report.violations().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
