//! What only one worker of a host may have: each is a file in the folder that they share, locked as long as its worker lives. The system frees
//! it with the process, however that ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Claims what has this name; `None` if another worker has it.
pub(crate) fn claim(folder: &Path, name: &str) -> io::Result<Option<File>> {
    let file = File::create(folder.join(format!("{name}.lock")))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(source),
    }
}
