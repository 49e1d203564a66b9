//! Tables for the terminal: no borders, so that `awk` and `cut` can read them.

use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement};

/// A table with a header.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// A table with these columns. A name that starts with `>` aligns its column to the right.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|name| name.trim_start_matches('>')));
        for (index, name) in columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                if name.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Self(table)
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(&["name", ">score"]);
        table.row(["benzene".to_owned(), "-5.1".to_owned()]);
        table.row(["x".to_owned(), "-10.25".to_owned()]);
        assert_eq!(table.to_string(), "name      score\nbenzene    -5.1\nx        -10.25\n");
    }
}
