//! Tests: a worker whose heartbeat or recorder has ended says so and leaves. The faults are injected; Redis is not there at all, so that
//! nothing else can make it leave.

use std::path::Path;

use clap::Parser as _;
use tokio::sync::mpsc;

use super::*;
use crate::cache::Cache;
use crate::completions::Completions;
use crate::config::CommandLine;
use crate::cores::Cores;
use crate::gpus::Gpus;
use crate::process::{Guardian, Launcher};
use crate::scratch::ScratchRoot;

/// A worker over a Redis that is not there, with this recorder and this way from the heartbeat.
async fn dispatcher(
    folder: &Path,
    completions: fn(Queue) -> Completions,
    heard: mpsc::UnboundedReceiver<Heard>,
) -> Dispatcher {
    let (scratch, cache) = (folder.join("scratch"), folder.join("cache"));
    let line = ["worker", "--redis", "redis://127.0.0.1:1", "--exit-when", "never", "--cores", "1"];
    let folders = ["--scratch", scratch.to_str().unwrap(), "--cache", cache.to_str().unwrap()];
    let config = CommandLine::parse_from([&line[..], &folders].concat()).arguments.resolve().unwrap();
    let worker: WorkerId = "w".parse().unwrap();
    let (queue, wakes) = Queue::open_listening(config.redis.clone(), &worker).unwrap();
    // It guards nothing: no engine is started here.
    let guardian = Guardian::start(Path::new("/bin/sh"), &["-c", "echo ready; exec cat"], "w").await.unwrap();
    let shared = Shared {
        completions: completions(queue.clone()),
        queue: queue.clone(),
        launcher: Launcher::new(guardian),
        cores: Cores::default(),
        gpus: Gpus::default(),
        cache: Cache::open(&config.cache),
        scratch: ScratchRoot::open(&config.scratch, &worker).unwrap(),
        config,
    };
    Dispatcher::new(Parts {
        shared: Arc::new(shared),
        worker,
        place: Place { host: "here".into(), region: None, machine_type: None },
        open_store: |_| unreachable!("no run is served"),
        held: Held::default(),
        heard,
        wakes,
        heartbeats: queue,
        notices: mpsc::channel(1).1,
    })
}

#[tokio::test]
async fn a_worker_whose_heartbeat_has_ended_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let held = Held::default();
    let heartbeats = Queue::open("redis://127.0.0.1:1").unwrap();
    let heard = crate::heartbeat::start(heartbeats, "w".parse().unwrap(), held.clone()).unwrap();
    held.make_its_reader_panic();
    let dispatcher = dispatcher(folder.path(), Completions::start, heard).await;
    assert!(matches!(dispatcher.run().await.unwrap(), Left::WorkRemains));
}

#[tokio::test]
async fn a_worker_whose_recorder_has_ended_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (_kept, heard) = mpsc::unbounded_channel();
    let dispatcher = dispatcher(folder.path(), |_| Completions::that_panic(true), heard).await;
    assert!(matches!(dispatcher.run().await.unwrap(), Left::WorkRemains));
}
