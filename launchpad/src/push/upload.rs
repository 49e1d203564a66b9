//! Puts a run's objects into the store: inputs, drivers, manifest, and last the spec, by which workers know the store.
//! Everything is created if absent and never overwritten, so that it can be cut off and done again anywhere.

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{Creation, RunStore, StorageError, key};
use common::task::ObjectRef;

use super::{PushError, PushPlan};
use crate::error::LaunchpadError;

/// Refuses a push whose run id is in the store for something else, before anything is written.
pub(crate) async fn check_stored(store: &RunStore, plan: &PushPlan) -> Result<(), LaunchpadError> {
    for (object, ours) in [(key::SPEC, &plan.digest), (key::MANIFEST, &plan.manifest.digest.sha256)] {
        if let Some(stored) = store.find(object).await? {
            refuse_other(plan, object, &stored, ours)?;
        }
    }
    Ok(())
}

/// Writes what is not there yet.
pub(crate) async fn upload(store: &RunStore, plan: &PushPlan) -> Result<(), LaunchpadError> {
    for (object, bytes) in plan.shared.objects() {
        create_pinned(store, object, bytes.clone()).await?;
    }
    for file in &plan.ligands {
        let Some(object) = file.object() else { continue };
        let bytes = Bytes::from(file.contents()?);
        if sha256_hex(&bytes) != object.sha256 {
            return Err(PushError::Changed { file: file.name().to_owned() }.into());
        }
        create_pinned(store, object, bytes).await?;
    }
    let temporary = |source| LaunchpadError::File { action: "read", path: std::env::temp_dir(), source };
    let manifest = Bytes::from(plan.manifest.contents().map_err(temporary)?);
    let spec = Bytes::from(plan.spec_json.clone());
    let once = [(key::MANIFEST, manifest, &plan.manifest.digest.sha256), (key::SPEC, spec, &plan.digest)];
    for (object, bytes, ours) in once {
        if let Creation::Differs(stored) = store.create(object, bytes).await? {
            refuse_other(plan, object, &stored, ours)?;
        }
    }
    Ok(())
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

fn refuse_other(plan: &PushPlan, object: &'static str, stored: &[u8], ours: &str) -> Result<(), PushError> {
    let theirs = sha256_hex(stored);
    if theirs == ours {
        return Ok(());
    }
    Err(PushError::StoredDiffers { run: plan.spec.run.clone(), object, theirs, ours: ours.to_owned() })
}
