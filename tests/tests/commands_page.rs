//! `docs/commands.md` shows what each command really prints: every `console` block of it is typed here, in order, in one folder with a
//! private Redis, real engines and real workers. Lines in `<!-- run: … -->` are typed, too, and not shown.
//!
//! `MOLFLEET_GOLDEN=write cargo test -p tests --test commands_page` writes those blocks anew that differ in more than times, ids and sizes:
//! read the difference before it is committed.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, and are told by a variable to write their file"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use launchpad::cli::Cli;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::Regex;
use tempfile::TempDir;

/// What is typed without being shown.
const HIDDEN: &str = "<!-- run: ";
/// Where the page's reader is.
const FOLDER: &str = "/home/you/molecules";

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A user's folder with some inputs and the programs on the `PATH`. What was started in it ends with it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        symlink(env!("CARGO_BIN_EXE_launchpad-under-test"), programs.join("launchpad")).unwrap();
        symlink(env!("CARGO_BIN_EXE_worker-under-test"), programs.join("worker")).unwrap();
        for file in ["receptor.pdb", "p-xylene-pose.pdb"] {
            fs::copy(package("../examples/t4l-l99a").join(file), folder.path().join(file)).unwrap();
        }
        Self { folder }
    }

    fn shell(&self, line: &str) -> Output {
        let folder = self.folder.path();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(folder).env("NO_COLOR", "1");
        shell.env("PATH", format!("{}:/usr/bin:/bin", folder.join("bin").display()));
        for variable in std::env::vars_os().map(|(name, _)| name) {
            if variable.to_string_lossy().starts_with("MOLFLEET_") || variable == "COLUMNS" {
                shell.env_remove(variable);
            }
        }
        shell.env("TMPDIR", folder.join("tmp")).stdin(Stdio::null()).output().unwrap()
    }

    /// What a line prints, in the reader's folder, and its exit code if that is not 0.
    fn typed(&self, line: &str) -> String {
        let ran = self.shell(line);
        let text =
            String::from_utf8(ran.stdout).unwrap().replace(&*self.folder.path().to_string_lossy(), FOLDER);
        let mut text = text.lines().fold(String::new(), |text, line| text + line.trim_end() + "\n");
        let code = ran.status.code().unwrap();
        if code != 0 {
            writeln!(text, "[exit code {code}]").unwrap();
        }
        text
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let pids = fs::read_to_string(self.folder.path().join("pids")).unwrap_or_default();
        for pid in pids.lines().filter_map(|pid| pid.parse().ok()) {
            // It may have left by itself.
            _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        self.shell("launchpad local down");
    }
}

/// The page with every block typed anew.
fn typed_page(desk: &Desk, page: &str) -> String {
    let mut typed = String::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        writeln!(typed, "{line}").unwrap();
        if let Some(hidden) = line.strip_prefix(HIDDEN) {
            let hidden = hidden.strip_suffix(" -->").expect(line);
            let ran = desk.shell(hidden);
            assert!(ran.status.success(), "{hidden}: {}", String::from_utf8_lossy(&ran.stdout));
        } else if line == "```console" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            for command in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
                write!(typed, "$ {command}\n{}", desk.typed(command)).unwrap();
            }
            typed.push_str("```\n");
        }
    }
    typed
}

/// What differs from one machine, day or try to the next, and what stands for it in a comparison.
static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let masks = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "TIME"),
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"\(process \d+\)", "(process PID)"),
        (r"\b(0x)?[0-9a-f]{40,}\b", "DIGEST"),
        (r"\b1[0-9]{12}\b", "MOMENT"),
        // A worker's id, by itself or in a lease name.
        (r"\b[0-9a-z]{12}\b", "WORKER"),
        (r"\bhost [^ \n]+", "host HOST"),
        (r"\b(\d[\d,]*\.)?\d[\d,]* ?(ms|s|min|h|B|kB|MB|GB|MiB|bytes)\b", "SIZE"),
        (r"SIZE( SIZE)+", "SIZE"),
        (r"elapsed_ms=\d+", "elapsed_ms=SIZE"),
        (r"maxclients [\d,]+", "maxclients N"),
        (r"molfleet-\d+", "molfleet-USER"),
        (r"(?m)^note +(gpus|memory|clock) .*$", "$1"),
        (r"(?m)redis_version .*$", "redis_version"),
        (r"\d of \d+ will be used", "CORES will be used"),
        (r"some [\d,]+ tasks", "some N tasks"),
        // Which of them is quickest is the machine's to say.
        (r"(?m)^\d+ side by side do .*$", "BEST"),
        (r"(?m)^(\d+,\w+,\w+,exit 0),\d+$", "$1,MS"),
        (r"-?\d+\.\d+", "NUMBER"),
        (r"[ \t]+", " "),
        (r"(?m) $", ""),
        // In the list of workers.
        (r"(?m)^(WORKER \w+ SIZE ago SIZE \d+) \S+", "$1 HOST"),
    ];
    masks.map(|(pattern, stand_in)| (Regex::new(pattern).unwrap(), stand_in)).into()
});

fn masked(text: &str) -> String {
    MASKS
        .iter()
        .fold(text.to_owned(), |text, (mask, stand_in)| mask.replace_all(&text, *stand_in).into_owned())
}

/// The page in parts, each from one command to the next.
fn parts(page: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in page.lines() {
        if line.starts_with("$ ") {
            parts.push(String::new());
        }
        writeln!(parts.last_mut().unwrap(), "{line}").unwrap();
    }
    parts
}

#[test]
fn the_page_shows_what_every_command_prints() {
    let path = package("../docs/commands.md");
    let page = fs::read_to_string(&path).unwrap();
    let desk = Desk::new();
    let typed = typed_page(&desk, &page);
    let (found, expected) = (parts(&typed), parts(&page));
    assert_eq!(found.len(), expected.len(), "a program printed a line that begins with `$ `");
    let pairs: Vec<_> = found.into_iter().zip(expected).collect();
    if std::env::var_os("MOLFLEET_GOLDEN").is_some() {
        let kept =
            pairs.into_iter().map(|(found, old)| if masked(&found) == masked(&old) { old } else { found });
        fs::write(&path, kept.collect::<String>()).unwrap();
        return;
    }
    for (found, expected) in pairs {
        assert_eq!(masked(&found), masked(&expected), "\n{found}");
    }
}

#[test]
fn every_command_is_on_the_page() {
    use clap::CommandFactory as _;
    let page = fs::read_to_string(package("../docs/commands.md")).unwrap();
    let shown: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    for command in Cli::command().get_subcommands() {
        let name = format!("launchpad {}", command.get_name());
        assert!(shown.iter().any(|line| line.contains(&name)), "`{name}` is missing");
    }
    for name in ["launchpad --help", "worker --help", "worker doctor"] {
        assert!(shown.iter().any(|line| line.contains(name)), "`{name}` is missing");
    }
}
