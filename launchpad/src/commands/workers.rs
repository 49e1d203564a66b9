//! `workers`: the registry, one line per worker that was seen in the last days.

use common::excerpt::excerpt;
use common::queue::{WORKER_GONE_MS, WORKER_SILENT_MS, WorkerInfo};
use common::task::WorkerId;
use serde::Serialize;

use super::Context;
use crate::error::LaunchpadError;
use crate::output::{Report, Table, duration};

/// A worker. Its JSON is stable: fields are added, never renamed. What a worker did not tell is absent.
#[derive(Debug, Serialize)]
struct WorkerLine {
    id: WorkerId,
    host: Option<String>,
    region: Option<String>,
    machine_type: Option<String>,
    /// What it said of itself, or `silent` or `gone` if it should have been seen since; a quarantined one is shown as such when it is gone, too.
    state: String,
    /// Cores that it shares out.
    slots: Option<u64>,
    /// What it works on, each as `<run>/<task>`.
    tasks: Vec<String>,
    seen_ms_ago: u64,
    /// How long it has been there; of a silent or gone one, until it was last seen.
    up_ms: Option<u64>,
    version: Option<String>,
    /// Why it leases no more, if it is quarantined.
    quarantine: Option<String>,
    /// For how long.
    quarantined_ms_ago: Option<u64>,
}

impl WorkerLine {
    fn new(mut worker: WorkerInfo, now_ms: u64) -> Self {
        let seen_ms_ago = now_ms.saturating_sub(worker.seen_ms);
        let last_ms = if seen_ms_ago > WORKER_SILENT_MS { worker.seen_ms } else { now_ms };
        let is_quarantined = worker.is_quarantined();
        let mut take = |field: &str| worker.fields.remove(field).filter(|value| !value.is_empty());
        let state = take("state").unwrap_or_default();
        let quarantined_at = take("quarantined_at").and_then(|at| at.parse::<u64>().ok());
        let started_ms = take("started_at").and_then(|at| at.parse::<u64>().ok());
        Self {
            host: take("host"),
            region: take("region"),
            machine_type: take("machine_type"),
            state: match seen_ms_ago {
                _ if is_quarantined => state,
                ago if ago > WORKER_GONE_MS => "gone".to_owned(),
                ago if ago > WORKER_SILENT_MS => "silent".to_owned(),
                _ => state,
            },
            slots: take("slots").and_then(|slots| slots.parse().ok()),
            tasks: take("tasks").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            seen_ms_ago,
            up_ms: started_ms.map(|at| last_ms.saturating_sub(at)),
            version: take("version"),
            quarantine: take("quarantine"),
            quarantined_ms_ago: quarantined_at.map(|at| now_ms.saturating_sub(at)),
            id: worker.id,
        }
    }

    /// A sentence on why it is quarantined, if it is.
    fn quarantined(&self) -> Option<String> {
        let why = excerpt(self.quarantine.as_ref()?);
        let time = self.quarantined_ms_ago.map_or_else(String::new, |ms| format!(" for {}", duration(ms)));
        Some(format!("{} is quarantined{time}: {why}", self.id))
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Workers(Vec<WorkerLine>);

/// Lists the workers, the one seen last in front.
pub(super) async fn workers(context: &Context) -> Result<(), LaunchpadError> {
    let queue = context.location.queue()?;
    let registered = queue.workers().await?;
    let now_ms = queue.now_ms().await?;
    let lines = registered.into_iter().map(|worker| WorkerLine::new(worker, now_ms)).collect();
    context.output.report(&Workers(lines))
}

impl Report for Workers {
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "No worker was seen. `worker --run RUN` starts one.\n".into();
        }
        let columns =
            ["worker", "state", ">seen", ">up", ">slots", "host", "region", "machine", "version", "tasks"];
        let mut table = Table::new(&columns);
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        for worker in &self.0 {
            table.row([
                worker.id.to_string(),
                worker.state.clone(),
                format!("{} ago", duration(worker.seen_ms_ago)),
                worker.up_ms.map_or_else(|| "-".to_owned(), duration),
                worker.slots.map_or_else(|| "-".to_owned(), |slots| slots.to_string()),
                shown(&worker.host),
                shown(&worker.region),
                shown(&worker.machine_type),
                shown(&worker.version),
                worker.tasks.join(" "),
            ]);
        }
        let notes = self.0.iter().filter_map(WorkerLine::quarantined).map(|note| note + "\n");
        table.to_string() + &notes.collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_no_sign_is_silent_and_then_gone_and_up_no_more() {
        let now_ms = 10_000_000;
        let line = |ago: u64, state: &str| {
            let started = (now_ms - 300_000).to_string();
            let fields = [("state", state.to_owned()), ("started_at", started)];
            let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
            let worker = WorkerInfo { id: "w".parse().unwrap(), seen_ms: now_ms - ago, fields };
            let line = WorkerLine::new(worker, now_ms);
            (line.state, line.up_ms.unwrap())
        };
        assert_eq!(line(55_000, "working"), ("working".to_owned(), 300_000));
        assert_eq!(line(60_001, "working"), ("silent".to_owned(), 239_999));
        assert_eq!(line(90_001, "idle"), ("gone".to_owned(), 209_999));
        assert_eq!(line(90_001, "quarantined"), ("quarantined".to_owned(), 209_999));
    }
}
