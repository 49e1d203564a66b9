//! The chemist's command as a library: pushes runs, watches them, and proves that their results are complete.
//!
//! It reads and writes Redis only through [`common::queue`] and objects only through [`common::storage`]; only `output` prints.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _};
use common::exit_code;
use common::redis_flags::{self, shows_password};
use common::telemetry::{self, LogFormat};

mod audit;
pub mod cli;
mod commands;
mod consolidation;
mod drivers;
mod error;
mod exported;
mod find_task;
mod followed;
mod formulae;
pub mod input;
mod kept_checkpoint;
pub mod local_redis;
mod location;
mod new_file;
mod output;
mod poses;
mod push;
mod ranking;
mod redis_checks;
mod run_file;
mod run_status;
pub mod search_box;
mod survival;
mod task_history;
mod task_scan;
mod trial_report;
mod tune_report;

/// Runs one command line, the program's name included, and returns its exit code, one of [`common::exit_code`].
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let parsed = cli::Cli::command().try_get_matches_from(arguments);
    let (cli, shows_password) =
        match parsed.and_then(|line| Ok((cli::Cli::from_arg_matches(&line)?, shows_password(&line)))) {
            Ok(parsed) => parsed,
            Err(answer) => return output::command_line(&answer),
        };
    telemetry::start(&cli.log, LogFormat::Text);
    let output = output::Output::new(
        cli.json,
        cli.quiet,
        cli.no_color.as_ref().is_some_and(|value| !value.is_empty()),
    );
    if shows_password {
        output.warning(redis_flags::SHOWN_PASSWORD, redis_flags::SHOWN_PASSWORD_HINT);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(commands::execute(cli, output)),
        Err(source) => Err(error::LaunchpadError::Runtime(source)),
    };
    match result {
        Ok(()) => exit_code::OK,
        Err(error) => {
            output::error(&error);
            error.exit_code()
        }
    }
}
