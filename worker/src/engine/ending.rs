//! How a program ended, in the words of a failure. It tells why there is no verdict, and is never a verdict itself.

use common::exit_code;

use super::reason::failure;
use crate::process::{Ended, How};

/// How a program ended and the last thing that it said.
pub(crate) fn evidence(ended: &Ended) -> String {
    let how = match ended.how {
        How::Exited(code) => format!("exit {code}"),
        How::Signalled(signal) => format!("signal {signal}"),
        How::TimeLimit => "time limit".to_owned(),
        How::Stopped => "stopped".to_owned(),
    };
    let last = ended.stderr_tail.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("{how} after {} ms, last words `{}`", ended.elapsed_ms, last.trim())
}

/// Why a driver did not end well, if so, by the exit codes of `docs/drivers.md`.
pub(crate) fn breakdown(ended: &Ended) -> Option<&'static str> {
    match ended.how {
        How::Exited(0) => None,
        How::Exited(code) if code == i32::from(exit_code::DATA) => Some(failure::INPUT_REFUSED),
        How::Exited(code) if code == i32::from(exit_code::TRY_AGAIN) => Some(failure::TRY_AGAIN),
        How::Exited(_) => Some(failure::ENGINE_FAILED),
        How::Signalled(_) => Some(failure::ENGINE_CRASHED),
        How::TimeLimit => Some(failure::TIME_LIMIT),
        How::Stopped => Some(failure::STOPPED),
    }
}
