//! The real worker, over a store that can be made to stall: while a file `<store folder>.stall` is there, no write to it ends.

use std::process::ExitCode;
use std::sync::Arc;

use common::storage::{StorageError, Store};
use tests::StallingStore;

fn main() -> ExitCode {
    worker::main(open)
}

fn open(url: &str) -> Result<Store, StorageError> {
    // The product's own checks of the URL and of its folder come first.
    Store::open(url)?;
    Ok(Store::over(Arc::new(StallingStore::open(url)), url))
}
