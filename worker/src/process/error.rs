//! Why a program could not be run at all. A program that ran and failed is no error; it has [`super::Ended`].

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Says why a program was not run, or was ended before it could do anything.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// There is nothing to run.
    #[error("run an empty command line")]
    NoProgram,
    /// No executable file of that name.
    #[error("find program `{program}` (searched: `{}`)", path.display())]
    NotFound {
        /// What was asked for.
        program: String,
        /// The `PATH` that was searched.
        path: OsString,
    },
    /// The system refused to start it.
    #[error("start `{}` in folder `{}`", program.display(), folder.display())]
    Start {
        /// The executable file.
        program: PathBuf,
        /// The folder that it should run in.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The guardian does not answer, so that nobody would end the program if the worker were killed.
    #[error("register a process group with the guardian")]
    Guardian {
        /// Why.
        source: io::Error,
    },
    /// How the program ended can't be known.
    #[error("wait for the end of `{}`", program.display())]
    Wait {
        /// The executable file.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SpawnError {
    /// Whether this machine is to blame, so that the attempt is to be released and tried elsewhere; if not, the task is.
    pub fn is_machine_fault(&self) -> bool {
        match self {
            Self::NoProgram => false,
            Self::Start { source, .. } => {
                // Too many arguments, or a NUL in one of them: it would be the same everywhere.
                !matches!(source.kind(), io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput)
            }
            Self::NotFound { .. } | Self::Guardian { .. } | Self::Wait { .. } => true,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some("install it, or put its folder on the worker's PATH"),
            Self::Start { .. } => {
                Some("see that its folder and, for a script, its interpreter exist, and `ulimit -u`")
            }
            Self::Guardian { .. } | Self::NoProgram | Self::Wait { .. } => None,
        }
    }
}
