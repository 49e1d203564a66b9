//! The one way into a file of molecules, whatever its format: [`open`] a path, or [`read`] a stream.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::delimited::Delimited;
use super::formulae::Formulae;
use super::json_lines::JsonLines;
use super::molecule::FoundMolecule;
use super::problem::Fault;
use super::sdf::Sdf;
use super::smi::Smi;
use super::{Columns, Format, InputError, Problem};

/// What an entry of a file turned out to be.
pub type Entry = Result<FoundMolecule, Problem>;

type Reader<'a> = Box<dyn Iterator<Item = io::Result<Result<FoundMolecule, Fault>>> + Send + 'a>;

// Enough for the file system to read ahead; a molecule has a few dozen bytes to a few thousand.
const BUFFER_BYTES: usize = 256 << 10; // 256 KiB

/// The entries of a file in their order. An error is final: nothing follows it.
pub struct Molecules<'a> {
    file: String,
    reader: Option<Reader<'a>>,
}

impl std::fmt::Debug for Molecules<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Molecules").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Opens a file of molecules; without a format, its extension tells it.
pub fn open(
    path: &Path,
    format: Option<Format>,
    columns: &Columns,
) -> Result<Molecules<'static>, InputError> {
    let format = format.map_or_else(|| Format::of_path(path), Ok)?;
    let unreadable = |source| InputError::Open { path: path.to_owned(), source };
    let source = BufReader::with_capacity(BUFFER_BYTES, File::open(path).map_err(unreadable)?);
    read(source, &path.display().to_string(), format, columns)
}

/// Reads molecules from a stream, such as standard input, which `file` names in problems.
pub fn read<'a>(
    source: impl BufRead + Send + 'a,
    file: &str,
    format: Format,
    columns: &Columns,
) -> Result<Molecules<'a>, InputError> {
    let file = file.to_owned();
    let table = |delimiter, source| match Delimited::new(source, delimiter, columns) {
        Err(source) => Err(InputError::Read { file: file.clone(), source }),
        Ok(Err(fault)) => Err(InputError::Unusable(fault.in_file(&file))),
        Ok(Ok(reader)) => Ok(Box::new(reader) as Reader<'a>),
    };
    let reader: Reader<'a> = match format {
        Format::Smi => Box::new(Smi::new(source)),
        Format::Formulae => Box::new(Formulae::new(source)),
        Format::Sdf => Box::new(Sdf::new(source, columns.id.clone())),
        Format::Csv => table(b',', source)?,
        Format::Tsv => table(b'\t', source)?,
        Format::JsonLines => Box::new(JsonLines::new(source, columns.clone())),
    };
    Ok(Molecules { file, reader: Some(reader) })
}

impl Iterator for Molecules<'_> {
    type Item = Result<Entry, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.as_mut()?.next()? {
            Ok(entry) => Some(Ok(entry.map_err(|fault| fault.in_file(&self.file)))),
            Err(source) => {
                self.reader = None;
                Some(Err(InputError::Read { file: self.file.clone(), source }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write as _};

    use super::*;

    #[test]
    fn a_file_is_opened_by_its_extension_or_as_told() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, format: Option<Format>, content: &str, expect: &str| {
            let path = folder.path().join(name);
            File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
            let first = open(&path, format, &Columns::default()).unwrap().next().unwrap().unwrap();
            assert_eq!(first.unwrap().id, expect);
        };
        check("a b.smi", None, "C a\n", "a");
        check("x.csv", None, "id,smiles\nb,C\n", "b");
        check("x.dat", Some(Format::JsonLines), "{\"id\":\"c\",\"smiles\":\"C\"}", "c");
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let check = |path: &str, expect: &str| {
            let error = open(Path::new(path), None, &Columns::default()).unwrap_err();
            assert_eq!(error.to_string(), expect);
        };
        check("/nowhere/x.smi", "could not open `/nowhere/x.smi`");
        let error = read(&b"a;smiles\n"[..], "x.csv", Format::Csv, &Columns::default()).unwrap_err();
        assert!(
            error.to_string().starts_with("x.csv:1: no SMILES column among `a;smiles` (expected"),
            "{error}"
        );
        assert_eq!(error.hint(), "name the column with `--smiles-column`");
    }

    /// A disk that fails behind the first line.
    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("bad sector"))
        }
    }

    #[test]
    fn a_read_error_is_reported_once_and_ends_the_stream() {
        for (format, good) in [(Format::Smi, "C a\n"), (Format::Csv, "id,smiles\na,C\n")] {
            let source = BufReader::new(good.as_bytes().chain(Failing));
            let mut molecules = read(source, "f", format, &Columns::default()).unwrap();
            assert_eq!(molecules.next().unwrap().unwrap().unwrap().id, "a");
            let error = molecules.next().unwrap().unwrap_err();
            assert_eq!(error.to_string(), "could not read on in `f`");
            assert!(molecules.next().is_none());
        }
    }
}
