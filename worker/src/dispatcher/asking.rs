//! How a worker asks: one request at a time, for runs, for the means to serve one, for tasks; and what it does with the answer. What got
//! no answer is asked again beside that, one at a time, too: where a node of a cluster is away, the runs of the others go on.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use common::backoff::Backoff;
use common::queue::{Disposition, LeaseReply, Nothing, Queue, QueueError, WhyNothing};
use common::task::RunId;
use rand::RngExt as _;
use tokio::time::Instant;

use super::{Dispatcher, LOOK_AGAIN};
use crate::heartbeat::chain;
use crate::redis_clock::RedisClock;
use crate::runs::Next;
use crate::serving::{Means, Serving, ServingError};

/// The pauses of a worker after requests that Redis did not answer, until it answers any.
const REDIS_BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(5) };
/// When to look again at a run that is over and could not be served here, in ms: somebody may requeue its tasks.
const OVER_WAIT_MS: u64 = 60_000;

/// What a request came to.
pub(super) enum Answer {
    Served(RunId, Result<Arc<Serving>, ServingError>),
    Leased(RunId, Result<LeaseReply, QueueError>),
    Registry(Result<Vec<RunId>, QueueError>),
}

/// A request on its way.
type Request = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl Dispatcher {
    /// Starts the next request, unless one is under way; and beside it, the next one of those that got no answer.
    pub(super) fn ask(&mut self) {
        let asks_no_more = self.leave_by.is_some() || self.quarantine.is_some();
        let asks_enough = !self.asking.is_empty() && !self.asking_again.is_empty();
        if asks_no_more || asks_enough || Instant::now() < self.ask_at {
            return;
        }
        if self.is_disk_full() {
            self.ask_at = Instant::now() + LOOK_AGAIN;
            return;
        }
        if self.asking.is_empty()
            && let Some(next) = self.runs.next(&self.slots)
        {
            let request = self.request(next);
            self.asking.spawn(request);
        }
        if self.asking_again.is_empty()
            && let Some(next) = self.runs.next_again()
        {
            let request = self.request(next);
            self.asking_again.spawn(request);
        }
    }

    fn request(&mut self, next: Next) -> Request {
        let queue = self.shared.queue.clone();
        match next {
            Next::Registry => Box::pin(async move { Answer::Registry(queue.runs().await) }),
            Next::Serve(run) => self.request_to_serve(run),
            Next::Lease { run, digest, request, slots } => {
                let worker = self.worker.clone();
                self.runs.asked(&run);
                Box::pin(async move {
                    let reply = queue.lease(&run, &digest, &worker, request, slots.into()).await;
                    Answer::Leased(run, reply)
                })
            }
        }
    }

    /// When the watchdog barks next; a worker without a free slot needs none.
    pub(super) fn watch_due(&self) -> Option<Instant> {
        self.slots.is_core_free().then(|| self.watchdog.due())
    }

    /// Connects anew if nothing was given for too long. Both connections: a heartbeat at the wrong server would hear that all is lost.
    pub(super) fn watch(&mut self) {
        let gets_no_more = self.leave_by.is_some() || self.quarantine.is_some();
        if self.watch_due().is_none() || gets_no_more || self.away_since.is_some() {
            return;
        }
        if let Some(unfed) = self.watchdog.bark() {
            let seconds = unfed.as_secs();
            tracing::info!(seconds, "connected, and given no task for a while: connecting anew to be sure");
            self.shared.queue.reconnect();
            self.heartbeats.reconnect();
            self.runs.wake();
        }
    }

    fn request_to_serve(&self, run: RunId) -> Request {
        let shared = Arc::clone(&self.shared);
        let (place, open_store) = (self.place.clone(), self.open_store);
        Box::pin(async move {
            let means = Means {
                queue: &shared.queue,
                launcher: &shared.launcher,
                open_store,
                store_url: shared.config.store.as_deref(),
                path: &shared.config.path,
                servers: &shared.config.servers,
                cores: shared.config.cores,
                has_gpu: !shared.gpus.ours.is_empty(),
                place: &place,
            };
            match Serving::begin(&run, means).await {
                // What is over needs nobody who could serve it.
                Err(error) if error.is_about_this_machine() && is_over(&shared.queue, &run).await => {
                    let nothing = Nothing { why: WhyNothing::Drained, wait_ms: OVER_WAIT_MS };
                    Answer::Leased(run, Ok(LeaseReply::Nothing(nothing)))
                }
                served => Answer::Served(run, served.map(Arc::new)),
            }
        })
    }

    fn is_disk_full(&mut self) -> bool {
        let floor = self.shared.config.scratch_free_bytes_min;
        let (full, free) = match self.shared.scratch.free_bytes() {
            Ok(free) => (free < floor, free),
            Err(error) => {
                tracing::error!(%error, "the free space of the scratch disk can't be read");
                (true, 0)
            }
        };
        if full && !self.disk_full {
            tracing::warn!(
                free_bytes = free,
                floor_bytes = floor,
                "the scratch disk is nearly full, leasing nothing"
            );
        }
        self.disk_full = full;
        full
    }

    /// Takes in what a request came to.
    pub(super) fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Registry(Ok(runs)) => {
                self.redis_answered();
                self.runs.registered(runs);
            }
            Answer::Served(run, Ok(serving)) => {
                self.redis_answered();
                self.runs.served(&run, serving);
            }
            Answer::Served(run, Err(error)) => self.not_served(&run, error),
            Answer::Leased(run, Ok(reply)) => {
                self.redis_answered();
                self.leased(&run, reply);
            }
            Answer::Leased(run, Err(QueueError::NoSuchRun(_))) => {
                self.redis_answered();
                self.runs.gone(&run);
            }
            Answer::Leased(run, Err(error)) => {
                match error.disposition() {
                    Disposition::GiveUp => self.runs.refused(&run),
                    Disposition::Retry => self.runs.unanswered(&run),
                }
                if error.is_about_one_run() {
                    tracing::warn!(%run, error = %chain(&error), "the run can't be asked for tasks, trying again later");
                    self.redis_answered();
                } else {
                    self.redis_failed(&error);
                }
            }
            Answer::Registry(Err(error)) => {
                self.runs.registry_unanswered();
                self.redis_failed(&error);
            }
        }
    }

    fn not_served(&mut self, run: &RunId, error: ServingError) {
        match error {
            ServingError::Queue(QueueError::NoSuchRun(_)) => {
                self.redis_answered();
                self.runs.gone(run);
            }
            ServingError::Queue(ref queue_error) if error.may_pass() => {
                self.runs.unanswered(run);
                self.redis_failed(queue_error);
            }
            error => {
                if self.runs.is_news(run, &error) {
                    tracing::error!(%run, error = %chain(&error), hint = error.hint(), "this worker can't serve the run");
                }
                self.runs.unfit(run, error);
            }
        }
    }

    fn redis_answered(&mut self) {
        self.redis_tries = 0;
        self.away_since = None;
    }

    fn redis_failed(&mut self, error: &QueueError) {
        self.redis_tries += 1;
        self.away_since.get_or_insert_with(Instant::now);
        let pause = REDIS_BACKOFF.pause(self.redis_tries, &mut rand::rng());
        // A longer pause, after a fault of this machine, stands.
        self.ask_at = self.ask_at.max(Instant::now() + pause);
        let (tries, hint) = (self.redis_tries, error.hint());
        tracing::warn!(tries, error = %chain(error), hint, "asking for work failed, trying again");
    }

    fn leased(&mut self, run: &RunId, reply: LeaseReply) {
        match reply {
            LeaseReply::Granted { now_ms, grants } => {
                self.runs.granted(run);
                self.watchdog.fed();
                let clock = RedisClock::new(now_ms);
                for grant in grants {
                    self.start(run, grant, clock);
                }
            }
            LeaseReply::Nothing(nothing) => {
                self.runs.nothing(run, nothing.why, jittered(nothing));
            }
            LeaseReply::Stale { answered } => self.runs.stale(run, answered),
            LeaseReply::Differs => self.runs.changed(run),
        }
    }
}

/// Whether a run is sealed and all its tasks are terminal; not if Redis does not tell.
async fn is_over(queue: &Queue, run: &RunId) -> bool {
    let (Ok(info), Ok(progress)) = (queue.run_info(run).await, queue.progress(run).await) else {
        return false;
    };
    info.sealed && progress.waiting + progress.pending + progress.delayed + progress.leased == 0
}

/// When to ask again: at most when the reply says, at least after nine tenths of that, never at once.
fn jittered(nothing: Nothing) -> Duration {
    let wait = Duration::from_millis(nothing.wait_ms.max(2));
    wait.mul_f64(rand::rng().random_range(0.9..=1.0))
}
