//! The scratch disk of a fleet, which can be filled: a small file system in memory where the user may mount one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Its size: far more than the attempts of a fleet need.
const SIZE: &str = "size=48m";
/// What fills it. Hidden, so that it is nobody's scratch.
const FILLER: &str = ".filler";
const CHUNK_BYTES: usize = 256 * 1024;

/// A scratch folder, on a disk of its own if that can be had.
#[derive(Debug)]
pub struct ScratchDisk {
    folder: PathBuf,
    is_own: bool,
}

impl ScratchDisk {
    /// Makes the folder and mounts the disk on it. Without the right to do that, it is a folder like any other.
    pub fn mount(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        let is_own = mount(Some("tmpfs"), &folder, Some("tmpfs"), flags, Some(SIZE)).is_ok();
        Self { folder, is_own }
    }

    /// Whether it can be filled without harm to others.
    pub const fn can_be_filled(&self) -> bool {
        self.is_own
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut filler = File::create(self.folder.join(FILLER)).unwrap();
        for chunk_bytes in [CHUNK_BYTES, 1] {
            let chunk = vec![0; chunk_bytes];
            // Until it is full.
            while filler.write_all(&chunk).is_ok() {}
        }
    }

    /// Empties it again.
    pub fn free(&self) {
        // Without a fault before, there is nothing to remove.
        _ = fs::remove_file(self.folder.join(FILLER));
    }
}

impl Drop for ScratchDisk {
    fn drop(&mut self) {
        if self.is_own {
            // Whoever still has a file on it keeps it alive until then, out of sight.
            _ = umount2(&self.folder, MntFlags::MNT_DETACH);
        }
    }
}
