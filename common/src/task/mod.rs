//! The task model. Pure: no tokio, no Redis, no clock, no files.
#![warn(clippy::wildcard_enum_match_arm)]

mod command;
mod enumeration;
mod fep;
mod gnina;
mod http;
mod id;
mod manifest;
mod mmgbsa;
mod molecule;
mod object_name;
mod outcome;
mod seed;
mod shard;
mod spec;
mod spec_check;
mod state;
mod terachem;
mod timings;

pub use command::{
    Column, ColumnKind, CommandError, CommandOptions, DRIVER_PLACEHOLDER, DRIVER_ROLE, INDEX_PLACEHOLDER,
    ROWS_DEFAULT, RowsFormat, THREADS_PLACEHOLDER,
};
pub use enumeration::{
    BATCH_LINES_DEFAULT, BATCH_LINES_MAX, FORMULA_PLACEHOLDER, FilterOptions, LINES_PER_PART_DEFAULT,
    MODULUS_PLACEHOLDER, NotAResidue, RESIDUE_PLACEHOLDER, Residue, SPLIT_MAX, SURGE_TOTAL, StreamError,
    StreamOptions, SurgeOptions, TOTAL_PLACEHOLDER,
};
pub use fep::{FepError, FepOptions, FepPart};
pub use gnina::{CnnScoring, GninaOptions, GninaScore, UnknownWord};
pub use http::{HttpError, HttpOptions, MoleculeField};
pub use id::{InvalidId, LeaseName, RunId, TaskId, WorkerId};
pub use manifest::{ManifestError, ManifestReader, ManifestRow, ManifestWriter, RowKind};
pub use mmgbsa::{ChargeModel, MMGBSA_BATCH_MAX, MmgbsaError, MmgbsaOptions, Solvent};
pub use molecule::{
    ID_CHARACTERS_MAX, Molecule, MoleculeError, MoleculeKind, MoleculeSource, RECORD_BYTES_MAX, RECORD_END,
    SMILES_BYTES_MAX, decode_molecules, encode_molecules, is_id,
};
pub use object_name::ObjectNameError;
pub(crate) use object_name::{NAME_LENGTH_MAX, is_allowed as is_allowed_in_name, starts_name};
pub use outcome::{AttemptFile, AttemptRecord, CarriedRows, Ending, Provenance, StepRecord};
pub use seed::molecule_seed;
pub use shard::{Row, Shard, ShardError, Verdict};
pub use spec::{
    CONTACT_ANGSTROM, EngineOptions, Limits, LimitsError, ManifestDigest, ObjectRef, RunSpec, SPEC_SCHEMA,
    VinaOptions, step_kind,
};
pub use spec_check::{SPEC_BYTES_MAX, SpecError, is_role};
pub use state::{State, TRANSITIONS, Verb};
pub use terachem::{METHODS, TerachemError, TerachemOptions};
pub use timings::{Moments, Phase, Timings, bucket_of};
