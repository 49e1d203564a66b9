//! The formats that molecules come in, and the file extensions that tell them. It opens no file.

use std::path::Path;

use super::InputError;

/// A format of molecules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Format {
    /// Lines of a SMILES and an id (`.smi`, `.smiles`, `.ism`, `.txt`).
    Smi,
    /// Records with 3D coordinates (`.sdf`, `.sd`, `.mol`).
    Sdf,
    /// A table with a header, comma-separated by RFC 4180 (`.csv`).
    Csv,
    /// A table with a header, tab-separated (`.tsv`, `.tab`).
    Tsv,
    /// A JSON object on each line (`.jsonl`, `.ndjson`).
    #[value(name = "jsonl", alias = "ndjson")]
    JsonLines,
    /// Molecular formulae, one on each line, for engines that enumerate.
    Formulae,
}

impl Format {
    const EXTENSIONS: &'static str = "smi, smiles, ism, txt, sdf, sd, mol, csv, tsv, tab, jsonl, ndjson";

    /// The format that a file's extension tells, upper or lower case.
    pub fn of_path(path: &Path) -> Result<Self, InputError> {
        match extension(path).as_str() {
            "smi" | "smiles" | "ism" | "txt" => Ok(Self::Smi),
            "sdf" | "sd" | "mol" => Ok(Self::Sdf),
            "csv" => Ok(Self::Csv),
            "tsv" | "tab" => Ok(Self::Tsv),
            "jsonl" | "ndjson" => Ok(Self::JsonLines),
            _ => Err(InputError::UnknownFormat { path: path.to_owned(), known: Self::EXTENSIONS }),
        }
    }
}

/// A path's extension in lower case; empty if it has none.
pub(super) fn extension(path: &Path) -> String {
    path.extension().map(|text| text.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_tell_formats() {
        let check =
            |path: &str, expect: Format| assert_eq!(Format::of_path(Path::new(path)).unwrap(), expect);
        check("a.smi", Format::Smi);
        check("dir.csv/a.ISM", Format::Smi);
        check("a.b.SDF", Format::Sdf);
        check("a.mol", Format::Sdf);
        check("a.csv", Format::Csv);
        check("a.tsv", Format::Tsv);
        check("a.ndjson", Format::JsonLines);
    }

    #[test]
    fn every_listed_extension_is_understood() {
        for extension in Format::EXTENSIONS.split(", ") {
            assert!(Format::of_path(Path::new(&format!("x.{extension}"))).is_ok(), "{extension}");
        }
    }

    #[test]
    fn others_are_named_with_the_known_ones() {
        for path in ["ligands.smi.gz", "ligands", "-"] {
            let error = Format::of_path(Path::new(path)).unwrap_err().to_string();
            let expect = format!("the format of `{path}` is not known (known extensions: smi, smiles,");
            assert!(error.starts_with(&expect), "{error}");
        }
    }
}
