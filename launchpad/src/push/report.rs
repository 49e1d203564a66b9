//! What `push` tells: what it did, or would do. Text and JSON from the same fields; nothing is decided here.

use std::fmt::Write as _;

use common::storage::key;
use common::task::{EngineOptions, RunId, TaskId};
use serde::Serialize;

use super::{Enqueued, PushPlan};
use crate::output::{Report, Table, bytes, thousands};

/// What a push did.
#[derive(Debug, Serialize)]
pub(crate) struct Pushed {
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
    /// What became of a plan.
    pub(crate) fn new(plan: &PushPlan, enqueued: Enqueued, redis: &str, store: &str) -> Self {
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

/// A push of molecules that another run does not have: nothing was written.
#[derive(Debug, Serialize)]
pub(crate) struct NothingToPush {
    run: RunId,
    /// The run that has no such molecules.
    from: RunId,
    tasks: u64,
    molecules: u64,
}

impl NothingToPush {
    /// The run that was not made, and the one that has no such molecules.
    pub(crate) const fn new(run: RunId, from: RunId) -> Self {
        Self { run, from, tasks: 0, molecules: 0 }
    }
}

impl Report for NothingToPush {
    fn text(&self) -> String {
        format!("{} has no such molecules: nothing was pushed as {}.\n", self.from, self.run)
    }
}

/// What a push would do.
#[derive(Debug, Serialize)]
pub(crate) struct DryRun {
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
    /// What a plan would make in a store.
    pub(crate) fn new(plan: &PushPlan, store: &str) -> Self {
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
