//! `push`: makes a run out of the user's files. Every step can be cut off at any moment and is completed by the same push again.

use std::fmt::Write as _;
use std::time::Duration;

use common::queue::{QueueError, RunDefinition};
use common::storage::{Store, key};
use common::task::{EngineOptions, RunId, TaskId};
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::{self, Report, Table, bytes, thousands};
use crate::push::{
    Enqueue, Enqueued, LigandFile, PushError, PushPlan, PushRequest, check_stored, stage, upload,
};

/// Makes a run, or goes on with one.
pub(super) async fn push(context: &Context, flags: &cli::Push) -> Result<(), LaunchpadError> {
    let request = PushRequest::resolve(flags)?;
    let store_url = context.location.store_url(request.store.as_deref())?;
    let plan = prepare(&request, flags.skip_bad)?;
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
fn prepare(request: &PushRequest, skip_bad: bool) -> Result<PushPlan, LaunchpadError> {
    let open = |path: &std::path::PathBuf| LigandFile::open(path, request.format);
    let files = request.ligands.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let mut tell = |problem: &crate::input::Problem| output::problem(&problem.to_string());
    let manifest = stage(&files, &request.columns, request.batch_size, &mut tell)?;
    if manifest.bad > 0 && !skip_bad {
        return Err(PushError::BadEntries { bad: manifest.bad }.into());
    }
    if manifest.digest.molecules == 0 {
        return Err(PushError::NoMolecules.into());
    }
    PushPlan::new(request, manifest, files)
}

/// Refuses a run id that Redis knows for something else, before the store is touched.
fn check_registered(
    found: Result<common::queue::RunInfo, QueueError>,
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

/// What a push did.
#[derive(Debug, Serialize)]
struct Pushed {
    run: RunId,
    tasks: u64,
    molecules: u64,
    digest: String,
    manifest_sha256: String,
    /// Entries that were left out.
    skipped: u64,
    /// Tasks that were in Redis before.
    found: u64,
    redis: String,
    store: String,
}

impl Pushed {
    fn new(plan: &PushPlan, enqueued: Enqueued, redis: &str, store: &str) -> Self {
        let tasks = plan.manifest.digest.tasks;
        Self {
            run: plan.spec.run.clone(),
            tasks,
            molecules: plan.manifest.digest.molecules,
            digest: plan.digest.clone(),
            manifest_sha256: plan.manifest.digest.sha256.clone(),
            skipped: plan.manifest.bad,
            found: match enqueued {
                Enqueued::Pushed { found } => found,
                Enqueued::AlreadySealed => tasks,
            },
            redis: redis.to_owned(),
            store: store.to_owned(),
        }
    }
}

impl Report for Pushed {
    fn text(&self) -> String {
        let mut text = format!(
            "run        {}\ntasks      {}\nmolecules  {}\ndigest     {}\nredis      {}\nstore      {}\n",
            self.run,
            thousands(self.tasks),
            thousands(self.molecules),
            self.digest,
            self.redis,
            self.store
        );
        let mut say = |line: String| text.write_str(&line).expect("writing to a String cannot fail");
        if self.skipped > 0 {
            say(format!("skipped    {} entries that can't be used\n", thousands(self.skipped)));
        }
        if self.found == self.tasks {
            say("Everything was there already.\n".into());
        } else if self.found > 0 {
            say(format!("{} tasks were there already.\n", thousands(self.found)));
        }
        text
    }
}

/// What a push would do.
#[derive(Debug, Serialize)]
struct DryRun {
    run: RunId,
    tasks: u64,
    molecules: u64,
    skipped: u64,
    digest: String,
    box_center: [f64; 3],
    box_size: [f64; 3],
    store: String,
    objects: Vec<PlannedObject>,
    first_shard: String,
    last_shard: String,
}

#[derive(Debug, Serialize)]
struct PlannedObject {
    name: String,
    bytes: u64,
}

impl DryRun {
    fn new(plan: &PushPlan, store: &str) -> Self {
        let EngineOptions::Vina(vina) = &plan.spec.engine;
        let objects = plan.objects().into_iter().map(|(name, bytes)| PlannedObject { name, bytes });
        Self {
            run: plan.spec.run.clone(),
            tasks: plan.manifest.digest.tasks,
            molecules: plan.manifest.digest.molecules,
            skipped: plan.manifest.bad,
            digest: plan.digest.clone(),
            box_center: vina.center,
            box_size: vina.size,
            store: store.to_owned(),
            objects: objects.collect(),
            first_shard: key::shard(TaskId(0)),
            last_shard: key::shard(TaskId(plan.manifest.digest.tasks.saturating_sub(1))),
        }
    }
}

impl Report for DryRun {
    fn text(&self) -> String {
        let triple = |[x, y, z]: [f64; 3]| format!("{x:.3} {y:.3} {z:.3} Å");
        let mut objects = Table::new(&["object", ">bytes"]);
        for object in &self.objects {
            objects.row([object.name.clone(), thousands(object.bytes)]);
        }
        let total = self.objects.iter().map(|object| object.bytes).sum();
        format!(
            "Nothing was written. A push would make:\n\
             run         {}\ntasks       {}\nmolecules   {}\nskipped     {}\ndigest      {}\nbox center  {}\nbox size    {}\n\
             store       {}\nuploads     {}\nresults     {} to {}\n\n{objects}",
            self.run,
            thousands(self.tasks),
            thousands(self.molecules),
            thousands(self.skipped),
            self.digest,
            triple(self.box_center),
            triple(self.box_size),
            self.store,
            bytes(total),
            self.first_shard,
            self.last_shard,
        )
    }
}
