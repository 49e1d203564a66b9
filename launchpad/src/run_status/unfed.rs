//! Workers that have room and are given nothing while tasks of a run wait: their own watchdogs say so in the registry. Pure.

use common::queue::{Progress, RunInfo, WORKER_GONE_MS, WorkerInfo};
use common::task::RunId;

use crate::output::duration;

/// How long tasks have to be there before a worker should have asked for them, in ms: even those of the largest fleet ask each minute.
const ASKED_WITHIN_MS: u64 = 60_000;

/// A sentence about them, if there are any.
pub(super) fn text(
    run: &RunId,
    info: &RunInfo,
    progress: &Progress,
    (registered, now_ms): (&[WorkerInfo], u64),
) -> Option<String> {
    let parallelism = info.limits.parallelism;
    let may_be_given = info.paused.is_none() && (parallelism == 0 || progress.leased < parallelism);
    let is_new = now_ms < info.pushed_at_ms.saturating_add(ASKED_WITHIN_MS);
    if progress.pending == 0 || !may_be_given || is_new {
        return None;
    }
    let is_asked = |worker: &&WorkerInfo| {
        now_ms.saturating_sub(worker.seen_ms) <= WORKER_GONE_MS
            && !worker.is_quarantined()
            && worker.serves(run)
    };
    let since: Vec<u64> = registered.iter().filter(is_asked).filter_map(WorkerInfo::unfed_since_ms).collect();
    let first = *since.iter().min()?;
    let time = duration(now_ms.saturating_sub(first.max(info.pushed_at_ms)));
    Some(format!(
        "{} workers have room and were given none of the {} tasks that wait, for {time}; they have connected anew. `launchpad \
         workers` names them; their logs say whether they can serve the run, and `launchpad audit {run}` whether its list is whole.",
        since.len(),
        progress.pending
    ))
}

#[cfg(test)]
mod tests {
    use super::super::why::tests::info;
    use super::*;

    #[test]
    fn it_is_said_of_those_who_could_work_and_only_while_tasks_wait() {
        let run: RunId = "r".parse().unwrap();
        let worker = |fields: &[(&str, &str)]| WorkerInfo {
            id: "w".parse().unwrap(),
            seen_ms: 1_000_000,
            fields: fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let check = |fields: &[(&str, &str)], pending: u64, paused: Option<&str>, expect: bool| {
            let info = RunInfo { paused: paused.map(str::to_owned), ..info() };
            let progress = Progress { total: 10, pending, ..Progress::default() };
            let text = text(&run, &info, &progress, (&[worker(fields)], 1_010_000));
            assert_eq!(text.is_some(), expect, "{fields:?}: {text:?}");
            text.unwrap_or_default()
        };
        let unfed = ("unfed_since", "410000");
        let said = check(&[unfed], 3, None, true);
        assert!(
            said.contains("1 workers") && said.contains("none of the 3 tasks that wait, for 10 min"),
            "{said}"
        );
        check(&[unfed, ("runs", "q r")], 3, None, true);
        check(&[unfed, ("runs", "q rr")], 3, None, false);
        check(&[("unfed_since", "")], 3, None, false);
        check(&[unfed, ("state", "quarantined")], 3, None, false);
        check(&[unfed], 0, None, false);
        check(&[unfed], 3, Some("by hand"), false);
    }
}
