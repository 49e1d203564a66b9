//! The real worker over its own store, for the benches: with the same profile as they are built.

use std::process::ExitCode;

use common::storage::Store;

fn main() -> ExitCode {
    worker::main(Store::open)
}
