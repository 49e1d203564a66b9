//! A program in a process group of its own, from start to reaping.
//!
//! Its leader is reaped last, so that its process id, which is the group's, can't be given to anybody else while we signal it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{ChildStderr, ChildStdout, Command};

use super::procfs;

/// How often we look whether a group has ended after its leader; the kernel tells nobody.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A command with an empty environment and no standard input.
#[expect(clippy::disallowed_methods, reason = "the one place of the worker that makes commands")]
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    command
}

/// What becomes readable at the end of a process that is not reaped yet.
fn watch_for_end(process: i32) -> Option<AsyncFd<OwnedFd>> {
    let process = rustix::process::Pid::from_raw(process)?;
    let end = pidfd_open(process, PidfdFlags::empty()).ok()?;
    #[expect(unsafe_code, reason = "tokio has no other way")]
    // SAFETY: an `OwnedFd` is open and the same descriptor until it is dropped, and nothing takes it out before.
    unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }.ok()
}

/// A running process group. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Group {
    /// `None` once it is reaped.
    leader: Option<Child>,
    id: Pid,
    /// Becomes readable when the leader has ended; `None` if the system has no such thing.
    end: Option<AsyncFd<OwnedFd>>,
}

impl Group {
    /// Starts a command as the leader of a new group.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let leader = command.process_group(0).as_std_mut().spawn()?;
        let id = i32::try_from(leader.id()).expect("pid_max is 2²²");
        Ok(Self { leader: Some(leader), id: Pid::from_raw(id), end: watch_for_end(id) })
    }

    /// Its id, which is its leader's process id.
    pub(super) fn id(&self) -> Pid {
        self.id
    }

    /// The leader's standard output and error, which were piped. They can be taken once.
    pub(super) fn output(&mut self) -> io::Result<(ChildStdout, ChildStderr)> {
        let leader = self.leader.as_mut();
        let (stdout, stderr) =
            leader.and_then(|leader| leader.stdout.take().zip(leader.stderr.take())).ok_or(Errno::EBADF)?;
        Ok((ChildStdout::from_std(stdout)?, ChildStderr::from_std(stderr)?))
    }

    /// Waits until the leader has ended, and leaves it unreaped.
    pub(super) async fn leader_ended(&mut self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // An error means that it can't be running: nix knows no real-time signals, and ECHILD is for `reap` to report.
        while matches!(waitid(Id::Pid(self.id), look), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)) {
            match &self.end {
                Some(end) if let Ok(mut heard) = end.readable().await => heard.clear_ready(),
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Waits until the leader and all others of the group have ended.
    pub(super) async fn all_ended(&mut self) {
        self.leader_ended().await;
        while procfs::group_runs(self.id) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Sends a signal to every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        // The unreaped leader keeps the group in being, so the only error left is EPERM, of a set-uid program.
        if let Err(error) = killpg(self.id, signal) {
            tracing::warn!(group = self.id.as_raw(), %signal, %error, "process group not signalled");
        }
    }

    /// Kills whatever is left and reaps the leader.
    pub(super) async fn reap(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL);
        self.leader_ended().await;
        match self.leader.take() {
            Some(mut leader) => leader.wait(),
            None => Err(Errno::ECHILD.into()),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(mut leader) = self.leader.take() {
            self.signal(Signal::SIGKILL);
            // It may take its time to die. Without a thread to wait for it, it is a zombie until the worker ends.
            _ = std::thread::Builder::new().spawn(move || leader.wait());
        }
    }
}
