//! The connections of a queue: one that carries all calls; and in a cluster, while a node is away, another one aside for those who ask
//! that node, so that what they wait for holds up nobody else. Sends nothing itself.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{Pool, PoolError};

use super::QueueError;
use super::connector::{Connector, Manager};
use super::link::Link;

/// How long a call waits for another one that is connecting.
const WAIT_FOR_LINK: Duration = Duration::from_secs(10);

/// One connection, replaced at the next call when it is of no more use. Clones share it.
#[derive(Clone)]
pub(super) struct Line {
    pool: Pool<Manager>,
    in_use: Arc<Mutex<Option<Link>>>,
}

impl Line {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        let pool = Pool::builder(Manager(connector))
            .max_size(1)
            .wait_timeout(Some(WAIT_FOR_LINK))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("there is a timer for its time-outs");
        Self { pool, in_use: Arc::default() }
    }

    /// The connection in use, which carries many calls at once, so that a heartbeat never waits behind another call. Only after an
    /// error that may be the connection's does the pool replace it: a look before each call would double the round trips.
    pub(super) async fn link(&self) -> Result<Link, PoolError<QueueError>> {
        if let Some(link) = self.in_use().as_ref().filter(|link| !link.is_broken()) {
            return Ok(link.clone());
        }
        // Boxed: connecting is large and rare, and would make every call as large.
        let pooled = Box::pin(self.pool.get()).await?;
        let link = Link::clone(&pooled);
        *self.in_use() = Some(link.clone());
        Ok(link)
    }

    /// Has the next call make a new one.
    pub(super) fn give_up(&self) {
        if let Some(link) = self.in_use().as_ref() {
            link.give_up();
        }
    }

    /// Hangs up, until the next call.
    fn close(&self) {
        *self.in_use() = None;
        self.pool.retain(|_, _| false);
    }

    fn in_use(&self) -> MutexGuard<'_, Option<Link>> {
        self.in_use.lock().expect("no holder panics")
    }
}

/// What of a cluster did not answer, by the key of each: runs, and parts of the registry.
#[derive(Default)]
pub(super) struct Silent {
    keys: Mutex<HashSet<String>>,
    /// Something answers again: the main connection has to find the nodes anew.
    has_changed: AtomicBool,
}

impl Silent {
    fn has(&self, key: &str) -> bool {
        self.keys().contains(key)
    }

    fn note(&self, key: &str, answers: bool) {
        if !answers {
            self.keys().insert(key.to_owned());
        } else if self.keys().remove(key) {
            self.has_changed.store(true, Ordering::Release);
        }
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<String>> {
        self.keys.lock().expect("no holder panics")
    }
}

/// Whom a call to a cluster asks.
#[derive(Clone)]
pub(super) struct Concern {
    /// A key in the slot that it is about.
    pub(super) key: String,
    silent: Arc<Silent>,
    /// Whether the last call got no answer, so that this one goes aside.
    pub(super) is_aside: bool,
}

impl Concern {
    /// Whether the call was answered.
    pub(super) fn note(&self, answers: bool) {
        // What was well and is well is the way of nearly all calls: it takes no lock.
        if self.is_aside || !answers {
            self.silent.note(&self.key, answers);
        }
    }
}

/// The second connection of a cluster's clients.
#[derive(Clone)]
pub(super) struct Aside {
    line: Line,
    silent: Arc<Silent>,
}

impl Aside {
    pub(super) fn new(connector: Arc<Connector>) -> Self {
        Self { line: Line::new(connector), silent: Arc::default() }
    }

    /// The connection for calls about a key, which notes whether they are answered.
    pub(super) async fn choose(&self, main: &Line, key: &str) -> Result<Link, PoolError<QueueError>> {
        if self.silent.has_changed.swap(false, Ordering::AcqRel) {
            main.give_up();
            if self.silent.keys().is_empty() {
                self.line.close();
            }
        }
        let is_aside = self.silent.has(key);
        let line = if is_aside { &self.line } else { main };
        let concern = Concern { key: key.to_owned(), silent: Arc::clone(&self.silent), is_aside };
        Ok(line.link().await?.about(concern))
    }
}
