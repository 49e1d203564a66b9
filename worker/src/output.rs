//! The only code of the worker that writes to standard output: what a person asked for. A worker at work only logs.

use std::io::{self, IsTerminal as _, Write as _};

use common::checkup::{Checkup, Marks};
use common::excerpt::visible;

/// Prints a checkup: one line of JSON, or text with symbols at a terminal unless it is to be plain.
pub(crate) fn checkup(checkup: &Checkup, json: bool, plain: bool) {
    if json {
        let json = serde_json::to_string(checkup).expect("a checkup has text keys only");
        return to_stdout(&format!("{json}\n"));
    }
    let symbols = !plain && io::stdout().is_terminal();
    // What a check found may be a text from Redis.
    to_stdout(&visible(&checkup.text(if symbols { Marks::Symbols } else { Marks::Words })));
}

fn to_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    // A reader that has seen enough (`| head`) is no error of ours: the exit code says the same.
    _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
