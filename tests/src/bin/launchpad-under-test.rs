//! The real launchpad, built with the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(launchpad::run(std::env::args_os()))
}
