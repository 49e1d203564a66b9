//! Refuses a PDB file that is called PDBQT: Vina would fail over it, or dock with wrong atom types and not say so.

use common::pdbqt::untyped_atom;

use super::InputError;
use super::problem::{Fault, excerpt};

/// Checks that every atom has a partial charge and AutoDock's atom type; `file` is named in the refusal.
pub(crate) fn check_pdbqt(file: &str, bytes: &[u8]) -> Result<(), InputError> {
    let text = String::from_utf8_lossy(bytes);
    let Some((number, line)) = untyped_atom(&text) else { return Ok(()) };
    let found = excerpt(line.trim_end().as_bytes());
    let what = format!(
        "`{found}` has no partial charge and AutoDock atom type (expected both in columns 71 to 79 of a PDBQT file)"
    );
    let hint = "if it is a PDB file, let its name end in .pdb: workers convert it";
    Err(InputError::Unusable(Fault::new(number, what).with_hint(hint).in_file(file)))
}
