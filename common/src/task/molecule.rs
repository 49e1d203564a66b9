//! One molecule of a task, as push writes it and a worker reads it.

use serde::{Deserialize, Serialize};

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

/// Writes a task's molecules as the JSON text of the `inputs` hash.
pub fn encode_molecules(molecules: &[Molecule]) -> String {
    serde_json::to_string(molecules).expect("strings and numbers always become JSON")
}

/// Reads what [`encode_molecules`] wrote.
pub fn decode_molecules(text: &str) -> Result<Vec<Molecule>, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn molecules_survive_the_way_through_redis() {
        let molecules = vec![
            Molecule {
                id: "thieno[2,3-c]pyridine".into(),
                source: MoleculeSource::Smiles { smiles: "c1cncc2c1ccs2".into() },
            },
            Molecule {
                id: "a \"quoted\" name".into(),
                source: MoleculeSource::Sdf { object: "inputs/ab/x.sdf".into(), offset: 7, length: 9 },
            },
        ];
        let text = encode_molecules(&molecules);
        assert!(text.starts_with(r#"[{"id":"thieno[2,3-c]pyridine","smiles":"c1cncc2c1ccs2"},{"#), "{text}");
        assert_eq!(decode_molecules(&text).unwrap(), molecules);
    }
}
