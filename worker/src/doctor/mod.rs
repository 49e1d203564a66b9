//! `worker doctor`: whether this machine can do a worker's job. It leases nothing and leaves nothing behind.

mod machine;
mod programs;

use common::checkup::{Check, Checkup};
use common::clock::{Clock as _, SystemClock};
use common::queue::Queue;
use common::task::{RunId, WorkerId};

use crate::config::Config;
use crate::process::{Guardian, Launcher};
use crate::server::{HEALTH_DEFAULT, Servers, Trouble};
use crate::serving::{Means, OpenStore, Place, Serving};

/// Checks the machine, its programs, Redis, and the runs that were named with their stores. `guardian` is what starting one gave.
pub(crate) async fn examine(
    config: &Config,
    guardian: std::io::Result<Guardian>,
    open_store: OpenStore,
) -> Checkup {
    let probe = WorkerId::random(&mut rand::rng());
    let mut checks = machine::examine(config, probe.as_str());
    let (queue, redis) = redis(config).await;
    checks.push(redis);
    match guardian {
        Ok(guardian) => {
            checks.push(Check::ok("guardian", "a second process would end the engines of a killed worker"));
            let launcher = Launcher::new(guardian);
            let (gpus, has_gpu) = programs::gpus(&launcher, config).await;
            checks.push(gpus);
            checks.extend(programs::engines(&launcher, config).await);
            checks.extend(endpoints(&config.servers).await);
            if let Some(queue) = &queue {
                let place = Place::default();
                let means = Means {
                    queue,
                    launcher: &launcher,
                    open_store,
                    store_url: config.store.as_deref(),
                    path: &config.path,
                    servers: &config.servers,
                    cores: config.cores,
                    has_gpu,
                    place: &place,
                };
                for run in &config.runs {
                    checks.extend(serve(run, means, probe.as_str()).await);
                }
            }
        }
        Err(error) => {
            let hint = "may this user start processes, and is the worker's own program still on disk?";
            checks.push(Check::wrong("guardian", error.to_string(), hint));
        }
    }
    Checkup::new(checks)
}

/// A line for each server of an engine. Where it says that it is well is a run's to know, so one that is there may be as it should be.
async fn endpoints(servers: &Servers) -> Vec<Check> {
    let mut checks = Vec::new();
    for endpoint in &servers.endpoints {
        checks.push(match servers.check(endpoint, HEALTH_DEFAULT).await {
            Ok(()) => Check::ok("endpoint", format!("{endpoint} is well")),
            Err(busy @ Trouble::Busy { .. }) => Check::ok("endpoint", format!("{endpoint} is {busy}")),
            Err(trouble @ (Trouble::Unwell(_) | Trouble::Nonsense(_))) => {
                Check::note("endpoint", format!("{endpoint} is there: {trouble}"))
            }
            Err(Trouble::Away(why) | Trouble::Crashed(why)) => Check::wrong(
                "endpoint",
                format!("{endpoint} is away: {why}"),
                "is its container up, and can this machine reach its port?",
            ),
        });
    }
    checks
}

/// The queue if Redis answers, and how that went.
async fn redis(config: &Config) -> (Option<Queue>, Check) {
    let reach = async || {
        let queue = Queue::open(config.redis.clone())?;
        queue.now_ms().await?; // so that the time below is not that of connecting
        let clock = SystemClock::start();
        queue.now_ms().await?;
        Ok::<_, common::queue::QueueError>((queue, clock.elapsed_ms()))
    };
    match reach().await {
        Ok((queue, ms)) => {
            let check = Check::ok("redis", format!("{} answers in {ms} ms", queue.url()));
            (Some(queue), check)
        }
        Err(error) => (None, Check::unreachable("redis", &error, error.hint())),
    }
}

/// Whether a run can be served here, and what its store is like from here.
async fn serve(run: &RunId, means: Means<'_>, probe: &str) -> Vec<Check> {
    let serving = match Serving::begin(run, means).await {
        Ok(serving) => serving,
        Err(error) if error.may_pass() => return vec![Check::unreachable("run", &error, error.hint())],
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "see docs/operations.md".to_owned());
            return vec![Check::wrong("run", format!("`{run}`: {}", crate::heartbeat::chain(&error)), hint)];
        }
    };
    let mut checks =
        vec![Check::ok("run", format!("`{run}` can be served with `{}`", serving.provenance.engine))];
    checks.push(match serving.store.confirm(&serving.info.digest).await {
        Ok(()) => Check::ok("store", format!("{} has the run's spec", serving.store.url())),
        Err(error) => {
            checks.push(Check::unreachable("store", &error, error.hint()));
            return checks;
        }
    });
    match (means.open_store)(serving.store.url()) {
        Ok(store) => checks.extend(store.probe(probe).await),
        Err(error) => checks.push(Check::unreachable("store", &error, error.hint())),
    }
    checks
}
