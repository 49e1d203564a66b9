//! Readers of the user's molecules, formulae and structures: streams in bounded memory, every refusal with its file and line.
//!
//! It prints nothing, knows no Redis and no store, and judges no chemistry: whether a SMILES is a molecule is decided where
//! it is docked.

mod columns;
mod connection_table;
mod delimited;
mod duplicates;
mod format;
mod formulae;
mod heavy_atoms;
mod json_lines;
mod lines;
mod molecule;
mod pdbqt;
mod problem;
mod sdf;
mod smi;
mod smiles;
mod stream;

pub use columns::Columns;
pub use duplicates::DuplicateIds;
pub use format::Format;
pub use heavy_atoms::HeavyAtoms;
pub use molecule::{FoundMolecule, FoundStructure};
pub(crate) use pdbqt::check_pdbqt;
pub use problem::{InputError, Problem};
pub use stream::{Entry, Molecules, open, read};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod hostile_input;
