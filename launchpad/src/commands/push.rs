//! `push`: makes a run out of the user's files. Every step can be cut off at any moment and is completed by the same push again.

use std::path::PathBuf;
use std::time::Duration;

use common::queue::{QueueError, RunDefinition, RunInfo};
use common::storage::Store;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::input::Problem;
use crate::output;
use crate::push::{
    DryRun, Enqueue, FollowUp, LigandFile, NothingToPush, PushError, PushPlan, PushRequest, Pushed,
    SharedObjects, Wanted, check_stored, stage, upload,
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
                context.output.report(&nothing);
                return Ok(());
            }
        },
        None => prepare(&request, flags.skip_bad)?,
    };
    if flags.dry_run {
        context.output.report(&DryRun::new(&plan, &store_url));
        return Ok(());
    }
    carry_out(context, flags, &request, &plan, &store_url).await
}

/// Stores the objects, and fills Redis with the tasks.
async fn carry_out(
    context: &Context,
    flags: &cli::Push,
    request: &PushRequest,
    plan: &PushPlan,
    store_url: &str,
) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let definition = RunDefinition {
        run: &request.run,
        digest: &plan.digest,
        spec_json: &plan.spec_json,
        store: store_url,
        manifest_sha256: &plan.manifest.digest.sha256,
        limits: &request.limits,
        labels: &request.labels,
    };
    check_registered(queue.run_info(&request.run).await, &definition)?;
    let store = Store::open(store_url)?.run(&request.run);
    check_stored(&store, plan).await?;
    upload(&store, plan).await?;
    let enqueue = Enqueue {
        queue: &queue,
        definition,
        priority: flags.priority,
        manifest: &plan.manifest,
        confirm_after: Duration::from_millis(flags.confirm_after_ms),
    };
    let mut line = context.output.progress("pushing", plan.manifest.digest.tasks);
    let enqueued = enqueue.run(&mut |total| line.set(total)).await;
    line.finish();
    context.output.report(&Pushed::new(plan, enqueued?, queue.url(), store_url));
    Ok(())
}

/// Reads all molecules and plans the push, in bounded memory and without writing anything but a temporary file.
fn prepare(request: &PushRequest, skip_bad: bool) -> Result<PushPlan, LaunchpadError> {
    let receptor = request.receptor.as_deref().expect("files of molecules come with a receptor");
    let shared = SharedObjects::of_files(receptor)?;
    let open = |path: &PathBuf| LigandFile::open(path, request.format);
    let files = request.ligands.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut tell = |problem: &Problem| output::problem(&problem.to_string());
    let manifest = stage(&files, &request.columns, request.batch_size, &mut tell)?;
    if manifest.bad > 0 && !skip_bad {
        return Err(PushError::BadEntries { bad: manifest.bad }.into());
    }
    if manifest.digest.molecules == 0 {
        return Err(PushError::NoMolecules.into());
    }
    Ok(PushPlan::new(request, shared, manifest, files))
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
    let shared = SharedObjects::of_run(&store, &source.spec, request.receptor.as_deref()).await?;
    let follow_up = FollowUp { queue: &queue, store: &store, info: source, wanted: wanted(flags) };
    let mut line = context.output.progress("checking", source.spec.manifest.tasks);
    let staged = follow_up
        .stage(request.batch_size, request.seed, &mut |tasks| line.set(tasks), &mut output::problem)
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

/// Refuses a run id that Redis knows for something else, before the store is touched.
fn check_registered(
    found: Result<RunInfo, QueueError>,
    definition: &RunDefinition<'_>,
) -> Result<(), LaunchpadError> {
    let run = definition.run.clone();
    let info = match found {
        Err(QueueError::NoSuchRun(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
        Ok(info) => info,
    };
    if info.digest != definition.digest {
        let (theirs, ours) = (info.digest, definition.digest.to_owned());
        return Err(QueueError::Differs { run, theirs, ours }.into());
    }
    if info.store != definition.store {
        let (theirs, ours) = (info.store, definition.store.to_owned());
        return Err(PushError::OtherStore { run, theirs, ours }.into());
    }
    Ok(())
}
