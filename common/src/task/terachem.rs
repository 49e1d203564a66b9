//! What a run of the engine `terachem` computes: a single-point energy by which method, in which basis, of which charge and multiplicity.
//! Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Column, ColumnKind, CommandOptions};
use crate::excerpt::excerpt;

/// Parameters of the engine `terachem`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerachemOptions {
    /// One of [`METHODS`].
    pub method: String,
    /// The basis set by TeraChem's name for it; empty for a method that has none.
    pub basis: String,
    /// The charge of every molecule; `None` takes the sum of each one's formal charges.
    pub charge: Option<i32>,
    /// The spin multiplicity of every molecule, from 1. 1 is computed closed-shell and restricted, anything else unrestricted.
    pub multiplicity: u32,
    /// TeraChem's own keywords, passed on as they are.
    pub settings: BTreeMap<String, String>,
}

/// The methods that TeraChem's protocol has names for, with their numbers in it.
pub const METHODS: [(&str, i32); 27] = [
    ("HF", 0),
    ("CASE", 2),
    ("SVWN1", 3),
    ("SVWN3", 4),
    ("SVWN5", 5),
    ("SVWN", 5),
    ("B3LYP1", 6),
    ("B3LYP", 6),
    ("B3LYP3", 7),
    ("B3LYP5", 8),
    ("BLYP", 9),
    ("BHANDHLYP", 10),
    ("PBE", 11),
    ("REVPBE", 12),
    ("PBE0", 13),
    ("REVPBE0", 14),
    ("WPBE", 15),
    ("WPBEH", 16),
    ("BOP", 17),
    ("MUBOP", 18),
    ("CAMB3LYP", 19),
    ("B97", 20),
    ("WB97", 21),
    ("WB97X", 22),
    ("WB97XD3", 23),
    ("GFNXTB", 24),
    ("GFN2XTB", 25),
];

/// The file of rows that a worker writes of the answers.
const ROWS: &str = "energies.jsonl";
/// The lowest plausible total energy, in hartree: a molecule of 100 iodine atoms has −30,000 with effective cores, −700,000 without.
const ENERGY_MIN: f64 = -1e6;
/// The highest one: the lightest molecules lie below it by every method.
const ENERGY_MAX: f64 = -0.1;

/// Says why the parameters of `terachem` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TerachemError {
    /// Nothing that the protocol has a number for.
    #[error("method is `{}` (expected one of {})", excerpt(found), METHODS.map(|(name, _)| name).join(", "))]
    Method {
        /// The name.
        found: String,
    },
    /// A method that needs a basis, or has none.
    #[error("basis is `{}` (expected {expected})", excerpt(found))]
    Basis {
        /// The name.
        found: String,
        /// What would be one.
        expected: &'static str,
    },
    /// No multiplicity.
    #[error("multiplicity is 0 (expected 1 or more)")]
    Multiplicity,
    /// What has a place of its own.
    #[error("settings have `{keyword}`, which has a parameter of its own")]
    Setting {
        /// The keyword.
        keyword: String,
    },
}

/// Keywords of TeraChem that the protocol says otherwise.
const OWN_KEYWORDS: [&str; 7] = ["method", "basis", "charge", "spinmult", "coordinates", "run", "restricted"];

impl TerachemOptions {
    /// The number of its method in the protocol.
    pub fn method_number(&self) -> Option<i32> {
        METHODS.iter().find(|(name, _)| *name == self.method).map(|(_, number)| *number)
    }

    /// The rows of the answers as those of a command, whose rules they follow.
    pub fn rows(&self) -> CommandOptions {
        let column = |name: &str, kind, unit: &str, min, max| Column {
            name: name.to_owned(),
            kind,
            unit: unit.to_owned(),
            min,
            max,
        };
        let number = |name: &str, unit: &str| column(name, ColumnKind::Number, unit, None, None);
        let text = |name: &str| column(name, ColumnKind::Text, "", None, None);
        let energy =
            column("energy_hartree", ColumnKind::Number, "hartree", Some(ENERGY_MIN), Some(ENERGY_MAX));
        CommandOptions {
            argv: vec!["terachem".to_owned()],
            versions: BTreeMap::new(),
            rows: ROWS.to_owned(),
            columns: vec![
                text("computed_smiles"),
                text("flags"),
                energy,
                number("energy_kcal_mol", "kcal/mol"),
                number("charge", ""),
                number("multiplicity", ""),
                number("atoms", ""),
                number("seed", ""),
            ],
            score: Some("energy_hartree".to_owned()),
            expect: Vec::new(),
            keep: Vec::new(),
        }
    }

    /// Checks each parameter and their relations.
    pub fn validate(&self) -> Result<(), TerachemError> {
        if self.method_number().is_none() {
            return Err(TerachemError::Method { found: self.method.clone() });
        }
        let has_basis = !self.method.starts_with("GFN");
        let basis = |expected| Err(TerachemError::Basis { found: self.basis.clone(), expected });
        if has_basis && self.basis.is_empty() {
            return basis("the name of a basis set, such as 6-31g*");
        }
        if !has_basis && !self.basis.is_empty() {
            return basis("none: the method brings its own");
        }
        if self.multiplicity == 0 {
            return Err(TerachemError::Multiplicity);
        }
        match self.settings.keys().find(|key| OWN_KEYWORDS.contains(&key.to_ascii_lowercase().as_str())) {
            Some(keyword) => Err(TerachemError::Setting { keyword: keyword.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> TerachemOptions {
        TerachemOptions {
            method: "B3LYP".into(),
            basis: "6-31g*".into(),
            charge: None,
            multiplicity: 1,
            settings: BTreeMap::from([("threall".into(), "1.0e-14".into())]),
        }
    }

    #[test]
    fn sound_parameters_are_accepted() {
        assert_eq!(options().validate(), Ok(()));
        assert_eq!(options().rows().validate(false), Ok(()));
        assert_eq!(options().rows().score_unit(), "hartree");
        let xtb = TerachemOptions { method: "GFN2XTB".into(), basis: String::new(), ..options() };
        assert_eq!((xtb.validate(), xtb.method_number()), (Ok(()), Some(25)));
    }

    #[test]
    fn every_contradiction_is_named() {
        let check = |change: fn(&mut TerachemOptions), expect: &str| {
            let mut options = options();
            change(&mut options);
            let error = options.validate().unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check(|o| o.method = "b3lyp".into(), "method is `b3lyp` (expected one of HF, CASE,");
        check(|o| o.basis.clear(), "basis is `` (expected the name of a basis set");
        check(|o| o.method = "GFNXTB".into(), "basis is `6-31g*` (expected none");
        check(|o| o.multiplicity = 0, "multiplicity is 0");
        check(|o| _ = o.settings.insert("Charge".into(), "1".into()), "settings have `Charge`");
    }
}
