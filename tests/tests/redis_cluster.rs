//! Redis Cluster, as workers and launchpad meet it: runs in several slots, a node that is away, a fail-over. Real servers, real programs.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use nix::sys::signal::Signal;
use tests::{Outpost, Programs, Server, cluster, eventually, has_copied, replica_of};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

fn post_at(url: &str) -> Outpost {
    Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", url)])
}

#[tokio::test]
async fn runs_in_several_slots_of_a_cluster_are_worked_off() {
    let nodes = cluster("").await;
    // The first two nodes are enough to find the third.
    let url = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", nodes[0].port(), nodes[1].port());
    let post = post_at(&url);
    // Names in slots of the first, second and third node: 3300, 7365 and 15495.
    let runs = ["b", "c", "a"];
    for run in runs {
        post.push(run, 2);
    }
    for (node, run) in nodes.iter().zip(runs) {
        assert_eq!(
            node.cli(&["LLEN", &format!("molfleet:{{{run}}}:pending")]),
            "2",
            "each on a node of its own"
        );
    }
    let all = post.launchpad(&["status"]);
    assert!(all.code == 0 && runs.iter().all(|run| all.stdout.contains(run)), "{all:?}");
    let mut worker = post.worker("one", &["--exit-when", "drained"]);
    eventually("the worker shows itself", || async {
        let workers = post.launchpad(&["workers", "--json"]);
        if workers.stdout.contains("\"host\"") { Ok(()) } else { Err(workers) }
    })
    .await;
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    for run in runs {
        post.consolidate(run);
        for command in [&["status", run][..], &["show", run, "0"], &["tasks", run], &["doctor", run]] {
            let ran = post.launchpad(command);
            assert!(!ran.stdout.is_empty() && ran.code != 69 && ran.code != 70, "{command:?}: {ran:?}");
        }
        let removed = post.launchpad(&["remove", run, "--yes"]);
        assert_eq!(removed.code, 0, "{}", removed.stderr);
    }
    let left: Vec<String> = nodes.iter().map(|node| node.cli(&["DBSIZE"])).collect();
    assert_eq!(left, ["0", "0", "0"], "nothing is left, in no slot");
    // The registry of runs is on the first node.
    let ran = post_at(&nodes[1].url()).launchpad(&["status"]);
    assert!(ran.code == 69 && ran.stderr.contains("redis+cluster://"), "{ran:?}");
}

#[tokio::test]
async fn an_idle_worker_of_a_cluster_is_woken() {
    let nodes = cluster("").await;
    let post = post_at(&format!("redis+cluster://127.0.0.1:{}", nodes[0].port()));
    post.push("a", 1);
    assert_eq!(post.launchpad(&["pause", "a"]).code, 0);
    let mut worker = post.worker("one", &["--run", "a"]);
    worker.until_logged("it is idle", |line| line["why"] == "Paused").await;
    let id = worker.until_logged("it starts", |line| line["worker"].is_string()).await;
    let channel = format!("molfleet:worker:{}:wake", id["worker"].as_str().unwrap());
    let listeners =
        nodes.iter().map(|node| node.cli(&["PUBSUB", "NUMSUB", &channel])).filter(|told| told.ends_with('1'));
    assert_eq!(listeners.count(), 1, "it listens at one node; a publish at any reaches it");
    assert_eq!(post.launchpad(&["resume", "a"]).code, 0);
    // It would ask again by itself, too, after some seconds.
    worker.until_logged("it is woken", |line| line["message"] == "woken" && line["wake"] == "Work").await;
    assert_eq!(worker.left().await, 0, "{}", worker.log());
}

/// The URL of a cluster that names all these nodes.
fn url_of(nodes: &[Server]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    format!("redis+cluster://{}", nodes.join(","))
}

/// Pushes this many molecules with leases of a minute, as they are by default.
fn push_with_long_leases(post: &Outpost, run: &str, molecules: usize) {
    let mut arguments = post.push_arguments(run, molecules);
    let lease_ms = arguments.iter().position(|word| word == "--lease-ms").unwrap() + 1;
    "60000".clone_into(&mut arguments[lease_ms]);
    let ran = post.launchpad(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ran.code, 0, "push failed: {}", ran.stderr);
}

/// When the leases of a run expire, of the run's clock.
fn expiries(node: &Server, run: &str) -> String {
    node.cli(&["ZRANGE", &format!("molfleet:{{{run}}}:leases"), "0", "-1", "WITHSCORES"])
}

fn counter(node: &Server, run: &str, name: &str) -> String {
    node.cli(&["HGET", &format!("molfleet:{{{run}}}:progress"), name])
}

async fn until_counted(node: &Server, run: &str, name: &str, expected: &str) {
    eventually(&format!("{run} has {expected} {name}"), || async {
        let counted = counter(node, run, name);
        if counted == expected { Ok(()) } else { Err(counted) }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_away_holds_up_no_run_of_another_node() {
    let nodes = cluster("cluster-require-full-coverage no").await;
    let post = post_at(&url_of(&nodes));
    // In slots of the first and the third node; the one that will be away is the first to be asked.
    let ([well, _, away], [well_run, away_run]) = ([&nodes[0], &nodes[1], &nodes[2]], ["b", "a"]);
    post.close_gate();
    push_with_long_leases(&post, away_run, 1);
    push_with_long_leases(&post, well_run, 3);
    let mut worker = post.worker("one", &["--run", away_run, "--run", well_run, "--cores", "2"]);
    post.until_started(2).await;
    away.signal(Signal::SIGSTOP);
    worker
        .until_logged("the other heartbeat fails", |line| {
            line["message"].as_str().unwrap().starts_with("heartbeat failed") && line["run"] == away_run
        })
        .await;
    for _ in 0..3 {
        let before = expiries(well, well_run);
        eventually("the lease is renewed", || async {
            let after = expiries(well, well_run);
            if after == before { Err(after) } else { Ok(()) }
        })
        .await;
    }
    // The success of the other run waits for its node, and those of this one do not wait for it.
    post.open_gate();
    until_counted(well, well_run, "succeeded", "3").await;
    assert!(worker.has_left().is_none());
    away.signal(Signal::SIGCONT);
    until_counted(away, away_run, "succeeded", "1").await;
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    for (node, run) in [(well, well_run), (away, away_run)] {
        post.consolidate(run);
        assert_eq!((counter(node, run, "lapses"), counter(node, run, "failures")), ("0".into(), "0".into()));
    }
}

#[tokio::test]
async fn a_worker_goes_on_at_the_replica_that_takes_over_a_node() {
    let own = "cluster-node-timeout 2000\nappendonly yes\nrepl-diskless-sync-delay 0";
    let mut nodes = cluster(own).await;
    let replica = replica_of(&nodes, 2, own).await;
    let post = post_at(&url_of(&nodes));
    post.close_gate();
    post.push("a", 2);
    post.push("b", 2);
    let mut worker = post.worker("one", &["--run", "a", "--run", "b", "--cores", "2"]);
    post.until_started(2).await;
    eventually("the replica has everything", || async {
        has_copied(&nodes[2].cli(&["INFO", "replication"]), &replica.cli(&["INFO", "replication"]))
    })
    .await;
    nodes[2].kill9();
    eventually("the replica has taken over", || async {
        let told = [replica.cli(&["ROLE"]), replica.cli(&["CLUSTER", "INFO"])];
        if told[0].starts_with("master") && told[1].contains("cluster_state:ok") { Ok(()) } else { Err(told) }
    })
    .await;
    post.open_gate();
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    for (node, run) in [(&replica, "a"), (&nodes[0], "b")] {
        post.consolidate(run);
        assert_eq!((counter(node, run, "succeeded"), counter(node, run, "lapses")), ("2".into(), "0".into()));
    }
}
