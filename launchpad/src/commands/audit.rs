//! `audit`: whether Redis tells the truth about a run, and with `--fix` makes it do so.

use common::task::RunId;
use serde::Serialize;

use super::Context;
use crate::audit::{AuditError, Audited, Finding, Look, mend};
use crate::cli;
use crate::consolidation::read_manifest;
use crate::error::LaunchpadError;
use crate::output::{Report, Table, thousands};

/// Looks and mends before it is given up: each look finds what the one before could not see.
const ROUNDS_MAX: u32 = 50;
/// Findings that are listed in text; JSON has all.
const LISTED: usize = 20;

/// What was found, and what is still wrong.
#[derive(Debug, Serialize)]
struct Audit {
    run: RunId,
    tasks: u64,
    /// Whether nothing happened in the run meanwhile; if something did, places and counters were not compared.
    quiet: bool,
    /// How much was put right.
    fixed: u64,
    findings: Vec<Finding>,
}

/// Looks at a run, and puts it right if it is told to.
pub(super) async fn audit(context: &Context, arguments: &cli::Audit) -> Result<(), LaunchpadError> {
    let run = &arguments.run;
    let queue = context.location.queue()?;
    let info = queue.run_info(run).await?;
    let store = context.location.run_store(&info.store, run)?;
    store.confirm(&info.digest).await?;
    let manifest = read_manifest(&store, &info.spec).await?;
    let audited = Audited { run, queue: &queue, store: &store, info: &info, manifest: &manifest };
    let mut line = context.output.progress("looking", info.spec.manifest.tasks);
    let mut look = audited.look(&mut |task| line.set(task)).await?;
    let mut fixed = 0;
    for _ in 0..ROUNDS_MAX {
        let done = if arguments.fix { mend(&audited, &look).await? } else { 0 };
        if done == 0 {
            break;
        }
        fixed += done;
        look = audited.look(&mut |task| line.set(task)).await?;
    }
    line.finish();
    let Look { findings, is_quiet, tasks, .. } = look;
    let audit = Audit { run: run.clone(), tasks, quiet: is_quiet, fixed, findings };
    context.output.report(&audit)?;
    audit.verdict()
}

impl Audit {
    fn verdict(&self) -> Result<(), LaunchpadError> {
        let findings = self.findings.len();
        if findings == 0 {
            return Ok(());
        }
        let mendable = self.findings.iter().filter(|finding| finding.mendable).count();
        Err(AuditError::Wrong { run: self.run.clone(), findings, mendable }.into())
    }
}

impl Report for Audit {
    fn text(&self) -> String {
        let mut table = Table::new(&[">task", "what", "evidence"]);
        for finding in self.findings.iter().take(LISTED) {
            let task = finding.task.map_or_else(String::new, |task| task.to_string());
            table.row([task, finding.what.to_owned(), finding.detail.clone()]);
        }
        let list = if table.is_empty() { String::new() } else { table.to_string() };
        let more = match self.findings.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!("and {} more\n", thousands(more as u64)),
        };
        let fixed = match self.fixed {
            0 => String::new(),
            fixed => format!("{} things were put right.\n", thousands(fixed)),
        };
        let busy = if self.quiet {
            ""
        } else {
            "Tasks went on meanwhile: places and counters were not compared. Pause the run and wait for its leases to end to have them compared.\n"
        };
        let end = match self.findings.len() {
            0 => format!("{}: {} tasks, nothing is wrong.\n", self.run, thousands(self.tasks)),
            wrong => format!(
                "{}: {} tasks, {} things are wrong.\n",
                self.run,
                thousands(self.tasks),
                thousands(wrong as u64)
            ),
        };
        format!("{list}{more}{fixed}{busy}{end}")
    }
}
