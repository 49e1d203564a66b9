//! How a run goes: gathered from Redis, with the one reason why it does not go faster. Reads only.

mod band;
mod rate;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use common::queue::{Event, LeaseInfo, Progress, Queue, QueueError, RunInfo, WORKER_GONE_MS, WorkerInfo};
use common::task::{LeaseName, Phase, RunId, TaskId};
use serde::Serialize;

use why::Hands;
pub(crate) use why::Why;

use crate::kept_checkpoint::KeptCheckpoint;
use crate::output::thousands;
use crate::redis_checks;

/// Leases and workers that are listed at most.
const LISTED_MAX: usize = 1000;
/// Transitions that the rate is taken from at most.
const EVENTS_MAX: usize = 2000;

/// A run at one moment. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
pub(crate) struct RunStatus {
    pub(crate) run: RunId,
    pub(crate) digest: String,
    pub(crate) store: String,
    pub(crate) engine: &'static str,
    pub(crate) sealed: bool,
    /// Whether nothing is left to do.
    pub(crate) drained: bool,
    pub(crate) paused: Option<String>,
    pub(crate) parallelism: u64,
    #[serde(flatten)]
    pub(crate) progress: Progress,
    /// Tasks of the manifest: `total` of them are pushed so far.
    pub(crate) manifest_tasks: u64,
    /// Molecules of the manifest.
    pub(crate) molecules: u64,
    /// Of the last minutes; of the whole run once it is drained.
    pub(crate) rate_molecules_per_s: f64,
    /// At this rate; `None` when there is no rate or nothing left.
    pub(crate) seconds_left: Option<u64>,
    /// If all tasks that are left were as quick as the quickest tenth so far, with as many at work as now; never above `seconds_left`.
    pub(crate) seconds_left_low: Option<u64>,
    /// If they were as slow as the slowest tenth; never below `seconds_left`.
    pub(crate) seconds_left_high: Option<u64>,
    /// Quantiles of the durations of successes, by phase.
    pub(crate) phases: BTreeMap<&'static str, PhaseQuantiles>,
    /// A stable word; `why_text` says the same to people.
    pub(crate) why: &'static str,
    pub(crate) why_text: String,
    /// What keeps Redis from taking results now; `None` also if it does not tell.
    pub(crate) redis_trouble: Option<String>,
    pub(crate) leases: Vec<HeldTask>,
    /// Workers that were seen in the last 90 s and have not said goodbye, of all runs: the registered ones, and those that hold tasks
    /// of this run and are too new to be registered.
    pub(crate) workers_there: usize,
    /// The registered ones of them.
    pub(crate) workers: Vec<Worker>,
    /// Campaign and labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Upper bounds, by the histogram's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct PhaseQuantiles {
    pub(crate) count: u64,
    pub(crate) p10_ms: Option<u64>,
    pub(crate) p50_ms: Option<u64>,
    pub(crate) p90_ms: Option<u64>,
}

/// Who holds a task.
#[derive(Debug, Serialize)]
pub(crate) struct HeldTask {
    pub(crate) task: TaskId,
    pub(crate) lease: LeaseName,
    /// Where its worker runs, if the registry knows.
    pub(crate) host: Option<String>,
    /// How far it is; absent if no checkpoint of it is kept.
    pub(crate) checkpoint: Option<KeptCheckpoint>,
}

/// A registered worker.
#[derive(Debug, Serialize)]
pub(crate) struct Worker {
    pub(crate) id: String,
    pub(crate) seen_ms_ago: u64,
    #[serde(skip)]
    pub(crate) is_quarantined: bool,
    /// What it tells of itself.
    #[serde(flatten)]
    pub(crate) fields: BTreeMap<String, String>,
}

impl RunStatus {
    /// Looks at a run.
    pub(crate) async fn gather(queue: &Queue, run: &RunId) -> Result<Self, QueueError> {
        let info = queue.run_info(run).await?;
        let progress = queue.progress(run).await?;
        let registered = queue.workers().await?;
        let leases = queue.leases(run, LISTED_MAX).await?;
        let now_ms = queue.now_ms().await?;
        let workers = alive(&registered, now_ms);
        let drained = info.sealed && progress.terminal() == progress.total;
        let events = queue.events(run, EVENTS_MAX).await?;
        let rate = if drained { rate::overall(&info, &progress) } else { rate::recent(&events, now_ms) };
        let newcomers = newcomers(&events, &leases, &registered, now_ms);
        let able = newcomers > 0 || workers.iter().any(|worker| !worker.is_quarantined);
        let hands = match workers.len() + newcomers {
            0 => Hands::None,
            there if !able => Hands::Quarantined(there),
            _ => Hands::Some,
        };
        let why = Why::find(&info, &progress, hands);
        let alarm = why::alarm(&progress, run).map_or(String::new(), |alarm| format!("{alarm}\n"));
        let redis_trouble = match queue.server().await {
            Ok(server) => redis_checks::trouble(&server),
            Err(QueueError::Refused { .. }) => None, // its user may not ask
            Err(error) => return Err(error),
        };
        let seconds_left = rate::seconds_left(rate, &info, &progress);
        let phases = phases(queue, run).await?;
        let total = phases.get(Phase::Total.name());
        let band = total.and_then(|total| band::seconds_left(total, &info, &progress, seconds_left));
        let host = |lease: &LeaseName| {
            let card = registered.iter().find(|worker| worker.id == lease.worker);
            card.and_then(|worker| worker.fields.get("host").cloned())
        };
        let leases = leases.into_iter().map(|held| {
            let host = host(&held.lease);
            let checkpoint = KeptCheckpoint::of(held.task, &held.checkpoint);
            HeldTask { task: held.task, lease: held.lease, host, checkpoint }
        });
        Ok(Self {
            run: run.clone(),
            engine: info.spec.engine.name(),
            manifest_tasks: info.spec.manifest.tasks,
            molecules: info.spec.manifest.molecules,
            seconds_left,
            seconds_left_low: band.map(|(low, _)| low),
            seconds_left_high: band.map(|(_, high)| high),
            rate_molecules_per_s: rate,
            phases,
            why: why.word(),
            why_text: alarm + &why.text(run),
            workers_there: workers.len() + newcomers,
            redis_trouble,
            leases: leases.collect(),
            drained,
            workers,
            progress,
            digest: info.digest,
            store: info.store,
            sealed: info.sealed,
            paused: info.paused,
            parallelism: info.limits.parallelism,
            labels: info.labels,
        })
    }
}

/// Workers that leased a task lately, hold one, and are not in the registry yet.
fn newcomers(events: &[Event], leases: &[LeaseInfo], registered: &[WorkerInfo], now_ms: u64) -> usize {
    let from_ms = now_ms.saturating_sub(WORKER_GONE_MS);
    let leased_lately = |lease: &LeaseName| {
        let name = lease.to_string();
        events.iter().any(|event| event.at_ms >= from_ms && is_lease(event, &name))
    };
    let known: BTreeSet<_> = registered.iter().map(|worker| &worker.id).collect();
    let unknown = leases.iter().filter(|held| !known.contains(&held.lease.worker));
    let lately = unknown.filter(|held| leased_lately(&held.lease));
    lately.map(|held| &held.lease.worker).collect::<BTreeSet<_>>().len()
}

fn is_lease(event: &Event, lease: &str) -> bool {
    let field = |name: &str| event.fields.get(name).map(String::as_str);
    field("verb") == Some("lease") && field("lease") == Some(lease)
}

fn alive(registered: &[WorkerInfo], now_ms: u64) -> Vec<Worker> {
    let ago = |worker: &WorkerInfo| now_ms.saturating_sub(worker.seen_ms);
    let alive = registered.iter().filter(|worker| ago(worker) <= WORKER_GONE_MS).take(LISTED_MAX);
    alive
        .map(|worker| Worker {
            id: worker.id.to_string(),
            seen_ms_ago: ago(worker),
            is_quarantined: worker.is_quarantined(),
            fields: worker.fields.clone(),
        })
        .collect()
}

async fn phases(queue: &Queue, run: &RunId) -> Result<BTreeMap<&'static str, PhaseQuantiles>, QueueError> {
    let mut phases = BTreeMap::new();
    for phase in Phase::ALL {
        let histogram = queue.histogram(run, phase).await?;
        let quantiles = PhaseQuantiles {
            count: histogram.count(),
            p10_ms: histogram.quantile_ms(0.1),
            p50_ms: histogram.quantile_ms(0.5),
            p90_ms: histogram.quantile_ms(0.9),
        };
        phases.insert(phase.name(), quantiles);
    }
    Ok(phases)
}

/// How far a push came that has not sealed its run.
pub(crate) fn unfinished(total: u64, tasks: u64) -> String {
    format!("not finished: {} of {} tasks", thousands(total), thousands(tasks))
}

/// One line of the list of all runs.
#[derive(Debug, Serialize)]
pub(crate) struct RunLine {
    pub(crate) run: RunId,
    pub(crate) sealed: bool,
    /// Tasks of the manifest: `total` of them are pushed so far.
    pub(crate) manifest_tasks: u64,
    pub(crate) paused: Option<String>,
    #[serde(flatten)]
    pub(crate) progress: Progress,
}

impl RunLine {
    /// Looks at a run in two commands; `None` if it is not there any more.
    pub(crate) async fn gather(queue: &Queue, run: RunId) -> Result<Option<Self>, QueueError> {
        let info: RunInfo = match queue.run_info(&run).await {
            Err(QueueError::NoSuchRun(_) | QueueError::Removing(_)) => return Ok(None),
            other => other?,
        };
        let progress = queue.progress(&run).await?;
        let manifest_tasks = info.spec.manifest.tasks;
        Ok(Some(Self { run, sealed: info.sealed, manifest_tasks, paused: info.paused, progress }))
    }

    /// What the counts don't tell.
    pub(crate) fn note(&self) -> String {
        let progress = &self.progress;
        let is_drained = self.sealed && progress.terminal() == progress.total;
        let pushed =
            (!self.sealed).then(|| format!("push {}", unfinished(progress.total, self.manifest_tasks)));
        let paused = self.paused.as_ref().filter(|_| !is_drained).map(|why| format!("paused: {why}"));
        let notes = [pushed, paused, is_drained.then(|| "drained".to_owned())];
        notes.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use common::queue::Checkpoint;

    use super::*;

    #[test]
    fn who_holds_a_task_and_is_not_registered_yet_is_there() {
        let lease: LeaseName = "1.new.1".parse().unwrap();
        let fields = [("verb", "lease"), ("lease", "1.new.1")];
        let leased = |at_ms| Event {
            at_ms,
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        let held = [LeaseInfo { task: TaskId(0), lease: lease.clone(), checkpoint: Checkpoint::default() }];
        let now_ms = 1_000_000;
        assert_eq!(newcomers(&[leased(now_ms - 5)], &held, &[], now_ms), 1);
        assert_eq!(newcomers(&[leased(now_ms - WORKER_GONE_MS - 1)], &held, &[], now_ms), 0);
        // Who said goodbye holds nothing.
        assert_eq!(newcomers(&[leased(now_ms - 5)], &[], &[], now_ms), 0);
        let registered = WorkerInfo { id: lease.worker, seen_ms: 5, fields: BTreeMap::new() };
        assert_eq!(newcomers(&[leased(now_ms - 5)], &held, &[registered], now_ms), 0);
    }
}
