//! Redis in bad weather, as workers and launchpad meet it: fail-overs under sentinels, servers that are full, silent, overrun or the
//! wrong ones. Real servers, real programs; in the end nothing is lost, and each fault was told in words.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::{FlakyProxy, LabWorker, Line, Outpost, Programs, Server, eventually, has_copied};
use tokio::net::{TcpListener, TcpStream};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

fn post_at(url: &str) -> Outpost {
    Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", url)])
}

/// A server, its replica, and three sentinels that watch them as `fleet`.
struct Watched {
    primary: Server,
    replica: Server,
    sentinels: Vec<Server>,
}

impl Watched {
    async fn start() -> Self {
        let primary = Server::start(|_, _| "appendonly yes\nrepl-diskless-sync-delay 0".to_owned()).await;
        let port = primary.port();
        let replica = Server::start(|_, _| format!("appendonly yes\nreplicaof 127.0.0.1 {port}")).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(
                Server::sentinel(|_, _| {
                    format!(
                        "sentinel monitor fleet 127.0.0.1 {port} 2\nsentinel down-after-milliseconds fleet 1000\n\
                         sentinel failover-timeout fleet 3000"
                    )
                })
                .await,
            );
        }
        let watched = Self { primary, replica, sentinels };
        eventually("the sentinels know each other and the replica", || async {
            let told: Vec<String> = watched
                .sentinels
                .iter()
                .map(|sentinel| sentinel.cli(&["SENTINEL", "MASTER", "fleet"]))
                .collect();
            let knows =
                |told: &String| told.contains("num-slaves\n1\n") && told.contains("num-other-sentinels\n2\n");
            if told.iter().all(knows) { Ok(()) } else { Err(told) }
        })
        .await;
        watched.until_copied().await;
        watched
    }

    /// A URL whose first sentinel is not there.
    fn url(&self) -> String {
        let ports: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://127.0.0.1:1,{}/fleet", ports.join(","))
    }

    /// Waits until the replica has all that the primary has.
    async fn until_copied(&self) {
        eventually("the replica has everything", || async {
            let [primary, replica] =
                [&self.primary, &self.replica].map(|server| server.cli(&["INFO", "replication"]));
            has_copied(&primary, &replica)
        })
        .await;
    }

    async fn until_failed_over(&self) {
        let port = self.replica.port().to_string();
        eventually("the replica is the primary", || async {
            let told = self.sentinels[0].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "fleet"]);
            let role = self.replica.cli(&["ROLE"]);
            if told.ends_with(&port) && role.starts_with("master") { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

/// Waits for a line of a worker's log with a hint that has these words.
async fn until_hinted(worker: &LabWorker, words: &str) {
    let has = |line: &Value| line["hint"].as_str().is_some_and(|hint| hint.contains(words));
    worker.until_logged(&format!("a hint with `{words}`"), has).await;
}

#[tokio::test]
async fn a_worker_goes_on_at_the_new_primary_after_a_fail_over() {
    let mut watched = Watched::start().await;
    let post = post_at(&watched.url());
    post.close_gate();
    post.push("r", 2);
    let mut worker = post.worker("one", &["--run", "r"]);
    post.until_started(1).await;
    watched.until_copied().await;
    watched.primary.kill9();
    watched.until_failed_over().await;
    // The old one comes back, finds itself a replica, and misleads nobody.
    watched.primary.restart().await;
    post.open_gate();
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    post.consolidate("r");
    assert_eq!(watched.replica.cli(&["HGET", "molfleet:{r}:progress", "succeeded"]), "2");
    assert_eq!(post.counter("r", "lapses"), Some(0));
}

#[tokio::test]
async fn a_push_goes_on_at_the_new_primary_after_a_fail_over() {
    let mut watched = Watched::start().await;
    // So slow that the push can't be over before its first tasks are seen.
    let servers = [watched.primary.port(), watched.replica.port()];
    let line = FlakyProxy::in_front_of_sentinel(watched.sentinels[0].port(), servers).await;
    line.set(Line::Slow(Duration::from_millis(50)));
    let post = post_at(&format!("redis+sentinel://127.0.0.1:{}/fleet", line.port()));
    let molecules = 40_000;
    let arguments = post.push_arguments("r", molecules);
    let mut push = post.launchpad_command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut push = push.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the first tasks reach the replica", || async {
        let total = watched.replica.cli(&["HGET", "molfleet:{r}:progress", "total"]);
        if total.parse::<u64>().is_ok_and(|total| total > 0) { Ok(()) } else { Err(total) }
    })
    .await;
    assert_eq!(push.try_wait().unwrap(), None, "it goes on");
    watched.primary.kill9();
    line.set(Line::Fair);
    let status = eventually("the push ends", || {
        let status = push.try_wait().unwrap();
        async move { status.ok_or(()) }
    })
    .await;
    assert!(status.success(), "{status}");
    watched.until_failed_over().await;
    assert_eq!(watched.replica.cli(&["HGET", "molfleet:{r}:progress", "total"]), molecules.to_string());
    assert_eq!(watched.replica.cli(&["LLEN", "molfleet:{r}:pending"]), molecules.to_string());
}

#[tokio::test]
async fn an_unknown_service_of_the_sentinels_is_named() {
    let primary = Server::start(|_, _| String::new()).await;
    let port = primary.port();
    let sentinel = Server::sentinel(|_, _| format!("sentinel monitor fleet 127.0.0.1 {port} 1")).await;
    let ran = post_at(&format!("redis+sentinel://127.0.0.1:{}/navy", sentinel.port())).launchpad(&["status"]);
    assert!(ran.code == 75 && ran.stderr.contains("the sentinels know no such service"), "{ran:?}");
    let ran =
        post_at(&format!("redis+sentinel://127.0.0.1:{}/fleet", sentinel.port())).launchpad(&["status"]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

#[tokio::test]
async fn a_full_redis_is_waited_out_and_told() {
    let server = Server::start(|_, _| "appendonly yes".to_owned()).await;
    let post = post_at(&server.url());
    post.close_gate();
    post.push("r", 1);
    let mut worker = post.worker("one", &["--run", "r"]);
    post.until_started(1).await;
    assert_eq!(server.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    post.open_gate();
    until_hinted(&worker, "it is full").await;
    let ran = post.launchpad(&["pause", "r"]);
    assert!(
        ran.code == 75 && ran.stderr.contains("can't serve now") && ran.stderr.contains("it is full"),
        "{ran:?}"
    );
    let status = post.launchpad(&["status", "r"]);
    assert!(status.code == 0 && status.stdout.starts_with("Redis is full"), "{status:?}");
    assert_eq!(server.cli(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    post.consolidate("r");
    assert_eq!((post.counter("r", "lapses"), post.counter("r", "failures")), (Some(0), Some(0)));
}

#[tokio::test]
async fn a_redis_with_too_many_clients_is_waited_for_and_told() {
    let server = Server::start(|_, _| String::new()).await;
    let post = post_at(&server.url());
    post.push("r", 1);
    let admin = redis::Client::open(server.url()).unwrap();
    let mut admin = admin.get_multiplexed_async_connection().await.unwrap();
    let mut set = async |clients: &str| {
        let mut line = redis::pipe();
        line.cmd("CONFIG").arg("SET").arg("maxclients").arg(clients);
        line.exec_async(&mut admin).await.unwrap();
    };
    set("1").await;
    let ran = post.launchpad(&["status"]);
    // The server says so and closes, and its words may get lost.
    assert!([69, 75].contains(&ran.code) && ran.stderr.contains("maxclients"), "{ran:?}");
    let mut worker = post.worker("one", &["--run", "r"]);
    until_hinted(&worker, "maxclients").await;
    set("100").await;
    assert_eq!(worker.left().await, 0, "{}", worker.log());
}

#[tokio::test]
async fn a_replica_is_told_from_a_primary() {
    let primary = Server::start(|_, _| "repl-diskless-sync-delay 0".to_owned()).await;
    let port = primary.port();
    let replica = Server::start(|_, _| format!("replicaof 127.0.0.1 {port}")).await;
    let mut post = post_at(&primary.url());
    post.push("r", 1);
    eventually("the replica has the run", || async {
        let told = replica.cli(&["HGET", "molfleet:{r}:progress", "total"]);
        if told == "1" { Ok(()) } else { Err(told) }
    })
    .await;
    post.with(&[("MOLFLEET_REDIS", &replica.url())]);
    let ran = post.launchpad(&["pause", "r"]);
    assert!(ran.code == 75 && ran.stderr.contains("it is a replica"), "{ran:?}");
    let status = post.launchpad(&["status", "r"]);
    assert!(status.code == 0 && status.stdout.starts_with("this Redis is a replica"), "{status:?}");
    let mut worker = post.worker("one", &["--run", "r"]);
    until_hinted(&worker, "it is a replica").await;
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.left().await, 75);
}

#[tokio::test]
async fn a_silent_redis_is_told_from_an_absent_one() {
    let server = Server::start(|_, _| String::new()).await;
    let post = post_at(&server.url());
    post.push("r", 1);
    server.signal(Signal::SIGSTOP);
    let ran = post.launchpad(&["status"]);
    assert!(ran.code == 69 && ran.stderr.contains("says nothing"), "{ran:?}");
    let mut worker = post.worker("one", &["--run", "r"]);
    until_hinted(&worker, "says nothing").await;
    server.signal(Signal::SIGCONT);
    assert_eq!(worker.left().await, 0, "{}", worker.log());
}

#[tokio::test]
async fn a_worker_takes_two_connections_whatever_happened() {
    let mut server = Server::start(|_, _| "appendonly yes".to_owned()).await;
    let post = post_at(&server.url());
    post.close_gate();
    post.push("r", 4);
    let mut worker = post.worker("one", &["--run", "r", "--cores", "4"]);
    post.until_started(4).await;
    for round in ["at work", "after the connections were cut", "after a restart"] {
        eventually(round, || async {
            let clients = server.cli(&["CLIENT", "LIST"]);
            // The one that asks is not counted.
            let others = clients.lines().filter(|line| !line.contains("cmd=client|list")).count();
            // Whoever has nothing to ask does not connect again; the heartbeat has.
            let expected = if round == "at work" { 2..=2 } else { 1..=2 };
            if expected.contains(&others) { Ok(()) } else { Err(clients) }
        })
        .await;
        if round == "at work" {
            server.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        } else {
            server.kill9();
            server.restart().await;
        }
    }
    post.open_gate();
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    post.consolidate("r");
}

/// A way to a Redis that can be turned to another one, as a name or an address is after a fail-over: connections that are there stay
/// where they are.
async fn turnable_way(to: Arc<AtomicU16>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", to.load(Ordering::SeqCst))).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_becomes_a_replica_under_a_connection_is_left() {
    let old = Server::start(|_, _| "repl-diskless-sync-delay 0".to_owned()).await;
    let port = old.port();
    let new = Server::start(|_, _| format!("replicaof 127.0.0.1 {port}")).await;
    let to = Arc::new(AtomicU16::new(port));
    let post = post_at(&format!("redis://127.0.0.1:{}", turnable_way(Arc::clone(&to)).await));
    post.close_gate();
    post.push("r", 2);
    let mut worker = post.worker("one", &["--run", "r"]);
    post.until_started(1).await;
    eventually("the replica has everything", || async {
        has_copied(&old.cli(&["INFO", "replication"]), &new.cli(&["INFO", "replication"]))
    })
    .await;
    // The roles change, and no connection is cut, as a sentinel would do it.
    assert_eq!(new.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    to.store(new.port(), Ordering::SeqCst);
    assert_eq!(old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]), "OK");
    post.open_gate();
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    post.consolidate("r");
    assert_eq!(new.cli(&["HGET", "molfleet:{r}:progress", "succeeded"]), "2");
}

// Programs are waited for in this thread, and the way must go on carrying meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_given_nothing_for_long_connects_anew() {
    let (left_behind, current) =
        (Server::start(|_, _| String::new()).await, Server::start(|_, _| String::new()).await);
    let to = Arc::new(AtomicU16::new(left_behind.port()));
    let mut post = post_at(&format!("redis://127.0.0.1:{}", turnable_way(Arc::clone(&to)).await));
    let worker = post.worker("one", &["--exit-when", "never", "--unfed-seconds-max", "2"]);
    eventually("both connections are there", || async {
        let clients = left_behind.cli(&["CLIENT", "LIST"]);
        let others = clients.lines().filter(|line| !line.contains("cmd=client|list")).count();
        if others == 2 { Ok(()) } else { Err(clients) }
    })
    .await;
    to.store(current.port(), Ordering::SeqCst);
    post.with(&[("MOLFLEET_REDIS", &current.url())]).push("r", 2);
    worker
        .until_logged("it says why", |line| {
            line["message"].as_str().unwrap().contains("given no task for a while")
        })
        .await;
    eventually("the tasks are done", || async {
        let succeeded = post.counter("r", "succeeded");
        if succeeded == Some(2) { Ok(()) } else { Err(succeeded) }
    })
    .await;
    assert_eq!(post.counter("r", "lapses"), Some(0));
    eventually("nobody is left at the other one", || async {
        let clients = left_behind.cli(&["CLIENT", "LIST"]);
        if clients.lines().count() == 1 { Ok(()) } else { Err(clients) }
    })
    .await;
    post.consolidate("r");
}

#[tokio::test]
async fn a_worker_that_gets_none_of_the_tasks_that_wait_is_told_of() {
    let server = Server::start(|_, _| String::new()).await;
    let post = post_at(&server.url());
    let list = || -> Value { serde_json::from_str(&post.launchpad(&["workers", "--json"]).stdout).unwrap() };
    // It wants four cores, and the worker has one.
    let mut arguments = post.push_arguments("wide", 1);
    arguments.extend(["--threads-per-task", "4"].map(str::to_owned));
    let ran = post.launchpad(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.code, 0, "{ran:?}");
    // Who has just pushed is not told that nobody has come yet.
    server.cli(&["HSET", "molfleet:{wide}:run", "pushed_at", "1"]);
    let _worker = post.worker("one", &["--exit-when", "never", "--unfed-seconds-max", "2"]);
    eventually("the worker is told of", || async {
        let text = post.launchpad(&["workers"]).stdout;
        let is_told =
            text.contains("has room and was given no task for") && text.contains("while tasks wait");
        if is_told { Ok(()) } else { Err(text) }
    })
    .await;
    assert!(list()[0]["unfed_ms"].as_u64().unwrap() > 0 && list()[0]["reconnects"].as_u64().unwrap() > 0);
    let text = post.launchpad(&["status", "wide"]).stdout;
    let told = "1 workers have room and were given none of the 1 tasks that wait";
    assert!(text.lines().nth(1).unwrap().starts_with(told), "{text}");
    // Once it is given something, there is nothing to tell, although those tasks still wait.
    post.close_gate();
    post.push("r", 1);
    post.until_started(1).await;
    eventually("nothing is told any more", || async {
        let workers = list();
        if workers[0]["unfed_ms"].is_null() { Ok(()) } else { Err(workers) }
    })
    .await;
    assert!(!post.launchpad(&["status", "wide"]).stdout.contains("have room"));
    post.open_gate();
}
