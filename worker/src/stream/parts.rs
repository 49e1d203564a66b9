//! Cuts a stream of bytes into compressed files of so many lines each. It has a thread of its own, since compressing keeps one busy,
//! and knows nothing of stores. The bytes of a part are a function of its lines: no name and no time stand in it.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use common::digest::{Digesting, Sha256Writer};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use memchr::memchr_iter;
use tokio::sync::mpsc;

/// A part on local disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Its place in the stream, from 0.
    pub(super) number: u64,
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

/// All of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) lines: u64,
    pub(super) is_whole: bool,
    pub(super) parts: u64,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// How many lines there were, and whether the last one ended.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct LineCount {
    ended: u64,
    is_open: bool,
}

impl LineCount {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.ended += memchr_iter(b'\n', bytes).count() as u64;
        self.is_open = bytes.last().map_or(self.is_open, |last| *last != b'\n');
    }

    /// One that has not ended counts, too.
    pub(super) fn lines(self) -> u64 {
        self.ended + u64::from(self.is_open)
    }

    pub(super) fn is_whole(self) -> bool {
        !self.is_open
    }
}

/// Where the line with this number, from 1, ends in some bytes: behind its line feed.
pub(super) fn end_of_line(bytes: &[u8], number: u64) -> Option<usize> {
    let nth = usize::try_from(number.checked_sub(1)?).ok()?;
    memchr_iter(b'\n', bytes).nth(nth).map(|at| at + 1)
}

/// Cuts a stream until its end, and hands each part over as it is done; stops early if nobody takes them any more.
pub(super) fn cut(
    mut chunks: mpsc::Receiver<Bytes>,
    folder: &std::path::Path,
    lines_per_part: u64,
    to: &mpsc::Sender<Part>,
) -> io::Result<Cut> {
    let mut cutter = Cutter { folder, lines_per_part, to, open: None, done: Cut::default() };
    let (mut count, mut digest) = (LineCount::default(), Sha256Writer::default());
    while let Some(chunk) = chunks.blocking_recv() {
        count.add(&chunk);
        digest.write_all(&chunk)?;
        cutter.write(&chunk)?;
    }
    cutter.close()?;
    let sha256 = digest.finish().0;
    Ok(Cut { lines: count.lines(), is_whole: count.is_whole(), sha256, ..cutter.done })
}

struct OpenPart {
    path: PathBuf,
    /// Lines that it still takes, from 1.
    room: u64,
    gz: GzEncoder<Digesting<BufWriter<File>>>,
}

struct Cutter<'a> {
    folder: &'a std::path::Path,
    lines_per_part: u64,
    to: &'a mpsc::Sender<Part>,
    open: Option<OpenPart>,
    done: Cut,
}

impl Cutter<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut part = match self.open.take() {
                Some(part) => part,
                None => self.begin()?,
            };
            let end = end_of_line(bytes, part.room);
            let (now, later) = bytes.split_at(end.unwrap_or(bytes.len()));
            part.gz.write_all(now)?;
            part.room -= memchr_iter(b'\n', now).count() as u64;
            self.open = Some(part);
            if end.is_some() {
                self.close()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn begin(&self) -> io::Result<OpenPart> {
        let path = self.folder.join(format!("{:05}.gz", self.done.parts));
        let file = Digesting::new(BufWriter::new(File::create(&path)?));
        let gz = GzBuilder::new().write(file, Compression::default());
        Ok(OpenPart { path, room: self.lines_per_part, gz })
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(OpenPart { path, gz, .. }) = self.open.take() else { return Ok(()) };
        let (mut file, sha256, bytes) = gz.finish()?.finish();
        file.flush()?;
        let part = Part { path, number: self.done.parts, sha256, bytes };
        self.done.parts += 1;
        self.done.bytes += bytes;
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes the parts of the stream");
        self.to.blocking_send(part).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// The parts of a text that arrives in chunks of some size, uncompressed.
    fn parts(text: &str, chunk: usize, lines_per_part: u64) -> (Cut, Vec<(String, Part)>) {
        let folder = tempfile::tempdir().unwrap();
        let (to, from) = mpsc::channel(1000);
        for chunk in text.as_bytes().chunks(chunk) {
            to.try_send(Bytes::copy_from_slice(chunk)).unwrap();
        }
        drop(to);
        let (part_to, mut part_from) = mpsc::channel(1000);
        let done = cut(from, folder.path(), lines_per_part, &part_to).unwrap();
        let mut parts = Vec::new();
        while let Ok(part) = part_from.try_recv() {
            let mut text = String::new();
            GzDecoder::new(File::open(&part.path).unwrap()).read_to_string(&mut text).unwrap();
            let stored = std::fs::read(&part.path).unwrap();
            assert_eq!(
                (stored.len() as u64, common::digest::sha256_hex(&stored)),
                (part.bytes, part.sha256.clone())
            );
            parts.push((text, Part { path: PathBuf::new(), ..part }));
        }
        (done, parts)
    }

    #[test]
    fn a_stream_is_cut_behind_every_so_many_lines_whatever_its_chunks() {
        let text = "C\nCC\nCCC\nCCCC\nCCCCC\n";
        let (whole, first) = parts(text, 1, 2);
        let texts: Vec<&str> = first.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["C\nCC\n", "CCC\nCCCC\n", "CCCCC\n"]);
        assert_eq!((whole.lines, whole.is_whole, whole.parts), (5, true, 3));
        assert_eq!(whole.sha256, common::digest::sha256_hex(text.as_bytes()));
        for chunk in [2, 3, 7, 100] {
            assert_eq!(
                parts(text, chunk, 2),
                (Cut { ..parts(text, 1, 2).0 }, parts(text, 1, 2).1),
                "{chunk}"
            );
        }
        assert_eq!(parts(text, 4, 5).1.len(), 1, "no empty part behind a full one");
    }

    #[test]
    fn an_open_end_is_told() {
        assert_eq!(
            parts("", 1, 2).0,
            Cut { is_whole: true, sha256: common::digest::sha256_hex(b""), ..Cut::default() }
        );
        let (cut, parts) = parts("C\nCC\nCC", 3, 2);
        assert_eq!((cut.lines, cut.is_whole, parts.len()), (3, false, 2));
    }

    #[test]
    fn nobody_who_takes_the_parts_ends_the_cutting() {
        let folder = tempfile::tempdir().unwrap();
        let (to, from) = mpsc::channel(10);
        to.try_send(Bytes::from_static(b"C\nCC\n")).unwrap();
        let (part_to, part_from) = mpsc::channel(1);
        drop(part_from);
        // The stream has no end, since `to` is there.
        let error = cut(from, folder.path(), 1, &part_to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(to.is_closed());
    }
}
