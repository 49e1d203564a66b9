//! The real worker over a store that leaves it to the system when bytes reach the disk, for the benches: what durability costs.

use std::process::ExitCode;
use std::sync::Arc;

use common::storage::{LocalStore, StorageError, Store};

fn main() -> ExitCode {
    worker::main(open)
}

fn open(url: &str) -> Result<Store, StorageError> {
    // The product's own checks of the URL and of its folder come first.
    Store::open(url)?;
    let folder = url::Url::parse(url).ok().and_then(|url| url.to_file_path().ok()).expect("it was opened");
    let files = LocalStore::open(&folder, false).expect("it was opened");
    Ok(Store::over(Arc::new(files), url))
}
