//! Whether the kernel ended a program for want of memory. What went wrong meanwhile tells of the machine and of what ran side by side on it,
//! and of no molecule.

use std::fs;

use common::task::Verdict;

use crate::engine::{EngineFailure, Judged};
use crate::failure::OUT_OF_MEMORY;

/// How many processes this machine's kernel has killed for want of memory, in any cgroup, since it started; `None` if it does not tell
/// (before Linux 4.13).
pub(crate) fn kills() -> Option<u64> {
    count(&fs::read_to_string("/proc/vmstat").ok()?)
}

fn count(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// What is left of verdicts that were made while the kernel killed: good ones. The engine may have lost a program that it started itself, and then
/// says anything about its molecules.
pub(crate) fn spare(judged: Result<Vec<Judged>, EngineFailure>) -> Result<Vec<Judged>, EngineFailure> {
    let spared = |one: Judged| match one {
        Ok(row) if row.verdict == Verdict::Ok => Ok(row),
        Ok(row) => Err(out_of_memory(&format!("bad, {}", row.reason))),
        Err(failure) => Err(doubted(failure)),
    };
    judged.map(|all| all.into_iter().map(spared).collect()).map_err(doubted)
}

fn doubted(failure: EngineFailure) -> EngineFailure {
    if failure.is_untried() || failure.is_nobodys() { failure } else { out_of_memory(&failure.detail) }
}

fn out_of_memory(said: &str) -> EngineFailure {
    let detail = format!("the kernel killed a program for want of memory while the engine ran ({said})");
    EngineFailure { reason: OUT_OF_MEMORY, detail }
}

#[cfg(test)]
mod tests {
    use common::task::Row;

    use super::*;

    fn row(verdict: Verdict, reason: &str) -> Row {
        let (molecule_id, smiles) = ("m".to_owned(), "C".to_owned());
        Row {
            molecule_id,
            smiles,
            verdict,
            reason: reason.to_owned(),
            score: String::new(),
            columns: Vec::new(),
        }
    }

    fn failure(reason: &'static str) -> EngineFailure {
        EngineFailure { reason, detail: "signal 9".to_owned() }
    }

    #[test]
    fn the_kernels_counter_is_read() {
        assert_eq!(count("pgfault 7\noom_kill 3\noom_killer 9\n"), Some(3));
        assert_eq!(count("pgfault 7\n"), None);
        assert!(kills().is_some(), "this kernel tells");
    }

    #[test]
    fn no_molecule_is_bad_for_want_of_memory() {
        let judged = vec![
            Ok(row(Verdict::Ok, "")),
            Ok(row(Verdict::Bad, "parameters_failed")),
            Err(failure("engine_crashed")),
            Err(failure("not_tried")),
        ];
        let spared = spare(Ok(judged)).unwrap();
        let words: Vec<&str> =
            spared.iter().map(|one| one.as_ref().map_or_else(|failure| failure.reason, |_| "ok")).collect();
        assert_eq!(words, ["ok", "out_of_memory", "out_of_memory", "not_tried"]);
        assert!(spared[1].as_ref().unwrap_err().detail.ends_with("(bad, parameters_failed)"));
        // Nor is it under suspicion.
        assert!(spared.iter().all(|one| one.as_ref().err().is_none_or(|failure| !failure.is_breakdown())));
        let reason = |said| spare(Err(failure(said))).unwrap_err().reason;
        assert_eq!(["engine_failed", "try_again"].map(reason), ["out_of_memory", "try_again"]);
    }
}
