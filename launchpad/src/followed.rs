//! What somebody who follows a task has seen of it, and so what is news: parts of logs, and what became of its attempts, in words.

use std::collections::HashMap;

use common::queue::{Piece, TaskInfo};
use common::task::{Ending, LeaseName, RunId, State, TaskId};

use crate::task_history::ending_name;

/// What was printed so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    state: Option<State>,
    pub(crate) lease: Option<LeaseName>,
    /// How far each log of each attempt was printed, in bytes.
    ends: HashMap<(LeaseName, String), u64>,
}

impl Seen {
    /// How many bytes before the piece are missing, and what of it is new; `None` if nothing is: an answer that was lost is told twice.
    pub(crate) fn new_part<'a>(&mut self, piece: &'a Piece) -> Option<(u64, &'a [u8])> {
        let end = self.ends.entry((piece.lease.clone(), piece.log.clone())).or_default();
        let known = usize::try_from(end.saturating_sub(piece.from)).unwrap_or(usize::MAX);
        let new = piece.text.get(known..).filter(|new| !new.is_empty())?;
        let skipped = piece.from.saturating_sub(*end);
        *end = piece.from + piece.text.len() as u64;
        Some((skipped, new))
    }

    /// What became of the task since the last look, in words.
    pub(crate) fn change(&mut self, run: &RunId, task: TaskId, info: &TaskInfo) -> Option<String> {
        if (self.state, &self.lease) == (Some(info.state), &info.lease) {
            return None;
        }
        let mut said = Vec::new();
        if let Some(lease) = self.lease.as_ref().filter(|lease| Some(*lease) != info.lease.as_ref()) {
            let former = info.former.iter().find(|(former, _)| former == lease);
            // Its end may have been told already, when the task waited for its next attempt.
            said.extend(former.filter(|_| self.state == Some(State::Leased)).map(|(_, e)| ended(lease, *e)));
        }
        said.extend(match (&info.lease, info.state) {
            (Some(lease), State::Leased) => {
                Some(format!("attempt {} runs on worker {}", lease.number, lease.worker))
            }
            (Some(lease), _) => info.ending.map(|ending| ended(lease, ending)),
            (None, _) => None,
        });
        let reason = info.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        said.extend(match info.state {
            State::Leased => None,
            State::Pending | State::Waiting => Some(format!("task {task} waits for a worker")),
            State::Delayed => Some(format!("task {task} waits to be tried again{reason}")),
            State::Succeeded | State::Cancelled | State::Dead => Some(format!(
                "task {task} is {}{reason}; `launchpad logs {run} {task}` prints the whole logs",
                info.state
            )),
        });
        (self.state, self.lease) = (Some(info.state), info.lease.clone());
        Some(said.join("; "))
    }
}

fn ended(lease: &LeaseName, ending: Ending) -> String {
    format!("attempt {} {}", lease.number, ending_name(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(from: u64, text: &str) -> Piece {
        let (id, log) = ("1-0".to_owned(), "dock.stdout".to_owned());
        Piece { id, task: TaskId(0), lease: "1.w.1".parse().unwrap(), log, from, text: text.into() }
    }

    #[test]
    fn what_is_told_twice_is_printed_once_and_gaps_are_counted() {
        let mut seen = Seen::default();
        assert_eq!(seen.new_part(&piece(7, "mode 1\n")), Some((7, &b"mode 1\n"[..])));
        assert_eq!(seen.new_part(&piece(7, "mode 1\n")), None);
        assert_eq!(seen.new_part(&piece(7, "mode 1\nmode 2\n")), Some((0, &b"mode 2\n"[..])));
        assert_eq!(seen.new_part(&piece(30, "end")), Some((9, &b"end"[..])));
        assert_eq!(seen.new_part(&piece(0, "mode")), None);
    }
}
