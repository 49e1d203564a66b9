//! What is wrong with entries of the user's files: the first of them with each hint once, and how many more there are.

use std::collections::BTreeSet;

use super::{tell, thousands};
use crate::input::Problem;

/// A file that was read in the wrong format has a problem on every line.
const LISTED_MAX: u64 = 20;

/// The problems of a command.
#[derive(Debug, Default)]
pub(crate) struct ProblemList {
    found: u64,
    hints: BTreeSet<String>,
}

impl ProblemList {
    /// Names a problem, or from the 21st on leaves it to the log.
    pub(crate) fn tell(&mut self, problem: &Problem) {
        self.found += 1;
        if self.found > LISTED_MAX {
            tracing::info!("{problem}");
            return;
        }
        tell(&format!("{problem}\n"));
        if let Some(hint) = problem.hint.as_ref().filter(|hint| self.hints.insert((*hint).clone())) {
            tell(&format!("  hint: {hint}\n"));
        }
    }

    /// Says how many were not named.
    pub(crate) fn finish(self) {
        if self.found > LISTED_MAX {
            let more = thousands(self.found - LISTED_MAX);
            tell(&format!("and {more} more (`--log info` lists all of them)\n"));
        }
    }
}
