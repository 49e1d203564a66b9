//! One table out of all shards, and the proof that nothing is missing, doubled or changed. It walks the manifest; it lists no bucket.

mod check;
mod enumeration;
mod error;
mod files;
mod measured;
mod merge;
mod merged_receipt;
mod receipt;
mod results;
mod table_row;
mod text;
mod walk;

pub(crate) use check::{Fault, check_shard};
pub(crate) use enumeration::{Enumeration, STRUCTURES, Sums};
pub(crate) use error::ConsolidationError;
pub(crate) use files::TableFiles;
pub(crate) use measured::{Comparison, Measured};
pub(crate) use merge::{Merge, Settled};
pub(crate) use merged_receipt::MergedReceipt;
pub(crate) use receipt::{Receipt, Verdicts};
pub(crate) use results::{Best, ResultsFile};
pub(crate) use table_row::TableRow;
pub(crate) use text::{best, compared, counted, enumerated};
pub(crate) use walk::{Checked, ManifestCopy, Outcome, Walk, read_manifest};
