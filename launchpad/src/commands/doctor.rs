//! `doctor`: looks at Redis and at the store as a run needs them. Changes nothing but one object of its own, which goes again.

use common::checkup::{Check, Checkup, Verdict};
use common::clock::wall_ms;
use common::queue::{Queue, QueueError, RunInfo, WORKER_GONE_MS};
use common::storage::Store;
use common::task::WorkerId;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::Report;
use crate::redis_checks::{self, Need};

/// A checkup as it is printed.
#[derive(Debug, serde::Serialize)]
struct Told {
    #[serde(flatten)]
    checkup: Checkup,
    #[serde(skip)]
    marks: common::checkup::Marks,
}

impl Report for Told {
    fn text(&self) -> String {
        self.checkup.text(self.marks)
    }
}

/// Checks everything that answers, tells it, and fails if anything has to be changed.
pub(super) async fn doctor(context: &Context, arguments: &cli::Doctor) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let mut checks = Vec::new();
    let run = match redis(&queue, arguments, &mut checks).await {
        Ok(run) => run,
        // A run that is not there is a mistake of the command line, not of Redis.
        Err(error @ (QueueError::NoSuchRun(_) | QueueError::Removing(_))) => return Err(error.into()),
        Err(error) => {
            checks.push(Check::unreachable("redis", &error, error.hint()));
            None
        }
    };
    checks.extend(store(context, arguments, run.as_ref()).await?);
    let checkup = Checkup::new(checks);
    let (silent, wrong) = (checkup.count(Verdict::Unreachable), checkup.count(Verdict::Wrong));
    let told = Told { checkup, marks: context.output.marks() };
    context.output.report(&told)?;
    let checks = told.checkup.checks.len();
    match (silent, wrong) {
        (0, 0) => Ok(()),
        (0, wrong) => Err(LaunchpadError::Unfit { wrong, checks }),
        (silent, _) => Err(LaunchpadError::NoAnswer { silent, checks }),
    }
}

/// Checks Redis, as far as it answers, and gives the run that was named.
async fn redis(
    queue: &Queue,
    arguments: &cli::Doctor,
    checks: &mut Vec<Check>,
) -> Result<Option<RunInfo>, QueueError> {
    queue.now_ms().await?; // so that the time below is not that of connecting
    let before_ms = wall_ms();
    let redis_ms = queue.now_ms().await?;
    let after_ms = wall_ms();
    let round_trip_ms = after_ms.saturating_sub(before_ms);
    checks.push(Check::ok("redis", format!("{} answers in {round_trip_ms} ms", queue.url())));
    let (run, need) = match (&arguments.run, arguments.tasks) {
        (Some(run), _) => {
            let progress = queue.progress(run).await?;
            let open = progress.total.saturating_sub(progress.terminal());
            (Some(queue.run_info(run).await?), Need::Rest { open })
        }
        (None, Some(tasks)) => (None, Need::New { tasks }),
        (None, None) => (None, Need::Unknown),
    };
    let registered = queue.workers().await?;
    let alive = registered.iter().filter(|worker| redis_ms.saturating_sub(worker.seen_ms) <= WORKER_GONE_MS);
    let workers = arguments.workers.unwrap_or(alive.count() as u64);
    match queue.server().await {
        Ok(server) => checks.extend(redis_checks::judge(&server, workers, need)),
        Err(QueueError::Refused { .. }) => {
            let found = "can't tell how it is set up: this user may not ask (INFO)";
            checks.push(Check::note("redis_settings", found));
        }
        Err(error) => return Err(error),
    }
    checks.push(redis_checks::clock(before_ms, redis_ms, after_ms));
    Ok(run)
}

/// Checks the store of a run, or the one that a push from here would use.
async fn store(
    context: &Context,
    arguments: &cli::Doctor,
    run: Option<&RunInfo>,
) -> Result<Vec<Check>, LaunchpadError> {
    let url = match (&arguments.run, run) {
        // Without Redis nobody knows where the store of the run is.
        (Some(_), None) => return Ok(Vec::new()),
        (_, Some(run)) => context.location.run_store_url(&run.store)?,
        (None, None) => context.location.store_url(None)?,
    };
    let store = match Store::open(&url) {
        Ok(store) => store,
        Err(error) => return Ok(vec![Check::unreachable("store", &error, error.hint())]),
    };
    let mut checks = Vec::new();
    if let Some(run) = run {
        checks.push(match store.run(&run.spec.run).confirm(&run.digest).await {
            Ok(()) => Check::ok("store", format!("{url} has the run's spec")),
            Err(error) => Check::unreachable("store", &error, error.hint()),
        });
    } else {
        checks.push(Check::ok("store", url));
    }
    // Random as a worker's id is: two doctors at once don't meet.
    checks.extend(store.probe(WorkerId::random(&mut rand::rng()).as_str()).await);
    Ok(checks)
}
