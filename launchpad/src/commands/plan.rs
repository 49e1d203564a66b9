//! `plan`: what preemptions cost tasks of some length, from 0 each time or with checkpoints. It needs neither Redis nor a store.

use std::time::Duration;

use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::{Report, Table, duration};
use crate::survival::Weather;

/// How much longer from 0 each time may take and still be the simpler way.
const AS_GOOD: f64 = 1.03;
/// A century and some years.
const HOURS_MAX: f64 = 1e6;

/// The ways to run a task, compared. Its JSON is stable: fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Plan {
    task_hours: f64,
    /// The probability that one machine lasts for a whole task.
    survival: f64,
    ways: Vec<Way>,
    /// The way that is advised on machines that may be lost.
    advised: &'static str,
}

/// One way.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Way {
    /// `on_demand`, `atomic`, `checkpoint` or `checkpoint_best`.
    name: &'static str,
    /// Work between two checkpoints.
    every_minutes: Option<f64>,
    /// Expected, for one task.
    hours: f64,
    /// Of the task's own length.
    wasted: f64,
    usd_per_task: Option<f64>,
    /// For all tasks on the slots that there are.
    all_hours: Option<f64>,
}

/// Prints what to expect.
pub(super) fn plan(context: &Context, arguments: &cli::Plan) -> Result<(), LaunchpadError> {
    context.output.report(&Plan::of(arguments))
}

impl Plan {
    fn of(arguments: &cli::Plan) -> Self {
        let hours = arguments.hours;
        let weather = Weather {
            lost_per_hour: arguments.preempted_per_hour,
            announced: arguments.announced,
            restart_hours: arguments.restart_minutes / 60.0,
        };
        let cost = arguments.checkpoint_cost_seconds / 3600.0;
        let way = |name, every: Option<f64>, expected: f64, usd_per_hour: Option<f64>| Way {
            name,
            every_minutes: every.map(|hours| hours * 60.0),
            hours: expected,
            wasted: expected / hours - 1.0,
            usd_per_task: usd_per_hour.map(|usd| usd * expected),
            all_hours: arguments
                .tasks
                .zip(arguments.slots)
                .map(|(tasks, slots)| tasks.div_ceil(slots) as f64 * expected),
        };
        let checkpoint = |name, every: f64| {
            way(name, Some(every), weather.with_checkpoints(hours, every, cost), arguments.usd_per_hour)
        };
        let atomic = way("atomic", None, weather.atomic(hours), arguments.usd_per_hour);
        let planned = checkpoint("checkpoint", arguments.checkpoint_minutes / 60.0);
        let is_atomic_fine = atomic.hours <= AS_GOOD * planned.hours;
        let on_demand = arguments.on_demand_usd_per_hour;
        let mut ways: Vec<Way> =
            on_demand.map(|usd| way("on_demand", None, hours, Some(usd))).into_iter().collect();
        ways.extend([atomic, planned]);
        // An interval as long as the task is no checkpoint.
        let best = weather.best_interval(cost).filter(|every| *every > 0.0 && *every < hours);
        ways.extend(best.map(|every| checkpoint("checkpoint_best", every)));
        let advised = if is_atomic_fine { "atomic" } else { "checkpoint" };
        Self { task_hours: hours, survival: weather.survival(hours), ways, advised }
    }
}

impl Report for Plan {
    fn text(&self) -> String {
        let has = |what: fn(&Way) -> bool| self.ways.iter().any(what);
        let (costs, lasts) = (has(|way| way.usd_per_task.is_some()), has(|way| way.all_hours.is_some()));
        let mut headers = vec!["way", ">a task takes", ">wasted"];
        headers.extend(costs.then_some(">USD a task"));
        headers.extend(lasts.then_some(">all of them"));
        let mut table = Table::new(&headers);
        for way in &self.ways {
            let wasted = Some(way.wasted).filter(|share| share.is_finite());
            let wasted = wasted.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
            let mut cells = vec![way.title(), time(way.hours), wasted];
            let usd = || way.usd_per_task.map_or("-".to_owned(), |usd| format!("{usd:.2}"));
            cells.extend(costs.then(usd));
            cells.extend(lasts.then(|| way.all_hours.map_or("-".to_owned(), time)));
            table.row(cells);
        }
        format!(
            "{table}\n{:.0} of 100 machines last for the {} of a task. {}\n",
            self.survival * 100.0,
            time(self.task_hours),
            match self.advised {
                "atomic" =>
                    "Starting again from 0 costs next to nothing more: checkpoints are not worth their while.",
                _ => "Checkpoints are worth their while: use an engine or a driver that makes them.",
            }
        )
    }
}

/// A time that nobody lives to see is none.
fn time(hours: f64) -> String {
    let lived_to_see = Some(hours).filter(|hours| *hours < HOURS_MAX);
    let length = lived_to_see.and_then(|hours| Duration::try_from_secs_f64(hours * 3600.0).ok());
    let ms = length.and_then(|length| u64::try_from(length.as_millis()).ok());
    ms.map_or("never".to_owned(), duration)
}

impl Way {
    fn title(&self) -> String {
        match (self.name, self.every_minutes) {
            ("on_demand", _) => "on demand".to_owned(),
            ("checkpoint_best", Some(minutes)) => {
                format!("spot, a checkpoint every {minutes:.0} min, the best")
            }
            (_, Some(minutes)) => format!("spot, a checkpoint every {minutes:.0} min"),
            _ => "spot, from 0 each time".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn plan(flags: &str) -> Plan {
        let words = ["launchpad", "plan"].into_iter().chain(flags.split_whitespace());
        let crate::cli::Command::Plan(arguments) = cli::Cli::try_parse_from(words).unwrap().command else {
            panic!("it is a plan")
        };
        Plan::of(&arguments)
    }

    #[test]
    fn seven_hours_want_checkpoints_and_one_hour_does_not() {
        let long = plan("--hours 7 --preempted-per-hour 0.05 --restart-minutes 0");
        assert_eq!(long.advised, "checkpoint");
        let ways: Vec<(&str, f64)> =
            long.ways.iter().map(|way| (way.name, (way.wasted * 1000.0).round() / 10.0)).collect();
        assert_eq!(ways, [("atomic", 20.3), ("checkpoint", 1.2), ("checkpoint_best", 1.2)]);
        let short = plan("--hours 1 --preempted-per-hour 0.05 --restart-minutes 0");
        assert_eq!((short.advised, short.ways[0].wasted > 0.02), ("atomic", true));
    }

    #[test]
    fn prices_and_fleets_are_counted() {
        let plan =
            plan("--hours 7 --usd-per-hour 0.2 --on-demand-usd-per-hour 0.7 --tasks 13000 --slots 500");
        let on_demand = &plan.ways[0];
        assert_eq!((on_demand.usd_per_task, on_demand.all_hours), (Some(0.7 * 7.0), Some(182.0)));
        assert!(plan.ways[1].usd_per_task < on_demand.usd_per_task);
        let text = plan.text();
        assert!(text.contains("70 of 100 machines last for the 7 h 0 min of a task."), "{text}");
        assert!(text.contains("on demand") && text.contains("182 h 0 min"), "{text}");
    }

    #[test]
    fn a_task_that_no_machine_lasts_for_never_ends() {
        let plan = plan("--hours 100000 --preempted-per-hour 0.9");
        let line = plan.text().lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(line, "spot, from 0 each time never -");
    }

    #[test]
    fn nothing_is_lost_where_machines_stay() {
        let plan = plan("--hours 7 --preempted-per-hour 0");
        assert_eq!((plan.ways[0].wasted, plan.ways.len(), plan.advised), (0.0, 2, "atomic"));
        assert!(!plan.text().contains("USD"), "{}", plan.text());
    }
}
