//! The work of a fleet under chaos: runs of short tasks, single molecules, batches, records of an SDF, tasks that leave checkpoints and
//! groups in turn, and always enough.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::fleet::{Fleet, ROLES};
use super::toy::{DIARY_FLAG, GATE_FLAG, PAUSE_FLAG, STEPS_FLAG, windows};
use crate::LEASE_MS;

/// How many runs there are to work on at any time, at least: one of each shape.
const OPEN_RUNS: usize = Shape::ALL.len();
/// How often to look whether there are.
const LOOK: Duration = Duration::from_millis(500);
/// How long a molecule may take at most: longer than a lease lives without a heartbeat.
const PAUSE_MS_MAX: u64 = LEASE_MS + LEASE_MS / 4;
/// Steps of a task that leaves checkpoints: several seconds, of which each may leave one.
const STEPS: u64 = 20;

/// How a run's molecules come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One SMILES to a task.
    Single,
    /// Eight SMILES to a task.
    Batches,
    /// Two records of an SDF to a task.
    Records,
    /// One SMILES to a task, of many steps: an attempt goes on where the one before came to.
    Steps,
    /// One molecule to a group: its windows, and a last task that waits for them.
    Groups,
}

impl Shape {
    pub(super) const ALL: [Self; 5] = [Self::Single, Self::Steps, Self::Groups, Self::Batches, Self::Records];

    const fn batch(self) -> usize {
        match self {
            Self::Single | Self::Steps | Self::Groups => 1,
            Self::Batches => 8,
            Self::Records => 2,
        }
    }

    const fn ending(self) -> &'static str {
        match self {
            Self::Single | Self::Batches | Self::Steps | Self::Groups => "smi",
            Self::Records => "sdf",
        }
    }

    /// The file of so many molecules.
    pub(super) fn molecules(self, count: usize) -> String {
        (0..count).fold(String::new(), |mut text, n| {
            let tail = "C".repeat(1 + n % 40);
            // Writing to a string cannot fail.
            _ = match self {
                Self::Single | Self::Batches | Self::Steps | Self::Groups => writeln!(text, "N{tail} mol[{n}],\"x\""),
                Self::Records => write!(
                    text,
                    "mol[{n}]\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    {n}.0000 C   0  0\nM  END\n$$$$\n"
                ),
            };
            text
        })
    }
}

/// A run to push.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) run: &'a str,
    pub(super) shape: Shape,
    /// How many tasks, or groups.
    pub(super) tasks: usize,
    pub(super) seed: u64,
    /// A file that holds its tasks up.
    pub(super) gate: Option<&'a Path>,
}

/// Pushes a run, however often that has to be tried.
pub(super) async fn push(fleet: &Arc<Fleet>, order: Order<'_>) {
    let Order { run, shape, tasks, seed, .. } = order;
    let molecules = shape.molecules(tasks * shape.batch());
    let ligands = fleet.lab.write(&format!("{run}.{}", shape.ending()), &molecules);
    let engine = match shape {
        Shape::Groups => windows::run_file(&fleet.lab, run, &fleet.diaries(), PAUSE_MS_MAX),
        _ => command(fleet, order),
    };
    let config = format!(
        "{engine}\n[limits]\nlease_ms = {LEASE_MS}\nheartbeat_ms = 400\nbackoff_ms = 400\nbackoff_max_ms = 2000\nlapses_max = 1000000\n\
         checkpoint_seconds = 1\ncheckpoint_jitter_seconds = 0\n"
    );
    let config = fleet.lab.write(&format!("{run}.toml"), &format!("seed = {seed}\n{config}"));
    let arguments = [&ligands, &config].map(|path| path.to_str().unwrap().to_owned());
    // Its tasks are worked on before the push is known to have come to its end.
    fleet.notes().runs.push(run.to_owned());
    fleet.notes().shapes.insert(run.to_owned(), shape);
    fleet.notes().pushed.insert(run.to_owned(), arguments);
    push_again(fleet, run).await;
}

/// The toy as a program of its own.
fn command(fleet: &Fleet, Order { shape, gate, .. }: Order<'_>) -> String {
    let (pause, steps, diaries) = (PAUSE_MS_MAX.to_string(), STEPS.to_string(), fleet.diaries());
    let mut argv = vec![ROLES[2], DIARY_FLAG, diaries.to_str().unwrap(), PAUSE_FLAG, &pause];
    if shape == Shape::Steps {
        argv.extend([STEPS_FLAG, &steps]);
    }
    if let Some(gate) = gate {
        argv.extend([GATE_FLAG, gate.to_str().unwrap()]);
    }
    format!(
        "engine = 'command'\nbatch_size = {}\n\
         [options]\nargv = {argv:?}\ncolumns = [{{ name = 'value', unit = 'points' }}]\nscore = 'value'",
        shape.batch()
    )
}

/// Has launchpad push a run of which the fleet knows the files.
pub(super) async fn push_again(fleet: &Arc<Fleet>, run: &str) {
    let [ligands, config] = fleet.notes().pushed[run].clone();
    fleet.launchpad(&["push", &ligands, "--run", run, "--config", &config, "--confirm-after-ms", "0"]).await;
}

/// Pushes the next run of the fleet.
async fn push_next(fleet: &Arc<Fleet>) {
    let number = fleet.notes().runs.len();
    let shape = Shape::ALL[number % Shape::ALL.len()];
    // Few enough for the stream of events to hold all of a run, so many that a long chaos has not too many runs.
    let most = usize::try_from(fleet.length.as_secs().clamp(120, 600)).unwrap() / 3;
    let tasks = most
        / match shape {
            Shape::Single | Shape::Steps => 1,
            Shape::Records => 2,
            Shape::Batches => 4,
            Shape::Groups => 5,
        };
    let run = &format!("chaos-{number}");
    push(fleet, Order { run, shape, tasks, seed: number as u64, gate: None }).await;
}

/// Sees to it that there is work until told to stop.
pub(super) async fn keep_coming(fleet: Arc<Fleet>, stop: watch::Receiver<bool>) {
    let mut view = fleet.connect().await;
    let mut done = 0;
    while !*stop.borrow() {
        let runs = fleet.notes().runs.clone();
        let mut open = 0;
        // Those before the first one that is open stay as they are, but for a requeue.
        let mut is_first = true;
        for (index, run) in runs.iter().enumerate().skip(done) {
            let far = fleet.how_far(&mut view, run).await;
            let is_forgotten = far.total == 0 && fleet.pair.is_some();
            if is_forgotten {
                // As its owner would: else a long chaos has to do in the end what hundreds of fail-overs have forgotten.
                push_again(&fleet, run).await;
            }
            if is_forgotten || far.total > far.terminal {
                (open, is_first) = (open + 1, false);
            } else if is_first {
                done = index + 1;
            }
        }
        if open < OPEN_RUNS {
            push_next(&fleet).await;
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }
}
