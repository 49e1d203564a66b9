//! Finds molecule ids that occur twice. It keeps hashes, not ids, so that ten million of them fit into memory.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher as _;

use super::problem::{Fault, excerpt};
use super::{FoundMolecule, Problem};

/// The ids of some files. Two different ids are taken for one with a probability of n² / 2¹²⁹ (10⁻²⁵ for ten million).
#[derive(Debug)]
pub struct DuplicateIds {
    files: Vec<String>,
    hashers: [RandomState; 2],
    // File and line, 24 bytes with the key: an alignment above 4 would cost more for ten million ids.
    first_places: HashMap<[u8; 16], (u32, u32)>,
}

impl DuplicateIds {
    /// Starts with no ids; `file` is named in problems.
    pub fn new(file: &str) -> Self {
        let hashers = [RandomState::new(), RandomState::new()];
        Self { files: vec![file.to_owned()], hashers, first_places: HashMap::new() }
    }

    /// Goes on with another file; ids of the former ones stay taken.
    pub fn next_file(&mut self, file: &str) {
        self.files.push(file.to_owned());
    }

    /// Remembers a molecule's id, and refuses the molecule if an earlier one has it.
    pub fn check(&mut self, molecule: &FoundMolecule) -> Result<(), Problem> {
        let halves = self.hashers.each_ref().map(|hasher| hasher.hash_one(&molecule.id).to_le_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(halves.as_flattened());
        let current = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
        match self.first_places.entry(key) {
            Entry::Vacant(free) => {
                // Behind line 4 294 967 295 only the message would be wrong.
                free.insert((current, u32::try_from(molecule.line).unwrap_or(u32::MAX)));
                Ok(())
            }
            Entry::Occupied(first) => {
                let (id, (file, line)) = (excerpt(molecule.id.as_bytes()), *first.get());
                let place = match self.files.get(file as usize) {
                    Some(other) if file != current => format!("{other}:{line}"),
                    _ => format!("line {line}"),
                };
                let fault = Fault::new(molecule.line, format!("the id `{id}` is that of {place} already"));
                let file = self.files.last().map_or("", String::as_str);
                Err(fault.with_hint("give every molecule an id of its own").in_file(file))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_later_occurrence_names_the_first() {
        let mut ids = DuplicateIds::new("f.smi");
        let mut check = |id: &str, line: u64, expect: &str| {
            let molecule = FoundMolecule::from_smiles(id, "C", line).unwrap();
            assert_eq!(
                ids.check(&molecule).map_or_else(|problem| problem.to_string(), |()| String::new()),
                expect
            );
        };
        check("a", 3, "");
        check("A", 4, "");
        check("a", 7, "f.smi:7: the id `a` is that of line 3 already");
        check("b", 8, "");
        check("a", 9, "f.smi:9: the id `a` is that of line 3 already");
    }

    #[test]
    fn distinct_ids_are_never_taken_for_duplicates() {
        let mut ids = DuplicateIds::new("f.smi");
        for line in 1..=100_000 {
            let molecule = FoundMolecule::from_smiles(&format!("m{line}"), "C", line).unwrap();
            assert_eq!(ids.check(&molecule), Ok(()));
        }
    }
}
