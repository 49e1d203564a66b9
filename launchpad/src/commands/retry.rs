//! `retry`: requeues dead or cancelled tasks, exactly those that it names, each only as it was seen. It judges no task.

use std::collections::BTreeMap;

use common::queue::{Progress, Queue, TaskInfo};
use common::task::{RunId, State, TaskId};
use regex::Regex;
use serde::Serialize;

use super::Context;
use crate::cli;
use crate::error::LaunchpadError;
use crate::output::{Report, Table, thousands};

/// Tasks per call: Redis is held for some 10 ms.
const STEP: usize = 1000;
/// Tasks that are listed in text; JSON has all.
const LISTED: usize = 20;

/// What to retry.
struct Selection<'a> {
    dead: bool,
    cancelled: bool,
    reason: Option<&'a Regex>,
    limit: usize,
}

/// A task that was chosen.
#[derive(Debug, Serialize)]
struct Chosen {
    task: TaskId,
    state: &'static str,
    reason: String,
    /// The number of its latest lease when it was chosen; 0 if it was never leased.
    #[serde(skip)]
    lease_number: u64,
}

/// What was, or would be, retried.
#[derive(Debug, Serialize)]
struct Retried {
    run: RunId,
    dry_run: bool,
    /// How many tasks fit.
    selected: u64,
    /// How many of them are pending again; fewer if somebody else was faster.
    requeued: u64,
    tasks: Vec<Chosen>,
    /// Cancelled tasks, where nothing was said about which tasks to take.
    #[serde(skip)]
    passed_over: u64,
}

/// Requeues what the selectors name.
pub(super) async fn retry(context: &Context, arguments: &cli::Retry) -> Result<(), LaunchpadError> {
    let run = &arguments.run;
    let queue = context.location.queue()?;
    let progress = queue.progress(run).await?;
    let tasks = choose(&queue, arguments, &progress).await?;
    let mut requeued = 0;
    if !arguments.dry_run {
        for step in tasks.chunks(STEP) {
            let seen: Vec<_> = step.iter().map(|chosen| (chosen.task, chosen.lease_number)).collect();
            requeued += queue.requeue(run, &seen).await?;
        }
    }
    let cli::Retry { dead, cancelled, reason, tasks: named, .. } = arguments;
    let is_selected = *dead || *cancelled || reason.is_some() || !named.is_empty();
    let passed_over = if is_selected { 0 } else { progress.cancelled };
    let (run, selected) = (run.clone(), tasks.len() as u64);
    context.output.report(&Retried {
        run,
        dry_run: arguments.dry_run,
        selected,
        requeued,
        tasks,
        passed_over,
    })
}

/// Finds the tasks, in ascending order, and looks no further than it must.
async fn choose(
    queue: &Queue,
    arguments: &cli::Retry,
    progress: &Progress,
) -> Result<Vec<Chosen>, LaunchpadError> {
    let run = &arguments.run;
    if let Some(task) = arguments.tasks.iter().find(|task| task.0 >= progress.total) {
        return Err(LaunchpadError::NoSuchTask { run: run.clone(), task: *task, tasks: progress.total });
    }
    let selection = Selection::new(arguments);
    let mut named = arguments.tasks.clone();
    named.sort_unstable();
    named.dedup();
    let mut ids: Box<dyn Iterator<Item = TaskId> + Send> = if named.is_empty() {
        Box::new((0..progress.total).map(TaskId))
    } else {
        Box::new(named.into_iter())
    };
    // What the counters have can end the walk early; what dies meanwhile is for the next call.
    let mut unseen = selection.counted(progress);
    let mut chosen = Vec::new();
    while chosen.len() < selection.limit && unseen > 0 {
        let step: Vec<TaskId> = ids.by_ref().take(STEP).collect();
        if step.is_empty() {
            break;
        }
        for (task, info) in step.iter().zip(queue.tasks(run, &step).await?) {
            unseen = unseen.saturating_sub(u64::from(selection.has_state(info.state)));
            if selection.fits(&info) && chosen.len() < selection.limit {
                chosen.push(Chosen::new(*task, info));
            }
        }
    }
    Ok(chosen)
}

impl<'a> Selection<'a> {
    fn new(arguments: &'a cli::Retry) -> Self {
        let said = arguments.dead || arguments.cancelled;
        Self {
            dead: arguments.dead || !said,
            cancelled: arguments.cancelled || (!said && !arguments.tasks.is_empty()),
            reason: arguments.reason.as_ref(),
            limit: arguments.limit.unwrap_or(usize::MAX),
        }
    }

    const fn has_state(&self, state: State) -> bool {
        match state {
            State::Dead => self.dead,
            State::Cancelled => self.cancelled,
            State::Waiting | State::Pending | State::Delayed | State::Leased | State::Succeeded => false,
        }
    }

    fn fits(&self, info: &TaskInfo) -> bool {
        let reason = info.reason.as_deref().unwrap_or_default();
        self.has_state(info.state) && self.reason.is_none_or(|wanted| wanted.is_match(reason))
    }

    fn counted(&self, progress: &Progress) -> u64 {
        [State::Dead, State::Cancelled]
            .into_iter()
            .filter(|state| self.has_state(*state))
            .map(|state| progress.of(state))
            .sum()
    }
}

impl Chosen {
    fn new(task: TaskId, info: TaskInfo) -> Self {
        Self {
            task,
            state: info.state.name(),
            reason: info.reason.unwrap_or_default(),
            lease_number: info.lease.map_or(0, |lease| lease.number),
        }
    }
}

impl Report for Retried {
    fn text(&self) -> String {
        let (run, selected) = (&self.run, thousands(self.selected));
        if self.tasks.is_empty() {
            let cancelled = match self.passed_over {
                0 => String::new(),
                cancelled => format!(" {} are cancelled: --cancelled takes those.", thousands(cancelled)),
            };
            return format!("No task of {run} fits. Nothing was changed.{cancelled}\n");
        }
        let mut table = Table::new(&[">task", "state", "reason"]);
        for chosen in self.tasks.iter().take(LISTED) {
            table.row([chosen.task.to_string(), chosen.state.to_owned(), chosen.reason.clone()]);
        }
        let more = match self.tasks.len().saturating_sub(LISTED) {
            0 => String::new(),
            more => format!("and {} more\n", thousands(more as u64)),
        };
        let done = if self.dry_run {
            format!(
                "Nothing was changed. {selected} tasks of {run} would be pending again{}.\n",
                self.reasons()
            )
        } else {
            format!("{} tasks of {run} are pending again{}.\n", thousands(self.requeued), self.reasons())
        };
        let moved = match self.selected - self.requeued {
            0 => String::new(),
            _ if self.dry_run => String::new(),
            moved => format!("{} had moved on meanwhile and were left alone.\n", thousands(moved)),
        };
        format!("{table}{more}{done}{moved}")
    }
}

impl Retried {
    /// How many were chosen for each reason.
    fn reasons(&self) -> String {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for chosen in self.tasks.iter().filter(|chosen| !chosen.reason.is_empty()) {
            *counts.entry(&chosen.reason).or_default() += 1;
        }
        let counts: Vec<_> =
            counts.iter().map(|(reason, count)| format!("{} {reason}", thousands(*count))).collect();
        if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
    }
}
