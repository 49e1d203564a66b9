//! The work of a fleet under chaos: runs of short tasks, single molecules, batches and records of an SDF in turn, and always enough.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fleet::{Fleet, ROLES};
use super::toy::{GATE_FLAG, PAUSE_FLAG};
use crate::LEASE_MS;

/// How many runs there are to work on at any time, at least.
const OPEN_RUNS: usize = 3;
/// How often to look whether there are.
const LOOK: Duration = Duration::from_millis(500);
/// How long a molecule may take at most: longer than a lease lives without a heartbeat.
const PAUSE_MS_MAX: u64 = LEASE_MS + LEASE_MS / 4;

/// How a run's molecules come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One SMILES to a task.
    Single,
    /// Eight SMILES to a task.
    Batches,
    /// Two records of an SDF to a task.
    Records,
}

impl Shape {
    pub(super) const ALL: [Self; 3] = [Self::Single, Self::Batches, Self::Records];

    const fn batch(self) -> usize {
        match self {
            Self::Single => 1,
            Self::Batches => 8,
            Self::Records => 2,
        }
    }

    const fn ending(self) -> &'static str {
        match self {
            Self::Single | Self::Batches => "smi",
            Self::Records => "sdf",
        }
    }

    /// The file of so many molecules.
    fn molecules(self, count: usize) -> String {
        (0..count).fold(String::new(), |mut text, n| {
            let tail = "C".repeat(1 + n % 40);
            // Writing to a string cannot fail.
            _ = match self {
                Self::Single | Self::Batches => writeln!(text, "N{tail} mol[{n}],\"x\""),
                Self::Records => write!(
                    text,
                    "mol[{n}]\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    {n}.0000 C   0  0\nM  END\n$$$$\n"
                ),
            };
            text
        })
    }
}

/// Pushes a run, however often that has to be tried. `gate` is a file that holds its tasks up.
pub(super) async fn push(fleet: &Arc<Fleet>, run: &str, shape: Shape, tasks: usize, gate: Option<&Path>) {
    let molecules = shape.molecules(tasks * shape.batch());
    let ligands = fleet.lab.write(&format!("{run}.{}", shape.ending()), &molecules);
    let pause = PAUSE_MS_MAX.to_string();
    let mut argv = vec![ROLES[2], PAUSE_FLAG, &pause];
    if let Some(gate) = gate {
        argv.extend([GATE_FLAG, gate.to_str().unwrap()]);
    }
    let config = format!(
        "engine = 'command'\nbatch_size = {}\nseed = {}\n\
         [options]\nargv = {argv:?}\ncolumns = [{{ name = 'value', unit = 'points' }}]\nscore = 'value'\n\
         [limits]\nlease_ms = {LEASE_MS}\nheartbeat_ms = 400\nbackoff_ms = 10\nlapses_max = 1000000\n",
        shape.batch(),
        fleet.notes().runs.len(),
    );
    let config = fleet.lab.write(&format!("{run}.toml"), &config);
    let arguments = [&ligands, &config].map(|path| path.to_str().unwrap().to_owned());
    // Its tasks are worked on before the push is known to have come to its end.
    fleet.notes().runs.push(run.to_owned());
    fleet.notes().pushed.insert(run.to_owned(), arguments);
    push_again(fleet, run).await;
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
    let tasks = usize::try_from(fleet.length.as_secs().clamp(120, 600)).unwrap() / shape.batch().min(4);
    push(fleet, &format!("chaos-{number}"), shape, tasks, None).await;
}

/// Sees to it that there is work until the end.
pub(super) async fn keep_coming(fleet: Arc<Fleet>, end: Instant) {
    let mut view = fleet.connect().await;
    let mut done = 0;
    while Instant::now() < end {
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
