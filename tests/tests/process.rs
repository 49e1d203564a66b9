//! Starting and ending real programs, most of them ill-behaved shell scripts.
//!
//! Each long `sleep` has a duration of its own, by which its process is found. Nothing in here needs Redis or an engine.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "one process has to be started from outside of the code under test"
)]

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getsid};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use worker::process::{Ended, Guardian, How, Launcher, Logs, Program, SpawnError, engine_environment};

const WORKER: &str = env!("CARGO_BIN_EXE_worker-under-test");
const PATH: &str = "/usr/bin:/bin";
/// Far more than anything here takes, so that only a hang meets it.
const DEADLINE: Duration = Duration::from_secs(8);

/// A launcher with a guardian and a folder of its own.
struct Bench {
    launcher: Launcher,
    folder: TempDir,
}

impl Bench {
    async fn new(name: &str) -> Self {
        let marker = marker(name);
        let guardian = Guardian::start(WORKER.as_ref(), &["guardian", &marker], &marker).await.unwrap();
        Self { launcher: Launcher::new(guardian), folder: tempfile::tempdir().unwrap() }
    }

    fn program(&self, argv: &[&str]) -> Program {
        let folder = self.folder.path();
        Program {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            folder: folder.to_owned(),
            env: engine_environment(PATH.as_ref(), folder, 3, &[("MOLFLEET_SEED".into(), "42".into())]),
            cores: Vec::new(),
            logs: Some(Logs { folder: folder.to_owned(), name: "engine".into(), bytes_max: 1000 }),
            time_limit: DEADLINE,
            grace: DEADLINE,
        }
    }

    fn script(&self, script: &str) -> Program {
        self.program(&["sh", "-c", script])
    }

    async fn run(&self, program: &Program) -> Result<Ended, SpawnError> {
        let (_sender, stop) = watch::channel(false);
        timeout(DEADLINE, self.launcher.run(program, stop)).await.expect("a program that never ends")
    }

    /// Runs a program and asks it to stop once it has written the file `up`.
    async fn run_and_stop(&self, program: &Program) -> Ended {
        let (sender, stop) = watch::channel(false);
        let stopping = async {
            eventually("the program is up", || self.folder.path().join("up").exists()).await;
            sender.send_replace(true);
        };
        let (ended, ()) =
            timeout(DEADLINE, async { tokio::join!(self.launcher.run(program, stop), stopping) })
                .await
                .expect("a program that can't be stopped");
        ended.unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap()
    }
}

fn marker(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Processes with exactly this command line. One that has ended has none.
fn running(argv: &[&str]) -> Vec<Pid> {
    let wanted: String = argv.iter().map(|argument| [*argument, "\0"].concat()).collect();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|argv| argv == wanted.as_bytes())
        })
        .map(Pid::from_raw)
        .collect()
}

/// A number of seconds that no other run of these tests sleeps for, lest its processes be taken for ours.
fn nap(seconds: u32) -> String {
    format!("{seconds}.{}", std::process::id())
}

fn sleeps(nap: &str) -> bool {
    !running(&["sleep", nap]).is_empty()
}

fn guardian_of(marker: &str) -> Option<Pid> {
    running(&[WORKER, "guardian", marker]).first().copied()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let mut ticks = interval(Duration::from_millis(20));
    let poll = async {
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(timeout(DEADLINE, poll).await.is_ok(), "not within {DEADLINE:?}: {what}");
}

/// A worker that is about to be killed.
struct Victim {
    process: Child,
    marker: String,
    _folder: TempDir,
}

impl Victim {
    fn start(name: &str, script: &str) -> Self {
        let (marker, folder) = (marker(name), tempfile::tempdir().unwrap());
        let process = Command::new(env!("CARGO_BIN_EXE_worker-to-kill"))
            .args([WORKER, &marker, folder.path().to_str().unwrap(), script])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, marker, _folder: folder }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test]
async fn an_exit_code_and_both_outputs_are_reported() {
    let bench = Bench::new("exit").await;
    let ended = bench.run(&bench.script("echo mode 1; echo careful >&2; exit 65")).await.unwrap();
    assert_eq!(ended.how, How::Exited(65));
    assert_eq!((ended.stdout_tail.as_str(), ended.stderr_tail.as_str()), ("mode 1\n", "careful\n"));
    assert_eq!(
        (bench.read("engine.stdout"), bench.read("engine.stderr")),
        ("mode 1\n".into(), "careful\n".into())
    );
}

#[tokio::test]
async fn a_death_by_signal_is_reported() {
    let bench = Bench::new("signal").await;
    // 40 is a real-time signal, which nix has no name for.
    for signal in [11, 9, 40] {
        let ended = bench.run(&bench.script(&format!("kill -{signal} $$"))).await.unwrap();
        assert_eq!(ended.how, How::Signalled(signal));
    }
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_its_grace() {
    let (bench, nap) = (Bench::new("deaf").await, nap(9001));
    let program = Program {
        time_limit: Duration::from_secs(1),
        grace: Duration::from_millis(300),
        ..bench.script(&format!("trap '' TERM; echo deaf; while :; do sleep {nap}; done"))
    };
    let ended = bench.run(&program).await.unwrap();
    assert_eq!((ended.how, ended.stdout_tail.as_str()), (How::TimeLimit, "deaf\n"));
    assert!(ended.elapsed_ms >= 1300, "no grace: {} ms", ended.elapsed_ms);
    eventually("its child is gone", || !sleeps(&nap)).await;
}

#[tokio::test]
async fn a_stopped_program_may_save_its_state() {
    let bench = Bench::new("stop").await;
    let script = "trap 'echo saved; exit 0' TERM; touch up; while :; do sleep 0.05; done";
    let ended = bench.run_and_stop(&bench.script(script)).await;
    assert_eq!((ended.how, ended.stdout_tail.as_str()), (How::Stopped, "saved\n"));
}

#[tokio::test]
async fn the_grace_outlasts_the_leader() {
    let bench = Bench::new("grace").await;
    let engine =
        "(trap 'sleep 0.5; echo saved > checkpoint; exit' TERM; touch up; while :; do sleep 0.05; done)";
    // A driver's shell that dies of SIGTERM at once. Nothing here holds the pipes.
    let ended = bench
        .run_and_stop(&bench.script(&format!("{engine} >/dev/null 2>&1 & exec sleep {}", nap(9002))))
        .await;
    assert_eq!(ended.how, How::Stopped);
    assert_eq!(bench.read("checkpoint"), "saved\n");
}

#[tokio::test]
async fn a_program_is_not_started_when_already_stopped() {
    let bench = Bench::new("late").await;
    let (_sender, stop) = watch::channel(true);
    let ended = bench.launcher.run(&bench.script("touch started"), stop).await.unwrap();
    assert_eq!(ended.how, How::Stopped);
    assert!(!bench.folder.path().join("started").exists());
}

#[tokio::test]
async fn what_a_leader_leaves_in_its_group_is_killed() {
    let (bench, nap) = (Bench::new("grandchild").await, nap(9003));
    let ended = bench.run(&bench.script(&format!("sleep {nap} & exit 3"))).await.unwrap();
    assert_eq!(ended.how, How::Exited(3));
    eventually("the grandchild is gone", || !sleeps(&nap)).await;
}

#[tokio::test]
async fn who_left_the_group_delays_nobody_and_ends_with_the_worker() {
    let (bench, nap) = (Bench::new("escape").await, nap(9004));
    let left = "until [ \"$(ps -o sid= -p $!)\" -eq $! ]; do :; done; echo left";
    let ended = bench.run(&bench.script(&format!("setsid sleep {nap} & {left}"))).await.unwrap();
    assert_eq!((ended.how, ended.stdout_tail.as_str()), (How::Exited(0), "left\n"));
    assert!(sleeps(&nap), "the test needs a process that holds the pipes");
    drop(bench);
    eventually("the guardian killed it", || !sleeps(&nap)).await;
}

#[tokio::test]
async fn no_zombie_is_left() {
    let bench = Bench::new("zombie").await;
    for script in ["echo $$", "echo $$; kill -9 $$"] {
        let ended = bench.run(&bench.script(script)).await.unwrap();
        let leader = Path::new("/proc").join(ended.stdout_tail.trim());
        assert!(!leader.exists(), "{} is still there", leader.display());
    }
}

#[tokio::test]
async fn output_is_bounded() {
    let bench = Bench::new("output").await;
    let ended = bench.run(&bench.script("yes molecule | head -c 9000000; echo; echo the end")).await.unwrap();
    assert_eq!(ended.how, How::Exited(0));
    assert_eq!(ended.stdout_tail.len(), 2048);
    assert!(ended.stdout_tail.ends_with("molecule\n\nthe end\n"));
    let log = bench.read("engine.stdout");
    let (kept, note) = log.split_at(1000);
    assert!(kept.starts_with("molecule\nmolecule\n"));
    // 9,000,000 + "\n" + "the end\n" − 1000 kept.
    assert_eq!(note, "\n[8999009 more bytes of output were dropped: a log keeps 1000]\n");
}

#[tokio::test]
async fn a_full_disk_does_not_disturb_the_program() {
    let bench = Bench::new("full").await;
    symlink("/dev/full", bench.folder.path().join("engine.stdout")).unwrap();
    let ended = bench.run(&bench.script("head -c 500000 /dev/zero && echo fine")).await.unwrap();
    assert_eq!(ended.how, How::Exited(0));
    assert!(ended.stdout_tail.ends_with("fine\n"));
}

#[tokio::test]
async fn an_engine_gets_the_given_environment_and_no_input() {
    let bench = Bench::new("clean").await;
    let ended = bench.run(&bench.program(&["env"])).await.unwrap();
    let mut variables: Vec<&str> = ended.stdout_tail.lines().collect();
    variables.sort_unstable();
    let folder = bench.folder.path().display();
    let mut expected = [
        format!("HOME={folder}"),
        "LANG=C.UTF-8".into(),
        "MOLFLEET_SEED=42".into(),
        format!("MOLFLEET_WORKER={}", marker("clean")),
        "OMP_NUM_THREADS=3".into(),
        format!("PATH={PATH}"),
        format!("TMPDIR={folder}"),
    ];
    expected.sort_unstable();
    assert_eq!(variables, expected);
    let ended = bench.run(&bench.program(&["readlink", "/proc/self/fd/0"])).await.unwrap();
    assert_eq!(ended.stdout_tail, "/dev/null\n");
}

#[tokio::test]
async fn an_engine_does_not_hold_the_pipe_of_the_guardian() {
    // Or the guardian would never see its end.
    let bench = Bench::new("pipe").await;
    let guardian = guardian_of(&marker("pipe")).unwrap();
    let pipe = fs::read_link(format!("/proc/{guardian}/fd/0")).unwrap();
    let ended = bench.run(&bench.program(&["ls", "-l", "/proc/self/fd"])).await.unwrap();
    assert!(ended.stdout_tail.contains("/dev/null"), "{}", ended.stdout_tail);
    assert!(
        !ended.stdout_tail.contains(pipe.to_str().unwrap()),
        "{} is in {}",
        pipe.display(),
        ended.stdout_tail
    );
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing() {
    let bench = Bench::new("dropped").await;
    let naps = [9005, 9006].map(nap);
    let program = bench.script(&format!("sleep {} & exec sleep {}", naps[0], naps[1]));
    let (_sender, stop) = watch::channel(false);
    tokio::select! {
        ended = bench.launcher.run(&program, stop) => panic!("{ended:?}"),
        () = eventually("both run", || naps.iter().all(|nap| sleeps(nap))) => {}
    }
    eventually("both are gone", || !naps.iter().any(|nap| sleeps(nap))).await;
}

#[tokio::test]
async fn many_programs_run_side_by_side() {
    let bench = Bench::new("many").await;
    let programs: Vec<_> = (0..20)
        .map(|code| Program { logs: None, ..bench.script(&format!("sleep 0.1; exit {code}")) })
        .collect();
    let ended = futures::future::join_all(programs.iter().map(|program| bench.run(program))).await;
    let codes: Vec<_> = ended.into_iter().map(|ended| ended.unwrap().how).collect();
    assert_eq!(codes, (0..20).map(How::Exited).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_capture_has_the_whole_output() {
    let bench = Bench::new("capture").await;
    let capture = async |script: &str, time_limit| {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let env: Vec<(String, OsString)> = vec![("PATH".into(), PATH.into())];
        bench.launcher.capture(argv, env, time_limit).await.unwrap()
    };
    let ended = capture("echo AutoDock Vina v1.2.3; head -c 5000 /dev/zero; pwd", DEADLINE).await;
    assert_eq!(ended.how, How::Exited(0));
    assert!(
        ended.stdout_tail.starts_with("AutoDock Vina v1.2.3\n\0") && ended.stdout_tail.ends_with("\0/\n")
    );
    let ended = capture(&format!("exec sleep {}", nap(9007)), Duration::from_millis(100)).await;
    assert_eq!(ended.how, How::TimeLimit);
}

#[tokio::test]
async fn a_program_that_cannot_start_says_whose_fault_it_is() {
    let bench = Bench::new("refused").await;
    let refused = async |program: Program| bench.run(&program).await.unwrap_err();

    let error = refused(bench.program(&["gnina"])).await;
    assert_eq!(error.to_string(), format!("find program `gnina` (searched: `{PATH}`)"));
    assert!(error.is_machine_fault() && error.hint().is_some());

    let error = refused(Program { folder: "/nowhere".into(), ..bench.script("true") }).await;
    assert!(
        matches!(&error, SpawnError::Start { source, .. } if source.kind() == ErrorKind::NotFound),
        "{error}"
    );
    assert!(error.is_machine_fault());

    // One argument may have 128 KiB.
    let error = refused(bench.program(&["echo", &"C".repeat(200_000)])).await;
    assert!(matches!(error, SpawnError::Start { .. }) && !error.is_machine_fault(), "{error}");

    let error = refused(bench.program(&[])).await;
    assert!(matches!(error, SpawnError::NoProgram) && !error.is_machine_fault(), "{error}");
}

#[tokio::test]
async fn a_log_is_made_for_something_to_write_and_ends_no_program() {
    let bench = Bench::new("logs").await;
    let (there, not_there) = (bench.folder.path().join("logs"), PathBuf::from("/dev/null/logs"));
    for folder in [&there, &not_there] {
        let logs = Some(Logs { folder: folder.clone(), name: "engine".into(), bytes_max: 10 });
        let ended = bench.run(&Program { logs, ..bench.script("echo said") }).await.unwrap();
        assert_eq!((ended.how, ended.stdout_tail.as_str()), (How::Exited(0), "said\n"));
    }
    assert_eq!(std::fs::read_to_string(there.join("engine.stdout")).unwrap(), "said\n");
    assert!(!there.join("engine.stderr").exists());
}

#[tokio::test]
async fn a_program_with_a_slash_is_found_in_its_folder() {
    let bench = Bench::new("slash").await;
    symlink("/bin/true", bench.folder.path().join("driver")).unwrap();
    let ended = bench.run(&bench.program(&["./driver"])).await.unwrap();
    assert_eq!(ended.how, How::Exited(0));
}

#[tokio::test]
async fn nothing_outlives_a_killed_worker() {
    let naps @ [member, escaped, unmarked, leader] = &[9008, 9009, 9010, 9011].map(nap);
    let script =
        format!("sleep {member} & setsid sleep {escaped} & env -i sleep {unmarked} & exec sleep {leader}");
    let mut victim = Victim::start("killed", &script);
    eventually("all run", || naps.iter().all(|nap| sleeps(nap))).await;
    let guardian = guardian_of(&victim.marker).unwrap();
    victim.kill();
    eventually("all are gone", || !naps.iter().any(|nap| sleeps(nap))).await;
    eventually("the guardian is gone", || {
        kill(guardian, None).is_err() || guardian_of(&victim.marker).is_none()
    })
    .await;
}

#[tokio::test]
async fn a_guardian_is_out_of_reach_of_what_ends_its_worker() {
    let bench = Bench::new("session").await;
    let guardian = guardian_of(&marker("session")).unwrap();
    assert_ne!(getsid(Some(guardian)), getsid(None));
    let status = fs::read_to_string(format!("/proc/{guardian}/status")).unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
    let blocked = u64::from_str_radix(blocked, 16).unwrap();
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        assert_ne!(blocked & (1 << (signal as i32 - 1)), 0, "{signal} ends it");
    }
    let environ = fs::read(format!("/proc/{guardian}/environ")).unwrap();
    assert!(environ.is_empty(), "{}", String::from_utf8_lossy(&environ));
    drop(bench);
}

#[tokio::test]
async fn a_dead_guardian_is_replaced_and_told_all_groups() {
    // Only who knows the group can end the one without the marker.
    let naps @ [unmarked, leader] = &[9012, 9013].map(nap);
    let mut victim = Victim::start("replaced", &format!("env -i sleep {unmarked} & exec sleep {leader}"));
    eventually("both run", || naps.iter().all(|nap| sleeps(nap))).await;
    let first = guardian_of(&victim.marker).unwrap();
    kill(first, Signal::SIGKILL).unwrap();
    // It leaves the session once it has read what it was told first, and the groups came in the same write.
    let watches = |guardian: Pid| guardian != first && getsid(Some(guardian)) == Ok(guardian);
    eventually("another one watches", || guardian_of(&victim.marker).is_some_and(watches)).await;
    assert!(naps.iter().all(|nap| sleeps(nap)), "the engine must not suffer");
    victim.kill();
    eventually("both are gone", || !naps.iter().any(|nap| sleeps(nap))).await;
}

#[tokio::test]
async fn nothing_runs_without_a_guardian() {
    let folder = tempfile::tempdir().unwrap();
    let exe = folder.path().join("worker");
    symlink(WORKER, &exe).unwrap();
    let marker = marker("unguarded");
    let guardian = Guardian::start(&exe, &["guardian", &marker], &marker).await.unwrap();
    let bench = Bench { launcher: Launcher::new(guardian), folder: tempfile::tempdir().unwrap() };
    fs::remove_file(&exe).unwrap();
    let [guardian] = running(&[exe.to_str().unwrap(), "guardian", &marker])[..] else {
        panic!("no guardian")
    };
    kill(guardian, Signal::SIGKILL).unwrap();
    eventually("it is dead", || kill(guardian, None).is_err()).await;
    let nap = nap(9014);
    let error = bench.run(&bench.program(&["sleep", &nap])).await.unwrap_err();
    assert!(matches!(error, SpawnError::Guardian { .. }) && error.is_machine_fault(), "{error}");
    eventually("the engine is gone", || !sleeps(&nap)).await;
    symlink(WORKER, &exe).unwrap();
    assert_eq!(bench.run(&bench.program(&["true"])).await.unwrap().how, How::Exited(0));
}

#[tokio::test]
async fn a_wrong_guardian_is_refused() {
    for (exe, marker) in
        [("/bin/true", "m"), ("/bin/cat", "marker"), ("/nowhere", "m"), (WORKER, ""), (WORKER, "a\nb")]
    {
        let started = Guardian::start(exe.as_ref(), &[], marker).await;
        assert!(started.is_err(), "`{exe}` with marker `{marker}`");
    }
}
