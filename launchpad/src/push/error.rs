//! What can be wrong with a push, apart from Redis, the store and the readers, whose errors are their own.

use std::path::PathBuf;

use common::exit_code;
use common::task::{
    CONTACT_ANGSTROM, CommandError, FepError, HttpError, MmgbsaError, NotAResidue, RunId, StreamError,
    TerachemError, UnknownWord,
};

use crate::output::thousands;

/// Where a run was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In Redis.
    Redis,
    /// In the store only.
    Store,
}

impl Place {
    fn another(self, run: &RunId) -> String {
        match self {
            Self::Redis => format!("run `{run}` is there and is another"),
            Self::Store => format!("the store has another run `{run}`"),
        }
    }
}

/// Why a push was refused or did not finish.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// Something that has to be said was not.
    #[error("no {what} was given")]
    Nothing {
        /// What is missing.
        what: &'static str,
        /// How it is given.
        how: &'static str,
    },
    /// Two parameters that exclude each other.
    #[error("{one} and {other} contradict each other")]
    Contradiction {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A number that has to be 1 at least.
    #[error("{name} is 0 (expected 1 or more)")]
    Zero {
        /// The parameter.
        name: &'static str,
    },
    /// More molecules per task than an engine takes.
    #[error("batch_size is {found} (expected {most} at most for the engine `{engine}`)")]
    Batch {
        /// Molecules per task.
        found: u64,
        /// How many it takes.
        most: u64,
        /// The engine.
        engine: &'static str,
    },
    /// A limit for steps that the engine does not have.
    #[error("the engine `{engine}` has no step `{found}` (known: {known})")]
    StepKind {
        /// What the limit is for.
        found: String,
        /// The engine.
        engine: &'static str,
        /// The kinds of steps that it has.
        known: String,
    },
    /// A parameter that the engine does not have.
    #[error("`{parameter}` is no parameter of the engine `{engine}`")]
    OtherEngine {
        /// The parameter.
        parameter: &'static str,
        /// The engine of the run.
        engine: &'static str,
        /// The engine that has it.
        owner: &'static str,
    },
    /// A role that can't be one.
    #[error(
        "the input role `{role}` can't be used (expected a small letter, then at most 31 of a-z 0-9 _, and not `driver`)"
    )]
    Role {
        /// The role.
        role: String,
    },
    /// The parameters of the engine `command`.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A score that Gnina does not give.
    #[error("the score {0}")]
    Score(UnknownWord),
    /// A score of the neural networks, which are switched off.
    #[error("the score `{score}` needs the neural networks, and cnn_scoring is none")]
    ScoreWithoutCnn {
        /// The score.
        score: &'static str,
    },
    /// The parameters of the engine `gromacs-mmgbsa`.
    #[error(transparent)]
    Mmgbsa(#[from] MmgbsaError),
    /// The parameters of the engine `gromacs-fep`.
    #[error(transparent)]
    Fep(#[from] FepError),
    /// How the output of an engine that enumerates is cut.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A text that no program is given as a formula.
    #[error(transparent)]
    Formula(#[from] NotAResidue),
    /// A parameter of `http` can't be used.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A parameter of `terachem` can't be used.
    #[error(transparent)]
    Terachem(#[from] TerachemError),
    /// A receptor, or a ligand in it, in a format that the engine does not take.
    #[error("the {role} `{}` is in an unknown format (known extensions: {known})", path.display())]
    InputFormat {
        /// Whether it is the receptor or the reference.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What the engine takes.
        known: String,
    },
    /// A search box in which there is nothing to dock to.
    #[error(
        "none of the {} heavy atoms of the receptor `{receptor}` is in the search box or within {CONTACT_ANGSTROM} Å of it (box: x, y, z {box_range}; receptor: {receptor_range})",
        thousands(*atoms)
    )]
    EmptyBox {
        /// The receptor's file.
        receptor: String,
        /// Its heavy atoms.
        atoms: u64,
        /// From where to where the box reaches on each axis, in Å.
        box_range: String,
        /// The same of the receptor.
        receptor_range: String,
    },
    /// A receptor that is smaller than the ligand round which the box was laid.
    #[error(
        "the receptor `{receptor}` has {} heavy atoms and the box ligand `{}` {} (expected the receptor to have more)",
        thousands(*atoms), ligand.display(), thousands(*ligand_atoms)
    )]
    Swapped {
        /// The receptor's file.
        receptor: String,
        /// Its heavy atoms.
        atoms: u64,
        /// The ligand's file.
        ligand: PathBuf,
        /// Its heavy atoms.
        ligand_atoms: u64,
    },
    /// A molecule without coordinates, and an engine that does not place it.
    #[error("molecule `{molecule}` is a SMILES, and the engine `{engine}` needs its pose in the receptor")]
    NeedsPose {
        /// The first such molecule.
        molecule: String,
        /// The engine of the run.
        engine: &'static str,
    },
    /// An engine whose tasks wait for each other.
    #[error(
        "the engine `{engine}` makes several tasks of a molecule, and their pace can't be measured by whole molecules"
    )]
    NotTunable {
        /// The engine.
        engine: &'static str,
    },
    /// Entries that can't be used, each of them listed before.
    #[error("{bad} {} can't be used, nothing was pushed", if *bad == 1 { "entry" } else { "entries" })]
    BadEntries {
        /// How many.
        bad: u64,
    },
    /// Nothing is left to push.
    #[error("there is no molecule to push")]
    NoMolecules,
    /// A run can't take its molecules from itself.
    #[error("run `{run}` can't follow itself")]
    OwnFollowUp {
        /// The run.
        run: RunId,
    },
    /// The run that the molecules should come from has not ended, or its results can't be trusted.
    #[error("run `{run}` has {tasks} tasks without a result that can be trusted, nothing was pushed")]
    Unfinished {
        /// The run that the molecules should come from.
        run: RunId,
        /// How many of its tasks.
        tasks: u64,
    },
    /// A file that is read twice was not the same the second time.
    #[error("`{file}` changed while it was read")]
    Changed {
        /// The file.
        file: String,
    },
    /// The run id is in use for something else.
    #[error("{} (theirs → ours): {}", place.another(run), differences.join("; "))]
    OtherRun {
        /// The run.
        run: RunId,
        /// Where it was found.
        place: Place,
        /// What is not the same, each as a phrase.
        differences: Vec<String>,
    },
    /// The store has another manifest or spec under this run id.
    #[error("the store has another {object} for run `{run}` (theirs: {theirs}, ours: {ours})")]
    StoredDiffers {
        /// The run.
        run: RunId,
        /// The object.
        object: &'static str,
        /// The digest of the stored bytes.
        theirs: String,
        /// The digest of this push.
        ours: String,
    },
    /// The run's objects are elsewhere.
    #[error("run `{run}` has its objects in another store (theirs: {theirs}, ours: {ours})")]
    OtherStore {
        /// The run.
        run: RunId,
        /// Where they are.
        theirs: String,
        /// Where this push would put them.
        ours: String,
    },
    /// The user pressed Ctrl-C.
    #[error("the push of run `{run}` was interrupted with {total} of {tasks} tasks in Redis")]
    Interrupted {
        /// The run.
        run: RunId,
        /// How many tasks this push knows to be there.
        total: u64,
        /// How many there should be.
        tasks: u64,
    },
    /// Redis kept forgetting.
    #[error("Redis has {total} of {tasks} tasks of run `{run}` after {rounds} rounds: it keeps forgetting")]
    Unconfirmed {
        /// The run.
        run: RunId,
        /// How many it has.
        total: u64,
        /// How many it should have.
        tasks: u64,
        /// How often they were pushed.
        rounds: u32,
    },
}

impl PushError {
    /// The exit code, one of [`common::exit_code`].
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Nothing { .. }
            | Self::Contradiction { .. }
            | Self::Zero { .. }
            | Self::Batch { .. }
            | Self::OwnFollowUp { .. } => exit_code::USAGE,
            Self::OtherEngine { .. }
            | Self::StepKind { .. }
            | Self::Role { .. }
            | Self::Command(_)
            | Self::Mmgbsa(_)
            | Self::Fep(_)
            | Self::Stream(_)
            | Self::Http(_)
            | Self::Terachem(_)
            | Self::Score(_)
            | Self::ScoreWithoutCnn { .. } => exit_code::CONFIG,
            Self::Interrupted { .. } | Self::Unconfirmed { .. } => exit_code::TRY_AGAIN,
            Self::InputFormat { .. }
            | Self::EmptyBox { .. }
            | Self::Swapped { .. }
            | Self::NeedsPose { .. }
            | Self::NotTunable { .. }
            | Self::Formula(_)
            | Self::BadEntries { .. }
            | Self::NoMolecules
            | Self::Unfinished { .. }
            | Self::Changed { .. }
            | Self::OtherRun { .. }
            | Self::StoredDiffers { .. }
            | Self::OtherStore { .. } => exit_code::DATA,
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Nothing { how, .. } => (*how).to_owned(),
            Self::OtherEngine { owner, .. } => format!("it belongs to `--engine {owner}`"),
            Self::Command(CommandError::NoDriver) => "name one with --driver or `driver` in run.toml".into(),
            Self::Command(CommandError::NothingDeclared) | Self::Http(HttpError::NoColumn) => {
                "declare one with --column NAME,unit=U,min=X,max=Y or `[[options.columns]]` in run.toml"
                    .into()
            }
            Self::Command(_) => "`launchpad push --help` and docs/drivers.md have examples".into(),
            Self::Mmgbsa(_) | Self::Fep(_) | Self::Http(_) | Self::Terachem(_) => {
                "`launchpad push --help` and docs/science.md explain the parameters".into()
            }
            Self::Stream(_) => "docs/science.md, Enumeration, explains the parameters".into(),
            Self::Formula(_) => "`launchpad formulae --heavy-atoms 5` prints some".into(),
            Self::EmptyBox { .. } => {
                "--box-ligand lays the box round a ligand's pose, which has to be in the receptor's coordinates".into()
            }
            Self::Swapped { .. } => "are --receptor and --box-ligand swapped?".into(),
            Self::NeedsPose { .. } => {
                "dock it first and push the poses: `launchpad poses DOCKING_RUN -o poses.sdf`; or name a ligand in the receptor with --reference".into()
            }
            Self::NotTunable { .. } => {
                "push some molecules, and compare `launchpad status` under several `launchpad set RUN parallelism=N`".into()
            }
            Self::BadEntries { .. } => "correct them, or leave them out with --skip-bad".into(),
            Self::StoredDiffers { run, .. } | Self::OtherRun { run, .. } => format!(
                "push under another run id; or, if nobody needs its results any more, `launchpad remove {run} --outputs` first"
            ),
            Self::OwnFollowUp { .. } => "name the new run with --run".into(),
            Self::Unfinished { run, .. } => {
                format!("`launchpad status {run}` tells whether work is going on")
            }
            Self::OtherStore { theirs, .. } => format!("push with --store '{theirs}'"),
            Self::Interrupted { run, .. } => format!(
                "the same command again goes on where it stopped; `launchpad remove {run} --outputs` takes it back"
            ),
            Self::Unconfirmed { .. } => {
                "push again once Redis is settled; it goes on where it stopped".into()
            }
            Self::Score(_) => "docs/science.md says what each of them means".into(),
            Self::ScoreWithoutCnn { .. } => "leave out one of the two, or --score minimizedAffinity".into(),
            Self::Role { .. } => "name it as the driver looks for it: --input site=protein.pdb".into(),
            Self::Contradiction { one, other } => format!("leave out {one} or {other}"),
            Self::Zero { .. } => "leave it out for the default".into(),
            Self::Batch { most, .. } => {
                format!("--batch-size {most}: each molecule takes minutes, so larger tasks save nothing")
            }
            Self::StepKind { .. } => "steps that `step_seconds` does not name have `step_seconds_max`".into(),
            Self::InputFormat { role, known, .. } => {
                let best = known.split(',').next().unwrap_or_default();
                format!("convert it: `obabel {role}.mol2 -O {role}.{best}`")
            }
            Self::NoMolecules => "every file is empty, or holds nothing but blank lines and comments".into(),
            Self::Changed { .. } => "push again once nothing writes to the file any more".into(),
        }
    }
}
