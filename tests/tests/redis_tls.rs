//! TLS where there is more than one server: under a sentinel with a fail-over, and in a cluster. Real servers, certificates on both
//! sides, and nothing that listens without them.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::net::TcpListener;
use std::path::PathBuf;

use tempfile::TempDir;
use tests::{Authority, Outpost, Programs, Server, eventually, has_copied};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

/// An authority with a certificate for the servers and one for their clients.
struct Papers {
    folder: TempDir,
}

impl Papers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new(folder.path(), "ca");
        // Servers are clients of each other.
        ca.sign("server", &["127.0.0.1"]);
        ca.sign("client", &[]);
        Authority::new(folder.path(), "other");
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        PathBuf::from(self.folder.path()).join(name).display().to_string()
    }

    /// A server that speaks TLS only, with other servers, too.
    async fn server(&self, is_sentinel: bool, own: &str) -> Server {
        let (ca, certificate, key) = (self.file("ca.pem"), self.file("server.pem"), self.file("server.key"));
        let configure = |port: u16, _: &std::path::Path| {
            format!(
                "tls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n\
                 tls-auth-clients yes\ntls-replication yes\n{own}"
            )
        };
        if is_sentinel { Server::sentinel(configure).await } else { Server::start(configure).await }
    }

    /// What a server answers to a client with its certificate.
    fn ask(&self, server: &Server, words: &[&str]) -> String {
        let (ca, certificate, key) = (self.file("ca.pem"), self.file("client.pem"), self.file("client.key"));
        let shown = ["--tls", "--cacert", &ca, "--cert", &certificate, "--key", &key];
        server.cli(&[&shown[..], words].concat())
    }

    /// A place that has them.
    fn post(&self, url: &str) -> Outpost {
        let (ca, certificate, key) = (self.file("ca.pem"), self.file("client.pem"), self.file("client.key"));
        let environment = [
            ("MOLFLEET_REDIS", url),
            ("MOLFLEET_REDIS_CA", &ca),
            ("MOLFLEET_REDIS_CERT", &certificate),
            ("MOLFLEET_REDIS_KEY", &key),
        ];
        Outpost::new(PROGRAMS, &environment)
    }

    /// Sees that nobody gets through to a URL who trusts another authority, or has no certificate.
    fn refuse_strangers(&self, url: &str) {
        let [ca, other] = ["ca.pem", "other.pem"].map(|name| self.file(name));
        let mut post = self.post(url);
        let told = post.with(&[("MOLFLEET_REDIS_CA", &other)]).launchpad(&["status"]);
        assert!([69, 75].contains(&told.code), "by another authority: {told:?}");
        let told = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", url), ("MOLFLEET_REDIS_CA", &ca)]);
        let told = told.launchpad(&["status"]);
        assert!([69, 75].contains(&told.code), "without a certificate: {told:?}");
        let told = self.post(url).launchpad(&["status"]);
        assert_eq!(told.code, 0, "with both: {told:?}");
    }
}

#[tokio::test]
async fn a_fleet_over_tls_goes_on_at_the_new_primary_after_a_fail_over() {
    let papers = Papers::new();
    let mut primary = papers.server(false, "appendonly yes\nrepl-diskless-sync-delay 0").await;
    let port = primary.port();
    let replica = papers.server(false, &format!("appendonly yes\nreplicaof 127.0.0.1 {port}")).await;
    let watch = format!(
        "sentinel monitor fleet 127.0.0.1 {port} 1\nsentinel down-after-milliseconds fleet 1000\n\
         sentinel failover-timeout fleet 3000"
    );
    let sentinel = papers.server(true, &watch).await;
    eventually("the sentinel knows the replica", || async {
        let told = papers.ask(&sentinel, &["SENTINEL", "MASTER", "fleet"]);
        if told.contains("num-slaves\n1\n") { Ok(()) } else { Err(told) }
    })
    .await;
    let url = format!("rediss+sentinel://127.0.0.1:{}/fleet", sentinel.port());
    papers.refuse_strangers(&url);
    let post = papers.post(&url);
    post.close_gate();
    post.push("r", 2);
    let mut worker = post.worker("one", &["--run", "r"]);
    post.until_started(1).await;
    eventually("the replica has everything", || async {
        let [primary, replica] =
            [&primary, &replica].map(|server| papers.ask(server, &["INFO", "replication"]));
        has_copied(&primary, &replica)
    })
    .await;
    primary.kill9();
    eventually("the replica is the primary", || async {
        let told = papers.ask(&replica, &["ROLE"]);
        if told.starts_with("master") { Ok(()) } else { Err(told) }
    })
    .await;
    post.open_gate();
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    post.consolidate("r");
    assert_eq!(papers.ask(&replica, &["HGET", "molfleet:{r}:progress", "succeeded"]), "2");
}

#[tokio::test]
async fn a_fleet_works_over_tls_in_a_cluster() {
    let papers = Papers::new();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = format!("cluster-enabled yes\ntls-cluster yes\ncluster-port {bus}");
        nodes.push(papers.server(false, &own).await);
    }
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let create: Vec<&str> = ["--cluster", "create"]
        .into_iter()
        .chain(addresses.iter().map(String::as_str))
        .chain(["--cluster-yes"])
        .collect();
    let told = papers.ask(&nodes[0], &create);
    eventually("the cluster is up", || async {
        let states: Vec<String> = nodes.iter().map(|node| papers.ask(node, &["CLUSTER", "INFO"])).collect();
        let is_up =
            |state: &String| state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3");
        if states.iter().all(is_up) { Ok(()) } else { Err(format!("{told}{states:?}")) }
    })
    .await;
    let url = format!("rediss+cluster://{}", addresses[0]);
    papers.refuse_strangers(&url);
    let post = papers.post(&url);
    // In slots of the first, second and third node.
    let runs = ["b", "c", "a"];
    for run in runs {
        post.push(run, 1);
    }
    let mut worker = post.worker("one", &["--exit-when", "drained"]);
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    for (node, run) in nodes.iter().zip(runs) {
        let succeeded = papers.ask(node, &["HGET", &format!("molfleet:{{{run}}}:progress"), "succeeded"]);
        assert_eq!(succeeded, "1", "each on a node of its own");
        post.consolidate(run);
    }
}
