//! Every way in which a command can fail, with its exit code and what the user can do about it. It prints nothing.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use common::exit_code;
use common::queue::{Disposition, QueueError};
use common::storage::StorageError;
use common::task::{LimitsError, ManifestError, RunId, TaskId};

use crate::consolidation::ConsolidationError;
use crate::drivers::DriverError;
use crate::input::InputError;
use crate::local_redis::LocalRedisError;
use crate::push::PushError;
use crate::run_file::RunFileError;
use crate::search_box::SearchBoxError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchpadError {
    /// Redis.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file of molecules or a structure.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The search box.
    #[error(transparent)]
    SearchBox(#[from] SearchBoxError),
    /// The limits.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The `run.toml`.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// The private Redis. Its messages follow "failed to".
    #[error("failed to {0}")]
    LocalRedis(LocalRedisError),
    /// A push.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A driver.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A consolidation.
    #[error(transparent)]
    Consolidation(#[from] ConsolidationError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A local file.
    #[error("could not {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder that no URL can name.
    #[error("the folder `{}` can't be written as a file:// URL", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// A task that the run does not have.
    #[error("run `{run}` has no task {task} (it has {tasks}, from 0)")]
    NoSuchTask {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
        /// How many it has.
        tasks: u64,
    },
    /// A run can't be removed while it is worked on.
    #[error("run `{run}` has {leased} tasks that workers hold")]
    Leased {
        /// The run.
        run: RunId,
        /// How many.
        leased: u64,
    },
    /// Nobody is there to be asked.
    #[error("`{command}` asks first, and standard input is no terminal")]
    NobodyToAsk {
        /// The command.
        command: &'static str,
    },
    /// The person said no.
    #[error("nothing was done")]
    Declined,
    /// The program's own set-up.
    #[error("could not start")]
    Runtime(#[source] io::Error),
}

impl From<LocalRedisError> for LaunchpadError {
    fn from(error: LocalRedisError) -> Self {
        Self::LocalRedis(error)
    }
}

impl LaunchpadError {
    /// The exit code, one of [`common::exit_code`].
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Queue(error) => queue_exit_code(error),
            Self::Storage(error) => storage_exit_code(error),
            Self::LocalRedis(_) => exit_code::UNAVAILABLE,
            Self::Limits(_) | Self::RunFile(_) | Self::Folder { .. } => exit_code::CONFIG,
            Self::SearchBox(_) | Self::NobodyToAsk { .. } => exit_code::USAGE,
            Self::Push(error) => error.exit_code(),
            Self::Driver(error) => error.exit_code(),
            Self::Runtime(_) => exit_code::SOFTWARE,
            Self::Leased { .. } | Self::Declined => exit_code::TRY_AGAIN,
            Self::Input(_)
            | Self::Consolidation(_)
            | Self::Manifest(_)
            | Self::File { .. }
            | Self::NoSuchTask { .. } => exit_code::DATA,
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Queue(error) => error.hint(),
            Self::Storage(error) => error.hint(),
            Self::Input(error) => error.hint().map(str::to_owned),
            Self::RunFile(error) => error.hint(),
            Self::LocalRedis(error) => error.hint().map(str::to_owned),
            Self::Push(error) => error.hint(),
            Self::Driver(error) => error.hint(),
            Self::Consolidation(error) => error.hint(),
            Self::Leased { run, .. } => Some(format!("`launchpad cancel {run}` first")),
            Self::NobodyToAsk { .. } => Some("--yes answers beforehand".into()),
            Self::SearchBox(_)
            | Self::Limits(_)
            | Self::Manifest(_)
            | Self::File { .. }
            | Self::Folder { .. }
            | Self::NoSuchTask { .. }
            | Self::Declined
            | Self::Runtime(_) => None,
        }
    }

    /// The message with those of its causes, `: ` between them.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = match self {
            Self::LocalRedis(error) => error.source(),
            other => other.source(),
        };
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

const fn storage_exit_code(error: &StorageError) -> u8 {
    match error {
        StorageError::Url { .. } => exit_code::CONFIG,
        StorageError::Missing { .. } | StorageError::Digest { .. } | StorageError::Short { .. } => {
            exit_code::DATA
        }
        StorageError::Open { .. }
        | StorageError::NotTheRunsStore { .. }
        | StorageError::Refused { .. }
        | StorageError::Unreachable { .. }
        | StorageError::Local { .. } => exit_code::UNAVAILABLE,
    }
}

fn queue_exit_code(error: &QueueError) -> u8 {
    match error {
        QueueError::Url { .. } => exit_code::CONFIG,
        QueueError::Refused { .. } => exit_code::UNAVAILABLE,
        _ if error.disposition() == Disposition::Retry => exit_code::UNAVAILABLE,
        _ => exit_code::DATA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_and_codes_tell_who_is_to_blame() {
        let open = LaunchpadError::File {
            action: "write",
            path: "/x/results.csv".into(),
            source: io::Error::other("disk full"),
        };
        assert_eq!(open.chain(), "could not write `/x/results.csv`: disk full");
        assert_eq!(open.exit_code(), 65);
        let run = || "r".parse().unwrap();
        assert_eq!(LaunchpadError::from(QueueError::NoSuchRun(run())).exit_code(), 65);
        let url = common::queue::Queue::open("http://x", 1).unwrap_err();
        assert_eq!(LaunchpadError::from(url).exit_code(), 78);
        let leased = LaunchpadError::Leased { run: run(), leased: 2 };
        assert_eq!((leased.exit_code(), leased.hint().unwrap()), (75, "`launchpad cancel r` first".into()));
    }
}
