//! One table out of all shards, and the proof that nothing is missing, doubled or changed. It walks the manifest; it lists no bucket.

mod check;
mod error;
mod measured;
mod receipt;
mod results;
mod walk;

pub(crate) use check::{Fault, check_shard};
pub(crate) use error::ConsolidationError;
pub(crate) use measured::{Comparison, Measured};
pub(crate) use receipt::Receipt;
pub(crate) use results::{Best, ResultsFile, write_whole};
pub(crate) use walk::{Checked, Outcome, Walk, read_manifest};
