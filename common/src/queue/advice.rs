//! What a person can do about an error of the redis crate, in words. Judges nothing: what a program does about it is `error.rs`.

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// For a Redis that can't be reached at a URL.
pub(super) fn unreachable(url: &str, error: &RedisError) -> &'static str {
    let (said, is_tls) = (error.to_string(), url.starts_with("rediss"));
    if let Some((_, hint)) = TLS.iter().find(|(word, _)| said.contains(word)) {
        return hint;
    }
    if error.is_connection_refusal() || said.contains("failed to lookup") || said.contains("unreachable") {
        "`launchpad local up` starts a private Redis; --redis or MOLFLEET_REDIS names another one"
    } else if error.is_timeout() || said.contains("timed out") {
        if is_tls {
            "it takes connections and says nothing: it is stopped or overloaded, or does not speak TLS on this port"
        } else {
            "it takes connections and says nothing: it is stopped or overloaded"
        }
    } else if error.is_connection_dropped() {
        if is_tls {
            "it closed the connection: it restarts, has as many clients as its maxclients, or wants a certificate of this \
             client: --redis-cert and --redis-key"
        } else {
            "it closed the connection: it restarts, has as many clients as its maxclients, or wants TLS: rediss:// in the URL"
        }
    } else {
        "`launchpad doctor` says what answers there"
    }
}

/// Words of rustls, and what they mean here.
const TLS: [(&str, &str); 9] = [
    (
        "UnknownIssuer",
        "its certificate is of an authority that is not trusted here: --redis-ca names the right one",
    ),
    (
        "CaUsedAsEndEntity",
        "it shows the certificate of an authority as its own: give it one of its own, signed by that",
    ),
    ("NotValidForName", "its certificate is for another host name: use a name that the certificate has"),
    ("not valid for name", "its certificate is for another host name: use a name that the certificate has"),
    ("expired", "its certificate has expired: renew it, or set the clock of this machine"),
    ("not valid yet", "its certificate is not valid yet: set the clock of this machine"),
    ("InvalidContentType", "it does not speak TLS on this port: use its TLS port, or redis:// in the URL"),
    (
        "CertificateRequired",
        "it wants a certificate of the client: --redis-cert and --redis-key name one and its key",
    ),
    (
        "fatal alert",
        "it does not accept the certificate of this client: --redis-cert and --redis-key name another",
    ),
];

/// For a Redis that answers and can't serve now.
pub(super) fn unready(error: &RedisError) -> &'static str {
    match (error.kind(), error.code()) {
        (ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown), _) => {
            "it is a replica, which takes no writes: name the primary, or its sentinels with redis+sentinel://"
        }
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => "it is reading its data after a start: wait",
        (
            ErrorKind::Server(
                ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ),
            _,
        ) => "a part of the cluster is down: `redis-cli cluster info` and `cluster nodes` tell which",
        (ErrorKind::MasterNameNotFoundBySentinel, _) => {
            "the sentinels know no such service, or are choosing a new primary: `redis-cli -p 26379 sentinel masters`"
        }
        (_, Some("OOM")) => {
            "it is full: raise its maxmemory, or `launchpad remove` runs that are no more needed"
        }
        (_, Some("MISCONF")) => "it can't write to its disk: is that full? Its log says why",
        (_, Some("NOREPLICAS")) => {
            "too few of its replicas are there: see min-replicas-to-write in its redis.conf"
        }
        (_, Some("BUSY")) => "a script that is none of ours holds it up: `redis-cli script kill`",
        _ if error.to_string().contains("max number of clients") => {
            "it has as many clients as it takes: raise its maxclients, two for each worker and some beside"
        }
        _ => "`redis-cli INFO` tells why: its memory, clients and replication",
    }
}

/// For a Redis that refuses.
pub(super) fn refused(error: &RedisError) -> &'static str {
    let said = error.to_string();
    if said.contains("CROSSSLOT") || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::Moved)) {
        "it is a node of a cluster: name it with redis+cluster://"
    } else if matches!(error.kind(), ErrorKind::Server(ServerErrorKind::NoPerm)) || said.contains("NOPERM") {
        "this user may not do that: the ACL files of docs/operations.md list what each user needs"
    } else if said.contains("SELECT is not allowed") {
        "a cluster has one database: leave its number out of the URL"
    } else if said.contains("user_script") || said.contains("WRONGTYPE") {
        "a key was changed by hand, or launchpad, workers and the run were made by different versions"
    } else {
        "check the user in the URL and the password: in the URL, --redis-password-file, MOLFLEET_REDIS_PASSWORD_FILE or \
         MOLFLEET_REDIS_PASSWORD"
    }
}
