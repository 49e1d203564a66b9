//! The command line: clap types and what they say in `--help`. Nothing is decided or done here.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use common::env;
use common::redis_flags::RedisFlags;
use common::task::{Column, ColumnKind, RunId, State, TaskId, WorkerId};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::input::Format;

/// Scores molecules on a fleet of workers: fills Redis with tasks, shows how they go, builds one table and proves it complete.
#[derive(Debug, Parser)]
#[command(name = "launchpad", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Where Redis is [default: the private Redis of this folder or one above, then `redis://127.0.0.1:6379`]
    #[arg(long, global = true, env = env::REDIS, value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// How to get into it
    #[command(flatten)]
    pub redis_flags: RedisFlags,
    /// Where objects are, a URL or a folder [default: the store of the run, or .molfleet/store]
    #[arg(long, global = true, env = env::STORE, value_name = "URL")]
    pub store: Option<String>,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// No colours and no symbols
    #[arg(long, global = true, env = env::NO_COLOR, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "1")]
    pub no_color: Option<String>,
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
    /// Push the first molecules as a run of their own, show their scores, and say how long all would take
    #[command(after_help = "\
Example:
  launchpad trial ligands.smi --run first --receptor receptor.pdb --box-ligand pose.sdf -n 3

It takes the flags of push, and --batch-size 1. The trial is the run first-trial; a worker has to be there, or to be started
meanwhile with `worker --run first-trial`. Exit codes: 0 a molecule was scored; 65 none was.")]
    Trial(Box<Trial>),
    /// List the tasks of a run, all or some
    Tasks(Tasks),
    /// Print the whole logs of an attempt
    Logs(Logs),
    /// List the workers: where they run and what they do
    #[command(
        after_help = "Examples:\n  launchpad workers\n  launchpad workers --json | jq '.[] | select(.seen_ms_ago > 60000)'"
    )]
    Workers,
    /// List the best molecules so far
    Top(Top),
    /// Write the poses of the best molecules to one file
    Poses(Poses),
    /// Write what every task took, as a table
    Export(Export),
    /// Build one table of all results and prove that it is complete
    Consolidate(Consolidate),
    /// Let workers try dead or cancelled tasks again
    Retry(Retry),
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
    /// Check Redis and the store, and say what has to be changed
    Doctor(Doctor),
    /// Print the Redis keys and what they hold: a contract that scripts can rely on
    #[command(after_help = "Example:\n  launchpad schema | less")]
    Schema,
    /// Print what completes commands and flags in a shell
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
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
  launchpad push --from first --run second --exhaustiveness 32
  launchpad push --from first --sample 10 --of-top 100 --run look

--from takes molecules, engine, parameters, inputs and limits from a run that has ended; flags and run.toml win.
Pushing the same again goes on where the last push stopped, and changes nothing once it has finished.")]
pub struct Push {
    /// Files of molecules: .smi, .sdf, .csv or .tsv with a header, .jsonl; `-` is standard input
    #[arg(value_name = "LIGANDS", conflicts_with = "from")]
    pub ligands: Vec<PathBuf>,
    /// Take the molecules of this run that have no score: bad ones, and those of dead tasks
    #[arg(long, value_name = "RUN")]
    pub from: Option<RunId>,
    /// With --from: bad molecules only, unless --dead is given, too
    #[arg(long, requires = "from")]
    pub bad: bool,
    /// With --from: molecules of dead tasks only, unless --bad is given, too
    #[arg(long, requires = "from")]
    pub dead: bool,
    /// With --from: this many molecules, drawn by the seed from the best ones instead
    #[arg(long, value_name = "N", requires_all = ["from", "of_top"], conflicts_with_all = ["bad", "dead"])]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// How many of the best --sample draws from
    #[arg(long, value_name = "M", requires = "sample", value_parser = clap::value_parser!(u32).range(1..))]
    pub of_top: Option<u32>,
    /// What the best ones have the lowest of: `score`, or a column of the engine
    #[arg(long, value_name = "COLUMN", requires = "sample", default_value = "score")]
    pub by: String,
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
    #[arg(long, value_name = "X[,Y,Z]", allow_hyphen_values = true)]
    pub box_size: Option<Edges>,
    /// Space in Å between the box ligand and each side of the box, where no size is given [default: 4]
    #[arg(long, value_name = "Å", allow_negative_numbers = true, conflicts_with_all = ["box_size", "box_center"])]
    pub box_padding: Option<f64>,
    /// How hard Vina searches [default: 8]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub exhaustiveness: Option<u32>,
    /// Poses kept per molecule at most [default: 9]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub modes: Option<u32>,
    /// What the engine `command` runs
    #[command(flatten)]
    pub command: CommandFlags,
    /// Seed that all random numbers of the run are made from [default: 42]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Molecules per task [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub batch_size: Option<u64>,
    /// Threads that an engine gets [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub threads_per_task: Option<u32>,
    /// Tasks worked on at any time, fleet-wide; 0 is no limit [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub parallelism: Option<u64>,
    /// Failures after which a task is given up [default: 3]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub failures_max: Option<u64>,
    /// Seconds that one step of an engine may take [default: 3600]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
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

/// Arguments of `tasks`. Conditions of different flags must all hold; of one flag given several times, any.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad tasks first --state dead
  launchpad tasks first --with lapses --with failures
  launchpad tasks first --worker 4k2m9x7q1w3e --state leased
  launchpad tasks first --reason '^engine_|time_limit' --limit 20
  launchpad tasks first --with bad --json | jq .task")]
pub struct Tasks {
    /// The run
    pub run: RunId,
    /// Only tasks in this state: waiting, pending, delayed, leased, succeeded, dead or cancelled; may be given several times
    #[arg(long = "state", value_name = "STATE")]
    pub states: Vec<State>,
    /// Only tasks that have some of these; may be given several times
    #[arg(long, value_name = "WHAT")]
    pub with: Vec<Having>,
    /// Only tasks whose latest lease is this worker's
    #[arg(long, value_name = "ID")]
    pub worker: Option<WorkerId>,
    /// Only tasks whose reason matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub reason: Option<Regex>,
    /// At most so many, the first ones
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

/// What a task may have some of, by the names of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Having {
    /// It failed at least once
    Failures,
    /// A worker of it vanished at least once
    Lapses,
    /// It was handed back at least once
    Releases,
    /// Molecules that are ok
    Ok,
    /// Molecules that are bad
    Bad,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad logs first 42
  launchpad logs first 42 --attempt 1 | less
  launchpad logs first 42 --json | jq -r 'select(.stream == \"stderr\").text'

An attempt's logs are stored when it ends. Those of a worker that vanished went with it.")]
pub struct Logs {
    /// The run
    pub run: RunId,
    /// The task: its number in the manifest, from 0
    pub task: TaskId,
    /// The attempt's number, from 1 [default: the latest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub attempt: Option<u64>,
}

/// By what molecules are ranked.
#[derive(Debug, Clone, Args)]
pub struct Order {
    /// Rank by the score, or by this column of the engine
    #[arg(long, value_name = "COLUMN", default_value = "score")]
    pub by: String,
    /// The highest first, instead of the lowest
    #[arg(long)]
    pub highest: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad top first
  launchpad top first --by contacts --highest -n 100 --json

It works while the run goes, too, and says how many tasks are in. Shards are checked against their digests.")]
pub struct Top {
    /// The run
    pub run: RunId,
    /// Ranked by what
    #[command(flatten)]
    pub order: Order,
    /// How many molecules
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
}

/// Arguments of `poses`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad poses first --top 10 -o best.sdf
  launchpad poses first --top 100 --modes 3 -o best.pdbqt

An SDF has the bonds and charges that were docked, polar hydrogens only, and the tags molecule_id, smiles, score,
score_unit, rank, run, task, lease and mode. A PDBQT has the engine's own models with these as remarks.")]
pub struct Poses {
    /// The run
    pub run: RunId,
    /// How many molecules
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// Poses of each molecule at most, the best first
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub modes: u32,
    /// Ranked by what
    #[command(flatten)]
    pub order: Order,
    /// Where they go: a file that ends with .sdf or .pdbqt
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad export first --csv -o timings.csv
  launchpad export first --jsonl | jq -s 'map(.engine_ended_ms - .engine_started_ms) | add'

One line per task, in the order of the manifest. Moments are ms of the Redis clock; a task that has not succeeded has
none. Nothing is changed or deleted.")]
pub struct Export {
    /// The run
    pub run: RunId,
    /// Comma-separated values with a header (default)
    #[arg(long)]
    pub csv: bool,
    /// One JSON object per line; also with --json
    #[arg(long, conflicts_with = "csv")]
    pub jsonl: bool,
    /// Where it goes [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Arguments of `consolidate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad consolidate first -o results.csv
  launchpad consolidate first -o results.csv --measured affinities.csv:dg_kcal_mol
  launchpad consolidate first second -o results.csv

Every shard is checked against the digest in Redis and the manifest. If anything is missing, each molecule is named,
the exit code is 65, and no results file is written.

Of several runs, each must be complete. Each molecule has one row: one that is ok goes before one that is not; of two
that are ok, or two that are not, the one of the run named first stands, whatever the scores. The column `run` says which.")]
pub struct Consolidate {
    /// The run
    pub run: RunId,
    /// Runs that follow it, whose results are merged in by molecule id
    #[arg(value_name = "FOLLOWUP")]
    pub followups: Vec<RunId>,
    /// Which run stands where a molecule is ok in several, or in none [default: first]
    #[arg(long, value_name = "WHICH", requires = "followups")]
    pub prefer: Option<Prefer>,
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

/// Arguments of `retry`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad retry first --dry-run
  launchpad retry first --reason 'engine_(crashed|timed_out)' --limit 100
  launchpad retry first --task 17 --task 18

Without a selector, all dead tasks are retried. Several selectors narrow each other, but --dead --cancelled means both. \
Bad molecules are not retried: `launchpad push --from` makes another run of them.")]
pub struct Retry {
    /// The run
    pub run: RunId,
    /// Dead tasks, which gave up [default, unless --task or --cancelled is given]
    #[arg(long)]
    pub dead: bool,
    /// Cancelled tasks
    #[arg(long)]
    pub cancelled: bool,
    /// Only tasks whose reason matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub reason: Option<Regex>,
    /// Only this task, if it is dead or cancelled; may be given several times
    #[arg(long = "task", value_name = "ID")]
    pub tasks: Vec<TaskId>,
    /// At most this many, the lowest task ids first
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Show what would be retried; change nothing
    #[arg(long)]
    pub dry_run: bool,
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

/// Arguments of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad doctor
  launchpad doctor --tasks 100000 --workers 500   # before a large push
  launchpad doctor first --json | jq '.checks[] | select(.verdict != \"ok\")'

It writes, reads and deletes one small object of its own in the store and changes nothing else.
Exit codes: 0 all is fine; 69 Redis or the store does not answer; 78 something has to be changed.")]
pub struct Doctor {
    /// Check for what is left of this run, and its own store
    pub run: Option<RunId>,
    /// Check whether a run of so many tasks has room
    #[arg(long, value_name = "N", conflicts_with = "run")]
    pub tasks: Option<u64>,
    /// Workers that connect [default: those seen in the last 60 s]
    #[arg(long, value_name = "N")]
    pub workers: Option<u64>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(launchpad completions bash)
  launchpad completions zsh > ~/.zfunc/_launchpad
  launchpad completions fish > ~/.config/fish/completions/launchpad.fish")]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// A shell that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// Bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  launchpad man -o ~/.local/share/man/man1 && man launchpad-push")]
pub struct Man {
    /// Folder that the pages are written to; made if it is not there
    #[arg(long, short, value_name = "FOLDER")]
    pub output: PathBuf,
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

/// Which of several runs goes before the others, by their order on the command line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// The one named first
    #[default]
    First,
    /// The one named last
    Last,
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

impl Label {
    /// What a label's name may be.
    pub(crate) const NAME_EXPECTED: &str = "letters, digits, _ . -";

    /// Whether a label may have this name: it is part of a field of the run's hash.
    pub(crate) fn is_name(name: &str) -> bool {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        !name.is_empty() && name.chars().all(allowed)
    }
}

impl FromStr for Label {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once('=') {
            Some((name, value)) if Self::is_name(name) => {
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
