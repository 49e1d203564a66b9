//! Whether the proof of the protocol would see a mistake: scripts with deliberate ones run under the same suite as the sound ones, and
//! each must be caught. `cargo test -p tests --test mutants -- --nocapture` prints what caught how many.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the table is what a person runs this for; the environment says how much"
)]

use std::collections::BTreeMap;

use tests::protocol::{Mutant, Witness, equivalent, fixed_histories, generated, named, sound, witnesses};

/// Histories that are played at most against each mutant.
const HISTORIES: usize = 100;
/// Redis servers side by side. More than cores: each waits for answers most of the time.
const SERVERS: usize = 6;
/// If it is set, the slips that are listed as no mistakes are played too, and must pass the whole suite.
const EQUIVALENT: &str = "MOLFLEET_EQUIVALENT_MUTANTS";

/// Plays mutants, prints what caught how many, and returns those that nothing caught.
fn survivors(mutants: &[Mutant]) -> Vec<String> {
    let mut caught: BTreeMap<Witness, usize> = BTreeMap::new();
    let found = witnesses(mutants, &fixed_histories(HISTORIES), SERVERS);
    assert_eq!(found.len(), mutants.len());
    for (witness, _) in &found {
        *caught.entry(*witness).or_default() += 1;
    }
    println!("{} mutants, caught by: {caught:?}", mutants.len());
    let survived = mutants.iter().zip(found).filter(|(_, (witness, _))| *witness == Witness::None);
    survived.map(|(mutant, _)| format!("{}: {}", mutant.script, mutant.what)).collect()
}

#[test]
fn every_mistake_in_a_script_is_caught() {
    let mut mutants = [vec![sound()], named(), generated()].concat();
    if let Some(only) = std::env::var_os("ONLY") {
        let only = only.into_string().unwrap();
        mutants.retain(|m| only.split(',').any(|o| o == m.script));
    }
    assert_eq!(survivors(&mutants), ["prelude: nothing"], "only the sound scripts pass the suite");
}

#[test]
fn slips_that_are_listed_as_no_mistakes_are_none() {
    let slips = equivalent();
    assert!(slips.len() < 50, "{} slips are said to change nothing: keep these few", slips.len());
    if std::env::var_os(EQUIVALENT).is_some() {
        assert_eq!(survivors(&slips).len(), slips.len(), "a slip of the list is a mistake after all");
    }
}
