//! What can be wrong with stored poses, or with what was asked for.

use std::path::PathBuf;

use common::task::TaskId;

/// Why there is no file of poses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PosesError {
    /// The file's name tells no format.
    #[error("`{}` ends with neither .sdf nor .pdbqt", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The engine's poses are in another format.
    #[error("the poses of the engine `{engine}` are SDF records, not PDBQT")]
    OnlySdf {
        /// The engine.
        engine: &'static str,
    },
    /// The attempt did not keep a file.
    #[error("task {task} kept no `{file}`")]
    NotKept {
        /// The task.
        task: TaskId,
        /// The file, below the attempt.
        file: String,
    },
    /// The index object is not the recorded one.
    #[error("`{object}` has other bytes than recorded (theirs: {theirs}, ours: {ours})")]
    Altered {
        /// The object.
        object: String,
        /// The digest of the stored bytes.
        theirs: String,
        /// The recorded digest.
        ours: String,
    },
    /// A file's content does not make sense.
    #[error("`{object}`: {detail}")]
    Content {
        /// The object.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl PosesError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::OnlySdf { .. } => Some("-o best.sdf"),
            Self::Format { .. } => Some("-o best.sdf, or -o best.pdbqt"),
            Self::NotKept { .. } => Some(
                "an SDF needs the prepared ligands, which older workers did not keep: -o best.pdbqt does without",
            ),
            Self::Altered { .. } | Self::Content { .. } => None,
        }
    }
}
