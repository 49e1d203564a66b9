//! The first half of an attempt: everything that its engine needs onto local disk, and the engine run on it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::digest::sha256_hex;
use common::task::{Molecule, MoleculeSource, ObjectRef, Row, Shard, StepRecord, Verdict, molecule_seed};

use crate::attempt::{Attempt, Halt};
use crate::cache::CacheError;
use crate::engine::{MoleculeInput, Preparation, Step, StepOutcome, Workload};
use crate::process::{How, Logs, Program, engine_environment};

/// The folder of step logs below the scratch folder.
pub(crate) const LOGS: &str = "logs";
/// The folder below the scratch folder for what an engine wants to have kept.
pub(crate) const OUTPUT: &str = "output";
/// How much a step may write to each of its logs.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A batch of this many molecules that are all bad for one reason is tried once more: suspect the machine first.
const SUSPICIOUS_BATCH: usize = 10;

/// A task's inputs on local disk.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) molecules: Vec<MoleculeInput>,
    pub(crate) shared: BTreeMap<String, PathBuf>,
}

impl Attempt {
    /// Brings shared inputs into the cache and the task's own into the scratch folder.
    pub(crate) async fn stage(&mut self, scratch: &Path) -> Result<Staged, Halt> {
        for folder in [LOGS, OUTPUT] {
            fs::create_dir(scratch.join(folder))?;
        }
        let spec = &self.serving.info.spec;
        let mut shared = BTreeMap::new();
        let mut bytes_down = 0;
        for (role, pinned) in spec.inputs.iter().chain(&spec.drivers) {
            let (file, fetched) = self.fetch(pinned).await?;
            bytes_down += fetched;
            shared.insert(role.clone(), file);
        }
        for preparation in self.serving.engine.preparations(spec, &shared) {
            let file = self.prepare(&preparation, &shared).await?;
            shared.insert(preparation.role, file);
        }
        let mut molecules = Vec::with_capacity(self.grant.molecules.len());
        for (index, molecule) in self.grant.molecules.iter().enumerate() {
            let structure = self.stage_structure(scratch, index, molecule).await?;
            bytes_down += structure.as_ref().map_or(0, |(_, bytes)| *bytes);
            let seed = molecule_seed(spec.seed, &molecule.id);
            molecules.push(MoleculeInput {
                molecule: molecule.clone(),
                structure: structure.map(|(path, _)| path),
                seed,
            });
        }
        self.bytes_down += bytes_down;
        self.moments.staged = Some(self.clock.now_ms());
        Ok(Staged { molecules, shared })
    }

    async fn fetch(&self, pinned: &ObjectRef) -> Result<(PathBuf, u64), Halt> {
        let request = async || match self.shared.cache.object(&self.serving.store, pinned).await {
            Err(CacheError::Fill(error)) => Err(error),
            other => Ok(other),
        };
        Ok(self.ask_store("stage", request).await??)
    }

    /// Writes a molecule's SDF record to a file of its own; nothing to do for a SMILES.
    async fn stage_structure(
        &self,
        scratch: &Path,
        index: usize,
        molecule: &Molecule,
    ) -> Result<Option<(PathBuf, u64)>, Halt> {
        let MoleculeSource::Sdf { object, offset, length } = &molecule.source else { return Ok(None) };
        let read = || self.serving.store.read_range(object, *offset, *length);
        let record = self.ask_store("stage", read).await?;
        let path = PathBuf::from(format!("molecules/{index:05}.sdf"));
        fs::create_dir_all(scratch.join("molecules"))?;
        fs::write(scratch.join(&path), &record)?;
        Ok(Some((path, record.len() as u64)))
    }

    /// Makes a file from a shared input, once per host: its key is the digest of the input's bytes, the recipe and the programs.
    async fn prepare(
        &self,
        preparation: &Preparation,
        shared: &BTreeMap<String, PathBuf>,
    ) -> Result<PathBuf, Halt> {
        let from = shared.get(&preparation.from);
        let from = from.ok_or_else(|| {
            Halt::failed("input_missing", format!("the run has no input `{}`", preparation.from))
        })?;
        let provenance = &self.serving.provenance;
        let key = format!(
            "{}\n{}\n{:?}",
            provenance.digests.get(&preparation.from).map_or("", String::as_str),
            preparation.recipe,
            provenance.versions
        );
        let make = async |folder: &Path| {
            fs::create_dir_all(folder.join("input"))?;
            let name = from.file_name().unwrap_or_default();
            fs::copy(from, folder.join("input").join(name))?;
            let program = self.program(&preparation.step, folder, None);
            let ended = self.shared.launcher.run(&program, self.control.stopping()).await?;
            if ended.how == How::Stopped {
                return Err(Halt::Stopped);
            }
            if folder.join(&preparation.output).is_file() {
                return Ok(());
            }
            let detail = format!(
                "`{}` ended by {:?} and left no `{}`: {}",
                preparation.step.argv.join(" "),
                ended.how,
                preparation.output.display(),
                ended.stderr_tail.trim()
            );
            Err(Halt::failed("preparation_failed", detail))
        };
        let key = sha256_hex(key.as_bytes());
        let derived = self.shared.cache.derived(&key, &preparation.output, make);
        Ok(self.unless_stopped(derived).await??)
    }

    /// Runs the engine's steps, one after the other.
    pub(crate) async fn run_steps(
        &mut self,
        staged: &Staged,
        scratch: &Path,
    ) -> Result<Vec<StepOutcome>, Halt> {
        let plan = self.serving.engine.plan(&self.workload(staged, scratch));
        for (path, bytes) in &plan.files {
            let file = scratch.join(path);
            fs::create_dir_all(file.parent().unwrap_or(scratch))?;
            fs::write(file, bytes)?;
        }
        for (from, to) in &plan.copies {
            let file = scratch.join(to);
            fs::create_dir_all(file.parent().unwrap_or(scratch))?;
            fs::copy(from, &file)?;
            fs::set_permissions(&file, Permissions::from_mode(0o444))?;
        }
        self.moments.engine_started = Some(self.clock.now_ms());
        let mut outcomes = Vec::with_capacity(plan.steps.len());
        for step in plan.steps {
            outcomes.push(self.run_step(step, scratch).await?);
        }
        self.moments.engine_ended = Some(self.clock.now_ms());
        Ok(outcomes)
    }

    async fn run_step(&mut self, step: Step, scratch: &Path) -> Result<StepOutcome, Halt> {
        if step.needs.iter().any(|need| !scratch.join(need).is_file()) {
            return Ok(StepOutcome { step, ended: None });
        }
        let program = self.program(&step, scratch, Some(scratch));
        let ended = self.shared.launcher.run(&program, self.control.stopping()).await?;
        self.evidence.add_step(
            StepRecord {
                name: step.name.clone(),
                argv: step.argv.clone(),
                ended: how_text(ended.how),
                elapsed_ms: ended.elapsed_ms,
            },
            &ended,
        );
        if ended.how == How::Stopped {
            return Err(Halt::Stopped);
        }
        Ok(StepOutcome { step, ended: Some(ended) })
    }

    fn program(&self, step: &Step, folder: &Path, logs: Option<&Path>) -> Program {
        let threads = self.serving.info.spec.threads_per_task;
        let extra = [
            ("MOLFLEET_RUN", self.serving.run.to_string()),
            ("MOLFLEET_TASK", self.grant.task.to_string()),
            ("MOLFLEET_ATTEMPT", self.grant.lease.to_string()),
            ("MOLFLEET_SEED", self.serving.info.spec.seed.to_string()),
            ("MOLFLEET_THREADS", threads.to_string()),
        ];
        let mut extra = extra.map(|(name, value)| (name.to_owned(), OsString::from(value))).to_vec();
        extra.extend(logs.map(|scratch| ("MOLFLEET_OUTPUT".to_owned(), scratch.join(OUTPUT).into())));
        Program {
            argv: step.argv.clone(),
            folder: folder.to_owned(),
            env: engine_environment(&self.serving.path, folder, threads, &extra),
            logs: logs.map(|scratch| Logs {
                folder: scratch.join(LOGS),
                name: step.name.clone(),
                bytes_max: LOG_BYTES_MAX,
            }),
            time_limit: self.serving.step_limit(),
            grace: self.shared.config.grace,
        }
    }

    /// Has the outputs judged, and refuses a verdict that rather tells of the machine.
    pub(crate) fn judge(
        &self,
        staged: &Staged,
        scratch: &Path,
        outcomes: &[StepOutcome],
    ) -> Result<Shard, Halt> {
        let engine = &self.serving.engine;
        let judged = engine.judge(&self.workload(staged, scratch), outcomes)?;
        let rows = judged.into_iter().collect::<Result<Vec<Row>, _>>()?;
        if let Some(reason) = one_reason_for_all(&rows)
            && self.grant.failures == 0
        {
            let detail = format!(
                "all {} molecules are bad for one reason, {reason}: suspecting this machine first",
                rows.len()
            );
            return Err(Halt::failed("all_bad", detail));
        }
        let columns = engine.columns().into_iter().map(str::to_owned).collect();
        Ok(Shard { score_unit: engine.score_unit().to_owned(), columns, rows })
    }

    pub(crate) fn workload<'a>(&'a self, staged: &'a Staged, scratch: &'a Path) -> Workload<'a> {
        Workload {
            spec: &self.serving.info.spec,
            molecules: &staged.molecules,
            scratch,
            shared: &staged.shared,
        }
    }
}

/// The reason why every molecule of a large batch is bad, if it is the same one for all.
fn one_reason_for_all(rows: &[Row]) -> Option<&str> {
    let first = rows.first().filter(|_| rows.len() >= SUSPICIOUS_BATCH)?;
    let same = rows.iter().all(|row| row.verdict == Verdict::Bad && row.reason == first.reason);
    same.then_some(first.reason.as_str())
}

fn how_text(how: How) -> String {
    match how {
        How::Exited(code) => format!("exit {code}"),
        How::Signalled(signal) => format!("signal {signal}"),
        How::TimeLimit => "time limit".to_owned(),
        How::Stopped => "stopped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(reasons: &[&str]) -> Vec<Row> {
        let row = |reason: &&str| Row {
            molecule_id: "m".into(),
            smiles: String::new(),
            verdict: if reason.is_empty() { Verdict::Ok } else { Verdict::Bad },
            reason: (*reason).into(),
            score: String::new(),
            columns: Vec::new(),
        };
        reasons.iter().map(row).collect()
    }

    #[test]
    fn only_a_large_batch_with_one_reason_is_suspicious() {
        assert_eq!(one_reason_for_all(&rows(&["no_contact"; 10])), Some("no_contact"));
        assert_eq!(one_reason_for_all(&rows(&["no_contact"; 9])), None);
        let mut mixed = ["no_contact"; 12];
        mixed[7] = "smiles_invalid";
        assert_eq!(one_reason_for_all(&rows(&mixed)), None);
        mixed[7] = "";
        assert_eq!(one_reason_for_all(&rows(&mixed)), None);
    }
}
