//! The real worker, over a store that can be made to stall and to misbehave: see [`tests::UnrulyStore`].

use std::process::ExitCode;

fn main() -> ExitCode {
    worker::main(tests::open_unruly)
}
