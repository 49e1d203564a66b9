//! A local store whose writes can be made to hang, as a network file system does. Everything else is the real thing.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A local store that stalls while the file `<its folder>.stall` is there; a write that waits makes `<its folder>.stalled`.
#[derive(Debug)]
pub struct StallingStore {
    files: LocalFileSystem,
    folder: PathBuf,
}

impl StallingStore {
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
}

impl fmt::Display for StallingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stalling {}", self.files)
    }
}

#[async_trait::async_trait]
impl ObjectStore for StallingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.stall().await;
        self.files.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.stall().await;
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
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
