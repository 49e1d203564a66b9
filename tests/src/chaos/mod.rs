//! A fleet in bad weather: real workers on short tasks, a schedule of faults that a seed makes, and a checker that knows nothing of
//! the code that it checks. The test `chaos` and the program of that name share all of it.

pub mod checker;
mod disk;
mod fleet;
mod pair;
mod processes;
mod report;
pub mod schedule;
pub mod toy;
mod weather;
mod witness;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use disk::ScratchDisk;
pub use fleet::ROLES;
pub use report::Report;

use crate::{FlakyProxy, Lab};
use checker::{Rule, Scene, Seen, Violation, check};
use fleet::{CORES, Far, Fleet, Notes};
use schedule::{Schedule, Subject};
use weather::Site;
use witness::Witness;
use work::Shape;

/// How long a fleet without faults may do nothing visible. A worker rests for up to 5 min after faults of its machine.
const STUCK: Duration = Duration::from_mins(8);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(200);

/// What a chaos is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the schedule of faults is made from.
    pub seed: u64,
    /// How long faults happen.
    pub length: Duration,
    /// How many workers there are at a time, each behind a line of its own.
    pub sites: usize,
    /// Whether Redis is a Sentinel pair that fails over, instead of one server that is killed and frozen.
    pub sentinel: bool,
    /// The program that plays all parts by the name that it is called by: see [`ROLES`].
    pub program: PathBuf,
}

/// Makes the faults happen, lets the fleet come to rest, and checks it.
pub async fn run(options: Options) -> Report {
    let make = if options.sentinel { Schedule::of_pair } else { Schedule::new };
    let schedule = make(options.seed, u64::try_from(options.length.as_millis()).unwrap(), options.sites);
    let fleet = Arc::new(Fleet::new(&options).await);
    let (stop, stopped) = watch::channel(false);
    let witness = tokio::spawn(Witness::new(Arc::clone(&fleet)).await.watch(stopped));

    let mut sites = storm(&fleet, schedule).await;
    let stormed = fleet.start.elapsed();
    let mut view = fleet.connect().await;
    let ended = fleet.all_runs(&mut view).await.iter().map(|(_, far)| far.terminal).sum();
    remember(&fleet).await;
    if drain(&fleet, &sites).await {
        roll_call(&fleet, &sites).await;
    }
    let drained = fleet.start.elapsed().saturating_sub(stormed);
    for site in &mut sites {
        site.leave().await;
    }
    audit(&fleet, &[]).await;
    // One more worker sweeps what the killed ones left.
    let mut last = fleet.worker(0, &["--exit-when", "drained"]);
    fleet.expect_end(&mut last, 0).await;
    stop.send_replace(true);
    let looks = witness.await.unwrap().conclude().await;
    for panic in fleet.panics() {
        fleet.found(Rule::Programs, panic);
    }

    let (violations, seen) = check_fleet(&fleet).await;
    let mut notes = fleet.notes().clone();
    notes.violations.extend(violations);
    drop(sites);
    let (answers_lost, workers) =
        (fleet.lines.iter().map(FlakyProxy::lost_in_all).sum(), fleet.workers_started());
    Report {
        answers_lost,
        forgotten: fleet.pair.as_ref().map_or(0, pair::Pair::forgotten),
        workers,
        seconds: [stormed.as_secs_f64(), drained.as_secs_f64()],
        kept: if notes.violations.is_empty() { Vec::new() } else { Fleet::keep(fleet) },
        options,
        notes,
        seen,
        looks,
        ended,
    }
}

async fn check_fleet(fleet: &Fleet) -> (Vec<Violation>, Seen) {
    let Notes { runs, cancelled, .. } = fleet.notes().clone();
    let scene = Scene {
        redis_url: &fleet.redis().url(),
        store: &fleet.lab.store_folder(),
        scratch: fleet.disk.folder(),
        marker: &fleet.marker(),
        runs: &runs,
        cancelled: &cancelled,
    };
    check(&scene).await
}

/// A fleet that has done a little work in peace, for tests that then tamper with it.
#[derive(Debug)]
pub struct Calm {
    fleet: Arc<Fleet>,
}

impl Calm {
    /// Has one worker do a run of each shape, with one task cancelled.
    pub async fn new(program: PathBuf) -> Self {
        let options = Options { seed: 0, length: Duration::ZERO, sites: 1, sentinel: false, program };
        let fleet = Arc::new(Fleet::new(&options).await);
        for shape in Shape::ALL {
            work::push(&fleet, &format!("{shape:?}").to_lowercase(), shape, 3, None).await;
        }
        fleet.notes().cancelled.insert(("single".to_owned(), 2));
        fleet.launchpad(&["cancel", "single", "--task=2", "--yes"]).await;
        let mut worker = fleet.worker(0, &["--exit-when", "drained"]);
        fleet.expect_end(&mut worker, 0).await;
        Self { fleet }
    }

    /// What the checker finds.
    pub async fn check(&self) -> Vec<Violation> {
        let mut violations = check_fleet(&self.fleet).await.0;
        violations.extend(self.fleet.notes().violations.clone());
        violations
    }

    /// The machine that it is on.
    pub fn lab(&self) -> &Lab {
        &self.fleet.lab
    }

    /// What stands in the environment of each of its processes.
    pub fn marker(&self) -> String {
        self.fleet.marker()
    }
}

/// All that goes wrong, while work keeps coming.
async fn storm(fleet: &Arc<Fleet>, schedule: Schedule) -> Vec<Site> {
    let end = fleet.start + fleet.length;
    let work = tokio::spawn(work::keep_coming(Arc::clone(fleet), end));
    let (mut sites, mut others) = (Vec::new(), Vec::new());
    for (subject, faults) in schedule.0 {
        match subject {
            Subject::Worker(site) => {
                sites.push(tokio::spawn(Site::new(Arc::clone(fleet), site).suffer(faults)));
            }
            _ => others.push(tokio::spawn(weather::suffer(Arc::clone(fleet), subject, faults))),
        }
    }
    tokio::time::sleep_until(end).await;
    let mut left = Vec::new();
    for site in sites {
        left.push(site.await.unwrap());
    }
    for other in others {
        other.await.unwrap();
    }
    work.await.unwrap();
    left
}

/// Does what a person has to do after a fail-over, as `docs/operations.md` says: what had been told to launchpad is told again, in case
/// that was forgotten, and audits put the rest right.
async fn remember(fleet: &Arc<Fleet>) {
    if fleet.pair.is_some() {
        let runs = fleet.notes().runs.clone();
        for run in &runs {
            work::push_again(fleet, run).await;
            fleet.launchpad(&["resume", run]).await;
            fleet.launchpad(&["set", run, "parallelism=0"]).await;
        }
        audit(fleet, &["--fix"]).await;
    }
}

/// Has launchpad audit all runs of a pair; it must find nothing that is still wrong.
async fn audit(fleet: &Arc<Fleet>, flags: &[&str]) {
    if fleet.pair.is_some() {
        let runs = fleet.notes().runs.clone();
        for run in &runs {
            fleet.launchpad(&[&["audit", run], flags].concat()).await;
        }
    }
}

/// Waits until every task is terminal, as long as something moves. The workers that are there have to do it.
async fn drain(fleet: &Arc<Fleet>, sites: &[Site]) -> bool {
    rest(fleet, sites, "the fleet does not drain", |runs| {
        runs.iter().all(|(_, far)| far.total == far.terminal)
    })
    .await
}

/// Sees every slot of every worker at work at once: none sits there, connected and doing nothing.
async fn roll_call(fleet: &Arc<Fleet>, sites: &[Site]) {
    let tasks = sites.len() * CORES;
    let gate = fleet.lab.write("roll-call.gate", "");
    work::push(fleet, "roll-call", Shape::Single, tasks, Some(&gate)).await;
    let all_at_work = |runs: &[(String, Far)]| runs.last().is_some_and(|(_, far)| far.leased == tasks as u64);
    rest(fleet, sites, "some worker does not work", all_at_work).await;
    std::fs::remove_file(&gate).unwrap();
    drain(fleet, sites).await;
}

/// Waits for a state of the runs. If nothing moves any more, that is noted, and the answer is no.
async fn rest(
    fleet: &Fleet,
    sites: &[Site],
    trouble: &str,
    holds: impl Fn(&[(String, Far)]) -> bool,
) -> bool {
    let mut view = fleet.connect().await;
    let mut last = (Instant::now(), Vec::new());
    loop {
        let runs = fleet.all_runs(&mut view).await;
        if holds(&runs) {
            return true;
        }
        if runs != last.1 {
            last = (Instant::now(), runs);
        } else if last.0.elapsed() > STUCK {
            let words: Vec<String> = sites.iter().map(Site::last_words).collect();
            let open: Vec<_> = runs.iter().filter(|(_, far)| far.total != far.terminal).collect();
            fleet.found(Rule::Progress, format!("{trouble}: {open:?}; workers: {words:?}"));
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}
