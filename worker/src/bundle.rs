//! A checkpoint as one object: a tar of all files that resuming needs, then a note of what it was made for. Its digest stands in Redis.
//!
//! The same files give the same bytes. Whether a checkpoint has changed is told by the files that hold its state. Nothing in here talks to
//! the store.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use common::digest::Sha256Writer;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

use crate::engine::Snapshot;

/// The last entry: what the bundle was made for.
const NOTE: &str = "molfleet-checkpoint.json";
/// Larger ones are not made: they are held in memory on their way.
pub(crate) const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What a bundle was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Threads of the engine: with another number the bytes of a result differ.
    pub(crate) threads: u32,
    /// Of the entries before it that hold the state: another checkpoint has another one.
    pub(crate) state_sha256: String,
}

/// Paths below the scratch folder, and what stands there.
pub(crate) type Files = Vec<(PathBuf, Vec<u8>)>;

/// A bundle's bytes, their digest, and that of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) bytes: Bytes,
    pub(crate) sha256: String,
    pub(crate) state_sha256: String,
}

/// What became of packing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packing {
    /// A bundle.
    New(Packed),
    /// The state is that of the newest bundle.
    Unchanged,
    /// Files changed meanwhile: they may not belong together.
    Torn,
}

/// Packs the files of a snapshot, unless their state is that of the newest bundle. The state is read first: what is appended to may only
/// be longer than what it was written after. Each byte is digested once, since a worker that leaves has no time.
pub(crate) fn pack(
    folder: &Path,
    snapshot: &Snapshot,
    threads: u32,
    newest_state: Option<&str>,
) -> io::Result<Packing> {
    let Snapshot { state, appended, .. } = snapshot;
    let (before, lengths) = (marks(folder, state)?, marks(folder, appended)?);
    let total: u64 = before.iter().chain(&lengths).map(|(length, _)| length).sum();
    if total > BYTES_MAX {
        return Err(io::Error::other(format!("its files have {total} bytes (expected at most {BYTES_MAX})")));
    }
    let mut tar = Builder::new(Vec::new());
    add_files(&mut tar, folder, state)?;
    let state_length = tar.get_ref().len();
    let mut digest = Sha256Writer::default();
    digest.write_all(tar.get_ref())?;
    let (state_sha256, _) = digest.clone().finish();
    if newest_state == Some(&state_sha256) {
        return Ok(Packing::Unchanged);
    }
    add_files(&mut tar, folder, appended)?;
    let note = Note { threads, state_sha256 };
    add(&mut tar, Path::new(NOTE), &serde_json::to_vec(&note)?)?;
    let bytes = tar.into_inner()?;
    let are_longer = || marks(folder, appended).map(|now| now.iter().zip(&lengths).all(|(a, b)| a.0 >= b.0));
    if marks(folder, state)? != before || !are_longer()? {
        return Ok(Packing::Torn);
    }
    digest.write_all(&bytes[state_length..])?;
    let (sha256, _) = digest.finish();
    Ok(Packing::New(Packed { bytes: bytes.into(), sha256, state_sha256: note.state_sha256 }))
}

fn add_files(tar: &mut Builder<Vec<u8>>, folder: &Path, files: &[PathBuf]) -> io::Result<()> {
    files.iter().try_for_each(|file| add(tar, file, &fs::read(folder.join(file))?))
}

/// Length and time of the last change of each file.
fn marks(folder: &Path, files: &[PathBuf]) -> io::Result<Vec<(u64, SystemTime)>> {
    let mark = |file: &PathBuf| {
        let meta = fs::symlink_metadata(folder.join(file))?;
        Ok((meta.len(), meta.modified()?))
    };
    files.iter().map(mark).collect()
}

fn add(tar: &mut Builder<Vec<u8>>, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

/// The note and the files of a bundle, all of it before any is used; an error if it is not what [`pack`] makes.
pub(crate) fn unpack(bytes: &[u8]) -> io::Result<(Note, Files)> {
    let strange = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut note = None;
    let mut files = Vec::new();
    for entry in Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
        if entry.header().entry_type() != EntryType::Regular || !is_below || path.as_os_str().is_empty() {
            return Err(strange(format!("`{}` is no file below the scratch folder", path.display())));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if path == Path::new(NOTE) {
            note = Some(serde_json::from_slice(&content)?);
        } else {
            files.push((path, content));
        }
    }
    let note = note.ok_or_else(|| strange(format!("it has no `{NOTE}`")))?;
    Ok((note, files))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(state: &[&str], appended: &[&str]) -> Snapshot {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        Snapshot { state: paths(state), appended: paths(appended), progress: None }
    }

    fn packed(folder: &Path, snapshot: &Snapshot) -> Packed {
        match pack(folder, snapshot, 1, None).unwrap() {
            Packing::New(packed) => packed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_packed_comes_out_and_the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/state.cpt"), "step 3").unwrap();
        fs::write(folder.path().join("md.log"), "").unwrap();
        let files = snapshot(&["a/state.cpt"], &["md.log"]);
        let first = packed(folder.path(), &files);
        let expected = vec![("a/state.cpt".into(), b"step 3".to_vec()), ("md.log".into(), Vec::new())];
        assert_eq!(first.sha256, common::digest::sha256_hex(&first.bytes));
        let note = Note { threads: 1, state_sha256: first.state_sha256.clone() };
        assert_eq!(unpack(&first.bytes).unwrap(), (note, expected));
        // Written again, with another date.
        fs::write(folder.path().join("a/state.cpt"), "step 3").unwrap();
        assert_eq!(packed(folder.path(), &files), first);
        pack(folder.path(), &snapshot(&["gone"], &[]), 1, None).unwrap_err();
    }

    #[test]
    fn the_state_alone_makes_another_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("state.cpt", "step 3");
        write("md.log", "3\n");
        let files = snapshot(&["state.cpt"], &["md.log"]);
        let first = packed(folder.path(), &files).state_sha256;
        write("md.log", "3\n4\n");
        assert_eq!(pack(folder.path(), &files, 1, Some(&first)).unwrap(), Packing::Unchanged);
        write("state.cpt", "step 4");
        assert!(matches!(pack(folder.path(), &files, 1, Some(&first)).unwrap(), Packing::New(_)));
    }

    /// What becomes of packing `state.cpt` and `md.log` if this happens after they were looked at and `state.cpt` was read: a fifo that
    /// is read next holds the packing up.
    fn packed_while(meanwhile: impl FnOnce(&Path) + Send) -> Packing {
        let folder = tempfile::tempdir().unwrap();
        let gate = folder.path().join("gate");
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(folder.path().join("state.cpt"), "step 3").unwrap();
        fs::write(folder.path().join("md.log"), "1\n2\n3\n").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // It opens as soon as somebody reads.
                let opened = fs::OpenOptions::new().write(true).open(&gate).unwrap();
                meanwhile(folder.path());
                drop(opened);
            });
            pack(folder.path(), &snapshot(&["state.cpt"], &["gate", "md.log"]), 1, None).unwrap()
        })
    }

    #[test]
    fn files_that_change_while_they_are_bundled_are_no_bundle() {
        let write = |folder: &Path, name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        let longer = packed_while(|folder| write(folder, "state.cpt", "step 33"));
        assert_eq!(longer, Packing::Torn);
        let of_the_same_length = packed_while(|folder| {
            write(folder, "state.cpt", "step 4");
            let state = fs::OpenOptions::new().write(true).open(folder.join("state.cpt")).unwrap();
            state.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        });
        assert_eq!(of_the_same_length, Packing::Torn);
        let shrunk = packed_while(|folder| write(folder, "md.log", "1\n"));
        assert_eq!(shrunk, Packing::Torn);
    }

    #[test]
    fn what_is_appended_to_may_grow_meanwhile() {
        let Packing::New(packed) =
            packed_while(|folder| fs::write(folder.join("md.log"), "1\n2\n3\n4\n").unwrap())
        else {
            panic!("no bundle");
        };
        let (_, files) = unpack(&packed.bytes).unwrap();
        assert_eq!(files[0].1, b"step 3");
        assert_eq!(files[2].1, b"1\n2\n3\n4\n");
    }

    #[test]
    fn no_entry_leads_out_of_the_folder() {
        for (path, kind) in
            [("/etc/x", EntryType::Regular), ("a/../../x", EntryType::Regular), ("link", EntryType::Symlink)]
        {
            let mut tar = Builder::new(Vec::new());
            add(&mut tar, Path::new(NOTE), br#"{"threads":1,"state_sha256":""}"#).unwrap();
            let mut header = Header::new_gnu();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, io::empty()).unwrap();
            unpack(&tar.into_inner().unwrap()).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_stay_below(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok((_, files)) = unpack(&bytes) {
                for (path, _) in files {
                    prop_assert!(path.is_relative());
                }
            }
        }
    }
}
