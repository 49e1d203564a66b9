//! The stream of a step of an attempt: the program, its filter, the cutting and the store, side by side.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::storage::key;
use common::task::{AttemptFile, FilterOptions, ObjectRef};
use tokio::sync::mpsc;

use super::filter::{Ceased, Filter};
use super::parts::{Cut, LineCount, Part, cut};
use super::{FilterReport, StreamReport};
use crate::attempt::{Attempt, Halt};
use crate::engine::{Step, Streaming};
use crate::objects::Objects;
use crate::process::{Ended, Program};

/// Pieces of a stream that wait in front of the filter and of the cutting, 64 KiB each.
const CHUNKS: usize = 16;
/// Where parts are made, below the folder of the step, and gone when they are stored.
const FOLDER: &str = ".stream";

/// What left the filter, or the program where there is none: how many lines the program wrote, and what the filter did.
type Filtered = Result<Option<(LineCount, FilterReport)>, Halt>;

impl Attempt {
    /// Runs a program and stores its output part by part while it runs. Parts carry the name of this attempt, so that no other one
    /// writes where this one does; those of an attempt that fails stay.
    pub(crate) async fn run_streamed(
        &mut self,
        program: &Program,
        streaming: &Streaming<'_>,
    ) -> Result<Ended, Halt> {
        let folder = program.folder.join(FOLDER);
        fs::create_dir_all(&folder)?;
        let (to, from) = mpsc::channel(CHUNKS);
        let (part_to, part_from) = mpsc::channel(1);
        let (kept_to, kept_from) = mpsc::channel(CHUNKS);
        let lines_per_part = streaming.options.lines_per_part;
        let at = folder.clone();
        let cutting = tokio::task::spawn_blocking(move || cut(kept_from, &at, lines_per_part, &part_to));
        let mut stored = Vec::new();
        let engine = self.shared.launcher.stream(program, None, to, self.control.stopping());
        let filter = self.filter(program, streaming.options.filter.as_ref(), &folder, from, kept_to);
        let (ended, filtered, cutting, uploaded) =
            tokio::join!(engine, filter, cutting, self.put_parts(&streaming.parts, part_from, &mut stored));
        self.evidence.parts.append(&mut stored);
        // Whoever fails makes the others fail: the store first, since it is behind all of them.
        uploaded?;
        let (filtered, ended) = (filtered?, ended?);
        let cut = match cutting.map_err(std::io::Error::other)? {
            // The filter went first, and its report says why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Cut::default(),
            cut => cut?,
        };
        let report = report(cut, filtered);
        let file = program.folder.join(&streaming.report);
        fs::create_dir_all(file.parent().unwrap_or(&program.folder))?;
        fs::write(file, serde_json::to_vec(&report).expect("numbers and strings always become JSON"))?;
        Ok(ended)
    }

    /// Passes the program's lines on, through the filter if there is one.
    async fn filter(
        &self,
        program: &Program,
        options: Option<&FilterOptions>,
        folder: &Path,
        mut from: mpsc::Receiver<Bytes>,
        to: mpsc::Sender<Bytes>,
    ) -> Filtered {
        let Some(options) = options else {
            while let Some(chunk) = from.recv().await {
                if to.send(chunk).await.is_err() {
                    break;
                }
            }
            return Ok(None);
        };
        let step = Step { name: "filter".to_owned(), argv: options.argv.clone(), needs: Vec::new() };
        let mut filter = Filter {
            options,
            program: self.program(&step, &program.folder, None),
            launcher: &self.shared.launcher,
            folder,
            stop: self.control.stopping(),
            report: FilterReport::default(),
        };
        let mut count = LineCount::default();
        match filter.pass(from, to, &mut count).await {
            Err(Ceased::Quietly) if *self.control.stopping().borrow() => Err(Halt::Stopped),
            Ok(()) | Err(Ceased::Fault | Ceased::Quietly) => Ok(Some((count, filter.report))),
            Err(Ceased::Spawn(error)) => Err(error.into()),
            Err(Ceased::Disk(error)) => Err(error.into()),
        }
    }

    async fn put_parts(
        &self,
        name: &str,
        mut parts: mpsc::Receiver<Part>,
        stored: &mut Vec<AttemptFile>,
    ) -> Result<(), Halt> {
        while let Some(part) = parts.recv().await {
            let path = format!("{name}_{:05}.gz", part.number);
            let object = key::attempt_file(self.grant.task, &self.grant.lease, &path);
            let pinned = ObjectRef { object, sha256: part.sha256, bytes: part.bytes };
            let file = Arc::new(File::open(&part.path)?);
            // Nobody else has this lease name, so what is there can only be a former try of this very upload.
            self.ask_store("store a part", || self.serving.store.replace_file(&pinned, &file)).await?;
            let ObjectRef { object, sha256, bytes } = pinned;
            tracing::debug!(object, bytes, "a part of the stream is stored");
            stored.push(AttemptFile { object, sha256, bytes });
            fs::remove_file(&part.path)?;
        }
        Ok(())
    }
}

impl Objects {
    /// Makes sure that every part stands in the run's store to its last byte: a disk that was away for a while may have taken some
    /// below its mount point. They can't be uploaded again, so the attempt is lost with them.
    pub(crate) async fn check_parts(&self, parts: &[AttemptFile]) -> Result<(), Halt> {
        for AttemptFile { object, bytes, .. } in parts {
            let last = || self.serving.store.read_range(object, bytes.saturating_sub(1), 1);
            match self.ask("look for a part", last).await {
                Ok(_) => {}
                Err(Halt::Stopped) => return Err(Halt::Stopped),
                Err(_) => {
                    let detail = format!("`{object}` was stored and is not there, or not all of it");
                    return Err(Halt::Machine(detail));
                }
            }
        }
        Ok(())
    }
}

fn report(cut: Cut, filtered: Option<(LineCount, FilterReport)>) -> StreamReport {
    let (lines, is_whole) = match &filtered {
        Some((count, _)) => (count.lines(), count.is_whole()),
        None => (cut.lines, cut.is_whole),
    };
    StreamReport {
        lines,
        is_whole,
        kept: cut.lines,
        parts: cut.parts,
        bytes: cut.bytes,
        sha256: cut.sha256,
        filter: filtered.map(|(_, report)| report),
    }
}
