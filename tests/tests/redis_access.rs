//! Ways into Redis: passwords, TLS and users with the least rights, each with real servers and the real programs.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::fs;
use std::path::Path;
use std::process::Stdio;

use common::digest::sha256_hex;
use tempfile::TempDir;
use tests::{Authority, Outpost, Programs, Ran, Server, eventually};

const PROGRAMS: Programs = Programs {
    launchpad: env!("CARGO_BIN_EXE_launchpad-under-test"),
    worker: env!("CARGO_BIN_EXE_worker-under-test"),
    stub: env!("CARGO_BIN_EXE_stub-engine"),
};

const SECRET: &str = "a very s3cret:/?@ word";

/// What a process was started with: its command line and environment.
fn started_with(pid: u32) -> String {
    let read =
        |name: &str| String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).unwrap()).into_owned();
    read("cmdline") + &read("environ")
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned()
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let children =
        tasks.flatten().map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    children
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

async fn server_with_password() -> Server {
    Server::start(|_, _| format!("requirepass \"{SECRET}\"")).await
}

/// Works off a run with a password from wherever, and looks for it where it must not be.
async fn the_password_stays_secret(post: &Outpost) {
    post.close_gate();
    post.push("r", 1);
    let mut worker = post.worker("one", &["--run", "r"]);
    let engine = post.until_started(1).await[0];
    let guardians: Vec<u32> =
        children(worker.pid()).into_iter().filter(|pid| command_line(*pid).contains("guardian")).collect();
    assert_eq!(guardians.len(), 1);
    assert!(!command_line(worker.pid()).contains("s3cret"));
    for pid in [engine, guardians[0]] {
        assert!(!started_with(pid).contains("s3cret"), "{pid}: {}", started_with(pid));
    }
    for arguments in [
        &["doctor", "r"][..],
        &["status", "r"],
        &["status", "r", "--json"],
        &["workers"],
        &["show", "r", "0"],
    ] {
        let ran = post.launchpad(arguments);
        assert!(!ran.stdout.is_empty() && !(ran.stdout + &ran.stderr).contains("s3cret"), "{arguments:?}");
    }
    post.open_gate();
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    assert!(!worker.log().contains("s3cret"), "{}", worker.log());
    post.consolidate("r");
}

#[tokio::test]
async fn a_password_from_a_file_stays_secret() {
    let server = server_with_password().await;
    let mut post = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &server.url())]);
    let file = post.path("password");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    post.with(&[("MOLFLEET_REDIS_PASSWORD_FILE", file.to_str().unwrap())]);
    the_password_stays_secret(&post).await;
}

#[tokio::test]
async fn a_password_from_the_environment_stays_secret() {
    let server = server_with_password().await;
    let post =
        Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &server.url()), ("MOLFLEET_REDIS_PASSWORD", SECRET)]);
    the_password_stays_secret(&post).await;
}

#[tokio::test]
async fn a_password_from_the_url_stays_secret() {
    let server = server_with_password().await;
    let escaped =
        url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>().replace('+', "%20");
    let url = format!("redis://:{escaped}@127.0.0.1:{}", server.port());
    let post = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &url)]);
    the_password_stays_secret(&post).await;
}

#[tokio::test]
async fn a_password_on_a_command_line_is_warned_of_once_and_not_repeated() {
    let server = Server::start(|_, _| "requirepass s3cret".to_owned()).await;
    let port = server.port();
    let (bare, url) = (format!("redis://127.0.0.1:{port}"), format!("redis://:s3cret@127.0.0.1:{port}"));
    let warns = |text: &str| text.matches("everybody on this machine can read command lines").count();
    let mut post = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &bare)]);
    for words in [&["--redis", &url, "status"][..], &["status", "--redis", &url]] {
        let ran = post.launchpad(words);
        assert_eq!((ran.code, warns(&ran.stderr)), (0, 1), "{ran:?}");
        assert!(ran.stderr.contains("hint: put it into a file for --redis-password-file"), "{ran:?}");
        assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
    }
    let quiet = post.launchpad(&["status", "--redis", &url, "--quiet"]);
    assert_eq!((quiet.code, warns(&quiet.stderr)), (0, 0), "{quiet:?}");
    let mut worker = post.worker("shown", &["--redis", &url, "--exit-when", "empty"]);
    assert_eq!((worker.left().await, warns(&worker.log())), (0, 1), "{}", worker.log());
    assert!(!worker.log().contains("s3cret"), "{}", worker.log());
    // In the environment it is between the user and the machine.
    post.with(&[("MOLFLEET_REDIS", &url)]);
    let ran = post.launchpad(&["status"]);
    assert_eq!((ran.code, warns(&ran.stderr)), (0, 0), "{ran:?}");
    let mut worker = post.worker("hidden", &["--exit-when", "empty"]);
    assert_eq!((worker.left().await, warns(&worker.log())), (0, 0), "{}", worker.log());
}

#[tokio::test]
async fn a_wrong_password_is_told_with_a_hint_and_a_missing_file_by_name() {
    let server = server_with_password().await;
    let mut post =
        Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &server.url()), ("MOLFLEET_REDIS_PASSWORD", "wr0ng")]);
    let ran = post.launchpad(&["status"]);
    assert!(ran.code == 69 && ran.stderr.contains("--redis-password-file"), "{ran:?}");
    assert!(!ran.stderr.contains("wr0ng"), "{ran:?}");
    post.with(&[("MOLFLEET_REDIS_PASSWORD_FILE", "absent")]);
    let ran = post.launchpad(&["status"]);
    assert!(
        ran.code == 78 && ran.stderr.contains("the password of Redis can't be read from `absent`"),
        "{ran:?}"
    );
    let mut worker = post.worker("one", &[]);
    assert_eq!(worker.left().await, 78);
}

#[tokio::test]
async fn a_changed_password_file_is_read_at_the_next_connection() {
    let mut server = Server::start(|_, _| "requirepass first\nappendonly yes".to_owned()).await;
    let mut post = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &server.url())]);
    let file = post.path("password");
    fs::write(&file, "first").unwrap();
    post.with(&[("MOLFLEET_REDIS_PASSWORD_FILE", file.to_str().unwrap())]);
    post.close_gate();
    post.push("r", 1);
    let mut worker = post.worker("one", &["--run", "r"]);
    post.until_started(1).await;
    server.kill9();
    fs::write(&file, "second").unwrap();
    let configuration = fs::read_to_string(server.path("redis.conf")).unwrap();
    fs::write(server.path("redis.conf"), configuration.replace("first", "second")).unwrap();
    server.restart().await;
    post.open_gate();
    assert_eq!(worker.left().await, 0, "{}", worker.log());
}

/// The lines of a server with TLS whose certificate is `name`, and who asks clients for one if `wants_client`.
fn tls_lines(files: &Path, name: &str, wants_client: bool, port: u16) -> String {
    let file = |name: &str| files.join(name).display().to_string();
    let (certificate, key, ca) = (file(&format!("{name}.pem")), file(&format!("{name}.key")), file("ca.pem"));
    let clients = if wants_client { "yes" } else { "no" };
    format!(
        "tls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {ca}\ntls-auth-clients {clients}"
    )
}

async fn tls_server(files: &Path, name: &str, wants_client: bool) -> Server {
    Server::start(|port, _| tls_lines(files, name, wants_client, port)).await
}

#[tokio::test]
async fn a_fleet_works_over_tls_with_certificates_on_both_sides() {
    let files = tempfile::tempdir().unwrap();
    let ca = Authority::new(files.path(), "ca");
    ca.sign("server", &["127.0.0.1", "localhost"]);
    ca.sign("client", &[]);
    let file = |name: &str| files.path().join(name).display().to_string();
    let server = tls_server(files.path(), "server", true).await;
    let url = format!("rediss://localhost:{}", server.port());
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let mut post = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &url), ("MOLFLEET_REDIS_CA", &ca)]);
    let ran = post.launchpad(&["status"]);
    assert!(ran.code == 69 && ran.stderr.contains("--redis-cert and --redis-key"), "{ran:?}");
    post.with(&[("MOLFLEET_REDIS_CERT", &certificate)]);
    let ran = post.launchpad(&["status"]);
    assert!(ran.code == 78 && ran.stderr.contains("without the other"), "{ran:?}");
    post.with(&[("MOLFLEET_REDIS_KEY", &key)]);
    post.push("r", 2);
    let mut worker = post.worker("one", &["--run", "r"]);
    assert_eq!(worker.left().await, 0, "{}", worker.log());
    post.consolidate("r");
    let doctor = post.launchpad(&["doctor", "r"]);
    assert!(doctor.stdout.contains(&format!("{url} answers")), "{doctor:?}");
}

#[tokio::test]
async fn each_mistake_with_tls_has_a_hint_of_its_own() {
    let files = tempfile::tempdir().unwrap();
    let ca = Authority::new(files.path(), "ca");
    Authority::new(files.path(), "other");
    ca.sign("server", &["localhost"]);
    ca.sign_until("old", &["localhost"], 2001);
    let server = tls_server(files.path(), "server", false).await;
    let old = tls_server(files.path(), "old", false).await;
    let plain = Server::start(|_, _| String::new()).await;
    let (right, other) = (files.path().join("ca.pem"), files.path().join("other.pem"));
    let check = |url: String, ca: Option<&Path>, code: i32, hint: &str| {
        let mut post = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &url)]);
        if let Some(ca) = ca {
            post.with(&[("MOLFLEET_REDIS_CA", ca.to_str().unwrap())]);
        }
        let ran = post.launchpad(&["status"]);
        assert!(ran.code == code && ran.stderr.contains(hint), "{url}: {ran:?}");
    };
    let port = server.port();
    check(format!("rediss://localhost:{port}"), Some(&right), 0, "");
    check(format!("rediss://localhost:{port}"), Some(&other), 69, "--redis-ca names the right one");
    check(format!("rediss://localhost:{port}"), None, 69, "--redis-ca names the right one");
    check(format!("rediss://127.0.0.1:{port}"), Some(&right), 69, "for another host name");
    check(format!("rediss://localhost:{}", old.port()), Some(&right), 69, "has expired");
    check(format!("rediss://localhost:{}", plain.port()), Some(&right), 69, "does not speak TLS");
    check(format!("redis://localhost:{port}"), None, 69, "wants TLS");
    check(format!("redis://localhost:{}", plain.port()), Some(&right), 78, "rediss://");
    let key = files.path().join("server.key");
    check(format!("rediss://localhost:{port}"), Some(&key), 69, "hint:");
}

const USERS: [&str; 3] = ["launchpad", "worker", "viewer"];

/// A Redis with the users of the ready ACL file, and one who may do all.
struct Guarded {
    server: Server,
    /// Where the certificates lie if it speaks TLS only and wants to see one of each client.
    files: Option<TempDir>,
}

impl Guarded {
    async fn start(files: Option<TempDir>) -> Self {
        let ready = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/users.acl");
        let mut acl = fs::read_to_string(ready).unwrap();
        for user in USERS {
            let digest = sha256_hex(password_of(user).as_bytes());
            acl = acl.replace(&format!("@{}@", user.to_uppercase()), &digest);
        }
        acl.push_str("user admin on >admin ~* &* +@all\n");
        let configure = |port: u16, folder: &Path| {
            fs::write(folder.join("users.acl"), &acl).unwrap();
            let tls = files.as_ref().map(|files| tls_lines(files.path(), "server", true, port));
            format!("aclfile {}\n{}", folder.join("users.acl").display(), tls.unwrap_or_default())
        };
        Self { server: Server::start(configure).await, files }
    }

    async fn plain() -> Self {
        Self::start(None).await
    }

    async fn over_tls() -> Self {
        let files = tempfile::tempdir().unwrap();
        let ca = Authority::new(files.path(), "ca");
        ca.sign("server", &["127.0.0.1"]);
        ca.sign("client", &[]);
        Self::start(Some(files)).await
    }

    /// What it answers a user.
    fn ask(&self, user: &str, words: &[&str]) -> String {
        let password = if user == "admin" { "admin".to_owned() } else { password_of(user) };
        let tls = self.files.as_ref().map(|files| {
            let file = |name: &str| files.path().join(name).display().to_string();
            ["--tls".into(), "--cacert".into(), file("ca.pem")]
                .into_iter()
                .chain(["--cert".into(), file("client.pem"), "--key".into(), file("client.key")])
                .collect::<Vec<String>>()
        });
        let tls = tls.unwrap_or_default();
        let mut line: Vec<&str> = tls.iter().map(String::as_str).collect();
        line.extend(["--user", user, "--pass", &password]);
        line.extend(words);
        self.server.cli(&line)
    }

    /// A place for each user. Launchpad's and the viewer's have the password in their environment, the worker's in a file.
    fn posts(&self) -> [Outpost; 3] {
        USERS.map(|user| {
            let scheme = if self.files.is_some() { "rediss" } else { "redis" };
            let url = format!("{scheme}://{user}@127.0.0.1:{}", self.server.port());
            let mut post = Outpost::new(PROGRAMS, &[("MOLFLEET_REDIS", &url)]);
            if let Some(files) = &self.files {
                let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"]
                    .map(|name| files.path().join(name).display().to_string());
                post.with(&[("MOLFLEET_REDIS_CA", &ca), ("MOLFLEET_REDIS_CERT", &certificate)]);
                post.with(&[("MOLFLEET_REDIS_KEY", &key)]);
            }
            if user == "worker" {
                let file = post.path("password");
                fs::write(&file, password_of(user)).unwrap();
                post.with(&[("MOLFLEET_REDIS_PASSWORD_FILE", file.to_str().unwrap())]);
            } else {
                post.with(&[("MOLFLEET_REDIS_PASSWORD", &password_of(user))]);
            }
            post
        })
    }

    /// No user but the viewer was refused anything: programs may pass over a refusal in silence, the server remembers it.
    fn nothing_was_denied_but_to_the_viewer(&self) {
        let log = self.ask("admin", &["ACL", "LOG", "128"]);
        let entries = log.split("count\n").skip(1);
        let others: Vec<&str> = entries.filter(|entry| !entry.contains("username\nviewer\n")).collect();
        assert!(others.is_empty(), "{}", others.join("\n"));
    }
}

fn password_of(user: &str) -> String {
    format!("password of {user}")
}

/// Runs a command that has to work.
fn run(post: &Outpost, words: &[&str]) -> Ran {
    let ran = post.launchpad(words);
    assert!(ran.code == 0 && !ran.stderr.contains("NOPERM"), "{words:?}: {ran:?}");
    ran
}

#[tokio::test]
async fn three_users_can_do_their_jobs_over_tls() {
    let server = Guarded::over_tls().await;
    let [chemist, mut workers, mut viewer] = server.posts();
    let store = chemist.store_url();
    workers.with(&[("MOLFLEET_STORE", &store)]);
    viewer.with(&[("MOLFLEET_STORE", &store)]);

    attempts_of_each_end(&server, &chemist, &workers).await;
    assert_eq!(viewer.counter("r", "dead"), Some(3));
    run(&chemist, &["retry", "r", "--task", "0", "--task", "1"]);
    for command in [
        &["pause", "r"][..],
        &["resume", "r"],
        &["set", "r", "parallelism=5"],
        &["cancel", "r", "--yes"],
        &["retry", "r", "--cancelled"],
    ] {
        run(&chemist, command);
    }
    assert_eq!(workers.worker("third", &["--run", "r"]).left().await, 0);

    for post in [&viewer, &chemist] {
        looks_at_everything(post);
    }
    what_was_forgotten_is_put_right(&server, &chemist);
    for command in [&["pause", "r"][..], &["cancel", "r", "--yes"], &["remove", "r", "--yes"]] {
        let ran = viewer.launchpad(command);
        assert!(ran.code == 69 && ran.stderr.contains("may not do that"), "{command:?}: {ran:?}");
    }
    server.nothing_was_denied_but_to_the_viewer();
    run(&chemist, &["remove", "r", "--yes"]);
    server.nothing_was_denied_but_to_the_viewer();
}

/// Attempts of three tasks that end by a release with a checkpoint, by a lapse and by a failure, while somebody follows one. The first
/// worker is there before its run, so that it is woken.
async fn attempts_of_each_end(server: &Guarded, chemist: &Outpost, workers: &Outpost) {
    fs::write(chemist.path("keep"), "").unwrap();
    chemist.close_gate();
    let mut first = workers.worker("first", &["--run", "r"]);
    assert!(!started_with(first.pid()).contains("password of"), "it stands in a file");
    eventually("the worker shows itself", || async {
        let seen = server.ask("admin", &["ZCARD", "molfleet:workers"]);
        if seen == "1" { Ok(()) } else { Err(seen) }
    })
    .await;
    chemist.push("r", 3);
    chemist.until_started(1).await;
    let printed = chemist.path("followed");
    let mut following = chemist.launchpad_command(&["logs", "r", "0", "-f"]);
    following.stdout(fs::File::create(&printed).unwrap()).stderr(Stdio::null());
    let mut following = tokio::process::Command::from(following).kill_on_drop(true).spawn().unwrap();
    eventually("the follower sees what the driver prints", || async {
        let text = fs::read_to_string(&printed).unwrap();
        if text.contains("counting\n") { Ok(()) } else { Err(text) }
    })
    .await;
    run(chemist, &["drain", "--all"]);
    assert_eq!(first.left().await, 75);
    for key in ["molfleet:workers", "molfleet:drains"] {
        assert_eq!(server.ask("admin", &["ZCARD", key]), "0", "it took itself off `{key}`");
    }
    let kept = server.ask("admin", &["HGET", "molfleet:{r}:checkpoints", "0"]);
    assert!(kept.starts_with("1/2 1."), "the release left a checkpoint: {kept}");
    let mut killed = workers.worker("killed", &["--run", "r"]);
    chemist.until_started(2).await;
    killed.kill9();
    fs::write(chemist.path("crash"), "").unwrap();
    chemist.open_gate();
    assert_eq!(workers.worker("second", &["--run", "r"]).left().await, 0);
    fs::remove_file(chemist.path("crash")).unwrap();
    let followed = eventually("the follower leaves with the task", || {
        let ended = following.try_wait().unwrap();
        async move { ended.ok_or("it goes on") }
    })
    .await;
    assert!(followed.success());
}

/// Everything that only reads Redis.
fn looks_at_everything(post: &Outpost) {
    let looks: [&[&str]; 12] = [
        &["status"],
        &["status", "r"],
        &["show", "r", "0"],
        &["tasks", "r"],
        &["tasks", "r", "--state", "succeeded"],
        &["workers"],
        &["logs", "r", "0"],
        &["logs", "r", "0", "-f"],
        &["top", "r"],
        &["export", "r", "--csv", "-o", "timings.csv"],
        &["consolidate", "r", "-o", "results.csv"],
        &["audit", "r"],
    ];
    for look in looks {
        run(post, look);
    }
    // A doctor finds that this Redis keeps no append-only file.
    let doctor = post.launchpad(&["doctor", "r"]);
    assert!(doctor.stdout.contains("redis_version") && !doctor.stderr.contains("NOPERM"), "{doctor:?}");
}

/// A result of which Redis has lost the record, and a counter that is wrong: `audit --fix` calls `adopt` and `repair`.
fn what_was_forgotten_is_put_right(server: &Guarded, chemist: &Outpost) {
    for line in [
        "DEL molfleet:{r}:task:0",
        "RPUSH molfleet:{r}:pending 0",
        "HINCRBY molfleet:{r}:progress succeeded -1",
        "HINCRBY molfleet:{r}:progress pending 1",
        "HINCRBY molfleet:{r}:progress lapses 7",
    ] {
        let told = server.ask("admin", &line.split(' ').collect::<Vec<_>>());
        assert!(told.parse::<u64>().is_ok(), "{line}: {told}");
    }
    let fixed = run(chemist, &["audit", "r", "--fix"]);
    let counters = ["succeeded", "pending", "lapses"];
    let counted = server.ask("admin", &[&["HMGET", "molfleet:{r}:progress"][..], &counters].concat());
    assert_eq!(counted, "2\n0\n0", "{fixed:?}");
}

/// What none of the three may do.
const FORBIDDEN: &[&str] = &[
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "SWAPDB 0 1",
    "CONFIG GET *",
    "CONFIG SET maxmemory 1",
    "ACL LIST",
    "ACL SETUSER x",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "MONITOR",
    "SHUTDOWN NOSAVE",
    "SAVE",
    "BGREWRITEAOF",
    "REPLICAOF no one",
    "SLOWLOG GET",
    "LATENCY DOCTOR",
    "MODULE LIST",
    "FUNCTION LIST",
    "SCRIPT FLUSH",
    "EVAL return(1) 0",
    "GET other",
    "SET other 2",
    "DEL other",
    "HSET other a b",
    "HGETALL other",
    "RENAME molfleet:{r}:run other",
    "MIGRATE h 1 other 0 1",
    "PUBLISH other x",
    "PUBLISH molfleet:other x",
    "SUBSCRIBE other",
    "SUBSCRIBE molfleet:other",
    "PSUBSCRIBE *",
];

#[tokio::test]
async fn three_users_can_do_nothing_else() {
    let server = Guarded::plain().await;
    let [chemist, ..] = server.posts();
    chemist.push("r", 1);
    for words in ["SET other 1", "SET molfleet:other 1"] {
        assert_eq!(server.ask("admin", &words.split(' ').collect::<Vec<_>>()), "OK");
    }
    let check = |user: &str, line: &str| {
        let told = server.ask(user, &line.split(' ').collect::<Vec<_>>());
        assert!(told.contains("NOPERM"), "{user}: {line}: {told}");
    };
    for (user, line) in USERS.iter().flat_map(|user| FORBIDDEN.iter().map(move |line| (user, line))) {
        check(user, line);
    }
    for line in [
        "DEL molfleet:{r}:run",
        "UNLINK molfleet:{r}:run",
        "ZADD molfleet:runs 1 x",
        "ZREM molfleet:runs r",
        "HSET molfleet:other a b",
    ] {
        check("worker", line);
    }
    for line in [
        "ZADD molfleet:workers 1 x",
        "HSET molfleet:worker:w a b",
        "SUBSCRIBE molfleet:worker:w:wake",
        "HSET molfleet:other a b",
    ] {
        check("launchpad", line);
    }
    for line in [
        "HSET molfleet:{r}:run paused x",
        "DEL molfleet:{r}:run",
        "ZADD molfleet:runs 1 x",
        "LPOP molfleet:{r}:pending",
        "EVALSHA 0000000000000000000000000000000000000000 1 molfleet:{r}:run",
        "SCRIPT LOAD return",
        "EXPIRE molfleet:runs 1",
        "PUBLISH molfleet:worker:w:wake x",
        "SUBSCRIBE molfleet:worker:w:wake",
    ] {
        check("viewer", line);
    }
    let nobody = server.server.cli(&["PING"]);
    assert!(nobody.contains("NOAUTH"), "{nobody}");
}

#[test]
fn a_script_calls_nothing_that_its_caller_may_not() {
    let acl = include_str!("../../docker/users.acl");
    let page = include_str!("../../docs/protocol.md").split("\n## Scripts\n").nth(1).unwrap();
    for (name, source) in common::queue::SOURCES {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` | "))).unwrap();
        let user = row.split(" | ").nth(1).unwrap();
        let rights = acl.lines().find(|line| line.starts_with(&format!("user {user} "))).unwrap();
        let commands = source.split("call('").skip(1).filter_map(|rest| rest.split('\'').next());
        for command in commands {
            let right = format!(" +{}", command.to_lowercase());
            assert!(rights.split(" (").next().unwrap().contains(&right), "{name}: {user} may not {command}");
        }
    }
}

#[test]
fn an_acl_file_whose_passwords_were_not_filled_in_lets_nobody_in() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker/users.acl");
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains(" on #@")).count(), USERS.len());
    assert!(text.starts_with("user default off\n"));
}
