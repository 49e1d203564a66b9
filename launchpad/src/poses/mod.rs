//! Poses of docked molecules from the files of the attempts that made them, as one SDF or PDBQT file. It reads by name, checks every
//! digest, and computes no chemistry: bonds and charges are those that were docked.

mod error;
mod kept;
mod mol_block;
mod pdbqt;
mod record;

pub(crate) use error::PosesError;
pub(crate) use kept::{Kept, fetch};
pub(crate) use record::{PoseFormat, pose_text};
