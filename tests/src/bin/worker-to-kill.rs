//! Stands for a worker that is killed: runs one shell script as its engine, under a guardian, until then.
//!
//! Usage: `worker-to-kill <guardian executable> <marker> <folder> <script>`. It decides nothing and is no part of the product.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::watch;
use worker::process::{Guardian, Launcher, Program, engine_environment};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [exe, marker, folder, script] = <[String; 4]>::try_from(arguments)
        .ok()
        .context("expected guardian executable, marker, folder and script")?;
    let guardian = Guardian::start(exe.as_ref(), &["guardian", &marker], &marker).await?;
    let folder = PathBuf::from(folder);
    let program = Program {
        argv: vec!["/bin/sh".into(), "-c".into(), script],
        env: engine_environment("/usr/bin:/bin".as_ref(), &folder, 1, &[]),
        folder,
        cores: Vec::new(),
        logs: None,
        time_limit: Duration::from_mins(10),
        grace: Duration::from_secs(1),
    };
    let (_sender, stop) = watch::channel(false);
    Launcher::new(guardian).run(&program, stop).await?;
    Ok(())
}
