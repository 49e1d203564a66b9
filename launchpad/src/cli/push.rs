//! The command lines that make runs: `push`, `trial` and `tune`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use common::task::{ChargeModel, CnnScoring, RunId, SPLIT_MAX, Solvent};
use serde::Deserialize;

use super::values::from_zero;
use super::{Argv, Center, DeclaredColumn, Edges, InputFile, Label, SideBySide};
use crate::input::Format;

/// The sections of the help, in their order; what is in none of them stands first.
const INPUT: &str = "Input";
const DOCKING: &str = "Docking";
const GROMACS: &str = "GROMACS";
const ENUMERATION: &str = "Enumeration";
const PROGRAMS: &str = "Programs and servers";
const RUNNING: &str = "Running";

/// Arguments of `push`. Of a flag that comes twice, the last one counts, so that scripts can append to a command line.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
#[command(after_help = "\
Examples:
  launchpad push ligands.smi --run first --receptor receptor.pdb --box-ligand pose.sdf
  launchpad push a.csv b.sdf --run second --receptor r.pdbqt --box-center 42.3,45.4,18.2 --box-size 14
  launchpad push --config run.toml --dry-run
  launchpad push a.smi --run third --driver mw.py --column mw,unit=g/mol,min=1,max=5000 --batch-size 100
  zcat library.smi.gz | launchpad push - --format smi --run big --config run.toml --batch-size 100
  launchpad push --from first --run second --exhaustiveness 32
  launchpad push a.smi --run cnn --engine gnina --receptor r.pdb --box-ligand pose.sdf --score CNN_VS
  launchpad push a.smi --run model --config http.toml --batch-size 100
  launchpad push --from first --sample 10 --of-top 100 --run look
  launchpad push solutes.smi --run hydration --engine gromacs-fep --window-ps 1000
  launchpad push poses.sdf --run rescored --engine gromacs-mmgbsa --receptor receptor.pdb --batch-size 10
  launchpad formulae --heavy-atoms 6 | launchpad push - --run six --engine surge --batch-size 100

--from takes molecules, engine, parameters, inputs and limits from a run that has ended; flags and run.toml win.
Pushing the same again goes on where the last push stopped, and changes nothing once it has finished.")]
pub struct Push {
    /// Files of molecules: .smi, .sdf, .csv or .tsv with a header, .jsonl; `-` is standard input
    #[arg(value_name = "LIGANDS", conflicts_with = "from")]
    pub ligands: Vec<PathBuf>,
    /// Take the molecules of this run that have no score: bad ones, and those of dead tasks
    #[arg(long, help_heading = INPUT, value_name = "RUN")]
    pub from: Option<RunId>,
    /// With --from: bad molecules only, unless --dead is given, too
    #[arg(long, help_heading = INPUT, requires = "from")]
    pub bad: bool,
    /// With --from: molecules of dead tasks only, unless --bad is given, too
    #[arg(long, help_heading = INPUT, requires = "from")]
    pub dead: bool,
    /// With --from: this many molecules, drawn by the seed from the best ones instead
    #[arg(long, help_heading = INPUT, value_name = "N", requires_all = ["from", "of_top"], conflicts_with_all = ["bad", "dead"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// How many of the best --sample draws from
    #[arg(long, help_heading = INPUT, value_name = "M", requires = "sample", value_parser = clap::value_parser!(u32).range(1..))]
    pub of_top: Option<u32>,
    /// What the best ones have the lowest of: `score`, or a column of the engine
    #[arg(long, help_heading = INPUT, value_name = "COLUMN", requires = "sample", default_value = "score")]
    pub by: String,
    /// Name of the run, 1 to 64 of A-Z a-z 0-9 _ . -
    #[arg(long, value_name = "R")]
    pub run: Option<RunId>,
    /// Take what no flag says from this run.toml; its paths are relative to it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Engine that scores the molecules [default: what the parameters belong to, else vina]
    #[arg(long)]
    pub engine: Option<EngineName>,
    /// Receptor: PDB, or PDBQT for docking
    #[arg(long, help_heading = DOCKING, value_name = "FILE")]
    pub receptor: Option<PathBuf>,
    /// Put the search box round this ligand in its pose: PDB, PDBQT, SDF or MOL2
    #[arg(long, help_heading = DOCKING, value_name = "FILE", conflicts_with = "box_center")]
    pub box_ligand: Option<PathBuf>,
    /// Centre of the search box in Å
    #[arg(long, help_heading = DOCKING, value_name = "X,Y,Z", allow_hyphen_values = true)]
    pub box_center: Option<Center>,
    /// Edges of the search box in Å, one number for a cube
    #[arg(long, help_heading = DOCKING, value_name = "X[,Y,Z]", allow_hyphen_values = true)]
    pub box_size: Option<Edges>,
    /// Space in Å between the box ligand and each side of the box, where no size is given [default: 4]
    #[arg(long, help_heading = DOCKING, value_name = "Å", allow_negative_numbers = true, conflicts_with_all = ["box_size", "box_center"])]
    pub box_padding: Option<f64>,
    /// How hard Vina or Gnina searches [default: 8]
    #[arg(long, help_heading = DOCKING, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub exhaustiveness: Option<u32>,
    /// Poses kept per molecule at most [default: 9]
    #[arg(long, help_heading = DOCKING, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub modes: Option<u32>,
    /// What Gnina uses its neural networks for: none, rescore, refinement, metrorescore, metrorefine or all [default: rescore]
    #[arg(long, help_heading = DOCKING, value_name = "WHAT")]
    pub cnn_scoring: Option<CnnScoring>,
    /// GPU that Gnina computes on, from 0; as many processes share it as a worker has slots [default: 0]
    #[arg(long, help_heading = DOCKING, value_name = "N", allow_negative_numbers = true)]
    pub device: Option<u32>,
    /// Partial charges for gromacs-mmgbsa and gromacs-fep [default: am1-bcc]
    #[arg(long, help_heading = GROMACS, value_name = "MODEL")]
    pub charges: Option<Charges>,
    /// Length of the dynamics of gromacs-mmgbsa in ps [default: 10]
    #[arg(long, help_heading = GROMACS, value_name = "PS", allow_negative_numbers = true)]
    pub md_ps: Option<f64>,
    /// Frames of the dynamics that gromacs-mmgbsa evaluates [default: 10]
    #[arg(long, help_heading = GROMACS, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub frames: Option<u32>,
    /// What is round the complex in the dynamics of gromacs-mmgbsa [default: vacuum]
    #[arg(long, help_heading = GROMACS, value_name = "WHAT")]
    pub solvent: Option<SolventName>,
    /// Ligand in the receptor, in whose place gromacs-mmgbsa puts molecules that are SMILES: SDF
    #[arg(long, help_heading = GROMACS, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// Windows of gromacs-fep, 4 to 100; run.toml can give each by itself [default: 13]
    #[arg(long, help_heading = GROMACS, value_name = "N", allow_negative_numbers = true)]
    pub windows: Option<usize>,
    /// Length of each window of gromacs-fep in ps [default: 100]
    #[arg(long, help_heading = GROMACS, value_name = "PS", allow_negative_numbers = true)]
    pub window_ps: Option<f64>,
    /// What of a window's beginning does not count, in ps [default: a tenth]
    #[arg(long, help_heading = GROMACS, value_name = "PS", allow_negative_numbers = true)]
    pub discard_ps: Option<f64>,
    /// Length of the equilibration in ps, of gromacs-fep and of gromacs-mmgbsa in water [default: 20, 50]
    #[arg(long, help_heading = GROMACS, value_name = "PS", allow_negative_numbers = true)]
    pub equilibration_ps: Option<f64>,
    /// Edge of the box of water of gromacs-fep in nm [default: 2.4]
    #[arg(long, help_heading = GROMACS, value_name = "NM", allow_negative_numbers = true)]
    pub box_nm: Option<f64>,
    /// Lines of each part that surge's output, or a command's stream, is cut into [default: 10000000]
    #[arg(long, help_heading = ENUMERATION, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub lines_per_part: Option<u64>,
    /// Tasks that each formula is split into, for surge or a command's stream [default: 1]
    #[arg(long, help_heading = ENUMERATION, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..=SPLIT_MAX))]
    pub split: Option<u64>,
    /// What the engine `command` runs
    #[command(flatten)]
    pub command: CommandFlags,
    /// Seed that all random numbers of the run are made from [default: 42]
    #[arg(long, help_heading = RUNNING, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Molecules per task [default: 1]
    #[arg(long, help_heading = RUNNING, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub batch_size: Option<u64>,
    /// Threads that an engine gets [default: 1]
    #[arg(long, help_heading = RUNNING, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub threads_per_task: Option<u32>,
    /// Whether a task needs a share of a GPU, as `[needs] gpu` of run.toml [default: false]
    #[arg(long, help_heading = RUNNING, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub needs_gpu: Option<bool>,
    /// Tasks worked on at any time, fleet-wide; 0 is no limit [default: 0]
    #[arg(long, help_heading = RUNNING, value_name = "N", allow_negative_numbers = true)]
    pub parallelism: Option<u64>,
    /// Failures after which a task is given up [default: 3]
    #[arg(long, help_heading = RUNNING, value_name = "N", allow_negative_numbers = true)]
    pub failures_max: Option<u64>,
    /// Seconds that one step of an engine may take [default: 3600]
    #[arg(long, help_heading = RUNNING, value_name = "S", allow_negative_numbers = true)]
    pub step_seconds_max: Option<u64>,
    /// How long a lease lives without a heartbeat, in ms
    #[arg(long, value_name = "MS", hide = true)]
    pub lease_ms: Option<u64>,
    /// How often a worker renews its leases, in ms
    #[arg(long, value_name = "MS", hide = true)]
    pub heartbeat_ms: Option<u64>,
    /// The longest back-off after a first failure, in ms
    #[arg(long, value_name = "MS", hide = true)]
    pub backoff_ms: Option<u64>,
    /// Format of the molecules, where the file's name does not tell it
    #[arg(long, help_heading = INPUT)]
    pub format: Option<Format>,
    /// Column, key or SDF property of the molecule's id
    #[arg(long, help_heading = INPUT, value_name = "NAME")]
    pub id_column: Option<String>,
    /// Column or key of the SMILES
    #[arg(long, help_heading = INPUT, value_name = "NAME")]
    pub smiles_column: Option<String>,
    /// Campaign that the run belongs to
    #[arg(long, help_heading = RUNNING, value_name = "NAME")]
    pub campaign: Option<String>,
    /// Label of the run; may be given several times
    #[arg(long = "label", help_heading = RUNNING, value_name = "K=V")]
    pub labels: Vec<Label>,
    /// Workers without --run serve higher priorities first
    #[arg(long, help_heading = RUNNING, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i64,
    /// Show tasks, objects and the box; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// List lines that can't be read and duplicate ids, and push the rest
    #[arg(long, help_heading = INPUT)]
    pub skip_bad: bool,
    /// How long after the push to look whether Redis still has all of it, in ms
    #[arg(long, value_name = "MS", default_value_t = 2000, hide = true)]
    pub confirm_after_ms: u64,
}

/// Flags of `push` for drivers and the engine `command`.
#[derive(Debug, Args)]
pub struct CommandFlags {
    /// Driver script: a file, or sha256:DIGEST/NAME of a published one; run.toml says more, see docs/drivers.md
    #[arg(long, help_heading = PROGRAMS, value_name = "FILE")]
    pub driver: Option<String>,
    /// Program and arguments, quoted as for a shell; `{driver}` is the driver's path [default: python3 or bash by its ending]
    #[arg(long, help_heading = PROGRAMS, value_name = "WORDS")]
    pub argv: Option<Argv>,
    /// File that every task gets as inputs/ROLE; may be given several times
    #[arg(long = "input", help_heading = PROGRAMS, value_name = "ROLE=FILE")]
    pub inputs: Vec<InputFile>,
    /// Column that the program writes; may be given several times
    #[arg(long = "column", help_heading = PROGRAMS, value_name = "NAME[,unit=U][,min=X][,max=Y][,kind=text]")]
    pub columns: Vec<DeclaredColumn>,
    /// Column that is the score; of gnina `minimizedAffinity`, `CNNscore`, `CNNaffinity` or `CNN_VS` [default of gnina: the first]
    #[arg(long, help_heading = PROGRAMS, value_name = "NAME")]
    pub score: Option<String>,
    /// File of rows that the program writes, .csv or .jsonl [default: rows.csv]
    #[arg(long, help_heading = PROGRAMS, value_name = "PATH")]
    pub rows: Option<String>,
    /// File that must be there for a molecule to be ok, `{index}` for one each; may be given several times
    #[arg(long = "expect", help_heading = PROGRAMS, value_name = "PATH")]
    pub expect: Vec<String>,
    /// File or folder to keep beside output/; may be given several times
    #[arg(long = "keep", help_heading = PROGRAMS, value_name = "PATH")]
    pub keep: Vec<String>,
}

/// Arguments of `trial`: those of `push` and how many molecules.
#[derive(Debug, Args)]
pub struct Trial {
    /// What would be pushed
    #[command(flatten)]
    pub push: Push,
    /// Molecules to try, the first ones of the input, one task each
    #[arg(short = 'n', long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub molecules: u64,
}

/// Arguments of `tune`: those of `push`, the numbers to try, and how many molecules.
#[derive(Debug, Args)]
pub struct Tune {
    /// What would be pushed
    #[command(flatten)]
    pub push: Push,
    /// How many tasks to try side by side, in ascending order
    #[arg(long, value_name = "N,N,...", default_value = "1,2,4")]
    pub side_by_side: SideBySide,
    /// Molecules for each slot, the first ones of the input, one after the other
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(2..=1000))]
    pub molecules: u64,
    /// What the machine costs, in USD an hour, to say what 1,000 molecules cost
    #[arg(long, value_name = "USD", value_parser = from_zero)]
    pub usd_per_hour: Option<f64>,
}

/// An engine by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineName {
    /// Docking with AutoDock Vina
    Vina,
    /// Docking with Gnina, poses scored by neural networks
    Gnina,
    /// Any program, or a driver script
    Command,
    /// MM-GBSA of poses with GROMACS and gmx_MMPBSA
    GromacsMmgbsa,
    /// Free energies of hydration with GROMACS, window by window
    GromacsFep,
    /// All structures of molecular formulae with Surge
    Surge,
    /// A model server that takes and gives JSON
    Http,
    /// Energies by quantum chemistry, from a TeraChem server
    Terachem,
}

impl EngineName {
    /// The name in flags and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vina => "vina",
            Self::Gnina => "gnina",
            Self::Command => "command",
            Self::GromacsMmgbsa => "gromacs-mmgbsa",
            Self::GromacsFep => "gromacs-fep",
            Self::Surge => "surge",
            Self::Http => "http",
            Self::Terachem => "terachem",
        }
    }
}

/// A model of partial charges by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Charges {
    /// AM1-BCC: what GAFF2 was made with; minutes for large ligands
    Am1Bcc,
    /// Gasteiger: under a second, and rough
    Gasteiger,
}

impl From<Charges> for ChargeModel {
    fn from(charges: Charges) -> Self {
        match charges {
            Charges::Am1Bcc => Self::Am1Bcc,
            Charges::Gasteiger => Self::Gasteiger,
        }
    }
}

/// A solvent by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SolventName {
    /// None, but a permittivity that softens charges: quick
    Vacuum,
    /// A box of TIP3P water: ten times as long and more
    Tip3p,
}

impl From<SolventName> for Solvent {
    fn from(solvent: SolventName) -> Self {
        match solvent {
            SolventName::Vacuum => Self::Vacuum,
            SolventName::Tip3p => Self::Tip3p,
        }
    }
}
