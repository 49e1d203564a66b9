//! The command line: clap types and what they say in `--help`. Nothing is decided or done here.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use common::env;
use common::task::{Column, ColumnKind, RunId, TaskId};
use serde::Deserialize;

use crate::input::Format;

/// Scores molecules on a fleet of workers: fills Redis with tasks, shows how they go, builds one table and proves it complete.
#[derive(Debug, Parser)]
#[command(name = "launchpad", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Where Redis is [default: the private Redis of this folder or one above, then `redis://127.0.0.1:6379`]
    #[arg(long, global = true, env = env::REDIS, value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// Where objects are, a URL or a folder [default: the store of the run, or .molfleet/store]
    #[arg(long, global = true, env = env::STORE, value_name = "URL")]
    pub store: Option<String>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to log to standard error, such as `info` or `launchpad=debug`
    #[arg(long, global = true, env = env::LOG, default_value = "warn", hide = true)]
    pub log: String,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  launchpad local up
  launchpad push ligands.smi --run first --receptor receptor.pdb --box-ligand pose.sdf
  launchpad status first --watch
  launchpad consolidate first -o results.csv

Exit codes: 0 it worked; 64 the command line is wrong; 65 the input is bad, or a consolidation is incomplete;
69 Redis or the store can't be reached; 75 try again; 78 the configuration is wrong.";

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a run: read molecules, store the inputs, fill Redis with tasks
    Push(Box<Push>),
    /// Show all runs, or how one goes and why it waits
    Status(Status),
    /// Show a task: its molecules and every attempt with its log's end
    Show(Show),
    /// Build one table of all results and prove that it is complete
    Consolidate(Consolidate),
    /// Stop a run, or some of its tasks; engines are killed within a heartbeat
    Cancel(Cancel),
    /// Lease no more tasks of a run; what runs goes on
    Pause(Pause),
    /// Let a paused run go on
    Resume(Resume),
    /// Change how a run is driven while it goes
    Set(Set),
    /// Forget a run: its own keys in Redis and, if asked for, its objects
    Remove(Remove),
    /// List, show, publish and compare driver scripts
    #[command(subcommand)]
    Driver(Driver),
    /// Print the Redis keys and what they hold: a contract that scripts can rely on
    #[command(after_help = "Example:\n  launchpad schema | less")]
    Schema,
    /// Start, stop or find a private Redis for this folder
    #[command(subcommand)]
    Local(Local),
}

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

Pushing the same again goes on where the last push stopped, and changes nothing once it has finished.")]
pub struct Push {
    /// Files of molecules: .smi, .sdf, .csv or .tsv with a header, .jsonl; `-` is standard input
    #[arg(value_name = "LIGANDS")]
    pub ligands: Vec<PathBuf>,
    /// Name of the run, 1 to 64 of A-Z a-z 0-9 _ . -
    #[arg(long, value_name = "R")]
    pub run: Option<RunId>,
    /// Take what no flag says from this run.toml; its paths are relative to it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Engine that scores the molecules [default: vina]
    #[arg(long)]
    pub engine: Option<EngineName>,
    /// Receptor, PDB or PDBQT
    #[arg(long, value_name = "FILE")]
    pub receptor: Option<PathBuf>,
    /// Put the search box round this ligand in its pose: PDB, PDBQT, SDF or MOL2
    #[arg(long, value_name = "FILE", conflicts_with = "box_center")]
    pub box_ligand: Option<PathBuf>,
    /// Centre of the search box in Å
    #[arg(long, value_name = "X,Y,Z", allow_hyphen_values = true)]
    pub box_center: Option<Center>,
    /// Edges of the search box in Å, one number for a cube
    #[arg(long, value_name = "X[,Y,Z]")]
    pub box_size: Option<Edges>,
    /// Space in Å between the box ligand and each side of the box, where no size is given [default: 4]
    #[arg(long, value_name = "Å", conflicts_with_all = ["box_size", "box_center"])]
    pub box_padding: Option<f64>,
    /// How hard Vina searches [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub exhaustiveness: Option<u32>,
    /// Poses kept per molecule at most [default: 9]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub modes: Option<u32>,
    /// What the engine `command` runs
    #[command(flatten)]
    pub command: CommandFlags,
    /// Seed that all random numbers of the run are made from [default: 42]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Molecules per task [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub batch_size: Option<u64>,
    /// Threads that an engine gets [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub threads_per_task: Option<u32>,
    /// Tasks worked on at any time, fleet-wide; 0 is no limit [default: 0]
    #[arg(long, value_name = "N")]
    pub parallelism: Option<u64>,
    /// Failures after which a task is given up [default: 3]
    #[arg(long, value_name = "N")]
    pub failures_max: Option<u64>,
    /// Seconds that one step of an engine may take [default: 3600]
    #[arg(long, value_name = "S")]
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
    #[arg(long)]
    pub format: Option<Format>,
    /// Column, key or SDF property of the molecule's id
    #[arg(long, value_name = "NAME")]
    pub id_column: Option<String>,
    /// Column or key of the SMILES
    #[arg(long, value_name = "NAME")]
    pub smiles_column: Option<String>,
    /// Campaign that the run belongs to
    #[arg(long, value_name = "NAME")]
    pub campaign: Option<String>,
    /// Label of the run; may be given several times
    #[arg(long = "label", value_name = "K=V")]
    pub labels: Vec<Label>,
    /// Workers without --run serve higher priorities first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub priority: i64,
    /// Show tasks, objects and the box; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// List lines that can't be read and duplicate ids, and push the rest
    #[arg(long)]
    pub skip_bad: bool,
    /// How long after the push to look whether Redis still has all of it, in ms
    #[arg(long, value_name = "MS", default_value_t = 2000, hide = true)]
    pub confirm_after_ms: u64,
}

/// Flags of `push` for drivers and the engine `command`.
#[derive(Debug, Args)]
pub struct CommandFlags {
    /// Driver script: a file, or sha256:DIGEST/NAME of a published one; run.toml says more, see docs/drivers.md
    #[arg(long, value_name = "FILE")]
    pub driver: Option<String>,
    /// Program and arguments, quoted as for a shell; `{driver}` is the driver's path [default: python3 or bash by its ending]
    #[arg(long, value_name = "WORDS")]
    pub argv: Option<Argv>,
    /// File that every task gets as inputs/ROLE; may be given several times
    #[arg(long = "input", value_name = "ROLE=FILE")]
    pub inputs: Vec<InputFile>,
    /// Column that the program writes; may be given several times
    #[arg(long = "column", value_name = "NAME[,unit=U][,min=X][,max=Y][,kind=text]")]
    pub columns: Vec<DeclaredColumn>,
    /// Column that is the score
    #[arg(long, value_name = "NAME")]
    pub score: Option<String>,
    /// File of rows that the program writes, .csv or .jsonl [default: rows.csv]
    #[arg(long, value_name = "PATH")]
    pub rows: Option<String>,
    /// File that must be there for a molecule to be ok, `{index}` for one each; may be given several times
    #[arg(long = "expect", value_name = "PATH")]
    pub expect: Vec<String>,
    /// File or folder to keep beside output/; may be given several times
    #[arg(long = "keep", value_name = "PATH")]
    pub keep: Vec<String>,
}

/// What to do with driver scripts.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  launchpad driver list
  launchpad driver show descriptors.py > mine.py
  launchpad driver publish mine.py
  launchpad driver diff mine.py first")]
pub enum Driver {
    /// List the scripts that ship with launchpad
    List,
    /// Print one of them
    Show {
        /// Its name
        name: String,
    },
    /// Put a script into the store, where `push --driver` finds it by its digest
    Publish {
        /// The script
        file: PathBuf,
    },
    /// Compare a script with the one that a run is pinned to; exit code 65 if they differ
    Diff {
        /// The script
        file: PathBuf,
        /// The run
        run: RunId,
    },
}

/// Arguments of `status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad status
  launchpad status first --watch
  launchpad status first --json | jq .why
  launchpad status first --until-drained && launchpad consolidate first -o results.csv")]
pub struct Status {
    /// The run; all runs without it
    pub run: Option<RunId>,
    /// Go on showing it until every task has ended
    #[arg(long, requires = "run")]
    pub watch: bool,
    /// Wait until every task has ended, then show it
    #[arg(long, requires = "run", conflicts_with = "watch")]
    pub until_drained: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  launchpad show first 42")]
pub struct Show {
    /// The run
    pub run: RunId,
    /// The task: its number in the manifest, from 0
    pub task: TaskId,
}

/// Arguments of `consolidate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad consolidate first -o results.csv
  launchpad consolidate first -o results.csv --measured affinities.csv:dg_kcal_mol

Every shard is checked against the digest in Redis and the manifest. If anything is missing, each molecule is named,
the exit code is 65, and no results file is written.")]
pub struct Consolidate {
    /// The run
    pub run: RunId,
    /// Where the table goes
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Where the receipt goes [default: receipt.json beside the table]
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// CSV with measured values to print beside the scores, and the column that has them
    #[arg(long, value_name = "FILE:COLUMN")]
    pub measured: Option<MeasuredColumn>,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  launchpad cancel first\n  launchpad cancel first --task 17 --task 18 --yes"
)]
pub struct Cancel {
    /// The run
    pub run: RunId,
    /// Only this task; may be given several times
    #[arg(long = "task", value_name = "ID")]
    pub tasks: Vec<TaskId>,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  launchpad pause first --why 'wrong receptor?'")]
pub struct Pause {
    /// The run
    pub run: RunId,
    /// The reason, which `status` shows
    #[arg(long, value_name = "TEXT", default_value = "paused by hand")]
    pub why: String,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  launchpad resume first")]
pub struct Resume {
    /// The run
    pub run: RunId,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  launchpad set first parallelism=200\n  launchpad set first parallelism=0  # no limit"
)]
pub struct Set {
    /// The run
    pub run: RunId,
    /// What to change: parallelism=N, the tasks worked on at any time, 0 for no limit
    #[arg(value_name = "NAME=VALUE", required = true)]
    pub settings: Vec<Setting>,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  launchpad remove first\n  launchpad remove first --outputs --yes")]
pub struct Remove {
    /// The run
    pub run: RunId,
    /// Also delete its objects: inputs, logs, poses, shards and results
    #[arg(long)]
    pub outputs: bool,
    /// Don't ask
    #[arg(long, short)]
    pub yes: bool,
}

/// What to do with the private Redis.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  launchpad local up\n  launchpad local status\n  launchpad local down")]
pub enum Local {
    /// Start it, or say that it runs
    Up(LocalFolder),
    /// Stop it; its data stay
    Down(LocalFolder),
    /// Say whether it runs, and where
    Status(LocalFolder),
}

/// Whose private Redis.
#[derive(Debug, Args)]
pub struct LocalFolder {
    /// The folder that has or gets .molfleet
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// An engine by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// Docking with AutoDock Vina
    Vina,
    /// Any program, or a driver script
    Command,
}

/// Three coordinates, in Å.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Center(pub [f64; 3]);

/// Three lengths, in Å.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edges(pub [f64; 3]);

/// A label's name and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Letters, digits, `_`, `.` and `-`.
    pub name: String,
    /// Any text.
    pub value: String,
}

/// A program and its arguments, as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv(pub Vec<String>);

/// A file that every task gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// A small letter, then small letters, digits and `_`.
    pub role: String,
    /// The file.
    pub path: PathBuf,
}

/// A column of the engine `command`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredColumn(pub Column);

/// A CSV file and one of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredColumn {
    /// The file.
    pub path: PathBuf,
    /// The column.
    pub column: String,
}

/// Something about a run that can be changed while it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Tasks worked on at any time; 0 is no limit.
    Parallelism(u64),
}

/// Says why a value of the command line was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not valid (expected {expected})")]
pub struct InvalidValue {
    found: String,
    expected: &'static str,
}

fn refuse(found: &str, expected: &'static str) -> InvalidValue {
    InvalidValue { found: found.to_owned(), expected }
}

fn numbers(text: &str) -> Option<Vec<f64>> {
    text.split(',').map(|part| part.trim().parse().ok()).collect()
}

impl FromStr for Center {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let three = numbers(text).and_then(|numbers| numbers.try_into().ok());
        three.map(Self).ok_or_else(|| refuse(text, "three numbers such as 42.3,45.4,18.2"))
    }
}

impl FromStr for Edges {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let edges = match numbers(text).as_deref() {
            Some(&[edge]) => Some([edge; 3]),
            Some(&[x, y, z]) => Some([x, y, z]),
            _ => None,
        };
        edges.map(Self).ok_or_else(|| refuse(text, "one number or three, such as 14 or 14,20,14"))
    }
}

impl FromStr for Label {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && name.chars().all(allowed) => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(refuse(text, "name=value, the name of letters, digits, _ . -")),
        }
    }
}

impl FromStr for Argv {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let words = shlex::split(text).filter(|words| !words.is_empty());
        words.map(Self).ok_or_else(|| refuse(text, "a program and its arguments, every quote closed"))
    }
}

impl FromStr for InputFile {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once('=') {
            Some((role, path)) if !role.is_empty() && !path.is_empty() => {
                Ok(Self { role: role.to_owned(), path: path.into() })
            }
            _ => Err(refuse(text, "ROLE=FILE, such as receptor=protein.pdb")),
        }
    }
}

impl FromStr for DeclaredColumn {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refused = || refuse(text, "NAME[,unit=U][,min=X][,max=Y][,kind=number|text]");
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().trim().to_owned();
        let mut column = Column { name, kind: ColumnKind::Number, unit: String::new(), min: None, max: None };
        for part in parts {
            let number = |value: &str| value.parse().map(Some).map_err(|_| refused());
            match part.trim().split_once('=') {
                Some(("unit", value)) => value.clone_into(&mut column.unit),
                Some(("min", value)) => column.min = number(value)?,
                Some(("max", value)) => column.max = number(value)?,
                Some(("kind", "number")) => column.kind = ColumnKind::Number,
                Some(("kind", "text")) => column.kind = ColumnKind::Text,
                _ => return Err(refused()),
            }
        }
        Ok(Self(column))
    }
}

impl FromStr for MeasuredColumn {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.rsplit_once(':') {
            Some((path, column)) if !path.is_empty() && !column.is_empty() => {
                Ok(Self { path: path.into(), column: column.to_owned() })
            }
            _ => Err(refuse(text, "FILE:COLUMN, such as affinities.csv:dg_kcal_mol")),
        }
    }
}

impl FromStr for Setting {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let expected = "parallelism=N, N from 0";
        match text.split_once('=') {
            Some(("parallelism", value)) => {
                value.parse().map(Self::Parallelism).map_err(|_| refuse(text, expected))
            }
            _ => Err(refuse(text, expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn boxes_are_read_from_one_number_or_three() {
        assert_eq!("14".parse(), Ok(Edges([14.0; 3])));
        assert_eq!("1, 2,3.5".parse(), Ok(Edges([1.0, 2.0, 3.5])));
        assert_eq!("-1,2,3".parse(), Ok(Center([-1.0, 2.0, 3.0])));
        assert!("1,2".parse::<Edges>().is_err());
        assert!("1".parse::<Center>().is_err());
    }

    #[test]
    fn pairs_are_split_where_they_should_be() {
        let label = Label { name: "target".into(), value: "a=b".into() };
        assert_eq!("target=a=b".parse(), Ok(label));
        assert!("a{b=1".parse::<Label>().is_err());
        let measured: MeasuredColumn = "/a:b/c.csv:dg".parse().unwrap();
        assert_eq!((measured.path.to_str(), measured.column.as_str()), (Some("/a:b/c.csv"), "dg"));
        assert_eq!("parallelism=0".parse(), Ok(Setting::Parallelism(0)));
        assert!("parallelism=-1".parse::<Setting>().is_err());
    }

    #[test]
    fn every_command_has_an_example() {
        use clap::CommandFactory as _;
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_help().to_string();
            assert!(help.contains("Example"), "{help}");
        }
    }
}
