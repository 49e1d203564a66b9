//! What the registry shows of a worker.

use common::queue::{QUARANTINED, WorkerCard};

use super::Dispatcher;
use crate::gpus::Gpu;

impl Dispatcher {
    /// The heartbeat writes it to the registry.
    pub(super) fn show_card(&self) {
        self.held.show(self.card());
    }

    /// What the registry shows.
    pub(super) fn card(&self) -> WorkerCard {
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
        if let Some(quarantine) = &self.quarantine {
            fields.push(("quarantined_at", quarantine.since_ms.to_string()));
            fields.push(("quarantine", quarantine.why.clone()));
        }
        WorkerCard { fields }
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
