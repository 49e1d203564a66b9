//! A Redis Cluster of a test's own. Knows nothing of the queue.

use std::net::TcpListener;

use crate::{Server, eventually};

/// Starts a cluster of three nodes, each with a third of the slots and with these lines in its configuration.
pub async fn cluster(own: &str) -> Vec<Server> {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(node(own).await);
    }
    let addresses: Vec<String> = nodes.iter().map(address).collect();
    let create = [
        &["--cluster", "create"],
        &addresses.iter().map(String::as_str).collect::<Vec<_>>()[..],
        &["--cluster-yes"],
    ];
    let told = nodes[0].cli(&create.concat());
    until_known(&nodes, 3, &told).await;
    nodes
}

/// Adds a replica of a node to a cluster.
pub async fn replica_of(nodes: &[Server], of: usize, own: &str) -> Server {
    let replica = node(own).await;
    let id = nodes[of].cli(&["CLUSTER", "MYID"]);
    let add = [
        "--cluster",
        "add-node",
        &address(&replica),
        &address(&nodes[of]),
        "--cluster-slave",
        "--cluster-master-id",
        &id,
    ];
    let told = nodes[of].cli(&add);
    until_known(nodes, nodes.len() + 1, &told).await;
    replica
}

async fn node(own: &str) -> Server {
    let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configure =
        |_, _: &std::path::Path| format!("cluster-enabled yes\ncluster-port {}\n{own}", free_port());
    Server::start(configure).await
}

fn address(node: &Server) -> String {
    format!("127.0.0.1:{}", node.port())
}

async fn until_known(nodes: &[Server], known: usize, told: &str) {
    let known = format!("cluster_known_nodes:{known}");
    eventually("the cluster is up", || async {
        let states: Vec<String> = nodes.iter().map(|node| node.cli(&["CLUSTER", "INFO"])).collect();
        let is_up = |state: &String| state.contains("cluster_state:ok") && state.contains(&known);
        if states.iter().all(is_up) { Ok(()) } else { Err(format!("{told}{states:?}")) }
    })
    .await;
}
