//! The flags of both programs that say how to get into Redis, secrets apart from the URL. Opens nothing.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use crate::env;
use crate::queue::{Access, Password};

/// What to tell somebody whose [`shows_password`].
pub const SHOWN_PASSWORD: &str =
    "--redis has a password in it, and everybody on this machine can read command lines";
/// What to do about it.
pub const SHOWN_PASSWORD_HINT: &str = "put it into a file for --redis-password-file, or into MOLFLEET_REDIS_PASSWORD; either may be anything, unescaped";

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

/// Whether the command line itself, and not only the environment, has a password in the URL of Redis.
pub fn shows_password(line: &ArgMatches) -> bool {
    const FLAG: &str = "redis";
    // A subcommand may have no such flag.
    let url = line.try_get_one::<String>(FLAG).ok().flatten();
    let is_typed = url.is_some() && line.value_source(FLAG) == Some(ValueSource::CommandLine);
    let here = is_typed && url.is_some_and(|url| Access::from(url).shown() != *url);
    here || line.subcommand().is_some_and(|(_, rest)| shows_password(rest))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    /// A program whose `look` has the flag, and whose `count` has none.
    fn shows(words: &[&str]) -> bool {
        let flag = || Arg::new("redis").long("redis").env("MOLFLEET_TEST_OF_SHOWN_PASSWORDS");
        let program = Command::new("program").arg(flag());
        let program = program.subcommand(Command::new("look").arg(flag())).subcommand(Command::new("count"));
        shows_password(&program.try_get_matches_from([&["program"], words].concat()).unwrap())
    }

    #[test]
    fn a_password_is_seen_where_it_was_typed() {
        assert!(shows(&["--redis", "redis://:s3cret@h"]));
        assert!(shows(&["look", "--redis=rediss://chemist:s3cret@h:1/0"]));
        assert!(shows(&["--redis", "redis+sentinel://:s3cret@a,b/fleet", "count"]));
        for words in [&["--redis", "redis://chemist@h"][..], &["--redis", "redis://h"], &["look"], &["count"]]
        {
            assert!(!shows(words), "{words:?}");
        }
    }
}
