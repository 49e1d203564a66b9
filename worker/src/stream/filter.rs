//! Passes a stream of lines through a program, a batch at a time: one process for each, its lines on standard input, those to keep on
//! standard output. A batch that it refuses stays whole and is counted; a filter that crashes ends the stream.

use std::fs::{self, File};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use common::task::FilterOptions;
use tokio::sync::{mpsc, watch};

use super::FilterReport;
use super::parts::{LineCount, end_of_line};
use crate::process::{Ended, How, Launcher, Program, SpawnError};

/// The longest batch: lines are structures, not books.
const BATCH_BYTES_MAX: usize = 256 << 20; // 256 MiB
/// The file with a batch, below the folder of the stream.
const BATCH: &str = "batch";

/// Why a stream is not filtered on.
pub(super) enum Ceased {
    /// The attempt has to stop, or nobody takes the lines any more: others say why.
    Quietly,
    /// By this fault of the filter, which is in its report, too.
    Fault,
    /// It can't be run here.
    Spawn(SpawnError),
    /// The local disk failed.
    Disk(std::io::Error),
}

/// A filter at work.
pub(super) struct Filter<'a> {
    pub(super) options: &'a FilterOptions,
    /// With neither logs nor anything that differs from batch to batch.
    pub(super) program: Program,
    pub(super) launcher: &'a Launcher,
    pub(super) folder: &'a Path,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) report: FilterReport,
}

impl Filter<'_> {
    /// Passes all lines through, and counts them as they come.
    pub(super) async fn pass(
        &mut self,
        mut from: mpsc::Receiver<Bytes>,
        to: mpsc::Sender<Bytes>,
        count: &mut LineCount,
    ) -> Result<(), Ceased> {
        let mut batch = BytesMut::new();
        let mut lines = LineCount::default();
        while let Some(chunk) = from.recv().await {
            count.add(&chunk);
            let mut chunk = &chunk[..];
            while let Some(end) = end_of_line(chunk, self.options.batch_lines - ended(lines)) {
                batch.extend_from_slice(&chunk[..end]);
                chunk = &chunk[end..];
                self.pass_batch(batch.split().freeze(), self.options.batch_lines, &to).await?;
                lines = LineCount::default();
            }
            batch.extend_from_slice(chunk);
            lines.add(chunk);
            if batch.len() > BATCH_BYTES_MAX {
                let bytes = batch.len();
                return self.fault(format!("a batch has {bytes} bytes (expected {BATCH_BYTES_MAX} at most)"));
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.pass_batch(batch.freeze(), lines.lines(), &to).await
    }

    async fn pass_batch(&mut self, batch: Bytes, lines: u64, to: &mpsc::Sender<Bytes>) -> Result<(), Ceased> {
        let (ended, kept) = self.run(&batch).await?;
        self.report.batches += 1;
        let kept = match ended.how {
            How::Exited(0) if is_part_of(&kept, &batch) => Bytes::from(kept),
            How::Exited(0) => {
                return self
                    .fault("it answered with lines that it was not given, or not in their order".to_owned());
            }
            How::Exited(code) => {
                self.report.failures += 1;
                self.report.unfiltered += lines;
                let number = self.report.batches;
                let said = || format!("batch {number}: exit {code}, last words `{}`", last_words(&ended));
                self.report.first_failure.get_or_insert_with(said);
                batch
            }
            How::Signalled(signal) => {
                let said = last_words(&ended);
                let number = self.report.batches;
                return self.fault(format!(
                    "it crashed over batch {number} by signal {signal}, last words `{said}`"
                ));
            }
            How::TimeLimit => {
                let number = self.report.batches;
                return self.fault(format!("it ran out of time over batch {number}"));
            }
            How::Stopped => return Err(Ceased::Quietly),
        };
        if kept.is_empty() || to.send(kept).await.is_ok() { Ok(()) } else { Err(Ceased::Quietly) }
    }

    fn fault(&mut self, what: String) -> Result<(), Ceased> {
        self.report.fault = Some(what);
        Err(Ceased::Fault)
    }

    /// One process for one batch. It gets a file: a program that reads nothing until it has written everything can't get stuck.
    async fn run(&self, batch: &[u8]) -> Result<(Ended, Vec<u8>), Ceased> {
        let path = self.folder.join(BATCH);
        fs::write(&path, batch).map_err(Ceased::Disk)?;
        let input = File::open(&path).map_err(Ceased::Disk)?;
        let (to, mut from) = mpsc::channel::<Bytes>(4);
        let mut kept: Vec<u8> = Vec::new();
        let collect = async {
            while let Some(chunk) = from.recv().await {
                // More than it was given is refused anyway, and read to its end so that it is no broken pipe.
                if kept.len() <= batch.len() {
                    kept.extend_from_slice(&chunk);
                }
            }
        };
        let run = self.launcher.stream(&self.program, Some(input), to, self.stop.clone());
        let (ended, ()) = tokio::join!(run, collect);
        Ok((ended.map_err(Ceased::Spawn)?, kept))
    }
}

/// Lines that ended.
fn ended(lines: LineCount) -> u64 {
    lines.lines() - u64::from(!lines.is_whole())
}

fn last_words(ended: &Ended) -> &str {
    let lines = ended.stderr_tail.lines().rev();
    lines.map(str::trim).find(|line| !line.is_empty()).unwrap_or_default()
}

/// Whether some lines are lines of a batch, in their order and whole.
fn is_part_of(kept: &[u8], batch: &[u8]) -> bool {
    let lines = |bytes| <[u8]>::split_inclusive(bytes, |byte| *byte == b'\n');
    let mut given = lines(batch);
    lines(kept).all(|line| given.any(|one| one == line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_lines_are_given_ones_in_their_order() {
        let check = |kept: &str, expect: bool| {
            assert_eq!(is_part_of(kept.as_bytes(), b"C\nCC\nCCC\n"), expect, "{kept:?}");
        };
        check("", true);
        check("C\nCCC\n", true);
        check("C\nCC\nCCC\n", true);
        check("CC\nC\n", false);
        check("C\nC\n", false);
        check("CCCC\n", false);
        check("C\nCC", false);
    }
}
