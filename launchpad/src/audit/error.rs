//! How an audit ends when not everything is as it should be.

use common::exit_code;
use common::task::RunId;

/// Why a run is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// Something is wrong that `--fix` puts right.
    #[error(
        "the audit of run `{run}` found {findings} things that are wrong, {mendable} of them can be put right"
    )]
    Wrong {
        /// The run.
        run: RunId,
        /// How many.
        findings: usize,
        /// How many of them `--fix` puts right.
        mendable: usize,
    },
}

impl AuditError {
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Wrong { .. } => exit_code::DATA,
        }
    }

    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Wrong { run, mendable: 0, .. } => {
                format!("`launchpad tasks {run}` and docs/operations.md say what can be done about the rest")
            }
            Self::Wrong { run, .. } => format!("`launchpad audit {run} --fix` puts them right"),
        }
    }
}
