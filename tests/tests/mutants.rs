//! Whether the proof of the protocol would see a mistake: scripts with deliberate ones run under the same suite as the sound ones, and
//! each must be caught. `-- --nocapture` prints what caught how many.
#![expect(clippy::print_stdout, reason = "the table is what a person runs this for")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use tests::protocol::{Mutant, Witness, equivalent, fixed_histories, generated, named, sound, witnesses};

/// Histories that are played at most against each mutant.
const HISTORIES: usize = 100;
/// Redis servers side by side. More than cores: each waits for answers most of the time.
const SERVERS: usize = 4;
/// Of the slips, one in so many is played: others each time, so that all are before long.
const SAMPLE: usize = 3;
/// Says which, as a number; it is printed, and repeats a sample.
const SEED: &str = "MOLFLEET_MUTANTS_SEED";
/// If it is set, all slips are played; and those that are listed as no mistakes, which must pass the whole suite.
const ALL: &str = "MOLFLEET_MUTANTS";

fn plays_all() -> bool {
    std::env::var_os(ALL).is_some()
}

/// A part of the slips, by the seed.
fn sample() -> Vec<Mutant> {
    let said = std::env::var_os(SEED).map(|seed| seed.to_string_lossy().parse());
    let seed: u64 = said.map_or_else(|| RandomState::new().hash_one(()) % 1000, |seed| seed.expect(SEED));
    println!("repeat this sample of slips with {SEED}={seed}");
    let first = usize::try_from(seed % SAMPLE as u64).expect("below the sample");
    generated().into_iter().skip(first).step_by(SAMPLE).collect()
}

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
    let slips = if plays_all() { generated() } else { sample() };
    let survivors = survivors(&[vec![sound()], named(), slips].concat());
    assert_eq!(survivors, ["clock: nothing"], "only the sound scripts pass the suite");
}

#[test]
fn slips_that_are_listed_as_no_mistakes_are_none() {
    let slips = equivalent();
    assert!(slips.len() < 50, "{} slips are said to change nothing: keep these few", slips.len());
    if plays_all() {
        assert_eq!(survivors(&slips).len(), slips.len(), "a slip of the list is a mistake after all");
    }
}
