//! A model server that is a process of its own, for tests that kill it: see [`tests::ModelServer`]. It does one thing at a time, and stands still
//! over a molecule the first time that it is asked about it, until it was killed over so many of them.
//!
//! `model-server PORT FOLDER TIMES`: it writes its port into `FOLDER/port`, over what it stands still into `FOLDER/hangs`, and what it scored into
//! `FOLDER/scored`; these outlive it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tests::{Act, Asked, ModelServer};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, folder, times] = &arguments[..] else { anyhow::bail!("expected PORT FOLDER TIMES") };
    let (folder, times) = (PathBuf::from(folder), times.parse()?);
    let (script_folder, mut stands_still) = (folder.clone(), false);
    let script = move |all: &[Asked]| {
        if stands_still {
            return Act::Say(503, "", "it has something to do".to_owned());
        }
        let id = all.last().map(|asked| asked.ids().join(" ")).unwrap_or_default();
        let killed_over = fs::read_to_string(script_folder.join("hangs")).unwrap_or_default();
        stands_still = killed_over.lines().count() < times && killed_over.lines().all(|line| line != id);
        if stands_still {
            note(&script_folder, "hangs", &id);
            Act::Hang
        } else {
            note(&script_folder, "scored", &id);
            Act::Score
        }
    };
    let server = ModelServer::start_at(port.parse()?, script).await;
    fs::write(folder.join("port"), server.port().to_string())?;
    std::future::pending().await
}

/// A server that can't say what it did must not go on.
fn note(folder: &Path, file: &str, line: &str) {
    let opened = OpenOptions::new().create(true).append(true).open(folder.join(file));
    if opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())).is_err() {
        std::process::abort();
    }
}
