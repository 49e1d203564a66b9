//! Whether a run in Redis is true: against its manifest, against the stored results, against itself. It changes nothing by looking;
//! `mend` puts right what can be, and the store is never changed. It lists no bucket.

mod count;
mod error;
mod look;
mod mend;

pub(crate) use error::AuditError;
pub(crate) use look::{Audited, Finding, Look};
pub(crate) use mend::mend;
