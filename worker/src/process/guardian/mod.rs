//! The guardian: a second process of the worker's own binary that ends the engines of a worker which can't do so itself any more,
//! since it was killed.
//!
//! The worker writes lines to the guardian's standard input: `=<marker>` first, then `+<group>` and `-<group>`. Its end is the
//! worker's end, whatever that was. The guardian then kills the process groups that are left, and every process that was started
//! with the marker in its environment: this finds those that left their group, and those not yet registered.
//! Nothing in here knows what an engine does.

mod handle;
mod watch;

pub use handle::Guardian;
pub use watch::main_loop;

/// The environment variable by which the guardian knows the processes of its worker.
pub const MARKER_VARIABLE: &str = "MOLFLEET_WORKER";

/// What the guardian prints once it watches.
const READY: &str = "ready\n";
