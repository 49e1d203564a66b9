//! A checkpoint as one object: a tar of all files that resuming needs, and a note of what it was made for. Its digest stands in Redis.
//!
//! The same files give the same bytes, so that what has not changed is seen by its digest. Nothing in here talks to the store.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use common::digest::sha256_hex;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};

/// The first entry: what the bundle was made for.
const NOTE: &str = "molfleet-checkpoint.json";
/// Larger ones are not made: they are held in memory on their way.
pub(crate) const BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What a bundle was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Threads of the engine: with another number the bytes of a result differ.
    pub(crate) threads: u32,
}

/// Paths below the scratch folder, and what stands there.
pub(crate) type Files = Vec<(PathBuf, Vec<u8>)>;

/// A bundle's bytes, their digest, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) bytes: Bytes,
    pub(crate) sha256: String,
}

/// Packs files below a folder. `None` if one of them changed meanwhile: they may not belong together.
pub(crate) fn pack(folder: &Path, files: &[PathBuf], note: &Note) -> io::Result<Option<Packed>> {
    let before = marks(folder, files)?;
    let total: u64 = before.iter().map(|(length, _)| length).sum();
    if total > BYTES_MAX {
        return Err(io::Error::other(format!("its files have {total} bytes (expected at most {BYTES_MAX})")));
    }
    let mut tar = Builder::new(Vec::new());
    add(&mut tar, Path::new(NOTE), &serde_json::to_vec(note)?)?;
    for file in files {
        add(&mut tar, file, &fs::read(folder.join(file))?)?;
    }
    let bytes = Bytes::from(tar.into_inner()?);
    let is_whole = marks(folder, files)? == before;
    Ok(is_whole.then(|| Packed { sha256: sha256_hex(&bytes), bytes }))
}

/// Length and time of the last change of each file.
fn marks(folder: &Path, files: &[PathBuf]) -> io::Result<Vec<(u64, std::time::SystemTime)>> {
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

    const NOTE_OF_ONE: Note = Note { threads: 1 };

    #[test]
    fn what_is_packed_comes_out_and_the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/state.cpt"), "step 3").unwrap();
        fs::write(folder.path().join("md.log"), "").unwrap();
        let files = [PathBuf::from("a/state.cpt"), PathBuf::from("md.log")];
        let packed = pack(folder.path(), &files, &NOTE_OF_ONE).unwrap().unwrap();
        let [first, second] = files.clone();
        let expected = vec![(first, b"step 3".to_vec()), (second, Vec::new())];
        assert_eq!(unpack(&packed.bytes).unwrap(), (NOTE_OF_ONE, expected));
        // Written again, with another date.
        fs::write(folder.path().join("a/state.cpt"), "step 3").unwrap();
        assert_eq!(pack(folder.path(), &files, &NOTE_OF_ONE).unwrap(), Some(packed));
        pack(folder.path(), &[PathBuf::from("gone")], &NOTE_OF_ONE).unwrap_err();
    }

    #[test]
    fn no_entry_leads_out_of_the_folder() {
        for (path, kind) in
            [("/etc/x", EntryType::Regular), ("a/../../x", EntryType::Regular), ("link", EntryType::Symlink)]
        {
            let mut tar = Builder::new(Vec::new());
            add(&mut tar, Path::new(NOTE), br#"{"threads":1}"#).unwrap();
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
