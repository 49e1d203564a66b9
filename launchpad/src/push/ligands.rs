//! Files of molecules, open: standard input is spooled first, and an SDF is digested, since it becomes an object.

use std::fs::File;
use std::io::{self, BufReader, Seek as _};
use std::path::Path;
use std::sync::Arc;

use common::digest::Sha256Writer;
use common::storage::key;
use common::task::ObjectRef;

use super::PushError;
use crate::error::LaunchpadError;
use crate::input::{self, Columns, Format, InputError, Molecules};

/// A file of molecules.
#[derive(Debug, Clone)]
pub(crate) struct LigandFile {
    name: String,
    format: Format,
    file: Arc<File>,
    object: Option<ObjectRef>,
}

impl LigandFile {
    /// Opens a file; `-` is standard input, whose format has to be named.
    pub(crate) fn open(path: &Path, format: Option<Format>) -> Result<Self, LaunchpadError> {
        if path == Path::new("-") {
            let how = "--format says what standard input is: smi, sdf, csv, tsv, jsonl or formulae";
            let format = format.ok_or(PushError::Nothing { what: "format", how })?;
            let spooled = spool(&mut io::stdin().lock())
                .map_err(|source| InputError::Read { file: "stdin".into(), source })?;
            return Self::new("stdin".into(), format, spooled);
        }
        let format = format.map_or_else(|| Format::of_path(path), Ok)?;
        let file = File::open(path).map_err(|source| InputError::Open { path: path.to_owned(), source })?;
        Self::new(path.display().to_string(), format, file)
    }

    /// An SDF that another run stored under this name, copied to a local file. Here it becomes an object of the same name.
    pub(super) fn stored(object: &ObjectRef, copy: File) -> Result<Self, LaunchpadError> {
        Self::new(object.file_name().to_owned(), Format::Sdf, copy)
    }

    fn new(name: String, format: Format, mut file: File) -> Result<Self, LaunchpadError> {
        let failed = |source| InputError::Read { file: name.clone(), source };
        let object = match format {
            Format::Sdf => {
                let mut digest = Sha256Writer::default();
                io::copy(&mut file, &mut digest).map_err(failed)?;
                file.rewind().map_err(failed)?;
                let (sha256, bytes) = digest.finish();
                let file_name =
                    Path::new(&name).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
                Some(ObjectRef { object: key::input(&sha256, &file_name), sha256, bytes })
            }
            Format::Smi | Format::Csv | Format::Tsv | Format::JsonLines | Format::Formulae => None,
        };
        Ok(Self { name, format, file: Arc::new(file), object })
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The object that an SDF becomes.
    pub(crate) const fn object(&self) -> Option<&ObjectRef> {
        self.object.as_ref()
    }

    /// Its molecules.
    pub(crate) fn molecules(&self, columns: &Columns) -> Result<Molecules<'_>, InputError> {
        input::read(BufReader::with_capacity(256 << 10, &*self.file), &self.name, self.format, columns)
    }

    /// The file itself, as an SDF is uploaded.
    pub(super) const fn file(&self) -> &Arc<File> {
        &self.file
    }
}

/// Copies a stream into a file without a name, which vanishes with this process.
fn spool(source: &mut impl io::Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(source, &mut file)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdf_becomes_an_object_named_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my ligands.sdf");
        std::fs::write(&path, "abc").unwrap();
        let ligands = LigandFile::open(&path, None).unwrap();
        let digest = common::digest::sha256_hex(b"abc");
        assert_eq!(ligands.object().unwrap().object, format!("inputs/{digest}/my_ligands.sdf"));
        assert_eq!(ligands.object().unwrap().bytes, 3);
        assert!(LigandFile::open(&path, Some(Format::Smi)).unwrap().object().is_none());
    }

    #[test]
    fn a_spooled_stream_is_read_from_its_start() {
        let ligands =
            LigandFile::new("stdin".into(), Format::Smi, spool(&mut &b"C a\n"[..]).unwrap()).unwrap();
        let first = ligands.molecules(&Columns::default()).unwrap().next().unwrap().unwrap().unwrap();
        assert_eq!(first.id, "a");
    }
}
