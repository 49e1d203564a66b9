//! Engines that enumerate: Surge, and any program that writes a structure per line and tells how many it wrote. Each molecule of a task
//! is a formula, or a residue of one; its result is the stream of its lines, in parts, and a row that counts them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::task::{
    CommandOptions, DRIVER_PLACEHOLDER, Residue, Row, RunSpec, StreamOptions, SurgeOptions,
    THREADS_PLACEHOLDER, Verdict,
};

use super::command::{driver, inputs};
use super::ending::{breakdown, evidence};
use super::reason::{StreamReason, failure};
use super::{
    Engine, EngineFailure, Judged, MoleculeInput, Plan, Preparation, Step, StepOutcome, Streaming, Workload,
    left_file,
};
use crate::process::{Ended, How};
use crate::stream::{FilterReport, StreamReport};

/// Columns of every stream.
const COLUMNS: [&str; 5] = ["structures", "program_total", "parts", "bytes", "lines_sha256"];
/// Columns of a stream with a filter.
const FILTER_COLUMNS: [&str; 4] = ["filtered_out", "filter_batches", "filter_failures", "unfiltered"];
/// How the steps are called in front of their molecule's index.
const STEP: &str = "stream_";
/// The code with which Surge refuses a formula.
const SURGE_REFUSES: i32 = 1;

/// A program that enumerates.
#[derive(Debug, Clone)]
pub struct Enumerator {
    argv: Vec<String>,
    versions: BTreeMap<String, Vec<String>>,
    stream: StreamOptions,
    /// The exit code with which the program says, before it writes anything, that its formula is none.
    refuses: Option<i32>,
}

impl Enumerator {
    /// Surge. It tells its version nowhere, so the smallest formula has to do as the sign that it works.
    pub fn surge(options: &SurgeOptions) -> Self {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Self {
            argv: words(&["surge", "-S", "-m{residue}/{modulus}", "{formula}"]),
            versions: BTreeMap::from([("surge".to_owned(), words(&["surge", "-u", "CH4"]))]),
            stream: options.stream.clone(),
            refuses: Some(SURGE_REFUSES),
        }
    }

    /// A command whose output is a stream.
    pub fn of_command(options: &CommandOptions, stream: &StreamOptions) -> Self {
        let (argv, versions) = (options.argv.clone(), options.versions.clone());
        Self { argv, versions, stream: stream.clone(), refuses: None }
    }

    fn step(&self, workload: &Workload<'_>, index: usize, residue: &Residue) -> Step {
        let driver = driver(workload).map(|(_, to)| to.to_string_lossy().into_owned()).unwrap_or_default();
        let threads = workload.spec.threads_per_task.to_string();
        let fill = |word: &String| {
            residue.fill(word).replace(DRIVER_PLACEHOLDER, &driver).replace(THREADS_PLACEHOLDER, &threads)
        };
        let argv = self.argv.iter().map(fill).collect();
        Step { name: format!("{STEP}{index:05}"), argv, needs: Vec::new() }
    }

    fn judged(&self, workload: &Workload<'_>, input: &MoleculeInput, outcomes: &[StepOutcome]) -> Judged {
        if let Err(error) = residue(input) {
            return Ok(self.bad(input, StreamReason::FormulaInvalid, error.to_string()));
        }
        let name = format!("{STEP}{:05}", input.index);
        let ended = outcomes.iter().find(|outcome| outcome.step.name == name);
        let ended = ended.and_then(|outcome| outcome.ended.as_ref());
        let fail = |reason, detail| Err(EngineFailure { reason, detail });
        let Some(ended) = ended else {
            return fail(failure::NOT_TRIED, format!("`{}` was not come to", input.molecule.id));
        };
        let report = read_report(workload, input);
        let lines = report.as_ref().map_or(0, |report| report.lines);
        let total = self.stream.total_in(&ended.stderr_tail);
        if self.refuses.is_some_and(|code| ended.how == How::Exited(code)) && lines == 0 && total.is_none() {
            return Ok(self.bad(input, StreamReason::FormulaRefused, last_words(ended)));
        }
        // First: a program whose pipe was closed because its filter had failed dies of that.
        let filter = report.as_ref().ok().and_then(|report| report.filter.as_ref());
        if let Some(fault) = filter.and_then(filter_fault) {
            return fail(failure::FILTER_FAILED, format!("the filter of `{}`: {fault}", input.molecule.id));
        }
        if let Some(reason) = breakdown(ended) {
            return fail(reason, format!("{lines} lines, then {}", evidence(ended)));
        }
        let report = match report {
            Ok(report) => report,
            Err(detail) => return fail(failure::OUTPUT_LOST, format!("the report of the stream: {detail}")),
        };
        let Some(total) = total else {
            let detail = format!(
                "{lines} lines, and no total such as `{}` behind them; {}",
                self.stream.total,
                evidence(ended)
            );
            return fail(failure::TOTAL_MISSING, detail);
        };
        if total != lines || !report.is_whole {
            let open = if report.is_whole { "" } else { ", the last one cut short" };
            let detail =
                format!("the stream has {lines} lines{open} (expected: {total}, as the program tells)");
            return fail(failure::STREAM_TRUNCATED, detail);
        }
        Ok(self.good(input, &report, total))
    }

    fn good(&self, input: &MoleculeInput, report: &StreamReport, total: u64) -> Row {
        let counts = [report.kept, total, report.parts, report.bytes].map(|count| count.to_string());
        let mut columns = counts.to_vec();
        columns.push(report.sha256.clone());
        let mut detail = String::new();
        if self.stream.filter.is_some() {
            let filter = report.filter.clone().unwrap_or_default();
            let out = report.lines.saturating_sub(report.kept);
            let counts = [out, filter.batches, filter.failures, filter.unfiltered];
            columns.extend(counts.map(|count| count.to_string()));
            detail =
                filter.first_failure.map(|said| format!("the filter failed: {said}")).unwrap_or_default();
        }
        columns.push(detail);
        row(input, Verdict::Ok, String::new(), columns)
    }

    /// A formula without a stream has no count, so that none can be used by mistake.
    fn bad(&self, input: &MoleculeInput, reason: StreamReason, detail: String) -> Row {
        let mut columns = vec![String::new(); self.columns().len() - 1];
        columns.push(detail);
        row(input, Verdict::Bad, reason.name().to_owned(), columns)
    }
}

impl Engine for Enumerator {
    fn versions(&self) -> Vec<(&str, Vec<String>)> {
        self.versions.iter().map(|(name, argv)| (name.as_str(), argv.clone())).collect()
    }

    fn preparations(&self, _: &RunSpec, _: &BTreeMap<String, PathBuf>) -> Vec<Preparation> {
        Vec::new()
    }

    fn plan(&self, workload: &Workload<'_>) -> Plan {
        let step = |input: &MoleculeInput| {
            residue(input).ok().map(|residue| self.step(workload, input.index, &residue))
        };
        Plan {
            files: Vec::new(),
            copies: inputs(workload).map(|(_, from, to)| (from, to)).chain(driver(workload)).collect(),
            steps: workload.molecules.iter().filter_map(step).collect(),
        }
    }

    fn judge(&self, workload: &Workload<'_>, outcomes: &[StepOutcome]) -> Result<Vec<Judged>, EngineFailure> {
        Ok(workload.molecules.iter().map(|input| self.judged(workload, input, outcomes)).collect())
    }

    fn keeps(&self, _: &Workload<'_>) -> Vec<PathBuf> {
        Vec::new()
    }

    fn streaming(&self, step: &Step) -> Option<Streaming<'_>> {
        let index = step.name.strip_prefix(STEP)?;
        let report = report_path(index);
        Some(Streaming { options: &self.stream, parts: format!("parts/{index}"), report })
    }

    fn score_unit(&self) -> &'static str {
        ""
    }

    fn columns(&self) -> Vec<&str> {
        let filter: &[&str] = if self.stream.filter.is_some() { &FILTER_COLUMNS } else { &[] };
        COLUMNS.iter().chain(filter).copied().chain(["detail"]).collect()
    }
}

fn row(input: &MoleculeInput, verdict: Verdict, reason: String, columns: Vec<String>) -> Row {
    let (molecule_id, smiles) = (input.molecule.id.clone(), input.molecule.smiles().to_owned());
    Row { molecule_id, smiles, verdict, reason, score: String::new(), columns }
}

fn residue(input: &MoleculeInput) -> Result<Residue, common::task::NotAResidue> {
    input.molecule.smiles().parse()
}

fn report_path(index: &str) -> PathBuf {
    PathBuf::from(format!("streams/{index}.json"))
}

fn read_report(workload: &Workload<'_>, input: &MoleculeInput) -> Result<StreamReport, String> {
    let bytes = left_file::read(workload.scratch, &report_path(&format!("{:05}", input.index)))?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Why nothing that a filter did can be used, if so.
fn filter_fault(filter: &FilterReport) -> Option<String> {
    let in_vain = filter.batches > 0 && filter.failures == filter.batches;
    let said = filter.first_failure.as_deref().unwrap_or_default();
    let all = in_vain.then(|| format!("it failed for each of {} batches: {said}", filter.batches));
    filter.fault.clone().or(all)
}

fn last_words(ended: &Ended) -> String {
    let last = ended.stderr_tail.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.unwrap_or("it says nothing about it").to_owned()
}

#[cfg(test)]
mod tests {
    use common::task::{FilterOptions, ManifestDigest, Molecule, MoleculeSource, SPEC_SCHEMA, SURGE_TOTAL};

    use super::*;

    const TOLD: &str = "C8H11NO  1217 -> 60115 -> 3 in 0.71 sec\n";

    fn engine(filter: bool) -> Enumerator {
        let filter = filter.then(|| FilterOptions { argv: vec!["grep".into()], batch_lines: 5 });
        let stream = StreamOptions { total: SURGE_TOTAL.into(), lines_per_part: 2, filter };
        Enumerator::surge(&SurgeOptions { stream })
    }

    fn report(lines: u64) -> StreamReport {
        let sha256 = "ab".to_owned();
        StreamReport { lines, is_whole: true, kept: lines, parts: 2, bytes: 90, sha256, filter: None }
    }

    /// The row, or the failure's word, of a formula whose program ended so and left this report.
    fn judged(
        engine: &Enumerator,
        formula: &str,
        how: How,
        told: &str,
        report: Option<StreamReport>,
    ) -> String {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = scratch.path().canonicalize().unwrap();
        if let Some(report) = report {
            std::fs::create_dir(scratch.join("streams")).unwrap();
            std::fs::write(scratch.join("streams/00000.json"), serde_json::to_vec(&report).unwrap()).unwrap();
        }
        let spec = RunSpec {
            schema: SPEC_SCHEMA,
            run: "r".parse().unwrap(),
            engine: common::task::EngineOptions::Surge(SurgeOptions { stream: engine.stream.clone() }),
            seed: 1,
            threads_per_task: 1,
            needs_gpu: false,
            inputs: BTreeMap::new(),
            drivers: BTreeMap::new(),
            manifest: ManifestDigest { sha256: String::new(), tasks: 1, molecules: 1 },
        };
        let source = MoleculeSource::Smiles { smiles: formula.into() };
        let molecule = Molecule { id: "f".into(), source };
        let molecules = [MoleculeInput { index: 0, molecule, structure: None, seed: 1 }];
        let shared = BTreeMap::new();
        let workload = Workload {
            spec: &spec,
            task: common::task::TaskId(0),
            molecules: &molecules,
            scratch: &scratch,
            shared: &shared,
            has_gpu: false,
            is_suspect: false,
        };
        let steps = engine.plan(&workload).steps;
        let ended = Ended { how, elapsed_ms: 7, stdout_tail: String::new(), stderr_tail: told.to_owned() };
        let outcome = |step| StepOutcome { step, ended: Some(ended.clone()) };
        let outcomes: Vec<_> = steps.into_iter().map(outcome).collect();
        match engine.judge(&workload, &outcomes).unwrap().remove(0) {
            Ok(row) => {
                assert_eq!(row.columns.len(), engine.columns().len());
                format!("{} {} {}", row.verdict.name(), row.reason, row.columns.join(","))
            }
            Err(failure) => format!("{}: {}", failure.reason, failure.detail),
        }
    }

    #[test]
    fn surge_gets_its_formula_and_its_residue() {
        let spec = |text: &str| {
            engine(false)
                .argv
                .iter()
                .map(|word| text.parse::<Residue>().unwrap().fill(word))
                .collect::<Vec<_>>()
        };
        assert_eq!(spec("C8H11NO:2/3"), ["surge", "-S", "-m2/3", "C8H11NO"]);
        assert_eq!(spec("C8H11NO"), ["surge", "-S", "-m0/1", "C8H11NO"]);
    }

    #[test]
    fn a_stream_counts_when_its_lines_are_as_many_as_the_program_tells() {
        let surge = engine(false);
        assert_eq!(judged(&surge, "C8H11NO", How::Exited(0), TOLD, Some(report(3))), "ok  3,3,2,90,ab,");
        let check = |how, told: &str, report: Option<StreamReport>, expect: &str| {
            let found = judged(&surge, "C8H11NO", how, told, report);
            assert!(found.starts_with(expect), "{found}");
        };
        check(
            How::Exited(0),
            TOLD,
            Some(report(2)),
            "stream_truncated: the stream has 2 lines (expected: 3,",
        );
        check(How::Exited(0), TOLD, Some(report(4)), "stream_truncated: the stream has 4 lines");
        let open = StreamReport { is_whole: false, ..report(3) };
        check(How::Exited(0), TOLD, Some(open), "stream_truncated: the stream has 3 lines, the last one cut");
        check(
            How::Exited(0),
            "",
            Some(report(3)),
            "total_missing: 3 lines, and no total such as `-> {total} in `",
        );
        check(How::Exited(0), TOLD, None, "output_lost: the report of the stream");
        check(How::Signalled(9), TOLD, Some(report(3)), "engine_crashed: 3 lines, then signal 9");
        check(How::TimeLimit, "", Some(report(3)), "time_limit: 3 lines");
        check(How::Exited(3), TOLD, Some(report(3)), "engine_failed: ");
    }

    #[test]
    fn a_formula_that_is_none_is_bad_and_another_failure_is_not_taken_for_it() {
        let surge = engine(false);
        let check = |formula: &str, how, told: &str, lines, expect: &str| {
            let found = judged(&surge, formula, how, told, Some(report(lines)));
            assert!(found.starts_with(expect), "{found}");
        };
        check("C8H11Xx", How::Exited(1), "bad formula\n", 0, "bad formula_refused ,,,,,bad formula");
        check("C8H11NO", How::Exited(1), "write error\n", 5, "engine_failed");
        check("C8-H", How::Exited(0), TOLD, 3, "bad formula_invalid ,,,,,`C8-H` is no formula");
    }

    #[test]
    fn what_a_filter_did_is_counted_and_what_it_broke_is_named() {
        let filtered = engine(true);
        let with = |filter: FilterReport| Some(StreamReport { kept: 2, filter: Some(filter), ..report(3) });
        let base = FilterReport { batches: 2, ..FilterReport::default() };
        let check = |filter: FilterReport, expect: &str| {
            let found = judged(&filtered, "C8H11NO", How::Exited(0), TOLD, with(filter));
            assert_eq!(found, expect);
        };
        check(base.clone(), "ok  2,3,2,90,ab,1,2,0,0,");
        let said = || Some("batch 2: exit 3, last words `no`".to_owned());
        let some = FilterReport { failures: 1, unfiltered: 1, first_failure: said(), ..base.clone() };
        check(some.clone(), "ok  2,3,2,90,ab,1,2,1,1,the filter failed: batch 2: exit 3, last words `no`");
        check(
            FilterReport { failures: 2, ..some },
            "filter_failed: the filter of `f`: it failed for each of 2 batches: batch 2: exit 3, last words `no`",
        );
        let crash = FilterReport { fault: Some("it crashed over batch 1 by signal 11".into()), ..base };
        let found = judged(&filtered, "C8H11NO", How::Signalled(13), "", with(crash));
        assert_eq!(found, "filter_failed: the filter of `f`: it crashed over batch 1 by signal 11");
    }
}
