//! Between which times the rest of a run will probably end, from how long its tasks took so far. Pure.

use common::queue::{Progress, RunInfo};

use super::PhaseQuantiles;

/// Fewer successes say nothing about a quickest and a slowest tenth.
const SUCCESSES_MIN: u64 = 10;

/// Seconds left if every task took as long as the tenth percentile of the successes so far, and as the ninetieth, with as many at
/// work as now. The tasks at work are taken for almost done at the low end and for just begun at the high end; the estimate by the
/// rate, if there is one, lies within. `None` while nothing is at work, or too little is known.
pub(super) fn seconds_left(
    total: &PhaseQuantiles,
    info: &RunInfo,
    progress: &Progress,
    by_rate: Option<u64>,
) -> Option<(u64, u64)> {
    let at_work = progress.leased;
    if at_work == 0 || total.count < SUCCESSES_MIN {
        return None;
    }
    let open = info.spec.manifest.tasks.saturating_sub(progress.terminal());
    let seconds = |tasks: u64, ms: u64| tasks.saturating_mul(ms).div_ceil(at_work).div_ceil(1000);
    let low = seconds(open.saturating_sub(at_work), total.p10_ms?);
    let high = seconds(open, total.p90_ms?);
    Some((by_rate.map_or(low, |point| low.min(point)), by_rate.map_or(high, |point| high.max(point))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_status::why::tests::info;

    const TOTAL: PhaseQuantiles =
        PhaseQuantiles { count: 100, p10_ms: Some(2_000), p50_ms: Some(3_000), p90_ms: Some(6_000) };

    /// A run of ten tasks.
    fn check(
        total: PhaseQuantiles,
        succeeded: u64,
        leased: u64,
        by_rate: Option<u64>,
        expect: Option<(u64, u64)>,
    ) {
        let progress = Progress { total: 10, succeeded, leased, ..Progress::default() };
        assert_eq!(seconds_left(&total, &info(), &progress, by_rate), expect);
    }

    #[test]
    fn the_band_is_that_of_quick_and_of_slow_tasks() {
        // Eight are open, two at work: 6 · 2 s / 2 and 8 · 6 s / 2.
        check(TOTAL, 2, 2, Some(12), Some((6, 24)));
        // The last ones may end now or take their whole time.
        check(TOTAL, 8, 2, Some(3), Some((0, 6)));
    }

    #[test]
    fn the_estimate_by_the_rate_lies_within() {
        check(TOTAL, 2, 2, Some(4), Some((4, 24)));
        check(TOTAL, 2, 2, Some(100), Some((6, 100)));
        check(TOTAL, 2, 2, None, Some((6, 24)));
    }

    #[test]
    fn without_work_or_knowledge_there_is_no_band() {
        check(TOTAL, 2, 0, Some(12), None);
        check(PhaseQuantiles { count: 9, ..TOTAL }, 2, 2, Some(12), None);
        check(PhaseQuantiles { count: 10, p10_ms: None, p50_ms: None, p90_ms: None }, 2, 2, None, None);
    }
}
