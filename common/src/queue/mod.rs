//! The queue protocol: the only code that names a Redis key or runs a script. One typed method per script; no Redis type leaves it.
//!
//! `docs/protocol.md` is the contract; [`model`] says the same in pure Rust, and the tests hold both against each other.

mod access;
mod address;
mod advice;
mod audit;
mod checkpoint;
mod client;
mod connector;
mod drain;
mod error;
#[cfg(test)]
mod hostile_input;
mod inspect;
pub mod keys;
mod lease;
mod line;
mod link;
mod live;
pub mod model;
mod reply;
mod scripts;
mod server;

pub use access::{Access, Password};
pub use address::AddressError;
pub use audit::{Adoption, Places};
pub use checkpoint::{Bundle, Checkpoint, HOLD_MAX_MS, Kept, Progressed};
pub use client::{Created, Queue, RunDefinition, Sealed, Wake, Wakes};
pub use error::{Disposition, QueueError};
pub use inspect::{
    Event, Histogram, LeaseInfo, Progress, QUARANTINED, RunInfo, TaskInfo, WORKER_GONE_MS, WORKER_SILENT_MS,
    WorkerInfo,
};
pub use lease::{
    Charge, Completed, Completion, Failed, Failure, Fate, Grant, LeaseReply, Nothing, Pulse, Released,
    WhyNothing, WorkerCard,
};
pub use live::{ASKED_MS, PIECE_BYTES_MAX, Piece};
pub use scripts::{SHARED, SOURCES};
pub use server::Server;
