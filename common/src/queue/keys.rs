//! Every Redis key, one function each. All keys of a run share the hash tag `{run}`, so a run fits one slot of a cluster.

use crate::task::{Phase, RunId, TaskId, WorkerId};

/// Run ids by priority.
pub const RUNS: &str = "molfleet:runs";
/// Worker ids by when they were last seen.
pub const WORKERS: &str = "molfleet:workers";
/// ZSET: workers that were told to leave, by when.
pub const DRAINS: &str = "molfleet:drains";

/// A worker's hash: where it runs and what it is doing.
pub fn worker(id: &WorkerId) -> String {
    format!("molfleet:worker:{id}")
}

/// The channel on which an idle worker is told that there may be work, and any worker that somebody follows a task of it.
pub fn wake(id: &WorkerId) -> String {
    format!("molfleet:worker:{id}:wake")
}

/// What tells a worker on its channel to leave.
pub(super) const DRAIN_MESSAGE: &str = "drain";

/// What asks a worker on its channel for the output of a task: the key that it goes to and the task's id.
pub(super) fn follow_message(run: &RunId, task: TaskId) -> String {
    format!("{} {task}", RunKeys::new(run).live())
}

/// The run and task that such a message names; `None` for any other message.
pub(super) fn followed(message: &str) -> Option<(RunId, TaskId)> {
    let (key, task) = message.split_once(' ')?;
    let run = key.strip_prefix("molfleet:{")?.strip_suffix("}:live")?;
    Some((run.parse().ok()?, task.parse().ok()?))
}

/// The keys of one run.
#[derive(Debug, Clone)]
pub struct RunKeys {
    prefix: String,
}

impl RunKeys {
    /// The keys of this run.
    pub fn new(run: &RunId) -> Self {
        Self { prefix: format!("molfleet:{{{run}}}:") }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// HASH: spec, digest, limits, pause, lease clock.
    pub fn run(&self) -> String {
        self.key("run")
    }

    /// HASH: the counters.
    pub fn progress(&self) -> String {
        self.key("progress")
    }

    /// LIST: ids of pending tasks, the next one at the head.
    pub fn pending(&self) -> String {
        self.key("pending")
    }

    /// ZSET: ids of delayed tasks by when they become pending, in ms of `TIME`.
    pub fn delayed(&self) -> String {
        self.key("delayed")
    }

    /// ZSET: ids of leased tasks by expiry, in ms of the run's lease clock.
    pub fn leases(&self) -> String {
        self.key("leases")
    }

    /// HASH: worker id → its last answered request and the task ids that it gave.
    pub fn grants(&self) -> String {
        self.key("grants")
    }

    /// ZSET: ids of idle workers by their free slots.
    pub fn idle(&self) -> String {
        self.key("idle")
    }

    /// LIST: ids of dead tasks.
    pub fn dead(&self) -> String {
        self.key("dead")
    }

    /// HASH: task id → its molecules as JSON, until it succeeds.
    pub fn inputs(&self) -> String {
        self.key("inputs")
    }

    /// HASH: task id → last lines of its last failed attempt, until it succeeds.
    pub fn tails(&self) -> String {
        self.key("tails")
    }

    /// HASH: task id → how far it is and its two newest bundles, until it succeeds.
    pub fn checkpoints(&self) -> String {
        self.key("checkpoints")
    }

    /// STREAM: what the programs of tasks print that somebody follows.
    pub fn live(&self) -> String {
        self.key("live")
    }

    /// STREAM: the latest transitions.
    pub fn events(&self) -> String {
        self.key("events")
    }

    /// HASH: a task's record, made when it is first leased or cancelled.
    pub fn task(&self, id: TaskId) -> String {
        self.key(&format!("task:{id}"))
    }

    /// HASH: a histogram of a phase's durations.
    pub fn stats(&self, phase: Phase) -> String {
        self.key(&format!("stats:{}", phase.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_asks_for_output_names_its_task() {
        let run: RunId = "r.1-x".parse().unwrap();
        assert_eq!(followed(&follow_message(&run, TaskId(42))), Some((run.clone(), TaskId(42))));
        assert_eq!(followed(&RunKeys::new(&run).run()), None);
    }
}
