//! `consolidate`: builds the table of a run, proves that it is complete, and writes the receipt. Without a complete table it fails.
//! The table of several runs is that of `merge`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::storage::{RunStore, StorageError, key};
use common::task::ObjectRef;
use common::task::RunId;
use serde::Serialize;

use super::Context;
use super::merge::merge;
use crate::cli;
use crate::consolidation::{
    Best, Checked, Comparison, ConsolidationError, Enumeration, Measured, Outcome, Receipt, ResultsFile,
    Sums, TableFiles, TableRow, Verdicts, Walk, read_manifest,
};
use crate::error::LaunchpadError;
use crate::output::{self, Report, Table, thousands};

/// Makes the table of a run, or of a run and others that follow it.
pub(super) async fn consolidate(
    context: &Context,
    arguments: &cli::Consolidate,
) -> Result<(), LaunchpadError> {
    if arguments.followups.is_empty() {
        alone(context, arguments).await
    } else {
        merge(context, arguments).await
    }
}

async fn alone(context: &Context, arguments: &cli::Consolidate) -> Result<(), LaunchpadError> {
    let files = TableFiles::new(&arguments.output, arguments.receipt.as_deref())?;
    let mut measured = arguments.measured.as_ref().map(Measured::read).transpose()?;
    let queue = context.location.queue()?;
    let info = queue.run_info(&arguments.run).await?;
    let store = context.location.run_store(&info.store, &arguments.run)?;
    store.confirm(&info.digest).await?;
    let manifest = read_manifest(&store, &info.spec).await?;
    let mut results = ResultsFile::create(files.table())?;
    let mut receipt = Receipt::new(&info.spec, &info.digest);
    let mut sums = Sums::of_run(&info.spec);
    let mut line = context.output.progress("checking", info.spec.manifest.tasks);
    let mut take = |mut checked: Checked| {
        if let Err(fault) = results.agree(&checked)? {
            checked.outcome = Outcome::Missing(fault);
        }
        if let Some(sums) = &mut sums
            && let Err(fault) = sums.take(&checked)
        {
            checked.outcome = Outcome::Missing(fault);
        }
        name_missing(None, &checked);
        receipt.count(&checked);
        for row in TableRow::of_task(None, &checked) {
            if let Some(measured) = &mut measured {
                measured.take(&row);
            }
            results.append_row(row)?;
        }
        line.set(checked.task.0 + 1);
        Ok(())
    };
    Walk { queue: &queue, store: &store, spec: &info.spec }.run(&manifest, &mut take).await?;
    line.finish();
    receipt.enumeration = sums.map(Sums::finish);
    if !receipt.missing.is_empty() {
        receipt.close(None);
        return Err(files.refuse(&receipt, &receipt.encode()));
    }
    let (table, sha256, best) = results.finish()?;
    receipt.close(Some(sha256.clone()));
    files.write_receipt(&receipt.encode())?;
    store_results(&store, table, sha256, &receipt).await?;
    let comparison = measured.map(Measured::compare);
    context.output.report_beside(
        files.are_on_stdout(),
        &Consolidated {
            output: files.table(),
            receipt_path: files.receipt(),
            receipt: &receipt,
            comparison,
            best,
            files: &files,
        },
    )?;
    check_ok(&receipt.run, &receipt.verdicts, receipt.molecules, arguments.require_ok)
}

/// Warns if no molecule is ok, and fails if all should be.
pub(super) fn check_ok(
    run: &RunId,
    verdicts: &Verdicts,
    molecules: u64,
    require_ok: bool,
) -> Result<(), LaunchpadError> {
    if require_ok && verdicts.ok < molecules {
        return Err(ConsolidationError::NotAllOk { run: run.clone(), ok: verdicts.ok, molecules }.into());
    }
    if verdicts.ok == 0 {
        output::problem("warning: no molecule is ok: the table has no score");
    }
    Ok(())
}

/// Names each molecule that a task is missing; of several runs, with the run.
pub(super) fn name_missing(run: Option<&RunId>, checked: &Checked) {
    let run = run.map_or_else(String::new, |run| format!("run {run}, "));
    if let Outcome::Missing(fault) = &checked.outcome {
        for molecule in &checked.molecules {
            let (task, id, reason, detail) = (checked.task, &molecule.id, fault.reason, &fault.detail);
            output::problem(&format!("missing: {run}task {task}, molecule `{id}`: {reason}: {detail}"));
        }
    }
}

/// Puts the table and its receipt into the store, too. They can be made again at any time, so they may be replaced.
async fn store_results(
    store: &RunStore,
    table: File,
    sha256: String,
    receipt: &Receipt,
) -> Result<(), LaunchpadError> {
    let local = |source| StorageError::Local { object: key::RESULTS.to_owned(), source };
    let bytes = table.metadata().map_err(local)?.len();
    let pinned = ObjectRef { object: key::RESULTS.to_owned(), sha256, bytes };
    store.replace_file(&pinned, &Arc::new(table)).await?;
    Ok(store.replace(key::RECEIPT, Bytes::from(receipt.encode())).await?)
}

/// A complete consolidation.
#[derive(Debug, Serialize)]
struct Consolidated<'a> {
    output: &'a Path,
    receipt_path: Option<&'a Path>,
    receipt: &'a Receipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    #[serde(skip)]
    best: Vec<Best>,
    #[serde(skip)]
    files: &'a TableFiles,
}

impl Report for Consolidated<'_> {
    fn text(&self) -> String {
        let receipt = self.receipt;
        let body = match (&self.comparison, &receipt.enumeration) {
            (Some(comparison), _) => compared(comparison),
            (None, Some(enumeration)) => enumerated(enumeration),
            (None, None) => best(&self.best),
        };
        format!(
            "{body}\n{} is complete: {}\n{}",
            receipt.run,
            counted(receipt.molecules, &receipt.verdicts, &receipt.bad_reasons),
            self.files.text(),
        )
    }
}

/// How many molecules came to what, as text.
pub(super) fn counted(molecules: u64, verdicts: &Verdicts, bad_reasons: &BTreeMap<String, u64>) -> String {
    let reasons: Vec<_> =
        bad_reasons.iter().map(|(reason, count)| format!("{} {reason}", thousands(*count))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    format!(
        "{} of {} molecules are ok, {} bad{reasons}, {} dead, {} cancelled",
        thousands(verdicts.ok),
        thousands(molecules),
        thousands(verdicts.bad),
        thousands(verdicts.dead),
        thousands(verdicts.cancelled),
    )
}

/// Structures of formulae, as text: each that was split, as far as they fit on a screen.
pub(super) fn enumerated(enumeration: &Enumeration) -> String {
    const SHOWN: usize = 10;
    let mut table = Table::new(&["formula", ">structures"]);
    for (formula, structures) in enumeration.split.iter().take(SHOWN) {
        table.row([formula.clone(), structures.to_string()]);
    }
    let more = enumeration.split.len().saturating_sub(SHOWN);
    let table = if table.is_empty() { String::new() } else { table.to_string() };
    let more = if more > 0 { format!("and {more} more in the receipt\n") } else { String::new() };
    let (structures, complete) = (enumeration.structures, thousands(enumeration.complete));
    let incomplete = thousands(enumeration.incomplete.len() as u64);
    format!(
        "{table}{more}{structures} structures of {complete} formulae; {incomplete} formulae have no total\n"
    )
}

/// The lowest scores, as text.
pub(super) fn best(best: &[Best]) -> String {
    let mut table = Table::new(&["lowest scores", ">score"]);
    for molecule in best {
        table.row([molecule.molecule_id.clone(), molecule.shown.clone()]);
    }
    if table.is_empty() { "No molecule has a score.\n".into() } else { table.to_string() }
}

/// Scores beside measured values, as text.
pub(super) fn compared(comparison: &Comparison) -> String {
    let mut table = Table::new(&["molecule", "verdict", ">score", ">measured", ">difference"]);
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for row in &comparison.rows {
        let cells = [row.score, row.measured, row.difference].map(shown);
        table.row([row.molecule_id.clone(), row.verdict.to_owned()].into_iter().chain(cells));
    }
    let n = comparison.n;
    match comparison.r {
        Some(r) => format!("{table}\nPearson r = {r:.3} over the n = {n} molecules that have both values\n"),
        None => {
            format!("{table}\nNo correlation: n = {n} molecules have both values (expected 3 that differ)\n")
        }
    }
}
