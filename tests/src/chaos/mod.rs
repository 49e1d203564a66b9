//! A fleet in bad weather: real workers on short tasks, a schedule of faults that a seed makes, and a checker that knows nothing of
//! the code that it checks. The test `chaos` and the program of that name share all of it.

pub mod checker;
mod disk;
mod fleet;
mod pair;
mod processes;
mod report;
pub mod schedule;
mod server;
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
pub use fleet::{ROLES, STANDS_FOR};
pub use report::Report;

use crate::Lab;
use checker::{Rule, Scene, Seen, Violation, check};
use fleet::{CORES, Far, Fleet, Notes};
use schedule::{Schedule, Subject};
use toy::{Finding, Temper, windows};
use weather::Site;
use witness::Witness;
use work::{Order, Shape};

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
    let lost = |verb: &'static str| (verb, fleet.lines.iter().map(|line| line.lost(verb)).sum());
    let (answers_lost, workers) = (weather::LOSABLE.map(lost).to_vec(), fleet.workers_started());
    Report {
        answers_lost,
        can_fill_disk: fleet.disk.can_be_filled(),
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
        diaries: &fleet.diaries(),
        forgets: fleet.pair.is_some(),
    };
    check(&scene).await
}

/// A fleet that has done a little work in peace, for tests that then tamper with it.
#[derive(Debug)]
pub struct Calm {
    fleet: Arc<Fleet>,
}

impl Calm {
    /// Has one worker do a run of each shape, with one task cancelled, and one whose first tasks fail.
    pub async fn new(program: PathBuf) -> Self {
        let options = Options { seed: 0, length: Duration::ZERO, sites: 1, sentinel: false, program };
        let fleet = Arc::new(Fleet::new(&options).await);
        for shape in Shape::ALL {
            let run = &format!("{shape:?}").to_lowercase();
            let seed = seed_of(&[Temper::Fine; 3]);
            work::push(&fleet, Order { run, shape, tasks: 3, seed, gate: None }).await;
        }
        let seed = seed_of(&[Temper::Fails(Some(1)), Temper::Fails(None), Temper::Busy]);
        let order = Order { run: "failing", shape: Shape::Single, tasks: 3, seed, gate: None };
        work::push(&fleet, order).await;
        fleet.notes().cancelled.insert(("single".to_owned(), 2));
        fleet.launchpad(&["cancel", "single", "--task=2", "--yes"]).await;
        let mut worker = fleet.worker(0, &["--exit-when", "drained"]);
        fleet.expect_end(&mut worker, 0).await;
        Self { fleet }
    }

    /// What the checker finds, and what it looked at.
    pub async fn check(&self) -> (Vec<Violation>, Seen) {
        let (mut violations, seen) = check_fleet(&self.fleet).await;
        violations.extend(self.fleet.notes().violations.clone());
        (violations, seen)
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

/// The seed of a run of single molecules of which the first ones treat their program so.
fn seed_of(tempers: &[Temper]) -> u64 {
    let molecules = Shape::Single.molecules(tempers.len());
    let molecules: Vec<(&str, &str)> = molecules.lines().filter_map(|line| line.split_once(' ')).collect();
    let fits = |seed: &u64| {
        molecules.iter().zip(tempers).all(|((smiles, id), temper)| {
            Finding::of(id, smiles.as_bytes(), checker::molecule_seed(*seed, id)).temper() == *temper
        })
    };
    (0..u32::MAX.into()).find(fits).unwrap()
}

/// The seed of a run of groups of which nothing comes to nothing and none is bad, from the text of its `.smi`.
pub fn seed_of_good_groups(molecules: &str) -> u64 {
    let molecules: Vec<(&str, &str)> = molecules.lines().filter_map(|line| line.split_once(' ')).collect();
    let parts =
        (0..windows::WINDOWS.len()).map(|window| window.to_string()).chain([windows::REDUCTION.to_owned()]);
    let parts: Vec<String> = parts.collect();
    let fits = |seed: &u64| {
        molecules.iter().all(|(smiles, id)| {
            let seed = checker::molecule_seed(*seed, id);
            let part = |part: &String| windows::of_part(id, part, smiles, seed).temper() == Temper::Fine;
            !Finding::of(id, smiles.as_bytes(), seed).is_bad() && parts.iter().all(part)
        })
    };
    (0..u32::MAX.into()).find(fits).unwrap()
}

/// All that goes wrong, while work keeps coming.
async fn storm(fleet: &Arc<Fleet>, schedule: Schedule) -> Vec<Site> {
    let (stop, stopped) = watch::channel(false);
    let work = tokio::spawn(work::keep_coming(Arc::clone(fleet), stopped));
    let (mut sites, mut others) = (Vec::new(), Vec::new());
    for (subject, faults) in schedule.0 {
        match subject {
            Subject::Worker(site) => {
                sites.push(tokio::spawn(Site::new(Arc::clone(fleet), site).suffer(faults)));
            }
            _ => others.push(tokio::spawn(weather::suffer(Arc::clone(fleet), subject, faults))),
        }
    }
    tokio::time::sleep_until(fleet.start + fleet.length).await;
    let mut left = Vec::new();
    for site in sites {
        left.push(site.await.unwrap());
    }
    for other in others {
        other.await.unwrap();
    }
    stop.send_replace(true);
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
    let order = Order { run: "roll-call", shape: Shape::Single, tasks, seed: 0, gate: Some(&gate) };
    work::push(fleet, order).await;
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
