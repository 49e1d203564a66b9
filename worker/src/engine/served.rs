//! What a call to servers adds to the verdicts on its rows: that no server could be asked is no failure of the program, and why a molecule
//! has no row, where the call knows it.

use std::collections::BTreeMap;

use super::reason::failure;
use super::{EngineFailure, Judged, Workload, left_file};
use crate::server::{UNANSWERED, Unanswered, Why};

/// The verdicts of a call, in the words of servers.
pub(crate) fn of_servers(workload: &Workload<'_>, judged: Vec<Judged>) -> Vec<Judged> {
    let told = left_file::read(workload.scratch, UNANSWERED.as_ref()).unwrap_or_default();
    let told = by_molecule(&String::from_utf8_lossy(&told));
    let of_molecule = |(judged, id): (Judged, &String)| {
        judged.map_err(|failed| match told.get(id) {
            Some(unanswered) => failure_of(unanswered),
            // By exit 75.
            None if failed.reason == failure::TRY_AGAIN => {
                EngineFailure { reason: failure::SERVER_AWAY, ..failed }
            }
            None => failed,
        })
    };
    let ids = workload.molecules.iter().map(|input| &input.molecule.id);
    judged.into_iter().zip(ids).map(of_molecule).collect()
}

/// The last word on each molecule; a line that was cut off tells nothing.
fn by_molecule(text: &str) -> BTreeMap<String, Unanswered> {
    let told = text.lines().filter_map(|line| serde_json::from_str::<Unanswered>(line).ok());
    told.map(|one| (one.molecule_id.clone(), one)).collect()
}

fn failure_of(unanswered: &Unanswered) -> EngineFailure {
    let reason = match unanswered.why {
        Why::Crashed => failure::SERVER_CRASHED,
        Why::Lost => failure::SERVER_LOST,
        Why::NotAsked => failure::NOT_TRIED,
    };
    EngineFailure {
        reason,
        detail: format!("no row for molecule `{}`: {}", unanswered.molecule_id, unanswered.detail),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &str = "{\"molecule_id\":\"a\",\"why\":\"lost\",\"detail\":\"x\"}\n\
                         {\"molecule_id\":\"a\",\"why\":\"crashed\",\"detail\":\"y\"}\n\
                         {\"molecule_id\":\"b\",\"why\":\"lost\",\"detail\":\"z\"}\n";

    #[test]
    fn the_last_word_on_a_molecule_counts_and_half_a_line_is_none() {
        let failures: Vec<EngineFailure> = by_molecule(LINES).values().map(failure_of).collect();
        let found: Vec<_> =
            failures.iter().map(|failed| (failed.reason, failed.detail.chars().last())).collect();
        assert_eq!(found, [(failure::SERVER_CRASHED, Some('y')), (failure::SERVER_LOST, Some('z'))]);
        assert_eq!(by_molecule(&LINES[..LINES.len() - 3]).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_lines_name_no_molecule(any in any::<String>(), at in 0..LINES.len()) {
            prop_assert!(by_molecule(&any).is_empty());
            let torn = LINES[..at].to_owned() + &any;
            prop_assert!(by_molecule(&torn).len() <= 2);
        }
    }
}
