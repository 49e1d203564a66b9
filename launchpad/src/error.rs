//! Every way in which a command can fail, with its exit code and what the user can do about it. It prints nothing.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use common::exit_code;
use common::queue::{Disposition, QueueError};
use common::storage::StorageError;
use common::task::{LeaseName, LimitsError, ManifestError, RunId, TaskId, WorkerId};

use crate::audit::AuditError;
use crate::consolidation::ConsolidationError;
use crate::drivers::DriverError;
use crate::input::InputError;
use crate::local_redis::LocalRedisError;
use crate::poses::PosesError;
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
    /// An audit.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Stored poses.
    #[error(transparent)]
    Poses(#[from] PosesError),
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
    /// A molecule that the run does not have.
    #[error("run `{run}` has no molecule `{molecule}`")]
    NoSuchMolecule {
        /// The run.
        run: RunId,
        /// The id that was looked for.
        molecule: String,
        /// Ids that are like it.
        near: Vec<String>,
    },
    /// A molecule that has several tasks.
    #[error("molecule `{molecule}` of run `{run}` has {tasks} tasks, {first} to {last}")]
    SeveralTasks {
        /// The run.
        run: RunId,
        /// The molecule.
        molecule: String,
        /// How many.
        tasks: usize,
        /// The first of them.
        first: TaskId,
        /// The last one.
        last: TaskId,
    },
    /// An attempt that the task does not have.
    #[error("{}", no_such_attempt(*task, *number, known))]
    NoSuchAttempt {
        /// The task.
        task: TaskId,
        /// The attempt's number, or `None` for the latest.
        number: Option<u64>,
        /// The numbers that it has.
        known: Vec<String>,
    },
    /// An attempt without logs.
    #[error("attempt {lease} of task {task} has no logs: {why}")]
    NoLogs {
        /// The task.
        task: TaskId,
        /// The attempt.
        lease: LeaseName,
        /// Why it has none.
        why: &'static str,
    },
    /// A column that the shards don't have.
    #[error("the shards have no column `{column}` (known: {})", known.join(", "))]
    NoSuchColumn {
        /// The column.
        column: String,
        /// What could be asked for.
        known: Vec<String>,
    },
    /// A run can't be removed while it is worked on.
    #[error("run `{run}` has {leased} tasks that workers hold")]
    Leased {
        /// The run.
        run: RunId,
        /// How many.
        leased: u64,
    },
    /// Workers that did not hear that they should leave.
    #[error("told {} workers to leave that did not hear it: {}", workers.len(), names(workers))]
    Unheard {
        /// Which.
        workers: Vec<WorkerId>,
    },
    /// A worker that the registry does not have.
    #[error("there is no worker `{worker}`, and nobody was told to leave")]
    UnknownWorker {
        /// What was named.
        worker: WorkerId,
        /// Those with ids like it.
        near: Vec<WorkerId>,
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
    /// Something that a checkup needs did not answer.
    #[error("{silent} of {checks} checks got no answer")]
    NoAnswer {
        /// How many got none.
        silent: usize,
        /// All of them.
        checks: usize,
    },
    /// A checkup found something that a person has to change.
    #[error("{wrong} of {checks} checks found something that has to be changed")]
    Unfit {
        /// How many did.
        wrong: usize,
        /// All of them.
        checks: usize,
    },
    /// No molecule of a trial was scored.
    #[error("none of the {molecules} molecules of run `{run}` was scored")]
    TrialFailed {
        /// The trial.
        run: RunId,
        /// How many were tried.
        molecules: usize,
    },
    /// No number of tasks side by side could be measured.
    #[error("no number of tasks side by side could be measured")]
    NothingTuned {
        /// The last run that tried.
        run: RunId,
    },
    /// A run beside which no trial can stand.
    #[error("a run beside `{run}` can't be called `{name}`, which is longer than 64 characters")]
    NameTooLong {
        /// The run.
        run: RunId,
        /// The other one.
        name: String,
    },
    /// The program's own set-up.
    #[error("could not start")]
    Runtime(#[source] io::Error),
}

fn names(workers: &[WorkerId]) -> String {
    workers.iter().map(WorkerId::as_str).collect::<Vec<_>>().join(", ")
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
            Self::LocalRedis(_) | Self::NoAnswer { .. } => exit_code::UNAVAILABLE,
            Self::Limits(_) | Self::RunFile(_) | Self::Folder { .. } | Self::Unfit { .. } => {
                exit_code::CONFIG
            }
            Self::SearchBox(_)
            | Self::NobodyToAsk { .. }
            | Self::NameTooLong { .. }
            | Self::NoSuchColumn { .. }
            | Self::Poses(PosesError::Format { .. }) => exit_code::USAGE,
            Self::Push(error) => error.exit_code(),
            Self::Driver(error) => error.exit_code(),
            Self::Consolidation(error) => error.exit_code(),
            Self::Audit(error) => error.exit_code(),
            Self::Runtime(_) => exit_code::SOFTWARE,
            Self::Leased { .. } | Self::Unheard { .. } | Self::Declined => exit_code::TRY_AGAIN,
            Self::Input(_)
            | Self::Poses(_)
            | Self::NoSuchAttempt { .. }
            | Self::NoLogs { .. }
            | Self::UnknownWorker { .. }
            | Self::Manifest(_)
            | Self::File { .. }
            | Self::NoSuchTask { .. }
            | Self::NoSuchMolecule { .. }
            | Self::SeveralTasks { .. }
            | Self::TrialFailed { .. }
            | Self::NothingTuned { .. } => exit_code::DATA,
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Queue(error) => error.hint(),
            Self::Storage(error) => error.hint(),
            Self::Input(error) => Some(error.hint().to_owned()),
            Self::RunFile(error) => Some(error.hint()),
            Self::LocalRedis(error) => error.hint().map(str::to_owned),
            Self::Push(error) => Some(error.hint()),
            Self::Driver(error) => error.hint(),
            Self::Consolidation(error) => error.hint(),
            Self::Audit(error) => Some(error.hint()),
            Self::Poses(error) => error.hint().map(str::to_owned),
            Self::NoLogs { .. } => {
                Some("`launchpad show RUN TASK` lists the attempts; --attempt chooses another".into())
            }
            Self::Leased { run, .. } => Some(format!("`launchpad cancel {run}` first")),
            Self::Unheard { .. } => {
                Some("one that lives leaves once it is connected again; `launchpad workers` lists those that are there".into())
            }
            Self::UnknownWorker { near, .. } if near.is_empty() => {
                Some("`launchpad workers` lists them; one that has just started is there once it has reached Redis".into())
            }
            Self::UnknownWorker { near, .. } => Some(format!("did you mean {}? `launchpad workers` lists them", names(near))),
            Self::NoAnswer { .. } | Self::Unfit { .. } => Some("the hints above say what to do".into()),
            Self::TrialFailed { run, .. } | Self::NothingTuned { run } => {
                Some(format!("`launchpad show {run} 0` tells why"))
            }
            Self::NameTooLong { .. } => Some("use a shorter run id".into()),
            Self::NobodyToAsk { .. } => Some("--yes answers beforehand".into()),
            Self::File { source, .. } => Some(file_hint(source).to_owned()),
            Self::NoSuchMolecule { near, .. } if near.is_empty() => {
                Some("the ids are those of the manifest; `launchpad export RUN` lists all".into())
            }
            Self::NoSuchMolecule { near, .. } => {
                Some(format!("it has `{}`", near.join("`, `")))
            }
            Self::SeveralTasks { run, last, .. } => Some(format!(
                "name one of them by its number; the last one, `launchpad show {run} {last}`, has the molecule's result"
            )),
            Self::NoSuchTask { tasks, .. } => {
                Some(format!("tasks are numbered from 0 to {}", tasks.saturating_sub(1)))
            }
            Self::SearchBox(_) => {
                Some("all lengths of the box are in Å, and an edge is usually 15 to 30 Å".into())
            }
            Self::Limits(_) => Some("leave it out for the default".into()),
            Self::Folder { .. } => Some("name the folder by an absolute path".into()),
            Self::Manifest(_)
            | Self::NoSuchAttempt { .. }
            | Self::NoSuchColumn { .. }
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
            let said = error.to_string();
            // Some libraries repeat their cause.
            if !text.ends_with(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        text
    }
}

fn no_such_attempt(task: TaskId, number: Option<u64>, known: &[String]) -> String {
    match number {
        _ if known.is_empty() => format!("task {task} was never leased: it has no attempts"),
        _ => {
            format!("task {task} has no attempt {} (it has {})", number.unwrap_or_default(), known.join(", "))
        }
    }
}

/// What to do about a file that can't be opened, read or written.
pub(crate) fn file_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "paths are relative to the current folder, those in a run.toml to the folder that it is in"
        }
        io::ErrorKind::PermissionDenied => "check the permissions of the file and its folder",
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => "name a file, not a folder",
        _ => "is the disk full or away?",
    }
}

const fn storage_exit_code(error: &StorageError) -> u8 {
    match error {
        StorageError::Url { .. } => exit_code::CONFIG,
        StorageError::Missing { .. }
        | StorageError::Digest { .. }
        | StorageError::Short { .. }
        | StorageError::Changed { .. } => exit_code::DATA,
        StorageError::Open { .. }
        | StorageError::NotTheRunsStore { .. }
        | StorageError::Refused { .. }
        | StorageError::Unreachable { .. }
        | StorageError::Local { .. } => exit_code::UNAVAILABLE,
    }
}

fn queue_exit_code(error: &QueueError) -> u8 {
    match error {
        QueueError::Url { .. }
        | QueueError::File { .. }
        | QueueError::NotTls { .. }
        | QueueError::HalfCertificate => exit_code::CONFIG,
        QueueError::Refused { .. } => exit_code::UNAVAILABLE,
        QueueError::Unready { .. } => exit_code::TRY_AGAIN,
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
        let url = common::queue::Queue::open("http://x").unwrap_err();
        assert_eq!(LaunchpadError::from(url).exit_code(), 78);
        let leased = LaunchpadError::Leased { run: run(), leased: 2 };
        assert_eq!((leased.exit_code(), leased.hint().unwrap()), (75, "`launchpad cancel r` first".into()));
    }
}
