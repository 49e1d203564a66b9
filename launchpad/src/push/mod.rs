//! The way from the user's files to a run in Redis: read, stage, plan, upload, enqueue. `commands/push.rs` calls the steps in this
//! order; nothing here prints, and every step may be cut off and done again.

mod command_options;
mod difference;
mod docking_options;
mod docking_site;
mod enqueue;
mod error;
mod fep_options;
mod follow_up;
mod http_options;
mod ligands;
mod manifest;
mod mmgbsa_options;
mod parameters;
mod plan;
mod report;
mod request;
mod shared_objects;
mod stream_options;
mod terachem_options;
mod upload;

pub(crate) use difference::{Change, changes, phrases};
pub(crate) use enqueue::{Enqueue, Enqueued};
pub(crate) use error::{Place, PushError};
pub(crate) use follow_up::{FollowUp, Wanted};
pub(crate) use ligands::LigandFile;
pub(crate) use manifest::{Layout, StagedManifest, stage};
pub(crate) use plan::PushPlan;
pub(crate) use report::{DryRun, NothingToPush, Pushed, structure};
pub(crate) use request::PushRequest;
pub(crate) use shared_objects::SharedObjects;
pub(crate) use upload::{check_stored, upload};
