//! What a call to servers adds to the verdicts on its rows: that no server could be asked is no failure of the program, and a molecule
//! over which servers crashed says so.

use std::collections::BTreeMap;

use super::reason::failure;
use super::{EngineFailure, Judged, Workload, left_file};
use crate::server::{CRASHES, Crash, CrashKind};

/// The verdicts of a call, in the words of servers.
pub(crate) fn of_servers(workload: &Workload<'_>, judged: Vec<Judged>) -> Vec<Judged> {
    let crashes = left_file::read(workload.scratch, CRASHES.as_ref()).unwrap_or_default();
    let crashes = crashes_by_molecule(&String::from_utf8_lossy(&crashes));
    let of_molecule = |(judged, id): (Judged, &String)| {
        judged.map_err(|failed| match crashes.get(id) {
            Some(crash) => failure_of(crash),
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
fn crashes_by_molecule(text: &str) -> BTreeMap<String, Crash> {
    let crashes = text.lines().filter_map(|line| serde_json::from_str::<Crash>(line).ok());
    crashes.map(|crash| (crash.molecule_id.clone(), crash)).collect()
}

fn failure_of(crash: &Crash) -> EngineFailure {
    let reason = match crash.kind {
        CrashKind::Repeated => failure::SERVER_CRASHED,
        CrashKind::Lost => failure::SERVER_LOST,
    };
    EngineFailure { reason, detail: format!("no row for molecule `{}`: {}", crash.molecule_id, crash.detail) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: &str = "{\"molecule_id\":\"a\",\"kind\":\"lost\",\"detail\":\"x\"}\n\
                         {\"molecule_id\":\"a\",\"kind\":\"repeated\",\"detail\":\"y\"}\n\
                         {\"molecule_id\":\"b\",\"kind\":\"lost\",\"detail\":\"z\"}\n";

    #[test]
    fn the_last_word_on_a_molecule_counts_and_half_a_line_is_none() {
        let failures: Vec<EngineFailure> = crashes_by_molecule(LINES).values().map(failure_of).collect();
        let found: Vec<_> =
            failures.iter().map(|failed| (failed.reason, failed.detail.chars().last())).collect();
        assert_eq!(found, [(failure::SERVER_CRASHED, Some('y')), (failure::SERVER_LOST, Some('z'))]);
        assert_eq!(crashes_by_molecule(&LINES[..LINES.len() - 3]).len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_lines_name_no_molecule(any in any::<String>(), at in 0..LINES.len()) {
            prop_assert!(crashes_by_molecule(&any).is_empty());
            let torn = LINES[..at].to_owned() + &any;
            prop_assert!(crashes_by_molecule(&torn).len() <= 2);
        }
    }
}
