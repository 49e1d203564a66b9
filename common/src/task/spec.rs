//! What a run computes ([`RunSpec`], fixed for ever by its digest) and how it is driven ([`Limits`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    CommandOptions, FepOptions, FepPart, GninaOptions, HttpOptions, MmgbsaOptions, RunId, Shard,
    StreamOptions, SurgeOptions, TaskId, TerachemOptions,
};

/// The version of the spec's format and of the Redis schema.
pub const SPEC_SCHEMA: u32 = 1;

/// Everything that decides a run's results. Its JSON bytes are stored once; their digest is the run's identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// [`SPEC_SCHEMA`].
    pub schema: u32,
    /// The run.
    pub run: RunId,
    /// The engine and its resolved parameters.
    pub engine: EngineOptions,
    /// Every seed of the run is made from this one and a molecule's id.
    pub seed: u64,
    /// Threads that an engine of this run gets; part of the spec since it may change the bytes.
    pub threads_per_task: u32,
    /// Whether each task computes on a GPU: workers without one leave the run alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_gpu: bool,
    /// Shared inputs by role, such as `receptor`.
    pub inputs: BTreeMap<String, ObjectRef>,
    /// Driver scripts by role, such as `prepare`.
    pub drivers: BTreeMap<String, ObjectRef>,
    /// The manifest that the run was made from.
    pub manifest: ManifestDigest,
}

/// Identity and size of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestDigest {
    /// Of its bytes.
    pub sha256: String,
    /// How many tasks it has.
    pub tasks: u64,
    /// How many molecules it has.
    pub molecules: u64,
}

/// An object of the run, pinned by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// Its name below the run.
    pub object: String,
    /// Of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

impl ObjectRef {
    /// The last part of its name, which carries the user's file name and extension.
    pub fn file_name(&self) -> &str {
        self.object.rsplit('/').next().unwrap_or(&self.object)
    }
}

/// An engine with its parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum EngineOptions {
    /// Docking with AutoDock Vina.
    Vina(VinaOptions),
    /// Docking with Gnina, which scores poses with neural networks.
    Gnina(GninaOptions),
    /// Any program, or a driver script.
    Command(CommandOptions),
    /// MM-GBSA with GROMACS and gmx_MMPBSA.
    GromacsMmgbsa(MmgbsaOptions),
    /// Hydration free energies with GROMACS.
    GromacsFep(FepOptions),
    /// Enumeration of all structures of a formula with Surge.
    Surge(SurgeOptions),
    /// A model server that takes and gives JSON.
    Http(HttpOptions),
    /// Energies by quantum chemistry, from a TeraChem server.
    Terachem(TerachemOptions),
}

impl EngineOptions {
    /// The engine's name in flags, Redis and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Vina(_) => "vina",
            Self::Gnina(_) => "gnina",
            Self::Command(_) => "command",
            Self::GromacsMmgbsa(_) => "gromacs-mmgbsa",
            Self::GromacsFep(_) => "gromacs-fep",
            Self::Http(_) => "http",
            Self::Terachem(_) => "terachem",
            Self::Surge(_) => "surge",
        }
    }
}

impl EngineOptions {
    /// How the output is streamed, if the engine enumerates.
    pub const fn stream(&self) -> Option<&StreamOptions> {
        match self {
            Self::Surge(surge) => Some(&surge.stream),
            Self::Command(command) => command.stream.as_ref(),
            Self::Vina(_)
            | Self::Gnina(_)
            | Self::GromacsMmgbsa(_)
            | Self::GromacsFep(_)
            | Self::Http(_)
            | Self::Terachem(_) => None,
        }
    }

    /// The kinds of its steps that may have a limit of their own.
    pub const fn step_kinds(&self) -> &'static [&'static str] {
        match self {
            Self::Vina(_) => &["prepare", "convert", "dock"],
            Self::Gnina(_) => &["version", "prepare", "dock"],
            Self::Command(CommandOptions { stream: None, .. }) => &["command"],
            Self::Command(_) | Self::Surge(_) => &["stream"],
            Self::GromacsMmgbsa(_) => {
                &["receptor", "pose", "parameters", "complex", "em", "equilibrate", "md", "whole", "energies"]
            }
            Self::GromacsFep(_) => {
                &["solute", "solvate", "relax", "equilibrate", "pack", "window", "energies", "reduce"]
            }
            Self::Http(_) => &["http"],
            Self::Terachem(_) => &["prepare", "terachem"],
        }
    }

    /// Tasks of a molecule, of which the last one waits for the others; `None` for an engine that works on molecules by themselves.
    pub const fn group_tasks(&self) -> Option<u64> {
        match self {
            Self::GromacsFep(fep) => Some(fep.group_tasks()),
            Self::Vina(_)
            | Self::Gnina(_)
            | Self::Command(_)
            | Self::GromacsMmgbsa(_)
            | Self::Surge(_)
            | Self::Http(_)
            | Self::Terachem(_) => None,
        }
    }

    /// Whether an attempt may go on from where a former one was: only such an engine is asked for checkpoints.
    pub const fn makes_checkpoints(&self) -> bool {
        match self {
            Self::Command(_) | Self::GromacsMmgbsa(_) | Self::GromacsFep(_) => true,
            Self::Vina(_) | Self::Gnina(_) | Self::Surge(_) | Self::Http(_) | Self::Terachem(_) => false,
        }
    }

    /// How many molecules of a task's shard are ok and how many are bad: none of a window, which is a part of one.
    pub fn counts(&self, task: TaskId, shard: &Shard) -> (u64, u64) {
        if self.is_part(task) { (0, 0) } else { shard.counts() }
    }

    /// The task that stands for all that are parts of the same thing: the first of a molecule's windows; else the task itself.
    pub const fn first_part(&self, task: TaskId) -> TaskId {
        if let Self::GromacsFep(fep) = self { fep.first_of_group(task) } else { task }
    }

    /// Whether a task gives no result of a molecule, but a part of one: a window.
    pub fn is_part(&self, task: TaskId) -> bool {
        matches!(self, Self::GromacsFep(fep) if fep.part(task) != FepPart::Reduction)
    }
}

/// Heavy atoms this near, in Å, count as in contact: the usual cut-off for protein–ligand contacts, a little beyond the sum of
/// two van der Waals radii (carbon: 2 · 1.9 Å in Vina's function) and far inside the function's own cut-off of 8 Å.
pub const CONTACT_ANGSTROM: f64 = 4.5;

/// Parameters of AutoDock Vina.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VinaOptions {
    /// Centre of the search box, x y z in Å, in the receptor's coordinates.
    pub center: [f64; 3],
    /// Edges of the search box, x y z in Å, each above 0.
    pub size: [f64; 3],
    /// Vina's `--exhaustiveness`, from 1: Monte Carlo chains per docking.
    pub exhaustiveness: u32,
    /// Vina's `--num_modes`, from 1: poses kept per molecule at most.
    pub modes: u32,
}

/// How a run is driven. Never changes a result, so it stands outside the spec's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Leases of the run at any time, fleet-wide; 0 is no limit. Can be changed while the run goes.
    pub parallelism: u64,
    /// A task dies with this many failures.
    pub failures_max: u64,
    /// A task dies with this many lapses: it kills its workers.
    pub lapses_max: u64,
    /// How long a lease lives without a heartbeat, in ms of the run's lease clock.
    pub lease_ms: u64,
    /// How often a worker renews its leases, in ms, jitter included.
    pub heartbeat_ms: u64,
    /// The longest back-off after a first failure, in ms; it doubles with each further one.
    pub backoff_ms: u64,
    /// Where the doubling ends, in ms.
    pub backoff_max_ms: u64,
    /// How long one step of an engine may run, in seconds of wall clock.
    pub step_seconds_max: u64,
    /// The same for steps of some kinds, by [`EngineOptions::step_kinds`].
    pub step_seconds: BTreeMap<String, u64>,
    /// How often at most the checkpoint of a task is stored, in seconds, from 1; workers may be told otherwise.
    pub checkpoint_seconds: u64,
    /// Up to how much longer, at random, in seconds: so a fleet does not store all at once.
    pub checkpoint_jitter_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallelism: 0,
            failures_max: 3,
            lapses_max: 20,
            lease_ms: 60_000,
            heartbeat_ms: 15_000,
            backoff_ms: 30_000,
            backoff_max_ms: 600_000,
            step_seconds_max: 3_600,
            step_seconds: BTreeMap::new(),
            checkpoint_seconds: 600,
            checkpoint_jitter_seconds: 119,
        }
    }
}

/// The longest lease, back-off, step and time between checkpoints, in ms.
const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

/// Says which limits contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Three heartbeats have to fit into a lease.
    #[error(
        "heartbeat_ms {heartbeat_ms} is too long for lease_ms {lease_ms} (expected: heartbeat_ms * 3 < lease_ms)"
    )]
    HeartbeatTooLong {
        /// The heartbeat's interval that was asked for.
        heartbeat_ms: u64,
        /// The lease's length that was asked for.
        lease_ms: u64,
    },
    /// A limit that has to be 1 at least is 0.
    #[error("{name} is 0 (expected 1 or more)")]
    Zero {
        /// The limit.
        name: &'static str,
    },
    /// Longer than any run lasts.
    #[error("{name} is {found} (expected {max} at most)")]
    TooLong {
        /// The limit.
        name: &'static str,
        /// What was asked for.
        found: u64,
        /// The most that it can be.
        max: u64,
    },
    /// The back-off's start lies above its end.
    #[error("backoff_ms {backoff_ms} is above backoff_max_ms {backoff_max_ms}")]
    Backoff {
        /// The first back-off.
        backoff_ms: u64,
        /// The longest one.
        backoff_max_ms: u64,
    },
}

impl Limits {
    /// How long a step may run, in seconds: by its kind, which is its name without the number of a molecule.
    pub fn seconds_of_step(&self, step: &str) -> u64 {
        self.step_seconds.get(step_kind(step)).copied().unwrap_or(self.step_seconds_max)
    }

    /// Checks each limit and their relations.
    pub fn validate(&self) -> Result<(), LimitsError> {
        let positive = [
            ("failures_max", self.failures_max),
            ("lapses_max", self.lapses_max),
            ("heartbeat_ms", self.heartbeat_ms),
            ("step_seconds_max", self.step_seconds_max),
            ("step_seconds", self.step_seconds.values().copied().min().unwrap_or(1)),
            ("checkpoint_seconds", self.checkpoint_seconds),
        ];
        if let Some((name, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(LimitsError::Zero { name });
        }
        let longest = [
            ("lease_ms", self.lease_ms, YEAR_MS),
            ("backoff_max_ms", self.backoff_max_ms, YEAR_MS),
            ("step_seconds_max", self.step_seconds_max, YEAR_MS / 1000),
            ("step_seconds", self.step_seconds.values().copied().max().unwrap_or(0), YEAR_MS / 1000),
            ("checkpoint_seconds", self.checkpoint_seconds, YEAR_MS / 1000),
            ("checkpoint_jitter_seconds", self.checkpoint_jitter_seconds, YEAR_MS / 1000),
        ];
        if let Some((name, found, max)) = longest.into_iter().find(|(_, found, max)| found > max) {
            return Err(LimitsError::TooLong { name, found, max });
        }
        let (heartbeat_ms, lease_ms) = (self.heartbeat_ms, self.lease_ms);
        if heartbeat_ms.checked_mul(3).is_none_or(|three| three >= lease_ms) {
            return Err(LimitsError::HeartbeatTooLong { heartbeat_ms, lease_ms });
        }
        if self.backoff_ms > self.backoff_max_ms {
            return Err(LimitsError::Backoff {
                backoff_ms: self.backoff_ms,
                backoff_max_ms: self.backoff_max_ms,
            });
        }
        Ok(())
    }
}

/// The kind of a step: its name without the round and the number of a molecule. `round_2_dock_00004` is a `dock`.
pub fn step_kind(step: &str) -> &str {
    let of_round = step.strip_prefix("round_").and_then(|rest| rest.split_once('_'));
    let step = of_round.map_or(step, |(_, step)| step);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    step.rsplit_once('_').filter(|(_, number)| is_number(number)).map_or(step, |(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_all_molecules_and_rounds_are_of_one_kind() {
        let kinds =
            ["dock_00000", "round_2_dock_00004", "window", "prepare", "round_3_command", "gb_radii", "x_"]
                .map(step_kind);
        assert_eq!(kinds, ["dock", "dock", "window", "prepare", "command", "gb_radii", "x_"]);
    }

    #[test]
    fn a_kind_of_step_has_its_own_limit() {
        let step_seconds = BTreeMap::from([("md".to_owned(), 36_000)]);
        let limits = Limits { step_seconds, ..Limits::default() };
        assert_eq!(limits.validate(), Ok(()));
        for (step, seconds) in [("md_00003", 36_000), ("md", 36_000), ("em_00003", 3_600), ("mdx", 3_600)] {
            assert_eq!(limits.seconds_of_step(step), seconds, "{step}");
        }
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        assert_eq!(Limits::default().validate(), Ok(()));
    }

    #[test]
    fn contradictions_are_named() {
        let check = |change: fn(&mut Limits), expect: &str| {
            let mut limits = Limits::default();
            change(&mut limits);
            assert_eq!(limits.validate().unwrap_err().to_string(), expect);
        };
        check(
            |l| l.heartbeat_ms = 20_000,
            "heartbeat_ms 20000 is too long for lease_ms 60000 (expected: heartbeat_ms * 3 < lease_ms)",
        );
        check(|l| l.failures_max = 0, "failures_max is 0 (expected 1 or more)");
        check(|l| _ = l.step_seconds.insert("md".into(), 0), "step_seconds is 0 (expected 1 or more)");
        check(|l| l.checkpoint_seconds = 0, "checkpoint_seconds is 0 (expected 1 or more)");
        check(|l| l.lease_ms = u64::MAX, "lease_ms is 18446744073709551615 (expected 31536000000 at most)");
        check(|l| l.backoff_ms = 700_000, "backoff_ms 700000 is above backoff_max_ms 600000");
        assert!(Limits { heartbeat_ms: u64::MAX, ..Limits::default() }.validate().is_err());
    }
}
