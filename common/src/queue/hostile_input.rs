//! Whatever Redis answers: reading it never panics, lets no name through that is not one, and says what it does not understand in words
//! that are short and plain. Not part of the program.

use std::collections::{BTreeMap, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use redis::{PushInfo, PushKind, Value};

use super::checkpoint::Checkpoint;
use super::client::Wake;
use super::inspect::{run_info, task_info};
use super::keys::{RunKeys, follow_message, followed};
use super::lease::{fate, grant};
use super::live::piece;
use super::reply::Reply;
use super::server::Server;
use super::{Fate, QueueError};
use crate::digest::sha256_hex;
use crate::task::{LeaseName, Limits, RunId, TaskId};

/// Four times what `PROPTEST_CASES` says, 1,024 by default: each takes some microseconds.
fn cases() -> ProptestConfig {
    let cases = ProptestConfig::default().cases.saturating_mul(4);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Anything, and what nearly is a number, a lease name, a list of them, or a path.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+0-9.:=a-z/ ]{0,30}",
        "[0-9]{1,25}",
        "[0-9]{1,3}\\.[a-z0-9./]{1,9}\\.[0-9]{1,3}(:(failed|released|lost))?",
        Just("../../x".to_owned()),
        Just("\u{1b}[2J".to_owned()),
    ]
}

/// Any value of the protocol, lists in lists among them.
fn value() -> impl Strategy<Value = Value> {
    let plain = prop_oneof![
        Just(Value::Nil),
        Just(Value::Okay),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_map(Value::Double),
        any::<bool>().prop_map(Value::Boolean),
        vec(any::<u8>(), 0..20).prop_map(Value::BulkString),
        text().prop_map(|text| Value::BulkString(text.into_bytes())),
        text().prop_map(Value::SimpleString),
    ];
    plain.prop_recursive(2, 8, 4, |inner| vec(inner, 0..4).prop_map(Value::Array))
}

fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !text.starts_with('.')
}

/// An error that can be shown: short, and nothing in it commands a terminal.
fn is_fit_to_be_shown(error: &QueueError) -> TestCaseResult {
    let shown = error.to_string();
    prop_assert!(shown.chars().count() < 2000 && !shown.chars().any(char::is_control), "{shown:?}");
    Ok(())
}

fn run() -> RunId {
    "r.1-x".parse().unwrap()
}

/// The fields of a run that is in order.
fn run_fields() -> BTreeMap<String, String> {
    let limits = Limits { step_seconds: BTreeMap::from([("md".into(), 9)]), ..Limits::default() };
    let digest = "0f".repeat(32);
    let spec = format!(
        r#"{{"schema":1,"run":"{}","engine":{{"name":"command","argv":["python3","{{driver}}"],"versions":{{}},"rows":"rows.csv","columns":[{{"name":"mw"}}],"score":"mw","expect":[],"keep":[]}},"seed":1,"threads_per_task":1,"inputs":{{}},"drivers":{{"driver":{{"object":"drivers/{digest}/mw.py","sha256":"{digest}","bytes":1}}}},"manifest":{{"sha256":"{digest}","tasks":1,"molecules":1}}}}"#,
        run()
    );
    let text = [
        ("digest", sha256_hex(spec.as_bytes())),
        ("spec", spec),
        ("store", "file:///store".to_owned()),
        ("step_seconds", "md=9 parameters=600".to_owned()),
        ("pushed_at", "1".to_owned()),
        ("last_terminal_at", "2".to_owned()),
        ("campaign", "c".to_owned()),
    ];
    let numbers = [
        ("parallelism", limits.parallelism),
        ("failures_max", limits.failures_max),
        ("lapses_max", limits.lapses_max),
        ("lease_ms", limits.lease_ms),
        ("heartbeat_ms", limits.heartbeat_ms),
        ("backoff_ms", limits.backoff_ms),
        ("backoff_max_ms", limits.backoff_max_ms),
        ("step_seconds_max", limits.step_seconds_max),
        ("checkpoint_seconds", limits.checkpoint_seconds),
        ("checkpoint_jitter_seconds", limits.checkpoint_jitter_seconds),
    ];
    let numbers = numbers.map(|(name, number)| (name, number.to_string()));
    text.into_iter().chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The fields of a task with all that a task can have.
const TASK: [(&str, &str); 15] = [
    ("state", "succeeded"),
    ("lease", "3.w1.7"),
    ("worker", "w1"),
    ("ending", "failed"),
    ("former", "1.w1.1:failed 2.w2.1:released"),
    ("failures", "1"),
    ("lapses", "2"),
    ("releases", "1"),
    ("reason", "exit_code"),
    ("queued_at", "5"),
    ("shard_sha256", "0f"),
    ("index_sha256", "0f"),
    ("molecules_ok", "1"),
    ("timings_ms", "1+2+3+-+-+4+5+6"),
    ("bytes", "1 2"),
];

/// What a script gives of one lease.
const GRANT: [&str; 7] =
    ["4", "3.w1.7", r#"[{"id":"a","smiles":"C"}]"#, "1.w1.1:failed", "5", "1", "1/2 1.w1.1-1:0f"];

#[test]
fn what_the_properties_damage_is_in_order() {
    assert!(run_info(&run(), run_fields()).is_ok());
    let task = TASK.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let task = task_info(&run(), &task, Checkpoint::default()).unwrap();
    assert!(task.timings.is_some() && task.former.len() == 2 && task.bytes == Some((1, 2)));
    let grant = grant(9, &GRANT).unwrap();
    assert!(grant.unusable.is_none() && grant.former.len() == 1 && grant.checkpoint.bundles.len() == 1);
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_reply_is_understood_or_refused_in_words(values in vec(value(), 0..6), at in 0..6_usize) {
        let reply = Reply::new("lease", values);
        // What is there is given as it is; what is not is an error that can be shown.
        for error in [reply.text(at).err(), reply.number(at).err(), reply.lists(at).err(), reply.texts(at).err()] {
            error.as_ref().map_or(Ok(()), is_fit_to_be_shown)?;
        }
        is_fit_to_be_shown(&reply.unknown())?;
        match fate(&reply) {
            Ok(Fate::Cancelled) => prop_assert_eq!(reply.code(), "cancelled"),
            Ok(Fate::Lost(_)) => prop_assert_eq!(reply.code(), "lost"),
            Err(error) => is_fit_to_be_shown(&error)?,
        }
    }

    #[test]
    fn any_lease_is_refused_or_names_no_path(damages in vec((0..GRANT.len(), text()), 0..3), fields in 6..9_usize) {
        let mut given = GRANT.map(str::to_owned).to_vec();
        for (at, damage) in damages {
            given[at] = damage;
        }
        given.resize(fields, String::new());
        let given: Vec<&str> = given.iter().map(String::as_str).collect();
        if let Some(grant) = grant(9, &given) {
            prop_assert!(fields == GRANT.len() && grant.queued_ms <= 9 && is_plain(&grant.lease.to_string()));
            prop_assert!(grant.former.iter().all(|(lease, _)| is_plain(&lease.to_string())));
            prop_assert!(grant.checkpoint.bundles.iter().all(|bundle| is_plain(&bundle.lease.to_string())));
            prop_assert_eq!(grant.molecules.is_empty(), grant.unusable.is_some());
        } else {
            // The script itself makes the id and the name; nothing else takes the answer with it.
            let by_script = fields != GRANT.len() || given[0].parse::<TaskId>().is_err() || given[1].parse::<LeaseName>().is_err();
            prop_assert!(by_script);
        }
    }

    #[test]
    fn any_piece_of_output_is_left_out_or_of_a_task(
        fields in prop::collection::hash_map(prop::sample::select(vec!["task", "lease", "log", "from", "text"]).prop_map(str::to_owned), value(), 0..6),
        damaged in prop::sample::select(vec!["task", "lease", "log", "from", "text"]), damage in value(),
    ) {
        let sound = [("task", "1"), ("lease", "1.w.1"), ("log", "dock.stdout"), ("from", "0"), ("text", "x")];
        let mut one_wrong: HashMap<String, Value> =
            sound.map(|(name, text)| (name.to_owned(), Value::BulkString(text.into()))).into();
        prop_assert!(piece("1-1".into(), &one_wrong).is_some());
        one_wrong.insert(damaged.to_owned(), damage);
        for fields in [fields, one_wrong] {
            if let Some(piece) = piece("1-1".into(), &fields) {
                prop_assert!(is_plain(&piece.lease.to_string()));
            }
        }
    }

    #[test]
    fn any_message_wakes_a_worker_and_only_a_true_one_names_a_task(text in text(), task: u64, data in vec(value(), 0..3)) {
        if let Some((run, task)) = followed(&text) {
            prop_assert_eq!(follow_message(&run, task), text.clone());
        }
        let damaged = format!("{}{text}", follow_message(&run(), TaskId(task)));
        if let Some((run, task)) = followed(&damaged) {
            prop_assert_eq!(format!("{} {task}", RunKeys::new(&run).live()), damaged);
        }
        let message = |data| PushInfo { kind: PushKind::Message, data };
        // What is not understood means that there may be work: a worker asks once too often, and never leaves for it.
        let heard = Wake::of(&message(data.clone()));
        let told_to_leave = data.last().is_some_and(|last| redis::from_redis_value_ref::<String>(last).is_ok_and(|text| text == "drain"));
        prop_assert_eq!(heard == Wake::Drain, told_to_leave);
    }

    #[test]
    fn any_info_is_read_as_far_as_it_is_sound(
        lines in vec((prop::sample::select(vec!["redis_version", "role", "maxmemory", "maxclients", "aof_enabled", "connected_slaves", "min_slaves_good_slaves", "rdb_last_bgsave_status"]), text()), 0..8),
        any in text(),
    ) {
        let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        for info in [lines.concat(), any] {
            let server = Server::parse(&info);
            _ = server.major();
            prop_assert!(server.persistence_failed.len() <= 3);
        }
    }

    #[test]
    fn a_run_with_any_field_is_refused_in_words_or_sound(
        name in prop::sample::select(run_fields().into_keys().collect::<Vec<_>>()), damage in prop::option::of(text()),
    ) {
        let mut fields = run_fields();
        _ = match damage {
            Some(damage) => fields.insert(name, damage),
            None => fields.remove(&name),
        };
        match run_info(&run(), fields) {
            Ok(info) => prop_assert!(info.limits.validate().is_ok() && info.spec.run == run()),
            Err(error) => is_fit_to_be_shown(&error)?,
        }
    }

    #[test]
    fn a_task_with_any_field_is_refused_in_words_or_names_no_path(
        (name, _) in prop::sample::select(&TASK[..]), damage in text(),
    ) {
        let mut fields: BTreeMap<String, String> = TASK.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        fields.insert(name.to_owned(), damage);
        match task_info(&run(), &fields, Checkpoint::default()) {
            Ok(info) => {
                let leases = info.former.iter().map(|(lease, _)| lease).chain(&info.lease);
                prop_assert!(leases.into_iter().all(|lease| is_plain(&lease.to_string())));
            }
            Err(error) => is_fit_to_be_shown(&error)?,
        }
    }
}
