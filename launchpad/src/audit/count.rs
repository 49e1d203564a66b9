//! Counting the tasks of a run anew, from their own hashes alone.

use std::collections::BTreeMap;

use common::queue::{Places, Progress, TaskInfo};
use common::task::{State, TaskId};

/// What the counters should be.
#[derive(Debug, Default)]
pub(super) struct Count {
    of: BTreeMap<&'static str, u64>,
}

impl Count {
    pub(super) fn new() -> Self {
        let names = ["failures", "lapses", "releases", "molecules_ok", "molecules_bad", "bytes"];
        let states = State::ALL.map(State::name);
        Self { of: states.into_iter().chain(names).map(|name| (name, 0)).collect() }
    }

    pub(super) fn add(&mut self, task: &TaskInfo) {
        let mut add = |name, value| *self.of.entry(name).or_default() += value;
        add(task.state.name(), 1);
        add("failures", task.failures);
        add("lapses", task.lapses);
        add("releases", task.releases);
        if task.state == State::Succeeded {
            add("molecules_ok", task.molecules_ok);
            add("molecules_bad", task.molecules_bad);
            add("bytes", task.bytes.map_or(0, |(_, up)| up));
        }
    }

    /// The counters that say something else: name, what they say, what they should say.
    pub(super) fn differences(&self, progress: &Progress) -> Vec<(&'static str, u64, u64)> {
        let said = |name| match name {
            "failures" => progress.failures,
            "lapses" => progress.lapses,
            "releases" => progress.releases,
            "molecules_ok" => progress.molecules_ok,
            "molecules_bad" => progress.molecules_bad,
            "bytes" => progress.bytes,
            state => state.parse().map_or(0, |state| progress.of(state)),
        };
        let all = self.of.iter().map(|(name, counted)| (*name, said(name), *counted));
        all.filter(|(_, said, counted)| said != counted).collect()
    }
}

/// How often each task stands in each place.
#[derive(Debug)]
pub(super) struct Standing {
    pending: BTreeMap<TaskId, u32>,
    dead: BTreeMap<TaskId, u32>,
    places: Places,
}

impl Standing {
    pub(super) fn new(places: Places) -> Self {
        let times = |ids: &[TaskId]| {
            let mut times = BTreeMap::new();
            for id in ids {
                *times.entry(*id).or_default() += 1;
            }
            times
        };
        Self { pending: times(&places.pending), dead: times(&places.dead), places }
    }

    /// What is wrong with where a task stands; `None` if it stands where its state belongs, and only there.
    pub(super) fn fault(&self, task: TaskId, state: State) -> Option<String> {
        let times = |of: &BTreeMap<TaskId, u32>| of.get(&task).copied().unwrap_or(0);
        let found = [
            ("pending", State::Pending, times(&self.pending)),
            ("delayed", State::Delayed, u32::from(self.places.delayed.contains(&task))),
            ("leases", State::Leased, u32::from(self.places.leases.contains(&task))),
            ("dead", State::Dead, times(&self.dead)),
        ];
        let is_right = found.iter().all(|(_, of, times)| *times == u32::from(*of == state));
        let stands: Vec<String> = found
            .iter()
            .filter(|(_, _, times)| *times > 0)
            .map(
                |(place, _, times)| {
                    if *times == 1 { (*place).to_owned() } else { format!("{place} ({times} times)") }
                },
            )
            .collect();
        let stands = if stands.is_empty() { "nowhere".to_owned() } else { stands.join(", ") };
        (!is_right).then(|| format!("the task is {state}, and stands in: {stands}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_task_stands_where_its_state_belongs_and_nowhere_else() {
        let ids = |ids: &[u64]| ids.iter().copied().map(TaskId).collect::<Vec<_>>();
        let set = |of: &[u64]| ids(of).into_iter().collect::<BTreeSet<_>>();
        let places =
            Places { pending: ids(&[0, 1, 1]), delayed: set(&[2]), leases: set(&[3, 0]), dead: ids(&[4]) };
        let standing = Standing::new(places);
        let fault = |task, state| standing.fault(TaskId(task), state);
        for (task, state) in
            [(2, State::Delayed), (3, State::Leased), (4, State::Dead), (5, State::Succeeded)]
        {
            assert_eq!(fault(task, state), None);
        }
        assert_eq!(fault(0, State::Pending).unwrap(), "the task is pending, and stands in: pending, leases");
        assert_eq!(
            fault(1, State::Pending).unwrap(),
            "the task is pending, and stands in: pending (2 times)"
        );
        assert_eq!(fault(6, State::Leased).unwrap(), "the task is leased, and stands in: nowhere");
        assert_eq!(fault(4, State::Cancelled).unwrap(), "the task is cancelled, and stands in: dead");
    }
}
