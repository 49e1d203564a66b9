//! What can be wrong with a consolidation as a whole. What is wrong with one task is a [`super::Fault`].

use std::path::PathBuf;

use common::exit_code;
use common::task::RunId;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsolidationError {
    /// Some molecules have no result.
    #[error("run `{run}` is incomplete: {molecules} molecules of {tasks} tasks are missing, and `{}` was not written", output.display())]
    Incomplete {
        /// The run.
        run: RunId,
        /// How many molecules.
        molecules: u64,
        /// How many tasks.
        tasks: u64,
        /// The table that was asked for.
        output: PathBuf,
        /// Where the receipt was written, if an older table and its receipt are there, which stay.
        older: Option<PathBuf>,
    },
    /// The stored manifest is not the one of the push.
    #[error(
        "the stored manifest of run `{run}` has other bytes than were pushed (theirs: {theirs}, ours: {ours})"
    )]
    Manifest {
        /// The run.
        run: RunId,
        /// The digest of the stored bytes.
        theirs: String,
        /// The digest in the run's spec.
        ours: String,
    },
    /// Two runs scored different structures under one id.
    #[error("molecule `{molecule_id}` is ok with two structures (ours: {ours}, theirs: {theirs})")]
    OtherStructure {
        /// The molecule.
        molecule_id: String,
        /// The structure in the earlier run.
        ours: String,
        /// The structure in the later run.
        theirs: String,
    },
    /// Not every molecule is ok, and that was asked for.
    #[error("{} of {molecules} molecules are not ok", molecules - ok)]
    NotAllOk {
        /// The run, or the first of several.
        run: RunId,
        /// How many are ok.
        ok: u64,
        /// How many there are.
        molecules: u64,
    },
    /// The table and its receipt can't both go to standard output.
    #[error("table and receipt can't both go to standard output")]
    BothOnStdout,
    /// A run was named twice.
    #[error("run `{0}` is named twice")]
    Twice(RunId),
    /// The file of measured values can't be used.
    #[error("`{}` can't be used", path.display())]
    Measured {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: csv::Error,
    },
    /// A column is not there.
    #[error("`{}` has no column {expected} (found: {found})", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The columns that would do.
        expected: String,
        /// The columns that it has.
        found: String,
    },
    /// A measured value is not a number.
    #[error("{}:{line}: the measured value is `{found}` (expected a number, or nothing)", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is there.
        found: String,
    },
}

impl ConsolidationError {
    /// The exit code, one of [`common::exit_code`].
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::BothOnStdout => exit_code::USAGE,
            Self::Incomplete { .. }
            | Self::Manifest { .. }
            | Self::OtherStructure { .. }
            | Self::NotAllOk { .. }
            | Self::Twice(_)
            | Self::Measured { .. }
            | Self::Column { .. }
            | Self::Value { .. } => exit_code::DATA,
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Incomplete { older: Some(receipt), output, .. } => Some(format!(
                "`{}` is from an earlier consolidation and was left as it is; what is missing now is in `{}`",
                output.display(),
                receipt.display()
            )),
            Self::Incomplete { run, .. } => {
                Some(format!("`launchpad status {run}` tells whether work is going on"))
            }
            Self::OtherStructure { .. } => {
                Some("an id names one molecule; consolidate these runs one by one".into())
            }
            Self::Manifest { run, .. } => {
                Some(format!("something changed the store; push `{run}` anew under another id"))
            }
            Self::Column { .. } => {
                Some("--measured takes FILE:COLUMN; ids are matched by molecule_id, id or name".into())
            }
            Self::NotAllOk { run, .. } => Some(format!(
                "the table was written and says why; `launchpad push --from {run} --run NEXT` makes a run of those molecules"
            )),
            Self::BothOnStdout => Some("name a file with --receipt, or with -o".into()),
            Self::Twice(_) => None,
            Self::Measured { .. } => Some("--measured takes FILE:COLUMN, a CSV with a header".into()),
            Self::Value { .. } => Some("leave the field empty where nothing was measured".into()),
        }
    }
}
