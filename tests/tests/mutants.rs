//! Whether the proof of the protocol would see a mistake: scripts with deliberate ones run under the same suite as the sound ones,
//! and each must be caught.
#![expect(clippy::print_stdout, reason = "the table is what a person runs this for")]

use std::collections::BTreeMap;

use tests::protocol::{Witness, fixed_histories, generated, named, witnesses};

const HISTORIES: usize = 100;
const SERVERS: usize = 2;

#[test]
fn every_mistake_in_a_script_is_caught() {
    let mutants = [named(), generated()].concat();
    let found = witnesses(&mutants, &fixed_histories(HISTORIES), SERVERS);
    let mut caught: BTreeMap<Witness, usize> = BTreeMap::new();
    for (mutant, (witness, _)) in mutants.iter().zip(&found) {
        *caught.entry(*witness).or_default() += 1;
        if *witness == Witness::None {
            println!("{}: {}", mutant.script, mutant.what);
        }
    }
    println!("{} mutants, caught by {caught:?}", mutants.len());
}
