//! What the programs say to wrong command lines, files, molecules, keys, addresses and ids. `golden/bad-input.txt` holds each command
//! as it is typed in a shell, what it must print, and its exit code.
//!
//! `MOLFLEET_GOLDEN=write cargo test -p tests --test bad_input` writes the file anew: read the difference before it is committed.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs, and are told by a variable to write their file"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::queue::Queue;
use tempfile::TempDir;
use tests::TestRedis;

/// A user's folder with a Redis, a run `first` of two tasks, and the programs on the `PATH`.
struct Desk {
    folder: TempDir,
    redis: TestRedis,
}

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_launchpad-under-test"), programs.join("launchpad")).unwrap();
        symlink(env!("CARGO_BIN_EXE_worker-under-test"), programs.join("worker")).unwrap();
        fs::copy(package("../examples/t4l-l99a/receptor.pdb"), folder.path().join("receptor.pdb")).unwrap();
        fs::copy(package("../examples/t4l-l99a/benzene.sdf"), folder.path().join("pose.sdf")).unwrap();
        fs::write(folder.path().join("good.smi"), "c1ccccc1 benzene\nOc1ccccc1 phenol\n").unwrap();
        let options = "[options]\nreceptor = 'receptor.pdb'\nbox_ligand = 'pose.sdf'\n";
        fs::write(folder.path().join("good.toml"), format!("run = 'r'\n{options}")).unwrap();
        let desk = Self { folder, redis: TestRedis::start().await };
        let pushed =
            desk.type_line("launchpad push good.smi --config good.toml --run first --confirm-after-ms 0 -q");
        assert!(pushed.ends_with("exit 0\n"), "{pushed}");
        desk
    }

    /// Types a line; gives what it printed and its exit code, without what differs from one machine or day to the other.
    fn type_line(&self, line: &str) -> String {
        let folder = self.folder.path();
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec 2>&1\n{line}")]).current_dir(folder).env("NO_COLOR", "1");
        shell.env("PATH", format!("{}:/usr/bin:/bin", folder.join("bin").display()));
        shell.env("MOLFLEET_REDIS", self.redis.url()).env("MOLFLEET_STORE", "store");
        shell.env("MOLFLEET_SCRATCH", folder.join("scratch")).env("MOLFLEET_CACHE", folder.join("cache"));
        let output = shell.stdin(std::process::Stdio::null()).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap().replace(&*folder.to_string_lossy(), "FOLDER");
        let printed = printed.replace(&format!("127.0.0.1:{}", self.redis.port()), "127.0.0.1:PORT");
        let mut text = String::new();
        for line in printed.lines() {
            // A worker's log lines start with the time.
            let line = line
                .split_once("Z ")
                .filter(|(time, _)| time.len() == 26)
                .map_or(line, |(_, rest)| rest.trim_start());
            writeln!(text, "{line}").unwrap();
        }
        format!("{text}exit {}\n", output.status.code().unwrap())
    }

    async fn runs(&self) -> Vec<String> {
        let runs = Queue::open(&self.redis.url()).unwrap().runs().await.unwrap();
        runs.iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn every_refusal_says_what_was_found_and_what_to_do() {
    let golden = package("golden/bad-input.txt");
    let expected = fs::read_to_string(&golden).unwrap();
    let desk = Desk::new().await;
    let mut found = String::new();
    for line in expected.lines().filter(|line| line.starts_with("$ ") || line.starts_with("# ")) {
        match line.strip_prefix("$ ") {
            Some(typed) => write!(found, "{line}\n{}\n", desk.type_line(typed)).unwrap(),
            None => write!(found, "{line}\n\n").unwrap(),
        }
    }
    if std::env::var_os("MOLFLEET_GOLDEN").is_some() {
        fs::write(&golden, &found).unwrap();
        return;
    }
    let blocks = |text: &str| text.split("\n\n").map(str::to_owned).collect::<Vec<_>>();
    for (found, expected) in blocks(&found).iter().zip(blocks(&expected)) {
        assert_eq!(found, &expected, "\n{found}");
    }
    assert_eq!(found, expected);
    assert_eq!(desk.runs().await, ["first"], "a refused push made a run");
}

/// The rule behind the file: no refusal without a cause, a way on, and a code of its kind.
#[test]
fn every_refusal_has_a_hint_and_a_code() {
    let golden = fs::read_to_string(package("golden/bad-input.txt")).unwrap();
    let refusals: Vec<&str> = golden.split("\n\n").filter(|block| block.starts_with("$ ")).collect();
    assert!(refusals.len() >= 40, "{}", refusals.len());
    for refusal in refusals {
        let code: u8 = refusal.lines().last().unwrap().strip_prefix("exit ").unwrap().parse().unwrap();
        assert!([64, 65, 69, 75, 78].contains(&code), "{refusal}");
        assert!(refusal.contains("hint: ") || refusal.contains("hint=\""), "{refusal}");
        assert!(refusal.contains("error: ") || refusal.contains("ERROR "), "{refusal}");
        assert!(!refusal.contains("panicked"), "{refusal}");
    }
}
