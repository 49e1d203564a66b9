//! `push`: makes a run out of the user's files. Every step can be cut off at any moment and is completed by the same push again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use common::queue::{Queue, QueueError, RunDefinition, RunInfo};
use common::storage::Store;

use super::Context;
use crate::cli;
use crate::drivers::DriverScript;
use crate::error::LaunchpadError;
use crate::input::{Format, Problem};
use crate::output::{self, ProblemList};
use crate::push::{
    Change, DryRun, Enqueue, Enqueued, FollowUp, LigandFile, NothingToPush, Place, PushError, PushPlan,
    PushRequest, Pushed, SharedObjects, StagedManifest, Wanted, changes, check_stored, phrases, stage,
    upload,
};

/// Makes a run, or goes on with one.
pub(super) async fn push(context: &Context, flags: &cli::Push) -> Result<(), LaunchpadError> {
    let source = match &flags.from {
        Some(run) => Some(context.location.queue()?.run_info(run).await?),
        None => None,
    };
    let request = PushRequest::resolve(flags, source.as_ref())?;
    let store_url = context.location.store_url(request.store.as_deref())?;
    let plan = match &source {
        Some(source) => match follow(context, flags, &request, source).await? {
            Ok(plan) => plan,
            Err(nothing) => {
                return context.output.report(&nothing);
            }
        },
        None => prepare(&request, request.script(&store_url).await?, flags.skip_bad)?,
    };
    warn(context, &plan);
    if flags.dry_run {
        return context.output.report(&DryRun::new(&plan, &store_url)?);
    }
    let queue = context.location.queue()?;
    let enqueued = fill(context, &queue, flags, &request, &plan, &store_url).await?;
    let kept = kept(&queue.run_info(&request.run).await?, &request);
    context.output.report(&Pushed::new(&plan, enqueued, kept, (queue.url(), &store_url)))
}

/// Tells what is unusual about a push and may be meant.
pub(super) fn warn(context: &Context, plan: &PushPlan) {
    for warning in plan.warnings() {
        context.output.warning(warning, "--dry-run shows receptor and box; docs/input.md says what is usual");
    }
}

/// Stores the objects, and fills Redis with the tasks. An interrupt leaves a run that the same push completes, and says so.
pub(super) async fn fill(
    context: &Context,
    queue: &Queue,
    flags: &cli::Push,
    request: &PushRequest,
    plan: &PushPlan,
    store_url: &str,
) -> Result<Enqueued, LaunchpadError> {
    let definition = RunDefinition {
        run: &request.run,
        digest: &plan.digest,
        spec_json: &plan.spec_json,
        store: store_url,
        manifest_sha256: &plan.manifest.digest.sha256,
        limits: &request.limits,
        group_tasks: plan.spec.engine.group_tasks(),
        labels: &request.labels,
    };
    let enqueue = Enqueue {
        queue,
        definition,
        priority: flags.priority,
        manifest: &plan.manifest,
        confirm_after: Duration::from_millis(flags.confirm_after_ms),
    };
    let tasks = plan.manifest.digest.tasks;
    let mut line = context.output.progress("pushing", tasks);
    let mut total = 0;
    let mut tell = |in_redis| {
        total = in_redis;
        line.set(in_redis);
    };
    // Until here, Ctrl-C may end the process as ever: nothing was written.
    let enqueued = tokio::select! {
        enqueued = carry_out(&enqueue, plan, &mut tell) => enqueued,
        interrupt = tokio::signal::ctrl_c() => match interrupt {
            Ok(()) => Err(PushError::Interrupted { run: request.run.clone(), total, tasks }.into()),
            Err(source) => Err(LaunchpadError::Runtime(source)),
        },
    };
    line.finish();
    enqueued
}

/// Writes the run: objects, then tasks. May be dropped at any await.
async fn carry_out(
    enqueue: &Enqueue<'_>,
    plan: &PushPlan,
    tell: &mut impl FnMut(u64),
) -> Result<Enqueued, LaunchpadError> {
    let definition = &enqueue.definition;
    check_registered(enqueue.queue.run_info(definition.run).await, definition, plan)?;
    let store = Store::open(definition.store)?.run(definition.run);
    check_stored(&store, plan).await?;
    upload(&store, plan).await?;
    enqueue.run(tell).await
}

/// Reads all molecules and plans the push.
fn prepare(
    request: &PushRequest,
    driver: Option<DriverScript>,
    skip_bad: bool,
) -> Result<PushPlan, LaunchpadError> {
    let shared = SharedObjects::of_files(request, driver)?;
    let (manifest, files) = read(request, skip_bad)?;
    Ok(PushPlan::new(request, shared, manifest, files))
}

/// Reads all molecules, in bounded memory and without writing anything but a temporary file.
pub(super) fn read(
    request: &PushRequest,
    skip_bad: bool,
) -> Result<(StagedManifest, Vec<LigandFile>), LaunchpadError> {
    let enumerates = request.engine.stream().is_some();
    // What such an engine gets is no molecule, whatever its file is called.
    let format = request.format.or(enumerates.then_some(Format::Formulae));
    let open = |path: &PathBuf| LigandFile::open(path, format);
    let files = request.ligands.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut problems = ProblemList::default();
    let mut tell = |problem: &Problem| problems.tell(problem);
    let manifest = stage(&files, &request.columns, request.layout(), &mut tell);
    problems.finish();
    let manifest = manifest?;
    if manifest.bad > 0 && !skip_bad {
        return Err(PushError::BadEntries { bad: manifest.bad }.into());
    }
    if manifest.digest.molecules == 0 {
        return Err(PushError::NoMolecules.into());
    }
    manifest.check_for(&request.engine, request.has_reference())?;
    Ok((manifest, files))
}

/// Plans a push of another run's molecules, if there are any.
async fn follow(
    context: &Context,
    flags: &cli::Push,
    request: &PushRequest,
    source: &RunInfo,
) -> Result<Result<PushPlan, NothingToPush>, LaunchpadError> {
    let (queue, run) = (context.location.queue()?, &source.spec.run);
    let store = context.location.run_store(&source.store, run)?;
    let store_url = context.location.store_url(request.store.as_deref())?;
    let driver = request.script(&store_url).await?;
    let shared = SharedObjects::of_run(&store, &source.spec, request, driver).await?;
    let follow_up = FollowUp { queue: &queue, store: &store, info: source, wanted: wanted(flags) };
    let mut line = context.output.progress("checking", source.spec.manifest.tasks);
    let staged = follow_up
        .stage(request.layout(), request.seed, &mut |tasks| line.set(tasks), &mut output::problem)
        .await;
    line.finish();
    Ok(match staged? {
        Some((manifest, ligands)) => Ok(PushPlan::new(request, shared, manifest, ligands)),
        None => Err(NothingToPush::new(request.run.clone(), run.clone())),
    })
}

fn wanted(flags: &cli::Push) -> Wanted {
    match (flags.sample, flags.of_top) {
        (Some(molecules), Some(of_top)) => {
            Wanted::Sample { molecules: molecules as usize, of_top: of_top as usize, by: flags.by.clone() }
        }
        _ => Wanted::Failed { bad: flags.bad || !flags.dead, dead: flags.dead || !flags.bad },
    }
}

/// Limits and labels that a run has since its first push, or since they were changed, and that this push would have set otherwise.
fn kept(info: &RunInfo, request: &PushRequest) -> Vec<Change> {
    let labels: BTreeMap<String, String> = request.labels.iter().cloned().collect();
    let mut kept = changes(&info.limits, &request.limits);
    kept.extend(changes(&info.labels, &labels));
    kept
}

/// Refuses a run id that Redis knows for something else, before the store is touched.
fn check_registered(
    found: Result<RunInfo, QueueError>,
    definition: &RunDefinition<'_>,
    plan: &PushPlan,
) -> Result<(), LaunchpadError> {
    let run = definition.run.clone();
    let info = match found {
        Err(QueueError::NoSuchRun(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(info) => info,
    };
    if info.digest != definition.digest {
        let differences = phrases(&info.spec, &plan.spec);
        return Err(PushError::OtherRun { run, place: Place::Redis, differences }.into());
    }
    if info.store != definition.store {
        let (theirs, ours) = (info.store, definition.store.to_owned());
        return Err(PushError::OtherStore { run, theirs, ours }.into());
    }
    Ok(())
}
