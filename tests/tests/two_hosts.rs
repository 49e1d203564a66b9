//! docs/two-hosts.md, typed: Redis with a password on one host, workers on two. The hosts are two folders of this machine with an
//! address of their own; with `MOLFLEET_TEST_NAMESPACES=1`, as `tests/two-hosts-in-namespaces` sets it, two network namespaces.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use tests::eventually;

/// The address of host A in the namespaces.
const ADDRESS_IN_NAMESPACES: &str = "10.77.0.1";

/// A host: a folder, what it has been told to export, and a way to run a shell on it.
struct Host {
    name: &'static str,
    folder: PathBuf,
    exports: String,
    in_namespace: bool,
}

impl Host {
    fn new(root: &Path, name: &'static str, in_namespace: bool) -> Self {
        let folder = root.join(format!("host {name}"));
        for part in ["bin", "home", "fleet"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        symlink(env!("CARGO_BIN_EXE_launchpad-under-test"), folder.join("bin/launchpad")).unwrap();
        symlink(env!("CARGO_BIN_EXE_worker-under-test"), folder.join("bin/worker")).unwrap();
        Self { name, folder, exports: String::new(), in_namespace }
    }

    /// A shell that types a block after everything that was exported before. It sees one core, so that each host takes one task at a time.
    fn shell(&self, block: &str) -> Command {
        let script = format!("set -eu\n{}{block}", self.exports);
        let words: &[&str] = if self.in_namespace { &["ip", "netns", "exec"] } else { &[] };
        let namespace = format!("molfleet-{}", self.name);
        let namespace = self.in_namespace.then_some(namespace.as_str());
        let words: Vec<&str> = words
            .iter()
            .copied()
            .chain(namespace)
            .chain(["taskset", "-c", "0", "sh", "-c", &script])
            .collect();
        let mut shell = Command::new(words[0]);
        shell.args(&words[1..]).current_dir(&self.folder).stdin(Stdio::null());
        shell.env_remove("MOLFLEET_REDIS").env_remove("MOLFLEET_STORE").env("NO_COLOR", "1");
        shell.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.folder.join("bin").display()));
        shell.env("HOME", self.folder.join("home")).env("TMPDIR", "/tmp");
        shell
            .env("MOLFLEET_SCRATCH", self.folder.join("scratch"))
            .env("MOLFLEET_CACHE", self.folder.join("cache"));
        shell
    }

    /// Types a block, remembers its exports, and gives what it printed.
    fn types(&mut self, block: &str) -> String {
        let output = self.shell(block).output().unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(
            output.status.success(),
            "on {}: `{block}` ended with {}: {stdout}{stderr}",
            self.name,
            output.status
        );
        let exports = block.lines().filter(|line| line.starts_with("export "));
        self.exports.extend(exports.map(|line| format!("{line}\n")));
        stdout
    }

    /// Starts a block and leaves it running, its output in a file.
    fn starts(&self, block: &str) -> Running {
        let log = File::create(self.folder.join("log")).unwrap();
        Running(self.shell(block).process_group(0).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap()
    }
}

/// A block that somebody left running. Whatever still runs of it is killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Usually all of it is gone.
        _ = killpg(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGKILL);
        _ = self.0.wait();
    }
}

/// Where the programs don't read a file of the password themselves, its content goes where they look for it.
fn with_password(block: &str) -> String {
    let help = Command::new(env!("CARGO_BIN_EXE_worker-under-test")).arg("--help").output().unwrap();
    if String::from_utf8_lossy(&help.stdout).contains("MOLFLEET_REDIS_PASSWORD_FILE") {
        return block.to_owned();
    }
    let url = r#"export MOLFLEET_REDIS="redis://:$(cat "$MOLFLEET_REDIS_PASSWORD_FILE")@$HOST_A:6390""#;
    format!("{block}{url}\n")
}

/// Ends the Redis that the page started in the background.
struct RedisOf(PathBuf);

impl Drop for RedisOf {
    fn drop(&mut self) {
        let pid =
            fs::read_to_string(self.0.join("fleet/redis/pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid {
            // It may be gone already.
            _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The blocks that the page says somebody types, each with where.
fn blocks() -> Vec<(String, String)> {
    let page = fs::read_to_string(document("docs/two-hosts.md")).unwrap();
    let typed = page.split("```sh\n# on ").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    typed
        .map(|block| {
            let (place, lines) = block.split_once('\n').unwrap();
            (place.to_owned(), format!("{lines}\n"))
        })
        .collect()
}

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// What a user has beside the page: molecules and a receptor on A, and on B the password and the mount.
fn provide(a: &Host) {
    let example = document("examples/t4l-l99a");
    fs::copy(example.join("receptor.pdb"), a.folder.join("receptor.pdb")).unwrap();
    fs::copy(example.join("benzene.sdf"), a.folder.join("pose.sdf")).unwrap();
    let ligands = "c1ccccc1 benzene\nCc1ccccc1 toluene\nOc1ccccc1 phenol\nNc1ccccc1 aniline\n";
    fs::write(a.folder.join("ligands.smi"), ligands).unwrap();
}

#[tokio::test]
async fn the_page_leads_to_two_workers_on_two_hosts_and_one_table() {
    let root: TempDir = tempfile::Builder::new().prefix("two hosts ").tempdir_in("/tmp").unwrap();
    let in_namespaces = std::env::var_os("MOLFLEET_TEST_NAMESPACES").is_some();
    let id = std::process::id();
    let address = if in_namespaces {
        ADDRESS_IN_NAMESPACES.to_owned()
    } else {
        format!("127.{}.{}.9", id / 256 % 256, id % 256)
    };
    let mut a = Host::new(root.path(), "a", in_namespaces);
    let mut b = Host::new(root.path(), "b", in_namespaces);
    let _redis = RedisOf(a.folder.clone());
    provide(&a);
    let blocks = blocks();
    assert!(blocks.len() >= 8, "{blocks:?}");
    let mut worked = false;
    for (place, block) in &blocks {
        let mut block = block.replace("10.0.0.1", &address);
        if block.contains("MOLFLEET_REDIS_PASSWORD_FILE") {
            fs::copy(a.folder.join("fleet/redis-password"), b.folder.join("fleet/redis-password")).unwrap();
            block = with_password(&block);
        }
        match place.split(':').next().unwrap() {
            "A" => _ = a.types(&block),
            "B" => _ = b.types(&block),
            "both" => {
                for host in [&mut a, &mut b] {
                    host.types(&block);
                }
            }
            "both, at the same time" => {
                work(&mut a, &b, &block).await;
                worked = true;
            }
            other => panic!("who is `{other}`?"),
        }
        if !a.folder.join("shared").exists() || b.folder.join("mounted").exists() {
            continue;
        }
        symlink(a.folder.join("shared"), b.folder.join("mounted")).unwrap();
    }
    assert!(worked);
    let table = fs::read_to_string(a.folder.join("results.csv")).unwrap();
    assert_eq!(table.lines().filter(|line| line.contains(",ok,")).count(), 4, "{table}");
    assert!(!a.log().contains(&password(&a)) && !b.log().contains(&password(&a)), "the password is in a log");
    // Nobody gets in without it.
    let refused = b.shell("unset MOLFLEET_REDIS_PASSWORD_FILE; export MOLFLEET_REDIS=redis://$HOST_A:6390; launchpad status").output().unwrap();
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("NOAUTH"),
        "{refused:?}"
    );
}

fn password(a: &Host) -> String {
    fs::read_to_string(a.folder.join("fleet/redis-password")).unwrap()
}

/// Starts both workers on a paused run and resumes it when both are there: then each gets some of it.
async fn work(a: &mut Host, b: &Host, block: &str) {
    a.types("launchpad pause shared-run");
    let mut workers = [a.starts(block), b.starts(block)];
    eventually("two workers are registered", || {
        let listed = a.types("launchpad workers --json");
        let workers = listed.matches("\"id\":").count();
        async move { if workers == 2 { Ok(()) } else { Err(listed) } }
    })
    .await;
    a.types("launchpad resume shared-run");
    for (host, worker) in [&*a, b].into_iter().zip(&mut workers) {
        let ended = worker.0.wait().unwrap();
        assert!(ended.success(), "on {}: {ended}: {}", host.name, host.log());
        assert!(host.log().contains("task succeeded"), "{} did nothing: {}", host.name, host.log());
    }
}
