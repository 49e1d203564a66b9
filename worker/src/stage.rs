//! The first half of an attempt: everything that its engine needs onto local disk, and the engine run on it, in rounds: all molecules
//! at once, then what a breakdown left untried and each suspect by itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::digest::sha256_hex;
use common::env;
use common::task::{Molecule, MoleculeSource, ObjectRef, Row, Shard, StepRecord, Verdict, molecule_seed};

use crate::attempt::{Attempt, Halt};
use crate::cache::CacheError;
use crate::checkpoint::pace;
use crate::engine::{Judged, MoleculeInput, Preparation, Step, StepOutcome, Workload, is_own};
use crate::failure;
use crate::gpus::Gpu;
use crate::memory;
use crate::process::{How, Logs, Program, engine_environment};
use crate::scratch::used_bytes;
use crate::server::is_call;

/// The folder of step logs below the scratch folder.
pub(crate) const LOGS: &str = "logs";
/// The folder below a round's folder for what an engine wants to have kept.
const OUTPUT: &str = "output";
/// The folder below it all of whose content a driver wants to find again after a hand-over.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// How much a step may write to each of its logs.
const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Shared inputs, drivers and what is made of them, by role.
type Shared = BTreeMap<String, PathBuf>;

/// One go of the engine at some of the task's molecules.
#[derive(Debug)]
pub(crate) struct Round {
    /// Its folder below the scratch folder; empty for the first round, which has the scratch folder itself.
    name: String,
    pub(crate) folder: PathBuf,
    logs: PathBuf,
    positions: Vec<usize>,
    molecules: Vec<MoleculeInput>,
}

/// How the machine was while an engine ran.
#[derive(Debug, Clone, Copy)]
struct Weather {
    /// How many free bytes the scratch disk had at least; `None` if that is not known.
    least_free: Option<u64>,
    /// Whether the kernel killed a program for want of memory.
    has_killed: bool,
}

impl Round {
    /// A step's name in the record and of its logs: each once in an attempt.
    pub(crate) fn step_name(&self, step: &Step) -> String {
        if self.name.is_empty() { step.name.clone() } else { format!("{}_{}", self.name, step.name) }
    }
}

impl Attempt {
    /// Brings shared inputs into the cache.
    pub(crate) async fn stage(&mut self) -> Result<Shared, Halt> {
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
        self.bytes_down += bytes_down;
        Ok(shared)
    }

    /// Makes a folder for a round, with the molecules at these positions in it.
    pub(crate) async fn begin_round(
        &mut self,
        scratch: &Path,
        number: u32,
        positions: Vec<usize>,
    ) -> Result<Round, Halt> {
        let name = if number == 1 { String::new() } else { format!("round_{number}") };
        let folder = scratch.join(&name);
        fs::create_dir_all(folder.join(OUTPUT))?;
        fs::create_dir_all(folder.join(CHECKPOINT))?;
        let mut molecules = Vec::with_capacity(positions.len());
        for &index in &positions {
            let molecule = self.grant.molecules[index].clone();
            let structure = self.stage_structure(&folder, index, &molecule).await?;
            self.bytes_down += structure.as_ref().map_or(0, |(_, bytes)| *bytes);
            let seed = molecule_seed(self.serving.info.spec.seed, &molecule.id);
            molecules.push(MoleculeInput {
                index,
                molecule,
                structure: structure.map(|(path, _)| path),
                seed,
            });
        }
        self.moments.staged.get_or_insert(self.clock.now_ms());
        Ok(Round { name, folder, logs: scratch.join(LOGS), positions, molecules })
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
        folder: &Path,
        index: usize,
        molecule: &Molecule,
    ) -> Result<Option<(PathBuf, u64)>, Halt> {
        let MoleculeSource::Sdf { object, offset, length } = &molecule.source else { return Ok(None) };
        let read = || self.serving.store.read_range(object, *offset, *length);
        let record = self.ask_store("stage", read).await?;
        let path = PathBuf::from(format!("molecules/{index:05}.sdf"));
        fs::create_dir_all(folder.join("molecules"))?;
        fs::write(folder.join(&path), &record)?;
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
            Halt::failed(failure::INPUT_MISSING, format!("the run has no input `{}`", preparation.from))
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
            Err(Halt::failed(failure::SHARED_INPUT_UNUSABLE, detail))
        };
        let key = sha256_hex(key.as_bytes());
        let derived = self.shared.cache.derived(&key, &preparation.output, make);
        Ok(self.unless_stopped(derived).await??)
    }

    /// Has the engine work on the molecules of a round and judges each. When it is stopped, too, some may have their verdict.
    pub(crate) async fn run(&mut self, round: &Round, shared: &Shared) -> Result<(), Halt> {
        let mut outcomes = Vec::new();
        let killed_before = memory::kills();
        let disk = Arc::clone(&self.shared);
        let mut checkpointer = self.checkpointer.take();
        let steps = self.run_steps(round, shared, &mut outcomes);
        let watched = async {
            // Later rounds are short: they find out which molecule to blame.
            match checkpointer.as_mut().filter(|_| round.name.is_empty()) {
                Some(checkpointer) => checkpointer.beside(steps).await,
                None => steps.await,
            }
        };
        let (ran, least_free) = disk.scratch.least_free_during(Box::pin(watched)).await;
        self.checkpointer = checkpointer;
        let weather = Weather { least_free, has_killed: memory::kills() > killed_before };
        let judged = self.judge(round, shared, &outcomes, weather);
        ran?;
        self.moments.engine_ended = Some(self.clock.now_ms());
        judged
    }

    /// Runs the engine's steps, one after the other.
    async fn run_steps(
        &mut self,
        round: &Round,
        shared: &Shared,
        outcomes: &mut Vec<StepOutcome>,
    ) -> Result<(), Halt> {
        let plan = self.serving.engine.plan(&self.workload(round, &round.molecules, shared));
        for (path, bytes) in &plan.files {
            fs::write(place(&round.folder, path)?, bytes)?;
        }
        for (from, to) in &plan.copies {
            let file = place(&round.folder, to)?;
            fs::copy(from, &file)?;
            fs::set_permissions(&file, Permissions::from_mode(0o444))?;
        }
        let serving = Arc::clone(&self.serving);
        let needed = serving.engine.needed(self.grant.task);
        self.bring_needed(round, &needed).await?;
        let setup = serving.engine.setup(&self.workload(round, &round.molecules, shared));
        self.moments.engine_started.get_or_insert(self.clock.now_ms());
        if let Some(setup) = setup
            && !self.bring_setup(round, &setup).await?
        {
            self.run_in_order(setup.steps.clone(), round, outcomes).await?;
            self.share_setup(round, &setup).await?;
        }
        self.run_in_order(plan.steps, round, outcomes).await
    }

    async fn run_in_order(
        &mut self,
        steps: Vec<Step>,
        round: &Round,
        outcomes: &mut Vec<StepOutcome>,
    ) -> Result<(), Halt> {
        for step in steps {
            let outcome = self.run_step(step, round).await?;
            let is_stopped = outcome.ended.as_ref().is_some_and(|ended| ended.how == How::Stopped);
            outcomes.push(outcome);
            if is_stopped {
                return Err(Halt::Stopped);
            }
        }
        Ok(())
    }

    async fn run_step(&mut self, step: Step, round: &Round) -> Result<StepOutcome, Halt> {
        let serving = Arc::clone(&self.serving);
        let lacks = |need| !round.folder.join(need).is_file();
        if serving.engine.is_done(&round.folder, &step) || step.needs.iter().any(lacks) {
            return Ok(StepOutcome { step, ended: None });
        }
        match (serving.engine.shareable(&step), serving.engine.leaves(&step)) {
            (Some(shareable), Some(output)) => {
                Box::pin(self.run_shared(step, &shareable, &output, round)).await
            }
            _ => self.run_program(step, round).await,
        }
    }

    pub(crate) async fn run_program(&mut self, step: Step, round: &Round) -> Result<StepOutcome, Halt> {
        let name = round.step_name(&step);
        let logs = Logs { folder: round.logs.clone(), name: name.clone(), bytes_max: LOG_BYTES_MAX };
        let program = self.program(&step, &round.folder, Some(logs));
        let serving = Arc::clone(&self.serving);
        let ended = match serving.engine.streaming(&step) {
            Some(streaming) => Box::pin(self.run_streamed(&program, &streaming)).await?,
            None => self.shared.launcher.run(&program, self.control.stopping()).await?,
        };
        self.evidence.add_step(
            StepRecord {
                name,
                argv: step.argv.clone(),
                ended: how_text(ended.how),
                shared: None,
                elapsed_ms: ended.elapsed_ms,
            },
            &ended,
        );
        Ok(StepOutcome { step, ended: Some(ended) })
    }

    pub(crate) fn program(&self, step: &Step, folder: &Path, logs: Option<Logs>) -> Program {
        let threads = self.serving.info.spec.threads_per_task;
        let extra = [
            ("MOLFLEET_RUN", self.serving.run.to_string()),
            ("MOLFLEET_TASK", self.grant.task.to_string()),
            ("MOLFLEET_ATTEMPT", self.grant.lease.to_string()),
            ("MOLFLEET_SEED", self.serving.info.spec.seed.to_string()),
            ("MOLFLEET_THREADS", threads.to_string()),
        ];
        let mut extra = extra.map(|(name, value)| (name.to_owned(), OsString::from(value))).to_vec();
        for (name, below) in [("MOLFLEET_OUTPUT", OUTPUT), ("MOLFLEET_CHECKPOINT_DIR", CHECKPOINT)] {
            extra.extend(logs.as_ref().map(|_| (name.to_owned(), folder.join(below).into())));
        }
        let [every, _] = pace(&self.shared.config, &self.serving.info.limits);
        extra.push(("MOLFLEET_CHECKPOINT_SECONDS".to_owned(), every.as_secs().to_string().into()));
        extra.extend(self.shared.gpus.variables(self.own_gpu()));
        if self.own_gpu().is_some() {
            extra.extend_from_slice(&self.shared.config.cuda_mps);
        }
        if is_call(&step.argv) {
            extra.extend(self.servers(step));
        }
        Program {
            argv: step.argv.clone(),
            folder: folder.to_owned(),
            env: engine_environment(&self.serving.path, folder, threads, &extra),
            cores: self.taken.cores.clone(),
            logs,
            time_limit: self.serving.step_limit(step),
            grace: self.shared.config.grace,
        }
    }

    /// The GPU that it shares.
    pub(crate) fn own_gpu(&self) -> Option<&Gpu> {
        self.taken.gpu.map(|gpu| &self.shared.gpus.ours[gpu])
    }

    /// What a step is told that talks to a server; no other step learns where servers are.
    fn servers(&self, step: &Step) -> Vec<(String, OsString)> {
        let servers = &self.shared.config.servers;
        let endpoints: Vec<String> = servers.endpoints.iter().map(ToString::to_string).collect();
        let mut told = vec![
            (env::ENDPOINTS.to_owned(), endpoints.join(",").into()),
            (env::STEP_SECONDS_MAX.to_owned(), self.serving.step_limit(step).as_secs().to_string().into()),
        ];
        let token = servers.token_file.as_ref();
        told.extend(token.map(|file| (env::ENDPOINT_TOKEN_FILE.to_owned(), file.into())));
        told
    }

    /// Has the outputs of a round judged, and keeps the files of the molecules that have a verdict.
    fn judge(
        &mut self,
        round: &Round,
        shared: &Shared,
        outcomes: &[StepOutcome],
        weather: Weather,
    ) -> Result<(), Halt> {
        let engine = &self.serving.engine;
        let judged = engine.judge(&self.workload(round, &round.molecules, shared), outcomes);
        let is_good = |one: &Judged| one.as_ref().is_ok_and(|row| row.verdict == Verdict::Ok);
        if !judged.as_ref().is_ok_and(|all| all.iter().all(is_good)) {
            self.blame_the_disk(round, weather.least_free)?;
        }
        let judged = if weather.has_killed { memory::spare(judged) } else { judged };
        let judged = match judged {
            // What is said of all is said of the only one.
            Err(failure) if round.positions.len() == 1 => vec![Err(failure)],
            judged => judged?,
        };
        self.verdicts.judged(&round.positions, judged);
        let has_verdict = |input: &&MoleculeInput| self.verdicts.has(input.index);
        let done: Vec<_> = round.molecules.iter().filter(has_verdict).cloned().collect();
        if !done.is_empty() {
            let kept = self.serving.engine.keeps(&self.workload(round, &done, shared));
            let kept = kept.into_iter().filter(|path| is_own(&round.folder, path));
            self.evidence.kept.extend(kept.map(|path| Path::new(&round.name).join(path)));
        }
        Ok(())
    }

    /// What went wrong while the disk was full is the machine's fault, unless it was this engine that filled it: a task that takes no
    /// more than the space that is kept free has a right to it.
    fn blame_the_disk(&self, round: &Round, least_free: Option<u64>) -> Result<(), Halt> {
        let floor = self.shared.config.scratch_free_bytes_min;
        let Some(free) = least_free.filter(|free| *free < floor) else { return Ok(()) };
        let used = used_bytes(&round.folder);
        if used >= floor {
            return Ok(());
        }
        Err(Halt::Machine(format!(
            "the scratch disk had {free} bytes left while the engine ran (expected: {floor} or more), and the engine took {used}"
        )))
    }

    /// The task's result, once each molecule has its verdict.
    pub(crate) fn conclude(&mut self) -> Result<Shard, Halt> {
        self.verdicts.blame(&self.grant.molecules, &self.serving.engine.columns());
        let rows = self.verdicts.conclude()?;
        Ok(self.shard(rows))
    }

    /// Rows in the format of the run's engine.
    pub(crate) fn shard(&self, rows: Vec<Row>) -> Shard {
        let engine = &self.serving.engine;
        let columns = engine.columns().into_iter().map(str::to_owned).collect();
        Shard { score_unit: engine.score_unit().to_owned(), columns, rows }
    }

    fn workload<'a>(
        &'a self,
        round: &'a Round,
        molecules: &'a [MoleculeInput],
        shared: &'a Shared,
    ) -> Workload<'a> {
        let (spec, task) = (&self.serving.info.spec, self.grant.task);
        Workload {
            spec,
            task,
            molecules,
            scratch: &round.folder,
            shared,
            has_gpu: self.taken.gpu.is_some(),
            is_suspect: self.verdicts.is_suspect(&round.positions),
        }
    }
}

/// Where a file is to be made: its path below a folder, which exists, with all folders in between.
fn place(folder: &Path, path: &Path) -> io::Result<PathBuf> {
    if let Some(between) = path.parent().filter(|between| !between.as_os_str().is_empty()) {
        fs::create_dir_all(folder.join(between))?;
    }
    Ok(folder.join(path))
}

fn how_text(how: How) -> String {
    match how {
        How::Exited(code) => format!("exit {code}"),
        How::Signalled(signal) => format!("signal {signal}"),
        How::TimeLimit => "time limit".to_owned(),
        How::Stopped => "stopped".to_owned(),
    }
}
