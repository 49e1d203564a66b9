//! A program's output: into a log file up to a limit, its last lines into memory, and never in the program's way; or handed over
//! whole, at the pace of whoever takes it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// How much is read for a log at once.
const READ_BYTES: usize = 16 * 1024;

/// Copies a pipe until its end, or until `enough`, into a log file and returns the last bytes as text.
pub(super) async fn record(
    mut pipe: impl AsyncRead + Unpin,
    mut log: Option<Log>,
    tail_bytes_max: usize,
    enough: impl Future<Output = ()>,
) -> String {
    let mut enough = std::pin::pin!(enough);
    let mut tail = Tail::new(tail_bytes_max);
    let mut chunk = BytesMut::with_capacity(READ_BYTES);
    loop {
        chunk.clear();
        let read = tokio::select! {
            // First, or a process that writes without end is never left.
            biased;
            () = &mut enough => break,
            read = pipe.read_buf(&mut chunk) => read,
        };
        if read.is_err() || chunk.is_empty() {
            break;
        }
        tail.push(&chunk);
        if let Some(log) = &mut log {
            log.write(&chunk).await;
        }
    }
    if let Some(log) = log {
        log.finish().await;
    }
    tail.text()
}

/// How much is read of a stream at once: what a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long a pipe may be silent once `enough` has come.
const LAST_LOOK: Duration = Duration::from_millis(200);
/// How much may still be read once `enough` has come. No pipe of ours holds as much; only a process that has left the group writes on.
const LEFT_BYTES_MAX: usize = 1024 * 1024;

/// Hands a pipe over until its end, or until `enough` and what was left in it. Slow takers slow the program; none end the reading.
pub(super) async fn forward(
    mut pipe: impl AsyncRead + Unpin,
    to: mpsc::Sender<Bytes>,
    enough: impl Future<Output = ()>,
) {
    let mut enough = std::pin::pin!(enough);
    let mut is_enough = false;
    let mut left = LEFT_BYTES_MAX;
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let read = tokio::select! {
            // First: however long the taker was busy, what is in the pipe belongs to the stream.
            biased;
            read = pipe.read_buf(&mut chunk) => read,
            () = &mut enough, if !is_enough => {
                is_enough = true;
                continue;
            }
            () = tokio::time::sleep(LAST_LOOK), if is_enough => break,
        };
        if read.is_err() || chunk.is_empty() {
            break;
        }
        if is_enough {
            left = left.saturating_sub(chunk.len());
        }
        if left == 0 || to.send(chunk.freeze()).await.is_err() {
            break;
        }
    }
}

/// A log file of bounded size, made with its folder when there is something to write. A write that fails ends the log, not the program.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// `None` before the first write.
    file: Option<File>,
    has_failed: bool,
    kept_bytes: u64,
    dropped_bytes: u64,
    bytes_max: u64,
}

impl Log {
    pub(super) fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, file: None, has_failed: false, kept_bytes: 0, dropped_bytes: 0, bytes_max }
    }

    async fn write(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.bytes_max - self.kept_bytes).unwrap_or(usize::MAX);
        let (kept, dropped) = bytes.split_at(bytes.len().min(room));
        self.kept_bytes += kept.len() as u64;
        self.dropped_bytes += dropped.len() as u64;
        self.append(kept).await;
    }

    async fn append(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.has_failed {
            return;
        }
        if let Err(error) = self.try_append(bytes).await {
            tracing::warn!(path = %self.path.display(), %error, "log ends here");
            self.has_failed = true;
        }
    }

    async fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(&self.path)?),
        };
        file.write_all(bytes).await?;
        // Tokio reports a failed write only at the next call.
        file.flush().await
    }

    /// Notes in the file how much was dropped, if anything.
    async fn finish(mut self) {
        if self.dropped_bytes > 0 {
            let note = format!(
                "\n[{} more bytes of output were dropped: a log keeps {}]\n",
                self.dropped_bytes, self.bytes_max
            );
            self.append(note.as_bytes()).await;
        }
    }
}

/// Creates a log, or empties it. In place, like all that an attempt does in its scratch folder: a local disk takes less time for it than
/// another thread.
fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(File::from_std(std::fs::File::create(path)?))
}

/// The last bytes of a stream.
#[derive(Debug)]
struct Tail {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Tail {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let surplus = self.bytes.len().saturating_sub(self.bytes_max);
        self.bytes.drain(..surplus);
    }

    /// At most `bytes_max` bytes of UTF-8, beginning with a whole character; what is no UTF-8 shows as `�`.
    fn text(&self) -> String {
        // A character cut in two by `push` has lost its first byte; what is left of it is at most three continuation bytes.
        let cut = self.bytes.iter().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
        let text = String::from_utf8_lossy(&self.bytes[cut..]);
        // Each `�` takes three bytes in place of as few as one.
        let surplus = text.len().saturating_sub(self.bytes_max);
        text[text.ceil_char_boundary(surplus)..].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(chunks: &[&[u8]], bytes_max: usize) -> String {
        let mut tail = Tail::new(bytes_max);
        for chunk in chunks {
            tail.push(chunk);
        }
        tail.text()
    }

    #[test]
    fn a_tail_keeps_the_last_bytes() {
        assert_eq!(tail(&[b"mode 1\n", b"mode 2\n"], 100), "mode 1\nmode 2\n");
        assert_eq!(tail(&[b"mode 1\n", b"mode 2\n"], 7), "mode 2\n");
        assert_eq!(tail(&[b"mode 1\nmode 2\n", b"end"], 4), "\nend");
        assert_eq!(tail(&[b"anything"], 0), "");
    }

    #[test]
    fn a_tail_begins_with_a_whole_character() {
        // "Å" is two bytes, "…" three.
        assert_eq!(tail(&["1.5 Å".as_bytes()], 1), "");
        assert_eq!(tail(&["1.5 Å".as_bytes()], 2), "Å");
        assert_eq!(tail(&["wait …!".as_bytes()], 3), "!");
    }

    #[test]
    fn a_tail_of_binary_output_is_bounded_too() {
        let text = tail(&[&[0xff; 64]], 32);
        assert_eq!(text, "\u{fffd}".repeat(10));
    }

    #[tokio::test]
    async fn a_log_keeps_its_limit_and_counts_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vina.stdout");
        let log = Log::new(path.clone(), 5);
        let tail = record(&b"0123456789"[..], Some(log), 3, std::future::pending()).await;
        assert_eq!(tail, "789");
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept, "01234\n[5 more bytes of output were dropped: a log keeps 5]\n");
    }

    #[tokio::test]
    async fn output_within_the_limit_is_kept_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vina.stdout");
        let log = Log::new(path.clone(), 10);
        record(&b"0123456789"[..], Some(log), 3, std::future::pending()).await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn a_stream_is_handed_over_whole_however_late_it_is_taken() {
        let text: Vec<u8> = (0..=u8::MAX).cycle().take(3 * CHUNK_BYTES + 7).collect();
        let (to, mut taken) = mpsc::channel::<Bytes>(1);
        // Enough from the start: what is in the pipe is read all the same.
        let whole = async {
            let mut whole = Vec::new();
            while let Some(chunk) = taken.recv().await {
                tokio::task::yield_now().await;
                whole.extend_from_slice(&chunk);
            }
            whole
        };
        let ((), whole) = tokio::join!(forward(&text[..], to, std::future::ready(())), whole);
        assert_eq!(whole, text);
    }

    #[tokio::test]
    async fn a_stream_without_an_end_or_a_taker_is_left() {
        let (to, mut taken) = mpsc::channel::<Bytes>(1);
        let count = async {
            let mut bytes = 0;
            while let Some(chunk) = taken.recv().await {
                bytes += chunk.len();
            }
            bytes
        };
        let endless = Endless { reads: 0 };
        let ((), bytes) = tokio::join!(forward(endless, to, std::future::ready(())), count);
        assert!(bytes <= LEFT_BYTES_MAX + CHUNK_BYTES, "{bytes}");
        let (to, taken) = mpsc::channel(1);
        drop(taken);
        forward(Endless { reads: 0 }, to, std::future::pending()).await;
    }

    /// Writes for ever, but for its first look, at which its reader hears of other things.
    struct Endless {
        reads: u64,
    }

    impl AsyncRead for Endless {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            self.reads += 1;
            if self.reads == 1 {
                context.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            buffer.put_slice(&[b'x'; 1024]);
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_full_disk_does_not_end_the_reading() {
        let log = Log::new("/dev/full".into(), 1 << 20);
        let output = vec![b'x'; 100_000];
        let tail = record(&output[..], Some(log), 2, std::future::pending()).await;
        assert_eq!(tail, "xx");
    }
}
