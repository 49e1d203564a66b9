//! The program `launchpad`: hands its arguments to the library and leaves with its exit code. Nothing else happens here.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(launchpad::run(std::env::args_os()))
}
