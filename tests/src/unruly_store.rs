//! A local store whose writes can be made to hang, as a network file system does, and which can refuse, drag and lose its answers, as
//! a bucket does. Everything else is the real thing.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use common::storage::{StorageError, Store};
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::RngExt as _;

/// What a store does to a request. As text in a file: `refuse 429 300`, `slow 400`, `lose 300`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers so many of a thousand requests with this status and does nothing.
    Refuse {
        /// An HTTP status.
        status: u16,
        /// Of a thousand.
        per_mille: u32,
    },
    /// It takes up to so many ms longer.
    Slow {
        /// At most.
        ms: u64,
    },
    /// It does what it is asked, and the answers to so many of a thousand writes get lost.
    Lose {
        /// Of a thousand.
        per_mille: u32,
    },
}

/// A local store that stalls while the file `<its folder>.stall` is there; a write that waits makes `<its folder>.stalled`. The file
/// `<its folder>.manner` has the [`Manner`] in which it treats requests.
#[derive(Debug)]
pub struct UnrulyStore {
    files: LocalFileSystem,
    folder: PathBuf,
}

/// Opens the store of a worker that is tested. The product's own checks of the URL and of its folder come first.
pub fn open_unruly(url: &str) -> std::result::Result<Store, StorageError> {
    Store::open(url)?;
    Ok(Store::over(Arc::new(UnrulyStore::open(url)), url))
}

impl UnrulyStore {
    /// Opens the store of a `file://` URL.
    pub fn open(url: &str) -> Self {
        let folder = url::Url::parse(url).unwrap().to_file_path().unwrap();
        let files = LocalFileSystem::new_with_prefix(&folder).unwrap().with_fsync(true);
        Self { files, folder }
    }

    async fn stall(&self) {
        let (stall, stalled) = (self.folder.with_extension("stall"), self.folder.with_extension("stalled"));
        while stall.exists() {
            std::fs::write(&stalled, "").unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn manner(&self) -> Option<Manner> {
        std::fs::read_to_string(self.folder.with_extension("manner")).ok()?.parse().ok()
    }

    /// What comes before a request is done.
    async fn before(&self) -> Result<()> {
        match self.manner() {
            Some(Manner::Refuse { status, per_mille }) if happens(per_mille) => {
                Err(fault(&format!("{status}")))
            }
            Some(Manner::Slow { ms }) => {
                let ms = rand::rng().random_range(0..=ms);
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What comes after a write was done.
    fn after<T>(&self, done: T) -> Result<T> {
        match self.manner() {
            Some(Manner::Lose { per_mille }) if happens(per_mille) => Err(fault("the connection broke")),
            _ => Ok(done),
        }
    }
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse { status, per_mille } => write!(f, "refuse {status} {per_mille}"),
            Self::Slow { ms } => write!(f, "slow {ms}"),
            Self::Lose { per_mille } => write!(f, "lose {per_mille}"),
        }
    }
}

impl FromStr for Manner {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        fn number<T: FromStr>(word: &str) -> std::result::Result<T, ()> {
            word.parse().map_err(|_| ())
        }
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["refuse", status, per_mille] => {
                Ok(Self::Refuse { status: number(status)?, per_mille: number(per_mille)? })
            }
            ["slow", ms] => Ok(Self::Slow { ms: number(ms)? }),
            ["lose", per_mille] => Ok(Self::Lose { per_mille: number(per_mille)? }),
            _ => Err(()),
        }
    }
}

fn happens(per_mille: u32) -> bool {
    rand::rng().random_range(0..1000) < per_mille
}

/// How a passing fault of a bucket arrives, once the client has given up on it.
fn fault(what: &str) -> Error {
    Error::Generic { store: "unruly", source: what.to_owned().into() }
}

impl fmt::Display for UnrulyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unruly {}", self.files)
    }
}

#[async_trait::async_trait]
impl ObjectStore for UnrulyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.before().await?;
        self.stall().await;
        let done = self.files.put_opts(location, payload, opts).await?;
        self.after(done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.before().await?;
        self.stall().await;
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.before().await?;
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.before().await?;
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, _prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        panic!("nothing may list the store");
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        panic!("nothing may list the store");
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt as _, PutMode};

    use super::*;

    #[tokio::test]
    async fn it_treats_requests_as_its_file_says() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("store");
        std::fs::create_dir(&folder).unwrap();
        let store = UnrulyStore::open(url::Url::from_directory_path(&folder).unwrap().as_str());
        let set =
            |manner: Manner| std::fs::write(folder.with_extension("manner"), manner.to_string()).unwrap();
        let path = Path::from("x");
        let create = || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&path, PutPayload::from_static(b"x"), options)
        };
        set(Manner::Refuse { status: 503, per_mille: 1000 });
        assert!(create().await.unwrap_err().to_string().contains("503"));
        set(Manner::Slow { ms: 1 });
        assert!(matches!(store.get(&path).await, Err(Error::NotFound { .. })), "nothing was written");
        set(Manner::Lose { per_mille: 1000 });
        assert!(matches!(create().await, Err(Error::Generic { .. })));
        assert!(matches!(create().await, Err(Error::AlreadyExists { .. })), "it was written all the same");
    }

    #[test]
    fn manners_are_read_as_they_are_written() {
        for text in ["refuse 429 300", "slow 400", "lose 20"] {
            assert_eq!(text.parse::<Manner>().unwrap().to_string(), text);
        }
        assert_eq!("refuse".parse::<Manner>(), Err(()));
    }
}
