//! Standard output and standard error. What can't be printed to the one is an error; the other is where errors would be told.

use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::error::LaunchpadError;

/// What standard output is called where a file's name would stand.
pub(crate) const STDOUT_NAME: &str = "standard output";

/// Prints to standard output.
pub(super) fn print(bytes: &[u8]) -> Result<(), LaunchpadError> {
    let mut stdout = io::stdout().lock();
    checked(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// Tells something on standard error. Nothing can be done where nobody hears it: the exit code is all that is left.
pub(super) fn tell(text: &str) {
    _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What came of writing to standard output. A reader that has seen enough (`| head`) is no error of ours; a full disk is.
pub(crate) fn checked<T>(written: io::Result<T>) -> Result<(), LaunchpadError> {
    match written {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(source) => {
            Err(LaunchpadError::File { action: "write", path: PathBuf::from(STDOUT_NAME), source })
        }
    }
}
