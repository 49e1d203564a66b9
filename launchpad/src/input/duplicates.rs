//! Finds molecule ids that occur twice. It keeps hashes, not ids, so that ten million of them fit into any laptop's memory.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher};

use super::problem::{Fault, excerpt};
use super::{FoundMolecule, Problem};

/// The ids are spread over so many tables: what a table needs besides while it grows is then next to nothing.
const TABLES: usize = 256;
/// The longest place that fits into a table: 2⁴⁰ lines.
const PLACE_MAX: u64 = (1 << 40) - 1;

/// The ids of some files, in 16 bytes for each place of a table, of which up to 7 in 8 are in use. Two different ids are taken for one
/// with a probability of n² / 2⁸⁹ (10⁻¹³ for ten million).
#[derive(Debug)]
pub struct DuplicateIds {
    files: Vec<FileLines>,
    /// The last place that was seen.
    last: u64,
    hashers: [RandomState; 2],
    tables: Vec<HashMap<Key, Place, BuildHasherDefault<KeyHasher>>>,
}

/// A file by its name, and the place of its line 0: lines are numbered through all files.
#[derive(Debug)]
struct FileLines {
    name: String,
    first: u64,
}

/// 80 bits of an id's hash; the table has 8 more. Bytes need no alignment, which would cost more for ten million ids.
#[derive(Debug, PartialEq, Eq)]
struct Key([u8; 10]);

/// 40 bits of a line's number through all files.
type Place = [u8; 5];

impl DuplicateIds {
    /// Starts with no ids; `file` is named in problems.
    pub fn new(file: &str) -> Self {
        let files = vec![FileLines { name: file.to_owned(), first: 0 }];
        let tables = (0..TABLES).map(|_| HashMap::default()).collect();
        Self { files, last: 0, hashers: [RandomState::new(), RandomState::new()], tables }
    }

    /// Goes on with another file; ids of the former ones stay taken.
    pub fn next_file(&mut self, file: &str) {
        self.files.push(FileLines { name: file.to_owned(), first: self.last });
    }

    /// Remembers a molecule's id, and refuses the molecule if an earlier one has it.
    pub fn check(&mut self, molecule: &FoundMolecule) -> Result<(), Problem> {
        let first = self.files.last().map_or(0, |file| file.first);
        self.last = first + molecule.line;
        let place = self.last.min(PLACE_MAX).to_le_bytes(); // behind it only the message would be wrong
        let [one, other] = self.hashers.each_ref().map(|hasher| hasher.hash_one(&molecule.id).to_le_bytes());
        let mut key = [0; 10];
        key[..8].copy_from_slice(&one);
        key[8..].copy_from_slice(&other[..2]);
        match self.tables[usize::from(other[2])].entry(Key(key)) {
            Entry::Vacant(free) => {
                free.insert([place[0], place[1], place[2], place[3], place[4]]);
                Ok(())
            }
            Entry::Occupied(taken) => {
                let mut first = [0; 8];
                first[..5].copy_from_slice(taken.get());
                Err(self.taken(molecule, u64::from_le_bytes(first)))
            }
        }
    }

    /// The problem of a molecule whose id is that of an earlier one.
    fn taken(&self, molecule: &FoundMolecule, first: u64) -> Problem {
        let current = self.files.len() - 1;
        // Lines count from 1, so the place of a file's line 0 is the last line of the one before.
        let file = self.files.partition_point(|file| file.first < first).saturating_sub(1);
        let line = first - self.files[file].first;
        let place = match self.files.get(file) {
            Some(other) if file != current => format!("{}:{line}", other.name),
            _ => format!("line {line}"),
        };
        let id = excerpt(molecule.id.as_bytes());
        let fault = Fault::new(molecule.line, format!("the id `{id}` is that of {place} already"));
        fault.with_hint("give every molecule an id of its own").in_file(&self.files[current].name)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// Takes the start of a key, which is a hash already.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
    }

    fn finish(&self) -> u64 {
        self.0
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
    fn a_place_in_another_file_is_named_with_it() {
        let mut ids = DuplicateIds::new("");
        let mut taken = Vec::new();
        for (file, lines) in [("a.smi", ["x", "y"]), ("empty.smi", ["", ""]), ("c.smi", ["y", "x"])] {
            ids.next_file(file);
            for (id, line) in lines.into_iter().zip(1..).filter(|(id, _)| !id.is_empty()) {
                let molecule = FoundMolecule::from_smiles(id, "C", line).unwrap();
                taken.extend(ids.check(&molecule).err().map(|problem| problem.to_string()));
            }
        }
        let expected = [
            "c.smi:1: the id `y` is that of a.smi:2 already",
            "c.smi:2: the id `x` is that of a.smi:1 already",
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn an_id_takes_sixteen_bytes() {
        // The table adds one for each place.
        assert_eq!(size_of::<(Key, Place)>(), 15);
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
