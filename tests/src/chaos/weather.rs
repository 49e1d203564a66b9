//! Makes the faults of a schedule happen: one task for each subject, which leaves it well when its time is over.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::AsyncCommands as _;

use super::checker::Rule;
use super::fleet::Fleet;
use super::pair::Pair;
use super::processes::{descendants, signal};
use super::schedule::{Fault, Kind, Subject};
use super::server::say;
use super::work::{self, Order, Shape};
use crate::{LabWorker, Line, Manner};

/// The scripts whose answers get lost: all that workers call.
pub(super) const LOSABLE: [&str; 7] =
    ["lease", "heartbeat", "complete", "fail", "release", "checkpoint", "tell"];
/// How a `launchpad logs -f` may end: as it should, since an attempt that is over has left no logs, or since Redis is away.
const FOLLOWED: [i32; 4] = [0, 65, 69, 75];
/// The flags of a worker that stays until it is told to leave. Of the molecules one in six is awkward: with three of them in a row a sound
/// machine would be suspected now and then.
const STAY: [&str; 4] = ["--exit-when", "never", "--quarantine-after", "6"];
/// The flags of one that finds any disk too full.
const NO_DISK_IS_ENOUGH: [&str; 2] = ["--scratch-free-mib-min", "1000000000000"];

/// The worker of a site.
#[derive(Debug)]
pub(super) struct Site {
    fleet: Arc<Fleet>,
    number: usize,
    worker: LabWorker,
}

/// When the faults of a subject happen: by the schedule, and later by as much as those before took longer than that.
struct Timeline<'a> {
    fleet: &'a Fleet,
    faults: std::vec::IntoIter<Fault>,
    previous_end: Duration,
    late: Duration,
}

impl<'a> Timeline<'a> {
    fn new(fleet: &'a Fleet, faults: Vec<Fault>) -> Self {
        let (previous_end, late) = (Duration::ZERO, Duration::ZERO);
        Self { fleet, faults: faults.into_iter(), previous_end, late }
    }

    /// Waits for the next fault; `None` once their time is over. On a slow machine that is not before each kind has taken place.
    async fn next(&mut self) -> Option<Fault> {
        loop {
            let fault = self.faults.next()?;
            self.late = self.late.max(self.fleet.start.elapsed().saturating_sub(self.previous_end));
            let at = Duration::from_millis(fault.at_ms);
            if at + self.late > self.fleet.length && self.fleet.counted(fault.kind) > 0 {
                continue;
            }
            self.previous_end = at + Duration::from_millis(fault.for_ms);
            tokio::time::sleep_until(self.fleet.start + at + self.late).await;
            return Some(fault);
        }
    }
}

async fn last(fault: &Fault) {
    tokio::time::sleep(Duration::from_millis(fault.for_ms)).await;
}

impl Site {
    pub(super) fn new(fleet: Arc<Fleet>, number: usize) -> Self {
        let worker = fleet.worker(number, &STAY);
        Self { fleet, number, worker }
    }

    /// Lets its worker suffer, and gives back the one that is there at the end.
    pub(super) async fn suffer(mut self, faults: Vec<Fault>) -> Self {
        let fleet = Arc::clone(&self.fleet);
        let mut timeline = Timeline::new(&fleet, faults);
        while let Some(fault) = &timeline.next().await {
            if let Some(code) = self.worker.has_left() {
                let what = format!("a worker left by itself with {code}: {}", self.worker.last_words());
                self.fleet.found(Rule::Programs, what);
                self.worker = self.fleet.worker(self.number, &STAY);
            }
            self.fleet.count(fault.kind);
            self.befall(fault).await;
        }
        self
    }

    /// Has a fault befall its worker, which is there again afterwards.
    async fn befall(&mut self, fault: &Fault) {
        let pid = self.worker.pid();
        match fault.kind {
            Kind::WorkerFrozen => {
                let _seen = self.fleet.sight.read().await;
                return frozen([pid], fault).await;
            }
            Kind::MachineFrozen => {
                let _seen = self.fleet.sight.read().await;
                // The worker first, so that it starts nothing more.
                signal([pid], Signal::SIGSTOP);
                let others = descendants(pid).into_keys();
                return frozen(std::iter::once(pid).chain(others), fault).await;
            }
            Kind::GuardianKilled => {
                let guardians =
                    descendants(pid).into_iter().filter(|(_, command)| command.contains("guardian"));
                return signal(guardians.map(|(pid, _)| pid), Signal::SIGKILL);
            }
            Kind::WorkerTerminated => self.leave().await,
            _ => self.worker.kill9(),
        }
        last(fault).await;
        self.worker = self.fleet.worker(self.number, &STAY);
    }

    pub(super) async fn leave(&mut self) {
        leave(&self.fleet, &mut self.worker).await;
    }

    pub(super) fn last_words(&self) -> String {
        self.worker.last_words()
    }
}

/// Tells a worker to leave, once it has begun: before that, SIGTERM ends it as any process.
async fn leave(fleet: &Fleet, worker: &mut LabWorker) {
    while worker.log().is_empty() && worker.has_left().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if worker.has_left().is_none() {
        worker.signal(Signal::SIGTERM);
    }
    fleet.expect_end(worker, 75).await;
}

/// Freezes processes for as long as a fault lasts.
async fn frozen(pids: impl IntoIterator<Item = u32>, fault: &Fault) {
    let pids: Vec<u32> = pids.into_iter().collect();
    signal(pids.iter().copied(), Signal::SIGSTOP);
    last(fault).await;
    signal(pids, Signal::SIGCONT);
}

/// Makes the faults of anything but a worker happen.
pub(super) async fn suffer(fleet: Arc<Fleet>, subject: Subject, faults: Vec<Fault>) {
    let mut timeline = Timeline::new(&fleet, faults);
    if let Subject::Line(site) = subject {
        // Some scripts are so rare that a loss may wait for them for long.
        lose(&fleet, site, 1);
    }
    while let Some(fault) = &timeline.next().await {
        let happened = match subject {
            Subject::Line(site) => line(&fleet, site, fault).await,
            Subject::Redis => redis(&fleet, fault).await,
            Subject::Store => store(&fleet, fault).await,
            Subject::Disk => disk(&fleet, fault).await,
            Subject::Person => person(&fleet, fault).await,
            Subject::Onlooker => follow(&fleet, fault).await,
            Subject::Worker(_) => false,
        };
        if happened {
            fleet.count(fault.kind);
        }
    }
    if let Subject::Line(site) = subject {
        lose(&fleet, site, 0);
    }
}

/// Has a line lose so many answers of each script of a worker.
fn lose(fleet: &Fleet, site: usize, times: u32) {
    for verb in LOSABLE {
        fleet.lines[site].lose(verb, times);
    }
}

async fn line(fleet: &Fleet, site: usize, fault: &Fault) -> bool {
    let proxy = &fleet.lines[site];
    match fault.kind {
        Kind::LineCut => proxy.cut(),
        Kind::AnswersLost => lose(fleet, site, 1 + u32::try_from(fault.choice % 3).unwrap()),
        Kind::LineDown => {
            proxy.set(Line::Down);
            proxy.cut();
        }
        Kind::LineSilent => proxy.set(Line::Silent),
        _ => proxy.set(Line::Slow(Duration::from_millis(20 + fault.choice % 300))),
    }
    last(fault).await;
    proxy.set(Line::Fair);
    true
}

async fn redis(fleet: &Arc<Fleet>, fault: &Fault) -> bool {
    let redis = &fleet.lab.redis;
    if let Some(pair) = &fleet.pair {
        fail_over(fleet, pair, fault).await;
        return true;
    }
    match fault.kind {
        Kind::RedisFrozen => {
            redis.stop_signal();
            last(fault).await;
            redis.continue_signal();
        }
        Kind::RedisFull => {
            say(redis, &["CONFIG", "SET", "maxmemory", "1"]).await;
            last(fault).await;
            say(redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
        }
        Kind::RedisReadOnly => {
            // Of a server that is not there, so that it keeps what it has.
            say(redis, &["REPLICAOF", "127.0.0.1", "1"]).await;
            last(fault).await;
            say(redis, &["REPLICAOF", "NO", "ONE"]).await;
        }
        _ => {
            redis.kill9();
            last(fault).await;
            redis.restart().await;
        }
    }
    true
}

/// Has a pair change its roles, while a run is pushed that ends up forgotten as a whole, or whose push meets the change.
async fn fail_over(fleet: &Arc<Fleet>, pair: &Pair, fault: &Fault) {
    let redis = &fleet.lab.redis;
    let (name, pusher) = (format!("unheard-{}", pair.fail_overs()), Arc::clone(fleet));
    let push = async move {
        work::push(&pusher, Order { run: &name, shape: Shape::Single, tasks: 4, seed: 0, gate: None }).await;
    };
    if fault.kind == Kind::RedisFailedOver {
        pair.deafen(redis).await;
        let push = tokio::spawn(push);
        last(fault).await;
        pair.fail_over(redis).await;
        push.await.unwrap();
    } else {
        // Neither launchpad nor the worker of this site hear of the new primary.
        let site = usize::try_from(fault.choice % fleet.lines.len() as u64).unwrap();
        let stranded = [pair.office(), &fleet.lines[site]];
        let old = pair.primary(redis).port();
        for line in stranded {
            line.strand(Some(old));
        }
        let split = pair.split(redis).await;
        let push = tokio::spawn(push);
        last(fault).await;
        pair.heal(redis, split).await;
        for line in stranded {
            line.strand(None);
        }
        push.await.unwrap();
    }
}

async fn store(fleet: &Fleet, fault: &Fault) -> bool {
    let manner = match fault.kind {
        Kind::StoreThrottles => Some(Manner::Refuse { status: 429, per_mille: 300 }),
        Kind::StoreUnavailable => Some(Manner::Refuse { status: 503, per_mille: 700 }),
        Kind::StoreSlow => Some(Manner::Slow { ms: 400 }),
        Kind::StoreAnswersLost => Some(Manner::Lose { per_mille: 500 }),
        _ => None,
    };
    let (file, text) =
        manner.map_or(("store.stall", String::new()), |manner| ("store.manner", manner.to_string()));
    fleet.lab.write(file, &text);
    last(fault).await;
    std::fs::remove_file(fleet.lab.path(file)).unwrap();
    true
}

async fn disk(fleet: &Arc<Fleet>, fault: &Fault) -> bool {
    if fault.kind == Kind::DiskShunned {
        let mut worker = fleet.worker(0, &[&STAY[..], &NO_DISK_IS_ENOUGH].concat());
        last(fault).await;
        leave(fleet, &mut worker).await;
        return true;
    }
    if !fleet.disk.can_be_filled() {
        return false;
    }
    let _alone = fleet.sight.write().await;
    let filled = Arc::clone(fleet);
    tokio::task::spawn_blocking(move || filled.disk.fill()).await.unwrap();
    last(fault).await;
    fleet.disk.free();
    true
}

/// What a person does to a run that is not at its end.
async fn person(fleet: &Arc<Fleet>, fault: &Fault) -> bool {
    let mut view = fleet.connect().await;
    let mut runs = fleet.all_runs(&mut view).await;
    // Where the dead are, too, that are to be revived: a run may have come to its end by them.
    let is_for_the_dead = fault.kind == Kind::Revive && runs.iter().any(|(_, far)| far.dead > 0);
    runs.retain(|(_, far)| if is_for_the_dead { far.dead > 0 } else { far.total > far.terminal });
    if runs.is_empty() {
        return false;
    }
    let (run, far) = &runs[usize::try_from(fault.choice % runs.len() as u64).unwrap()];
    match fault.kind {
        Kind::Cancel => {
            let tasks = (0..=fault.choice / 7 % 3).map(|n| (fault.choice / 64 + n * 5) % far.total);
            let tasks: Vec<u64> = tasks.collect();
            fleet.notes().cancelled.extend(tasks.iter().map(|task| (run.clone(), *task)));
            let tasks: Vec<String> = tasks.iter().map(|task| format!("--task={task}")).collect();
            let words = ["cancel", run, "--yes"].into_iter().chain(tasks.iter().map(String::as_str));
            fleet.launchpad(&words.collect::<Vec<_>>()).await;
        }
        Kind::Requeue => fleet.launchpad(&["retry", run, "--cancelled"]).await,
        Kind::Revive => fleet.launchpad(&["retry", run]).await,
        Kind::Pause => {
            fleet.launchpad(&["pause", run, "--why", "chaos"]).await;
            last(fault).await;
            fleet.launchpad(&["resume", run]).await;
        }
        _ => {
            fleet.launchpad(&["set", run, &format!("parallelism={}", 1 + fault.choice % 3)]).await;
            last(fault).await;
            fleet.launchpad(&["set", run, "parallelism=0"]).await;
        }
    }
    true
}

/// Follows the output of a task that is being worked on, one of those that print for seconds if there is any.
async fn follow(fleet: &Arc<Fleet>, fault: &Fault) -> bool {
    let mut view = fleet.connect().await;
    let mut runs = fleet.all_runs(&mut view).await;
    runs.retain(|(_, far)| far.leased > 0);
    let shapes = fleet.notes().shapes.clone();
    let Some((run, _)) = runs.iter().rev().max_by_key(|(run, _)| shapes.get(run) == Some(&Shape::Steps))
    else {
        return false;
    };
    let leased: Vec<String> =
        view.connection.zrange(format!("molfleet:{{{run}}}:leases"), 0, -1).await.unwrap_or_default();
    let Some(task) = leased.get(usize::try_from(fault.choice % leased.len().max(1) as u64).unwrap()) else {
        return false;
    };
    let mut command = fleet.lab.launchpad_command(&["logs", run, task, "-f"]);
    let mut launchpad = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    last(fault).await;
    signal([launchpad.id()], Signal::SIGINT);
    let ended = tokio::task::spawn_blocking(move || launchpad.wait()).await.unwrap().unwrap();
    // It may not have come so far that it hears of a signal.
    let is_interrupted = ended.signal() == Some(Signal::SIGINT as i32);
    if !is_interrupted && !ended.code().is_some_and(|code| FOLLOWED.contains(&code)) {
        fleet.found(Rule::Programs, format!("`launchpad logs {run} {task} -f` ended with {ended}"));
    }
    true
}
