//! A whole Molfleet on this machine: a Redis, a store, launchpad and workers as programs, engines that can be made to misbehave.
//! Holds no assertion of its own beyond "the program did what it was told".

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use common::queue::{Progress, Queue, TaskInfo};
use common::task::{RunId, TaskId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::AsyncCommands as _;
use tempfile::TempDir;

use crate::{TestRedis, eventually};

/// How long leases of a lab's runs are.
pub const LEASE_MS: u64 = 2_400;

/// The programs of the tests package; `env!("CARGO_BIN_EXE_…")` tells them, in test files only.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// `launchpad-under-test`.
    pub launchpad: &'static str,
    /// `worker-under-test`.
    pub worker: &'static str,
    /// `stub-engine`.
    pub stub: &'static str,
}

/// A Redis, a store and a place for programs.
#[derive(Debug)]
pub struct Lab {
    programs: Programs,
    /// The queue's server.
    pub redis: TestRedis,
    /// Where launchpad looks for the queue, if not at that server itself.
    pub(crate) redis_url: Option<String>,
    folder: TempDir,
    /// Folders of programs that workers find before the system's.
    installed: Vec<PathBuf>,
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; −1 for a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A worker of a lab. It is killed with the lab.
#[derive(Debug)]
pub struct LabWorker {
    child: Child,
    log: PathBuf,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Lab {
    /// Starts a Redis and makes an empty store.
    pub async fn new(programs: Programs) -> Self {
        Self::over(programs, TestRedis::start().await)
    }

    /// A lab whose Redis can be killed and started again without losing anything.
    pub async fn durable(programs: Programs) -> Self {
        Self::over(programs, TestRedis::start_durable().await)
    }

    fn over(programs: Programs, redis: TestRedis) -> Self {
        let folder = tempfile::Builder::new().prefix("molfleet lab ").tempdir().unwrap();
        fs::create_dir(folder.path().join("stubs")).unwrap();
        Self { programs, redis, redis_url: None, folder, installed: Vec::new() }
    }

    /// A path in the lab's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves its folder and that of its Redis there when the test ends, and says where they are.
    pub fn keep(&mut self) -> [PathBuf; 2] {
        self.folder.disable_cleanup(true);
        [self.folder.path().to_owned(), self.redis.keep()]
    }

    /// Writes a file into the lab's own folder.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// The receptor of the example with one atom more, beyond the corner of a box of 14 Å around 200,200,200: near enough for `push`, and
    /// 7.6 Å from anything in that box.
    pub fn receptor_with_a_far_atom(&self) -> PathBuf {
        let receptor = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/t4l-l99a/receptor.pdb");
        let far = "HETATM 9999  C   FAR   999     211.400 211.400 211.400\n";
        self.write(
            "far.pdb",
            &fs::read_to_string(receptor).unwrap().replace("TER", &format!("TER\n{far}TER")),
        )
    }

    /// The scratch folders of attempts that are there now.
    pub fn scratch_folders(&self) -> Vec<String> {
        // A worker that has just started makes their folder.
        let entries = fs::read_dir(self.path("scratch")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// The folder of the store.
    pub fn store_folder(&self) -> PathBuf {
        self.path("store")
    }

    /// The store's URL.
    pub fn store_url(&self) -> String {
        url::Url::from_file_path(self.store_folder()).unwrap().into()
    }

    /// An object of a run, as a file.
    pub fn object(&self, run: &str, name: &str) -> PathBuf {
        self.store_folder().join(run).join(name)
    }

    /// A queue of the lab's Redis.
    pub fn queue(&self) -> Queue {
        Queue::open(&self.redis.url()).unwrap()
    }

    /// Puts a folder of programs on the `PATH` of workers that start from now on, behind the stubs.
    pub fn install(&mut self, folder: PathBuf) {
        self.installed.push(folder);
    }

    /// Puts the stub in front of an engine's program.
    pub fn stub(&self, program: &str) -> &Self {
        symlink(self.programs.stub, self.path("stubs").join(program)).unwrap();
        self
    }

    /// Makes stubs misbehave: see `stub-engine`.
    pub fn set(&self, behaviour: &str, content: &str) -> &Self {
        fs::write(self.path("stubs").join(behaviour), content).unwrap();
        self
    }

    /// Makes stubs behave again.
    pub fn unset(&self, behaviour: &str) {
        fs::remove_file(self.path("stubs").join(behaviour)).unwrap();
    }

    /// The lines that stubs have written so far.
    pub fn noted(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("stubs").join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What engines run in the lab: names of processes, and their folders of `/proc`.
    pub fn processes(&self) -> Vec<(String, PathBuf)> {
        let Ok(folder) = self.path("scratch").canonicalize() else { return Vec::new() };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let ours = processes
            .filter(|path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder)));
        let named =
            |path: PathBuf| Some((fs::read_to_string(path.join("comm")).ok()?.trim().to_owned(), path));
        ours.filter_map(named).collect()
    }

    /// Their names.
    pub fn running(&self) -> Vec<String> {
        self.processes().into_iter().map(|(name, _)| name).collect()
    }

    /// Waits until a program of that name runs.
    pub async fn until_running(&self, worker: &LabWorker, name: &str) {
        eventually(&format!("a {name}"), async || {
            let found = self.running();
            if found.iter().any(|found| found == name) { Ok(()) } else { Err((found, worker.last_words())) }
        })
        .await;
    }

    /// Waits until none runs any more.
    pub async fn until_nothing_runs(&self) {
        eventually("the end of all programs", async || {
            let left = self.running();
            if left.is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// Runs launchpad to its end.
    pub fn launchpad(&self, arguments: &[&str]) -> Ran {
        let output = self.launchpad_command(arguments).output().unwrap();
        Ran::of(output)
    }

    /// A launchpad that a test starts by itself.
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    pub fn launchpad_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.launchpad);
        let redis = self.redis_url.clone().unwrap_or_else(|| self.redis.url());
        command.args(["--redis", &redis, "--store", &self.store_url()]).args(arguments);
        command.current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// Pushes molecules of a `.smi` text into the example's pocket, with short leases, and panics if that fails. Flags win.
    pub fn push(&self, run: &str, smiles: &str, flags: &[&str]) {
        let ligands = self.write(&format!("{run}.smi"), smiles);
        let receptor = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/t4l-l99a/receptor.pdb");
        let config = self.write(
            &format!("{run}.toml"),
            &format!(
                "engine = \"vina\"\n\
                 [options]\nreceptor = '{}'\nbox_center = [42.32, 45.43, 18.17]\nbox_size = [14, 14, 14]\n\
                 exhaustiveness = 1\n\
                 [limits]\nlease_ms = {LEASE_MS}\nheartbeat_ms = 400\nbackoff_ms = 10\n",
                receptor.display()
            ),
        );
        let mut arguments = vec!["push", ligands.to_str().unwrap(), "--run", run, "--confirm-after-ms", "0"];
        arguments.extend(["--config", config.to_str().unwrap()]);
        arguments.extend_from_slice(flags);
        let ran = self.launchpad(&arguments);
        assert_eq!(ran.code, 0, "push failed: {}", ran.stderr);
    }

    /// Starts a worker with the stubs first on its `PATH`.
    pub fn worker(&self, name: &str, flags: &[&str]) -> LabWorker {
        self.worker_on(&self.path("stubs"), name, flags)
    }

    /// Makes a folder of stubs that crash, for the `PATH` of one machine.
    pub fn broken_machine(&self, program: &str) -> PathBuf {
        let folder = self.path("broken");
        fs::create_dir(&folder).unwrap();
        symlink(self.programs.stub, folder.join(program)).unwrap();
        fs::write(folder.join("crash"), "").unwrap();
        folder
    }

    /// Starts a worker with the programs of this folder first on its `PATH`.
    pub fn worker_on(&self, machine: &Path, name: &str, flags: &[&str]) -> LabWorker {
        self.worker_with(machine, name, flags, &[])
    }

    /// The same, with variables that its machine has set.
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    pub fn worker_with(&self, machine: &Path, name: &str, flags: &[&str], env: &[(&str, &str)]) -> LabWorker {
        let log = self.path(&format!("{name}.log"));
        let mut command = Command::new(self.programs.worker);
        let url = self.redis.url();
        let [scratch, cache] = ["scratch", "cache"].map(|name| self.path(name).display().to_string());
        let defaults = [
            ("--redis", url.as_str()),
            ("--scratch", &scratch),
            ("--cache", &cache),
            ("--cores", "1"),
            ("--scratch-free-mib-min", "1"),
            ("--log", "debug"),
            ("--grace-seconds", "2"),
        ];
        for (flag, value) in defaults {
            if !flags.contains(&flag) {
                command.args([flag, value]);
            }
        }
        command.args(["--log-format", "json"]).args(flags);
        let folders = std::iter::once(machine).chain(self.installed.iter().map(PathBuf::as_path));
        let folders = folders.chain(["/usr/bin", "/bin"].map(Path::new));
        command.env("PATH", std::env::join_paths(folders).unwrap()).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        LabWorker::start(command, log)
    }

    /// Runs `worker doctor` to its end, with the programs that a worker would find. It prints JSON.
    #[expect(clippy::disallowed_methods, reason = "tests start programs")]
    pub fn worker_doctor(&self, flags: &[&str]) -> Ran {
        let mut command = Command::new(self.programs.worker);
        command.args(["doctor", "--redis", &self.redis.url(), "--json"]);
        command.arg("--scratch").arg(self.path("scratch")).arg("--cache").arg(self.path("cache"));
        let path = [self.path("stubs"), "/usr/bin".into(), "/bin".into()];
        command.args(flags).env("PATH", std::env::join_paths(path).unwrap()).env("NO_COLOR", "1");
        Ran::of(command.output().unwrap())
    }

    /// The counters of a run.
    pub async fn progress(&self, run: &str) -> Progress {
        self.queue().progress(&run_id(run)).await.unwrap()
    }

    /// A task of a run.
    pub async fn task(&self, run: &str, task: u64) -> TaskInfo {
        self.queue().tasks(&run_id(run), &[TaskId(task)]).await.unwrap().remove(0)
    }

    /// Waits until a run's counters fulfil a condition.
    pub async fn until(&self, run: &str, what: &str, holds: impl Fn(&Progress) -> bool) -> Progress {
        let queue = self.queue();
        eventually(what, || async {
            let progress = queue.progress(&run_id(run)).await.map_err(|error| error.to_string())?;
            if holds(&progress) { Ok(progress) } else { Err(format!("{progress:?}")) }
        })
        .await
    }

    /// Waits until Redis has this many tasks of a run, which may not be there yet.
    pub async fn until_total(&self, run: &str, tasks: u64) {
        let queue = self.queue();
        eventually("the run has tasks", || async {
            let progress = queue.progress(&run_id(run)).await.map_err(|error| error.to_string())?;
            if progress.total >= tasks { Ok(()) } else { Err(format!("{progress:?}")) }
        })
        .await;
    }

    /// Waits until a stub has written this many lines.
    pub async fn until_noted(&self, file: &str, lines: usize) -> Vec<String> {
        eventually(&format!("{lines} lines in `{file}`"), || async {
            let noted = self.noted(file);
            if noted.len() >= lines { Ok(noted) } else { Err(noted) }
        })
        .await
    }

    /// Reads the run's lease clock.
    pub async fn lease_clock_ms(&self, run: &str) -> u64 {
        let mut connection = self.redis.connection().await;
        let key = format!("molfleet:{{{run}}}:run");
        let clock: Option<u64> = connection.hget(key, "clock_ms").await.unwrap();
        clock.unwrap_or(0)
    }

    /// Waits until the run's lease clock has moved on by this much.
    pub async fn until_lease_clock(&self, run: &str, by_ms: u64) {
        let from = self.lease_clock_ms(run).await;
        eventually("the lease clock moves on", || async {
            let now = self.lease_clock_ms(run).await;
            if now >= from + by_ms { Ok(()) } else { Err(now - from) }
        })
        .await;
    }
}

impl LabWorker {
    /// Starts a worker whose standard error goes to this file.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        Self { child: command.spawn().unwrap(), log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, if it has left; −1 for a signal.
    pub fn has_left(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    /// Waits until it has left, however long that takes: for engines whose steps have time limits of their own. Gives its exit code.
    pub fn left_in_its_own_time(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Waits until it has left, and gives its exit code.
    pub async fn left(&mut self) -> i32 {
        let log = self.log.clone();
        let child = &mut self.child;
        let status: ExitStatus = eventually("the worker leaves", || {
            let status = child.try_wait().unwrap();
            let log = log.clone();
            async move { status.ok_or_else(|| last_lines(&fs::read_to_string(log).unwrap_or_default())) }
        })
        .await;
        status.code().unwrap_or(-1)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        last_lines(&self.log()).join("\n")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until its log has a line that fulfils a condition.
    pub async fn until_logged(
        &self,
        what: &str,
        holds: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        eventually(what, || async {
            let log = self.log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.find(|line| holds(line)).ok_or_else(|| last_lines(&log))
        })
        .await
    }
}

impl Drop for LabWorker {
    fn drop(&mut self) {
        // It may have left by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A run's id.
pub fn run_id(run: &str) -> RunId {
    run.parse().unwrap()
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

fn last_lines(log: &str) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].iter().map(|line| (*line).to_owned()).collect()
}
