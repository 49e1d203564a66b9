//! The look at a run: every task of its manifest, its hash in Redis, where it stands, and the stored result under its known name.

use common::digest::sha256_hex;
use common::queue::{Adoption, Queue, RunInfo, TaskInfo};
use common::storage::{RunStore, StorageError, key};
use common::task::{ManifestReader, Molecule, RunId, Shard, State, TaskId};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::count::{Count, Standing};
use crate::consolidation::{Fault, ManifestCopy, check_shard};
use crate::error::LaunchpadError;

/// Tasks per question to Redis.
const CHUNK: usize = 500;
/// Shards that are looked for at a time.
const FETCHES: usize = 32;

/// A run under audit.
#[derive(Debug)]
pub(crate) struct Audited<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) queue: &'a Queue,
    pub(crate) store: &'a RunStore,
    pub(crate) info: &'a RunInfo,
    pub(crate) manifest: &'a ManifestCopy,
}

/// Something that is wrong.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Finding {
    /// The task; `None` if it is the run's.
    pub(crate) task: Option<TaskId>,
    /// A stable short word.
    pub(crate) what: &'static str,
    /// The evidence.
    pub(crate) detail: String,
    /// Whether it can be put right.
    pub(crate) mendable: bool,
    #[serde(skip)]
    pub(super) mend: Option<Mend>,
}

/// How something is put right.
#[derive(Debug, Clone)]
pub(super) enum Mend {
    /// By pushing the tasks from this one on, and sealing.
    Push(TaskId),
    /// By recording the stored result.
    Adopt(Adoption),
    /// By putting the task where its state belongs.
    Place(TaskId),
    /// By setting a counter.
    Counter(&'static str, u64),
}

/// What a look found.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) findings: Vec<Finding>,
    /// Whether nothing happened meanwhile, so that places and counters could be compared.
    pub(crate) is_quiet: bool,
    /// Tasks of the manifest.
    pub(crate) tasks: u64,
    pub(super) latest_event: String,
}

impl Finding {
    fn new(task: Option<TaskId>, what: &'static str, detail: String, mend: Option<Mend>) -> Self {
        Self { task, what, detail, mendable: mend.is_some(), mend }
    }
}

impl Audited<'_> {
    /// Looks at everything and changes nothing.
    pub(crate) async fn look(&self, progress: &mut impl FnMut(u64)) -> Result<Look, LaunchpadError> {
        let latest_event = self.queue.latest_event(self.run).await?;
        let counters = self.queue.progress(self.run).await?;
        let standing = Standing::new(self.queue.places(self.run).await?);
        let (mut count, mut findings, mut misplaced) = (Count::new(), Vec::new(), Vec::new());
        let mut tasks = ManifestReader::new(self.manifest.open()?);
        let mut seen = 0;
        loop {
            let chunk = tasks.by_ref().take(CHUNK).collect::<Result<Vec<_>, _>>()?;
            if chunk.is_empty() {
                break;
            }
            seen += chunk.len() as u64;
            let pushed: Vec<_> = chunk.into_iter().filter(|(task, _)| task.0 < counters.total).collect();
            let ids: Vec<TaskId> = pushed.iter().map(|(task, _)| *task).collect();
            let infos = self.queue.tasks(self.run, &ids).await?;
            for (task, info) in ids.iter().zip(&infos) {
                count.add(info);
                let fault = standing.fault(*task, info.state);
                misplaced.extend(fault.map(|fault| Finding::misplaced(*task, fault)));
            }
            let looks = pushed
                .into_iter()
                .zip(infos)
                .map(|((task, molecules), info)| self.result(task, molecules, info));
            let found: Vec<Option<Finding>> =
                futures::stream::iter(looks).buffered(FETCHES).try_collect().await?;
            findings.extend(found.into_iter().flatten());
            progress(seen);
        }
        findings.extend(self.unpushed(seen, counters.total).await?);
        let is_quiet = self.queue.latest_event(self.run).await? == latest_event;
        if is_quiet {
            findings.extend(misplaced);
            findings.extend(count.differences(&counters).into_iter().map(Finding::counter));
        }
        Ok(Look { findings, is_quiet, tasks: seen, latest_event })
    }

    /// Whether Redis has every task, and knows that it has.
    async fn unpushed(&self, tasks: u64, total: u64) -> Result<Option<Finding>, LaunchpadError> {
        let from = Some(Mend::Push(TaskId(total)));
        if total < tasks {
            let detail = format!("Redis has {total} of the {tasks} tasks of the manifest");
            return Ok(Some(Finding::new(None, "not_pushed", detail, from)));
        }
        let is_sealed = self.queue.run_info(self.run).await?.sealed;
        let detail = || "Redis has all tasks and does not know that it has".to_owned();
        Ok((!is_sealed).then(|| Finding::new(None, "not_sealed", detail(), from)))
    }

    /// Holds a task against its result in the store.
    async fn result(
        &self,
        task: TaskId,
        molecules: Vec<Molecule>,
        info: TaskInfo,
    ) -> Result<Option<Finding>, LaunchpadError> {
        let fault = |Fault { reason, detail }| Finding::new(Some(task), reason, detail, None);
        match info.state {
            State::Succeeded => {
                let checked = check_shard(self.store, &self.info.spec, task, &molecules, &info).await?;
                Ok(checked.err().map(fault))
            }
            State::Pending | State::Delayed | State::Dead => {
                match self.unrecorded(task, &molecules, &info).await? {
                    None => Ok(None),
                    Some(Err(found)) => Ok(Some(fault(found))),
                    Some(Ok(adoption)) => Ok(Some(Finding::unrecorded(info.state, adoption))),
                }
            }
            // A worker that holds it finds the result by itself; a person who cancelled it does not want it.
            State::Waiting | State::Leased | State::Cancelled => Ok(None),
        }
    }

    /// The stored result of a task that has none in Redis.
    async fn unrecorded(
        &self,
        task: TaskId,
        molecules: &[Molecule],
        info: &TaskInfo,
    ) -> Result<Option<Result<Adoption, Fault>>, StorageError> {
        let name = key::shard(task);
        let Some(bytes) = self.store.find(&name).await? else { return Ok(None) };
        let shard = Shard::parse(&bytes).and_then(|shard| {
            shard.check_molecules(molecules.iter().map(|molecule| molecule.id.as_str()))?;
            Ok(shard)
        });
        let shard = match shard {
            Ok(shard) => shard,
            Err(error) => return Ok(Some(Err(Fault::new("shard_invalid", format!("`{name}`: {error}"))))),
        };
        let shard_sha256 = sha256_hex(&bytes);
        let index = key::index(task, &shard_sha256);
        let Some(stored) = self.store.find(&index).await? else {
            return Ok(Some(Err(Fault::new("index_missing", format!("`{index}` is not in the store")))));
        };
        let (molecules_ok, molecules_bad) = self.info.spec.engine.counts(task, &shard);
        let lease_number = info.lease.as_ref().map_or(0, |lease| lease.number);
        let index_sha256 = sha256_hex(&stored);
        Ok(Some(Ok(Adoption { task, lease_number, shard_sha256, index_sha256, molecules_ok, molecules_bad })))
    }
}

impl Finding {
    fn misplaced(task: TaskId, fault: String) -> Self {
        Self::new(Some(task), "misplaced", fault, Some(Mend::Place(task)))
    }

    fn counter((name, said, counted): (&'static str, u64, u64)) -> Self {
        let detail = format!("the counter `{name}` is {said} (counted: {counted})");
        Self::new(None, "miscounted", detail, Some(Mend::Counter(name, counted)))
    }

    /// A dead task is a person's to revive: its worker then finds the result.
    fn unrecorded(state: State, adoption: Adoption) -> Self {
        let task = adoption.task;
        let detail = format!("the task is {state}, and `{}` has its result", key::shard(task));
        match state {
            State::Dead => Self::new(Some(task), "dead_with_result", detail, None),
            _ => Self::new(Some(task), "unrecorded", detail, Some(Mend::Adopt(adoption))),
        }
    }
}
