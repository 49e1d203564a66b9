//! What tests of the readers share: an input goes in, one line per entry comes out. Not part of the program.

use super::{Columns, Format, FoundStructure, read};

/// Each entry as `<line> <id> <structure>`, or as the problem's text.
pub(super) fn outcome(format: Format, input: &[u8], columns: &Columns) -> Vec<String> {
    let entries = read(input, "f", format, columns).unwrap();
    let entries = entries.map(|entry| match entry.unwrap() {
        Err(problem) => problem.to_string(),
        Ok(found) => {
            let structure = match found.structure {
                FoundStructure::Smiles(text) | FoundStructure::Formula(text) => text,
                FoundStructure::SdfRecord { offset, length } => format!("{offset}+{length}"),
            };
            format!("{} {} {structure}", found.line, found.id)
        }
    });
    entries.collect()
}

/// Compares the entries of an input.
pub(super) fn check(format: Format, input: impl AsRef<[u8]>, expect: &[&str]) {
    assert_eq!(outcome(format, input.as_ref(), &Columns::default()), expect);
}

/// The same with given names for the columns of SMILES and id.
pub(super) fn check_with(
    format: Format,
    input: impl AsRef<[u8]>,
    (smiles, id): (&str, &str),
    expect: &[&str],
) {
    let columns = Columns { smiles: Some(smiles.to_owned()), id: Some(id.to_owned()) };
    assert_eq!(outcome(format, input.as_ref(), &columns), expect);
}
