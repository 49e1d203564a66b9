//! `run.toml`: a run written down. Every key is optional; flags win over it. It resolves no path and opens no other file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{Column, RunId};
use serde::Deserialize;

use crate::cli::{Center, Edges, EngineName};

/// What a `run.toml` says.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct RunFile {
    /// The run's name.
    pub(crate) run: Option<RunId>,
    /// The engine.
    pub(crate) engine: Option<EngineName>,
    /// Files of molecules, relative to this file.
    pub(crate) input: Inputs,
    /// The store: a URL, or a folder relative to this file.
    pub(crate) store: Option<String>,
    /// The run's seed.
    pub(crate) seed: Option<u64>,
    /// Molecules per task, from 1.
    pub(crate) batch_size: Option<u64>,
    /// Threads of an engine, from 1.
    pub(crate) threads_per_task: Option<u32>,
    /// The campaign that the run belongs to.
    pub(crate) campaign: Option<String>,
    /// The engine's parameters.
    pub(crate) options: OptionsTable,
    /// How the run is driven.
    pub(crate) limits: LimitsTable,
    /// Labels by name.
    pub(crate) labels: BTreeMap<String, String>,
    /// What machines must have. Must be empty in this version.
    needs: toml::Table,
}

/// The table `[options]`.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct OptionsTable {
    pub(crate) receptor: Option<PathBuf>,
    pub(crate) box_ligand: Option<PathBuf>,
    pub(crate) box_center: Option<CenterValue>,
    pub(crate) box_size: Option<EdgesValue>,
    pub(crate) box_padding: Option<f64>,
    pub(crate) exhaustiveness: Option<u32>,
    pub(crate) modes: Option<u32>,
    pub(crate) driver: Option<String>,
    pub(crate) argv: Option<Vec<String>>,
    pub(crate) inputs: BTreeMap<String, PathBuf>,
    pub(crate) versions: Option<BTreeMap<String, Vec<String>>>,
    pub(crate) columns: Option<Vec<Column>>,
    pub(crate) score: Option<String>,
    pub(crate) rows: Option<String>,
    pub(crate) expect: Option<Vec<String>>,
    pub(crate) keep: Option<Vec<String>>,
}

/// The table `[limits]`, by the names of [`common::task::Limits`].
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct LimitsTable {
    pub(crate) parallelism: Option<u64>,
    pub(crate) failures_max: Option<u64>,
    pub(crate) lapses_max: Option<u64>,
    pub(crate) lease_ms: Option<u64>,
    pub(crate) heartbeat_ms: Option<u64>,
    pub(crate) backoff_ms: Option<u64>,
    pub(crate) backoff_max_ms: Option<u64>,
    pub(crate) step_seconds_max: Option<u64>,
}

/// One path or a list of them.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany<PathBuf>")]
pub(crate) struct Inputs(pub(crate) Vec<PathBuf>);

/// A list of three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct CenterValue([f64; 3]);

/// One number, or a list of three.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected one number or a list of three")]
pub(crate) enum EdgesValue {
    Cube(f64),
    Edges([f64; 3]),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected one path or a list of paths")]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl From<OneOrMany<PathBuf>> for Inputs {
    fn from(paths: OneOrMany<PathBuf>) -> Self {
        match paths {
            OneOrMany::One(path) => Self(vec![path]),
            OneOrMany::Many(paths) => Self(paths),
        }
    }
}

impl From<CenterValue> for Center {
    fn from(value: CenterValue) -> Self {
        Self(value.0)
    }
}

impl From<EdgesValue> for Edges {
    fn from(value: EdgesValue) -> Self {
        match value {
            EdgesValue::Cube(edge) => Self([edge; 3]),
            EdgesValue::Edges(edges) => Self(edges),
        }
    }
}

/// Why a `run.toml` can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunFileError {
    /// It can't be read.
    #[error("could not open `{}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML, or a value has the wrong type.
    #[error("`{}` is not valid: {}", path.display(), source.to_string().trim_end())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// A key that means nothing.
    #[error("`{}` has the unknown key `{found}` (known: {known})", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with its table.
        found: String,
        /// All keys that may stand there.
        known: String,
        /// The known one that looks most like it.
        nearest: &'static str,
    },
    /// Machines can't be chosen by this version.
    #[error("`{}` asks in `[needs]` for `{found}` (expected an empty table)", path.display())]
    Needs {
        /// The file.
        path: PathBuf,
        /// The first key of the table.
        found: String,
    },
}

impl RunFileError {
    /// What the user may do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Open { .. } | Self::Toml { .. } => None,
            Self::UnknownKey { nearest, .. } => Some(format!("did you mean `{nearest}`?")),
            Self::Needs { .. } => {
                Some("start the run's workers, with --run, on machines that have what it needs".into())
            }
        }
    }
}

const KEYS: &[&str] = &[
    "run",
    "engine",
    "input",
    "store",
    "seed",
    "batch_size",
    "threads_per_task",
    "campaign",
    "options",
    "limits",
    "labels",
    "needs",
];
const OPTIONS_KEYS: &[&str] = &[
    "receptor",
    "box_ligand",
    "box_center",
    "box_size",
    "box_padding",
    "exhaustiveness",
    "modes",
    "driver",
    "argv",
    "inputs",
    "versions",
    "columns",
    "score",
    "rows",
    "expect",
    "keep",
];
const LIMITS_KEYS: &[&str] = &[
    "parallelism",
    "failures_max",
    "lapses_max",
    "lease_ms",
    "heartbeat_ms",
    "backoff_ms",
    "backoff_max_ms",
    "step_seconds_max",
];

impl RunFile {
    /// Reads a `run.toml`.
    pub(crate) fn read(path: &Path) -> Result<Self, RunFileError> {
        let opened = std::fs::read_to_string(path);
        let text = opened.map_err(|source| RunFileError::Open { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, RunFileError> {
        let invalid = |source| RunFileError::Toml { path: path.to_owned(), source: Box::new(source) };
        let table: toml::Table = toml::from_str(text).map_err(invalid)?;
        check_keys(&table, "", KEYS, path)?;
        for (name, known) in [("options", OPTIONS_KEYS), ("limits", LIMITS_KEYS)] {
            if let Some(toml::Value::Table(below)) = table.get(name) {
                check_keys(below, &format!("{name}."), known, path)?;
            }
        }
        let file: Self = toml::from_str(text).map_err(invalid)?;
        match file.needs.keys().next() {
            Some(found) => Err(RunFileError::Needs { path: path.to_owned(), found: found.clone() }),
            None => Ok(file),
        }
    }
}

fn check_keys(
    table: &toml::Table,
    prefix: &str,
    known: &[&'static str],
    path: &Path,
) -> Result<(), RunFileError> {
    let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let nearest = known.iter().min_by_key(|key| strsim::damerau_levenshtein(key, unknown));
    Err(RunFileError::UnknownKey {
        path: path.to_owned(),
        found: format!("{prefix}{unknown}"),
        known: known.join(", "),
        nearest: nearest.expect("no list of known keys is empty"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RunFile, RunFileError> {
        RunFile::parse(text, Path::new("run.toml"))
    }

    #[test]
    fn every_key_is_understood() {
        let file = parse(
            "run = 'a'\nengine = 'vina'\ninput = 'x.smi'\nstore = 's'\nseed = 1\nbatch_size = 2\nthreads_per_task = 3\n\
             campaign = 'c'\n[options]\nreceptor = 'r.pdb'\nbox_ligand = 'l.pdb'\nbox_center = [1, 2, 3.5]\nbox_size = 14\n\
             box_padding = 4\nexhaustiveness = 5\nmodes = 6\ndriver = 'd.py'\nargv = ['python3', '{driver}']\n\
             score = 'mw'\nrows = 'rows.jsonl'\nexpect = ['a']\nkeep = ['b']\ninputs = {site = 's.pdb'}\n\
             versions = {rdkit = ['r', '-V']}\ncolumns = [{name = 'mw', unit = 'g/mol', min = 1}]\n[limits]\nparallelism = 1\nfailures_max = 2\nlapses_max = 3\n\
             lease_ms = 4\nheartbeat_ms = 5\nbackoff_ms = 6\nbackoff_max_ms = 7\nstep_seconds_max = 8\n\
             [labels]\ntarget = 't4l'\n[needs]\n",
        )
        .unwrap();
        assert_eq!(file.input.0, [PathBuf::from("x.smi")]);
        assert_eq!(file.options.box_center.map(Center::from), Some(Center([1.0, 2.0, 3.5])));
        assert_eq!(file.options.box_size.map(Edges::from), Some(Edges([14.0; 3])));
        assert_eq!(file.limits.step_seconds_max, Some(8));
        assert_eq!(file.labels["target"], "t4l");
        assert_eq!(parse("").unwrap(), RunFile::default());
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        let check = |text: &str, message: &str, hint: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert_eq!(error.hint().unwrap(), hint);
        };
        check(
            "batchsize = 3",
            "`run.toml` has the unknown key `batchsize` (known: run,",
            "did you mean `batch_size`?",
        );
        check(
            "[options]\nbox_centre = [1, 2, 3]",
            "`run.toml` has the unknown key `options.box_centre`",
            "did you mean `box_center`?",
        );
        check(
            "[needs]\ngpu = true",
            "`run.toml` asks in `[needs]` for `gpu`",
            "start the run's workers, with --run, on machines that have what it needs",
        );
    }

    #[test]
    fn wrong_values_are_shown_with_their_line() {
        let error = parse("seed = 1\nbatch_size = 'many'\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("batch_size"), "{error}");
        let error = parse("[options]\nbox_size = [1, 2]\n").unwrap_err().to_string();
        assert!(error.contains("one number or a list of three"), "{error}");
    }
}
