//! Watches the tasks while the chaos lasts: what was seen of a success must never change, and the numbers of leases must not fall. A
//! fail-over may forget acknowledged writes, so what was seen before one is not held against what is seen after it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt as _;
use redis::AsyncCommands as _;

use super::checker::{Rule, Violation, sha256};
use super::fleet::{Fleet, View};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How many tasks of a run are looked at each time.
const SAMPLE: u64 = 12;
/// How many runs are looked at each time, the latest ones.
const RUNS: usize = 6;

/// What was seen of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sight {
    /// How many fail-overs there had been.
    fail_overs: usize,
    /// The number of its latest lease; 0 if it has none.
    number: u64,
    /// Of a success: the digest in Redis, and that of the file.
    success: Option<[String; 2]>,
}

/// All that was seen.
#[derive(Debug)]
pub(super) struct Witness {
    fleet: Arc<Fleet>,
    view: View,
    sights: HashMap<(String, u64), Sight>,
    looks: u64,
}

impl Witness {
    pub(super) async fn new(fleet: Arc<Fleet>) -> Self {
        let view = fleet.connect().await;
        Self { fleet, view, sights: HashMap::new(), looks: 0 }
    }

    /// Looks at some tasks again and again, until told to stop.
    pub(super) async fn watch(mut self, stop: tokio::sync::watch::Receiver<bool>) -> Self {
        while !*stop.borrow() {
            let runs = self.fleet.notes().runs.clone();
            for run in &runs[runs.len().saturating_sub(RUNS)..] {
                let total = self.fleet.how_far(&mut self.view, run).await.total;
                if total > 0 {
                    let first = rand::rng().random_range(0..total);
                    self.look(run, (first..total.min(first + SAMPLE)).collect()).await;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        self
    }

    /// Looks at all tasks that were seen before once more, and says how many looks there were.
    pub(super) async fn conclude(mut self) -> u64 {
        let seen: Vec<(String, u64)> = self.sights.keys().cloned().collect();
        for (run, task) in seen {
            self.look(&run, vec![task]).await;
        }
        self.looks
    }

    async fn look(&mut self, run: &str, tasks: Vec<u64>) {
        for task in tasks {
            // What the old primary still answers while it is given up belongs to its own time.
            self.view.renew(&self.fleet).await;
            let fail_overs = self.view.fail_overs;
            let fields = ["state", "lease", "shard_sha256"];
            let key = format!("molfleet:{{{run}}}:task:{task}");
            // While Redis is away, there is nothing to see.
            let Ok(read) = self.view.connection.hmget::<_, _, Vec<Option<String>>>(key, &fields).await else {
                return;
            };
            let [state, lease, digest] =
                [0, 1, 2].map(|index| read.get(index).cloned().flatten().unwrap_or_default());
            let success = (state == "succeeded").then(|| [digest, sha256(&self.shard(run, task))]);
            let number = lease.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
            let sight = Sight { fail_overs, number, success };
            self.looks += 1;
            let before = self.sights.insert((run.to_owned(), task), sight.clone());
            if let Some(violation) = before.and_then(|before| compare(run, task, &before, &sight)) {
                self.fleet.notes().violations.push(violation);
            }
        }
    }

    fn shard(&self, run: &str, task: u64) -> Vec<u8> {
        let path: PathBuf = self.fleet.lab.object(run, &format!("shards/shard_{task:07}.csv"));
        fs::read(path).unwrap_or_default()
    }
}

/// What must not have happened between two looks.
fn compare(run: &str, task: u64, before: &Sight, now: &Sight) -> Option<Violation> {
    if now.fail_overs != before.fail_overs {
        return None;
    }
    if now.number < before.number {
        let what = format!("{run}: task {task} had lease number {}, then {}", before.number, now.number);
        return Some(Violation::new(Rule::LeaseNumbers, what));
    }
    if before.success.is_some() && before.success != now.success {
        let what =
            format!("{run}: task {task} had succeeded with {:?}, then {:?}", before.success, now.success);
        return Some(Violation::new(Rule::Unchanged, what));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_fall_and_successes_stay() {
        let sight = |number, digest: Option<&str>| Sight {
            fail_overs: 0,
            number,
            success: digest.map(|one| [one.into(), one.into()]),
        };
        let check = |before: Sight, now: Sight, rule: Option<Rule>| {
            assert_eq!(compare("r", 0, &before, &now).map(|violation| violation.rule), rule);
        };
        check(sight(1, None), sight(2, None), None);
        check(sight(2, None), sight(2, Some("a")), None);
        check(sight(2, Some("a")), sight(2, Some("a")), None);
        check(sight(2, None), sight(1, None), Some(Rule::LeaseNumbers));
        check(sight(2, Some("a")), sight(2, Some("b")), Some(Rule::Unchanged));
        check(sight(2, Some("a")), sight(3, None), Some(Rule::Unchanged));
        check(sight(2, Some("a")), Sight { fail_overs: 1, ..sight(1, None) }, None);
    }
}
