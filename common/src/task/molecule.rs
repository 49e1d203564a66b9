//! One molecule of a task, as push writes it and a worker reads it. What a worker reads is checked before anything is made of it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::object_name::{Folder, ObjectNameError, check_object};
use crate::excerpt::excerpt;

/// The longest id, in characters.
pub const ID_CHARACTERS_MAX: usize = 200;
/// The longest SMILES, in bytes: titin would need half of it.
pub const SMILES_BYTES_MAX: usize = 1 << 20; // 1 MiB
/// The longest record of an SDF, in bytes: a worker holds one in memory.
pub const RECORD_BYTES_MAX: u64 = 64 << 20; // 64 MiB

/// The format in which a molecule arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoleculeKind {
    /// A line of text; its 3D geometry has to be made.
    Smiles,
    /// An SDF record with 3D coordinates, which are kept.
    Sdf,
}

impl MoleculeKind {
    /// The word that the manifest uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smiles => "smiles",
            Self::Sdf => "sdf",
        }
    }
}

/// Where a molecule's structure is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MoleculeSource {
    /// The SMILES itself.
    Smiles {
        /// As the user wrote it.
        smiles: String,
    },
    /// A record of an SDF object of the run, read by range.
    Sdf {
        /// The object's name below the run, such as `inputs/<sha256>/ligands.sdf`.
        object: String,
        /// Where the record starts, in bytes.
        offset: u64,
        /// How long it is with its `$$$$` line, in bytes.
        length: u64,
    },
}

/// A molecule to work on. Its id is the user's, may hold any printable character, and never becomes part of a path or key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Molecule {
    /// The user's name for it, unique in its run.
    pub id: String,
    /// Its structure.
    #[serde(flatten)]
    pub source: MoleculeSource,
}

impl Molecule {
    /// The SMILES that the user gave, or nothing for a molecule from an SDF.
    pub fn smiles(&self) -> &str {
        match &self.source {
            MoleculeSource::Smiles { smiles } => smiles,
            MoleculeSource::Sdf { .. } => "",
        }
    }

    /// The format in which it arrived.
    pub const fn kind(&self) -> MoleculeKind {
        match self.source {
            MoleculeSource::Smiles { .. } => MoleculeKind::Smiles,
            MoleculeSource::Sdf { .. } => MoleculeKind::Sdf,
        }
    }
}

/// Says why a task's molecules can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MoleculeError {
    /// Not the JSON of molecules.
    #[error("not a list of molecules")]
    Json(#[from] serde_json::Error),
    /// There is none.
    #[error("the list of molecules is empty")]
    None,
    /// An id that nobody can name.
    #[error(
        "the id `{found}` can't be one (expected 1 to {ID_CHARACTERS_MAX} characters, no control character, no `{RECORD_END}` in front)"
    )]
    Id {
        /// The start of the id.
        found: String,
    },
    /// Two molecules of a task share an id.
    #[error("the id `{id}` occurs twice")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// A text that can't be a SMILES.
    #[error(
        "the SMILES of `{id}` has {bytes} bytes and starts with `{found}` (expected 1 to {SMILES_BYTES_MAX} of printable ASCII without spaces)"
    )]
    Smiles {
        /// Its start.
        found: String,
        /// Its length.
        bytes: usize,
        /// The molecule.
        id: String,
    },
    /// A record that is none, or too long to be read.
    #[error("the SDF record of `{id}` has {length} bytes (expected 1 to {RECORD_BYTES_MAX})")]
    Record {
        /// Its length.
        length: u64,
        /// The molecule.
        id: String,
    },
    /// An object that is no input of the run.
    #[error("`{id}` is from an object that can't be used")]
    Object {
        /// The molecule.
        id: String,
        /// What is wrong with it.
        #[source]
        source: ObjectNameError,
    },
}

impl Molecule {
    /// Checks what a file, a name or a program will be made of.
    pub(super) fn check(&self) -> Result<(), MoleculeError> {
        if !is_id(&self.id) {
            return Err(MoleculeError::Id { found: excerpt(&self.id) });
        }
        let id = self.id.clone();
        match &self.source {
            MoleculeSource::Smiles { smiles } => {
                let bytes = smiles.len();
                let fits = (1..=SMILES_BYTES_MAX).contains(&bytes);
                if fits && smiles.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Ok(());
                }
                Err(MoleculeError::Smiles { found: excerpt(smiles), bytes, id })
            }
            MoleculeSource::Sdf { object, length, .. } => {
                if !(1..=RECORD_BYTES_MAX).contains(length) {
                    return Err(MoleculeError::Record { length: *length, id });
                }
                check_object(object, Folder::Inputs)
                    .map(drop)
                    .map_err(|source| MoleculeError::Object { id, source })
            }
        }
    }
}

/// What ends a record of an SDF. A title that starts with it would.
pub const RECORD_END: &str = "$$$$";

/// Whether a text can be a molecule's id: 1 to [`ID_CHARACTERS_MAX`] characters, none of them a control character, and not starting with
/// [`RECORD_END`].
pub fn is_id(text: &str) -> bool {
    let characters = text.chars().take(ID_CHARACTERS_MAX + 1).count();
    let fits = (1..=ID_CHARACTERS_MAX).contains(&characters);
    fits && !text.chars().any(char::is_control) && !text.starts_with(RECORD_END)
}

/// Writes a task's molecules as the JSON text of the `inputs` hash.
pub fn encode_molecules(molecules: &[Molecule]) -> String {
    serde_json::to_string(molecules).expect("strings and numbers always become JSON")
}

/// Reads what [`encode_molecules`] wrote. Whoever can write to Redis can write anything there: each molecule is checked.
pub fn decode_molecules(text: &str) -> Result<Vec<Molecule>, MoleculeError> {
    let molecules: Vec<Molecule> = serde_json::from_str(text)?;
    let mut ids = HashSet::with_capacity(molecules.len());
    for molecule in &molecules {
        molecule.check()?;
        if !ids.insert(&molecule.id) {
            return Err(MoleculeError::Duplicate { id: molecule.id.clone() });
        }
    }
    if molecules.is_empty() { Err(MoleculeError::None) } else { Ok(molecules) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sdf_object() -> String {
        format!("inputs/{}/x.sdf", "ab".repeat(32))
    }

    #[test]
    fn molecules_survive_the_way_through_redis() {
        let molecules = vec![
            Molecule {
                id: "thieno[2,3-c]pyridine".into(),
                source: MoleculeSource::Smiles { smiles: "c1cncc2c1ccs2".into() },
            },
            Molecule {
                id: "a \"quoted\" name".into(),
                source: MoleculeSource::Sdf { object: sdf_object(), offset: 7, length: 9 },
            },
        ];
        let text = encode_molecules(&molecules);
        assert!(text.starts_with(r#"[{"id":"thieno[2,3-c]pyridine","smiles":"c1cncc2c1ccs2"},{"#), "{text}");
        assert_eq!(decode_molecules(&text).unwrap(), molecules);
    }

    #[test]
    fn what_no_push_writes_is_refused_by_name() {
        let check = |json: &str, expect: &str| {
            let error = decode_molecules(json).unwrap_err().to_string();
            assert!(error.starts_with(expect) && error.len() < 400, "{error}");
        };
        check("[{", "not a list of molecules");
        check("[]", "the list of molecules is empty");
        check(r#"[{"id":"a\nb","smiles":"C"}]"#, "the id `a\\nb` can't be one");
        check(r#"[{"id":"","smiles":"C"}]"#, "the id `` can't be one");
        check(r#"[{"id":"a","smiles":"C"},{"id":"a","smiles":"N"}]"#, "the id `a` occurs twice");
        check(r#"[{"id":"a","smiles":"C\n-rf"}]"#, "the SMILES of `a` has 5 bytes and starts with `C\\n-rf`");
        check(r#"[{"id":"a","smiles":""}]"#, "the SMILES of `a` has 0 bytes");
        let long = format!(r#"[{{"id":"a","smiles":"{}"}}]"#, "C".repeat(10 << 20));
        check(&long, "the SMILES of `a` has 10485760 bytes and starts with `CCC");
        let sdf = |object: &str, length: u64| {
            format!(r#"[{{"id":"a","object":"{object}","offset":0,"length":{length}}}]"#)
        };
        check(&sdf(&sdf_object(), u64::MAX), "the SDF record of `a` has 18446744073709551615 bytes");
        check(&sdf("../other/spec.json", 1), "`a` is from an object that can't be used");
        // What begins with a dash is a SMILES that RDKit refuses: it is part of no command line.
        assert!(decode_molecules(r#"[{"id":"-rf","smiles":"-O"}]"#).is_ok());
    }
}
