//! The proof of the queue protocol: one stage on which Redis and the reference model take the same steps, and what is played on it:
//! a table of every script in every state, random histories, and the same for scripts with a deliberate mistake.

pub mod bounds;
pub mod conformance;
pub mod damage;
mod expected;
mod history;
mod invariants;
mod mutant;
mod named_mutants;
mod proving;
mod repairing;
mod snapshot;
mod stage;
mod step;
mod swap;

pub use history::{Coverage, History, histories, play};
pub use mutant::{Mutant, equivalent, generated, named, sound};
pub use proving::{Prover, Witness, fixed_histories, prove, witnesses};
pub use snapshot::Snapshot;
pub use stage::Stage;
pub use step::{Answer, Step, Success};
