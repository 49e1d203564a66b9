//! What a program to run is, what becomes of it, and where it is found.
//!
//! Nothing in here starts a program or reads the worker's own environment.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments. A name without `/` is searched on the `PATH` of `env`, one with `/` is relative to `folder`.
    pub argv: Vec<String>,
    /// The folder that it runs in.
    pub folder: PathBuf,
    /// Its whole environment, but for the guardian's marker; see [`engine_environment`].
    pub env: Vec<(String, OsString)>,
    /// The cores that it stays on, by their numbers; empty for all of the worker\'s.
    pub cores: Vec<usize>,
    /// Where its output goes; `None` keeps the tails only.
    pub logs: Option<Logs>,
    /// How long it may run by the wall clock.
    pub time_limit: Duration,
    /// How long its process group may take to end after SIGTERM before it gets SIGKILL.
    pub grace: Duration,
}

/// The log files of a program, `<name>.stdout` and `<name>.stderr`. One to which nothing is written is not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// The folder that they are made in, and which is made with them if it is not there.
    pub folder: PathBuf,
    /// Their name without the ending.
    pub name: String,
    /// How many bytes of output each of them takes; the rest is counted and dropped.
    pub bytes_max: u64,
}

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

/// The environment of an engine: nothing but what is named here, so that no credential of the worker can leak into it.
///
/// `HOME` and `TMPDIR` are the scratch folder; `threads` is the number of cores that it may use; `extra` comes last and wins.
pub fn engine_environment(
    path: &OsStr,
    scratch: &Path,
    threads: u32,
    extra: &[(String, OsString)],
) -> Vec<(String, OsString)> {
    let mut env = vec![
        ("PATH".to_owned(), path.to_owned()),
        ("HOME".to_owned(), scratch.into()),
        ("TMPDIR".to_owned(), scratch.into()),
        ("LANG".to_owned(), "C.UTF-8".into()),
        ("OMP_NUM_THREADS".to_owned(), threads.to_string().into()),
    ];
    env.extend_from_slice(extra);
    env
}

/// The first executable file called `name` in the folders of `path`, a `PATH`. A name with `/` is taken as it stands.
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        std::env::split_paths(path).map(|folder| folder.join(name)).collect()
    };
    candidates.into_iter().find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_executable_file_on_the_path_is_found() {
        let root = tempfile::tempdir().unwrap();
        let folders =
            ["a folder", "a file that cannot run", "runs", "runs too"].map(|name| root.path().join(name));
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        fs::create_dir(folders[0].join("vina")).unwrap();
        for (folder, mode) in [(&folders[1], 0o644), (&folders[2], 0o755), (&folders[3], 0o755)] {
            let file = folder.join("vina");
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths(&folders).unwrap();
        assert_eq!(find_program("vina", &path), Some(folders[2].join("vina")));
        assert_eq!(find_program("gnina", &path), None);
        let absolute = folders[3].join("vina");
        assert_eq!(find_program(absolute.to_str().unwrap(), OsStr::new("")), Some(absolute));
    }
}
