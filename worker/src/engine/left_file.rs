//! Reads a file that a program left below the scratch folder: only a file of its own, never a link or a pipe, and never more than a
//! judge needs.

use std::io::Read as _;
use std::path::{Component, Path};

/// More than the rows or poses of any task; what is longer is no such file.
const BYTES_MAX: u64 = 256 << 20; // 256 MiB

/// The file's bytes, or why there are none.
pub(crate) fn read(scratch: &Path, path: &Path) -> Result<Vec<u8>, String> {
    if !is_own(scratch, path) {
        let missing = std::fs::symlink_metadata(scratch.join(path)).err();
        return Err(missing.map_or_else(|| "not a file of its own".to_owned(), |error| error.to_string()));
    }
    let file = std::fs::File::open(scratch.join(path)).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    if length > BYTES_MAX {
        return Err(format!("it has {length} bytes (expected {BYTES_MAX} at most)"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Whether a path leads to a plain file in the folder, over no link: what a link leads to is not the program's.
pub(crate) fn is_own(scratch: &Path, path: &Path) -> bool {
    let mut at = scratch.to_owned();
    let mut is_file = false;
    for component in path.components() {
        let Component::Normal(name) = component else { return false };
        at.push(name);
        let Ok(meta) = at.symlink_metadata() else { return false };
        if meta.is_symlink() {
            return false;
        }
        is_file = meta.is_file();
    }
    is_file
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_plain_files_below_the_folder_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("scratch");
        std::fs::create_dir_all(scratch.join("poses")).unwrap();
        std::fs::write(folder.path().join("secret"), "secret").unwrap();
        std::fs::write(scratch.join("poses/0"), "pose").unwrap();
        symlink(folder.path().join("secret"), scratch.join("link")).unwrap();
        symlink(folder.path(), scratch.join("out")).unwrap();
        nix::unistd::mkfifo(&scratch.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let read = |path: &str| read(&scratch, Path::new(path));
        assert_eq!(read("poses/0").unwrap(), b"pose");
        for foreign in ["link", "out/secret", "pipe", "poses", "../secret", "poses/../../secret"] {
            assert_eq!(read(foreign).unwrap_err(), "not a file of its own", "{foreign}");
        }
        assert!(read("none").unwrap_err().starts_with("No such file"));
        std::fs::File::create(scratch.join("huge")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read("huge").unwrap_err(), "it has 1099511627776 bytes (expected 268435456 at most)");
    }
}
