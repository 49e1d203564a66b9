//! Every molecular formula with a given number of heavy atoms that a connected molecule of ordinary valences can have: what a structure
//! generator such as Surge is started with.
//!
//! The rule: n atoms of C, N, O, S, F, Cl, Br and I with the valences below need n − 1 single bonds to hang together, which leaves
//! m = Σ valence − 2(n − 1) places. m below 0 is no molecule; else m hydrogens saturate it, and each ring or further bond takes two of
//! them away: m, m − 2, … down to 0 or 1. Pure.

use std::fmt;
use std::ops::ControlFlow;

/// The most heavy atoms that are enumerated: some 10⁹ formulae, a file of 20 GB.
pub(crate) const HEAVY_ATOMS_MAX: u32 = 30;

/// How many heavy elements there are.
const KINDS: usize = 8;
/// Heavy elements in the order of Hill (1900, doi:10.1021/ja02046a005) behind carbon, with their valences.
const ELEMENTS: [(&str, u32); KINDS] =
    [("C", 4), ("Br", 1), ("Cl", 1), ("F", 1), ("I", 1), ("N", 3), ("O", 2), ("S", 2)];
/// Before which of them hydrogen stands where there is no carbon.
const HYDROGEN_BEFORE: usize = 4;

/// A set of heavy atoms with its hydrogens. Its text is in the order of Hill: carbon, hydrogen, the rest by the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Formula {
    /// Atoms of each of [`ELEMENTS`].
    heavy: [u32; KINDS],
    hydrogens: u32,
}

impl Formula {
    /// Atoms other than hydrogen.
    pub(crate) fn heavy_atoms(&self) -> u32 {
        self.heavy.iter().sum()
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hydrogen_before = if self.heavy[0] > 0 { 1 } else { HYDROGEN_BEFORE };
        let (before, after) = self.heavy.split_at(hydrogen_before);
        let (names_before, names_after) = ELEMENTS.split_at(hydrogen_before);
        let named = |names: &'static [(&str, u32)]| names.iter().map(|(name, _)| *name);
        let atoms = named(names_before)
            .zip(before.iter().copied())
            .chain([("H", self.hydrogens)])
            .chain(named(names_after).zip(after.iter().copied()));
        for (name, count) in atoms {
            match count {
                0 => {}
                1 => f.write_str(name)?,
                count => write!(f, "{name}{count}")?,
            }
        }
        Ok(())
    }
}

/// Visits every formula of 1 to `heavy_atoms` heavy atoms: the small ones first, then those with most carbon, then those with most
/// hydrogen.
pub(crate) fn for_each<B>(
    heavy_atoms: u32,
    mut visit: impl FnMut(Formula) -> ControlFlow<B>,
) -> ControlFlow<B> {
    for_each_saturated(heavy_atoms, &mut |Formula { heavy, hydrogens: most }| {
        (0..=most / 2).try_for_each(|taken| visit(Formula { heavy, hydrogens: most - 2 * taken }))
    })
}

/// How many formulae [`for_each`] visits.
pub(crate) fn count(heavy_atoms: u32) -> u64 {
    let mut count = 0;
    let ControlFlow::Continue(()) = for_each_saturated(heavy_atoms, &mut |saturated| {
        count += u64::from(saturated.hydrogens / 2 + 1);
        ControlFlow::<std::convert::Infallible>::Continue(())
    });
    count
}

/// Visits every set of heavy atoms that can be a molecule, with all the hydrogens that it can have.
fn for_each_saturated<B>(
    heavy_atoms: u32,
    visit: &mut impl FnMut(Formula) -> ControlFlow<B>,
) -> ControlFlow<B> {
    (1..=heavy_atoms).try_for_each(|atoms| fill(&mut [0; KINDS], 0, atoms, visit))
}

/// Gives `left` atoms to the elements from `element` on, in every way.
fn fill<B>(
    heavy: &mut [u32; KINDS],
    element: usize,
    left: u32,
    visit: &mut impl FnMut(Formula) -> ControlFlow<B>,
) -> ControlFlow<B> {
    if element + 1 == KINDS {
        heavy[element] = left;
        return saturated(*heavy).map_or(ControlFlow::Continue(()), visit);
    }
    (0..=left).rev().try_for_each(|atoms| {
        heavy[element] = atoms;
        fill(heavy, element + 1, left - atoms, visit)
    })
}

/// The formula with most hydrogens; none if the atoms can't hang together.
fn saturated(heavy: [u32; KINDS]) -> Option<Formula> {
    let valences: u32 = heavy.iter().zip(ELEMENTS).map(|(count, (_, valence))| count * valence).sum();
    let bonds: u32 = heavy.iter().sum::<u32>() - 1;
    valences.checked_sub(2 * bonds).map(|hydrogens| Formula { heavy, hydrogens })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn all(heavy_atoms: u32) -> Vec<Formula> {
        let mut all = Vec::new();
        let ControlFlow::Continue(()) = for_each(heavy_atoms, |formula| {
            all.push(formula);
            ControlFlow::<std::convert::Infallible>::Continue(())
        });
        all
    }

    #[test]
    fn there_are_as_many_as_were_published() {
        let published = [
            (5, 1_945),
            (6, 4_513),
            (7, 9_660),
            (8, 19_424),
            (9, 36_977),
            (10, 67_285),
            (11, 117_723),
            (12, 199_065),
        ];
        for (heavy_atoms, formulae) in published {
            assert_eq!(count(heavy_atoms), formulae, "up to {heavy_atoms} heavy atoms");
        }
    }

    #[test]
    fn each_comes_once_and_all_are_counted() {
        let all: Vec<String> = all(6).iter().map(Formula::to_string).collect();
        assert_eq!(all.len() as u64, count(6));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn small_ones_are_those_that_a_chemist_would_write() {
        let one: Vec<String> = all(1).iter().map(Formula::to_string).collect();
        // Without carbon the alphabet alone decides: BrH, not HBr.
        let expect = ["CH4", "CH2", "C", "BrH", "ClH", "FH", "HI", "H3N", "HN", "H2O", "O", "H2S", "S"];
        assert_eq!(one, expect);
        let up_to_ten: HashSet<String> = all(10).iter().map(Formula::to_string).collect();
        for possible in ["C8H11NO", "C6H6", "CHCl3", "C2Cl2F4", "C5H5N5", "H4N2", "Cl2OS"] {
            assert!(up_to_ten.contains(possible), "{possible}");
        }
        // Four atoms of one bond each can't hang together, and sulphur has two bonds here.
        for impossible in ["BrClFI", "F6S", "CH5", "C6H5"] {
            assert!(!up_to_ten.contains(impossible), "{impossible}");
        }
    }

    #[test]
    fn a_visitor_may_stop() {
        let mut seen = 0;
        let stopped = for_each(HEAVY_ATOMS_MAX, |formula| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(formula) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(stopped.break_value().map(|formula| formula.to_string()), Some("C".to_owned()));
    }
}
