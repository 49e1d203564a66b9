//! What the log of GROMACS' mdrun tells of a simulation: how far it is, whether it came to its end, and on how many threads. Pure.

use super::EngineFailure;
use super::reason::failure;

/// How mdrun notes that it writes a checkpoint, before the step's number.
const CHECKPOINT: &str = "Writing checkpoint, step ";
/// What it notes when `-maxh` ends it, which it calls a success, and when a signal does.
const CUT: [(&str, &str); 2] = [("Run time exceeded", "by `-maxh`"), ("Received the ", "by a signal")];
/// What it notes in the end, unless it was killed.
const FINISHED: &str = "Finished mdrun";
/// How it notes that it goes on, below what it noted before.
const RESTARTED: &str = "Restarting from checkpoint";
/// How it notes the numbers of its threads each time that it starts: `Using 1 OpenMP thread `.
const THREADS: [&str; 2] = [" MPI thread", " OpenMP thread"];

/// The step of the last checkpoint that it tells of. mdrun has its log on disk before the checkpoint is in place.
pub(crate) fn checkpoint_step(log: &str) -> Option<u64> {
    let step = |line: &str| line.strip_prefix(CHECKPOINT)?.split_once(" at ")?.0.parse().ok();
    log.lines().rev().find_map(step)
}

/// Refuses a simulation that was gone on with on another number of threads: its numbers are neither those of the one nor of the other.
pub(crate) fn same_threads(log: &str, simulation: &str) -> Result<(), EngineFailure> {
    for kind in THREADS {
        let notes = log.lines().filter(|line| line.starts_with("Using ") && line.contains(kind));
        let mut notes: Vec<&str> = notes.map(str::trim).collect();
        notes.dedup();
        if notes.len() > 1 {
            let detail = format!(
                "`{simulation}` was gone on with on another number of threads, which changes its numbers: {}",
                notes.join(", then ")
            );
            return Err(EngineFailure { reason: failure::THREADS_CHANGED, detail });
        }
    }
    Ok(())
}

/// Whether the last of its starts came to the last step.
pub(crate) fn has_ended(log: &str) -> bool {
    let last = last_start(log);
    last.contains(FINISHED) && !CUT.iter().any(|(note, _)| last.contains(note))
}

/// Says that a simulation has no final coordinates since it was cut short: that is no molecule's fault.
pub(crate) fn cut_short(log: &str, simulation: &str, coordinates: &str) -> EngineFailure {
    let by = CUT.iter().find(|(note, _)| last_start(log).contains(note));
    let how = by.map_or("before its last step", |(_, how)| how);
    let detail = format!("mdrun was cut short {how} in `{simulation}` and left no `{coordinates}`");
    EngineFailure { reason: failure::CUT_SHORT, detail }
}

/// What it noted since it was started last.
fn last_start(log: &str) -> &str {
    log.rsplit(RESTARTED).next().unwrap_or(log)
}
