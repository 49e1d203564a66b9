//! What launchpad and worker must agree on: the task model, the queue protocol and the storage layout.
//!
//! Dependencies point one way: `task` knows nothing of the rest; `queue` and `storage` build on it.

pub mod backoff;
pub mod checkup;
pub mod clock;
pub mod digest;
pub mod env;
pub mod excerpt;
pub mod exit_code;
pub mod local;
pub mod pdbqt;
pub mod queue;
pub mod redis_flags;
pub mod sdf;
pub mod storage;
pub mod task;
pub mod telemetry;
pub mod usage;
