//! Inputs of tasks as local files, by content: fetched once per host, however many attempts and workers want them.
//!
//! An entry is a folder that is renamed into place when it is whole; a lock file beside it keeps others from fetching the same.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use common::digest::{Sha256Writer, sha256_hex};
use common::storage::{RunStore, StorageError};
use common::task::ObjectRef;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How long until a lock that somebody else has is tried again.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Why an entry could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError<E> {
    /// The local disk failed.
    #[error("the cache folder `{}` can't be used", folder.display())]
    Disk {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Filling the entry failed.
    #[error(transparent)]
    Fill(E),
}

/// The cache of this host.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    /// Entries whose bytes this process has checked or made.
    checked: Mutex<HashSet<PathBuf>>,
}

impl Cache {
    pub(crate) fn open(root: &Path) -> Self {
        Self { root: root.to_owned(), checked: Mutex::default() }
    }

    /// A pinned object as a local file, and how many bytes were fetched for it now.
    pub(crate) async fn object(
        &self,
        store: &RunStore,
        pinned: &ObjectRef,
    ) -> Result<(PathBuf, u64), CacheError<StorageError>> {
        // The same bytes under two names are two entries: filling the second must not touch the first, which may be in use.
        let name = pinned.file_name();
        let entry = self.root.join(sha256_hex(format!("{}/{name}", pinned.sha256).as_bytes()));
        let file = entry.join(name);
        if self.is_checked(&file) {
            return Ok((file, 0));
        }
        let fill = async |folder: &Path| store.download(pinned, &folder.join(pinned.file_name())).await;
        let whole = || digest_of(&file).is_ok_and(|sha256| sha256 == pinned.sha256);
        let made = self.entry(&entry, Path::new(name), whole, fill).await?;
        self.remember(&file);
        Ok((file, if made { pinned.bytes } else { 0 }))
    }

    /// A file made by a program from a cached one: `output` in the entry of that key.
    pub(crate) async fn derived<E>(
        &self,
        key: &str,
        output: &Path,
        make: impl AsyncFnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, CacheError<E>> {
        let entry = self.root.join(key);
        let file = entry.join(output);
        if !self.is_checked(&file) {
            self.entry(&entry, output, || file.is_file(), make).await?;
            self.remember(&file);
        }
        Ok(file)
    }

    /// Waits until nobody else on this host has the same name, as far as that is told by its beginning: there is a lock file for each of
    /// some thousands of beginnings, and not one for each name for ever.
    pub(crate) async fn alone(&self, name: &str) -> io::Result<Flock<File>> {
        let beginning: String = name.chars().take(3).collect();
        fs::create_dir_all(&self.root)?;
        let path = self.root.join(format!("share-{beginning}.lock"));
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        loop {
            // Not a blocking lock: whoever has to stop must not be held by somebody else's minutes.
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Ok(locked),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(io::Error::from(errno)),
            };
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Makes an entry unless it is whole; tells whether it was made. Only one at a time on this host does so.
    async fn entry<E>(
        &self,
        entry: &Path,
        output: &Path,
        whole: impl Fn() -> bool,
        fill: impl AsyncFnOnce(&Path) -> Result<(), E>,
    ) -> Result<bool, CacheError<E>> {
        let disk = |source| CacheError::Disk { folder: entry.to_owned(), source };
        let _lock = lock(entry).await.map_err(disk)?;
        if whole() {
            return Ok(false);
        }
        let unfinished = entry.with_extension("unfinished");
        for leftover in [entry, &unfinished] {
            remove_if_there(leftover).map_err(disk)?;
        }
        fs::create_dir_all(&unfinished).map_err(disk)?;
        fill(&unfinished).await.map_err(CacheError::Fill)?;
        // An entry that is there after a power cut has to be whole: nobody knows the digest of a derived file in advance.
        File::open(unfinished.join(output)).and_then(|made| made.sync_all()).map_err(disk)?;
        fs::rename(&unfinished, entry).map_err(disk)?;
        Ok(true)
    }

    fn is_checked(&self, file: &Path) -> bool {
        self.checked.lock().expect("no holder panics").contains(file) && file.is_file()
    }

    fn remember(&self, file: &Path) {
        self.checked.lock().expect("no holder panics").insert(file.to_owned());
    }
}

/// Waits for the lock of an entry, on a thread of its own.
fn lock(entry: &Path) -> impl Future<Output = io::Result<Flock<File>>> + use<> {
    let path = entry.with_extension("lock");
    async move {
        let locked = tokio::task::spawn_blocking(move || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))
        });
        locked.await.map_err(io::Error::other)?
    }
}

fn remove_if_there(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn digest_of(file: &Path) -> io::Result<String> {
    let mut digest = Sha256Writer::default();
    io::copy(&mut File::open(file)?, &mut digest)?;
    Ok(digest.finish().0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use common::storage::Store;

    use super::*;

    async fn store_with(content: &'static str) -> (tempfile::TempDir, RunStore, ObjectRef) {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Store::open(&format!("file://{}", folder.path().display())).unwrap().run(&"r".parse().unwrap());
        let sha256 = sha256_hex(content.as_bytes());
        let object = common::storage::key::input(&sha256, "receptor.pdb");
        store.create(&object, content.into()).await.unwrap();
        (folder, store, ObjectRef { object, sha256, bytes: content.len() as u64 })
    }

    #[tokio::test]
    async fn an_object_is_fetched_once_per_host() {
        let (_folder, store, pinned) = store_with("atoms").await;
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (Cache::open(root.path()), Cache::open(root.path()));
        let (file, fetched) = one.object(&store, &pinned).await.unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), fetched), ("atoms", 5));
        assert_eq!(one.object(&store, &pinned).await.unwrap(), (file.clone(), 0));
        assert_eq!(other.object(&store, &pinned).await.unwrap(), (file, 0));
    }

    #[tokio::test]
    async fn a_damaged_entry_is_fetched_again() {
        let (_folder, store, pinned) = store_with("atoms").await;
        let root = tempfile::tempdir().unwrap();
        let (file, _) = Cache::open(root.path()).object(&store, &pinned).await.unwrap();
        fs::write(&file, "ato").unwrap();
        let (file, fetched) = Cache::open(root.path()).object(&store, &pinned).await.unwrap();
        assert_eq!((fs::read_to_string(&file).unwrap().as_str(), fetched), ("atoms", 5));
    }

    #[tokio::test]
    async fn other_bytes_than_the_pinned_ones_are_refused() {
        let (_folder, store, mut pinned) = store_with("atoms").await;
        pinned.sha256 = sha256_hex(b"others");
        let root = tempfile::tempdir().unwrap();
        let refused = Cache::open(root.path()).object(&store, &pinned).await;
        assert!(matches!(refused, Err(CacheError::Fill(StorageError::Digest { .. }))));
        let entries = fs::read_dir(root.path()).unwrap().flatten();
        assert!(
            entries.into_iter().all(|entry| entry.path().extension().is_some()),
            "no entry, only its lock"
        );
    }

    #[tokio::test]
    async fn the_same_bytes_under_two_names_are_two_entries() {
        let (_folder, store, pinned) = store_with("atoms").await;
        let object = common::storage::key::input(&pinned.sha256, "again.pdb");
        store.create(&object, "atoms".into()).await.unwrap();
        let again = ObjectRef { object, ..pinned.clone() };
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path());
        let (first, _) = cache.object(&store, &pinned).await.unwrap();
        let (second, _) = cache.object(&store, &again).await.unwrap();
        assert!(first.is_file() && second.is_file(), "the first is still in use");
        assert_eq!(
            (first.file_name(), second.file_name()),
            (Some("receptor.pdb".as_ref()), Some("again.pdb".as_ref()))
        );
    }

    #[tokio::test]
    async fn eight_attempts_at_once_prepare_a_receptor_once() {
        let root = tempfile::tempdir().unwrap();
        let made = AtomicU32::new(0);
        let caches: Vec<Cache> = (0..8).map(|_| Cache::open(root.path())).collect();
        let wanted = caches.iter().map(|cache| {
            cache.derived("key", Path::new("receptor.pdbqt"), async |folder: &Path| {
                made.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                fs::write(folder.join("receptor.pdbqt"), "prepared")
            })
        });
        for file in futures::future::join_all(wanted).await {
            assert_eq!(fs::read_to_string(file.unwrap()).unwrap(), "prepared");
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failed_preparation_leaves_no_entry() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::open(root.path());
        let failed = cache.derived("key", Path::new("x"), async |_: &Path| Err::<(), _>("broken")).await;
        assert!(matches!(failed, Err(CacheError::Fill("broken"))));
        let retried =
            cache.derived("key", Path::new("x"), async |folder: &Path| fs::write(folder.join("x"), "ok"));
        assert!(retried.await.is_ok());
    }
}
