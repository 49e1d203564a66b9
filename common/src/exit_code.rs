//! Exit codes, after BSD's `sysexits.h`. They are a promise to scripts and to Kubernetes.

/// All of them, in rising order; `docs/operations.md` has a table of them.
pub const ALL: [u8; 7] = [OK, USAGE, DATA, UNAVAILABLE, SOFTWARE, TRY_AGAIN, CONFIG];

/// It worked. From a worker: its runs are drained (or empty, if it was told to leave then).
pub const OK: u8 = 0;
/// The command line was wrong (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Input was bad, or a consolidation is incomplete (`EX_DATAERR`).
pub const DATA: u8 = 65;
/// Redis or the store can't be reached (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// A defect of this program (`EX_SOFTWARE`).
pub const SOFTWARE: u8 = 70;
/// Try again: a worker left with work remaining (`EX_TEMPFAIL`).
pub const TRY_AGAIN: u8 = 75;
/// The configuration is wrong (`EX_CONFIG`).
pub const CONFIG: u8 = 78;
