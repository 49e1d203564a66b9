//! The command lines that give results and prove them: `top`, `poses`, `export`, `consolidate` and `audit`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use common::task::RunId;
use serde::Serialize;

use super::MeasuredColumn;

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
    /// Where they go: a file that ends with .sdf or .pdbqt; `-` is standard output, as SDF
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad export first --csv -o timings.csv
  launchpad export first --jsonl | jq -s 'map(.engine_ended_ms - .engine_started_ms) | add'
  launchpad export first --steps --jsonl | jq -s 'group_by(.kind)[] | {kind: .[0].kind, ms: (map(.elapsed_ms) | add)}'

One line per task, in the order of the manifest. Moments are ms of the Redis clock; a task that has not succeeded has
none. Nothing is changed or deleted.")]
pub struct Export {
    /// The run
    pub run: RunId,
    /// One line per step of the engine instead, from the records of the attempts that succeeded
    #[arg(long)]
    pub steps: bool,
    /// Comma-separated values with a header (default)
    #[arg(long)]
    pub csv: bool,
    /// One JSON object per line; also with --json
    #[arg(long, conflicts_with = "csv")]
    pub jsonl: bool,
    /// Where it goes, `-` for standard output [default: -]
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
the exit code is 65, no results file is written, and an older one stays with its receipt. A bad, dead or cancelled molecule
is not missing: it has a row that says why.

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
    /// Where the table goes; `-` is standard output, and the receipt is only written where --receipt says
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Where the receipt goes [default: beside the table: receipt.json of results.csv, NAME.receipt.json of NAME.csv]
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Fail with 65 unless every molecule is ok; table and receipt are written all the same
    #[arg(long)]
    pub require_ok: bool,
    /// CSV with measured values to print beside the scores, and the column that has them
    #[arg(long, value_name = "FILE:COLUMN")]
    pub measured: Option<MeasuredColumn>,
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

/// Arguments of `audit`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  launchpad audit first
  launchpad audit first --fix
  launchpad audit first --json | jq '.findings[].what'

For the hour after a fail-over of Redis, which may have forgotten what it had acknowledged, or after somebody changed keys by
hand. It compares every task with the manifest and with its result in the store, and, if nothing happens in the run meanwhile,
places and counters with the tasks. --fix pushes forgotten tasks, records results that stand in the store, and puts places and
counters right; it never changes the store. Exit codes: 0 nothing is wrong (any more); 65 something is.")]
pub struct Audit {
    /// The run
    pub run: RunId,
    /// Put right what can be
    #[arg(long)]
    pub fix: bool,
}
