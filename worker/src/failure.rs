//! The stable short words by which a task fails whatever its engine is. Those of an engine are in `engine/reason.rs`.
//!
//! `docs/science.md` explains each; a test holds this list and its table against each other.

/// The task's input in Redis is missing or can't be read.
pub(crate) const INPUT_UNREADABLE: &str = "input_unreadable";
/// A pinned input is not in the store.
pub(crate) const INPUT_MISSING: &str = "input_missing";
/// A pinned input or driver has other bytes than its digest says.
pub(crate) const INPUT_ALTERED: &str = "input_altered";
/// The program that converts a shared input once per host made nothing of it.
pub(crate) const SHARED_INPUT_UNUSABLE: &str = "shared_input_unusable";
/// The system can't start a program with these arguments.
pub(crate) const SPAWN_FAILED: &str = "spawn_failed";
/// Every molecule of a large batch is bad for one reason: the machine is suspected first.
pub(crate) const ALL_BAD: &str = "all_bad";
/// A checkpoint was made with another number of threads: going on from it would change the numbers.
pub(crate) const THREADS_CHANGED: &str = "threads_changed";
/// The worker's machine could not do the task: a lapse, not a failure.
pub(crate) const MACHINE: &str = "machine";
/// The kernel killed a program for want of memory: no molecule is to blame.
pub(crate) const OUT_OF_MEMORY: &str = "out_of_memory";
/// The stored shard is not one of this task.
pub(crate) const SHARD_INVALID: &str = "shard_invalid";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_lists_exactly_these_words() {
        let science = include_str!("../../docs/science.md");
        let (_, section) = science.split_once("\n## Why a task of any engine fails\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let listed: BTreeSet<&str> =
            section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        let expected = [
            INPUT_UNREADABLE,
            INPUT_MISSING,
            INPUT_ALTERED,
            SHARED_INPUT_UNUSABLE,
            SPAWN_FAILED,
            ALL_BAD,
            MACHINE,
            OUT_OF_MEMORY,
            SHARD_INVALID,
            THREADS_CHANGED,
            "lapses", // common/src/queue/lua/lease.lua
        ];
        assert_eq!(listed, expected.into());
    }
}
