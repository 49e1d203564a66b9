//! What `push` tells: what it did, or would do. Text and JSON from the same fields; nothing is decided here.

use std::fmt::Write as _;

use common::storage::key;
use common::task::{
    Column, ColumnKind, CommandOptions, EngineOptions, FepOptions, MmgbsaOptions, Molecule, RunId,
    StreamOptions, TaskId, TerachemOptions,
};
use serde::Serialize;

use super::docking_site::DockingSite;
use super::{Change, Enqueued, PushPlan};
use crate::error::LaunchpadError;
use crate::output::{Report, Table, bytes, thousands};

/// What a push did.
#[derive(Debug, Serialize)]
pub(crate) struct Pushed {
    run: RunId,
    tasks: u64,
    molecules: u64,
    digest: String,
    manifest_sha256: String,
    /// How the receptor lies to the search box, if the engine docks.
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<DockingSite>,
    /// Entries that were left out.
    skipped: u64,
    /// Tasks that were in Redis before.
    found: u64,
    /// Limits and labels of the run that this push did not change.
    kept: Vec<Change>,
    redis: String,
    store: String,
}

impl Pushed {
    /// What became of a plan.
    pub(crate) fn new(
        plan: &PushPlan,
        enqueued: Enqueued,
        kept: Vec<Change>,
        (redis, store): (&str, &str),
    ) -> Self {
        let tasks = plan.manifest.digest.tasks;
        Self {
            run: plan.spec.run.clone(),
            tasks,
            molecules: plan.manifest.digest.molecules,
            digest: plan.digest.clone(),
            manifest_sha256: plan.manifest.digest.sha256.clone(),
            site: plan.shared.site().cloned(),
            skipped: plan.manifest.bad,
            found: match enqueued {
                Enqueued::Pushed { found } => found,
                Enqueued::AlreadySealed => tasks,
            },
            kept,
            redis: redis.to_owned(),
            store: store.to_owned(),
        }
    }
}

impl Report for Pushed {
    fn text(&self) -> String {
        let mut text = format!(
            "run        {}\ntasks      {}\nmolecules  {}\n{}digest     {}\nredis      {}\nstore      {}\n",
            self.run,
            thousands(self.tasks),
            thousands(self.molecules),
            receptor_text(self.site.as_ref(), "receptor   "),
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
        for Change { name, theirs, ours } in &self.kept {
            say(format!("kept       {name} {theirs} (this push: {ours})\n"));
        }
        if !self.kept.is_empty() {
            let run = &self.run;
            say(format!(
                "A run keeps the limits and labels of its first push; `launchpad set {run} parallelism=N` changes that one.\n"
            ));
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

/// So many molecules tell whether the right columns are read.
const MOLECULES_SHOWN: usize = 3;

/// What a push would do.
#[derive(Debug, Serialize)]
pub(crate) struct DryRun {
    run: RunId,
    tasks: u64,
    molecules: u64,
    skipped: u64,
    digest: String,
    engine: EngineOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<DockingSite>,
    store: String,
    objects: Vec<PlannedObject>,
    first_molecules: Vec<Molecule>,
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
    pub(crate) fn new(plan: &PushPlan, store: &str) -> Result<Self, LaunchpadError> {
        let objects = plan.objects().into_iter().map(|(name, bytes)| PlannedObject { name, bytes });
        Ok(Self {
            run: plan.spec.run.clone(),
            tasks: plan.manifest.digest.tasks,
            molecules: plan.manifest.digest.molecules,
            skipped: plan.manifest.bad,
            digest: plan.digest.clone(),
            engine: plan.spec.engine.clone(),
            site: plan.shared.site().cloned(),
            store: store.to_owned(),
            objects: objects.collect(),
            first_molecules: plan.manifest.first_molecules(MOLECULES_SHOWN)?,
            first_shard: key::shard(TaskId(0)),
            last_shard: key::shard(TaskId(plan.manifest.digest.tasks.saturating_sub(1))),
        })
    }
}

impl Report for DryRun {
    fn text(&self) -> String {
        let mut objects = Table::new(&["object", ">bytes"]);
        for object in &self.objects {
            objects.row([object.name.clone(), thousands(object.bytes)]);
        }
        let mut molecules = Table::new(&["first molecules", "structure"]);
        for molecule in &self.first_molecules {
            molecules.row([molecule.id.clone(), structure(molecule).to_owned()]);
        }
        let total = self.objects.iter().map(|object| object.bytes).sum();
        format!(
            "Nothing was written. A push would make:\n\
             run         {}\ntasks       {}\nmolecules   {}\nskipped     {}\ndigest      {}\n{}{}\
             store       {}\nuploads     {}\nresults     {} to {}\n\n{molecules}\n{objects}",
            self.run,
            thousands(self.tasks),
            thousands(self.molecules),
            thousands(self.skipped),
            self.digest,
            engine_text(&self.engine),
            receptor_text(self.site.as_ref(), "receptor    "),
            self.store,
            bytes(total),
            self.first_shard,
            self.last_shard,
        )
    }
}

/// What a list shows of a molecule's structure.
pub(crate) fn structure(molecule: &Molecule) -> &str {
    if molecule.smiles().is_empty() { "SDF record" } else { molecule.smiles() }
}

fn receptor_text(site: Option<&DockingSite>, label: &str) -> String {
    site.map(|site| format!("{label}{}\n", site.text())).unwrap_or_default()
}

fn box_text(center: [f64; 3], size: [f64; 3]) -> String {
    let triple = |[x, y, z]: [f64; 3]| format!("{x:.3} {y:.3} {z:.3} Å");
    format!("box center  {}\nbox size    {}\n", triple(center), triple(size))
}

fn stream_text(stream: &StreamOptions) -> String {
    let filter = stream.filter.as_ref();
    let filter = filter.map(|filter| format!("filter      {}\n", filter.argv.join(" "))).unwrap_or_default();
    format!("parts       {} lines\n{filter}", thousands(stream.lines_per_part))
}

/// What tells most easily that the wrong thing would be computed.
fn engine_text(engine: &EngineOptions) -> String {
    match engine {
        EngineOptions::Vina(vina) => box_text(vina.center, vina.size),
        EngineOptions::Gnina(gnina) => {
            let search_box = box_text(gnina.center, gnina.size);
            format!(
                "{search_box}CNN         {}\nscore       {}\n",
                gnina.cnn_scoring.name(),
                gnina.score.tag()
            )
        }
        EngineOptions::GromacsMmgbsa(MmgbsaOptions { charges, md_ps, frames, solvent, .. }) => {
            let (charges, solvent) = (charges.name(), solvent.name());
            format!("charges     {charges}\ndynamics    {md_ps} ps in {solvent}, {frames} frames\n")
        }
        EngineOptions::GromacsFep(fep) => {
            let FepOptions { charges, window_ps, discard_ps, box_nm, .. } = fep;
            format!(
                "charges     {}\nwindows     {} of {window_ps} ps, {discard_ps} ps of each left out\nbox         {box_nm} nm\n",
                charges.name(),
                fep.windows()
            )
        }
        EngineOptions::Surge(surge) => stream_text(&surge.stream),
        EngineOptions::Command(CommandOptions { argv, stream: Some(stream), .. }) => {
            format!("command     {}\n{}", argv.join(" "), stream_text(stream))
        }
        EngineOptions::Command(command) => {
            format!("command     {}\n{}", command.argv.join(" "), columns_text(&command.columns))
        }
        EngineOptions::Terachem(TerachemOptions { method, basis, charge, multiplicity, .. }) => {
            let charge = charge.map_or("that of each structure".to_owned(), |charge| charge.to_string());
            format!("method      {method} {basis}\ncharge      {charge}, multiplicity {multiplicity}\n")
        }
        EngineOptions::Http(http) => format!("path        {}\n{}", http.path, columns_text(&http.columns)),
    }
}

fn columns_text(columns: &[Column]) -> String {
    let column = |column: &Column| match column.kind {
        ColumnKind::Number => format!("{} [{}] {}", column.name, column.unit, column.range()),
        ColumnKind::Text => format!("{} (text)", column.name),
    };
    format!("columns     {}\n", columns.iter().map(column).collect::<Vec<_>>().join("\n            "))
}
