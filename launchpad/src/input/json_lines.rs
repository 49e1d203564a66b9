//! Reads JSON Lines: on each line an object with a SMILES and an id.

use std::io::{self, BufRead};

use serde_json::{Map, Value};

use super::columns::Columns;
use super::lines::{Line, Lines};
use super::molecule::FoundMolecule;
use super::problem::{Fault, excerpt};

/// The reader.
#[derive(Debug)]
pub(super) struct JsonLines<R> {
    lines: Lines<R>,
    columns: Columns,
}

impl<R: BufRead> JsonLines<R> {
    /// Starts at the beginning of a stream.
    pub(super) fn new(source: R, columns: Columns) -> Self {
        Self { lines: Lines::new(source), columns }
    }

    fn next_molecule(&mut self) -> io::Result<Option<Result<FoundMolecule, Fault>>> {
        while let Some(line) = self.lines.next()? {
            if !line.is_blank() {
                return Ok(Some(parse(&line, &self.columns)));
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for JsonLines<R> {
    type Item = io::Result<Result<FoundMolecule, Fault>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_molecule().transpose()
    }
}

fn parse(line: &Line<'_>, columns: &Columns) -> Result<FoundMolecule, Fault> {
    let object: Map<String, Value> = serde_json::from_str(line.text()?).map_err(|error| {
        let text = error.to_string();
        // Every line is a text of its own to the parser, so "line 1" in its message would mislead.
        let reason = text.split(" at line ").next().unwrap_or(&text);
        Fault::new(line.number, format!("no JSON object: {reason} at column {}", error.column()))
    })?;
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    let (smiles, id) = columns.find(&keys, line.number)?;
    let smiles = smiles_of(&object, keys[smiles], line.number)?;
    let id = text_of(&object, keys[id], line.number)?;
    FoundMolecule::from_smiles(&id, &smiles, line.number)
}

/// Text, or nothing for `null`: a number would pass for a SMILES of ring closures.
fn smiles_of(object: &Map<String, Value>, key: &str, line: u64) -> Result<String, Fault> {
    match &object[key] {
        Value::Number(number) => Err(Fault::new(line, format!("`{key}` is `{number}` (expected text)"))),
        _ => text_of(object, key, line),
    }
}

/// Text, a number as it is written, or nothing for `null`.
fn text_of(object: &Map<String, Value>, key: &str, line: u64) -> Result<String, Fault> {
    match &object[key] {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Ok(String::new()),
        other @ (Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
            let found = excerpt(other.to_string().as_bytes());
            Err(Fault::new(line, format!("`{key}` is `{found}` (expected text or a number)")))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::input::Format;
    use crate::input::fixture::{check, check_with};

    #[test]
    fn objects_are_molecules() {
        check(
            Format::JsonLines,
            "{\"smiles\":\"CCO\",\"id\":\"a b\"}\r\n\n{\"name\": 7, \"SMILES\": \"C\", \"mw\": [1]}\n",
            &["1 a b CCO", "3 7 C"],
        );
        check(Format::JsonLines, "{\"smiles\":\"C\",\"id\":null}", &["1 line_1 C"]);
        check_with(Format::JsonLines, "{\"s\":\"C\",\"id\":1,\"k\":\"x\"}", ("s", "k"), &["1 x C"]);
    }

    #[test]
    fn problems_do_not_end_the_reading() {
        check(
            Format::JsonLines,
            "{\"smiles\":\"C\"\n[1]\n{\"mw\":1}\n{\"smiles\":[],\"id\":1}\n{\"smiles\":null,\"id\":1}\n{\"smiles\":\"C\",\"id\":1}",
            &[
                "f:1: no JSON object: EOF while parsing an object at column 13",
                "f:2: no JSON object: invalid type: sequence, expected a map at column 0",
                "f:3: no SMILES column among `mw` (expected `smiles`, `canonical_smiles`, `isomeric_smiles`, `structure`)",
                "f:4: `smiles` is `[]` (expected text or a number)",
                "f:5: the SMILES is empty",
                "6 1 C",
            ],
        );
    }
}
