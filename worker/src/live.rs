//! An attempt's output while it runs, for those who follow it: pieces of its logs, read where the programs wrote them. As long as
//! nobody asks, nothing is read and nothing is sent. It never holds up the attempt.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::queue::PIECE_BYTES_MAX;
use common::task::{LeaseName, RunId, TaskId};

use crate::attempt::{Attempt, Shared};
use crate::control::Control;
use crate::heartbeat::chain;

/// Between two looks at the logs.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the last look may take: the attempt waits for it.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What an attempt's followers are told.
pub(crate) struct Live {
    shared: Arc<Shared>,
    run: RunId,
    task: TaskId,
    lease: LeaseName,
    control: Control,
    scratch: PathBuf,
    /// How far each log was told, in bytes.
    told: BTreeMap<PathBuf, u64>,
}

impl Live {
    pub(crate) fn new(attempt: &Attempt, scratch: &Path) -> Self {
        Self {
            shared: Arc::clone(&attempt.shared),
            run: attempt.serving.run.clone(),
            task: attempt.grant.task,
            lease: attempt.grant.lease.clone(),
            control: attempt.control.clone(),
            scratch: scratch.to_owned(),
            told: BTreeMap::new(),
        }
    }

    /// Tells what is printed while this work goes on, and what was left when it has ended.
    pub(crate) async fn beside<T>(mut self, work: impl Future<Output = T>) -> T {
        let done = tokio::select! {
            done = work => done,
            never = self.tell_while_followed() => match never {},
        };
        if self.control.is_followed() && tokio::time::timeout(LAST_LOOK, self.tell()).await.is_err() {
            tracing::debug!("the end of the output was not told: Redis took too long");
        }
        done
    }

    async fn tell_while_followed(&mut self) -> Infallible {
        loop {
            self.control.followed().await;
            self.tell().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells what is new in the logs. What could not be told is told the next time.
    async fn tell(&mut self) {
        let mut logs = Attempt::log_files(&self.scratch);
        // What was printed last comes last.
        logs.sort_by_key(|log| self.scratch.join(log).metadata().and_then(|meta| meta.modified()).ok());
        for log in logs {
            let from = self.told.get(&log).copied();
            let (from, text) = match read_from(&self.scratch.join(&log), from) {
                Ok(piece) => piece,
                Err(error) => {
                    tracing::debug!(log = %log.display(), %error, "the log can't be read");
                    continue;
                }
            };
            if text.is_empty() {
                continue;
            }
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            let told = self.shared.queue.tell(&self.run, self.task, &self.lease, (&name, from, &text)).await;
            match told {
                Ok(Ok(())) => _ = self.told.insert(log, from + text.len() as u64),
                // The heartbeat says so, too, and ends the attempt.
                Ok(Err(_)) => return,
                Err(error) => {
                    tracing::debug!(error = %chain(&error), "the output could not be told");
                    return;
                }
            }
        }
    }
}

/// The last bytes of a log from here on, [`PIECE_BYTES_MAX`] at most, up to the last whole character, and where they begin. Whoever
/// follows a program wants to see what it does now: what came in between can be read when it has ended.
fn read_from(log: &Path, from: Option<u64>) -> io::Result<(u64, Vec<u8>)> {
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    let from = from.unwrap_or(0).max(length.saturating_sub(PIECE_BYTES_MAX as u64));
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(PIECE_BYTES_MAX as u64).read_to_end(&mut text)?;
    if let Err(error) = std::str::from_utf8(&text)
        && error.error_len().is_none()
    {
        text.truncate(error.valid_up_to());
    }
    Ok((from, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_end_with_a_whole_character() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("dock.stdout");
        std::fs::write(&log, "mode 1.5 Å").unwrap();
        assert_eq!(read_from(&log, None).unwrap(), (0, "mode 1.5 Å".into()));
        assert_eq!(read_from(&log, Some(5)).unwrap(), (5, "1.5 Å".into()));
        std::fs::write(&log, &"mode 1.5 Å".as_bytes()[..10]).unwrap();
        assert_eq!(read_from(&log, Some(5)).unwrap(), (5, "1.5 ".into()));
        std::fs::write(&log, vec![b'x'; PIECE_BYTES_MAX + 7]).unwrap();
        assert_eq!(read_from(&log, Some(5)).unwrap(), (7, vec![b'x'; PIECE_BYTES_MAX]));
        std::fs::write(&log, [0xff, b'x']).unwrap();
        assert_eq!(read_from(&log, None).unwrap(), (0, vec![0xff, b'x']));
    }
}
