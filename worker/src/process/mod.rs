//! The only code that starts engines: process groups, time limits, stopping, bounded output, and the guardian that ends
//! whatever a killed worker leaves behind.
//!
//! Nothing in here knows what a task, a lease or a molecule is.

mod affinity;
mod error;
mod group;
pub mod guardian;
mod launcher;
mod output;
mod procfs;
mod program;

pub use affinity::own_cores;
pub use error::SpawnError;
pub use guardian::Guardian;
pub use launcher::Launcher;
pub use program::{Ended, How, Logs, Program, engine_environment, find_program};
