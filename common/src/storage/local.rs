//! The store of a local folder: `object_store`'s, but small objects are read and created with fewer calls of the system, and on the
//! caller's own thread if it may wait. Nothing lists it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path as FilePath, PathBuf};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, Extensions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result,
};

/// Objects up to this size are read in one go.
const SMALL_BYTES: u64 = 64 * 1024;
/// What its errors call it.
const STORE: &str = "LocalFileSystem";

/// In the extensions of a request: whoever makes it may wait for a disk, so that no other thread is needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct InPlace;

/// A local folder as a store.
///
/// [`LocalFileSystem`] opens a file on one thread and reads it on another, and each change of threads costs more than reading
/// a small object: records, indexes, shards and specs are most of what a worker reads and writes.
#[derive(Debug)]
pub struct LocalStore {
    files: LocalFileSystem,
    is_durable: bool,
}

impl LocalStore {
    /// The store of a folder, which must exist; `is_durable` says whether its writes are on disk when they return.
    pub fn open(folder: &FilePath, is_durable: bool) -> Result<Self> {
        let files = LocalFileSystem::new_with_prefix(folder)?;
        let files = files.with_fsync(is_durable).with_automatic_cleanup(true);
        Ok(Self { files, is_durable })
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
        if !matches!(opts.mode, PutMode::Create) || !opts.attributes.is_empty() {
            return self.files.put_opts(location, payload, opts).await;
        }
        let (path, is_durable) = (self.files.path_to_filesystem(location)?, self.is_durable);
        let (bytes, location_of_it) = (payload.clone(), location.clone());
        let create = move || match create(&path, &bytes, is_durable) {
            Err(error) if is_unsupported(&error) => Ok(false),
            Err(error) => Err(not_created(error, &location_of_it)),
            Ok(()) => Ok(true),
        };
        if in_place(opts.extensions.get().copied(), create).await? {
            return Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() });
        }
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
        let open = move || open(&path, &location).map_err(|source| failed(source, &location));
        in_place(options.extensions.get().copied(), open).await
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

/// Does something that may wait for a disk: here if the caller may wait, and else on another thread.
async fn in_place<T: Send + 'static>(
    may_wait: Option<InPlace>,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if may_wait.is_some() {
        return job();
    }
    tokio::task::spawn_blocking(job).await.map_err(|source| Error::JoinError { source })?
}

/// Opens an object, and reads it if it is small.
fn open(path: &PathBuf, location: &Path) -> io::Result<GetResult> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut size = metadata.len();
    let payload = if size <= SMALL_BYTES {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 1);
        // Taken, lest it be asked for its size again. No object grows.
        file.take(SMALL_BYTES).read_to_end(&mut bytes)?;
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

/// Creates an object out of a file that has no name until it is whole: whoever is killed meanwhile leaves nothing.
fn create(path: &FilePath, payload: &PutPayload, is_durable: bool) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut changed = vec![folder];
    let mut file = match nameless(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(folder, &mut changed)?;
            nameless(folder)?
        }
        file => file?,
    };
    for bytes in payload {
        file.write_all(bytes)?;
    }
    if is_durable {
        file.sync_all()?;
    }
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, itself.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)?;
    if is_durable {
        for folder in changed {
            File::open(folder)?.sync_all()?;
        }
    }
    Ok(())
}

fn nameless(folder: &FilePath) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlag::O_TMPFILE.bits()).mode(0o666).open(folder)
}

/// Makes a folder and those above it that are not there, and notes in which ones something was made.
fn make<'p>(folder: &'p FilePath, changed: &mut Vec<&'p FilePath>) -> io::Result<()> {
    let above = folder.parent().ok_or(io::ErrorKind::NotFound)?;
    let made = match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(above, changed)?;
            fs::create_dir(folder)
        }
        made => made,
    };
    // Also if somebody else was quicker: nobody knows whether he has brought it to disk yet.
    changed.push(above);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Whether a file system, such as NFS, knows no files without a name.
fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::EOPNOTSUPP, Errno::EISDIR, Errno::EINVAL];
    error.raw_os_error().is_some_and(|code| unsupported.contains(&Errno::from_raw(code)))
}

fn not_created(source: io::Error, location: &Path) -> Error {
    if source.kind() == io::ErrorKind::AlreadyExists {
        return Error::AlreadyExists { path: location.to_string(), source: source.into() };
    }
    Error::Generic { store: STORE, source: source.into() }
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
        let store = LocalStore::open(folder.path(), true).unwrap();
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
    async fn an_object_is_created_once_with_its_folders_and_nothing_beside_it() {
        for (is_durable, may_wait) in [(true, true), (true, false), (false, true)] {
            let folder = tempfile::tempdir().unwrap();
            let store = LocalStore::open(folder.path(), is_durable).unwrap();
            let create = async |bytes: &'static str| {
                let mut options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                if may_wait {
                    options.extensions.insert(InPlace);
                }
                store.put_opts(&Path::from("a/b/c"), bytes.into(), options).await
            };
            create("one").await.unwrap();
            assert!(matches!(create("two").await, Err(Error::AlreadyExists { .. })));
            assert_eq!(store.get(&Path::from("a/b/c")).await.unwrap().bytes().await.unwrap(), "one");
            let names =
                fs::read_dir(folder.path().join("a/b")).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(names.collect::<Vec<_>>(), ["c"]);
        }
    }

    #[test]
    fn file_systems_without_nameless_files_are_known_by_what_they_say() {
        let says = |errno: Errno| is_unsupported(&errno.into());
        assert!(says(Errno::EOPNOTSUPP) && says(Errno::EISDIR));
        assert!(!says(Errno::EEXIST) && !says(Errno::ENOSPC) && !says(Errno::ENOENT));
    }

    /// `object_store` has no file of a name that ends with a colon: what it could not read or delete, nobody creates.
    #[tokio::test]
    async fn only_names_that_all_calls_agree_about_are_created() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path(), true).unwrap();
        for name in ["a:", "a:b", "a b"] {
            let options = PutOptions::from(PutMode::Create);
            let is_made = store.put_opts(&Path::from(name), "x".into(), options).await.is_ok();
            assert_eq!(is_made, !name.ends_with(':'), "{name}");
            assert_eq!(store.delete(&Path::from(name)).await.is_ok(), is_made, "{name}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_missing_and_a_folder_is_no_object() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::open(folder.path(), true).unwrap();
        store.put(&Path::from("a/b"), "x".into()).await.unwrap();
        for path in ["a", "b", "a/c"] {
            assert!(matches!(store.get(&Path::from(path)).await, Err(Error::NotFound { .. })), "{path}");
        }
        let below_a_file = store.get(&Path::from("a/b/c")).await;
        assert!(matches!(below_a_file, Err(Error::Generic { .. })), "{below_a_file:?}");
    }
}
