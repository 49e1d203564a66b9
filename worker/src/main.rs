//! The `worker` binary. All of it is in the library, so that tests can run it, too.

use std::process::ExitCode;

use common::storage::Store;

fn main() -> ExitCode {
    worker::main(Store::open)
}
