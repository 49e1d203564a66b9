//! Every environment variable that the programs read, by name. Clap reads them, once; but for the password, which must not have a flag.

/// Where Redis is, as a URL.
pub const REDIS: &str = "MOLFLEET_REDIS";
/// The file that holds the password of Redis.
pub const REDIS_PASSWORD_FILE: &str = "MOLFLEET_REDIS_PASSWORD_FILE";
/// The password of Redis itself, see [`redis_password`].
pub const REDIS_PASSWORD: &str = "MOLFLEET_REDIS_PASSWORD";
/// The file of certificates that are trusted with TLS.
pub const REDIS_CA: &str = "MOLFLEET_REDIS_CA";
/// The file of the client's own certificate.
pub const REDIS_CERT: &str = "MOLFLEET_REDIS_CERT";
/// The file of the client's private key.
pub const REDIS_KEY: &str = "MOLFLEET_REDIS_KEY";
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
/// Whose metadata server tells a worker of its preemption.
pub const PREEMPTION: &str = "MOLFLEET_PREEMPTION";
/// Where that server is.
pub const METADATA: &str = "MOLFLEET_METADATA";
/// The region that a worker reports.
pub const REGION: &str = "MOLFLEET_REGION";
/// The machine type that a worker reports.
pub const MACHINE_TYPE: &str = "MOLFLEET_MACHINE_TYPE";

/// Servers of engines that a worker may use, as URLs separated by commas.
pub const ENDPOINTS: &str = "MOLFLEET_ENDPOINTS";
/// The file of the token that these servers want to see.
pub const ENDPOINT_TOKEN_FILE: &str = "MOLFLEET_ENDPOINT_TOKEN_FILE";
/// How long a step of an engine may take, in seconds; a worker tells it the program that talks to a server.
pub const STEP_SECONDS_MAX: &str = "MOLFLEET_STEP_SECONDS_MAX";

/// What tells a program on a GPU where the daemon of NVIDIA's Multi-Process Service is, and how much of the GPU is its own.
pub const CUDA_MPS: [&str; 3] =
    ["CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"];

/// The password of Redis, if the environment has one. Called once, at the start.
#[expect(clippy::disallowed_methods, reason = "as a flag, everybody on the machine could read it")]
pub fn redis_password() -> Option<String> {
    std::env::var(REDIS_PASSWORD).ok().filter(|password| !password.is_empty())
}
