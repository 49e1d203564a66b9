//! What a Redis has to be like for a fleet: each check takes what the server told of itself and says what to change. Pure.

use common::checkup::Check;
use common::queue::Server;

use crate::output::{bytes, thousands};

/// Scripts use what Redis 7 brought; every Valkey has it.
const REDIS_MAJOR_MIN: u64 = 7;
/// One for the queue, one for the heartbeats.
const CONNECTIONS_PER_WORKER: u64 = 2;
/// What `launchpad`, `redis-cli` and dashboards may take beside the workers.
const CONNECTIONS_BESIDE: u64 = 32;
/// Redis memory of a task that waits, all in, with a SMILES of 75 characters.
const BYTES_PER_PENDING: u64 = 400;
/// Redis memory of a task that has ended.
const BYTES_PER_FINISHED: u64 = 650;

/// Room that a run takes in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// So many tasks that are not pushed yet.
    New { tasks: u64 },
    /// A run that is there, with so many tasks that have not ended.
    Rest { open: u64 },
    /// Nothing that is known of.
    Unknown,
}

/// All checks of a server that is to serve `workers` workers.
pub(crate) fn judge(server: &Server, workers: u64, need: Need) -> Vec<Check> {
    vec![
        version(server),
        role(server),
        eviction(server),
        append_only(server),
        replicas(server),
        persistence(server),
        clients(server, workers),
        memory(server, need),
    ]
}

/// What keeps a server from taking writes now, or new clients, in one sentence.
pub(crate) fn trouble(server: &Server) -> Option<String> {
    let (used, max) = (server.memory_used_bytes.unwrap_or(0), server.memory_max_bytes.unwrap_or(0));
    if server.role.as_deref() == Some("slave") {
        return Some("this Redis is a replica, which takes no writes: workers need its primary".into());
    }
    if max > 0 && used >= max {
        let (used, max) = (bytes(used), bytes(max));
        return Some(format!(
            "Redis is full ({used} of {max}) and takes no results: raise its maxmemory, or `launchpad remove` runs"
        ));
    }
    if !server.persistence_failed.is_empty() {
        return Some("Redis can't write to its disk, and may take no results: its log says why".into());
    }
    let full = server.clients.zip(server.clients_max).is_some_and(|(clients, max)| clients >= max);
    full.then(|| "Redis has as many clients as it takes: raise its maxclients, two for each worker".into())
}

fn untold(name: &'static str) -> Check {
    Check::note(name, "can't tell: the server does not say")
}

fn version(server: &Server) -> Check {
    let (name, product) = ("redis_version", server.product);
    let (Some(version), Some(major)) = (&server.version, server.major()) else { return untold(name) };
    let fits = product == "Valkey" || major >= REDIS_MAJOR_MIN;
    let hint = format!("use Redis {REDIS_MAJOR_MIN} or newer, or Valkey");
    Check::judge(name, fits, format!("{product} {version}"), hint)
}

fn role(server: &Server) -> Check {
    let name = "redis_role";
    let Some(role) = server.role.as_deref() else { return untold(name) };
    let is_primary = role == "master";
    let found = if is_primary { "a primary" } else { "a replica, which takes no writes" };
    Check::judge(name, is_primary, found, "name the primary in --redis")
}

fn eviction(server: &Server) -> Check {
    let name = "redis_eviction";
    let Some(policy) = server.eviction_policy.as_deref() else { return untold(name) };
    let hint = "a full Redis would drop tasks, if not today then once somebody sets maxmemory: `redis-cli config set maxmemory-policy noeviction`, and the same in redis.conf";
    Check::judge(name, policy == "noeviction", format!("maxmemory-policy {policy}"), hint)
}

fn append_only(server: &Server) -> Check {
    let name = "redis_append_only";
    let Some(on) = server.append_only else { return untold(name) };
    let found = if on { "the append-only file is on" } else { "the append-only file is off" };
    let hint =
        "a restart would forget the run: `redis-cli config set appendonly yes`, and the same in redis.conf";
    Check::judge(name, on, found, hint)
}

/// What a fail-over can forget: nothing is wrong with it, since `audit` and repeated calls mend it, but a person should know.
fn replicas(server: &Server) -> Check {
    let name = "redis_replicas";
    let Some(replicas) = server.replicas else { return untold(name) };
    let found = match (replicas, server.waits_for_replicas) {
        (0, _) => {
            "none is connected: while this Redis is away, workers compute on and wait for it".to_owned()
        }
        (some, Some(true)) => format!(
            "{} connected, and min-replicas-to-write is set: without them no write is taken, and a fail-over forgets seconds at most",
            thousands(some)
        ),
        (some, _) => format!(
            "{} connected, but min-replicas-to-write is 0: a fail-over forgets all that a cut-off primary takes (`launchpad audit`)",
            thousands(some)
        ),
    };
    Check::note(name, found)
}

fn persistence(server: &Server) -> Check {
    let failed = &server.persistence_failed;
    let found = if failed.is_empty() {
        "the last writes to disk succeeded".to_owned()
    } else {
        format!("the last write to disk failed: {}", failed.join(", "))
    };
    let hint = "is the disk of Redis full? Its log says why; until then it may refuse all writes";
    Check::judge("redis_persistence", failed.is_empty(), found, hint)
}

fn clients(server: &Server, workers: u64) -> Check {
    let name = "redis_clients";
    let Some(max) = server.clients_max else { return untold(name) };
    let needed = workers.saturating_mul(CONNECTIONS_PER_WORKER).saturating_add(CONNECTIONS_BESIDE);
    let found = format!(
        "maxclients {} ({} workers take {CONNECTIONS_PER_WORKER} each, {CONNECTIONS_BESIDE} beside them)",
        thousands(max),
        thousands(workers)
    );
    let hint = format!(
        "`redis-cli config set maxclients {needed}`, the same in redis.conf, and `ulimit -n` above it"
    );
    Check::judge(name, max >= needed, found, hint)
}

fn memory(server: &Server, need: Need) -> Check {
    let name = "redis_memory";
    let limit = server.memory_max_bytes.filter(|bytes| *bytes > 0);
    let (Some(used), Some(limit)) = (server.memory_used_bytes, limit.or(server.memory_machine_bytes)) else {
        return untold(name);
    };
    let free = limit.saturating_sub(used);
    let (needed, whose) = match need {
        Need::New { tasks } => {
            (tasks.saturating_mul(BYTES_PER_FINISHED), format!("{} tasks", thousands(tasks)))
        }
        Need::Rest { open } => {
            let growth = open.saturating_mul(BYTES_PER_FINISHED - BYTES_PER_PENDING);
            (growth, format!("what is left of the run, {} tasks,", thousands(open)))
        }
        Need::Unknown => {
            let room = thousands(free / BYTES_PER_FINISHED);
            return Check::note(
                name,
                format!("{} of {} used: room for some {room} tasks", bytes(used), bytes(limit)),
            );
        }
    };
    let found = format!("{} of {} used; {whose} will take {} more", bytes(used), bytes(limit), bytes(needed));
    let hint = format!("raise maxmemory or use a machine with {} more", bytes(needed.saturating_sub(free)));
    Check::judge(name, needed <= free, found, hint)
}

/// How far this machine's clock is from the one of Redis, `before` and `after` being this machine's times round the question.
pub(crate) fn clock(before_ms: u64, redis_ms: u64, after_ms: u64) -> Check {
    let here_ms = before_ms.midpoint(after_ms);
    let apart = here_ms.abs_diff(redis_ms);
    let found = match here_ms.cmp(&redis_ms) {
        std::cmp::Ordering::Less => format!("{apart} ms behind the one of Redis"),
        std::cmp::Ordering::Equal => "that of Redis".to_owned(),
        std::cmp::Ordering::Greater => format!("{apart} ms ahead of the one of Redis"),
    };
    Check::note("clock", format!("this machine's clock is {found}; nothing depends on it"))
}

#[cfg(test)]
mod tests {
    use common::checkup::Verdict;

    use super::*;

    fn server() -> Server {
        Server {
            product: "Redis",
            version: Some("7.0.15".into()),
            role: Some("master".into()),
            eviction_policy: Some("noeviction".into()),
            memory_max_bytes: Some(100_000_000),
            memory_used_bytes: Some(1_000_000),
            memory_machine_bytes: Some(8_000_000_000),
            clients_max: Some(10_000),
            clients: Some(1),
            append_only: Some(true),
            replicas: Some(0),
            waits_for_replicas: Some(false),
            persistence_failed: vec![],
        }
    }

    /// The names of the checks that ask for a change.
    fn wrong(workers: u64, need: Need, change: impl Fn(&mut Server)) -> Vec<&'static str> {
        let mut server = server();
        change(&mut server);
        let checks = judge(&server, workers, need);
        assert_eq!(checks.len(), 8);
        let wrong = checks.iter().filter(|check| check.verdict == Verdict::Wrong);
        wrong.map(|check| check.name).collect()
    }

    #[test]
    fn each_setting_is_named_when_it_is_wrong() {
        let few = Need::New { tasks: 1000 };
        assert!(wrong(10, few, |_| ()).is_empty());
        assert_eq!(wrong(10, few, |s| s.version = Some("6.2.7".into())), ["redis_version"]);
        assert_eq!(wrong(10, few, |s| s.role = Some("slave".into())), ["redis_role"]);
        assert_eq!(wrong(10, few, |s| s.eviction_policy = Some("allkeys-lru".into())), ["redis_eviction"]);
        assert_eq!(wrong(10, few, |s| s.append_only = Some(false)), ["redis_append_only"]);
        assert_eq!(
            wrong(10, few, |s| s.persistence_failed.push("aof_last_write_status")),
            ["redis_persistence"]
        );
        assert_eq!(wrong(4_984, few, |_| ()), [""; 0]);
        assert_eq!(wrong(4_985, few, |_| ()), ["redis_clients"]);
    }

    #[test]
    fn trouble_is_what_stops_workers_now() {
        let check = |expect: &str, change: fn(&mut Server)| {
            let mut server = server();
            change(&mut server);
            assert!(
                trouble(&server).unwrap_or_default().contains(expect),
                "{expect}: {:?}",
                trouble(&server)
            );
        };
        assert_eq!(trouble(&server()), None);
        assert_eq!(trouble(&Server::default()), None);
        check("replica", |s| s.role = Some("slave".into()));
        check("is full (100.0 MB of 100.0 MB)", |s| s.memory_used_bytes = s.memory_max_bytes);
        check("disk", |s| s.persistence_failed.push("aof_last_write_status"));
        check("clients", |s| s.clients = s.clients_max);
    }

    #[test]
    fn an_eviction_policy_is_refused_also_before_there_is_a_limit() {
        let unlimited = |s: &mut Server| {
            (s.eviction_policy, s.memory_max_bytes) = (Some("allkeys-lru".into()), Some(0));
        };
        assert_eq!(wrong(1, Need::Unknown, unlimited), ["redis_eviction"]);
    }

    #[test]
    fn what_a_fail_over_can_forget_is_told() {
        let check = |replicas: u64, waits: bool, expect: &str| {
            let server = Server { replicas: Some(replicas), waits_for_replicas: Some(waits), ..server() };
            let check = super::replicas(&server);
            assert!(check.verdict == Verdict::Note && check.found.contains(expect), "{}", check.found);
        };
        check(0, false, "none is connected");
        check(1, false, "1 connected, but min-replicas-to-write is 0");
        check(2, true, "2 connected, and min-replicas-to-write is set");
    }

    #[test]
    fn memory_is_held_against_what_the_tasks_will_take() {
        // 99 MB are free: 152,307 finished tasks of 650 B.
        assert!(wrong(1, Need::New { tasks: 152_307 }, |_| ()).is_empty());
        assert_eq!(wrong(1, Need::New { tasks: 152_308 }, |_| ()), ["redis_memory"]);
        // Of what is pushed already, only the growth by 250 B counts.
        assert!(wrong(1, Need::Rest { open: 396_000 }, |_| ()).is_empty());
        assert_eq!(wrong(1, Need::Rest { open: 396_001 }, |_| ()), ["redis_memory"]);
        // Without maxmemory it is the machine's memory that counts.
        assert!(wrong(1, Need::New { tasks: 1_000_000 }, |s| s.memory_max_bytes = Some(0)).is_empty());
    }

    #[test]
    fn what_a_server_keeps_to_itself_is_not_wrong() {
        let silent = Server { product: "Redis", ..Server::default() };
        let checks = judge(&silent, 10, Need::New { tasks: 10 });
        let told = checks.iter().filter(|check| check.verdict != Verdict::Note);
        assert_eq!(told.map(|check| check.name).collect::<Vec<_>>(), ["redis_persistence"]);
        assert!(checks[0].found.starts_with("can't tell"), "{}", checks[0].found);
    }

    #[test]
    fn the_clock_is_compared_with_the_middle_of_the_question() {
        assert!(clock(1_000, 1_500, 1_200).found.contains("400 ms behind"));
        assert!(clock(1_000, 1_000, 1_200).found.contains("100 ms ahead"));
        assert_eq!(clock(0, 9, 0).verdict, Verdict::Note);
    }
}
