//! A program in a process group of its own, from start to reaping.
//!
//! Its leader is reaped last, so that its process id, which is the group's, can't be given to anybody else while we signal it.

use std::ffi::OsStr;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};

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

/// A running process group. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Group {
    leader: Child,
    id: Pid,
    children: unix::Signal,
    reaped: bool,
}

impl Group {
    /// Starts a command as the leader of a new group.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        // Before the start, lest the end of a quick program go unheard.
        let children = unix::signal(SignalKind::child())?;
        let leader = command.process_group(0).spawn()?;
        let id =
            leader.id().and_then(|id| i32::try_from(id).ok()).expect("not reaped yet, and pid_max is 2²²");
        Ok(Self { leader, id: Pid::from_raw(id), children, reaped: false })
    }

    /// Its id, which is its leader's process id.
    pub(super) fn id(&self) -> Pid {
        self.id
    }

    /// The leader, for its pipes.
    pub(super) fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Waits until the leader has ended, and leaves it unreaped.
    pub(super) async fn leader_ended(&mut self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        // An error means that it can't be running: nix knows no real-time signals, and ECHILD is for `reap` to report.
        while matches!(waitid(Id::Pid(self.id), look), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)) {
            self.children.recv().await;
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
        let status = self.leader.wait().await;
        self.reaped = true;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            // Tokio reaps the leader of a dropped child.
            self.signal(Signal::SIGKILL);
        }
    }
}
