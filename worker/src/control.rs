//! How the dispatcher stops an attempt or asks for its output, and how an attempt hears of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::attempt::Halt;

/// Why an attempt has to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopWhy {
    /// The worker leaves: hand the task back.
    Leaving,
    /// This machine is suspected: hand the task back.
    Quarantined,
    /// All shares of this machine's GPUs are in use: hand the task back.
    NoGpu,
    /// Somebody else has the task: commit nothing.
    Lost,
    /// A person stopped the task.
    Cancelled,
}

/// The dispatcher's hold on one attempt. The first reason counts.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    why: Arc<OnceLock<StopWhy>>,
    /// By when a worker that leaves wants all of it to be over.
    leave_by: Arc<OnceLock<Instant>>,
    stop: watch::Sender<bool>,
    followed_until: watch::Sender<Option<Instant>>,
    recording: Arc<AtomicBool>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self {
            why: Arc::default(),
            leave_by: Arc::default(),
            stop: watch::Sender::new(false),
            followed_until: watch::Sender::new(None),
            recording: Arc::default(),
        }
    }

    pub(crate) fn stop(&self, why: StopWhy) {
        // A second reason changes nothing.
        _ = self.why.set(why);
        self.stop.send_replace(true);
    }

    /// The worker leaves, at this moment whether or not the attempt has ended.
    pub(crate) fn leave(&self, by: Instant) {
        // What is said a second time changes nothing.
        _ = self.leave_by.set(by);
        self.stop(StopWhy::Leaving);
    }

    /// When the worker leaves, if it was told to.
    pub(crate) fn leave_by(&self) -> Option<Instant> {
        self.leave_by.get().copied()
    }

    pub(crate) fn why(&self) -> Option<StopWhy> {
        self.why.get().copied()
    }

    /// From now on the run's counters may hold the attempt's success, before the dispatcher knows of it.
    pub(crate) fn record(&self) {
        self.recording.store(true, Ordering::Release);
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Acquire)
    }

    /// Somebody wants to see the attempt's output, for this time from now on.
    pub(crate) fn follow(&self, time: Duration) {
        self.followed_until.send_replace(Some(Instant::now() + time));
    }

    /// Whether somebody wants to see the output now.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed_until.borrow().is_some_and(|until| until > Instant::now())
    }

    /// Waits until somebody wants to see the output.
    pub(crate) async fn followed(&self) {
        let mut followed = self.followed_until.subscribe();
        let now = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
        followed.wait_for(now).await.expect("self keeps the sender");
    }

    /// Turns true when the attempt has to stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Does something that may take long, unless the attempt has to stop.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            _ = self.stopped() => Err(Halt::Stopped),
            done = work => Ok(done),
        }
    }

    /// Waits until the attempt has to stop.
    async fn stopped(&self) -> StopWhy {
        let mut stopping = self.stop.subscribe();
        stopping.wait_for(|stop| *stop).await.expect("self keeps the sender");
        self.why().expect("the reason is set before the signal")
    }
}
