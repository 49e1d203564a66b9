//! What the registry shows of a worker.

use common::queue::QUARANTINED;
use common::task::RunId;

use super::Dispatcher;
use crate::gpus::Gpu;
use crate::heartbeat::Card;

impl Dispatcher {
    /// The heartbeat writes it to the registry.
    pub(super) fn show_card(&self) {
        self.held.show(self.card());
    }

    /// What the registry shows.
    pub(super) fn card(&self) -> Card {
        let config = &self.shared.config;
        let tasks: Vec<String> = self.running.keys().map(|(run, task, _)| format!("{run}/{task}")).collect();
        let mut fields = vec![
            ("host", self.place.host.clone()),
            ("pid", std::process::id().to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("slots", config.cores.to_string()),
            ("tasks", tasks.join(" ")),
            ("state", self.state().to_owned()),
        ];
        if !self.shared.gpus.ours.is_empty() {
            let gpus: Vec<_> = self.shared.gpus.ours.iter().map(Gpu::account).collect();
            fields.push(("gpus", gpus.join("; ")));
        }
        fields.extend(config.region.clone().map(|region| ("region", region)));
        fields.extend(config.machine_type.clone().map(|kind| ("machine_type", kind)));
        if !config.runs.is_empty() {
            let runs: Vec<_> = config.runs.iter().map(RunId::as_str).collect();
            fields.push(("runs", runs.join(" ")));
        }
        let mut moments = vec![("started_at", self.started_at)];
        if let Some(quarantine) = &self.quarantine {
            moments.push(("quarantined_at", quarantine.since));
            fields.push(("quarantine", quarantine.why.clone()));
        }
        if let Some((since, times)) = self.watchdog.unfed() {
            moments.push(("unfed_since", since));
            fields.push(("reconnects", times.to_string()));
        } else if self.watchdog.has_ever_barked() {
            // What a card once had stays until it is written again.
            fields.extend(["unfed_since", "reconnects"].map(|name| (name, String::new())));
        }
        Card { fields, moments }
    }

    fn state(&self) -> &'static str {
        if self.quarantine.is_some() {
            QUARANTINED
        } else if self.leave_by.is_some() {
            "leaving"
        } else if self.disk_full {
            "disk full"
        } else if self.machine_faults > 0 {
            "recovering"
        } else if self.running.is_empty() {
            "idle"
        } else {
            "working"
        }
    }
}
