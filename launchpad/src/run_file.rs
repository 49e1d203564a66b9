//! `run.toml`: a run written down. Every key is optional; flags win over it. It resolves no path and opens no other file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{CnnScoring, Column, FilterOptions, MoleculeField, RunId};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::{Center, Charges, Edges, EngineName, Label, SolventName};
use crate::error::file_hint;

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
    /// What machines must have.
    pub(crate) needs: NeedsTable,
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
    pub(crate) cnn_scoring: Option<CnnScoring>,
    pub(crate) device: Option<u32>,
    pub(crate) charges: Option<Charges>,
    pub(crate) md_ps: Option<f64>,
    pub(crate) frames: Option<u32>,
    pub(crate) solvent: Option<SolventName>,
    pub(crate) reference: Option<PathBuf>,
    pub(crate) windows: Option<usize>,
    pub(crate) lambdas_coulomb: Option<Vec<f64>>,
    pub(crate) lambdas_vdw: Option<Vec<f64>>,
    pub(crate) window_ps: Option<f64>,
    pub(crate) discard_ps: Option<f64>,
    pub(crate) equilibration_ps: Option<f64>,
    pub(crate) box_nm: Option<f64>,
    pub(crate) driver: Option<String>,
    pub(crate) argv: Option<Vec<String>>,
    pub(crate) inputs: BTreeMap<String, PathBuf>,
    pub(crate) versions: Option<BTreeMap<String, Vec<String>>>,
    pub(crate) columns: Option<Vec<Column>>,
    pub(crate) score: Option<String>,
    pub(crate) rows: Option<String>,
    pub(crate) expect: Option<Vec<String>>,
    pub(crate) keep: Option<Vec<String>>,
    pub(crate) path: Option<String>,
    pub(crate) health: Option<String>,
    pub(crate) request: Option<serde_json::Map<String, serde_json::Value>>,
    pub(crate) molecules: Option<String>,
    pub(crate) fields: Option<BTreeMap<String, MoleculeField>>,
    pub(crate) answer: Option<String>,
    pub(crate) method: Option<String>,
    pub(crate) basis: Option<String>,
    pub(crate) charge: Option<i32>,
    pub(crate) multiplicity: Option<u32>,
    pub(crate) settings: Option<BTreeMap<String, String>>,
    pub(crate) stream: Option<StreamTable>,
    pub(crate) split: Option<u64>,
}

/// The table `[options.stream]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamTable {
    pub(crate) total: Option<String>,
    pub(crate) lines_per_part: Option<u64>,
    pub(crate) filter: Option<FilterOptions>,
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
    pub(crate) step_seconds: Option<BTreeMap<String, u64>>,
    pub(crate) checkpoint_seconds: Option<u64>,
    pub(crate) checkpoint_jitter_seconds: Option<u64>,
}

/// The table `[needs]`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct NeedsTable {
    /// A GPU for each task, or a share of one.
    pub(crate) gpu: Option<bool>,
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
    #[error("{}:{line}: `{found}`: {what}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        found: String,
        /// What is wrong with it.
        what: String,
    },
    /// A label that can't be stored.
    #[error("{}:{line}: the label `{found}` is not valid (expected {})", path.display(), Label::NAME_EXPECTED)]
    Label {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The label's name.
        found: String,
    },
    /// A key that means nothing.
    #[error("{}:{line}: unknown key `{found}` (known: {known})", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, with its table.
        found: String,
        /// All keys that may stand there.
        known: String,
        /// The known one that looks most like it.
        nearest: &'static str,
    },
}

impl RunFileError {
    /// What the user may do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Open { source, .. } => file_hint(source).to_owned(),
            Self::Toml { .. } => {
                "text stands in quotes, numbers do not; `launchpad push --help` explains each value".into()
            }
            Self::Label { .. } => "the value of a label may be any text".into(),
            Self::UnknownKey { nearest, .. } => format!("did you mean `{nearest}`?"),
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
    "cnn_scoring",
    "device",
    "charges",
    "md_ps",
    "frames",
    "solvent",
    "reference",
    "windows",
    "lambdas_coulomb",
    "lambdas_vdw",
    "window_ps",
    "discard_ps",
    "equilibration_ps",
    "box_nm",
    "driver",
    "argv",
    "inputs",
    "versions",
    "columns",
    "score",
    "rows",
    "expect",
    "keep",
    "stream",
    "split",
    "path",
    "health",
    "request",
    "molecules",
    "fields",
    "answer",
    "method",
    "basis",
    "charge",
    "multiplicity",
    "settings",
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
    "step_seconds",
    "checkpoint_seconds",
    "checkpoint_jitter_seconds",
];
const NEEDS_KEYS: &[&str] = &["gpu"];

impl RunFile {
    /// Reads a `run.toml`.
    pub(crate) fn read(path: &Path) -> Result<Self, RunFileError> {
        let opened = std::fs::read_to_string(path);
        let text = opened.map_err(|source| RunFileError::Open { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, RunFileError> {
        let source = Source { text, path };
        let table = DeTable::parse(text).map_err(|error| source.invalid(&error))?.into_inner();
        source.check_keys(&table, "", KEYS)?;
        for (key, value) in &table {
            let DeValue::Table(below) = value.get_ref() else { continue };
            match &**key.get_ref() {
                "options" => source.check_keys(below, "options.", OPTIONS_KEYS)?,
                "limits" => source.check_keys(below, "limits.", LIMITS_KEYS)?,
                "labels" => source.check_labels(below)?,
                "needs" => source.check_keys(below, "needs.", NEEDS_KEYS)?,
                _ => {}
            }
        }
        toml::from_str(text).map_err(|error| source.invalid(&error))
    }
}

/// The text of a file, where errors look for their line.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn path(self) -> PathBuf {
        self.path.to_owned()
    }

    /// The line of a place, from 1.
    fn line(self, at: usize) -> usize {
        self.text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
    }

    fn line_of(self, key: &Spanned<Cow<'_, str>>) -> usize {
        self.line(key.span().start)
    }

    fn invalid(self, error: &toml::de::Error) -> RunFileError {
        let line = self.line(error.span().map_or(0, |span| span.start));
        let found = self.text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
        RunFileError::Toml { path: self.path(), line, found, what: in_words(error.message()) }
    }

    fn check_keys(
        self,
        table: &DeTable<'_>,
        prefix: &str,
        known: &[&'static str],
    ) -> Result<(), RunFileError> {
        let Some(key) = table.keys().find(|key| !known.contains(&&**key.get_ref())) else { return Ok(()) };
        let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, key.get_ref()));
        Err(RunFileError::UnknownKey {
            path: self.path(),
            line: self.line_of(key),
            found: format!("{prefix}{}", key.get_ref()),
            known: known.join(", "),
            nearest: nearest.expect("no list of known keys is empty"),
        })
    }

    fn check_labels(self, table: &DeTable<'_>) -> Result<(), RunFileError> {
        match table.keys().find(|key| !Label::is_name(key.get_ref())) {
            Some(key) => {
                let (line, found) = (self.line_of(key), key.get_ref().to_string());
                Err(RunFileError::Label { path: self.path(), line, found })
            }
            None => Ok(()),
        }
    }
}

/// A message of the TOML reader without the names of Rust's types.
fn in_words(message: &str) -> String {
    const WORDS: [(&str, &str); 10] = [
        ("expected a boolean", "expected true or false"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected i32", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("an array of length 3", "a list of three numbers"),
        ("struct OptionsTable", "a table of keys and values"),
        ("struct LimitsTable", "a table of keys and values"),
        ("struct NeedsTable", "a table of keys and values"),
        ("struct StreamTable", "a table of keys and values"),
    ];
    WORDS.into_iter().fold(message.to_owned(), |text, (type_name, words)| text.replace(type_name, words))
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
             box_padding = 4\nexhaustiveness = 5\nmodes = 6\ncnn_scoring = 'all'\ndevice = 3\ncharges = 'gasteiger'\nmd_ps = 1\nframes = 5\n\
             windows = 4\nlambdas_coulomb = [0, 1]\nlambdas_vdw = [0, 1]\nwindow_ps = 2\ndiscard_ps = 1\nequilibration_ps = 1\nbox_nm = 2\n\
             driver = 'd.py'\nargv = ['python3', '{driver}']\n\
             score = 'mw'\nrows = 'rows.jsonl'\nexpect = ['a']\nkeep = ['b']\nsplit = 3\nstream = {total = '> {total} x', lines_per_part = 4, filter = {argv = ['grep', 'C']}}\npath = '/p'\nhealth = '/h'\n\
             request = {model = 'm', top = 3}\nmolecules = 'l'\nfields = {id = 'id', mol = 'structure'}\nanswer = '/rows'\nmethod = 'b3lyp'\nbasis = '6-31g*'\ncharge = -1\n\
             multiplicity = 2\nsettings = {threall = '1.0e-14'}\ninputs = {site = 's.pdb'}\n\
             versions = {rdkit = ['r', '-V']}\ncolumns = [{name = 'mw', unit = 'g/mol', min = 1}]\n[limits]\nparallelism = 1\nfailures_max = 2\nlapses_max = 3\n\
             lease_ms = 4\nheartbeat_ms = 5\nbackoff_ms = 6\nbackoff_max_ms = 7\nstep_seconds_max = 8\nstep_seconds = {md = 9}\n\
             checkpoint_seconds = 9\ncheckpoint_jitter_seconds = 0\n\
             [labels]\ntarget = 't4l'\n[needs]\ngpu = true\n",
        )
        .unwrap();
        assert_eq!(file.input.0, [PathBuf::from("x.smi")]);
        assert_eq!(file.options.box_center.map(Center::from), Some(Center([1.0, 2.0, 3.5])));
        assert_eq!(file.options.box_size.map(Edges::from), Some(Edges([14.0; 3])));
        assert_eq!((file.options.charges, file.options.md_ps), (Some(Charges::Gasteiger), Some(1.0)));
        let stream = file.options.stream.unwrap();
        assert_eq!((stream.lines_per_part, stream.filter.unwrap().batch_lines), (Some(4), 100_000));
        assert_eq!((file.limits.step_seconds_max, file.limits.step_seconds.unwrap()["md"]), (Some(8), 9));
        assert_eq!(
            (file.limits.checkpoint_seconds, file.limits.checkpoint_jitter_seconds),
            (Some(9), Some(0))
        );
        assert_eq!((file.labels["target"].as_str(), file.needs.gpu), ("t4l", Some(true)));
        assert_eq!(parse("").unwrap(), RunFile::default());
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        let check = |text: &str, message: &str, hint: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert_eq!(error.hint(), hint);
        };
        check(
            "batchsize = 3",
            "run.toml:1: unknown key `batchsize` (known: run,",
            "did you mean `batch_size`?",
        );
        check(
            "[options]\nbox_centre = [1, 2, 3]",
            "run.toml:2: unknown key `options.box_centre`",
            "did you mean `box_center`?",
        );
        check(
            "[needs]\ngpus = 2",
            "run.toml:2: unknown key `needs.gpus` (known: gpu)",
            "did you mean `gpu`?",
        );
    }

    #[test]
    fn wrong_values_are_shown_with_their_line() {
        let error = parse("seed = 1\nbatch_size = 'many'\n").unwrap_err().to_string();
        assert_eq!(
            error,
            "run.toml:2: `batch_size = 'many'`: invalid type: string \"many\", expected a whole number, 0 or more"
        );
        let error = parse("[options]\nbox_size = [1, 2]\n").unwrap_err().to_string();
        assert!(error.contains("one number or a list of three"), "{error}");
    }

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_file_of_any_text_is_read_or_refused_with_its_line(
            key in "[a-z_.]{1,12}|options|limits|labels|needs|seed|input", value in any::<String>(), any in any::<String>(),
        ) {
            let table = format!("seed = 1\n[{key}]\nargv = [{value}]\n");
            for text in [format!("{key} = {value}\n"), format!("{key} = '''{value}'''\n"), table, any] {
                if let Err(error) = parse(&text) {
                    prop_assert!(error.to_string().starts_with("run.toml:"), "{error}");
                    _ = error.hint();
                }
            }
        }
    }
}
