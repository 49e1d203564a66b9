//! SHA-256 in the one form in which the project writes it.

use sha2::{Digest, Sha256};

/// The SHA-256 of some bytes as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A SHA-256 over bytes that arrive in parts.
#[derive(Debug, Default, Clone)]
pub struct Sha256Writer {
    hasher: Sha256,
    bytes: u64,
}

impl Sha256Writer {
    /// The digest as 64 hexadecimal digits, and how many bytes it covers.
    pub fn finish(self) -> (String, u64) {
        (hex::encode(self.hasher.finalize()), self.bytes)
    }
}

impl std::io::Write for Sha256Writer {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        self.hasher.update(part);
        self.bytes += part.len() as u64;
        Ok(part.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Digests what it passes on.
#[derive(Debug)]
pub struct Digesting<W> {
    to: W,
    digest: Sha256Writer,
}

impl<W: std::io::Write> Digesting<W> {
    /// Passes everything on to `to`.
    pub fn new(to: W) -> Self {
        Self { to, digest: Sha256Writer::default() }
    }

    /// Where everything went, the digest as 64 hexadecimal digits, and how many bytes it covers.
    pub fn finish(self) -> (W, String, u64) {
        let (sha256, bytes) = self.digest.finish();
        (self.to, sha256, bytes)
    }
}

impl<W: std::io::Write> std::io::Write for Digesting<W> {
    fn write(&mut self, part: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(part)?;
        self.digest.write_all(&part[..written])?;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
