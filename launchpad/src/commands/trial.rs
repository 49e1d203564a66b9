//! `trial`: pushes the first molecules as a run of their own, shows each score as a worker brings it, and says what all would take.
//! It runs no engine: that is a worker's.

use std::collections::BTreeSet;

use common::task::{MoleculeSource, RunId};

use super::Context;
use super::push::{fill, read, warn};
use super::watched::Watched;
use crate::cli;
use crate::error::LaunchpadError;
use crate::push::{DryRun, LigandFile, PushPlan, PushRequest, SharedObjects, StagedManifest};
use crate::trial_report::TrialReport;

/// Tries the first molecules of a push.
pub(super) async fn trial(context: &Context, arguments: &cli::Trial) -> Result<(), LaunchpadError> {
    let flags = &arguments.push;
    let mut request = PushRequest::resolve(flags, None)?;
    (request.run, request.batch_size) = (named(&request.run, "trial")?, 1);
    let store_url = context.location.store_url(request.store.as_deref())?;
    let (whole, files) = read(&request, flags.skip_bad)?;
    let first = whole.first(arguments.molecules)?;
    let files = referenced(files, &first)?;
    let shared = SharedObjects::of_files(&request, request.script(&store_url).await?)?;
    let plan = PushPlan::new(&request, shared, first, files);
    warn(context, &plan);
    if flags.dry_run {
        return context.output.report(&DryRun::new(&plan, &store_url)?);
    }
    let queue = context.location.queue()?;
    fill(context, &queue, flags, &request, &plan, &store_url).await?;
    context
        .output
        .note(&format!("Run `{}` has the first molecules of {}.", request.run, whole.digest.molecules));
    let watched = Watched::new(context, &queue, &request.run, &store_url)?;
    let tried = watched.until_drained(&plan.manifest).await?.into_iter().map(|(tried, _)| tried).collect();
    let report =
        TrialReport::new(request.run.clone(), tried, whole.digest.molecules, request.threads_per_task);
    context.output.report(&report)?;
    if report.has_score() {
        return Ok(());
    }
    Err(LaunchpadError::TrialFailed { run: request.run.clone(), molecules: report.tried() })
}

/// A run that stands beside another one and is called after it.
pub(super) fn named(run: &RunId, what: &str) -> Result<RunId, LaunchpadError> {
    let name = format!("{run}-{what}");
    name.parse().map_err(|_| LaunchpadError::NameTooLong { run: run.clone(), name })
}

/// The files whose objects a manifest names; an SDF without a molecule in the trial is not uploaded for it.
pub(super) fn referenced(
    mut files: Vec<LigandFile>,
    manifest: &StagedManifest,
) -> Result<Vec<LigandFile>, LaunchpadError> {
    let mut named = BTreeSet::new();
    for task in manifest.tasks() {
        for molecule in task?.1 {
            if let MoleculeSource::Sdf { object, .. } = molecule.source {
                named.insert(object);
            }
        }
    }
    files.retain(|file| file.object().is_some_and(|object| named.contains(&object.object)));
    Ok(files)
}
