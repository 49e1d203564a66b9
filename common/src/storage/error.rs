//! What can go wrong between a program and the store, and what to do about each.

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageDisposition {
    /// A passing fault: the store is away, slow or full.
    Retry,
    /// It will not get better by itself.
    GiveUp,
}

/// Why a request to the store gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The URL can't be read, or its scheme is not built in.
    #[error("the store URL `{url}` is not valid (known schemes: file://)")]
    Url {
        /// The URL.
        url: String,
    },
    /// The store's folder can't be made or opened.
    #[error("the store `{url}` can't be opened")]
    Open {
        /// The URL.
        url: String,
        /// What happened.
        #[source]
        source: Box<object_store::Error>,
    },
    /// An object that has to be there is not.
    #[error("`{object}` is not in the store `{url}`")]
    Missing {
        /// The object.
        object: String,
        /// The store.
        url: String,
    },
    /// The run's spec is not there: an unmounted disk, another store, or a run whose outputs were removed.
    #[error("the store `{url}` does not have the run's {object}")]
    NotTheRunsStore {
        /// The object that identifies the run.
        object: String,
        /// The store.
        url: String,
    },
    /// An object has other bytes than its digest says.
    #[error(
        "`{object}` in the store `{url}` has other bytes than it should (theirs: {theirs}, ours: {ours})"
    )]
    Digest {
        /// The object.
        object: String,
        /// The store.
        url: String,
        /// The digest of the stored bytes.
        theirs: String,
        /// The digest that they should have.
        ours: String,
    },
    /// An object ends before the range that was asked of it.
    #[error("`{object}` in the store `{url}` is cut short (theirs: {theirs} bytes, ours: {ours} or more)")]
    Short {
        /// The object.
        object: String,
        /// The store.
        url: String,
        /// How many bytes it has.
        theirs: u64,
        /// Where the range ends.
        ours: u64,
    },
    /// The store refuses for good.
    #[error("the store `{url}` refuses `{object}`")]
    Refused {
        /// The object.
        object: String,
        /// The store.
        url: String,
        /// What it said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// A passing fault that did not pass within the policy's bounds.
    #[error("the store `{url}` did not take or give `{object}` in {tries} tries over {elapsed_ms} ms")]
    Unreachable {
        /// The object.
        object: String,
        /// The store.
        url: String,
        /// How often it was tried.
        tries: u32,
        /// How long that took.
        elapsed_ms: u64,
        /// What happened last; `None` if the last try got no answer in time.
        #[source]
        source: Option<Box<object_store::Error>>,
    },
    /// A local file does not hold what was to be uploaded.
    #[error("the local copy of `{object}` changed while it was read (found: {found}, expected: {expected})")]
    Changed {
        /// The object.
        object: String,
        /// The digest of the bytes that were read now.
        found: String,
        /// The digest that they should have.
        expected: String,
    },
    /// The local file of a download or an upload failed.
    #[error("the local copy of `{object}` can't be read or written")]
    Local {
        /// The object.
        object: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
}

impl StorageError {
    /// What to do about it.
    pub const fn disposition(&self) -> StorageDisposition {
        match self {
            Self::Open { .. }
            | Self::NotTheRunsStore { .. }
            | Self::Unreachable { .. }
            | Self::Local { .. } => StorageDisposition::Retry,
            Self::Url { .. }
            | Self::Missing { .. }
            | Self::Digest { .. }
            | Self::Short { .. }
            | Self::Changed { .. }
            | Self::Refused { .. } => StorageDisposition::GiveUp,
        }
    }

    /// What a person could do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Url { .. } => Some("a store URL looks like file:///home/me/molfleet".into()),
            Self::Open { .. } | Self::Refused { .. } => {
                Some("check the permissions of the store's folder".into())
            }
            Self::NotTheRunsStore { .. } => Some(
                "is the disk mounted on this machine? A file:// store has to be one that every worker sees"
                    .into(),
            ),
            Self::Missing { .. } | Self::Digest { .. } | Self::Short { .. } => {
                Some("something outside Molfleet changed the store; push under a new run id".into())
            }
            Self::Unreachable { .. } => Some("is the store's disk full or away?".into()),
            Self::Changed { .. } => Some("do it again once nothing writes to the file any more".into()),
            Self::Local { .. } => Some("is the local disk full?".into()),
        }
    }
}
