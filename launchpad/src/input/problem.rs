//! What can be wrong with an input: one entry of it ([`Problem`]) or all of it ([`InputError`]).

use std::io;
use std::path::PathBuf;

use crate::error::file_hint;

/// One entry of a file that cannot be used. Reading goes on after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {what}")]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What was found and what was expected.
    pub what: String,
    /// What the user may do about it.
    pub hint: Option<String>,
}

/// Why a file cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It does not exist, or may not be read.
    #[error("could not open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It broke off.
    #[error("could not read on in `{file}`")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its name does not tell its format.
    #[error("the format of `{}` is not known (known extensions: {known})", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The extensions that would have been understood.
        known: &'static str,
    },
    /// Something that the whole file depends on is wrong, such as its header.
    #[error(transparent)]
    Unusable(#[from] Problem),
}

impl InputError {
    /// What the user may do about it.
    pub fn hint(&self) -> &str {
        match self {
            Self::Open { source, .. } | Self::Read { source, .. } => file_hint(source),
            Self::UnknownFormat { .. } => "rename the file, convert it, or name its format",
            Self::Unusable(problem) => problem.hint.as_deref().unwrap_or("is it the right file, and whole?"),
        }
    }
}

/// A problem before its file is known: the readers of single formats see only lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    line: u64,
    what: String,
    hint: Option<String>,
}

impl Fault {
    /// Something that is wrong with a line, or with the entry that starts there.
    pub(super) fn new(line: u64, what: impl Into<String>) -> Self {
        Self { line, what: what.into(), hint: None }
    }

    /// Adds what the user may do about it.
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The problem in its file.
    pub(super) fn in_file(self, file: &str) -> Problem {
        Problem { file: file.to_owned(), line: self.line, what: self.what, hint: self.hint }
    }
}

/// The start of a text from a file, fit to be shown in a message.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    common::excerpt::excerpt(&String::from_utf8_lossy(bytes))
}

/// `` `a`, `b`, `c` ``, or `none`.
pub(super) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> =
        names.into_iter().map(|name| format!("`{}`", excerpt(name.as_bytes()))).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_starts_with_its_place() {
        let problem = Fault::new(17, "the SMILES is empty").with_hint("name it").in_file("ligands.smi");
        assert_eq!(problem.to_string(), "ligands.smi:17: the SMILES is empty");
        assert_eq!(InputError::from(problem).hint(), "name it");
    }

    #[test]
    fn bytes_that_are_no_text_can_be_quoted() {
        assert_eq!(excerpt(b"a\xff"), "a\u{fffd}");
    }
}
