//! Puts a run's objects into the store: inputs, drivers, manifest, and last the spec, by which workers know the store.
//! Everything is created if absent and never overwritten, so that it can be cut off and done again anywhere.

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{Creation, RunStore, StorageError, key};
use common::task::{ObjectRef, RunSpec};

use super::{Place, PushError, PushPlan, phrases};
use crate::error::LaunchpadError;

/// Refuses a push whose run id is in the store for something else, before anything is written.
pub(crate) async fn check_stored(store: &RunStore, plan: &PushPlan) -> Result<(), LaunchpadError> {
    if let Some(stored) = store.find(key::SPEC).await?.filter(|stored| sha256_hex(stored) != plan.digest) {
        return Err(spec_differs(plan, &stored).into());
    }
    let (object, ours) = (key::MANIFEST, &plan.manifest.digest.sha256);
    match store.digest(object).await?.filter(|theirs| theirs != ours) {
        Some(theirs) => Err(stored_differs(plan, object, theirs, ours).into()),
        None => Ok(()),
    }
}

/// Writes what is not there yet.
pub(crate) async fn upload(store: &RunStore, plan: &PushPlan) -> Result<(), LaunchpadError> {
    for (object, bytes) in plan.shared.objects() {
        create_pinned(store, object, bytes.clone()).await?;
    }
    for ligands in &plan.ligands {
        let Some(object) = ligands.object() else { continue };
        store.create_file(object, ligands.file()).await.map_err(|error| match error {
            StorageError::Changed { .. } => PushError::Changed { file: ligands.name().to_owned() }.into(),
            error => LaunchpadError::from(error),
        })?;
    }
    let (sha256, bytes) = (plan.manifest.digest.sha256.clone(), plan.manifest.bytes);
    let manifest = ObjectRef { object: key::MANIFEST.to_owned(), sha256, bytes };
    store.create_file(&manifest, plan.manifest.file()).await.map_err(|error| match error {
        StorageError::Digest { theirs, ours, .. } => {
            stored_differs(plan, key::MANIFEST, theirs, &ours).into()
        }
        error => LaunchpadError::from(error),
    })?;
    match store.create(key::SPEC, Bytes::from(plan.spec_json.clone())).await? {
        Creation::New | Creation::Same => Ok(()),
        Creation::Differs(stored) => Err(spec_differs(plan, &stored).into()),
    }
}

async fn create_pinned(store: &RunStore, pinned: &ObjectRef, bytes: Bytes) -> Result<(), LaunchpadError> {
    let ours = pinned.sha256.clone();
    match store.create(&pinned.object, bytes).await? {
        Creation::New | Creation::Same => Ok(()),
        Creation::Differs(stored) => {
            let (object, url, theirs) = (pinned.object.clone(), store.url().to_owned(), sha256_hex(&stored));
            Err(StorageError::Digest { object, url, theirs, ours }.into())
        }
    }
}

/// Says what the stored spec has that ours has not, if it is one.
fn spec_differs(plan: &PushPlan, stored: &[u8]) -> PushError {
    let run = &plan.spec.run;
    match str::from_utf8(stored).ok().and_then(|text| RunSpec::read(text, run).ok()) {
        Some(theirs) => {
            let differences = phrases(&theirs, &plan.spec);
            PushError::OtherRun { run: run.clone(), place: Place::Store, differences }
        }
        None => stored_differs(plan, key::SPEC, sha256_hex(stored), &plan.digest),
    }
}

fn stored_differs(plan: &PushPlan, object: &'static str, theirs: String, ours: &str) -> PushError {
    PushError::StoredDiffers { run: plan.spec.run.clone(), object, theirs, ours: ours.to_owned() }
}
