//! One attempt, from its lease to its end: carry over → stage → run → judge → upload → complete, with three ways out: fail (it was
//! the task), release (it was the machine), lost (somebody else has it: commit nothing).
//!
//! It talks to the dispatcher only through its [`Control`] and its return value.

use std::sync::Arc;
use std::time::Duration;

use crate::bundle::Packed;
use common::queue::{Charge, Failed, Failure, Grant, HOLD_MAX_MS, Progressed, Queue, QueueError};
use common::storage::StorageError;
use common::task::{Ending, Moments};
use futures::FutureExt as _;
use rand::RngExt as _;
use tokio::time::{Instant, timeout_at};

use crate::cache::{Cache, CacheError};
use crate::carry::Carried;
use crate::checkpoint::Checkpointer;
use crate::completions::{Completions, NotRecorded, Success};
use crate::config::Config;
use crate::control::{Control, StopWhy};
use crate::cores::Cores;
use crate::engine::{EngineFailure, Remedy};
use crate::evidence::Evidence;
use crate::failure;
use crate::gpus::Gpus;
use crate::heartbeat::chain;
use crate::live::Live;
use crate::objects::Objects;
use crate::patience::insist;
use crate::process::{Launcher, SpawnError};
use crate::redis_clock::RedisClock;
use crate::scratch::{Scratch, ScratchRoot};
use crate::serving::Serving;
use crate::slots::Taken;
use crate::upload::Stored;
use crate::verdicts::Verdicts;

/// How long handing back may take where the worker stays: a last bundle is of use only until somebody takes the task.
const HAND_BACK: Duration = Duration::from_secs(15);
/// How much longer than its upload may take a last bundle is waited for: its record is on its way, too.
const HOLD_BEYOND: Duration = Duration::from_secs(1);

/// What all attempts of a worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) queue: Queue,
    pub(crate) completions: Completions,
    pub(crate) launcher: Launcher,
    pub(crate) cores: Cores,
    pub(crate) gpus: Gpus,
    pub(crate) cache: Cache,
    pub(crate) scratch: ScratchRoot,
}

/// One lease of one task, while it is worked on.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) shared: Arc<Shared>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) grant: Arc<Grant>,
    /// Its part of the machine.
    pub(crate) taken: Taken,
    pub(crate) control: Control,
    pub(crate) clock: RedisClock,
    pub(crate) moments: Moments,
    pub(crate) bytes_down: u64,
    pub(crate) bytes_up: u64,
    pub(crate) evidence: Evidence,
    pub(crate) verdicts: Verdicts,
    pub(crate) carried: Carried,
    /// Once the files of a former checkpoint are in place.
    pub(crate) checkpointer: Option<Checkpointer>,
}

/// Why an attempt does not go on to its end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The dispatcher said stop; [`Control::why`] tells why.
    Stopped,
    /// It was the task.
    Failed {
        /// A stable short word.
        reason: String,
        /// One sentence with the evidence.
        detail: String,
        /// Whether trying again is of no use.
        is_final: bool,
    },
    /// It was the machine: a lapse of the task.
    Machine(String),
    /// It was a server of the engine: the task is handed back unharmed, and the machine is well.
    Server(String),
}

/// How a task goes back to the queue without a result.
#[derive(Debug, Clone, Copy)]
enum GivenBack<'a> {
    /// Unharmed.
    Released { why: &'a str, detail: Option<&'a str> },
    /// Charged with a lapse, because of this machine.
    Lapsed { detail: &'a str },
}

impl<'a> GivenBack<'a> {
    const fn unharmed(why: &'a str) -> Self {
        Self::Released { why, detail: None }
    }

    const fn ending(self) -> Ending {
        match self {
            Self::Released { .. } => Ending::Released,
            Self::Lapsed { .. } => Ending::Failed,
        }
    }

    /// The word and the sentence of the attempt's record.
    fn reason(self) -> Option<(&'a str, &'a str)> {
        match self {
            Self::Released { why, detail } => Some((why, detail?)),
            Self::Lapsed { detail } => Some((failure::MACHINE, detail)),
        }
    }
}

/// How an attempt ended, for the dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// The task has its result, and not all its molecules are bad.
    Succeeded,
    /// The task has its result: so many molecules, all of them bad.
    AllBad(u64),
    /// The task was charged, for this reason.
    Failed(String),
    /// The task was handed back because this worker leaves or is quarantined, a person stopped it, or somebody else has it.
    Stopped,
    /// The task lapsed because of this machine: lease no more for a while.
    MachineFault,
    /// The task was handed back since no server of its engine could be asked: lease no more of its run until one is well.
    ServerAway,
}

impl Attempt {
    pub(crate) fn new(
        shared: Arc<Shared>,
        serving: Arc<Serving>,
        (grant, taken): (Grant, Taken),
        clock: RedisClock,
        control: Control,
    ) -> Self {
        let moments = Moments { queued: grant.queued_ms, leased: clock.now_ms(), ..Moments::default() };
        let verdicts = Verdicts::new(grant.molecules.len());
        Self {
            shared,
            serving,
            grant: Arc::new(grant),
            taken,
            control,
            clock,
            moments,
            bytes_down: 0,
            bytes_up: 0,
            evidence: Evidence::default(),
            verdicts,
            carried: Carried::default(),
            checkpointer: None,
        }
    }

    /// Works the lease to its end.
    pub(crate) async fn work(mut self) -> AttemptEnd {
        tracing::info!(
            molecules = self.grant.molecules.len(),
            number = self.grant.lease.number,
            "attempt starts"
        );
        let scratch = self.shared.scratch.create(&self.serving.run, self.grant.task, &self.grant.lease);
        let (line, scratch) = match scratch {
            Ok(scratch) => {
                let live = Live::new(&self, scratch.path());
                (live.beside(Box::pin(self.straight_line(&scratch))).await, Some(scratch))
            }
            Err(error) => (Err(Halt::Machine(format!("the scratch folder can't be made: {error}"))), None),
        };
        let end = match line {
            // While Redis records it: what was worth keeping is stored.
            Ok(stored) => tokio::join!(self.complete(&stored), async { drop(scratch) }).0,
            Err(halt) => self.end_without_result(halt, scratch.as_ref()).await,
        };
        let elapsed_ms = self.clock.now_ms().saturating_sub(self.moments.leased);
        tracing::info!(end = ?end, elapsed_ms, "attempt ended");
        end
    }

    /// The way of a task through the code.
    async fn straight_line(&mut self, scratch: &Scratch) -> Result<Stored, Halt> {
        if self.grant.molecules.is_empty() {
            return Err(Halt::Failed {
                reason: failure::INPUT_UNREADABLE.to_owned(),
                detail: format!(
                    "the task's input in Redis can't be used: {}",
                    self.grant.unusable.as_deref().unwrap_or("it has no molecule")
                ),
                is_final: true,
            });
        }
        if let Some(stored) = self.find_stored().await? {
            return Ok(stored);
        }
        self.carry().await?;
        let apart = self.serving.engine.keeps_apart();
        if self.verdicts.next_round(apart).is_some() {
            let shared = self.stage().await?;
            self.restore(scratch.path()).await?;
            let mut rounds = 0;
            while let Some(positions) = self.verdicts.next_round(apart) {
                rounds += 1;
                let round = self.begin_round(scratch.path(), rounds, positions).await?;
                self.run(&round, &shared).boxed().await?;
            }
        }
        let shard = self.conclude()?;
        self.upload(scratch.path(), &shard).await
    }

    /// The three ways out. A failure is recorded only when its evidence is durable: the next attempt goes on from there.
    async fn end_without_result(&mut self, halt: Halt, scratch: Option<&Scratch>) -> AttemptEnd {
        let Halt::Failed { reason, detail, is_final } = halt else {
            return match halt {
                Halt::Machine(detail) => self.machine_fault(&detail, scratch).await,
                Halt::Server(detail) => self.server_away(&detail, scratch).await,
                _ => self.stop(scratch).await,
            };
        };
        let kept = match scratch {
            Some(scratch) => {
                let put = self.put_evidence(scratch.path(), Ending::Failed, Some((&reason, &detail)));
                self.unless_stopped(put).await
            }
            None => Ok(Ok(())),
        };
        match kept {
            Ok(Ok(())) => {
                let charge = if is_final { Charge::LastFailure } else { Charge::Failure };
                if self.charge(&reason, &detail, charge).await {
                    AttemptEnd::Failed(reason)
                } else {
                    AttemptEnd::Stopped
                }
            }
            Ok(Err(error)) => {
                let detail = format!("{reason}: {detail}; its evidence can't be stored: {}", chain(&error));
                self.machine_fault(&detail, scratch).await
            }
            Err(_) => self.stop(scratch).await,
        }
    }

    /// A lapse, not a failure: a task that no machine can do must come to an end, too.
    async fn machine_fault(&mut self, detail: &str, scratch: Option<&Scratch>) -> AttemptEnd {
        tracing::error!(detail, "this machine can't do the task now");
        self.give_back(GivenBack::Lapsed { detail }, scratch).await;
        AttemptEnd::MachineFault
    }

    async fn server_away(&mut self, detail: &str, scratch: Option<&Scratch>) -> AttemptEnd {
        tracing::warn!(detail, "no server can do the task now, handing it back");
        self.give_back(GivenBack::Released { why: "server", detail: Some(detail) }, scratch).await;
        AttemptEnd::ServerAway
    }

    /// Records the success. Never gives up while Redis is away: the result is durable, only its record is missing.
    async fn complete(&mut self, stored: &Stored) -> AttemptEnd {
        let success = Success {
            run: self.serving.run.clone(),
            task: self.grant.task,
            lease: self.grant.lease.clone(),
            stored: stored.clone(),
            bytes_down: self.bytes_down,
            bytes_up: self.bytes_up,
            moments: self.moments,
        };
        self.control.record();
        let recorded = self.shared.completions.add(success).await;
        match recorded {
            Ok(Ok(())) => {
                tracing::info!(ok = stored.molecules_ok, bad = stored.molecules_bad, "task succeeded");
                self.delete_bundles().await;
                if stored.has_good { AttemptEnd::Succeeded } else { AttemptEnd::AllBad(stored.molecules_bad) }
            }
            Ok(Err(fate)) => {
                tracing::warn!(?fate, "the result is stored, but the task is not ours to complete");
                AttemptEnd::Stopped
            }
            Err(NotRecorded::Queue(error)) if matches!(*error, QueueError::NoSuchRun(_)) => {
                tracing::warn!("the result is stored, but the run was removed");
                AttemptEnd::Stopped
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the success could not be recorded");
                if matches!(error, NotRecorded::NoRecorder) {
                    // Whoever gets the task next finds its result.
                    self.release("unrecorded", 0).await;
                }
                AttemptEnd::MachineFault
            }
        }
    }

    /// Charges the task, and says whether it was ours to charge.
    async fn charge(&self, reason: &str, detail: &str, charge: Charge) -> bool {
        let tail = self.evidence.tail(detail);
        let jitter_ppm = rand::rng().random_range(0..1_000_000);
        let failure = Failure { reason, charge, tail: &tail, jitter_ppm };
        let (run, task, lease) = (&self.serving.run, self.grant.task, &self.grant.lease);
        match insist("fail", || self.shared.queue.fail(run, task, lease, &failure)).await {
            Ok(Failed::Refused(fate)) => {
                tracing::warn!(reason, detail, ?fate, "failed, but the task is not ours any more");
                return false;
            }
            Ok(Failed::Delayed { ready_at_ms }) => {
                tracing::warn!(reason, detail, ready_at_ms, "task failed, will be tried again");
            }
            Ok(Failed::Dead) => tracing::error!(reason, detail, "task is dead"),
            Err(error) => {
                tracing::error!(reason, error = %chain(&error), "the failure could not be recorded");
            }
        }
        true
    }

    async fn release(&self, why: &str, hold_ms: u64) {
        let (run, task, lease) = (&self.serving.run, self.grant.task, &self.grant.lease);
        match insist("release", || self.shared.queue.release(run, task, lease, why, hold_ms)).await {
            Ok(Ok(())) => tracing::info!(why, "task handed back"),
            Ok(Err(fate)) => tracing::info!(why, ?fate, "nothing to hand back"),
            Err(error) => tracing::error!(error = %chain(&error), "the task could not be handed back"),
        }
    }

    /// Gives the task back and keeps the evidence. The lease goes first, so that somebody else can start while the logs are on their way,
    /// unless there is something that the next attempt should go on from.
    /// A checkpoint is bundled before, and on its way while the release holds the task for it.
    ///
    /// All of it has one end: what the engine left of the time, and each part of what comes before it, is there for the next one.
    async fn give_back(&mut self, how: GivenBack<'_>, scratch: Option<&Scratch>) {
        let by = self.control.leave_by().unwrap_or_else(|| Instant::now() + HAND_BACK);
        let last = self.pack_last(halfway(by)).await;
        let evidence_first = self.verdicts.has_news();
        if evidence_first {
            self.keep_evidence(scratch, how.ending(), how.reason(), halfway(by)).await;
        }
        match how {
            GivenBack::Released { why, .. } => {
                self.release(why, if last.is_some() { hold_ms(by) } else { 0 }).await;
            }
            GivenBack::Lapsed { detail } => _ = self.charge(failure::MACHINE, detail, Charge::Lapse).await,
        }
        self.store_last(last, by).await;
        if !evidence_first {
            self.keep_evidence(scratch, how.ending(), how.reason(), by).await;
        }
    }

    async fn pack_last(&self, by: Instant) -> Option<(Packed, Option<Progressed>)> {
        let packed = timeout_at(by, self.checkpointer.as_ref()?.pack_last()).await;
        packed.unwrap_or_else(|_| {
            tracing::warn!("the disk took too long for the last checkpoint, the older one has to do");
            None
        })
    }

    async fn store_last(&mut self, last: Option<(Packed, Option<Progressed>)>, by: Instant) {
        if let (Some(checkpointer), Some((packed, progress))) = (&mut self.checkpointer, last) {
            let stored = timeout_at(by, checkpointer.store(packed, progress)).await;
            if stored.is_err() {
                tracing::warn!("the store took too long for the last checkpoint, the older one has to do");
            }
        }
    }

    async fn stop(&mut self, scratch: Option<&Scratch>) -> AttemptEnd {
        let why = self.control.why();
        tracing::info!(?why, "attempt stopped");
        let by = Instant::now() + HAND_BACK;
        match why {
            Some(StopWhy::Leaving) => self.give_back(GivenBack::unharmed("leaving"), scratch).await,
            Some(StopWhy::NoGpu) => self.give_back(GivenBack::unharmed("no_gpu_free"), scratch).await,
            Some(StopWhy::Quarantined) => self.give_back(GivenBack::unharmed("quarantined"), scratch).await,
            Some(StopWhy::Cancelled) => self.keep_evidence(scratch, Ending::Cancelled, None, by).await,
            Some(StopWhy::Lost) | None => self.keep_evidence(scratch, Ending::Lapsed, None, by).await,
        }
        AttemptEnd::Stopped
    }

    /// Does something that may take long, unless the attempt has to stop.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        self.control.unless_stopped(work).await
    }

    /// A request to the store, repeated until it is answered or the attempt has to stop.
    pub(crate) async fn ask_store<T, F>(&self, what: &str, request: impl FnMut() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        self.objects().ask(what, request).await
    }

    /// Its way to the store.
    pub(crate) fn objects(&self) -> Objects {
        Objects::new(&self.serving, &self.grant, &self.control)
    }
}

/// The middle of the time that is left.
fn halfway(by: Instant) -> Instant {
    let now = Instant::now();
    now + by.saturating_duration_since(now) / 2
}

/// For how long a task is held for its last bundle, in ms: until that must be there or is given up.
fn hold_ms(by: Instant) -> u64 {
    let left = by.saturating_duration_since(Instant::now()) + HOLD_BEYOND;
    u64::try_from(left.as_millis()).unwrap_or(HOLD_MAX_MS).min(HOLD_MAX_MS)
}

impl From<StorageError> for Halt {
    /// Only errors that trying again does not mend get here.
    fn from(error: StorageError) -> Self {
        let detail = chain(&error);
        match error {
            StorageError::Missing { .. } => Self::failed(failure::INPUT_MISSING, detail),
            StorageError::Digest { .. } | StorageError::Short { .. } => {
                Self::failed(failure::INPUT_ALTERED, detail)
            }
            StorageError::Url { .. }
            | StorageError::Open { .. }
            | StorageError::NotTheRunsStore { .. }
            | StorageError::Refused { .. }
            | StorageError::Unreachable { .. }
            | StorageError::Changed { .. }
            | StorageError::Local { .. } => Self::Machine(detail),
        }
    }
}

impl From<SpawnError> for Halt {
    fn from(error: SpawnError) -> Self {
        let detail = chain(&error);
        if error.is_machine_fault() {
            Self::Machine(detail)
        } else {
            Self::failed(failure::SPAWN_FAILED, detail)
        }
    }
}

impl From<EngineFailure> for Halt {
    fn from(failure: EngineFailure) -> Self {
        let (remedy, EngineFailure { reason, detail }) = (failure.remedy(), failure);
        match remedy {
            Remedy::Retry => Self::failed(reason, detail),
            Remedy::GiveUp => Self::Failed { reason: reason.to_owned(), detail, is_final: true },
            Remedy::HandBack => Self::Machine(format!("{reason}: {detail}")),
            Remedy::AwaitServer => Self::Server(format!("{reason}: {detail}")),
        }
    }
}

impl<E: Into<Halt>> From<CacheError<E>> for Halt {
    fn from(error: CacheError<E>) -> Self {
        match error {
            CacheError::Disk { folder, source } => {
                Self::Machine(format!("the cache folder `{}` can't be used: {source}", folder.display()))
            }
            CacheError::Fill(error) => error.into(),
        }
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Self::Machine(format!("the local disk failed: {error}"))
    }
}

impl Halt {
    pub(crate) fn failed(reason: &str, detail: impl Into<String>) -> Self {
        Self::Failed { reason: reason.to_owned(), detail: detail.into(), is_final: false }
    }
}
