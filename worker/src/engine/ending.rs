//! How a program ended, in the words of a failure. It tells why there is no verdict, and is never a verdict itself.

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
