//! Every environment variable that the programs read, by name. Clap reads them, once.

/// Where Redis is, as a URL.
pub const REDIS: &str = "MOLFLEET_REDIS";
/// Where runs keep their objects, as a URL.
pub const STORE: &str = "MOLFLEET_STORE";
/// Where a worker makes its scratch folders.
pub const SCRATCH: &str = "MOLFLEET_SCRATCH";
/// Where a worker keeps staged inputs.
pub const CACHE: &str = "MOLFLEET_CACHE";
/// What to log, in the syntax of `tracing_subscriber::EnvFilter`.
pub const LOG: &str = "MOLFLEET_LOG";
/// If set to anything, output has no colours and no symbols, see <https://no-color.org>.
pub const NO_COLOR: &str = "NO_COLOR";
/// The region that a worker reports.
pub const REGION: &str = "MOLFLEET_REGION";
/// The machine type that a worker reports.
pub const MACHINE_TYPE: &str = "MOLFLEET_MACHINE_TYPE";
