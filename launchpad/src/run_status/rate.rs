//! Molecules per second, and how long the rest will take. Pure.

use common::queue::{Event, Progress, RunInfo};

/// How far back *recent* goes.
const WINDOW_MS: u64 = 300_000;

/// Molecules per second over the last five minutes, or over as much of them as the events (the newest first) cover.
pub(super) fn recent(events: &[Event], now_ms: u64) -> f64 {
    let from = now_ms.saturating_sub(WINDOW_MS);
    let work = || events.iter().filter(|event| is_work(event));
    let window = || work().filter(|event| event.at_ms >= from);
    let molecules: u64 =
        window().filter_map(|event| event.fields.get("molecules")?.parse::<u64>().ok()).sum();
    // Work that began before the window filled all of it.
    let oldest = work().map(|event| event.at_ms).min().unwrap_or(from);
    per_second(molecules, now_ms.saturating_sub(oldest.max(from)))
}

/// Whether it is a worker that tells of itself, not a person. Only `complete` has molecules.
fn is_work(event: &Event) -> bool {
    let verb = event.fields.get("verb").map(String::as_str);
    matches!(verb, Some("lease" | "complete" | "fail" | "release"))
}

/// Molecules per second from the push to the last end.
pub(super) fn overall(info: &RunInfo, progress: &Progress) -> f64 {
    let ended = info.last_terminal_at_ms.unwrap_or(info.pushed_at_ms);
    per_second(progress.molecules_ok + progress.molecules_bad, ended.saturating_sub(info.pushed_at_ms))
}

/// What is left at this rate, if each open task has as many molecules as the average one.
pub(super) fn seconds_left(rate: f64, info: &RunInfo, progress: &Progress) -> Option<u64> {
    let manifest = &info.spec.manifest;
    let open = manifest.tasks.saturating_sub(progress.terminal());
    if rate <= 0.0 || open == 0 {
        return None;
    }
    let molecules = open as f64 * manifest.molecules as f64 / manifest.tasks as f64;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive; a float beyond u64 saturates"
    )]
    Some((molecules / rate).ceil() as u64)
}

/// Rounded to 0.001, so that JSON stays readable. Spans below a second count as one: nothing is known about so little time.
fn per_second(molecules: u64, ms: u64) -> f64 {
    let rate = molecules as f64 * 1000.0 / ms.max(1000) as f64;
    (rate * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at_ms: u64, verb: &str, molecules: u64) -> Event {
        let mut fields = vec![("verb".to_owned(), verb.to_owned())];
        if verb == "complete" {
            fields.push(("molecules".to_owned(), molecules.to_string()));
        }
        Event { at_ms, fields: fields.into_iter().collect() }
    }

    #[test]
    fn the_rate_counts_molecules_of_successes_over_the_time_they_took() {
        let check = |events: &[Event], now_ms: u64, expect: f64| {
            assert!((recent(events, now_ms) - expect).abs() < 1e-9, "{} {expect}", recent(events, now_ms));
        };
        check(&[], 1_000_000, 0.0);
        check(
            &[event(990_000, "complete", 5), event(960_000, "lease", 0), event(800_000, "push", 0)],
            1_000_000,
            0.125,
        );
        // Work before the window fills all of it, and does not count.
        check(&[event(990_000, "complete", 30), event(600_000, "complete", 99)], 1_000_000, 0.1);
        check(&[event(1_000_000, "complete", 3)], 1_000_000, 3.0);
    }
}
