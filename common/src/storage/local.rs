//! The store of a local folder: `object_store`'s, but a small object is read in one go. Nothing lists it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Objects up to this size are read in one go.
const SMALL_BYTES: u64 = 64 * 1024;
/// What its errors call it.
const STORE: &str = "LocalFileSystem";

/// A local folder as a store.
///
/// [`LocalFileSystem`] opens a file on one thread and reads it on another, and each change of threads costs more than reading
/// a small object: records, indexes, shards and specs are most of what a worker reads.
#[derive(Debug)]
pub struct LocalStore {
    files: LocalFileSystem,
}

impl LocalStore {
    /// The store of a folder; `files` decides whether its writes are on disk when they return.
    pub const fn over(files: LocalFileSystem) -> Self {
        Self { files }
    }
}

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait::async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.files.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.files.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if !is_plain(&options) {
            return self.files.get_opts(location, options).await;
        }
        let (path, location) = (self.files.path_to_filesystem(location)?, location.clone());
        let opened = tokio::task::spawn_blocking(move || {
            open(&path, &location).map_err(|source| failed(source, &location))
        });
        opened.await.map_err(|source| Error::JoinError { source })?
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(never_listed()) }).boxed()
    }

    fn list_with_offset(&self, _: Option<&Path>, _: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(never_listed()) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(never_listed())
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await
    }
}

/// Whether these ask for the whole object, whatever it is.
fn is_plain(options: &GetOptions) -> bool {
    let conditions = [&options.if_match, &options.if_none_match, &options.version];
    let is_unconditional = conditions.iter().all(|condition| condition.is_none())
        && options.if_modified_since.is_none()
        && options.if_unmodified_since.is_none();
    is_unconditional && options.range.is_none() && !options.head
}

/// Opens an object, and reads it if it is small.
fn open(path: &PathBuf, location: &Path) -> io::Result<GetResult> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut size = metadata.len();
    let payload = if size <= SMALL_BYTES {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        size = bytes.len() as u64;
        GetResultPayload::Stream(stream::once(async { Ok(Bytes::from(bytes)) }).boxed())
    } else {
        GetResultPayload::File(file, path.clone())
    };
    let last_modified = metadata.modified()?.into();
    let meta = ObjectMeta { location: location.clone(), last_modified, size, e_tag: None, version: None };
    let (attributes, extensions) = Default::default();
    Ok(GetResult { payload, meta, range: 0..size, attributes, extensions })
}

fn failed(source: io::Error, location: &Path) -> Error {
    let is_missing = source.kind() == io::ErrorKind::NotFound;
    let (path, source) = (location.to_string(), source.into());
    if is_missing { Error::NotFound { path, source } } else { Error::Generic { store: STORE, source } }
}

fn never_listed() -> Error {
    Error::NotSupported { source: "no store is ever listed".into() }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt as _, PutMode};

    use super::*;

    #[tokio::test]
    async fn small_and_large_objects_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::over(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        for size in [0, 1, SMALL_BYTES, SMALL_BYTES + 1] {
            let (path, bytes) = (Path::from(format!("a/{size}")), vec![b'x'; usize::try_from(size).unwrap()]);
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&path, bytes.clone().into(), options).await.unwrap();
            let got = store.get(&path).await.unwrap();
            assert_eq!((got.meta.size, got.range.end), (size, size));
            assert_eq!(got.bytes().await.unwrap(), bytes);
            assert_eq!(store.head(&path).await.unwrap().size, size);
        }
        assert_eq!(store.get_range(&Path::from("a/1"), 0..1).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn what_is_not_there_is_missing_and_a_folder_is_no_object() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::over(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        store.put(&Path::from("a/b"), "x".into()).await.unwrap();
        for path in ["a", "b", "a/c"] {
            assert!(matches!(store.get(&Path::from(path)).await, Err(Error::NotFound { .. })), "{path}");
        }
        let below_a_file = store.get(&Path::from("a/b/c")).await;
        assert!(matches!(below_a_file, Err(Error::Generic { .. })), "{below_a_file:?}");
    }
}
