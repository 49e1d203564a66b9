//! `consolidate` of several runs: each is proven complete, then one table has each molecule once, by the rule of
//! [`crate::consolidation::Merge`]. It writes local files only: a run's own table in the store stays as it is.

use std::path::Path;

use common::queue::Queue;
use common::task::RunId;
use serde::Serialize;

use super::Context;
use super::consolidate::{check_ok, name_missing};
use crate::cli::{self, Prefer};
use crate::consolidation::{
    Best, Checked, Comparison, ConsolidationError, Measured, Merge, MergedReceipt, Outcome, Receipt,
    ResultsFile, STRUCTURES, Settled, Sums, TableFiles, TableRow, Walk, best, compared, counted, enumerated,
    read_manifest,
};
use crate::error::LaunchpadError;
use crate::output::{Report, thousands};

/// A table of several runs on its way.
struct MergedTable {
    results: ResultsFile,
    receipt: MergedReceipt,
    measured: Option<Measured>,
    /// Of runs that enumerate.
    sums: Option<Sums>,
}

/// Makes the table of several runs.
pub(super) async fn merge(context: &Context, arguments: &cli::Consolidate) -> Result<(), LaunchpadError> {
    let runs: Vec<&RunId> = std::iter::once(&arguments.run).chain(&arguments.followups).collect();
    if let Some(twice) = runs.iter().enumerate().find(|(place, run)| runs[..*place].contains(run)) {
        return Err(ConsolidationError::Twice((*twice.1).clone()).into());
    }
    let files = TableFiles::new(&arguments.output, arguments.receipt.as_deref())?;
    let prefer = arguments.prefer.unwrap_or_default();
    let mut table = MergedTable {
        measured: arguments.measured.as_ref().map(Measured::read).transpose()?,
        results: ResultsFile::create_merged(files.table())?,
        receipt: MergedReceipt::new(prefer),
        sums: None,
    };
    let queue = context.location.queue()?;
    let mut merge = Merge::new(prefer);
    let mut receipts = Vec::new();
    for run in &arguments.followups {
        let mut hold = |_: &mut MergedTable, row| Ok(merge.hold(row)?);
        receipts.push(table.take_run(context, &queue, run, &mut hold).await?);
    }
    let mut put = |table: &mut MergedTable, row| table.put(merge.settle(row)?);
    let first = table.take_run(context, &queue, &arguments.run, &mut put).await?;
    for settled in merge.rest() {
        table.put(settled)?;
    }
    table.receipt.runs = std::iter::once(first).chain(receipts).collect();
    table.finish(context, &files, arguments.require_ok)
}

impl MergedTable {
    /// Checks a run, and gives the rows of all its molecules to `take`.
    async fn take_run(
        &mut self,
        context: &Context,
        queue: &Queue,
        run: &RunId,
        take: &mut impl FnMut(&mut Self, TableRow) -> Result<(), LaunchpadError>,
    ) -> Result<Receipt, LaunchpadError> {
        let info = queue.run_info(run).await?;
        let store = context.location.run_store(&info.store, run)?;
        store.confirm(&info.digest).await?;
        let manifest = read_manifest(&store, &info.spec).await?;
        let mut receipt = Receipt::new(&info.spec, &info.digest);
        let mut sums = Sums::of_run(&info.spec);
        if sums.is_some() {
            self.sums.get_or_insert_default();
        }
        let mut line = context.output.progress("checking", info.spec.manifest.tasks);
        let mut look_at = |mut checked: Checked| {
            if let Err(fault) = self.results.agree(&checked)? {
                checked.outcome = Outcome::Missing(fault);
            }
            if let Some(sums) = &mut sums
                && let Err(fault) = sums.take(&checked)
            {
                checked.outcome = Outcome::Missing(fault);
            }
            name_missing(Some(run), &checked);
            receipt.count(&checked);
            for row in TableRow::of_task(Some(run), &checked) {
                take(self, row)?;
            }
            line.set(checked.task.0 + 1);
            Ok(())
        };
        Walk { queue, store: &store, spec: &info.spec }.run(&manifest, &mut look_at).await?;
        line.finish();
        receipt.enumeration = sums.map(Sums::finish);
        receipt.close(None);
        Ok(receipt)
    }

    /// Puts a molecule into the table.
    fn put(&mut self, settled: Settled) -> Result<(), LaunchpadError> {
        self.receipt.count(&settled);
        if let Some(measured) = &mut self.measured {
            measured.take(&settled.row);
        }
        if let Some(sums) = &mut self.sums {
            sums.settle(&settled.row, self.results.cell(&settled.row, STRUCTURES));
        }
        self.results.append_row(settled.row)
    }

    /// Writes the receipt, and the table if every run is complete.
    fn finish(
        mut self,
        context: &Context,
        files: &TableFiles,
        require_ok: bool,
    ) -> Result<(), LaunchpadError> {
        if let Some(run) = self.receipt.incomplete() {
            return Err(files.refuse(run, &self.receipt.encode()));
        }
        let (_, sha256, best) = self.results.finish()?;
        self.receipt.enumeration = self.sums.map(Sums::finish);
        self.receipt.close(sha256);
        files.write_receipt(&self.receipt.encode())?;
        let receipt = &self.receipt;
        context.output.report_beside(
            files.are_on_stdout(),
            &Merged {
                output: files.table(),
                receipt_path: files.receipt(),
                receipt,
                comparison: self.measured.map(Measured::compare),
                best,
                files,
            },
        )?;
        check_ok(&receipt.runs[0].run, &receipt.verdicts, receipt.molecules, require_ok)
    }
}

/// A complete consolidation of several runs.
#[derive(Debug, Serialize)]
struct Merged<'a> {
    output: &'a Path,
    receipt_path: Option<&'a Path>,
    receipt: &'a MergedReceipt,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
    #[serde(skip)]
    best: Vec<Best>,
    #[serde(skip)]
    files: &'a TableFiles,
}

impl Report for Merged<'_> {
    fn text(&self) -> String {
        let receipt = self.receipt;
        let body = match (&self.comparison, &receipt.enumeration) {
            (Some(comparison), _) => compared(comparison),
            (None, Some(enumeration)) => enumerated(enumeration),
            (None, None) => best(&self.best),
        };
        let runs: Vec<&str> = receipt.runs.iter().map(|run| run.run.as_str()).collect();
        let rows = receipt.runs.iter().map(|run| {
            let rows = receipt.rows.get(&run.run).copied().unwrap_or(0);
            format!("{} of {}", thousands(rows), run.run)
        });
        let several = match (receipt.ok_in_several.len() as u64, receipt.prefer) {
            (0, _) => String::new(),
            (several, prefer) => {
                let which = match prefer {
                    Prefer::First => "first",
                    Prefer::Last => "last",
                };
                let several = thousands(several);
                format!("{several} molecules are ok in several runs: the {which} one named has the row\n")
            }
        };
        format!(
            "{body}\n{} are complete: {}\nrows     {}\n{several}{}",
            runs.join(" and "),
            counted(receipt.molecules, &receipt.verdicts, &receipt.bad_reasons),
            rows.collect::<Vec<_>>().join(", "),
            self.files.text(),
        )
    }
}
