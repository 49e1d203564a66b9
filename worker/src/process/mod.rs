//! The only code that starts engines: process groups, time limits, stopping, bounded output, and the guardian that ends
//! whatever a killed worker leaves behind.

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal, which was not ours.
    Signalled(i32),
    /// We ended it, since it ran longer than it may.
    TimeLimit,
    /// We ended it, since its attempt was stopped.
    Stopped,
}

/// A program that has ended, with all of its process group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub how: How,
    /// How long it ran.
    pub elapsed_ms: u64,
    /// The last lines that it wrote to standard output.
    pub stdout_tail: String,
    /// The last lines that it wrote to standard error.
    pub stderr_tail: String,
}
