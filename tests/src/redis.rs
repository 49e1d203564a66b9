//! A Redis server of a test's own: free port, private folder, killed with the test. Knows nothing of the queue.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::eventually;

/// How many ports to try: another process may take a free one before the server does.
const PORT_TRIES: u32 = 5;

/// What a server keeps on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing.
    None,
    /// An append-only file that is synced every second, as that of `launchpad local`.
    EverySecond,
    /// An append-only file that is synced before each answer, so that `kill9` loses nothing.
    Always,
}

impl Persistence {
    const fn flags(self) -> [&'static str; 4] {
        match self {
            Self::None => ["--appendonly", "no", "--appendfsync", "no"],
            Self::EverySecond => ["--appendonly", "yes", "--appendfsync", "everysec"],
            Self::Always => ["--appendonly", "yes", "--appendfsync", "always"],
        }
    }
}

/// A running `redis-server`.
#[derive(Debug)]
pub struct TestRedis {
    child: Mutex<Child>,
    port: u16,
    folder: TempDir,
    persistence: Persistence,
}

impl TestRedis {
    /// Starts a server that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::start_with(Persistence::None).await
    }

    /// Starts a server that writes every command to an append-only file before it answers, so that `kill9` loses nothing.
    pub async fn start_durable() -> Self {
        Self::start_with(Persistence::Always).await
    }

    /// Starts a server that keeps this on disk.
    pub async fn start_with(persistence: Persistence) -> Self {
        for _ in 0..PORT_TRIES {
            let folder = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let child = spawn(port, &folder, persistence);
            let redis = Self { child: Mutex::new(child), port, folder, persistence };
            if redis.is_ready().await {
                return redis;
            }
        }
        panic!("no Redis after {PORT_TRIES} ports");
    }

    /// Waits until the server answers; false if it ended instead.
    async fn is_ready(&self) -> bool {
        let client = redis::Client::open(self.url()).unwrap();
        eventually("redis-server answers", || {
            let ended = self.child.lock().unwrap().try_wait().unwrap().is_some();
            let client = client.clone();
            async move {
                if ended {
                    return Ok(false);
                }
                let mut connection =
                    client.get_multiplexed_async_connection().await.map_err(|error| error.to_string())?;
                let pong = redis::pipe().ping().exec_async(&mut connection).await;
                pong.map(|()| true).map_err(|error| error.to_string())
            }
        })
        .await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// Leaves its folder there when the test ends, and says where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// A plain connection, for looking behind the queue's back.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }

    /// Freezes the server.
    pub fn stop_signal(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen server go on.
    pub fn continue_signal(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills the server and waits for its end.
    pub fn kill9(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts the killed server again on the same port and folder.
    pub async fn restart(&self) {
        *self.child.lock().unwrap() = spawn(self.port, &self.folder, self.persistence);
        assert!(self.is_ready().await, "redis-server did not start again on port {}", self.port);
    }

    /// What every key of a pattern holds, for comparisons: the fields of a hash in order, since a large one has them in any; else its DUMP.
    #[expect(clippy::disallowed_methods, reason = "a test looks behind the queue's back")]
    pub async fn contents(&self, pattern: &str) -> BTreeMap<String, Vec<u8>> {
        let mut connection = self.connection().await;
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap();
        let mut contents = BTreeMap::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
            let held = if kind == "hash" {
                let fields: BTreeMap<String, String> =
                    redis::cmd("HGETALL").arg(&key).query_async(&mut connection).await.unwrap();
                format!("{fields:?}").into_bytes()
            } else {
                redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap()
            };
            contents.insert(key, held);
        }
        contents
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        // It may have ended by itself or by `kill9`; then there is nothing to kill.
        let child = self.child.get_mut().unwrap();
        _ = child.kill();
        _ = child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests start their own Redis")]
fn spawn(port: u16, folder: &TempDir, persistence: Persistence) -> Child {
    let mut command = std::process::Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"]);
    command.args(persistence.flags());
    // A fleet has more connections than the default of 10,000.
    command.args(["--maxclients", "30000"]);
    // A replica that comes back gets its copy at once.
    command.args(["--repl-diskless-sync-delay", "0"]);
    command.arg("--dir").arg(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("redis-server can't be started: {error}"))
}
