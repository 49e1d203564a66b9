//! The worker's side of the guardian: starts it, tells it the process groups, and replaces it when it dies.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::READY;
use crate::process::group;

/// How long a guardian may take to start, or to read a line while its pipe is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// The guardian of one worker. Dropping it, and so any end of the worker, sets the guardian to work.
#[derive(Debug)]
pub struct Guardian {
    marker: String,
    orders: mpsc::UnboundedSender<Order>,
}

#[derive(Debug)]
enum Order {
    Register(Pid, oneshot::Sender<io::Result<()>>),
    Unregister(Pid),
}

impl Guardian {
    /// Starts the guardian: `exe` with `args`, which must call [`super::main_loop`]. Call it within a tokio runtime.
    ///
    /// `marker` is unique to this worker: letters, digits, `_`, `-` and `.`. The worker itself must not have it in its environment.
    pub async fn start(exe: &Path, args: &[&str], marker: &str) -> io::Result<Self> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if marker.is_empty() || !marker.bytes().all(valid) {
            let reason =
                format!("marker `{marker}` has other characters than letters, digits, `_`, `-` and `.`");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let recipe = Recipe {
            exe: exe.to_owned(),
            args: args.iter().map(OsString::from).collect(),
            marker: marker.to_owned(),
        };
        let running = Some(recipe.start(&BTreeSet::new()).await?);
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(Keeper { recipe, groups: BTreeSet::new(), unsaid: Vec::new(), running }.keep(inbox));
        Ok(Self { marker: marker.to_owned(), orders })
    }

    /// The value of [`super::MARKER_VARIABLE`] for every process that the worker starts.
    pub fn marker(&self) -> &str {
        &self.marker
    }

    /// Has a process group killed if the worker ends before the registration is dropped.
    pub(in crate::process) async fn register(&self, group: Pid) -> io::Result<Registration> {
        let (reply, replied) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the runtime is shutting down");
        self.orders.send(Order::Register(group, reply)).map_err(|_| gone())?;
        let registration = Registration { group, orders: self.orders.clone() };
        replied.await.map_err(|_| gone())??;
        Ok(registration)
    }
}

/// A registered process group, until dropped.
#[derive(Debug)]
pub(in crate::process) struct Registration {
    group: Pid,
    orders: mpsc::UnboundedSender<Order>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // It fails only while the runtime is shutting down, when the guardian is about to look at the group itself.
        _ = self.orders.send(Order::Unregister(self.group));
    }
}

/// How a guardian is started.
#[derive(Debug)]
struct Recipe {
    exe: PathBuf,
    args: Vec<OsString>,
    marker: String,
}

impl Recipe {
    /// Starts a guardian that knows these groups once it says that it watches.
    async fn start(&self, groups: &BTreeSet<Pid>) -> io::Result<Running> {
        let mut child = group::command(&self.exe)
            .args(&self.args)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The worker's own would be held open for whoever waits for its end.
            .stderr(Stdio::null())
            .spawn()?;
        let pipe = child.stdin.take().expect("it was asked for");
        let mut stdout = child.stdout.take().expect("it was asked for");
        let mut running = Running { child, pipe };
        // All in one write: a worker that is killed after it leaves a guardian that has everything in its pipe.
        let groups: Vec<String> = groups.iter().map(|group| format!("+{group}\n")).collect();
        running.tell(&format!("={}\n{}", self.marker, groups.concat())).await?;
        let mut answer = [0; READY.len()];
        timeout(PATIENCE, stdout.read_exact(&mut answer)).await??;
        if answer != READY.as_bytes() {
            let reason = format!("`{}` with these arguments is no guardian", self.exe.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(running)
    }
}

/// A guardian process.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Not left in `child`, whose `wait` would close it.
    pipe: ChildStdin,
}

impl Running {
    async fn tell(&mut self, line: &str) -> io::Result<()> {
        timeout(PATIENCE, self.pipe.write_all(line.as_bytes())).await?
    }
}

/// Owns the guardian process and knows what it should know.
#[derive(Debug)]
struct Keeper {
    recipe: Recipe,
    groups: BTreeSet<Pid>,
    /// What the guardian is told together with the next group: which ones have ended. Each line wakes a process, and this one can
    /// wait: a group that has ended has no process with the marker, so knowing it for too long kills nobody.
    unsaid: Vec<Pid>,
    /// `None` while it can't be started.
    running: Option<Running>,
}

impl Keeper {
    async fn keep(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                () = died(self.running.as_mut()) => {
                    tracing::warn!(groups = self.groups.len(), "guardian died, starting another");
                    if let Err(error) = self.restart().await {
                        tracing::warn!(%error, "guardian not started, trying again before the next program");
                    }
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Register(group, reply) => {
                self.groups.insert(group);
                let ended: Vec<String> = self.unsaid.drain(..).map(|ended| format!("-{ended}\n")).collect();
                let told = match self.tell(&format!("{}+{group}\n", ended.concat())).await {
                    Ok(()) => Ok(()),
                    Err(_) => self.restart().await,
                };
                // Nobody listens if the program was stopped meanwhile.
                _ = reply.send(told);
            }
            Order::Unregister(group) => {
                // A guardian that dies before it hears of it leaves a next one that won't be told of this group.
                self.groups.remove(&group);
                self.unsaid.push(group);
            }
        }
    }

    async fn tell(&mut self, line: &str) -> io::Result<()> {
        match &mut self.running {
            Some(running) => running.tell(line).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Starts another guardian and tells it all groups.
    async fn restart(&mut self) -> io::Result<()> {
        if let Some(mut old) = self.running.take() {
            // Dead before its pipe closes, or it would kill the engines of a living worker.
            old.child.kill().await?;
        }
        self.unsaid.clear();
        self.running = Some(self.recipe.start(&self.groups).await?);
        Ok(())
    }
}

/// Waits until the guardian has died.
async fn died(running: Option<&mut Running>) {
    match running {
        // An error means that somebody else reaped it, so that it is as dead.
        Some(running) => _ = running.child.wait().await,
        None => std::future::pending().await,
    }
}
