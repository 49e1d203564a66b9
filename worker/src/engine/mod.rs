//! What an engine is to a worker: a plan of programs to run, and a judge of what they left behind.
//!
//! Nothing in here spawns a program, uploads, talks to Redis or reads the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::task::{
    ChargeModel, CnnScoring, EngineOptions, FepOptions, GninaOptions, GninaScore, MmgbsaOptions, Molecule,
    Row, RunSpec, Solvent, StreamOptions, TaskId, VinaOptions,
};

use crate::process::Ended;
use crate::server::Service;

mod command;
mod command_rows;
mod command_verdict;
mod complex;
mod docking;
mod ending;
mod enumerator;
mod fep;
mod fep_samples;
mod fep_verdict;
mod gnina;
mod gnina_verdict;
mod http;
mod left_file;
mod mdrun_log;
mod mmgbsa;
mod mmgbsa_energies;
mod mmgbsa_radii;
mod mmgbsa_verdict;
mod pdbqt;
mod pose_check;
mod pose_sdf;
mod prepared;
mod reason;
mod receptor;
mod served;
mod task_file;
mod terachem;
mod vina;
mod vina_verdict;

pub use command::CommandEngine;
pub use enumerator::Enumerator;
pub use fep::Fep;
pub use gnina::Gnina;
pub use http::HttpEngine;
pub use mmgbsa::Mmgbsa;
pub use terachem::Terachem;
pub use vina::Vina;

pub(crate) use docking::ligand_sdf;
pub(crate) use left_file::is_own;
pub(crate) use prepared::Prepared;
pub(crate) use reason::RowReason;
use reason::failure;
pub(crate) use terachem::begun_account;

/// A molecule with what the engine needs beside its structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoleculeInput {
    /// Its position in the task, from 0, which names its files: the same in every attempt, whichever molecules that works on.
    pub index: usize,
    /// Its id and structure.
    pub molecule: Molecule,
    /// Its SDF record as a file below the scratch folder; `None` for a SMILES.
    pub structure: Option<PathBuf>,
    /// For every random number used on it, from 1 to 2³¹ − 2.
    pub seed: u32,
}

/// All that an engine knows of its task.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    /// The run's spec.
    pub spec: &'a RunSpec,
    /// The task.
    pub task: TaskId,
    /// The molecules to work on, in manifest order: those of the task that have no verdict yet, or some of them.
    pub molecules: &'a [MoleculeInput],
    /// A private folder, in which every step runs.
    pub scratch: &'a Path,
    /// Shared inputs, drivers and results of [`Engine::preparations`] by role, as read-only files outside the scratch folder.
    pub shared: &'a BTreeMap<String, PathBuf>,
    /// Whether its programs were given a GPU; they see that one only.
    pub has_gpu: bool,
    /// Whether something broke down over each of these molecules before. They come alone, unless the engine keeps them apart itself.
    pub is_suspect: bool,
}

/// A program that an engine wants to have run in the scratch folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Names its log files: letters, digits, `_`, `-` and `.` only.
    pub name: String,
    /// The program, found on the engines' `PATH`, and its arguments.
    pub argv: Vec<String>,
    /// Files below the scratch folder without which the step is skipped, since an earlier step refused its molecule.
    pub needs: Vec<PathBuf>,
}

/// What an engine wants to have done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Files to write below the scratch folder first, by relative path.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Shared files to copy below the scratch folder, read-only, by relative path: the program can't alter the cache.
    pub copies: Vec<(PathBuf, PathBuf)>,
    /// Programs to run, one after the other.
    pub steps: Vec<Step>,
}

/// Where the standard output of a step goes that is streamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streaming<'a> {
    /// How it is cut and filtered.
    pub options: &'a StreamOptions,
    /// How the names of its parts start, below the files of the attempt: letters, digits and `/` only.
    pub parts: String,
    /// The file below the scratch folder that gets a [`crate::stream::StreamReport`] once the program and its stream have ended.
    pub report: PathBuf,
}

/// A file made from a shared input once per host and kept in the cache, such as a receptor's PDBQT.
///
/// Its cache key is the digest of the input and of `recipe`; the step finds the input as `input/<its file name>` and must leave
/// `output` in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// The role under which [`Workload::shared`] will have it.
    pub role: String,
    /// The role of the shared input that it is made from.
    pub from: String,
    /// What is done, with every parameter that changes the bytes.
    pub recipe: String,
    /// The program that does it.
    pub step: Step,
    /// The file that it must leave, below its folder.
    pub output: PathBuf,
}

/// What all tasks of a group start from: made by whichever of them comes first, and shared through the store. Whoever makes it second
/// takes the first one's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSetup {
    /// The first task of the group, which names the object.
    pub first: TaskId,
    /// Where it is below the scratch folder.
    pub output: PathBuf,
    /// The programs that make it.
    pub steps: Vec<Step>,
}

/// A step whose output depends on nothing but one file, a recipe and its programs, and takes so long to make that it is made once for all
/// tasks of all runs, and shared through the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shareable {
    /// What it is made of, below the scratch folder.
    pub input: PathBuf,
    /// What is done with it, with every parameter that changes the output.
    pub recipe: String,
    /// Those of [`Engine::versions`] whose programs do it; the run's drivers always count.
    pub programs: &'static [&'static str],
}

/// Another task's result that a task works with: its shard comes as `shard.csv`, and the file, unless the result is bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The other task, which has succeeded.
    pub task: TaskId,
    /// A file that it kept, by its path below its own scratch folder.
    pub file: &'static str,
    /// Where both go, below the scratch folder.
    pub folder: PathBuf,
}

/// A step as it went.
#[derive(Debug, Clone)]
pub struct StepOutcome {
    /// The step.
    pub step: Step,
    /// How it ended; `None` if it was skipped, for want of what it needs or since what it leaves was there.
    pub ended: Option<Ended>,
}

/// What is to be done after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Charge the task and try again, up to its limit.
    Retry,
    /// Give the task up: trying again is of no use.
    GiveUp,
    /// Hand the task back unharmed: this machine can't do it now.
    HandBack,
    /// Hand the task back unharmed: no server of the engine can do it now.
    AwaitServer,
}

/// Files from which a later attempt can go on, and how far they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The files below the scratch folder that hold the state, in a fixed order: as long as they do not change, nor has the checkpoint.
    /// A program that rewrites one in place must not be asked for it meanwhile.
    pub state: Vec<PathBuf>,
    /// What resuming needs beside them: files to which a program only appends, and which it cuts back to the state itself.
    pub appended: Vec<PathBuf>,
    /// The steps done and those of the whole task.
    pub progress: Option<(u64, u64)>,
}

/// Says that the engine failed rather than a molecule: there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct EngineFailure {
    /// A stable short word, listed in `docs/science.md`.
    pub reason: &'static str,
    /// One sentence with the evidence.
    pub detail: String,
}

impl EngineFailure {
    /// What is to be done.
    pub fn remedy(&self) -> Remedy {
        match self.reason {
            failure::INPUT_REFUSED | failure::THREADS_CHANGED | failure::RECEPTOR_NOT_PDBQT => Remedy::GiveUp,
            failure::TRY_AGAIN => Remedy::HandBack,
            failure::SERVER_AWAY | failure::SERVER_LOST => Remedy::AwaitServer,
            _ => Remedy::Retry,
        }
    }

    /// Whether a program or a server broke down over a molecule, by a signal or out of time: then the molecule is under suspicion.
    pub(crate) fn is_breakdown(&self) -> bool {
        matches!(
            self.reason,
            failure::ENGINE_CRASHED | failure::TIME_LIMIT | failure::SERVER_CRASHED | failure::SERVER_LOST
        )
    }

    /// Whether a server crashed over a molecule, and nobody has been there since to try it again with.
    pub(crate) fn is_of_a_lost_server(&self) -> bool {
        self.reason == failure::SERVER_LOST
    }

    /// Whether nothing more can be done for now, on this machine or with the servers that there are.
    pub(crate) fn is_nobodys(&self) -> bool {
        matches!(self.remedy(), Remedy::HandBack | Remedy::AwaitServer)
    }

    /// The same of a molecule over which servers were lost in so many attempts, this one included.
    pub(crate) fn of_lost_servers(self, attempts: usize) -> Self {
        let detail = format!("servers crashed over it in {attempts} attempts; {}", self.detail);
        Self { reason: failure::SERVER_CRASHED, detail }
    }

    /// Whether the programs never came to the molecule.
    pub(crate) fn is_untried(&self) -> bool {
        self.reason == failure::NOT_TRIED
    }
}

/// The verdict on a molecule, or why there is none yet: try it again.
///
/// Where one program works on many molecules and breaks down, only the molecule that it was at gets `engine_crashed` or
/// `time_limit`; those behind it get `not_tried` and are worked on without it.
pub type Judged = Result<Row, EngineFailure>;

/// Turns a task into steps and outputs into rows.
pub trait Engine: std::fmt::Debug + Send + Sync {
    /// The programs whose versions make its provenance: name and the arguments that print the version.
    fn versions(&self) -> Vec<(&str, Vec<String>)>;

    /// The servers that it can't do without, if its program is one.
    fn server(&self) -> Option<Service<'_>> {
        None
    }

    /// Whether it works on molecules under suspicion one by one, so that a breakdown over one leaves the others unharmed.
    fn keeps_apart(&self) -> bool {
        false
    }

    /// Whether it computes on a GPU where there is one.
    fn wants_gpu(&self) -> bool {
        false
    }

    /// What to make once per host of the shared inputs, which are staged already: how may depend on their content.
    fn preparations(&self, spec: &RunSpec, shared: &BTreeMap<String, PathBuf>) -> Vec<Preparation>;

    /// Results of other tasks of the group that a task has waited for.
    fn needed(&self, _: TaskId) -> Vec<Needed> {
        Vec::new()
    }

    /// What the tasks of a group start from, if there is such a thing. Its steps run before those of the plan, if nobody has made it.
    fn setup(&self, _: &Workload<'_>) -> Option<GroupSetup> {
        None
    }

    /// What to run. Pure: the same workload gives the same plan.
    fn plan(&self, workload: &Workload<'_>) -> Plan;

    /// Judges the outputs, never the exit codes: for each molecule, in manifest order, its row, or why there is no verdict on it yet.
    /// An error of the whole says that no molecule could be judged.
    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure>;

    /// Files below the scratch folder worth keeping beside the logs, such as poses. They may be missing.
    fn keeps(&self, workload: &Workload<'_>) -> Vec<PathBuf>;

    /// What of its scratch folder a later attempt can go on from: those files will stand at their old places before [`Engine::plan`] is
    /// asked. `None` while there is nothing or it is not whole. Not asked where the spec says that the engine starts again from nothing
    /// ([`makes_checkpoints`](common::task::EngineOptions::makes_checkpoints)).
    fn checkpoint(&self, _scratch: &Path) -> Option<Snapshot> {
        None
    }

    /// The file that a step leaves last and whole, below the scratch folder. `None` for a step that is always run.
    fn leaves(&self, _: &Step) -> Option<PathBuf> {
        None
    }

    /// Whether a step has been done before, as what it [leaves](Engine::leaves) tells, or what a later one does; then it is skipped.
    fn is_done(&self, scratch: &Path, step: &Step) -> bool {
        self.leaves(step).is_some_and(|file| scratch.join(file).is_file())
    }

    /// Whether what a step [leaves](Engine::leaves) is shared by all tasks that want the same.
    fn shareable(&self, _: &Step) -> Option<Shareable> {
        None
    }

    /// How a step's standard output is streamed into parts of the attempt; `None` for a step whose output is a log.
    fn streaming(&self, _: &Step) -> Option<Streaming<'_>> {
        None
    }

    /// The unit of its scores; empty if it gives none.
    fn score_unit(&self) -> &str;

    /// Names of its own columns, in the order of [`Row::columns`].
    fn columns(&self) -> Vec<&str>;
}

/// Every engine that is built in, with parameters that only stand for those of a run.
pub fn built_in() -> Vec<EngineOptions> {
    let vina = VinaOptions { center: [0.0; 3], size: [20.0; 3], exhaustiveness: 8, modes: 9 };
    let gnina = GninaOptions {
        center: [0.0; 3],
        size: [20.0; 3],
        exhaustiveness: 8,
        modes: 9,
        cnn_scoring: CnnScoring::Rescore,
        score: GninaScore::MinimizedAffinity,
        device: 0,
    };
    let mmgbsa = MmgbsaOptions {
        charges: ChargeModel::Am1Bcc,
        md_ps: 1.0,
        frames: 1,
        solvent: Solvent::Vacuum,
        equilibration_ps: 0.0,
    };
    let fep = FepOptions {
        charges: ChargeModel::Am1Bcc,
        lambdas_coulomb: vec![0.0, 1.0],
        lambdas_vdw: vec![0.0, 1.0],
        window_ps: 1.0,
        discard_ps: 0.0,
        equilibration_ps: 1.0,
        box_nm: 2.0,
    };
    vec![
        EngineOptions::Vina(vina),
        EngineOptions::Gnina(gnina),
        EngineOptions::GromacsMmgbsa(mmgbsa),
        EngineOptions::GromacsFep(fep),
    ]
}

/// The engine that a run asks for.
pub fn engine_for(options: &EngineOptions) -> Box<dyn Engine> {
    match options {
        EngineOptions::Vina(options) => Box::new(Vina::new(options.clone())),
        EngineOptions::Gnina(options) => Box::new(Gnina::new(options.clone())),
        EngineOptions::Command(options) => match &options.stream {
            Some(stream) => Box::new(Enumerator::of_command(options, stream)),
            None => Box::new(CommandEngine::new(options.clone())),
        },
        EngineOptions::Surge(options) => Box::new(Enumerator::surge(options)),
        EngineOptions::GromacsMmgbsa(options) => Box::new(Mmgbsa::new(options.clone())),
        EngineOptions::GromacsFep(options) => Box::new(Fep::new(options.clone())),
        EngineOptions::Http(options) => Box::new(HttpEngine::new(options.clone())),
        EngineOptions::Terachem(options) => Box::new(Terachem::new(options.clone())),
    }
}

#[cfg(test)]
mod fep_traps;
#[cfg(test)]
mod hostile_input;
#[cfg(test)]
mod left_docking;
#[cfg(test)]
mod mmgbsa_traps;

#[cfg(test)]
mod tests {
    use common::task::step_kind;

    use super::*;

    #[test]
    fn the_kinds_of_steps_that_may_have_limits_are_those_of_the_engines() {
        let check = |engine: &EngineOptions, mut steps: Vec<&str>| {
            let mut known = engine.step_kinds().to_vec();
            known.sort_unstable();
            steps.sort_unstable();
            assert_eq!(known, steps, "{}", engine.name());
        };
        let [dock, convert] = [docking::dock_step(0), vina::convert_step(0)];
        let [dock, convert] = [step_kind(&dock), step_kind(&convert)];
        let [vina, gnina, _, fep] = &built_in()[..] else { panic!("other engines") };
        check(vina, vec![docking::PREPARE_ROLE, convert, dock]);
        check(gnina, vec![docking::PREPARE_ROLE, gnina::VERSION_STEP, dock]);
        let fep_steps = fep::STAGES.iter().map(|stage| stage.name).chain(["window", "energies", "reduce"]);
        check(fep, fep_steps.collect());
    }
}
