//! A way to a Redis on which scripts run that the caller did not send: it names a script by its digest, and the digest on the wire is
//! exchanged for another one. So the whole suite runs against mutated scripts, and the queue knows nothing of it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How much is carried at once. A request starts with the script's digest, and the suite sends one at a time: no digest is cut in two.
const CHUNK_BYTES: usize = 64 * 1024;
/// What stands on the wire before a digest: the length of a text of 40 bytes.
const BEFORE: &[u8] = b"\r\n$40\r\n";
const DIGEST_BYTES: usize = 40;

type Digests = Arc<Mutex<HashMap<Vec<u8>, String>>>;

/// A TCP proxy in front of a Redis. It ends with the test.
#[derive(Debug)]
pub(super) struct Swap {
    port: u16,
    digests: Digests,
    listener: JoinHandle<()>,
}

impl Swap {
    /// Listens on a free port of this machine, in front of the Redis on port `to`.
    pub(super) async fn start(to: u16) -> Self {
        let digests = Digests::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::clone(&digests);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // An error is a broken connection, which the suite notices.
                tokio::spawn(carry(client, to, Arc::clone(&shared)));
            }
        });
        Self { port, digests, listener }
    }

    /// The URL of the Redis behind it.
    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on, each script of these digests is exchanged for the other one.
    pub(super) fn exchange(&self, digests: impl Iterator<Item = (String, String)>) {
        let digests = digests.map(|(asked, run)| (asked.into_bytes(), run));
        *self.digests.lock().unwrap() = digests.collect();
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn exchanged(request: &mut [u8], digests: &Digests) {
    let digests = digests.lock().unwrap();
    let mut from = 0;
    while let Some(found) = request[from..].windows(BEFORE.len()).position(|part| part == BEFORE) {
        let start = from + found + BEFORE.len();
        let Some(digest) = request.get_mut(start..start + DIGEST_BYTES) else { return };
        if let Some(other) = digests.get(&*digest) {
            digest.copy_from_slice(other.as_bytes());
        }
        from = start;
    }
}

/// Carries one connection until either side ends it.
async fn carry(mut client: TcpStream, to: u16, digests: Digests) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut request, mut answer) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let request = &mut request[..read?];
                if request.is_empty() {
                    return Ok(());
                }
                exchanged(request, &digests);
                server.write_all(request).await?;
            }
            read = server.read(&mut answer) => {
                let answer = &answer[..read?];
                if answer.is_empty() {
                    return Ok(());
                }
                client.write_all(answer).await?;
            }
        }
    }
}
