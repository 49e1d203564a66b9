//! A `redis-server` with a configuration of a test's own: TLS, users, limits, replica, sentinel, node of a cluster. Killed with the
//! test. Knows nothing of the queue.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::eventually;

/// How many ports to try: another process may take a free one before the server does.
const PORT_TRIES: u32 = 5;

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    is_sentinel: bool,
}

impl Server {
    /// Starts a server; `configure` gives the lines of its configuration beside port, address, folder and persistence.
    pub async fn start(configure: impl Fn(u16, &Path) -> String) -> Self {
        Self::start_as(false, configure).await
    }

    /// Starts a sentinel.
    pub async fn sentinel(configure: impl Fn(u16, &Path) -> String) -> Self {
        Self::start_as(true, configure).await
    }

    async fn start_as(is_sentinel: bool, configure: impl Fn(u16, &Path) -> String) -> Self {
        for _ in 0..PORT_TRIES {
            let folder = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let own = configure(port, folder.path());
            // A server with TLS listens there only.
            let port_line =
                if own.contains("tls-port") { "port 0".to_owned() } else { format!("port {port}") };
            let save = if is_sentinel { "" } else { "save \"\"\n" };
            let lines =
                format!("{port_line}\nbind 127.0.0.1\ndir {}\n{save}{own}\n", folder.path().display());
            fs::write(folder.path().join("redis.conf"), lines).unwrap();
            let child = spawn(folder.path(), is_sentinel);
            let mut server = Self { child, port, folder, is_sentinel };
            if server.listens().await {
                return server;
            }
        }
        panic!("no Redis after {PORT_TRIES} ports");
    }

    /// Waits until the server takes connections; false if it ended instead.
    async fn listens(&mut self) -> bool {
        let (child, port) = (&mut self.child, self.port);
        eventually("redis-server listens", || {
            let ended = child.try_wait().unwrap().is_some();
            let taken = TcpStream::connect(("127.0.0.1", port));
            async move {
                match taken {
                    _ if ended => Ok(false),
                    Ok(_) => Ok(true),
                    Err(error) => Err(error.to_string()),
                }
            }
        })
        .await
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, without TLS and user.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A file in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Kills it and waits for its end.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, with what its configuration file holds now.
    pub async fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.is_sentinel);
        assert!(self.listens().await, "redis-server did not start again on port {}", self.port);
    }

    /// Has `redis-cli` send a command over a plain connection, as `--user … --pass …` if they are among the words, and gives what it
    /// prints.
    pub fn cli(&self, words: &[&str]) -> String {
        #[expect(clippy::disallowed_methods, reason = "tests start programs")]
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "--no-auth-warning"]).args(words);
        let output = command.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }
}

/// How far a server's writes have come, in bytes, by its `INFO replication`.
pub fn replication_offset(about: &str) -> Option<u64> {
    about.lines().find_map(|line| line.strip_prefix("master_repl_offset:")?.trim().parse().ok())
}

/// Whether a replica has all that its primary has, by the `INFO replication` of both. `WAIT` would tell only of what the asking
/// connection has written itself.
pub fn has_copied(primary: &str, replica: &str) -> Result<(), String> {
    let is_level = replication_offset(primary).is_some_and(|at| replication_offset(replica) == Some(at));
    if is_level && replica.contains("master_link_status:up") {
        Ok(())
    } else {
        Err(format!("{primary}\n{replica}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself or by `kill9`; then there is nothing to kill.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start their own Redis")]
fn spawn(folder: &Path, is_sentinel: bool) -> Child {
    let mut command = Command::new("redis-server");
    command.arg(folder.join("redis.conf"));
    if is_sentinel {
        command.arg("--sentinel");
    }
    let log = fs::File::create(folder.join("redis.log")).unwrap();
    command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("redis-server can't be started: {error}"))
}
