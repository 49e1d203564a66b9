//! A Redis with a replica and a sentinel that watches them, and the fail-overs that forget: the primary dies after its replica has not
//! heard from it for a while, or it was only frozen, comes back and does not know that it is not the primary any more. Knows nothing of
//! the queue.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::server::say;
use crate::redis::Persistence;
use crate::{FlakyProxy, Server, TestRedis, eventually, replication_offset};

/// The name under which the sentinel watches.
const SERVICE: &str = "fleet";
/// After how many ms of silence the sentinel gives up a primary: never, but while one is frozen. On a busy machine it would give up one that
/// is only slow, and nobody would have planned that.
const DOWN_AFTER_MS: [&str; 2] = ["3600000", "1000"];

/// The second server of a pair, and its sentinel; the first one is the lab's.
#[derive(Debug)]
pub(super) struct Pair {
    second: TestRedis,
    sentinel: Server,
    office: FlakyProxy,
    fail_overs: AtomicUsize,
    /// Bytes of writes that no replica had heard of, over all fail-overs.
    forgotten: AtomicU64,
}

impl Pair {
    /// Gives a server its replica and its sentinel.
    pub(super) async fn of(first: &TestRedis) -> Self {
        let second = TestRedis::start_with(Persistence::Always).await;
        follow(&second, first).await;
        let (port, [never, _]) = (first.port(), DOWN_AFTER_MS);
        let watch = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {port} 1\nsentinel down-after-milliseconds {SERVICE} {never}\n\
             sentinel failover-timeout {SERVICE} 10000"
        );
        let sentinel = Server::sentinel(|_, _| watch.clone()).await;
        eventually("the sentinel knows the replica", || async {
            let told = sentinel.cli(&["SENTINEL", "MASTER", SERVICE]);
            if told.contains("num-slaves\n1\n") { Ok(()) } else { Err(told) }
        })
        .await;
        let office = FlakyProxy::in_front_of_sentinel(sentinel.port(), [port, second.port()]).await;
        Self { second, sentinel, office, fail_overs: AtomicUsize::new(0), forgotten: AtomicU64::new(0) }
    }

    /// The URL by which programs at the end of a line find the primary.
    pub(super) fn url(line: &FlakyProxy) -> String {
        format!("redis+sentinel://127.0.0.1:{}/{SERVICE}", line.port())
    }

    /// A line to it.
    pub(super) async fn line(&self, first: &TestRedis) -> FlakyProxy {
        FlakyProxy::in_front_of_sentinel(self.sentinel.port(), [first.port(), self.second.port()]).await
    }

    /// The line of launchpad, which does not break.
    pub(super) const fn office(&self) -> &FlakyProxy {
        &self.office
    }

    /// How often it has failed over.
    pub(super) fn fail_overs(&self) -> usize {
        self.fail_overs.load(Ordering::SeqCst)
    }

    /// The primary.
    pub(super) fn primary<'a>(&'a self, first: &'a TestRedis) -> &'a TestRedis {
        if self.fail_overs().is_multiple_of(2) { first } else { &self.second }
    }

    /// How many bytes of acknowledged writes were forgotten, at least.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// The primary and its replica.
    fn roles<'a>(&'a self, first: &'a TestRedis) -> [&'a TestRedis; 2] {
        let primary = self.primary(first);
        [primary, if std::ptr::eq(primary, first) { &self.second } else { first }]
    }

    /// Keeps from the replica what is acknowledged from now on, once it has all that came before.
    pub(super) async fn deafen(&self, first: &TestRedis) {
        let [old, new] = self.roles(first);
        until_followed(new).await;
        say(old, &["ACL", "SETUSER", "default", "-psync", "-sync"]).await;
        say(old, &["CLIENT", "KILL", "TYPE", "replica"]).await;
    }

    /// Kills the primary, and waits until the replica is the primary. Then the old one comes back, and forgets.
    pub(super) async fn fail_over(&self, first: &TestRedis) {
        let [old, new] = self.roles(first);
        let unheard = offset_of(old).await.saturating_sub(offset_of(new).await);
        self.forgotten.fetch_add(unheard, Ordering::SeqCst);
        old.kill9();
        // It refuses while it is at it, or while it has no hold on the replica.
        let urge = || _ = self.sentinel.cli(&["SENTINEL", "FAILOVER", SERVICE]);
        self.until_promoted(new, urge).await;
        old.restart().await;
        follow(old, new).await;
    }

    /// Freezes the primary until the sentinel has noticed and its replica is the primary. Then it goes on: there are two.
    pub(super) async fn split(&self, first: &TestRedis) -> Split {
        let [old, new] = self.roles(first);
        until_followed(new).await;
        let [never, soon] = DOWN_AFTER_MS;
        old.stop_signal();
        self.give_up_after(soon);
        self.until_promoted(new, || ()).await;
        self.give_up_after(never);
        old.continue_signal();
        Split { common: offset_of(old).await }
    }

    /// Ends that: the old primary becomes a replica of the new one, and forgets what it was told since. The sentinel would do the same after
    /// eight seconds or so.
    pub(super) async fn heal(&self, first: &TestRedis, split: Split) {
        let [new, old] = self.roles(first);
        self.forgotten.fetch_add(offset_of(old).await.saturating_sub(split.common), Ordering::SeqCst);
        follow(old, new).await;
    }

    fn give_up_after(&self, ms: &str) {
        let told = self.sentinel.cli(&["SENTINEL", "SET", SERVICE, "down-after-milliseconds", ms]);
        assert_eq!(told, "OK", "the sentinel takes its orders");
    }

    /// Waits until the replica is the primary. It counts as that before the old one comes back, so that nobody takes the old one for it.
    async fn until_promoted(&self, new: &TestRedis, urge: impl Fn()) {
        let port = new.port().to_string();
        eventually("the replica is the primary", || async {
            let told = self.sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
            let about = replication(new).await;
            if !told.ends_with(&port) {
                urge();
            }
            if told.ends_with(&port) && about.contains("role:master") { Ok(()) } else { Err(told + &about) }
        })
        .await;
        self.fail_overs.fetch_add(1, Ordering::SeqCst);
    }
}

/// Two primaries.
#[derive(Debug)]
pub(super) struct Split {
    /// How many bytes of writes the old one knew when it became the old one.
    common: u64,
}

async fn until_followed(replica: &TestRedis) {
    eventually("the replica follows", || async {
        let about = replication(replica).await;
        if about.contains("master_link_status:up") { Ok(()) } else { Err(about) }
    })
    .await;
}

/// Makes a server the replica of another.
async fn follow(replica: &TestRedis, primary: &TestRedis) {
    say(replica, &["REPLICAOF", "127.0.0.1", &primary.port().to_string()]).await;
}

/// What a server says of its replication.
async fn replication(redis: &TestRedis) -> String {
    let about = say(redis, &["INFO", "replication"]).await;
    redis::from_redis_value(about).unwrap()
}

async fn offset_of(redis: &TestRedis) -> u64 {
    replication_offset(&replication(redis).await).expect("every server has an offset")
}
