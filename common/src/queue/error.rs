//! What can go wrong between a program and the queue, and what to do about each.

use std::path::PathBuf;

use super::{AddressError, advice};
use crate::task::{LimitsError, RunId, SpecError};

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// A passing fault: the same call again, after a pause. Every script may run twice.
    Retry,
    /// It will not get better by itself.
    GiveUp,
}

/// Why a call to the queue gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The URL can't be read.
    #[error("the Redis URL `{url}` is not valid")]
    Url {
        /// Without its password.
        url: String,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
    /// A file with a secret or a certificate can't be read.
    #[error("{what} can't be read from `{}`", path.display())]
    File {
        /// What it holds.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Certificates for a connection without TLS.
    #[error("certificates were named, and the Redis URL `{url}` asks for no TLS")]
    NotTls {
        /// Without its password.
        url: String,
    },
    /// A client certificate without its key, or the other way round.
    #[error("one of client certificate and key was named without the other")]
    HalfCertificate,
    /// No connection, or no answer in time.
    #[error("Redis at `{url}` can't be reached")]
    Unreachable {
        /// Without its password.
        url: String,
        /// What happened.
        #[source]
        source: redis::RedisError,
    },
    /// Redis itself refuses for now: it is loading, out of memory, or not the primary.
    #[error("Redis at `{url}` can't serve now")]
    Unready {
        /// Without its password.
        url: String,
        /// What it said.
        #[source]
        source: redis::RedisError,
    },
    /// Redis refuses for good: a wrong password, a missing permission, an error in a script.
    #[error("Redis at `{url}` refused")]
    Refused {
        /// Without its password.
        url: String,
        /// What it said.
        #[source]
        source: redis::RedisError,
    },
    /// A script answered something that this version does not know.
    #[error("the script `{script}` answered `{reply}`, which this version does not know")]
    Reply {
        /// The script.
        script: &'static str,
        /// Its reply.
        reply: String,
    },
    /// There is no such run.
    #[error("there is no run `{0}`")]
    NoSuchRun(RunId),
    /// The run id is in use for another manifest or spec.
    #[error("run `{run}` exists with another manifest or spec (theirs: {theirs}, ours: {ours})")]
    Differs {
        /// The run.
        run: RunId,
        /// The digest in Redis.
        theirs: String,
        /// The digest of this push.
        ours: String,
    },
    /// The run is being removed.
    #[error("run `{0}` is being removed")]
    Removing(RunId),
    /// The spec of the run can't be used.
    #[error("the spec of run `{run}` can't be used")]
    Spec {
        /// The run.
        run: RunId,
        /// What is wrong with it.
        #[source]
        source: SpecError,
    },
    /// The spec is not the one that the run was made with.
    #[error("the spec of run `{run}` was altered (its digest: {ours}, the run's: {theirs})")]
    Digest {
        /// The run.
        run: RunId,
        /// The run's digest in Redis.
        theirs: String,
        /// That of the spec beside it.
        ours: String,
    },
    /// The limits of the run contradict each other.
    #[error("the limits of run `{run}` can't be used")]
    Limits {
        /// The run.
        run: RunId,
        /// What is wrong with them.
        #[source]
        source: LimitsError,
    },
    /// A field of the run can't be read.
    #[error("the field `{field}` of run `{run}` holds `{value}`, which this version can't read")]
    Field {
        /// The run.
        run: RunId,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
}

impl QueueError {
    /// What to do about it.
    pub const fn disposition(&self) -> Disposition {
        match self {
            // A file may be in exchange for a newer one.
            Self::Unreachable { .. } | Self::Unready { .. } | Self::File { .. } => Disposition::Retry,
            Self::Url { .. }
            | Self::NotTls { .. }
            | Self::HalfCertificate
            | Self::Refused { .. }
            | Self::Reply { .. }
            | Self::NoSuchRun(_)
            | Self::Differs { .. }
            | Self::Removing(_)
            | Self::Spec { .. }
            | Self::Digest { .. }
            | Self::Limits { .. }
            | Self::Field { .. } => Disposition::GiveUp,
        }
    }

    /// Whether one run alone is to blame for what stands in Redis: the others are not concerned.
    pub const fn is_about_one_run(&self) -> bool {
        match self {
            Self::Reply { .. }
            | Self::NoSuchRun(_)
            | Self::Differs { .. }
            | Self::Removing(_)
            | Self::Spec { .. }
            | Self::Digest { .. }
            | Self::Limits { .. }
            | Self::Field { .. } => true,
            Self::Url { .. }
            | Self::File { .. }
            | Self::NotTls { .. }
            | Self::HalfCertificate
            | Self::Unreachable { .. }
            | Self::Unready { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Url { .. } => Some(
                "a Redis URL looks like redis://user:password@host:6379/0, redis+sentinel://host:26379,host:26379/service \
                 or redis+cluster://host:6379,host:6379; with TLS it begins with rediss"
                    .into(),
            ),
            Self::File { .. } => Some("name a file that this user may read".into()),
            Self::NotTls { .. } => Some("rediss:// in the URL asks for TLS".into()),
            Self::HalfCertificate => Some("name both, --redis-cert and --redis-key".into()),
            Self::Unreachable { url, source } => Some(advice::unreachable(url, source).into()),
            Self::Unready { source, .. } => Some(advice::unready(source).into()),
            Self::Refused { source, .. } => Some(advice::refused(source).into()),
            Self::Spec { run, .. } | Self::Digest { run, .. } | Self::Limits { run, .. } => Some(format!(
                "no `launchpad push` of this version writes that: who else writes to this Redis? `launchpad remove {run}` takes the run away"
            )),
            Self::Reply { .. } | Self::Field { .. } => {
                Some("launchpad, workers and the run were made by different versions".into())
            }
            Self::NoSuchRun(_) => Some("`launchpad status` lists the runs".into()),
            Self::Differs { run, .. } => {
                Some(format!("push under another run id, or `launchpad remove {run} --outputs` first"))
            }
            Self::Removing(run) => Some(format!("finish with `launchpad remove {run}`")),
        }
    }

    pub(super) fn from_redis(url: &str, source: redis::RedisError) -> Self {
        use redis::{ErrorKind, ServerErrorKind};
        let url = url.to_owned();
        match source.kind() {
            // A node that was named as a server of its own.
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask) if !url.contains("+cluster://") => {
                Self::Refused { url, source }
            }
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                // The nodes send each other's clients round: one of them is away, and its replica has not taken over yet.
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly,
            )
            | ErrorKind::MasterNameNotFoundBySentinel => Self::Unready { url, source },
            _ if source
                .code()
                .is_some_and(|code| matches!(code, "OOM" | "BUSY" | "MISCONF" | "NOREPLICAS")) =>
            {
                Self::Unready { url, source }
            }
            // It has no code of its own, and comes in place of the first answer.
            _ if source.to_string().contains("max number of clients") => Self::Unready { url, source },
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => Self::Unreachable { url, source },
            _ if source.is_connection_dropped() || source.is_timeout() || source.is_connection_refusal() => {
                Self::Unreachable { url, source }
            }
            _ => Self::Refused { url, source },
        }
    }
}
