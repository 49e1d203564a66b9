//! The task model. Pure: no tokio, no Redis, no clock, no files.
#![warn(clippy::wildcard_enum_match_arm)]

mod command;
mod id;
mod manifest;
mod molecule;
mod outcome;
mod seed;
mod shard;
mod spec;
mod state;
mod timings;

pub use command::{
    Column, ColumnKind, CommandError, CommandOptions, DRIVER_PLACEHOLDER, INDEX_PLACEHOLDER, ROWS_DEFAULT,
    RowsFormat, THREADS_PLACEHOLDER,
};
pub use id::{InvalidId, LeaseName, RunId, TaskId, WorkerId};
pub use manifest::{ManifestError, ManifestReader, ManifestRow, ManifestWriter};
pub use molecule::{Molecule, MoleculeKind, MoleculeSource, decode_molecules, encode_molecules};
pub use outcome::{AttemptFile, AttemptRecord, CarriedRows, Ending, Provenance, StepRecord};
pub use seed::molecule_seed;
pub use shard::{Row, Shard, ShardError, Verdict};
pub use spec::{
    EngineOptions, Limits, LimitsError, ManifestDigest, ObjectRef, RunSpec, SPEC_SCHEMA, VinaOptions,
};
pub use state::{State, TRANSITIONS, Verb};
pub use timings::{Moments, Phase, Timings};
