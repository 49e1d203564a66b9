//! What a run of the engine `command` computes: a program, and what it promises to leave behind. Pure; names no file outside the
//! scratch folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::enumeration::{FORMULA_PLACEHOLDER, StreamError, StreamOptions};
use crate::excerpt::excerpt;

/// Parameters of the engine `command`: any program, or a driver script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandOptions {
    /// The program and its arguments, no shell. [`DRIVER_PLACEHOLDER`] stands for the driver's path, [`THREADS_PLACEHOLDER`] for the
    /// number of threads.
    pub argv: Vec<String>,
    /// Programs that must work on a worker, by the name that their version gets in the provenance: the command that prints it.
    pub versions: BTreeMap<String, Vec<String>>,
    /// The file of rows that the program writes, `.csv` or `.jsonl`, below the scratch folder.
    pub rows: String,
    /// The columns of the rows, in the order of the table.
    pub columns: Vec<Column>,
    /// The column that is the score, if one is.
    pub score: Option<String>,
    /// Files that must be there, not empty, for a molecule to be ok. [`INDEX_PLACEHOLDER`] makes it a file per molecule.
    pub expect: Vec<String>,
    /// Files to keep beside rows and expected files, if they are there.
    pub keep: Vec<String>,
    /// Standard output is the result, a line for each structure, and streamed into parts; then there are no rows of the program's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamOptions>,
}

/// The role of the run's script, which no input may have.
pub const DRIVER_ROLE: &str = "driver";
/// Stands in `argv` for the path of the driver.
pub const DRIVER_PLACEHOLDER: &str = "{driver}";
/// Stands in `argv` for the number of threads.
pub const THREADS_PLACEHOLDER: &str = "{threads}";
/// Stands in names of files for a molecule's `index` in `task.json`, five digits.
pub const INDEX_PLACEHOLDER: &str = "{index}";

/// A column that a program declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the file of rows and in the table.
    pub name: String,
    /// What its values are.
    #[serde(default)]
    pub kind: ColumnKind,
    /// The unit of its values; empty for a pure number or text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// The lowest plausible value; a lower one makes the molecule bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The highest plausible value; a higher one makes the molecule bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// Finite numbers, one for every molecule that is ok.
    #[default]
    Number,
    /// Any text, which may be empty.
    Text,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsFormat {
    /// CSV with a header.
    Csv,
    /// One JSON object per line.
    JsonLines,
}

/// Names that the table has already, or that a file of rows uses itself.
const RESERVED_COLUMNS: [&str; 9] = [
    "task_id",
    "molecule_id",
    "smiles",
    "verdict",
    "reason",
    "score",
    "score_unit",
    "shard_sha256",
    "detail",
];
/// What a worker puts into the scratch folder, or beside the files of an attempt, itself.
const RESERVED_FILES: [&str; 7] =
    ["task.json", "inputs", "driver", "logs", "molecules", "attempt.json", ROWS_DEFAULT];
/// The longest command line, in bytes: Linux takes 128 KiB for one argument, and placeholders grow.
const ARGUMENTS_BYTES_MAX: usize = 16 << 10; // 16 KiB
/// The longest path of a file, in bytes.
const PATH_BYTES_MAX: usize = 255;
/// The file of rows of a run that names none.
pub const ROWS_DEFAULT: &str = "rows.csv";

/// Says why the parameters of a command can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing to run.
    #[error("the command has no program (expected argv, or a driver that ends in .py or .sh)")]
    NoProgram,
    /// No program can be given such an argument.
    #[error("an argument of the command has a NUL character")]
    Nul,
    /// More than a program can be started with.
    #[error("the command has {bytes} bytes of arguments (expected {ARGUMENTS_BYTES_MAX} at most)")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// `argv` wants a driver that is not there.
    #[error("argv has `{DRIVER_PLACEHOLDER}` and there is no driver")]
    NoDriver,
    /// A driver that `argv` does not name would never run.
    #[error("there is a driver and argv does not name it (expected `{DRIVER_PLACEHOLDER}` in it)")]
    UnusedDriver,
    /// Without a column or an expected file every exit would be a success.
    #[error("the command declares neither a column nor an expected file")]
    NothingDeclared,
    /// A column's name can't be one.
    #[error(
        "the column `{}` can't be named so (expected a letter, then at most 63 of A-Z a-z 0-9 _ . -)",
        excerpt(name)
    )]
    ColumnName {
        /// The name.
        name: String,
    },
    /// A column's name means something else.
    #[error("the column `{name}` has a reserved name (reserved: {})", RESERVED_COLUMNS.join(", "))]
    ReservedColumn {
        /// The name.
        name: String,
    },
    /// Two columns have one name.
    #[error("the column `{name}` is declared twice")]
    DuplicateColumn {
        /// The name.
        name: String,
    },
    /// A range that holds nothing, or one of a text.
    #[error("the column `{name}` has the range `{found}` (expected {expected})")]
    Range {
        /// The column.
        name: String,
        /// The range.
        found: String,
        /// What would be one.
        expected: &'static str,
    },
    /// The score is none of the columns of numbers.
    #[error("the score `{}` is no column of numbers (those are: {known})", excerpt(score))]
    Score {
        /// The name.
        score: String,
        /// The columns that could be it.
        known: String,
    },
    /// A file outside the scratch folder, or one that is the worker's.
    #[error(
        "{what} `{}` can't be used (expected a path below the scratch folder, other than {})",
        excerpt(path), RESERVED_FILES.join(", ")
    )]
    Path {
        /// What it is for.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// The file of rows has an unknown format.
    #[error("the file of rows `{}` has an unknown format (known endings: .csv, .jsonl)", excerpt(path))]
    RowsFormat {
        /// The path.
        path: String,
    },
    /// A parameter of its stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A program without a command that tells its version.
    #[error("the version of `{}` has no command", excerpt(name))]
    Version {
        /// The program.
        name: String,
    },
}

impl CommandOptions {
    /// Checks each parameter and their relations.
    pub fn validate(&self, has_driver: bool) -> Result<(), CommandError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(CommandError::NoProgram);
        }
        self.versions.values().chain([&self.argv]).try_for_each(|argv| check_arguments(argv))?;
        let names_driver = self.argv.iter().any(|word| word.contains(DRIVER_PLACEHOLDER));
        match (names_driver, has_driver) {
            (true, false) => return Err(CommandError::NoDriver),
            (false, true) => return Err(CommandError::UnusedDriver),
            (true, true) | (false, false) => {}
        }
        if let Some(name) = self.versions.iter().find_map(|(name, argv)| argv.is_empty().then_some(name)) {
            return Err(CommandError::Version { name: name.clone() });
        }
        if let Some(stream) = &self.stream {
            return Ok(self.check_stream(stream)?);
        }
        if self.columns.is_empty() && self.expect.is_empty() {
            return Err(CommandError::NothingDeclared);
        }
        let mut names = BTreeSet::new();
        for column in &self.columns {
            column.validate()?;
            if !names.insert(&column.name) {
                return Err(CommandError::DuplicateColumn { name: column.name.clone() });
            }
        }
        self.check_score()?;
        self.check_files()
    }

    fn check_stream(&self, stream: &StreamOptions) -> Result<(), StreamError> {
        let beside = [
            ("columns", !self.columns.is_empty()),
            ("score", self.score.is_some()),
            ("rows", self.rows != ROWS_DEFAULT),
            ("expect", !self.expect.is_empty()),
            ("keep", !self.keep.is_empty()),
        ];
        if let Some((name, _)) = beside.into_iter().find(|(_, given)| *given) {
            return Err(StreamError::Beside { name });
        }
        if !self.argv.iter().any(|word| word.contains(FORMULA_PLACEHOLDER)) {
            return Err(StreamError::NoFormula);
        }
        stream.validate()
    }

    fn check_score(&self) -> Result<(), CommandError> {
        let Some(score) = &self.score else { return Ok(()) };
        let numbers = || self.columns.iter().filter(|column| column.kind == ColumnKind::Number);
        if numbers().any(|column| column.name == *score) {
            return Ok(());
        }
        let known = numbers().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(CommandError::Score { score: score.clone(), known })
    }

    fn check_files(&self) -> Result<(), CommandError> {
        if self.rows_format().is_none() || self.rows.contains(INDEX_PLACEHOLDER) {
            return Err(CommandError::RowsFormat { path: self.rows.clone() });
        }
        let rows = Some(("the file of rows", &self.rows)).filter(|_| self.rows != ROWS_DEFAULT).into_iter();
        let expect = self.expect.iter().map(|path| ("the expected file", path));
        let keep = self.keep.iter().map(|path| ("the file to keep", path));
        match rows.chain(expect).chain(keep).find(|(_, path)| !is_usable(path)) {
            Some((what, path)) => Err(CommandError::Path { what, path: path.clone() }),
            None => Ok(()),
        }
    }

    /// The format of the rows, by the ending of their file; `None` for an ending that means nothing.
    pub fn rows_format(&self) -> Option<RowsFormat> {
        match Path::new(&self.rows).extension()?.to_str()? {
            "csv" => Some(RowsFormat::Csv),
            "jsonl" => Some(RowsFormat::JsonLines),
            _ => None,
        }
    }

    /// The unit of the score; empty where there is none.
    pub fn score_unit(&self) -> &str {
        let score = self.columns.iter().find(|column| Some(&column.name) == self.score.as_ref());
        score.map_or("", |column| &column.unit)
    }
}

impl Column {
    fn validate(&self) -> Result<(), CommandError> {
        let name = self.name.clone();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !starts || name.len() > 64 || !name.chars().all(allowed) {
            return Err(CommandError::ColumnName { name });
        }
        if RESERVED_COLUMNS.contains(&name.as_str()) {
            return Err(CommandError::ReservedColumn { name });
        }
        let expected = match (self.kind, self.min, self.max) {
            (_, None, None) => return Ok(()),
            (ColumnKind::Text, ..) => "none, since it is text",
            (ColumnKind::Number, min, max) if min.into_iter().chain(max).any(|end| !end.is_finite()) => {
                "finite numbers"
            }
            (ColumnKind::Number, Some(min), Some(max)) if min > max => "min no higher than max",
            (ColumnKind::Number, ..) => return Ok(()),
        };
        Err(CommandError::Range { name, found: self.range(), expected })
    }

    /// The plausible range as people write it, such as `0 to 1` or `from 0`.
    pub fn range(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{min} to {max}"),
            (Some(min), None) => format!("from {min}"),
            (None, Some(max)) => format!("to {max}"),
            (None, None) => "any".to_owned(),
        }
    }
}

fn check_arguments(argv: &[String]) -> Result<(), CommandError> {
    let bytes = argv.iter().map(|word| word.len() + 1).sum();
    if bytes > ARGUMENTS_BYTES_MAX {
        return Err(CommandError::TooLong { bytes });
    }
    if argv.iter().any(|word| word.contains('\0')) { Err(CommandError::Nul) } else { Ok(()) }
}

/// Whether a path stays below the scratch folder and apart from what the worker puts there.
fn is_usable(path: &str) -> bool {
    if path.len() > PATH_BYTES_MAX || path.chars().any(char::is_control) {
        return false;
    }
    let below = |part: Component<'_>| matches!(part, Component::Normal(_));
    let mut parts = Path::new(path).components();
    let first = parts.clone().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.all(below) && first.is_some_and(|first| !RESERVED_FILES.contains(&first.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> CommandOptions {
        let column =
            |name: &str, kind, min, max| Column { name: name.into(), kind, unit: "g/mol".into(), min, max };
        CommandOptions {
            argv: vec!["python3".into(), "{driver}".into()],
            versions: BTreeMap::new(),
            rows: "rows.csv".into(),
            columns: vec![
                column("weight", ColumnKind::Number, Some(1.0), Some(5000.0)),
                column("series", ColumnKind::Text, None, None),
            ],
            score: Some("weight".into()),
            expect: vec!["poses/{index}.sdf".into()],
            keep: vec!["output".into()],
            stream: None,
        }
    }

    #[test]
    fn a_stream_stands_alone() {
        let stream = StreamOptions { total: ">Z {total} graphs".into(), lines_per_part: 5, filter: None };
        let plain = CommandOptions {
            argv: vec!["geng".into(), "{formula}".into()],
            columns: Vec::new(),
            score: None,
            expect: Vec::new(),
            keep: Vec::new(),
            stream: Some(stream),
            ..options()
        };
        assert_eq!(plain.validate(false), Ok(()));
        let beside = CommandOptions { keep: vec!["a".into()], ..plain.clone() };
        assert!(
            beside.validate(false).unwrap_err().to_string().starts_with("`keep` is given beside a stream")
        );
        let same = CommandOptions { argv: vec!["geng".into()], ..plain };
        assert_eq!(same.validate(false), Err(CommandError::Stream(StreamError::NoFormula)));
    }

    #[test]
    fn a_sound_command_is_accepted() {
        assert_eq!(options().validate(true), Ok(()));
        assert_eq!(options().score_unit(), "g/mol");
        assert_eq!(CommandOptions { score: None, ..options() }.score_unit(), "");
        let text = serde_json::to_string(&options()).unwrap();
        assert_eq!(serde_json::from_str::<CommandOptions>(&text).unwrap(), options());
    }

    #[test]
    fn every_contradiction_is_named() {
        let check = |change: fn(&mut CommandOptions), expect: &str| {
            let mut options = options();
            change(&mut options);
            let error = options.validate(true).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check(|o| o.argv.clear(), "the command has no program");
        check(|o| o.argv.truncate(1), "there is a driver and argv does not name it");
        check(|o| o.columns[1].name = "weight".into(), "the column `weight` is declared twice");
        check(|o| o.columns[0].name = "Δ".into(), "the column `Δ` can't be named so");
        check(|o| o.columns[0].name = "verdict".into(), "the column `verdict` has a reserved name");
        check(|o| o.columns[0].min = Some(6000.0), "the column `weight` has the range `6000 to 5000`");
        check(|o| o.columns[0].max = Some(f64::NAN), "the column `weight` has the range `1 to NaN`");
        check(|o| o.columns[1].min = Some(0.0), "the column `series` has the range `from 0` (expected none");
        check(
            |o| o.score = Some("series".into()),
            "the score `series` is no column of numbers (those are: weight)",
        );
        check(|o| o.rows = "rows.txt".into(), "the file of rows `rows.txt` has an unknown format");
        check(|o| o.rows = "/tmp/rows.csv".into(), "the file of rows `/tmp/rows.csv` can't be used");
        check(|o| o.expect = vec!["../x".into()], "the expected file `../x` can't be used");
        check(|o| o.keep = vec!["logs/x".into()], "the file to keep `logs/x` can't be used");
        check(|o| o.keep = vec!["rows.csv".into()], "the file to keep `rows.csv` can't be used");
        check(|o| o.keep = vec!["a\nb".into()], "the file to keep `a\\nb` can't be used");
        check(|o| o.argv[0].push('\0'), "an argument of the command has a NUL character");
        check(|o| o.argv.push("x".repeat(1 << 14)), "the command has 16402 bytes of arguments");
        check(|o| o.keep = vec![String::new()], "the file to keep `` can't be used");
        check(
            |o| (o.columns, o.expect, o.score) = (vec![], vec![], None),
            "the command declares neither a column nor an expected file",
        );
        check(|o| _ = o.versions.insert("rdkit".into(), vec![]), "the version of `rdkit` has no command");
        assert_eq!(options().validate(false), Err(CommandError::NoDriver));
    }
}
