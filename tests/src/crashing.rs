//! A server of a test's own that can crash and start again at the same place: the listener that the doubles of engines share.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::eventually;

/// What a double does on one connection.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Answers until either side has enough.
    fn serve(self: Arc<Self>, stream: TcpStream) -> impl Future<Output = ()> + Send;
}

/// A listener on a port of its own, which ends with the test.
#[derive(Debug)]
pub(crate) struct Crashing<S> {
    pub(crate) port: u16,
    pub(crate) double: Arc<S>,
    listener: Option<JoinHandle<()>>,
}

impl<S: Serve> Crashing<S> {
    pub(crate) async fn start(double: S) -> Self {
        Self::start_at(0, double).await
    }

    /// At this port; 0 for any.
    pub(crate) async fn start_at(port: u16, double: S) -> Self {
        let mut crashing = Self { port, double: Arc::new(double), listener: None };
        crashing.restart().await;
        crashing
    }

    /// Ends it: nobody listens any more, and every connection is cut.
    pub(crate) fn crash(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
    }

    /// Starts it again at the same place.
    pub(crate) async fn restart(&mut self) {
        let port = self.port;
        let listener = eventually("the port is free", || async move {
            TcpListener::bind(("127.0.0.1", port)).await.map_err(|error| error.to_string())
        })
        .await;
        self.port = listener.local_addr().unwrap().port();
        let double = Arc::clone(&self.double);
        self.listener = Some(tokio::spawn(async move {
            // Dropped, and all connections with it, when the server crashes.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(Arc::clone(&double).serve(stream));
            }
        }));
    }
}

impl<S> Drop for Crashing<S> {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.abort();
        }
    }
}
