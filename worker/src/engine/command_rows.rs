//! The file of rows that a command leaves: CSV with a header, or JSON Lines. Finds each molecule's cells by its id, with the program's
//! own digits; whether they can be used is for `command_verdict` to say.

use std::collections::{BTreeMap, HashMap};

use common::task::{Column, RowsFormat};
use serde_json::value::RawValue;

/// The column by which rows are found, never by their order.
const ID: &str = "molecule_id";

/// One row's cells by column.
pub(crate) type Cells = BTreeMap<String, String>;

/// All rows of a file.
#[derive(Debug, Default)]
pub(crate) struct FoundRows {
    rows: HashMap<String, Vec<Cells>>,
    /// The first line that is no row, and why.
    pub(crate) unreadable: Option<String>,
}

/// Says why a file has no rows to look for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its header is `{found}` (expected `{missing}` in it)")]
pub(crate) struct MissingColumn {
    found: String,
    missing: String,
}

impl FoundRows {
    /// Reads all rows. `whole` says that the program came to its end: otherwise a last line without a line feed is half a row.
    pub(crate) fn parse(
        text: &str,
        format: RowsFormat,
        columns: &[Column],
        whole: bool,
    ) -> Result<Self, MissingColumn> {
        let text = if whole { text } else { text.rfind('\n').map_or("", |end| &text[..=end]) };
        match format {
            RowsFormat::Csv => Self::parse_csv(text, columns),
            RowsFormat::JsonLines => Ok(Self::parse_json_lines(text)),
        }
    }

    fn parse_csv(text: &str, columns: &[Column]) -> Result<Self, MissingColumn> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        // In memory, and flexible about lengths: reading cannot fail, and an empty file has an empty header.
        let header = reader.headers().cloned().unwrap_or_default();
        let mut wanted = std::iter::once(ID).chain(columns.iter().map(|column| column.name.as_str()));
        if let Some(missing) = wanted.find(|name| header.iter().all(|found| found != *name)) {
            let found = header.iter().collect::<Vec<_>>().join(",");
            return Err(MissingColumn { found, missing: missing.to_owned() });
        }
        let mut found = Self::default();
        for record in reader.records().flatten() {
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() == header.len() {
                let cells = header.iter().zip(&record);
                found.add(cells.map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect());
            } else {
                found.refuse(line, &format!("{} cells (expected {})", record.len(), header.len()));
            }
        }
        Ok(found)
    }

    fn parse_json_lines(text: &str) -> Self {
        let mut found = Self::default();
        for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
            match serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) {
                Ok(cells) => {
                    let cells: Cells =
                        cells.iter().map(|(name, value)| (name.clone(), cell(value.get()))).collect();
                    if cells.contains_key(ID) {
                        found.add(cells);
                    } else {
                        found.refuse(line, "no `molecule_id`");
                    }
                }
                Err(error) => found.refuse(line, &error.to_string()),
            }
        }
        found
    }

    fn add(&mut self, mut cells: Cells) {
        let id = cells.remove(ID).unwrap_or_default();
        self.rows.entry(id).or_default().push(cells);
    }

    fn refuse(&mut self, line: u64, why: &str) {
        self.unreadable.get_or_insert_with(|| format!("line {line} is no row: {why}"));
    }

    /// The rows of a molecule: one, if all is well.
    pub(crate) fn of(&self, molecule_id: &str) -> &[Cells] {
        self.rows.get(molecule_id).map_or(&[], Vec::as_slice)
    }

    /// An id that is in the file and not among these: the program may have altered it.
    pub(crate) fn stranger<'a>(&'a self, known: &[&str]) -> Option<&'a str> {
        self.rows.keys().map(String::as_str).filter(|id| !known.contains(id)).min()
    }
}

/// A JSON value as a cell: text without its quotes, `null` as nothing, anything else letter by letter.
fn cell(json: &str) -> String {
    match json {
        "null" => String::new(),
        text => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use common::task::ColumnKind;

    use super::*;

    fn parse(text: &str, format: RowsFormat, whole: bool) -> Result<FoundRows, MissingColumn> {
        let column = |name: &str| Column {
            name: name.into(),
            kind: ColumnKind::Number,
            unit: String::new(),
            min: None,
            max: None,
        };
        FoundRows::parse(text, format, &[column("mw")], whole)
    }

    #[test]
    fn rows_are_found_by_id_with_their_own_digits() {
        let csv = "mw,molecule_id,more\n78.110,benzene,1\n\"1,2\",\"thieno[2,3-c]pyridine\",\n";
        let json = "{\"molecule_id\": \"benzene\", \"mw\": 78.110, \"note\": null}\n\n\
                    {\"mw\": \"1,2\", \"molecule_id\": \"thieno[2,3-c]pyridine\"}\n";
        for (text, format) in [(csv, RowsFormat::Csv), (json, RowsFormat::JsonLines)] {
            let found = parse(text, format, true).unwrap();
            assert_eq!(found.of("benzene")[0]["mw"], "78.110");
            assert_eq!(found.of("thieno[2,3-c]pyridine")[0]["mw"], "1,2");
            assert!(found.of("Benzene").is_empty() && found.unreadable.is_none());
            assert_eq!(found.stranger(&["benzene"]), Some("thieno[2,3-c]pyridine"));
        }
    }

    #[test]
    fn half_a_row_is_none() {
        let csv = "molecule_id,mw\na,12.345\nb,12.3";
        assert_eq!(parse(csv, RowsFormat::Csv, true).unwrap().of("b").len(), 1);
        let cut = parse(csv, RowsFormat::Csv, false).unwrap();
        assert_eq!((cut.of("a").len(), cut.of("b").len()), (1, 0));
        assert_eq!(parse("{\"molecule_id\":\"a\"}", RowsFormat::JsonLines, false).unwrap().of("a").len(), 0);
    }

    #[test]
    fn a_line_that_is_no_row_spares_its_neighbours() {
        let check = |text: &str, format, expect: &str| {
            let found = parse(text, format, true).unwrap();
            assert_eq!((found.of("a").len(), found.of("c").len()), (1, 1));
            assert!(found.unreadable.as_deref().unwrap().starts_with(expect), "{:?}", found.unreadable);
        };
        check("molecule_id,mw\na,1\nb\nc,3\n", RowsFormat::Csv, "line 3 is no row: 1 cells (expected 2)");
        let json = "{\"molecule_id\":\"a\"}\n{\"molecule_id\":\"b\",\"mw\":NaN}\n{\"molecule_id\":\"c\"}\n";
        check(json, RowsFormat::JsonLines, "line 2 is no row: ");
        check(
            &json.replace("\"b\",\"mw\":NaN", "1").replace("\"molecule_id\":1", "\"x\":1"),
            RowsFormat::JsonLines,
            "line 2 is no row: no `molecule_id`",
        );
    }

    #[test]
    fn a_header_without_a_declared_column_is_named() {
        let check = |text: &str, expect: &str| {
            assert_eq!(parse(text, RowsFormat::Csv, true).unwrap_err().to_string(), expect);
        };
        check("molecule_id,MW\n", "its header is `molecule_id,MW` (expected `mw` in it)");
        check("", "its header is `` (expected `molecule_id` in it)");
    }
}
