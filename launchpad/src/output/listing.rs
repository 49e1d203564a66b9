//! Long lists, line by line as they come: columns of fixed width for people, one JSON object per line for programs.

use std::io::{self, BufWriter, Stdout, Write as _};
use std::marker::PhantomData;

use common::excerpt::visible;
use serde::Serialize;

use super::checked;
use crate::error::LaunchpadError;

/// A line of a list: fields for JSON, cells for people.
pub(crate) trait Line: Serialize {
    /// Name and least width of each column. A name that starts with `>` aligns its column to the right.
    const COLUMNS: &'static [(&'static str, usize)];

    /// One text per column.
    fn cells(&self) -> Vec<String>;
}

/// A list on its way to standard output.
#[derive(Debug)]
pub(crate) struct Listing<L> {
    json: bool,
    started: bool,
    written: io::Result<()>,
    to: BufWriter<Stdout>,
    of: PhantomData<L>,
}

impl<L: Line> Listing<L> {
    pub(super) fn new(json: bool) -> Self {
        Self { json, started: json, written: Ok(()), to: BufWriter::new(io::stdout()), of: PhantomData }
    }

    /// Prints a line. Returns whether there is any use in more: `| head` has seen enough at some point, and a disk is full.
    pub(crate) fn line(&mut self, line: &L) -> bool {
        let text = if self.json {
            serde_json::to_string(line).expect("a line has text keys only")
        } else {
            visible(&aligned(L::COLUMNS, &line.cells())).replace('\n', "\\n")
        };
        if !self.started {
            self.started = true;
            let names: Vec<_> =
                L::COLUMNS.iter().map(|(name, _)| name.trim_start_matches('>').to_owned()).collect();
            self.written = writeln!(self.to, "{}", aligned(L::COLUMNS, &names));
        }
        if self.written.is_ok() {
            self.written = writeln!(self.to, "{text}");
        }
        self.written.is_ok()
    }

    /// Prints what is left.
    pub(crate) fn finish(mut self) -> Result<(), LaunchpadError> {
        checked(self.written.and_then(|()| self.to.flush()))
    }
}

fn aligned(columns: &[(&str, usize)], cells: &[String]) -> String {
    let mut line = String::new();
    for ((name, width), cell) in columns.iter().zip(cells) {
        let padded =
            if name.starts_with('>') { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
        line.push_str(&padded);
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_keep_their_places() {
        let columns = [(">task", 6), ("state", 9), ("reason", 6)];
        let cells = |texts: [&str; 3]| texts.map(str::to_owned);
        assert_eq!(aligned(&columns, &cells(["task", "state", "reason"])), "  task  state      reason");
        assert_eq!(aligned(&columns, &cells(["7", "succeeded", ""])), "     7  succeeded");
        assert_eq!(aligned(&columns, &cells(["1234567", "dead", "x"])), "1234567  dead       x");
    }
}
