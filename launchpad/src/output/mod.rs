//! The only code that prints: results to standard output, everything else to standard error. It decides nothing.
//!
//! What comes from Redis or the store can't command the reader's terminal: control characters in texts are shown, not obeyed. JSON
//! escapes them by itself; only logs are printed as they are.

mod format;
mod listing;
mod problems;
mod progress;
mod streams;
mod table;

use std::io::{self, IsTerminal as _, Write};

use common::checkup::Marks;
use common::excerpt::visible;
use common::{exit_code, usage};
use serde::Serialize;

use crate::error::LaunchpadError;

pub(crate) use format::{bytes, duration, thousands};
pub(crate) use listing::{Line, Listing};
pub(crate) use problems::ProblemList;
pub(crate) use progress::ProgressLine;
pub(crate) use streams::{STDOUT_NAME, checked};
pub(crate) use table::Table;

use streams::{print, tell};

/// A result: fields for JSON, text for people.
pub(crate) trait Report: Serialize {
    /// The text, with a line feed at its end.
    fn text(&self) -> String;
}

/// How this call prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    plain: bool,
}

impl Output {
    /// `plain` is what `NO_COLOR` asks for.
    pub(crate) const fn new(json: bool, quiet: bool, plain: bool) -> Self {
        Self { json, quiet, plain }
    }

    /// Prints a result: as text, or with `--json` as one line of JSON.
    pub(crate) fn report(self, report: &impl Report) -> Result<(), LaunchpadError> {
        print(self.rendered(report).as_bytes())
    }

    /// Prints a result about a file. If the file itself is what is on standard output, it goes to standard error, unless `--quiet`.
    pub(crate) fn report_beside(self, on_stdout: bool, report: &impl Report) -> Result<(), LaunchpadError> {
        if !on_stdout {
            return self.report(report);
        }
        if !self.quiet {
            tell(&self.rendered(report));
        }
        Ok(())
    }

    fn rendered(self, report: &impl Report) -> String {
        if self.json {
            let json = serde_json::to_string(report).expect("a report has text keys only");
            format!("{json}\n")
        } else {
            visible(&report.text())
        }
    }

    /// Starts a list that is printed line by line, with `--json` as one object per line.
    pub(crate) fn listing<L: Line>(self) -> Listing<L> {
        Listing::new(self.json)
    }

    /// Whether results are asked for as JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Tells what is going on, unless `--quiet`.
    pub(crate) fn note(self, text: &str) {
        if !self.quiet {
            problem(text);
        }
    }

    /// Tells of a danger that stops nothing, and what can be done about it, unless `--quiet`.
    pub(crate) fn warning(self, text: &str, hint: &str) {
        self.note(&format!("warning: {text}\nhint: {hint}"));
    }

    /// Symbols for a person at a terminal, words for logs.
    pub(crate) fn marks(self) -> Marks {
        if !self.plain && io::stdout().is_terminal() { Marks::Symbols } else { Marks::Words }
    }

    /// A line that shows how far something is, out of `total`.
    pub(crate) fn progress(self, what: &'static str, total: u64) -> ProgressLine {
        ProgressLine::new(what, total, self.quiet)
    }

    /// Whether standard error is a terminal, where a line can be drawn again and again.
    pub(crate) fn can_redraw(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }
}

/// Names something that is wrong with the user's data.
pub(crate) fn problem(text: &str) {
    tell(&format!("{}\n", visible(text)));
}

/// Prints why a command failed, and what can be done about it.
pub(crate) fn error(error: &LaunchpadError) {
    tell(&format!("error: {}\n", visible(&error.chain())));
    if let Some(hint) = error.hint() {
        tell(&format!("hint: {hint}\n"));
    }
}

/// Asks; only `y` and `yes` mean yes.
pub(crate) fn ask(question: &str) -> bool {
    tell(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

/// Whether there is a person who could answer.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Prints what clap has to say, a help page or a mistake, and returns the exit code.
pub(crate) fn command_line(answer: &clap::Error) -> u8 {
    if answer.use_stderr() {
        tell(&usage::refusal(answer));
        return exit_code::USAGE;
    }
    match checked(answer.print().and_then(|()| io::stdout().flush())) {
        Ok(()) => exit_code::OK,
        Err(failed) => {
            error(&failed);
            failed.exit_code()
        }
    }
}

/// Where the content of a file goes that was not given a name.
pub(crate) fn stdout() -> impl Write {
    io::stdout()
}

/// Prints a log as it is, below its name.
pub(crate) fn log(name: &str, content: &[u8]) -> Result<(), LaunchpadError> {
    let end: &[u8] = if content.is_empty() || content.ends_with(b"\n") { b"" } else { b"\n" };
    log_header(name, true)?;
    log_part(content)?;
    print(end)
}

/// Starts the output of another log, below its name.
pub(crate) fn log_header(name: &str, is_first: bool) -> Result<(), LaunchpadError> {
    print(format!("{}==> {name} <==\n", if is_first { "" } else { "\n" }).as_bytes())
}

/// Prints a part of a log as it is.
pub(crate) fn log_part(content: &[u8]) -> Result<(), LaunchpadError> {
    print(content)
}
