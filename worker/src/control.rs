//! How the dispatcher stops an attempt, and how an attempt hears of it.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

/// Why an attempt has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopWhy {
    /// The worker leaves: hand the task back.
    Leaving,
    /// Somebody else has the task: commit nothing.
    Lost,
    /// A person stopped the task.
    Cancelled,
}

/// The dispatcher's hold on one attempt. The first reason counts.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    why: Arc<OnceLock<StopWhy>>,
    stop: watch::Sender<bool>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self { why: Arc::default(), stop: watch::Sender::new(false) }
    }

    pub(crate) fn stop(&self, why: StopWhy) {
        // A second reason changes nothing.
        _ = self.why.set(why);
        self.stop.send_replace(true);
    }

    pub(crate) fn why(&self) -> Option<StopWhy> {
        self.why.get().copied()
    }

    /// Turns true when the attempt has to stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Waits until the attempt has to stop.
    pub(crate) async fn stopped(&self) -> StopWhy {
        let mut stopping = self.stop.subscribe();
        stopping.wait_for(|stop| *stop).await.expect("self keeps the sender");
        self.why().expect("the reason is set before the signal")
    }
}
