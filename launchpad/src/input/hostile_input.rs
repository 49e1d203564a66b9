//! Whatever is in a file of molecules or a structure: reading it ends, never panics, and gives nothing that a worker would refuse. Not
//! part of the program.

use common::task::{Molecule, MoleculeSource, decode_molecules, encode_molecules};
use proptest::prelude::*;

use super::{Columns, Format, FoundStructure, HeavyAtoms, read};

const FORMATS: [(Format, &str); 6] = [
    (Format::Smi, "c1ccccc1 benzene\nC methane\n"),
    (Format::Csv, "id,smiles\na,C\n\"b,2\",\"CC\"\n"),
    (Format::Tsv, "id\tsmiles\na\tC\n"),
    (Format::JsonLines, "{\"id\":\"a\",\"smiles\":\"C\"}\n"),
    (Format::Sdf, include_str!("../../../examples/t4l-l99a/benzene.sdf")),
    (Format::Formulae, "# mine\nC8H11NO\t137.084\nCH4\n9\n"),
];
const PDB: &str =
    "ATOM      1  C1  BNZ A   1      26.930   6.110   4.070  1.00  0.00           C  \nTER\nEND\n";

/// As many as `PROPTEST_CASES` says, 256 by default: these parse whole files.
fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A file of a format with other bytes somewhere in it.
fn damaged(whole: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..12);
    let inserted = prop_oneof![bytes, "[-0-9.eE+$>< \r\n\t\",{}]{0,12}".prop_map(String::into_bytes)];
    (any::<prop::sample::Index>(), inserted, 0..40_usize).prop_map(move |(at, inserted, dropped)| {
        let at = at.index(whole.len() + 1);
        let mut bytes = whole.as_bytes().to_vec();
        bytes.splice(at..(at + dropped).min(whole.len()), inserted);
        bytes
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_found_in_any_bytes_is_what_a_worker_takes(
        files in FORMATS.map(|(_, whole)| damaged(whole)), any in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for ((format, _), file) in FORMATS.iter().zip(&files) {
            for bytes in [file, &any] {
                let Ok(entries) = read(bytes.as_slice(), "f", *format, &Columns::default()) else { continue };
                for (number, entry) in entries.enumerate() {
                    prop_assert!(number <= bytes.len(), "more entries than bytes");
                    match entry.unwrap() {
                        Ok(found) => {
                            let source = match found.structure {
                                FoundStructure::Smiles(smiles) | FoundStructure::Formula(smiles) => MoleculeSource::Smiles { smiles },
                                FoundStructure::SdfRecord { offset, length } => {
                                    prop_assert!(offset + length <= bytes.len() as u64);
                                    MoleculeSource::Sdf { object: format!("inputs/{}/f.sdf", "0f".repeat(32)), offset, length }
                                }
                            };
                            let molecule = Molecule { id: found.id, source };
                            prop_assert!(decode_molecules(&encode_molecules(&[molecule])).is_ok());
                        }
                        Err(problem) => {
                            let text = problem.to_string();
                            prop_assert!(text.len() < 2000 && !text.chars().any(char::is_control), "{text:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_structure_of_any_bytes_has_finite_atoms_or_none(
        pdb in damaged(PDB), sdf in damaged(FORMATS[4].1), any in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (ending, bytes) in [("pdb", &pdb), ("pdbqt", &pdb), ("sdf", &sdf), ("mol2", &any), ("pdb", &any), ("sdf", &any)] {
            let path = folder.path().join(format!("x.{ending}"));
            std::fs::write(&path, bytes).unwrap();
            if let Ok(atoms) = HeavyAtoms::read(&path) {
                let (low, high) = atoms.bounds();
                prop_assert!(low.iter().chain(&high).chain(&atoms.centroid()).all(|x| x.is_finite()));
            }
        }
    }
}
