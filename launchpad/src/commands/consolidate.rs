//! `consolidate`: builds the table of a run, proves that it is complete, and writes the receipt. Without a complete table it fails.
//! The table of several runs is that of `merge`.

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
    Best, Checked, Comparison, ConsolidationError, Measured, Outcome, Receipt, ResultsFile, Sums, TableFiles,
    TableRow, Verdicts, Walk, best, compared, counted, enumerated, read_manifest,
};
use crate::error::LaunchpadError;
use crate::output::{self, Report};

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
