//! Runs one program from start to end: its group, its limits and its output in one place.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use std::os::unix::process::ExitStatusExt as _;

use bytes::Bytes;
use common::clock::{Clock as _, SystemClock};
use nix::sys::signal::Signal;
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{mpsc, watch};

use super::affinity::start_on;
use super::group::{self, Group};
use super::output::{Log, forward, record};
use super::{Ended, Guardian, How, Program, SpawnError, find_program, guardian};

/// How much of each stream [`Ended`] has.
const TAIL_BYTES_MAX: usize = 2048;
/// How much of each stream [`Launcher::capture`] returns: `gmx --version` prints 3 kB, and the version comes first.
const CAPTURE_BYTES_MAX: usize = 64 * 1024;
/// How long to read on after a group has ended. Only a process that has left the group can hold its pipes open any longer.
const DRAIN: Duration = Duration::from_secs(2);
/// Between SIGTERM and SIGKILL for [`Launcher::capture`], whose programs have nothing to save.
const CAPTURE_GRACE: Duration = Duration::from_secs(1);

/// Where a program reads from and, unless it is recorded, writes to.
struct Streams {
    input: Stdio,
    output: Option<mpsc::Sender<Bytes>>,
}

/// Starts programs, each in a process group of its own that the guardian knows of.
#[derive(Debug)]
pub struct Launcher {
    guardian: Guardian,
}

impl Launcher {
    /// Has what it starts guarded by `guardian`.
    pub fn new(guardian: Guardian) -> Self {
        Self { guardian }
    }

    /// Runs a program until it ends, by itself, at its time limit or soon after `stop` turns true.
    ///
    /// When this returns, no process of its group is left. Dropping the future kills the group.
    pub async fn run(&self, program: &Program, stop: watch::Receiver<bool>) -> Result<Ended, SpawnError> {
        self.supervise(program, TAIL_BYTES_MAX, stop).await
    }

    /// The same with the program's standard output handed over piece by piece, at the pace of whoever takes it, and with a file as
    /// its standard input, if there is one. [`Ended::stdout_tail`] stays empty. When the taker is gone, the program is left to write
    /// into a closed pipe.
    pub async fn stream(
        &self,
        program: &Program,
        input: Option<std::fs::File>,
        output: mpsc::Sender<Bytes>,
        stop: watch::Receiver<bool>,
    ) -> Result<Ended, SpawnError> {
        let input = input.map_or_else(Stdio::null, Stdio::from);
        self.oversee_with(program, TAIL_BYTES_MAX, stop, Streams { input, output: Some(output) }).await
    }

    /// Runs a short program in `/` for its output, at most 64 KiB of each stream, such as the version of an engine.
    pub async fn capture(
        &self,
        argv: Vec<String>,
        env: Vec<(String, OsString)>,
        time_limit: Duration,
    ) -> Result<Ended, SpawnError> {
        let program = Program {
            argv,
            folder: PathBuf::from("/"),
            env,
            cores: Vec::new(),
            logs: None,
            time_limit,
            grace: CAPTURE_GRACE,
        };
        let (_never, stop) = watch::channel(false);
        self.supervise(&program, CAPTURE_BYTES_MAX, stop).await
    }

    async fn supervise(
        &self,
        program: &Program,
        tail_bytes_max: usize,
        stop: watch::Receiver<bool>,
    ) -> Result<Ended, SpawnError> {
        let streams = Streams { input: Stdio::null(), output: None };
        self.oversee_with(program, tail_bytes_max, stop, streams).await
    }

    async fn oversee_with(
        &self,
        program: &Program,
        tail_bytes_max: usize,
        mut stop: watch::Receiver<bool>,
        streams: Streams,
    ) -> Result<Ended, SpawnError> {
        if *stop.borrow() {
            return Ok(Ended {
                how: How::Stopped,
                elapsed_ms: 0,
                stdout_tail: String::new(),
                stderr_tail: String::new(),
            });
        }
        let executable = locate(program)?;
        let (stdout_log, stderr_log) = (log(program, "stdout"), log(program, "stderr"));
        let (mut group, stdout, stderr) = self.start(program, &executable, streams.input)?;
        let clock = SystemClock::start();
        let registration =
            self.guardian.register(group.id()).await.map_err(|source| SpawnError::Guardian { source })?;

        let (ended, _) = watch::channel(false);
        let oversee = async {
            let ours = oversee(&mut group, program, &mut stop).await;
            let elapsed_ms = clock.elapsed_ms();
            let status = group.reap().await;
            drop(registration);
            ended.send_replace(true);
            (ours, elapsed_ms, status)
        };
        let ((ours, elapsed_ms, status), stdout_tail, stderr_tail) = tokio::join!(
            oversee,
            async {
                match streams.output {
                    Some(to) => {
                        forward(stdout, to, drained(ended.subscribe())).await;
                        String::new()
                    }
                    None => record(stdout, stdout_log, tail_bytes_max, drained(ended.subscribe())).await,
                }
            },
            record(stderr, stderr_log, tail_bytes_max, drained(ended.subscribe())),
        );
        let status = status.map_err(|source| SpawnError::Wait { program: executable, source })?;
        Ok(Ended { how: ours.unwrap_or_else(|| by_itself(status)), elapsed_ms, stdout_tail, stderr_tail })
    }

    fn start(
        &self,
        program: &Program,
        executable: &Path,
        input: Stdio,
    ) -> Result<(Group, ChildStdout, ChildStderr), SpawnError> {
        let mut command = group::command(executable);
        command
            .args(program.argv.iter().skip(1))
            .current_dir(&program.folder)
            .envs(program.env.iter().map(|(name, value)| (name, value)))
            .env(guardian::MARKER_VARIABLE, self.guardian.marker())
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = start_on(&program.cores, || Group::start(&mut command)).and_then(|mut group| {
            let (stdout, stderr) = group.output()?;
            Ok((group, stdout, stderr))
        });
        started.map_err(|source| SpawnError::Start {
            program: executable.to_owned(),
            folder: program.folder.clone(),
            source,
        })
    }
}

/// Waits for the end of a program, or brings it about and says why.
async fn oversee(group: &mut Group, program: &Program, stop: &mut watch::Receiver<bool>) -> Option<How> {
    let why = tokio::select! {
        biased;
        () = group.leader_ended() => return None,
        () = asked(stop) => How::Stopped,
        () = tokio::time::sleep(program.time_limit) => How::TimeLimit,
    };
    group.signal(Signal::SIGTERM);
    // A driver's shell dies of SIGTERM at once, while the engine below it writes its checkpoint: the grace is the whole group's.
    if tokio::time::timeout(program.grace, group.all_ended()).await.is_err() {
        tracing::debug!(program = ?program.argv.first(), "still running after its grace");
    }
    Some(why)
}

/// Waits until it is asked to stop; for ever if nobody can ask any more.
async fn asked(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until the pipes of a group that has ended must have been read.
async fn drained(mut ended: watch::Receiver<bool>) {
    if ended.wait_for(|ended| *ended).await.is_ok() {
        tokio::time::sleep(DRAIN).await;
    }
}

fn by_itself(status: ExitStatus) -> How {
    // One of them is always there: we don't ask for stopped children.
    status.code().map_or_else(|| How::Signalled(status.signal().unwrap_or_default()), How::Exited)
}

fn locate(program: &Program) -> Result<PathBuf, SpawnError> {
    let name = program.argv.first().ok_or(SpawnError::NoProgram)?;
    let path = program.env.iter().rfind(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, path)| path);
    let in_folder = || program.folder.join(name).to_str().and_then(|file| find_program(file, path));
    let found = if name.contains('/') { in_folder() } else { find_program(name, path) };
    found.ok_or_else(|| SpawnError::NotFound { program: name.clone(), path: path.to_owned() })
}

fn log(program: &Program, ending: &str) -> Option<Log> {
    let logs = program.logs.as_ref()?;
    Some(Log::new(logs.folder.join(format!("{}.{ending}", logs.name)), logs.bytes_max))
}
