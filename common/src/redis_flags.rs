//! The flags of both programs that say how to get into Redis, secrets apart from the URL. Opens nothing.

use std::path::PathBuf;

use clap::Args;

use crate::env;
use crate::queue::{Access, Password};

/// Flags beside `--redis`. A password itself is no flag: everybody on a machine can read command lines.
#[derive(Debug, Clone, Default, Args)]
pub struct RedisFlags {
    /// File with the password of Redis; the user stands in the URL
    #[arg(long, global = true, env = env::REDIS_PASSWORD_FILE, value_name = "FILE")]
    pub redis_password_file: Option<PathBuf>,
    /// Certificates of the authorities to trust with rediss://, PEM [default: the system's]
    #[arg(long, global = true, env = env::REDIS_CA, value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
    /// Certificate of this client, PEM, for a Redis that asks for one
    #[arg(long, global = true, env = env::REDIS_CERT, value_name = "FILE")]
    pub redis_cert: Option<PathBuf>,
    /// Private key of that certificate, PEM
    #[arg(long, global = true, env = env::REDIS_KEY, value_name = "FILE")]
    pub redis_key: Option<PathBuf>,
}

impl RedisFlags {
    /// The way into the Redis of a URL: with the password of the file, else of the environment, else of the URL.
    pub fn access(self, url: String) -> Access {
        let password = self.redis_password_file.map(Password::File);
        Access {
            url,
            password: password.or_else(|| env::redis_password().map(Password::Text)),
            ca: self.redis_ca,
            certificate: self.redis_cert,
            key: self.redis_key,
        }
    }
}
