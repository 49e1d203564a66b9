//! How many tasks are best run side by side on a machine, by what trials with different numbers of them took. Pure.

use std::collections::BTreeSet;

use common::queue::TaskInfo;
use common::task::RunId;
use serde::Serialize;

use crate::output::{Report, Table, duration};
use crate::trial_report::Tried;

/// How much of the best pace is as good as the best: trials as short as these do not tell less apart.
const AS_GOOD: f64 = 0.95;
const MS_PER_HOUR: f64 = 3_600_000.0;

/// What trials with different numbers of tasks side by side took. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
pub(crate) struct TuneReport {
    pub(crate) levels: Vec<Level>,
    /// The fewest side by side that do about as much as any; `None` if nothing could be measured.
    best: Option<u32>,
    #[serde(skip)]
    threads_per_task: u32,
}

/// A trial with one number of tasks side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Level {
    pub(crate) run: RunId,
    pub(crate) side_by_side: u32,
    /// The most that really ran at once, among those that were scored.
    pub(crate) at_once: u32,
    /// Workers that did so.
    workers: usize,
    ok: u64,
    bad: u64,
    dead: u64,
    /// From lease to record, of those that were scored.
    mean_ms: Option<u64>,
    /// While as many as may ran; `None` if that was never so.
    molecules_per_hour: Option<f64>,
    usd_per_1000: Option<f64>,
}

/// When a task was leased and recorded, in ms of the clock of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    leased: u64,
    recorded: u64,
}

impl Level {
    /// Sums up a trial, on a machine that costs so much.
    pub(crate) fn new(
        run: RunId,
        side_by_side: u32,
        tried: &[(Tried, TaskInfo)],
        usd_per_hour: Option<f64>,
    ) -> Self {
        let count = |verdict: &str| tried.iter().filter(|(tried, _)| tried.verdict == verdict).count() as u64;
        let scored = || tried.iter().filter(|(tried, _)| tried.verdict == "ok");
        let spans: Vec<Span> = scored().filter_map(|(_, info)| Span::of(info)).collect();
        let workers: BTreeSet<_> =
            scored().filter_map(|(_, info)| Some(&info.lease.as_ref()?.worker)).collect();
        let molecules_per_hour = pace(&spans);
        let (ok, bad) = (count("ok"), count("bad"));
        Self {
            run,
            side_by_side,
            at_once: at_once(&spans),
            workers: workers.len(),
            ok,
            bad,
            dead: tried.len() as u64 - ok - bad,
            mean_ms: spans.iter().map(Span::ms).sum::<u64>().checked_div(spans.len() as u64),
            molecules_per_hour,
            usd_per_1000: usd_per_hour.zip(molecules_per_hour).map(|(usd, pace)| usd * 1000.0 / pace),
        }
    }

    /// Whether as many ran as were to, all of them well, so that it tells of its number.
    pub(crate) fn tells(&self) -> bool {
        self.dead == 0 && self.at_once >= self.side_by_side && self.molecules_per_hour.is_some()
    }

    /// What speaks against its number.
    fn doubt(&self) -> Option<String> {
        let Self { side_by_side, at_once, dead, workers, ok, bad, run, .. } = self;
        if *dead > 0 {
            Some(format!(
                "With {side_by_side} side by side {dead} of {} came to nothing: `launchpad tasks {run} --state dead` tells why.",
                ok + bad + dead
            ))
        } else if at_once < side_by_side {
            Some(format!(
                "No more than {at_once} of {side_by_side} ran at once: the worker needs room for them, by --cores or --tasks-per-gpu."
            ))
        } else if *workers > 1 {
            Some(format!(
                "{workers} workers ran those {side_by_side}: to tell of one machine, let only its worker serve `{run}`."
            ))
        } else {
            None
        }
    }
}

impl Span {
    fn of(info: &TaskInfo) -> Option<Self> {
        let timings = info.timings?;
        Some(Self { leased: timings.moments.leased, recorded: timings.completed? })
    }

    fn ms(&self) -> u64 {
        self.recorded.saturating_sub(self.leased)
    }
}

/// Tasks done in an hour at the pace from the first lease to the last one, during which a task followed each that ended. Of a task
/// that was under way at the last lease its part until then counts, in proportion to its time.
fn pace(spans: &[Span]) -> Option<f64> {
    let (first, last) =
        (spans.iter().map(|span| span.leased).min()?, spans.iter().map(|span| span.leased).max()?);
    let done = |span: &Span| match span.ms() {
        0 => 1.0,
        ms => (last - span.leased).min(ms) as f64 / ms as f64,
    };
    (last > first).then(|| spans.iter().map(done).sum::<f64>() / (last - first) as f64 * MS_PER_HOUR)
}

/// The most that were under way at one moment. One that ends as another begins has made room for it.
fn at_once(spans: &[Span]) -> u32 {
    let mut steps: Vec<(u64, i32)> =
        spans.iter().flat_map(|span| [(span.leased, 1), (span.recorded, -1)]).collect();
    steps.sort_unstable();
    let levels = steps.iter().scan(0, |under_way, (_, step)| {
        *under_way += step;
        Some(*under_way)
    });
    levels.max().and_then(|most| u32::try_from(most).ok()).unwrap_or(0)
}

impl TuneReport {
    /// Compares trials, the one with the fewest side by side first.
    pub(crate) fn new(levels: Vec<Level>, threads_per_task: u32) -> Self {
        let pace = |level: &Level| level.molecules_per_hour.filter(|_| level.tells());
        let top = levels.iter().filter_map(pace).reduce(f64::max);
        let is_as_good =
            |level: &&Level| pace(level).zip(top).is_some_and(|(pace, top)| pace >= AS_GOOD * top);
        let best = levels.iter().find(is_as_good).map(|level| level.side_by_side);
        Self { levels, best, threads_per_task }
    }

    /// Whether any number was measured.
    pub(crate) const fn has_best(&self) -> bool {
        self.best.is_some()
    }
}

impl Report for TuneReport {
    fn text(&self) -> String {
        let headers =
            [">side by side", ">ok", ">bad", ">dead", ">time each", ">molecules/h", ">gain", ">USD/1,000"];
        let shows_cost = self.levels.iter().any(|level| level.usd_per_1000.is_some());
        let columns = if shows_cost { headers.len() } else { headers.len() - 1 };
        let mut table = Table::new(&headers[..columns]);
        let first = self.levels.iter().find_map(|level| level.molecules_per_hour);
        let number = |value: Option<f64>, digits: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        for level in &self.levels {
            let gain = level.molecules_per_hour.zip(first).map(|(pace, first)| pace / first);
            let cells = [
                level.side_by_side.to_string(),
                level.ok.to_string(),
                level.bad.to_string(),
                level.dead.to_string(),
                level.mean_ms.map_or("-".to_owned(), duration),
                number(level.molecules_per_hour, 1),
                number(gain, 2),
                number(level.usd_per_1000, 3),
            ];
            table.row(cells.into_iter().take(columns));
        }
        let doubts: String = self.levels.iter().filter_map(Level::doubt).map(|doubt| doubt + "\n").collect();
        let runs: Vec<&str> = self.levels.iter().map(|level| level.run.as_str()).collect();
        format!(
            "{table}\n{doubts}{}`launchpad remove RUN --outputs` forgets each of {}.\n",
            self.advice(),
            runs.join(", ")
        )
    }
}

impl TuneReport {
    fn advice(&self) -> String {
        let Some(best) = self.best else { return String::new() };
        let cores = u64::from(best) * u64::from(self.threads_per_task);
        format!(
            "{best} side by side do about as much as any number here: `worker --cores {cores}`, or on one GPU `--tasks-per-gpu {best}`.\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans(spans: &[(u64, u64)]) -> Vec<Span> {
        spans.iter().map(|(leased, recorded)| Span { leased: *leased, recorded: *recorded }).collect()
    }

    fn level(side_by_side: u32, at_once: u32, dead: u64, pace: Option<f64>) -> Level {
        Level {
            run: format!("r-tune-{side_by_side}").parse().unwrap(),
            side_by_side,
            at_once,
            workers: 1,
            ok: 4,
            bad: 0,
            dead,
            mean_ms: Some(1500),
            molecules_per_hour: pace,
            usd_per_1000: None,
        }
    }

    #[test]
    fn the_pace_is_that_of_full_slots() {
        let per_hour = |list| pace(&spans(list)).map(f64::round);
        // One after the other, 10 s each.
        assert_eq!(per_hour(&[(0, 10_000), (10_000, 20_000)]), Some(360.0));
        // Two at a time; the last one runs alone at the end, which tells nothing.
        assert_eq!(per_hour(&[(0, 10_000), (0, 10_000), (10_000, 20_000), (10_000, 30_000)]), Some(720.0));
        // Of the long one half was done when the last one began.
        assert_eq!(per_hour(&[(0, 20_000), (0, 10_000), (10_000, 20_000)]), Some(540.0));
        assert_eq!(per_hour(&[(0, 10_000), (0, 9_000)]), None, "no lease followed another");
        assert_eq!(per_hour(&[]), None);
        assert_eq!(per_hour(&[(5, 5), (3_605, 3_605)]), Some(2000.0), "without any time");
    }

    #[test]
    fn what_ran_at_once_is_counted() {
        assert_eq!(at_once(&spans(&[(0, 10), (10, 20)])), 1);
        assert_eq!(at_once(&spans(&[(0, 10), (9, 20), (15, 16)])), 2);
        assert_eq!(at_once(&[]), 0);
    }

    #[test]
    fn the_fewest_that_do_as_much_are_best() {
        let best = |levels: Vec<Level>| TuneReport::new(levels, 2).best;
        let paces = |paces: [f64; 3]| {
            [1, 2, 4].into_iter().zip(paces).map(|(n, pace)| level(n, n, 0, Some(pace))).collect::<Vec<_>>()
        };
        assert_eq!(best(paces([100.0, 190.0, 195.0])), Some(2));
        assert_eq!(best(paces([100.0, 190.0, 300.0])), Some(4));
        assert_eq!(best(paces([100.0, 90.0, 80.0])), Some(1));
        assert_eq!(best(vec![]), None);
    }

    #[test]
    fn what_does_not_tell_of_its_number_is_named_and_not_chosen() {
        let levels =
            vec![level(1, 1, 0, Some(100.0)), level(2, 2, 3, Some(400.0)), level(4, 3, 0, Some(500.0))];
        let report = TuneReport::new(levels, 2);
        assert_eq!(report.best, Some(1));
        let text = report.text();
        assert!(
            text.contains("With 2 side by side 3 of 7 came to nothing: `launchpad tasks r-tune-2"),
            "{text}"
        );
        assert!(text.contains("No more than 3 of 4 ran at once"), "{text}");
        assert!(text.contains("`worker --cores 2`, or on one GPU `--tasks-per-gpu 1`"), "{text}");
        assert!(!text.contains("USD"), "{text}");
    }

    proptest! {
        #[test]
        fn slots_that_never_wait_have_the_pace_of_their_tasks(slots in 1u64..9, rounds in 2u64..5, ms in 1u64..100_000) {
            let tasks = (0..slots).flat_map(|_| (0..rounds).map(|round| (round * ms, (round + 1) * ms)));
            let found = pace(&spans(&tasks.collect::<Vec<_>>())).unwrap();
            let expected = slots as f64 / ms as f64 * MS_PER_HOUR;
            prop_assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
        }
    }
}
