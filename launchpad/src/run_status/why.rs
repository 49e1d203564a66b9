//! Why a run is where it is: the one thing that a person should know or do now. Pure.

use common::queue::{Progress, RunInfo};
use common::task::RunId;

/// Who there is to do the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hands {
    /// Workers were seen lately and have not said goodbye.
    Some,
    /// None is there.
    None,
    /// All that were seen lately, so many, are quarantined.
    Quarantined(usize),
}

/// The first of these that is true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Sealed, and every task has ended.
    Drained { dead: u64, cancelled: u64 },
    /// The same, and not one molecule is ok.
    AllBad { bad: u64 },
    /// Paused, with the reason.
    Paused { why: String, leased: u64 },
    /// The push has not finished, and everything that it brought has ended.
    Unsealed { total: u64, tasks: u64 },
    /// There is work and nobody to do it.
    NoWorker { open: u64, leased: u64 },
    /// There is work, nobody does any of it, and all workers are quarantined.
    Quarantined { open: u64, workers: usize },
    /// As many tasks are worked on as may be.
    Cap { parallelism: u64, pending: u64 },
    /// It goes on.
    Running { leased: u64, pending: u64 },
    /// All that is left waits after a failure.
    Delayed { delayed: u64 },
    /// Workers are there and will ask within seconds.
    Idle { pending: u64 },
}

impl Why {
    /// Finds it.
    pub(crate) fn find(info: &RunInfo, progress: &Progress, hands: Hands) -> Self {
        let Progress { total, leased, pending, delayed, dead, cancelled, .. } = *progress;
        let (open, parallelism) = (total - progress.terminal(), info.limits.parallelism);
        match (&info.paused, hands) {
            _ if open == 0 && info.sealed && is_all_bad(progress) => {
                Self::AllBad { bad: progress.molecules_bad }
            }
            _ if open == 0 && info.sealed => Self::Drained { dead, cancelled },
            (Some(why), _) => Self::Paused { why: why.clone(), leased },
            _ if open == 0 => Self::Unsealed { total, tasks: info.spec.manifest.tasks },
            (None, Hands::None) => Self::NoWorker { open, leased },
            (None, Hands::Quarantined(workers)) if leased == 0 => Self::Quarantined { open, workers },
            _ if parallelism > 0 && leased >= parallelism && pending > 0 => {
                Self::Cap { parallelism, pending }
            }
            _ if leased > 0 => Self::Running { leased, pending },
            _ if pending == 0 => Self::Delayed { delayed },
            _ => Self::Idle { pending },
        }
    }

    /// A stable word for scripts.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Drained { .. } | Self::AllBad { .. } => "drained",
            Self::Paused { .. } => "paused",
            Self::Unsealed { .. } => "unsealed",
            Self::NoWorker { .. } => "no_worker",
            Self::Quarantined { .. } => "quarantined",
            Self::Cap { .. } => "cap",
            Self::Running { .. } => "running",
            Self::Delayed { .. } => "delayed",
            Self::Idle { .. } => "idle",
        }
    }

    /// A sentence for people.
    pub(crate) fn text(&self, run: &RunId) -> String {
        match self {
            Self::Drained { dead: 0, cancelled: 0 } => {
                format!(
                    "Every task has succeeded. `launchpad consolidate {run} -o results.csv` makes the table."
                )
            }
            Self::AllBad { bad } => format!(
                "Every task has ended, and all molecules that were tried ({bad}) are bad. {}",
                reasons(run)
            ),
            Self::Drained { dead: 0, cancelled } => format!(
                "Every task has ended; {cancelled} are cancelled. `launchpad retry {run} --cancelled` brings them back."
            ),
            Self::Drained { dead, cancelled } => format!(
                "Every task has ended; {dead} are dead and {cancelled} cancelled. `launchpad show {run} TASK` tells why."
            ),
            Self::Paused { why, leased } => {
                format!("Paused ({why}): {leased} tasks still run. `launchpad resume {run}` lets it go on.")
            }
            Self::Unsealed { total, tasks } => {
                format!(
                    "The push has not finished: {total} of {tasks} tasks are there. Push again, it goes on."
                )
            }
            Self::NoWorker { open, leased: 0 } => {
                format!("{open} tasks wait and no worker is there. `worker --run {run}` starts one.")
            }
            Self::NoWorker { open, leased } => format!(
                "{open} tasks are open and no worker is there; {leased} are held by vanished ones and are \
                 given out again when a worker asks. `worker --run {run}` starts one."
            ),
            Self::Quarantined { open, workers } => format!(
                "{open} tasks are open and all workers ({workers}) are quarantined: tasks came to nothing there while others \
                 succeeded. `launchpad workers` tells why."
            ),
            Self::Cap { parallelism, pending } => format!(
                "{parallelism} tasks run, as many as may; {pending} wait. `launchpad set {run} parallelism=N` changes that."
            ),
            Self::Running { leased, pending } => {
                format!("{leased} tasks run, {pending} wait for a free worker.")
            }
            Self::Delayed { delayed } => {
                format!(
                    "{delayed} tasks have failed and wait for their next try, 10 min at most unless set otherwise."
                )
            }
            Self::Idle { pending } => {
                format!(
                    "{pending} tasks wait. Workers are there and ask within seconds, unless they serve other runs."
                )
            }
        }
    }
}

/// Whether molecules were tried and not one is ok.
fn is_all_bad(progress: &Progress) -> bool {
    progress.molecules_ok == 0 && progress.molecules_bad > 0
}

/// What a person should know before anything else while the run goes on; nothing if all is as usual.
pub(super) fn alarm(progress: &Progress, run: &RunId) -> Option<String> {
    let is_over = progress.terminal() == progress.total;
    (is_all_bad(progress) && !is_over)
        .then(|| format!("All molecules so far ({}) are bad. {}", progress.molecules_bad, reasons(run)))
}

/// Where the reasons of bad molecules stand: in the shards, not in Redis.
fn reasons(run: &RunId) -> String {
    format!(
        "`launchpad tasks {run} --with bad` lists their tasks, `launchpad show {run} TASK` tells the reasons."
    )
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use common::task::{EngineOptions, Limits, ManifestDigest, RunSpec, SPEC_SCHEMA, VinaOptions};

    use super::*;

    /// A sealed run of ten tasks.
    pub(in crate::run_status) fn info() -> RunInfo {
        let vina = VinaOptions { center: [0.0; 3], size: [1.0; 3], exhaustiveness: 8, modes: 9 };
        RunInfo {
            spec: RunSpec {
                schema: SPEC_SCHEMA,
                run: "r".parse().unwrap(),
                engine: EngineOptions::Vina(vina),
                seed: 1,
                threads_per_task: 1,
                needs_gpu: false,
                inputs: BTreeMap::new(),
                drivers: BTreeMap::new(),
                manifest: ManifestDigest { sha256: String::new(), tasks: 10, molecules: 10 },
            },
            digest: String::new(),
            store: String::new(),
            limits: Limits { parallelism: 4, ..Limits::default() },
            sealed: true,
            paused: None,
            pushed_at_ms: 0,
            last_terminal_at_ms: None,
            labels: BTreeMap::new(),
        }
    }

    #[test]
    fn the_first_reason_wins() {
        type Change = fn(&mut RunInfo, &mut Progress);
        let check = |word: &str, hands: Hands, change: Change| {
            let (mut info, mut progress) = (info(), Progress { total: 10, ..Progress::default() });
            change(&mut info, &mut progress);
            assert_eq!(Why::find(&info, &progress, hands).word(), word);
        };
        check("drained", Hands::None, |_, p| p.succeeded = 10);
        check("drained", Hands::None, |i, p| (p.succeeded, p.dead, i.paused) = (9, 1, Some("x".into())));
        check("drained", Hands::None, |_, p| (p.succeeded, p.molecules_bad) = (10, 3));
        check("unsealed", Hands::Some, |i, p| (i.sealed, p.total, p.succeeded) = (false, 3, 3));
        check("paused", Hands::None, |i, p| (i.paused, p.pending) = (Some("x".into()), 10));
        check("no_worker", Hands::None, |_, p| p.pending = 10);
        check("no_worker", Hands::None, |_, p| p.leased = 10);
        check("quarantined", Hands::Quarantined(2), |_, p| p.pending = 10);
        check("running", Hands::Quarantined(2), |_, p| (p.leased, p.pending) = (1, 9));
        check("drained", Hands::Quarantined(2), |_, p| p.succeeded = 10);
        check("cap", Hands::Some, |_, p| (p.leased, p.pending) = (4, 6));
        check("running", Hands::Some, |_, p| (p.leased, p.pending) = (3, 7));
        check("running", Hands::Some, |_, p| (p.leased, p.succeeded) = (4, 6));
        check("delayed", Hands::Some, |_, p| (p.delayed, p.succeeded) = (1, 9));
        check("idle", Hands::Some, |_, p| p.pending = 10);
    }

    #[test]
    fn a_run_of_bad_molecules_is_no_success() {
        let run: RunId = "r".parse().unwrap();
        let text = |progress: &Progress| Why::find(&info(), progress, Hands::Some).text(&run);
        let mut progress = Progress { total: 10, succeeded: 10, molecules_bad: 3, ..Progress::default() };
        assert!(
            text(&progress)
                .starts_with("Every task has ended, and all molecules that were tried (3) are bad.")
        );
        assert_eq!(alarm(&progress, &run), None, "the headline says it");
        (progress.succeeded, progress.pending) = (3, 7);
        assert!(alarm(&progress, &run).unwrap().starts_with("All molecules so far (3) are bad."));
        progress.molecules_ok = 1;
        assert_eq!(alarm(&progress, &run), None);
        (progress.succeeded, progress.pending) = (10, 0);
        assert!(text(&progress).starts_with("Every task has succeeded."));
    }
}
