//! Lines of a byte stream with their numbers and byte offsets. It knows no format, and holds one line at a time.

use std::io::{self, BufRead, Read as _};

use super::problem::Fault;

/// The most that is kept of a line; nothing that a molecule needs is longer.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20; // 1 MiB

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts a stream at its line feeds.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    number: u64,
    offset: u64,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// From 1.
    pub(super) number: u64,
    /// Where it starts in the stream, in bytes, behind a byte order mark.
    pub(super) offset: u64,
    /// Its bytes in the stream, its line ending included.
    pub(super) length: u64,
    /// Its content without line ending (LF or CRLF), at most [`LINE_BYTES_MAX`] bytes.
    pub(super) content: &'a [u8],
    /// Whether it was longer, so that `content` is only its start.
    cut: bool,
}

impl<R: BufRead> Lines<R> {
    /// Starts at the beginning of a stream.
    pub(super) fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), number: 0, offset: 0 }
    }

    /// The number of the line that was read last; 0 before the first.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// The next line; `None` at the end of the stream.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let limit = LINE_BYTES_MAX as u64;
        let kept = self.source.by_ref().take(limit).read_until(b'\n', &mut self.buffer)?;
        if kept == 0 {
            return Ok(None);
        }
        let whole = kept < LINE_BYTES_MAX || self.buffer.ends_with(b"\n");
        let skipped = if whole { 0 } else { self.source.skip_until(b'\n')? };
        let marked = self.number == 0 && self.buffer.starts_with(BYTE_ORDER_MARK);
        let mark = if marked { BYTE_ORDER_MARK.len() } else { 0 };
        let offset = self.offset + mark as u64;
        self.offset += (kept + skipped) as u64;
        self.number += 1;
        let content = &self.buffer[mark..];
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let length = self.offset - offset;
        Ok(Some(Line { number: self.number, offset, length, content, cut: skipped > 0 }))
    }
}

impl<'a> Line<'a> {
    /// The line as text.
    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        self.check_whole()?;
        utf8(self.content, self.number)
    }

    /// Refuses a line of which only the start was kept.
    pub(super) fn check_whole(&self) -> Result<(), Fault> {
        if !self.cut {
            return Ok(());
        }
        let what = format!("the line has {} bytes (expected {LINE_BYTES_MAX} at most)", self.length);
        Err(Fault::new(self.number, what))
    }

    /// Whether there is nothing but white space on it.
    pub(super) fn is_blank(&self) -> bool {
        self.content.trim_ascii().is_empty()
    }
}

/// Bytes of a line as text.
pub(super) fn utf8(bytes: &[u8], line: u64) -> Result<&str, Fault> {
    str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let what = format!("byte {} is 0x{:02x} (expected UTF-8 text)", at + 1, bytes[at]);
        Fault::new(line, what).with_hint("convert the file to UTF-8, or write the name in ASCII")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(bytes: &[u8]) -> Vec<(u64, u64, u64, String)> {
        let mut lines = Lines::new(bytes);
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.number, line.offset, line.length, line.text().unwrap().to_owned()));
        }
        found
    }

    #[test]
    fn lines_know_their_place() {
        let check = |bytes: &[u8], expect: &[(u64, u64, u64, &str)]| {
            let expect: Vec<_> = expect.iter().map(|&(n, o, l, t)| (n, o, l, t.to_owned())).collect();
            assert_eq!(collect(bytes), expect);
        };
        check(b"", &[]);
        check(b"a\nbc", &[(1, 0, 2, "a"), (2, 2, 2, "bc")]);
        check(b"a\r\n\r\nb\r\n", &[(1, 0, 3, "a"), (2, 3, 2, ""), (3, 5, 3, "b")]);
        check(b"\xef\xbb\xbfa\nb\n", &[(1, 3, 2, "a"), (2, 5, 2, "b")]);
    }

    #[test]
    fn a_line_that_never_ends_does_not_fill_the_memory() {
        let mut bytes = vec![b'C'; LINE_BYTES_MAX + 10];
        bytes.extend_from_slice(b"\nnext\n");
        let mut lines = Lines::new(bytes.as_slice());
        let long = lines.next().unwrap().unwrap();
        assert_eq!((long.content.len(), long.length), (LINE_BYTES_MAX, LINE_BYTES_MAX as u64 + 11));
        assert!(
            long.text().unwrap_err().in_file("f").to_string().starts_with("f:1: the line has 1048587 bytes")
        );
        assert_eq!(lines.next().unwrap().unwrap().content, b"next");
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let fault = utf8(b"na\xefve", 3).unwrap_err().in_file("f");
        assert_eq!(fault.to_string(), "f:3: byte 3 is 0xef (expected UTF-8 text)");
    }
}
