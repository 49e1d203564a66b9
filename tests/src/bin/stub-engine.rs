//! A stand-in for an engine's program that misbehaves as files beside it say, and then becomes the real program of its name.
//!
//! It is put first on a worker's `PATH` under a program's name. It is a stub since real engines can't be made to hang, crash or
//! leave a grandchild at a chosen moment. The files: `gate` holds it up while it is there; `grandchild` has it leave a `sleep` of that
//! many seconds behind; `crash` has it abort. A `gate` or a `crash` with words in it, one a line, is only for a program that has a file with one
//! of them among its arguments. It writes its name, process id and such files' names into `starts` each time, and its process id into `waiting`
//! at the gate.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let own = PathBuf::from(arguments.next().unwrap_or_default());
    let arguments: Vec<OsString> = arguments.collect();
    let (Some(folder), Some(name)) = (own.parent(), own.file_name()) else { return ExitCode::from(99) };
    let asks_version = arguments.iter().any(|argument| argument == "--version" || argument == "-V");
    if !asks_version {
        let files: Vec<PathBuf> = arguments.iter().map(PathBuf::from).filter(|path| path.is_file()).collect();
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        note(folder, "starts", &format!("{} {} {}", name.display(), std::process::id(), names.join(" ")));
        misbehave(folder, &files);
    }
    become_real(folder, &PathBuf::from(name), &arguments)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a stub starts programs and waits; it is no part of the product"
)]
fn misbehave(folder: &Path, files: &[PathBuf]) {
    if let Ok(seconds) = fs::read_to_string(folder.join("grandchild")) {
        let child = Command::new("sleep").arg(seconds.trim()).spawn();
        let pid = child.map_or(0, |child| child.id());
        note(folder, "grandchildren", &pid.to_string());
    }
    if is_meant(&folder.join("crash"), files) {
        std::process::abort();
    }
    if is_meant(&folder.join("gate"), files) {
        note(folder, "waiting", &std::process::id().to_string());
    }
    while is_meant(&folder.join("gate"), files) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a behaviour is asked for, of all programs or of those with such files.
fn is_meant(behaviour: &Path, files: &[PathBuf]) -> bool {
    let Ok(words) = fs::read_to_string(behaviour) else { return false };
    let has_word = |file: &PathBuf| {
        let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        words.lines().any(|word| text.contains(word))
    };
    words.is_empty() || files.iter().any(has_word)
}

/// Becomes the program of this name that comes next on the `PATH`.
#[expect(clippy::disallowed_methods, reason = "a stub starts programs; it is no part of the product")]
fn become_real(folder: &Path, name: &Path, arguments: &[OsString]) -> ExitCode {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = std::env::split_paths(&path).filter(|other| other != folder);
    for program in others.map(|other| other.join(name)).filter(|program| program.is_file()) {
        // It returns only if it can't be started.
        _ = Command::new(program).args(arguments).exec();
    }
    ExitCode::from(98)
}

fn note(folder: &Path, file: &str, line: &str) {
    let opened = OpenOptions::new().create(true).append(true).open(folder.join(file));
    let written = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if written.is_err() {
        std::process::abort();
    }
}
