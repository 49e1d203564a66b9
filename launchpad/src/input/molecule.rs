//! A molecule as it was found in an input, and the rules for its id.

use common::task::{ID_CHARACTERS_MAX, RECORD_BYTES_MAX, RECORD_END};

use super::problem::{Fault, excerpt};
use super::smiles::check_smiles;

/// A molecule of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMolecule {
    /// The user's name for it, 1 to 200 characters without control characters. An entry without a name is called after
    /// its line, `line_17`.
    pub id: String,
    /// Its structure.
    pub structure: FoundStructure,
    /// The line where it starts, from 1.
    pub line: u64,
}

/// A structure of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundStructure {
    /// A SMILES, as the user wrote it.
    Smiles(String),
    /// A molecular formula, for engines that enumerate.
    Formula(String),
    /// A record of an SDF with 3D coordinates.
    SdfRecord {
        /// Where it starts in the file, in bytes.
        offset: u64,
        /// Its length with its `$$$$` line, in bytes.
        length: u64,
    },
}

impl FoundMolecule {
    /// The molecule of a SMILES and a name, which may be empty.
    pub(super) fn from_smiles(name: &str, smiles: &str, line: u64) -> Result<Self, Fault> {
        let smiles = smiles.trim();
        check_smiles(smiles).map_err(|fault| Fault::new(line, fault.to_string()))?;
        let structure = FoundStructure::Smiles(smiles.to_owned());
        Ok(Self { id: checked_id(name, line)?, structure, line })
    }

    /// The molecule of an SDF record with a name, which may be empty.
    pub(super) fn from_record(name: &str, offset: u64, length: u64, line: u64) -> Result<Self, Fault> {
        if length > RECORD_BYTES_MAX {
            let what = format!("the record has {length} bytes (expected {RECORD_BYTES_MAX} at most)");
            return Err(Fault::new(line, what));
        }
        let structure = FoundStructure::SdfRecord { offset, length };
        Ok(Self { id: checked_id(name, line)?, structure, line })
    }
}

fn checked_id(name: &str, line: u64) -> Result<String, Fault> {
    let name = name.trim();
    if name.is_empty() {
        return Ok(format!("line_{line}"));
    }
    let characters = name.chars().count();
    if characters > ID_CHARACTERS_MAX {
        let found = excerpt(name.as_bytes());
        let what =
            format!("the id `{found}` has {characters} characters (expected 1 to {ID_CHARACTERS_MAX})");
        return Err(Fault::new(line, what));
    }
    if name.chars().any(char::is_control) {
        let found = excerpt(name.as_bytes());
        return Err(Fault::new(
            line,
            format!("the id `{found}` has a control character (expected printable text)"),
        ));
    }
    if name.starts_with(RECORD_END) {
        let found = excerpt(name.as_bytes());
        let what = format!("the id `{found}` starts with `{RECORD_END}`, which ends records of an SDF");
        return Err(Fault::new(line, what));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_printable_text() {
        let check = |name: &str, expect: &str| {
            let id = FoundMolecule::from_smiles(name, "C", 17).map(|molecule| molecule.id);
            assert_eq!(id.unwrap_or_else(|fault| fault.in_file("f").to_string()), expect);
        };
        check("thieno[2,3-c]pyridine", "thieno[2,3-c]pyridine");
        check(" β-alanine / \"L\" ", "β-alanine / \"L\"");
        check("", "line_17");
        check(" \t", "line_17");
        check("a\u{7}b", "f:17: the id `a\\u{7}b` has a control character (expected printable text)");
        check("$$$$", "f:17: the id `$$$$` starts with `$$$$`, which ends records of an SDF");
        check(&"é".repeat(200), &"é".repeat(200));
        let huge = FoundMolecule::from_record("a", 0, 1 << 40, 17).unwrap_err().in_file("f").to_string();
        assert_eq!(huge, "f:17: the record has 1099511627776 bytes (expected 67108864 at most)");
        let long = format!("f:17: the id `{}…` has 201 characters (expected 1 to 200)", "x".repeat(60));
        check(&"x".repeat(201), &long);
    }
}
