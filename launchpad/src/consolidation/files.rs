//! Where a table and its receipt go. A receipt belongs to its table: it has its name, and stays as long as the table stays.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::storage::key;

use super::{ConsolidationError, Receipt};
use crate::error::LaunchpadError;
use crate::new_file::{is_stdout, is_stream, write_whole};
use crate::output::STDOUT_NAME;

/// The files of a consolidation.
#[derive(Debug)]
pub(crate) struct TableFiles {
    table: PathBuf,
    receipt: Option<PathBuf>,
}

impl TableFiles {
    /// Finds the receipt's name where none was given. A table on standard output, or in a pipe, has no local receipt then.
    pub(crate) fn new(table: &Path, receipt: Option<&Path>) -> Result<Self, ConsolidationError> {
        let receipt = match receipt {
            Some(receipt) if is_stdout(receipt) && is_stdout(table) => {
                return Err(ConsolidationError::BothOnStdout);
            }
            Some(receipt) => Some(receipt.to_owned()),
            None if is_stream(table) => None,
            None => Some(beside(table)),
        };
        Ok(Self { table: table.to_owned(), receipt })
    }

    /// Where the table goes.
    pub(crate) fn table(&self) -> &Path {
        &self.table
    }

    /// Where the receipt goes, if anywhere.
    pub(crate) fn receipt(&self) -> Option<&Path> {
        self.receipt.as_deref()
    }

    /// Whether one of them is what is on standard output.
    pub(crate) fn are_on_stdout(&self) -> bool {
        is_stdout(&self.table) || self.receipt().is_some_and(is_stdout)
    }

    /// Writes the receipt of a table that is there.
    pub(crate) fn write_receipt(&self, bytes: &[u8]) -> Result<(), LaunchpadError> {
        self.receipt().map_or(Ok(()), |receipt| write_whole(receipt, bytes))
    }

    /// Writes the receipt of a table that can't be made, and says so. An older table stays, and so does its receipt.
    pub(crate) fn refuse(&self, run: &Receipt, receipt: &[u8]) -> LaunchpadError {
        let older = !is_stream(&self.table) && self.table.exists();
        let path = self
            .receipt()
            .map(|path| if older && !is_stream(path) { incomplete(path) } else { path.to_owned() });
        if let Some(Err(error)) = path.as_ref().map(|path| write_whole(path, receipt)) {
            return error;
        }
        ConsolidationError::Incomplete {
            run: run.run.clone(),
            molecules: run.verdicts.missing,
            tasks: run.missing.len() as u64,
            output: shown(&self.table).into(),
            older: path.filter(|_| older),
        }
        .into()
    }

    /// Where they are, as text.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("table    {}\n", shown(&self.table).display());
        if let Some(receipt) = self.receipt() {
            writeln!(text, "receipt  {}", shown(receipt).display()).expect("writing to a String cannot fail");
        }
        text
    }
}

fn shown(path: &Path) -> &Path {
    if is_stdout(path) { Path::new(STDOUT_NAME) } else { path }
}

/// `receipt.json` beside a table called `results`, as in the store; beside another one with the table's name in front.
fn beside(table: &Path) -> PathBuf {
    match table.file_stem() {
        Some(stem) if stem != "results" => {
            let mut name = stem.to_owned();
            name.extend([".", key::RECEIPT].map(OsStr::new));
            table.with_file_name(name)
        }
        _ => table.with_file_name(key::RECEIPT),
    }
}

/// The name for a receipt beside that of a table which stays.
fn incomplete(receipt: &Path) -> PathBuf {
    receipt.with_extension("incomplete.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_named_after_its_table() {
        let check = |table: &str, expect: Option<&str>| {
            let files = TableFiles::new(Path::new(table), None).unwrap();
            assert_eq!(files.receipt(), expect.map(Path::new), "{table}");
        };
        check("results.csv", Some("receipt.json"));
        check("/a/results", Some("/a/receipt.json"));
        check("b/first.csv", Some("b/first.receipt.json"));
        check("second.2.csv", Some("second.2.receipt.json"));
        check("./-", Some("./-.receipt.json"));
        check("-", None);
        check("/dev/null", None);
        let both = TableFiles::new(Path::new("-"), Some(Path::new("-"))).unwrap_err();
        assert!(matches!(both, ConsolidationError::BothOnStdout), "{both}");
    }
}
