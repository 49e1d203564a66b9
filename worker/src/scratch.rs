//! Scratch folders: one per attempt, made exclusively, gone afterwards; and what killed workers left, swept at the start.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::task::{LeaseName, RunId, TaskId, WorkerId};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;

/// The folder below which all attempts of this host have theirs.
#[derive(Debug)]
pub(crate) struct ScratchRoot {
    root: PathBuf,
    /// Held as long as this worker lives: the sign that its scratch folders are in use.
    _alive: Flock<File>,
}

/// An attempt's folder. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

/// How often to look at the disk while an engine runs.
const LOOK_AT_DISK: Duration = Duration::from_millis(500);

/// Where the signs of living workers are, below the root; no run id starts with a dot.
const ALIVE: &str = ".alive";

impl ScratchRoot {
    /// Claims a place for a worker, and removes what dead workers left.
    pub(crate) fn open(root: &Path, worker: &WorkerId) -> io::Result<Self> {
        fs::create_dir_all(root.join(ALIVE))?;
        let sign = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join(ALIVE).join(worker.as_str()))?;
        let alive = Flock::lock(sign, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        let scratch = Self { root: root.to_owned(), _alive: alive };
        scratch.sweep();
        Ok(scratch)
    }

    /// Makes the folder `<root>/<run>-<task>-<lease>`; an error if it is there.
    pub(crate) fn create(&self, run: &RunId, task: TaskId, lease: &LeaseName) -> io::Result<Scratch> {
        let path = self.root.join(format!("{run}-{}-{lease}", task.padded()));
        fs::create_dir(&path).map(|()| Scratch { path })
    }

    /// Bytes that an ordinary user may still write there.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.root)
    }

    /// Does something, and gives the fewest free bytes that the disk had meanwhile; an unreadable disk counts as unknown.
    pub(crate) async fn least_free_during<T>(&self, work: impl Future<Output = T>) -> (T, Option<u64>) {
        let mut looks = tokio::time::interval(LOOK_AT_DISK);
        let mut least: Option<u64> = None;
        let mut work = std::pin::pin!(work);
        loop {
            let done = tokio::select! {
                done = &mut work => Some(done),
                _ = looks.tick() => None,
            };
            let free = self.free_bytes().ok();
            least = least.into_iter().chain(free).min();
            if let Some(done) = done {
                return (done, least);
            }
        }
    }

    /// Removes the folders of workers that are gone. What can't be removed is left for the next worker.
    fn sweep(&self) {
        for folder in folders(&self.root) {
            let name = folder.file_name().and_then(|name| name.to_str());
            // A run's id may have dashes, a lease name has none.
            let lease = name.and_then(|name| name.rsplit_once('-')).and_then(|(_, lease)| lease.parse().ok());
            let Some(LeaseName { worker, .. }) = lease else { continue };
            if self.is_gone(&worker) {
                tracing::info!(folder = %folder.display(), "removing what a killed worker left");
                remove(&folder);
            }
        }
    }

    fn is_gone(&self, worker: &WorkerId) -> bool {
        // Dead workers leave their sign, so one that is missing was cleared away by somebody, perhaps from under a living worker.
        let Ok(sign) = File::open(self.root.join(ALIVE).join(worker.as_str())) else { return false };
        Flock::lock(sign, FlockArg::LockExclusiveNonblock).is_ok()
    }
}

/// Bytes that an ordinary user may still write on the disk of a folder.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = statvfs(folder)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// Bytes of all files below a folder.
pub(crate) fn used_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => used_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// The folders in a folder, but for hidden ones; none if it can't be read.
fn folders(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(of) else { return Vec::new() };
    let visible = entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    visible.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "a scratch folder could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str) -> WorkerId {
        id.parse().unwrap()
    }

    #[test]
    fn a_scratch_folder_is_exclusive_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let scratch = ScratchRoot::open(root.path(), &worker("aaa")).unwrap();
        let (run, lease) = ("r1".parse().unwrap(), "1.aaa.1".parse().unwrap());
        let folder = scratch.create(&run, TaskId(3), &lease).unwrap();
        assert_eq!(folder.path(), root.path().join("r1-0000003-1.aaa.1"));
        let again = scratch.create(&run, TaskId(3), &lease).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        drop(folder);
        assert!(folders(root.path()).is_empty());
        assert!(root.path().exists());
        assert!(scratch.free_bytes().unwrap() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_disk_is_measured_as_long_as_work_lasts() {
        let root = tempfile::tempdir().unwrap();
        let scratch = ScratchRoot::open(root.path(), &worker("aaa")).unwrap();
        let ((), least) = scratch.least_free_during(tokio::time::sleep(Duration::from_secs(2))).await;
        assert!(least.unwrap() > 0);
        fs::create_dir_all(root.path().join("r1/below")).unwrap();
        fs::write(root.path().join("r1/below/a"), "four").unwrap();
        fs::write(root.path().join("r1/b"), "x").unwrap();
        assert_eq!(used_bytes(&root.path().join("r1")), 5);
    }

    #[test]
    fn what_the_dead_left_is_swept_and_what_the_living_use_is_not() {
        let root = tempfile::tempdir().unwrap();
        let living = ScratchRoot::open(root.path(), &worker("living")).unwrap();
        let run = "r-1".parse().unwrap();
        let used = living.create(&run, TaskId(1), &"1.living.1".parse().unwrap()).unwrap();
        drop(ScratchRoot::open(root.path(), &worker("dead")).unwrap());
        let left = root.path().join("r-1-0000002-1.dead.1");
        let unclear = root.path().join("r-1-0000002-1.nosign.1");
        for folder in [&left, &unclear] {
            fs::create_dir(folder).unwrap();
        }
        let _next = ScratchRoot::open(root.path(), &worker("next")).unwrap();
        assert!(!left.exists());
        assert!(used.path().exists());
        assert!(unclear.exists(), "its worker may live");
    }
}
