//! A file that appears under its name whole or not at all. What is no file, as standard output (`-`) or a pipe, gets all of it at once. Decides
//! nothing about its content.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::LaunchpadError;
use crate::output::{self, checked};

/// Whether a name that was given for a file means standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether it is no file that stays: standard output, a pipe or a device. A file in its place would take it away from everybody else.
pub(crate) fn is_stream(path: &Path) -> bool {
    is_stdout(path) || std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Writes all of a file to a stream.
fn pour(content: &mut File, to: &mut impl Write) -> io::Result<()> {
    content.rewind()?;
    io::copy(content, to)?;
    to.flush()
}

/// A file on its way, beside its final name. It vanishes if it is dropped before it is published.
#[derive(Debug)]
pub(crate) struct NewFile {
    path: PathBuf,
    content: BufWriter<NamedTempFile>,
}

impl NewFile {
    /// Starts a file that will be at this path.
    pub(crate) fn create(path: &Path) -> Result<Self, LaunchpadError> {
        let started = || {
            if is_stream(path) {
                return NamedTempFile::new();
            }
            // A temporary file's own error would name a file that nobody asked for.
            std::fs::metadata(folder(path))?;
            tempfile::Builder::new().prefix(".new-").tempfile_in(folder(path))
        };
        let content = BufWriter::new(started().map_err(|source| failed(path, source))?);
        Ok(Self { path: path.to_owned(), content })
    }

    /// Gives it its name, durably, with the permissions of any new file. Returns its content.
    pub(crate) fn publish(self) -> Result<File, LaunchpadError> {
        let written = self.content.into_inner().map_err(io::IntoInnerError::into_error);
        let file = written.map_err(|source| failed(&self.path, source))?;
        if is_stdout(&self.path) {
            let mut content = file.into_file();
            checked(pour(&mut content, &mut output::stdout()))?;
            return Ok(content);
        }
        if is_stream(&self.path) {
            let mut content = file.into_file();
            let stream = File::options().write(true).open(&self.path);
            let poured = stream.and_then(|mut stream| pour(&mut content, &mut stream));
            return poured.map(|()| content).map_err(|source| failed(&self.path, source));
        }
        let publish = || {
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            file.as_file().sync_all()?;
            let content = file.persist(&self.path)?;
            File::open(folder(&self.path))?.sync_all()?;
            Ok(content)
        };
        publish().map_err(|source| failed(&self.path, source))
    }
}

/// Writes a small file as a whole, or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LaunchpadError> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes).map_err(|source| failed(path, source))?;
    file.publish().map(drop)
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.content.flush()
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn failed(path: &Path, source: io::Error) -> LaunchpadError {
    LaunchpadError::File { action: "write", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_pipe_gets_the_whole_and_stays_a_pipe() {
        let (mut reader, writer) = io::pipe().unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", writer.as_raw_fd()));
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        file.publish().unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "whole");
    }

    #[test]
    fn nothing_is_there_before_it_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.sdf");
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        file.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        drop(NewFile::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
