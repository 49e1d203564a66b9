//! A stand-in for `nvidia-smi`, on machines that have no GPU: it says what a real one said.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::Lab;

impl Lab {
    /// Lets the lab's machine say this of its GPUs: to the query, to `--list-gpus`, and of their MIG modes.
    pub fn has_gpus(&self, query: &str, list: &str, modes: &str) {
        let [query, list, modes] = [("query", query), ("list", list), ("modes", modes)]
            .map(|(name, said)| self.write(&format!("smi-{name}"), said).display().to_string());
        let says = format!(
            "#!/bin/sh\ncase \"$1\" in\n--list-gpus) cat '{list}' ;;\n*mig.mode*) cat '{modes}' ;;\n*) cat '{query}' ;;\nesac\n"
        );
        self.set("nvidia-smi", &says);
        fs::set_permissions(self.path("stubs/nvidia-smi"), Permissions::from_mode(0o755)).unwrap();
    }
}
