//! How a program ended, in the words of a failure. It tells why there is no verdict, and is never a verdict itself.

use common::exit_code;

use super::reason::failure;
use crate::process::{Ended, How};

/// With what Vina ends when it meets what it has no words for: a plea to report that, and its thanks. The error stands before.
const PLEA: &str = "Please report bugs through";

/// How a program ended and the last thing that it said.
pub(crate) fn evidence(ended: &Ended) -> String {
    let how = match ended.how {
        How::Exited(code) => format!("exit {code}"),
        How::Signalled(signal) => format!("signal {signal}"),
        How::TimeLimit => "time limit".to_owned(),
        How::Stopped => "stopped".to_owned(),
    };
    let said = ended.stderr_tail.split(PLEA).next().unwrap_or_default();
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What Vina 1.2.3 prints over an ATOM line that ends before the atom's type.
    const UNKNOWN: &str = include_str!("../../../tests/golden/vina-1.2.3-unknown-error.txt");

    #[test]
    fn thanks_are_no_evidence() {
        let said = |stderr: &str| {
            evidence(&Ended {
                how: How::Exited(1),
                elapsed_ms: 5,
                stdout_tail: String::new(),
                stderr_tail: stderr.to_owned(),
            })
        };
        assert_eq!(said(UNKNOWN), "exit 1 after 5 ms, last words `An unknown error occurred.`");
        assert_eq!(said("Traceback\nValueError: x\n\n"), "exit 1 after 5 ms, last words `ValueError: x`");
    }
}
