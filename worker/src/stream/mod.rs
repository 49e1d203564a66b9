//! A program's output as a stream of lines that is never collected: filtered, cut into compressed parts and stored while the program
//! runs. Whoever is slow slows the program: between any two there is a bounded channel, and at most three parts are on disk.

mod attempt;
mod filter;
mod parts;

use serde::{Deserialize, Serialize};

/// What became of a stream, for the judge of its engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Lines that the program wrote; one without a line feed at its end counts, too.
    pub lines: u64,
    /// Whether the last line ends with a line feed. A stream without a line is whole.
    pub is_whole: bool,
    /// Lines in the parts.
    pub kept: u64,
    /// How many parts there are.
    pub parts: u64,
    /// Their size, compressed.
    pub bytes: u64,
    /// SHA-256 of the kept lines, uncompressed and in one.
    pub sha256: String,
    /// What the filter did, if there is one.
    pub filter: Option<FilterReport>,
}

/// What a filter did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterReport {
    /// Batches that it got.
    pub batches: u64,
    /// Batches that it exited with an error for; all their lines are kept.
    pub failures: u64,
    /// Lines of those batches.
    pub unfiltered: u64,
    /// How the first of them failed.
    pub first_failure: Option<String>,
    /// Why the stream was given up: the filter crashed, ran out of time or wrote what it was not given.
    pub fault: Option<String>,
}
