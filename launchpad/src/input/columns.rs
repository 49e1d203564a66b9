//! Which column, key or property of an input holds the SMILES and which the id.

use super::problem::{Fault, quoted_list};

/// The names that the user gave for columns; `None` looks for the usual ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The column or key of the SMILES. The formats SMI and SDF have none.
    pub smiles: Option<String>,
    /// The column, key or SDF property of the molecule's id. The format SMI has none.
    pub id: Option<String>,
}

/// The usual names of a SMILES column, first choice first.
pub(super) const SMILES_NAMES: &[&str] = &["smiles", "canonical_smiles", "isomeric_smiles", "structure"];
const ID_NAMES: &[&str] =
    &["id", "molecule_id", "compound_id", "ligand_id", "name", "molecule_name", "title"];

impl Columns {
    /// Finds the columns of the SMILES and of the id among the names in a header or object that stands on `line`.
    pub(super) fn find(&self, names: &[&str], line: u64) -> Result<(usize, usize), Fault> {
        let smiles = find(names, self.smiles.as_deref(), SMILES_NAMES)
            .ok_or_else(|| missing("SMILES", self.smiles.as_deref(), SMILES_NAMES, names, line))
            .map_err(|fault| fault.with_hint("name the column with `--smiles-column`"))?;
        let id = find(names, self.id.as_deref(), ID_NAMES)
            .ok_or_else(|| missing("id", self.id.as_deref(), ID_NAMES, names, line))
            .map_err(|fault| fault.with_hint("name the column with `--id-column`"))?;
        Ok((smiles, id))
    }
}

/// Prefers the exact name to one that differs in case.
fn find(names: &[&str], wanted: Option<&str>, usual: &[&str]) -> Option<usize> {
    let position = |wanted: &str| {
        let exact = names.iter().position(|name| *name == wanted);
        exact.or_else(|| names.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted)))
    };
    match wanted {
        Some(wanted) => position(wanted),
        None => usual.iter().find_map(|usual| position(usual)),
    }
}

fn missing(role: &str, wanted: Option<&str>, usual: &[&str], names: &[&str], line: u64) -> Fault {
    let expected = wanted.map_or_else(|| quoted_list(usual.iter().copied()), |name| quoted_list([name]));
    let found = quoted_list(names.iter().copied());
    Fault::new(line, format!("no {role} column among {found} (expected {expected})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(smiles: Option<&str>, id: Option<&str>) -> Columns {
        Columns { smiles: smiles.map(str::to_owned), id: id.map(str::to_owned) }
    }

    #[test]
    fn columns_are_found_by_usual_and_given_names() {
        let check = |columns: Columns, names: &[&str], expect: (usize, usize)| {
            assert_eq!(columns.find(names, 1).unwrap(), expect);
        };
        check(named(None, None), &["name", "smiles"], (1, 0));
        check(named(None, None), &["SMILES", "Title", "ID "], (0, 2));
        check(named(None, None), &["Molecule_ID", "Canonical_Smiles"], (1, 0));
        check(named(Some("ligand"), Some("zinc")), &["id", "smiles", "Zinc", "ligand"], (3, 2));
        check(named(Some("S"), None), &["s", "S", "id"], (1, 2));
    }

    #[test]
    fn missing_columns_are_named_with_those_that_are_there() {
        let check = |columns: Columns, names: &[&str], expect: &str| {
            let problem = columns.find(names, 1).unwrap_err().in_file("f.csv");
            assert_eq!(problem.to_string(), expect);
            assert!(problem.hint.unwrap().contains("-column`"));
        };
        check(
            named(None, None),
            &["zinc", "SMILES"],
            "f.csv:1: no id column among `zinc`, `SMILES` (expected `id`, `molecule_id`, `compound_id`, \
             `ligand_id`, `name`, `molecule_name`, `title`)",
        );
        check(named(Some("x"), None), &["smiles"], "f.csv:1: no SMILES column among `smiles` (expected `x`)");
    }
}
