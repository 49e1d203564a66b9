//! Objects that need not fit into memory: written from a local file, copied to one, or only digested, part by part. It knows
//! nothing of what is in them.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path as LocalPath;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStoreExt as _, PutPayload};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::retry::GaveUp;
use super::{RetryPolicy, RunStore, StorageError, key};
use crate::digest::Sha256Writer;
use crate::task::ObjectRef;

/// What is in memory of an object. S3 takes parts of 5 MiB or more, and 10,000 of them: objects of up to 52 GB.
const PART_BYTES: usize = 5 << 20; // 5 MiB
/// Below this, an upload is taken for one that hangs.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20; // 1 MiB

/// What an upload came to that reached the store: the file may still be the wrong one.
type Uploaded = Result<(), StorageError>;

impl RunStore {
    /// Writes an object from a local file if it is not there. Stored bytes never change, and other bytes than the pinned ones are
    /// never seen under the object's name: [`StorageError::Digest`] if they are there already, [`StorageError::Changed`] if they are
    /// what the file holds. May be cut off anywhere and done again.
    ///
    /// A multipart upload alone would overwrite. So it goes to a name made from the digest, where two writers write the same, and
    /// is copied from there if nothing is in its place.
    pub async fn create_file(&self, pinned: &ObjectRef, file: &Arc<File>) -> Result<(), StorageError> {
        let staged = key::upload(&pinned.sha256);
        if !self.is_stored(pinned).await? {
            self.upload(pinned, &staged, file).await?;
            self.publish(pinned, &staged).await?;
        }
        // Also what a killed push left behind.
        self.delete(&staged).await
    }

    async fn publish(&self, pinned: &ObjectRef, staged: &str) -> Result<(), StorageError> {
        let (from, to) = (self.path(staged), self.path(&pinned.object));
        let copied = self.store.retry.run(|| self.store.objects.copy_if_not_exists(&from, &to)).await;
        match copied {
            Ok(()) => Ok(()),
            // Perhaps our own copy, whose answer was lost, or that of the same push elsewhere, which has cleared up. The bytes decide.
            Err(GaveUp::Answer(answer)) if self.is_stored(pinned).await? => {
                tracing::debug!(object = pinned.object, %answer, "somebody else stored the same");
                Ok(())
            }
            Err(gave_up) => Err(self.error(&pinned.object, gave_up)),
        }
    }

    /// Writes an object from a local file whether or not it is there. Only for what can be made again at any time.
    pub async fn replace_file(&self, pinned: &ObjectRef, file: &Arc<File>) -> Result<(), StorageError> {
        self.upload(pinned, &pinned.object, file).await
    }

    /// The SHA-256 of an object; `None` if it is not there.
    pub async fn digest(&self, object: &str) -> Result<Option<String>, StorageError> {
        match self.copy_to(object, &mut tokio::io::sink()).await {
            Ok(sha256) => Ok(Some(sha256)),
            Err(StorageError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies an object to a local file, which is complete and durable when this returns, and gives its SHA-256.
    pub async fn copy_out(&self, object: &str, to: &LocalPath) -> Result<String, StorageError> {
        let local = |source| StorageError::Local { object: object.to_owned(), source };
        let mut file = tokio::fs::File::create(to).await.map_err(local)?;
        let sha256 = self.copy_to(object, &mut file).await?;
        file.sync_all().await.map_err(local)?;
        Ok(sha256)
    }

    /// Copies a pinned object to a local file, as [`RunStore::copy_out`]. Refuses other bytes than the pinned ones.
    pub async fn download(&self, pinned: &ObjectRef, to: &LocalPath) -> Result<(), StorageError> {
        let theirs = self.copy_out(&pinned.object, to).await?;
        if theirs == pinned.sha256 { Ok(()) } else { Err(self.differs(pinned, theirs)) }
    }

    fn differs(&self, pinned: &ObjectRef, theirs: String) -> StorageError {
        let (object, ours) = (pinned.object.clone(), pinned.sha256.clone());
        StorageError::Digest { object, url: self.url().to_owned(), theirs, ours }
    }

    /// Whether an object is there. Other bytes in its place are an error.
    async fn is_stored(&self, pinned: &ObjectRef) -> Result<bool, StorageError> {
        match self.digest(&pinned.object).await? {
            None => Ok(false),
            Some(theirs) if theirs == pinned.sha256 => Ok(true),
            Some(theirs) => Err(self.differs(pinned, theirs)),
        }
    }

    async fn copy_to(
        &self,
        object: &str,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<String, StorageError> {
        let local = |source| StorageError::Local { object: object.to_owned(), source };
        let path = self.path(object);
        let get = self.store.retry.run(|| self.store.objects.get(&path));
        let mut stream = get.await.map_err(|gave_up| self.error(object, gave_up))?.into_stream();
        let mut digest = Sha256Writer::default();
        while let Some(part) = stream.next().await {
            let part = part.map_err(|source| {
                self.error(object, GaveUp::Passing { tries: 1, elapsed_ms: 0, last: Some(source) })
            })?;
            digest.write_all(&part).map_err(local)?;
            to.write_all(&part).await.map_err(local)?;
        }
        to.flush().await.map_err(local)?;
        Ok(digest.finish().0)
    }

    async fn upload(&self, pinned: &ObjectRef, to: &str, file: &Arc<File>) -> Result<(), StorageError> {
        let path = self.path(to);
        let retry = self.store.retry.for_bytes(pinned.bytes);
        match retry.run(|| self.upload_once(&path, pinned, file)).await {
            Ok(uploaded) => uploaded,
            Err(gave_up) => Err(self.error(&pinned.object, gave_up)),
        }
    }

    async fn upload_once(
        &self,
        path: &Path,
        pinned: &ObjectRef,
        file: &Arc<File>,
    ) -> Result<Uploaded, Error> {
        let mut upload = self.store.objects.put_multipart(path).await?;
        match put_parts(upload.as_mut(), pinned, file).await {
            Ok(Ok(())) => upload.complete().await.map(|_| Ok(())),
            refused => {
                // At worst it stays: nobody sees an upload that was not completed.
                _ = upload.abort().await;
                refused
            }
        }
    }
}

async fn put_parts(
    upload: &mut dyn MultipartUpload,
    pinned: &ObjectRef,
    file: &Arc<File>,
) -> Result<Uploaded, Error> {
    let object = || pinned.object.clone();
    let mut digest = Sha256Writer::default();
    let mut offset = 0;
    loop {
        let file = Arc::clone(file);
        let read = tokio::task::spawn_blocking(move || {
            let part = read_part(&file, offset)?;
            digest.write_all(&part)?;
            Ok::<_, io::Error>((part, digest))
        });
        let part;
        (part, digest) = match read.await.map_err(io::Error::other).flatten() {
            Ok(read) => read,
            Err(source) => return Ok(Err(StorageError::Local { object: object(), source })),
        };
        if part.is_empty() {
            break;
        }
        offset += part.len() as u64;
        upload.put_part(PutPayload::from_bytes(part)).await?;
    }
    let (found, _) = digest.finish();
    let expected = pinned.sha256.clone();
    Ok(if found == expected {
        Ok(())
    } else {
        Err(StorageError::Changed { object: object(), found, expected })
    })
}

/// Reads a part; an empty one is the end. The file's own position does not matter and does not change.
fn read_part(file: &File, offset: u64) -> io::Result<Bytes> {
    let mut part = vec![0; PART_BYTES];
    let mut filled = 0;
    while filled < part.len() {
        match file.read_at(&mut part[filled..], offset + filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    part.truncate(filled);
    Ok(part.into())
}

impl RetryPolicy {
    /// The same policy with the time that so many bytes may take on top of its own.
    fn for_bytes(self, bytes: u64) -> Self {
        let transfer = Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
        Self { try_max: self.try_max + transfer, total_max: self.total_max + transfer, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256_hex;
    use crate::storage::Store;

    struct Bench {
        folder: tempfile::TempDir,
        store: RunStore,
    }

    fn bench() -> Bench {
        let folder = tempfile::Builder::new().prefix("with space ").tempdir().unwrap();
        let url = url::Url::from_directory_path(folder.path()).unwrap();
        let store = Store::open(url.as_str()).unwrap().run(&"r1".parse().unwrap());
        Bench { folder, store }
    }

    impl Bench {
        fn file(&self, name: &str, content: &[u8]) -> (ObjectRef, Arc<File>) {
            let path = self.folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let pinned = ObjectRef {
                object: "inputs/x".into(),
                sha256: sha256_hex(content),
                bytes: content.len() as u64,
            };
            (pinned, Arc::new(File::open(path).unwrap()))
        }

        fn stored(&self) -> Vec<String> {
            let mut folders = vec![self.folder.path().join("r1")];
            let mut names = Vec::new();
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
                    if entry.path().is_dir() {
                        folders.push(entry.path());
                    } else {
                        names.push(entry.file_name());
                    }
                }
            }
            names.into_iter().map(|name| name.into_string().unwrap()).collect()
        }
    }

    #[tokio::test]
    async fn a_file_of_several_parts_is_written_once_and_leaves_nothing_beside() {
        let bench = bench();
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(PART_BYTES + 77).collect();
        let (pinned, file) = bench.file("large", &content);
        for _ in 0..2 {
            bench.store.create_file(&pinned, &file).await.unwrap();
            assert_eq!(bench.store.read("inputs/x").await.unwrap(), content);
            assert_eq!(bench.stored(), ["x"]);
        }
        let (other, file) = bench.file("other", b"other");
        let error = bench.store.create_file(&other, &file).await.unwrap_err();
        assert!(matches!(error, StorageError::Digest { theirs, .. } if theirs == pinned.sha256));
        assert_eq!(bench.store.digest("inputs/x").await.unwrap(), Some(pinned.sha256));
        assert_eq!(bench.store.digest("inputs/y").await.unwrap(), None);
    }

    #[tokio::test]
    async fn of_many_writers_of_one_file_all_succeed() {
        let bench = bench();
        let (pinned, file) = bench.file("ligands", b"C benzene");
        let writers = (0..8).map(|_| {
            let (store, pinned, file) = (bench.store.clone(), pinned.clone(), Arc::clone(&file));
            tokio::spawn(async move { store.create_file(&pinned, &file).await })
        });
        for outcome in futures::future::join_all(writers).await {
            outcome.unwrap().unwrap();
        }
        assert_eq!(bench.store.digest("inputs/x").await.unwrap(), Some(pinned.sha256));
        assert_eq!(bench.stored(), ["x"]);
    }

    #[tokio::test]
    async fn a_file_that_has_changed_is_never_seen() {
        let bench = bench();
        let (mut pinned, file) = bench.file("ligands", b"after");
        pinned.sha256 = sha256_hex(b"before");
        let error = bench.store.create_file(&pinned, &file).await.unwrap_err();
        assert!(matches!(error, StorageError::Changed { found, .. } if found == sha256_hex(b"after")));
        assert!(bench.stored().is_empty());
    }

    #[tokio::test]
    async fn a_replaced_object_has_the_new_bytes() {
        let bench = bench();
        for content in ["one", "two"] {
            let (pinned, file) = bench.file("table", content.as_bytes());
            bench.store.replace_file(&pinned, &file).await.unwrap();
            assert_eq!(bench.store.read("inputs/x").await.unwrap(), content);
        }
    }

    #[tokio::test]
    async fn downloads_are_checked() {
        let bench = bench();
        bench.store.create("inputs/a", "receptor".into()).await.unwrap();
        let mut pinned = ObjectRef { object: "inputs/a".into(), sha256: sha256_hex(b"receptor"), bytes: 8 };
        let to = bench.folder.path().join("copy");
        bench.store.download(&pinned, &to).await.unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"receptor");
        pinned.sha256 = sha256_hex(b"other");
        assert!(matches!(bench.store.download(&pinned, &to).await, Err(StorageError::Digest { .. })));
        pinned.object = "inputs/b".into();
        assert!(matches!(bench.store.download(&pinned, &to).await, Err(StorageError::Missing { .. })));
    }
}
