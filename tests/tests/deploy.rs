//! What is installed on machines of a fleet: the service unit, its environment file, images, and the script for static programs.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "tests start programs")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::exit_code;

/// Set by the unit for every worker that reads it.
const PASSWORD_FILE: &str = "MOLFLEET_REDIS_PASSWORD_FILE";
const LAUNCHPAD: &str = env!("CARGO_BIN_EXE_launchpad-under-test");
const WORKER: &str = env!("CARGO_BIN_EXE_worker-under-test");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn exists(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// All values of a setting of the unit, split at spaces.
fn setting(name: &str) -> Vec<String> {
    let unit = read("deploy/systemd/molfleet-worker.service");
    let values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[test]
fn the_service_agrees_with_the_workers_exit_codes_and_its_time_to_leave() {
    assert_eq!(setting("Restart"), ["always"]);
    let stays_down: Vec<u8> =
        setting("RestartPreventExitStatus").iter().map(|code| code.parse().unwrap()).collect();
    assert_eq!(stays_down, [exit_code::OK, exit_code::CONFIG]);
    assert_eq!(setting("SuccessExitStatus"), [exit_code::TRY_AGAIN.to_string()]);
    // SIGTERM is the worker's alone; engines get theirs from it. 15 s is what docs/operations.md promises.
    assert_eq!(setting("KillMode"), ["mixed"]);
    let seconds: u64 = setting("TimeoutStopSec")[0].parse().unwrap();
    assert!((16..=60).contains(&seconds), "{seconds}");
    assert_eq!(setting("OOMPolicy"), ["continue"]);
    assert_eq!(setting("User"), ["molfleet"]);
    assert!(setting("AmbientCapabilities").is_empty());
}

#[test]
fn the_service_names_flags_and_variables_that_the_worker_has() {
    let help = String::from_utf8(run(WORKER, &["--help"]).stdout).unwrap();
    let files = read("deploy/systemd/molfleet-worker.service") + &read("deploy/systemd/worker.env");
    let words = files.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
    let named: BTreeSet<&str> =
        words.filter(|word| word.starts_with("MOLFLEET_") || word.starts_with("--")).collect();
    assert!(named.len() >= 7, "{named:?}");
    let unknown = named.into_iter().find(|name| !help.contains(name) && *name != PASSWORD_FILE);
    assert_eq!(unknown, None, "it is in deploy/systemd and not in `worker --help`");
}

#[test]
fn systemd_takes_the_unit_and_the_user() {
    if !exists("systemd-analyze") {
        return; // The two tests above hold the unit against the worker without it.
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("molfleet-worker.service");
    fs::write(&unit, read("deploy/systemd/molfleet-worker.service").replace("/usr/local/bin/worker", WORKER))
        .unwrap();
    let unit = unit.to_str().unwrap();
    let verified = run("systemd-analyze", &["verify", "--man=no", unit]);
    let told = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !told.contains("molfleet-worker"), "{told}");
    let exposed = run("systemd-analyze", &["security", "--offline=true", "--threshold=40", unit]);
    assert!(exposed.status.success(), "{}", String::from_utf8_lossy(&exposed.stdout));
    let user = root().join("deploy/systemd/molfleet.sysusers");
    let user = run("systemd-sysusers", &["--dry-run", user.to_str().unwrap()]);
    assert!(user.status.success(), "{}", String::from_utf8_lossy(&user.stderr));
}

/// The targets that `cargo install --path` installs, from cargo itself.
#[test]
fn a_package_installs_its_program_and_nothing_else() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    for package in ["launchpad", "worker"] {
        let found =
            metadata["packages"].as_array().unwrap().iter().find(|found| found["name"] == package).unwrap();
        let targets = found["targets"].as_array().unwrap().iter().filter(|target| target["kind"][0] == "bin");
        let programs: Vec<_> = targets.map(|target| target["name"].as_str().unwrap()).collect();
        assert_eq!(programs, [package]);
    }
}

/// Calls a function of `scripts/build-static`, which sourcing does not run.
fn build_static(function: &str, program: &str) -> bool {
    let script = root().join("scripts/build-static");
    let line = r#". "$1" && set +e && "$2" "$3""#;
    let arguments = ["-c", line, "bash", script.to_str().unwrap(), function, program];
    run("bash", &arguments).status.success()
}

#[test]
fn a_program_that_needs_shared_libraries_is_not_called_static() {
    assert!(!build_static("is_static", LAUNCHPAD));
    assert!(!build_static("is_static", "/bin/sh"));
    // Debian's is linked statically, so that it works when nothing else does.
    if Path::new("/sbin/ldconfig.real").exists() || Path::new("/etc/debian_version").exists() {
        assert!(build_static("is_static", "/sbin/ldconfig"));
    }
}

/// What scripts/build-static does where there is no musl, on a program of one line: building ours that way takes minutes.
#[test]
fn a_program_with_static_glibc_is_static_and_finds_hosts() {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("look.rs"), folder.path().join("look"));
    let code = r#"fn main() { std::net::TcpStream::connect("localhost:1").unwrap_or_else(|error| panic!("{error}")); }"#;
    fs::write(&source, code).unwrap();
    let [source, program] = [&source, &program].map(|path| path.to_str().unwrap());
    let compiled = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--target",
            &target,
            "-C",
            "target-feature=+crt-static",
            "-o",
            program,
            source,
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    assert!(build_static("is_static", program));
    let told = String::from_utf8(run(program, &[]).stderr).unwrap();
    assert!(told.to_lowercase().contains("connection refused"), "{told}");
}

#[test]
fn a_program_that_looks_up_no_name_is_refused() {
    assert!(build_static("looks_up_names", LAUNCHPAD));
    assert!(!build_static("looks_up_names", "/bin/true"));
}

#[test]
fn compose_takes_its_file() {
    let compose = root().join("docker/compose.yaml");
    let compose = compose.to_str().unwrap();
    let has_compose = Command::new("docker").args(["compose", "version"]).output();
    if has_compose.is_ok_and(|told| told.status.success()) {
        let checked = run("docker", &["compose", "-f", compose, "config", "-q"]);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
    // Without docker: what the file and the image have to agree on.
    let (file, image) = (read("docker/compose.yaml"), read("docker/Dockerfile"));
    assert!(file.contains("dockerfile: docker/Dockerfile") && image.contains("USER 10001"));
    let rust = read("rust-toolchain.toml");
    let version = rust.split("channel = \"").nth(1).unwrap().split('"').next().unwrap();
    let series = version.rsplit_once('.').unwrap().0;
    assert!(
        image.contains(&format!("FROM rust:{series}-slim")),
        "the image builds with another Rust than {series}"
    );
}
