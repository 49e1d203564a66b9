//! `tune`: tries the first molecules with one number of tasks side by side after the other, and says which number does most.

use common::queue::TaskInfo;

use super::Context;
use super::push::{fill, read, warn};
use super::trial::{named, referenced};
use super::watched::Watched;
use crate::cli;
use crate::error::LaunchpadError;
use crate::push::{DryRun, PushError, PushPlan, PushRequest, SharedObjects};
use crate::trial_report::Tried;
use crate::tune_report::{Level, TuneReport};

/// Tries each number in its order, as long as the machine has room for it.
pub(super) async fn tune(context: &Context, arguments: &cli::Tune) -> Result<(), LaunchpadError> {
    let flags = &arguments.push;
    let mut request = PushRequest::resolve(flags, None)?;
    if request.engine.group_tasks().is_some() {
        return Err(PushError::NotTunable { engine: request.engine.name() }.into());
    }
    // One failure tells enough.
    (request.batch_size, request.limits.failures_max) = (1, 1);
    let store_url = context.location.store_url(request.store.as_deref())?;
    let script = request.script(&store_url).await?;
    let (whole, files) = read(&request, flags.skip_bad)?;
    let base = request.run.clone();
    let mut levels = Vec::new();
    for &side_by_side in &arguments.side_by_side.0 {
        request.run = named(&base, &format!("tune-{side_by_side}"))?;
        request.limits.parallelism = side_by_side.into();
        let copies = whole.copies(arguments.molecules, side_by_side)?;
        let files = referenced(files.clone(), &copies)?;
        let shared = SharedObjects::of_files(&request, script.clone())?;
        let plan = PushPlan::new(&request, shared, copies, files);
        if levels.is_empty() {
            warn(context, &plan);
        }
        if flags.dry_run {
            context.output.report(&DryRun::new(&plan, &store_url)?)?;
            continue;
        }
        let tried = carry_out(context, flags, &request, &plan, &store_url).await?;
        levels.push(Level::new(request.run.clone(), side_by_side, &tried, arguments.usd_per_hour));
        if !levels.last().is_some_and(Level::tells) {
            break;
        }
    }
    if flags.dry_run {
        return Ok(());
    }
    let report = TuneReport::new(levels, request.threads_per_task);
    context.output.report(&report)?;
    if report.has_best() { Ok(()) } else { Err(LaunchpadError::NothingTuned { run: request.run }) }
}

/// Makes the run of one number, and watches it to its end.
async fn carry_out(
    context: &Context,
    flags: &cli::Push,
    request: &PushRequest,
    plan: &PushPlan,
    store_url: &str,
) -> Result<Vec<(Tried, TaskInfo)>, LaunchpadError> {
    let queue = context.location.queue()?;
    fill(context, &queue, flags, request, plan, store_url).await?;
    let at_once = request.limits.parallelism;
    context.output.note(&format!("Run `{}`: {at_once} side by side", request.run));
    Watched::new(context, &queue, &request.run, store_url)?.until_drained(&plan.manifest).await
}
