//! `push`: makes a run out of the user's files. Every step can be cut off at any moment and is completed by the same push again.

use std::path::PathBuf;
use std::time::Duration;

use common::queue::{QueueError, RunDefinition, RunInfo};
use common::storage::Store;

use super::Context;
use crate::cli;
use crate::drivers::DriverScript;
use crate::error::LaunchpadError;
use crate::input::Problem;
use crate::output;
use crate::push::{
    DryRun, Enqueue, LigandFile, PushError, PushPlan, PushRequest, Pushed, check_stored, stage, upload,
};

/// Makes a run, or goes on with one.
pub(super) async fn push(context: &Context, flags: &cli::Push) -> Result<(), LaunchpadError> {
    let request = PushRequest::resolve(flags)?;
    let store_url = context.location.store_url(request.store.as_deref())?;
    let driver = match &request.driver {
        Some(source) => Some(source.load(&store_url).await?),
        None => None,
    };
    let plan = prepare(&request, driver, flags.skip_bad)?;
    if flags.dry_run {
        context.output.report(&DryRun::new(&plan, &store_url));
        return Ok(());
    }
    let queue = context.location.queue()?;
    let definition = RunDefinition {
        run: &request.run,
        digest: &plan.digest,
        spec_json: &plan.spec_json,
        store: &store_url,
        manifest_sha256: &plan.manifest.digest.sha256,
        limits: &request.limits,
        labels: &request.labels,
    };
    check_registered(queue.run_info(&request.run).await, &definition)?;
    let store = Store::open(&store_url)?.run(&request.run);
    check_stored(&store, &plan).await?;
    upload(&store, &plan).await?;
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
    context.output.report(&Pushed::new(&plan, enqueued?, queue.url(), &store_url));
    Ok(())
}

/// Reads all molecules and plans the push, in bounded memory and without writing anything but a temporary file.
fn prepare(
    request: &PushRequest,
    driver: Option<DriverScript>,
    skip_bad: bool,
) -> Result<PushPlan, LaunchpadError> {
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
    PushPlan::new(request, manifest, files, driver)
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
