//! The real worker over a store that leaves it to the system when bytes reach the disk, for the benches: what durability costs.

use std::process::ExitCode;
use std::sync::Arc;

use common::storage::{LocalStore, StorageError, Store};
use object_store::local::LocalFileSystem;

fn main() -> ExitCode {
    worker::main(open)
}

fn open(url: &str) -> Result<Store, StorageError> {
    // The product's own checks of the URL and of its folder come first.
    Store::open(url)?;
    let folder = url::Url::parse(url).ok().and_then(|url| url.to_file_path().ok()).expect("it was opened");
    let files = LocalFileSystem::new_with_prefix(folder).expect("it was opened");
    Ok(Store::over(Arc::new(LocalStore::over(files)), url))
}
