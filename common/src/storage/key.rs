//! The name of every object below `<store>/<run>/`, as pure functions: two tasks never share a name, and none holds a user's text
//! except the file name of an input.

use crate::task::{LeaseName, NAME_LENGTH_MAX, TaskId, is_allowed_in_name, starts_name};

/// Every task of the run, written once by push.
pub const MANIFEST: &str = "manifest.csv";
/// What the run computes, written once by push; also the sign by which a worker knows that this is the run's store.
pub const SPEC: &str = "spec.json";
/// The consolidated table.
pub const RESULTS: &str = "results.csv";
/// The proof that belongs to it.
pub const RECEIPT: &str = "receipt.json";

/// A shared input, by content.
pub fn input(sha256: &str, file_name: &str) -> String {
    format!("inputs/{sha256}/{}", tame(file_name))
}

/// A driver script, by content.
pub fn driver(sha256: &str, file_name: &str) -> String {
    format!("drivers/{sha256}/{}", tame(file_name))
}

/// A published driver script, by content; below the store's own folder of drivers, not below a run.
pub fn published_driver(sha256: &str, file_name: &str) -> String {
    format!("{sha256}/{}", tame(file_name))
}

/// What a step makes that is shared by all runs, by what it is made of; below the store's own folder of those, not below a run. A number
/// after the first is there only if what stands under those before it is spoiled.
pub fn shared_output(made_of_sha256: &str, number: u32) -> String {
    format!("{made_of_sha256}/{number}")
}

/// Where an upload of these bytes goes before it gets its name; gone when it has it.
pub fn upload(sha256: &str) -> String {
    format!("uploads/{sha256}")
}

/// The result of a task.
pub fn shard(task: TaskId) -> String {
    format!("shards/shard_{}.csv", task.padded())
}

/// What all tasks of a group start from, made by whichever comes first; the group is named by its first task.
pub fn group_setup(first: TaskId) -> String {
    format!("groups/{}/setup.tar", first.padded())
}

/// The provenance of a task's shard, by the shard's content.
pub fn index(task: TaskId, shard_sha256: &str) -> String {
    format!("index/{}/{shard_sha256}.json", task.padded())
}

/// A file of an attempt, by its path below the attempt's scratch folder.
pub fn attempt_file(task: TaskId, lease: &LeaseName, path: &str) -> String {
    format!("attempts/{}/{lease}/{path}", task.padded())
}

/// The record of an attempt, which names all its other files.
pub fn attempt_record(task: TaskId, lease: &LeaseName) -> String {
    attempt_file(task, lease, "attempt.json")
}

/// The highest number of a bundle of an attempt, and so how many of them there may be in the store at a time: two are kept, one may
/// have been left on its way there, and one comes.
pub const BUNDLE_NUMBER_MAX: u64 = 4;

/// A bundle of a task's checkpoint files, by the attempt that made it and its number there, from 1 to [`BUNDLE_NUMBER_MAX`]; gone after
/// the task's success.
pub fn bundle(task: TaskId, lease: &LeaseName, number: u64) -> String {
    format!("checkpoints/{}/{lease}-{number}.tar", task.padded())
}

/// All bundles that an attempt may have left in the store, whoever knows of them.
pub fn bundles(task: TaskId, lease: &LeaseName) -> impl Iterator<Item = String> {
    (1..=BUNDLE_NUMBER_MAX).map(move |number| bundle(task, lease, number))
}

/// A user's file name as part of an object name: anything but letters, digits, `_`, `.` and `-` becomes `_`; at most 100 characters,
/// the end of the name with its extension is kept, and neither `.` nor `-` stands in front: it is an argument of programs.
fn tame(file_name: &str) -> String {
    let tamed: String = file_name.chars().map(|c| if is_allowed_in_name(c) { c } else { '_' }).collect();
    let kept = tamed[tamed.len().saturating_sub(NAME_LENGTH_MAX)..].trim_start_matches(|c| !starts_name(c));
    if kept.is_empty() { "file".to_owned() } else { kept.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_decided_ones() {
        let lease = "2.abc.7".parse().unwrap();
        assert_eq!(shard(TaskId(42)), "shards/shard_0000042.csv");
        assert_eq!(index(TaskId(42), "ff"), "index/0000042/ff.json");
        assert_eq!(attempt_record(TaskId(42), &lease), "attempts/0000042/2.abc.7/attempt.json");
        assert_eq!(
            attempt_file(TaskId(1), &lease, "poses/00000.pdbqt"),
            "attempts/0000001/2.abc.7/poses/00000.pdbqt"
        );
    }

    #[test]
    fn all_bundles_of_an_attempt_can_be_named() {
        let lease = "2.abc.7".parse().unwrap();
        let names: Vec<String> = bundles(TaskId(42), &lease).collect();
        assert_eq!(names.len(), 4);
        assert_eq!(
            (names[0].as_str(), &names[3]),
            ("checkpoints/0000042/2.abc.7-1.tar", &bundle(TaskId(42), &lease, 4))
        );
    }

    #[test]
    fn user_file_names_cannot_leave_their_folder() {
        assert_eq!(input("ab", "receptor.pdb"), "inputs/ab/receptor.pdb");
        assert_eq!(input("ab", "../../etc/pass wd"), "inputs/ab/_.._etc_pass_wd");
        assert_eq!(input("ab", ".."), "inputs/ab/file");
        assert_eq!(input("ab", "-rf.pdb"), "inputs/ab/rf.pdb");
        assert_eq!(input("ab", "größe.pdb"), "inputs/ab/gr__e.pdb");
        assert_eq!(input("ab", &format!("{}.sdf", "x".repeat(300))).len(), "inputs/ab/".len() + 100);
    }

    #[test]
    fn no_two_tasks_share_a_shard() {
        let names: std::collections::HashSet<String> =
            (9_999_990..10_000_010).map(|id| shard(TaskId(id))).collect();
        assert_eq!(names.len(), 20);
    }
}
