//! Whether receptor and search box belong together. Both are known when a run is pushed, and no engine compares them: in empty space
//! each molecule costs its whole search before it is found to touch nothing, and a ligand in the receptor's place gives numbers that
//! look like any others. Pure.

use std::path::Path;

use common::task::{CONTACT_ANGSTROM, EngineOptions, GninaOptions, VinaOptions};
use serde::Serialize;

use super::PushError;
use crate::error::LaunchpadError;
use crate::input::HeavyAtoms;
use crate::output::thousands;
use crate::search_box::SearchBox;

/// A receptor with fewer heavy atoms is no protein: one of 20 residues, about the smallest that folds (Neidigh et al. 2002,
/// doi:10.1038/nsb798), has some 150. It is only warned of, since a synthetic host may be meant: cucurbit[7]uril has 84.
const RECEPTOR_ATOMS_USUAL: u64 = 100;

/// A larger box, in Å³, is searched less thoroughly at the same exhaustiveness: the FAQ of Vina's manual advises against more than
/// 30 × 30 × 30 Å unless that is raised, and Vina 1.2.3 warns of it (`Search space volume is greater than 27000 Angstrom^3`), where
/// nobody reads it.
const VOLUME_USUAL: f64 = 27_000.0;

/// How the receptor lies to the box.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct DockingSite {
    /// Heavy atoms of the receptor, from 1.
    receptor_heavy_atoms: u64,
    /// Those of them that are within the box.
    within_box: u64,
    /// What is unusual and may be meant.
    warnings: Vec<String>,
}

impl DockingSite {
    /// That of a docking engine; `receptor` is its file's name, `ligand` the structure round which the box was laid.
    pub(super) fn find(
        engine: &EngineOptions,
        (receptor, bytes): (&str, &[u8]),
        ligand: Option<&Path>,
    ) -> Result<Option<Self>, LaunchpadError> {
        let (EngineOptions::Vina(VinaOptions { center, size, .. })
        | EngineOptions::Gnina(GninaOptions { center, size, .. })) = engine
        else {
            return Ok(None);
        };
        let search_box = SearchBox::new(*center, *size)?;
        let atoms = HeavyAtoms::of_bytes(Path::new(receptor), bytes)?;
        if let Some(ligand) = ligand {
            check_roles(receptor, &atoms, ligand)?;
        }
        if atoms.count_where(|atom| search_box.holds(atom, CONTACT_ANGSTROM)) == 0 {
            return Err(empty_box(receptor, &atoms, &search_box).into());
        }
        Ok(Some(Self {
            receptor_heavy_atoms: atoms.count(),
            within_box: atoms.count_where(|atom| search_box.holds(atom, 0.0)),
            warnings: warnings(receptor, &atoms, &search_box),
        }))
    }

    /// One line.
    pub(super) fn text(&self) -> String {
        let (all, within) = (thousands(self.receptor_heavy_atoms), thousands(self.within_box));
        format!("{all} heavy atoms, {within} of them within the box")
    }

    /// What is unusual and may be meant.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Whoever swaps the two files has a ligand for a receptor, and a box as large as a protein.
fn check_roles(receptor: &str, atoms: &HeavyAtoms, ligand: &Path) -> Result<(), LaunchpadError> {
    let ligand_atoms = HeavyAtoms::read(ligand)?.count();
    if atoms.count() >= ligand_atoms {
        return Ok(());
    }
    let (receptor, ligand) = (receptor.to_owned(), ligand.to_owned());
    Err(PushError::Swapped { receptor, atoms: atoms.count(), ligand, ligand_atoms }.into())
}

fn empty_box(receptor: &str, atoms: &HeavyAtoms, search_box: &SearchBox) -> PushError {
    let range = |lowest: [f64; 3], highest: [f64; 3]| {
        [0, 1, 2].map(|axis| format!("{:.1} to {:.1}", lowest[axis], highest[axis])).join(", ")
    };
    let (center, size) = (search_box.center(), search_box.size());
    let side = |sign: f64| [0, 1, 2].map(|axis| center[axis] + sign * size[axis] / 2.0);
    let (lowest, highest) = atoms.bounds();
    PushError::EmptyBox {
        receptor: receptor.to_owned(),
        atoms: atoms.count(),
        box_range: range(side(-1.0), side(1.0)),
        receptor_range: range(lowest, highest),
    }
}

fn warnings(receptor: &str, atoms: &HeavyAtoms, search_box: &SearchBox) -> Vec<String> {
    let mut warnings = Vec::new();
    if atoms.count() < RECEPTOR_ATOMS_USUAL {
        warnings.push(format!(
            "the receptor `{receptor}` has {} heavy atoms, fewer than the smallest protein: is it a ligand?",
            atoms.count()
        ));
    }
    if search_box.volume() > VOLUME_USUAL {
        let [x, y, z] = search_box.size();
        warnings.push(format!(
            "the search box of {x} × {y} × {z} Å has {:.0} Å³: above 27,000 Å³ Vina's manual asks for a higher exhaustiveness, or the best pose may not be found",
            search_box.volume()
        ));
    }
    warnings
}
