//! What the Redis server tells of itself: one INFO, parsed. Changes nothing and judges nothing.

use std::collections::BTreeMap;

use super::{Queue, QueueError};

/// A server. What it does not tell, such as a managed one, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `Redis` or `Valkey`.
    pub product: &'static str,
    /// Its own version; a Valkey's, not the Redis version that it is compatible with.
    pub version: Option<String>,
    /// `master` or `slave`, in its own words.
    pub role: Option<String>,
    /// `noeviction`, or what it drops when it is full.
    pub eviction_policy: Option<String>,
    /// The most that it may use, in bytes; 0 is no limit.
    pub memory_max_bytes: Option<u64>,
    /// What it uses now, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// What its machine has, in bytes.
    pub memory_machine_bytes: Option<u64>,
    /// Connections that it takes at most.
    pub clients_max: Option<u64>,
    /// Connections that it has now.
    pub clients: Option<u64>,
    /// Whether it keeps an append-only file.
    pub append_only: Option<bool>,
    /// How many replicas are connected.
    pub replicas: Option<u64>,
    /// Whether it takes no writes while too few of them are (`min-replicas-to-write`).
    pub waits_for_replicas: Option<bool>,
    /// The names of persistence jobs whose last run failed.
    pub persistence_failed: Vec<&'static str>,
}

/// Fields of INFO that hold `ok`, or `err` after a failure.
const PERSISTENCE: [&str; 3] =
    ["aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"];

impl Server {
    /// Reads what INFO printed.
    pub fn parse(info: &str) -> Self {
        let fields: BTreeMap<&str, &str> =
            info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok());
        let is_valkey = fields.get("server_name") == Some(&"valkey") || fields.contains_key("valkey_version");
        let failed = |name: &&str| fields.get(*name).is_some_and(|status| *status != "ok");
        Self {
            product: if is_valkey { "Valkey" } else { "Redis" },
            version: text(if is_valkey { "valkey_version" } else { "redis_version" }),
            role: text("role"),
            eviction_policy: text("maxmemory_policy"),
            memory_max_bytes: number("maxmemory"),
            memory_used_bytes: number("used_memory"),
            memory_machine_bytes: number("total_system_memory"),
            clients_max: number("maxclients"),
            clients: number("connected_clients"),
            replicas: number("connected_slaves"),
            // INFO has the field only where the limit is set.
            waits_for_replicas: fields
                .contains_key("connected_slaves")
                .then(|| fields.contains_key("min_slaves_good_slaves")),
            append_only: fields.get("aof_enabled").map(|enabled| *enabled == "1"),
            persistence_failed: PERSISTENCE.into_iter().filter(failed).collect(),
        }
    }

    /// The first number of its version.
    pub fn major(&self) -> Option<u64> {
        self.version.as_deref()?.split('.').next()?.parse().ok()
    }
}

impl Queue {
    /// Asks the server what it is and how it is set up. An ACL may forbid that, with [`QueueError::Refused`].
    pub async fn server(&self) -> Result<Server, QueueError> {
        let mut connection = self.connection().await?;
        #[expect(clippy::disallowed_methods, reason = "this is common/src/queue")]
        let info = connection.ask_one(redis::cmd("INFO")).await;
        let info = info.and_then(|info| Ok(redis::from_redis_value::<String>(info)?));
        info.map(|info| Server::parse(&info)).map_err(|source| self.error(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_is_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\n\r\n# Clients\r\nconnected_clients:3\r\nmaxclients:10000\r\n\
                    # Memory\r\nused_memory:916912\r\ntotal_system_memory:25276510208\r\nmaxmemory:0\r\n\
                    maxmemory_policy:noeviction\r\n# Persistence\r\nrdb_last_bgsave_status:err\r\naof_enabled:0\r\n\
                    aof_last_write_status:ok\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n";
        let server = Server::parse(info);
        assert_eq!(
            (server.product, server.version.as_deref(), server.major()),
            ("Redis", Some("7.0.15"), Some(7))
        );
        assert_eq!((server.clients, server.clients_max), (Some(3), Some(10_000)));
        assert_eq!((server.memory_max_bytes, server.memory_used_bytes), (Some(0), Some(916_912)));
        assert_eq!(server.eviction_policy.as_deref(), Some("noeviction"));
        assert_eq!(server.append_only, Some(false));
        assert_eq!((server.replicas, server.waits_for_replicas), (Some(2), Some(false)));
        let waits = Server::parse("connected_slaves:1\r\nmin_slaves_good_slaves:1\r\n");
        assert_eq!((waits.replicas, waits.waits_for_replicas), (Some(1), Some(true)));
        assert_eq!(server.persistence_failed, ["rdb_last_bgsave_status"]);
    }

    #[test]
    fn a_valkey_has_a_version_of_its_own() {
        let server = Server::parse("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n");
        assert_eq!((server.product, server.version.as_deref()), ("Valkey", Some("8.0.1")));
        assert_eq!((server.role, server.append_only, server.memory_max_bytes), (None, None, None));
    }
}
