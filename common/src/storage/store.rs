//! The store of all runs and of one run: reading, and writing once.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Error, Extensions, GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
};

use super::local::{InPlace, LocalStore};
use super::retry::GaveUp;
use super::{RetryPolicy, StorageError, key};
use crate::digest::sha256_hex;
use crate::task::RunId;

/// The store that a URL names.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) objects: Arc<dyn ObjectStore>,
    url: String,
    pub(super) retry: RetryPolicy,
}

/// What became of writing an object once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Creation {
    /// It was written.
    New,
    /// The same bytes were there: an earlier try, or somebody else with the same result.
    Same,
    /// These other bytes were there, and stay.
    Differs(Bytes),
}

impl Store {
    /// Opens the store of a `file://` URL; its folder is made if it is not there.
    pub fn open(url: &str) -> Result<Self, StorageError> {
        let invalid = || StorageError::Url { url: url.to_owned() };
        let parsed = url::Url::parse(url).map_err(|_| invalid())?;
        if parsed.scheme() != "file" {
            return Err(invalid());
        }
        let folder = parsed.to_file_path().map_err(|()| invalid())?;
        let failed = |source| StorageError::Open { url: url.to_owned(), source: Box::new(source) };
        std::fs::create_dir_all(&folder)
            .map_err(|source| failed(Error::Generic { store: "LocalFileSystem", source: source.into() }))?;
        Ok(Self::over(Arc::new(LocalStore::open(&folder, true).map_err(failed)?), url))
    }

    /// A store over an object store that the caller made.
    pub fn over(objects: Arc<dyn ObjectStore>, url: &str) -> Self {
        Self { objects, url: url.to_owned(), retry: RetryPolicy::default() }
    }

    /// The same store under another retry policy.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The part of the store that belongs to a run.
    pub fn run(&self, run: &RunId) -> RunStore {
        RunStore { store: self.clone(), root: Path::from(run.as_str()), may_wait: false }
    }

    /// The part of the store that holds published drivers, by [`key::published_driver`]. A run of that name is not disturbed: none of its
    /// objects begins with a digest.
    pub fn drivers(&self) -> RunStore {
        RunStore { store: self.clone(), root: Path::from("drivers"), may_wait: false }
    }

    /// The part of the store that holds what runs share of what their steps make, by [`key::shared_output`]. A run of that name is not
    /// disturbed: none of its objects begins with a digest.
    pub fn shared(&self) -> RunStore {
        RunStore { store: self.clone(), root: Path::from("shared"), may_wait: false }
    }
}

/// The objects of one run, by their names below it ([`super::key`]).
#[derive(Debug, Clone)]
pub struct RunStore {
    pub(super) store: Store,
    pub(super) root: Path,
    /// Whether small requests may keep the thread that makes them waiting for a disk.
    pub(super) may_wait: bool,
}

impl RunStore {
    /// The store's URL.
    pub fn url(&self) -> &str {
        &self.store.url
    }

    /// The same for a thread that may wait for a disk: a local store creates and reads objects on it, and not on another one. All
    /// other requests and stores are as they were.
    #[must_use]
    pub fn in_place(&self) -> Self {
        Self { may_wait: true, ..self.clone() }
    }

    /// An object's name below the store.
    pub fn name(&self, object: &str) -> String {
        format!("{}/{object}", self.root)
    }

    pub(super) fn path(&self, object: &str) -> Path {
        Path::from(self.name(object))
    }

    pub(super) fn error(&self, object: &str, gave_up: GaveUp) -> StorageError {
        let (object, url) = (object.to_owned(), self.store.url.clone());
        match gave_up {
            GaveUp::Answer(Error::NotFound { .. }) => StorageError::Missing { object, url },
            GaveUp::Answer(source) => StorageError::Refused { object, url, source: Box::new(source) },
            GaveUp::Passing { tries, elapsed_ms, last } => {
                StorageError::Unreachable { object, url, tries, elapsed_ms, source: last.map(Box::new) }
            }
        }
    }

    fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        if self.may_wait {
            extensions.insert(InPlace);
        }
        extensions
    }

    /// Writes an object that must not be there, or has these very bytes. Never changes stored bytes.
    pub async fn create(&self, object: &str, bytes: Bytes) -> Result<Creation, StorageError> {
        let path = self.path(object);
        let put = self.store.retry.run(|| {
            let mut options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            options.extensions = self.extensions();
            self.store.objects.put_opts(&path, PutPayload::from_bytes(bytes.clone()), options)
        });
        match put.await {
            Ok(_) => Ok(Creation::New),
            // Perhaps our own: a put whose answer was lost. The bytes decide.
            Err(GaveUp::Answer(Error::AlreadyExists { .. } | Error::Precondition { .. })) => {
                let stored = self.read(object).await?;
                Ok(if stored == bytes { Creation::Same } else { Creation::Differs(stored) })
            }
            Err(gave_up) => Err(self.error(object, gave_up)),
        }
    }

    /// Writes an object whether or not it is there. Only for what can be made again at any time.
    pub async fn replace(&self, object: &str, bytes: Bytes) -> Result<(), StorageError> {
        let path = self.path(object);
        let put =
            self.store.retry.run(|| self.store.objects.put(&path, PutPayload::from_bytes(bytes.clone())));
        put.await.map(drop).map_err(|gave_up| self.error(object, gave_up))
    }

    /// Reads an object.
    pub async fn read(&self, object: &str) -> Result<Bytes, StorageError> {
        let path = self.path(object);
        let get = self.store.retry.run(|| async {
            let options = GetOptions::new().with_extensions(self.extensions());
            self.store.objects.get_opts(&path, options).await?.bytes().await
        });
        get.await.map_err(|gave_up| self.error(object, gave_up))
    }

    /// Reads an object that may not be there.
    pub async fn find(&self, object: &str) -> Result<Option<Bytes>, StorageError> {
        match self.read(object).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads `length` bytes of an object from `offset` on, never fewer.
    pub async fn read_range(&self, object: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        let path = self.path(object);
        let range = offset..offset.saturating_add(length);
        // A store tells of a range beyond the end by fewer bytes or by an error like any other; only the size tells for sure.
        let get = self.store.retry.run(|| async {
            match self.store.objects.get_range(&path, range.clone()).await {
                Ok(bytes) if bytes.len() as u64 == length => Ok(Ok(bytes)),
                Err(error @ Error::NotFound { .. }) => Err(error),
                other => match self.store.objects.head(&path).await?.size {
                    size if size < range.end => Ok(Err(size)),
                    _ => other.map(Ok),
                },
            }
        });
        let read = get.await.map_err(|gave_up| self.error(object, gave_up))?;
        let (object, url) = (object.to_owned(), self.store.url.clone());
        read.map_err(|theirs| StorageError::Short { object, url, theirs, ours: range.end })
    }

    /// Deletes an object; whether it was there does not matter.
    pub async fn delete(&self, object: &str) -> Result<(), StorageError> {
        let path = self.path(object);
        match self.store.retry.run(|| self.store.objects.delete(&path)).await {
            Ok(()) | Err(GaveUp::Answer(Error::NotFound { .. })) => Ok(()),
            Err(gave_up) => Err(self.error(object, gave_up)),
        }
    }

    /// Makes sure that this is the store that push filled, by the spec's digest. An empty mount point must not collect results.
    pub async fn confirm(&self, spec_sha256: &str) -> Result<(), StorageError> {
        let stored = self.find(key::SPEC).await?;
        if stored.is_some_and(|bytes| sha256_hex(&bytes) == spec_sha256) {
            return Ok(());
        }
        Err(StorageError::NotTheRunsStore { object: key::SPEC.to_owned(), url: self.store.url.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_store() -> (tempfile::TempDir, RunStore) {
        let folder = tempfile::Builder::new().prefix("with space ").tempdir().unwrap();
        let url = url::Url::from_directory_path(folder.path()).unwrap();
        let store = Store::open(url.as_str()).unwrap().run(&"r1".parse().unwrap());
        (folder, store)
    }

    #[tokio::test]
    async fn stored_bytes_never_change() {
        let (_folder, store) = run_store();
        assert_eq!(store.create("shards/a", "one".into()).await.unwrap(), Creation::New);
        assert_eq!(store.create("shards/a", "one".into()).await.unwrap(), Creation::Same);
        assert_eq!(store.create("shards/a", "two".into()).await.unwrap(), Creation::Differs("one".into()));
        assert_eq!(store.read("shards/a").await.unwrap(), "one");
        assert_eq!(store.read_range("shards/a", 1, 2).await.unwrap(), "ne");
    }

    #[tokio::test]
    async fn a_range_is_read_whole_or_not_at_all() {
        let (_folder, store) = run_store();
        store.create("inputs/a", "one".into()).await.unwrap();
        for (offset, length) in [(1, 3), (3, 1), (7, 2), (0, u64::MAX), (u64::MAX, 1)] {
            let read = store.read_range("inputs/a", offset, length).await;
            assert!(
                matches!(read, Err(StorageError::Short { theirs: 3, .. })),
                "{offset} {length}: {read:?}"
            );
        }
        assert!(matches!(store.read_range("inputs/b", 0, 1).await, Err(StorageError::Missing { .. })));
    }

    #[tokio::test]
    async fn of_many_writers_one_wins() {
        let (_folder, store) = run_store();
        let writers = (0..16).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.create("x", Bytes::from(vec![n; 100_000])).await.unwrap() })
        });
        let outcomes = futures::future::join_all(writers).await;
        let new = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Creation::New))).count();
        assert_eq!(new, 1);
    }

    #[tokio::test]
    async fn an_empty_mount_point_is_not_the_runs_store() {
        let (_folder, store) = run_store();
        let digest = sha256_hex(b"{}");
        assert!(matches!(store.confirm(&digest).await, Err(StorageError::NotTheRunsStore { .. })));
        store.create(key::SPEC, "{}".into()).await.unwrap();
        store.confirm(&digest).await.unwrap();
    }

    #[test]
    fn other_schemes_are_refused_by_name() {
        let error = Store::open("gopher://x/y").unwrap_err();
        assert_eq!(error.to_string(), "the store URL `gopher://x/y` is not valid (known schemes: file://)");
    }
}
