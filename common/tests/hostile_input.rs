//! Whatever stands in Redis, a manifest, a shard or a record, reading it neither panics nor lets a name leave its folder. Properties with
//! 1,024 cases each, four times what `PROPTEST_CASES` says; a failure prints the smallest input that shows it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is the report")]

use std::path::{Component, Path, PathBuf};

use common::excerpt::{excerpt, visible};
use common::storage::{Creation, RetryPolicy, Store, key};
use common::task::{
    AttemptRecord, LeaseName, ManifestReader, ManifestRow, ManifestWriter, Molecule, MoleculeSource, Row,
    RunId, RunSpec, Shard, State, TaskId, Timings, Verdict, WorkerId, decode_molecules, encode_molecules,
    is_id,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};

/// Texts that break readers: fragments of formats, numbers at their ends, and what means something to paths, shells and terminals.
fn hostile() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "..",
            "/",
            "-rf",
            "--",
            "\0",
            "\n",
            "\r\n",
            "\t",
            " ",
            "\"",
            "'",
            "`",
            "$(id)",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            ".",
            "+",
            "-",
            "1",
            "0",
            "18446744073709551615",
            "1e999",
            "NaN",
            "null",
            "$$$$",
            "\u{1b}[2J",
            "\u{feff}",
            "ä",
            "%2e%2e",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
        "[a-zA-Z0-9_.-]{0,8}",
    ];
    vec(fragment, 0..12).prop_map(|parts| parts.concat())
}

/// A text of a format with something wrong in the middle of it.
fn damaged(whole: String) -> impl Strategy<Value = String> {
    let ends: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    (prop::sample::select(ends), hostile(), 0..20_usize).prop_map(move |(at, inserted, dropped)| {
        let rest: String = whole[at..].chars().skip(dropped).collect();
        format!("{}{inserted}{rest}", &whole[..at])
    })
}

fn molecule() -> impl Strategy<Value = Molecule> {
    let id = any::<String>().prop_filter("an id", |id| is_id(id));
    let smiles = "[ -~]{1,40}".prop_map(|text| text.replace(' ', "C"));
    let smiles = smiles.prop_map(|smiles| MoleculeSource::Smiles { smiles });
    let sdf = ("[0-9a-f]{64}", "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", any::<u64>(), 1..1_000_000_u64).prop_map(
        |(sha256, name, offset, length)| MoleculeSource::Sdf {
            object: key::input(&sha256, &name),
            offset,
            length,
        },
    );
    (id, prop_oneof![smiles, sdf]).prop_map(|(id, source)| Molecule { id, source })
}

fn sha256() -> String {
    "0f".repeat(32)
}

fn spec() -> String {
    let sha256 = sha256();
    format!(
        r#"{{"schema":1,"run":"r","engine":{{"name":"command","argv":["python3","{{driver}}"],"versions":{{"py":["python3","-V"]}},"rows":"rows.csv","columns":[{{"name":"mw","unit":"g","min":0,"max":9}}],"score":"mw","expect":["a/{{index}}.sdf"],"keep":["b"]}},"seed":1,"threads_per_task":1,"inputs":{{"site":{{"object":"inputs/{sha256}/site.pdb","sha256":"{sha256}","bytes":1}}}},"drivers":{{"driver":{{"object":"drivers/{sha256}/mw.py","sha256":"{sha256}","bytes":1}}}},"manifest":{{"sha256":"{sha256}","tasks":1,"molecules":1}}}}"#
    )
}

/// The record of an attempt with all that a record can have.
fn record() -> Value {
    let file =
        json!({ "object": "attempts/0000004/3.w1.7/logs/dock.stderr", "sha256": sha256(), "bytes": 9 });
    let step = json!({
        "name": "dock", "argv": ["vina", "--cpu", "1"], "ended": "exit 0", "shared": "shared/x", "elapsed_ms": 5,
    });
    json!({
        "run": "r", "task": 4, "lease": "3.w1.7", "ending": "failed", "reason": "exit_code", "detail": "it broke",
        "shard_sha256": sha256(), "steps": [step], "files": [file], "suspects": ["a"],
        "carried": [{ "lease": "1.w0.1", "molecules": ["a", "b"] }],
        "resumed_from": "checkpoints/0000004/2.w1.1-1.tar",
        "provenance": {
            "engine": "vina", "versions": { "vina": "1.2.3" }, "digests": { "receptor": sha256() }, "seed": 1, "threads": 1,
            "host": "h", "region": "eu", "machine_type": "n2", "gpu": "L4",
        },
        "moments": {
            "queued": 1, "leased": 2, "staged": 3, "engine_started": 4, "engine_ended": 5, "upload_started": 6,
            "upload_ended": 7,
        },
    })
}

/// What is wrong with a place of a JSON.
#[derive(Debug, Clone)]
enum Damage {
    /// It has this value instead.
    Value(Value),
    /// It is not there.
    Missing,
    /// It has one more.
    Extra(String, Value),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number =
        prop::sample::select(vec![json!(-1), json!(u64::MAX), json!(1e308), json!(0.5), json!(i64::MIN)]);
    let other = prop::sample::select(vec![Value::Null, json!(true), json!([]), json!({}), json!([["a"]])]);
    let value = prop_oneof![
        hostile().prop_map(Value::String),
        prop::sample::select(vec!["../../x", "/etc/passwd", "3.w1.7", "1.../../x.1", "\u{1b}[2J", ""])
            .prop_map(Value::from),
        number,
        other,
    ];
    let value = value.boxed();
    prop_oneof![
        4 => value.clone().prop_map(Damage::Value),
        1 => Just(Damage::Missing),
        1 => (hostile(), value).prop_map(|(name, value)| Damage::Extra(name, value)),
    ]
}

/// The pointers to all places of a JSON.
fn places(json: &Value, here: &str, places: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match json {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in below {
        let place = format!("{here}/{}", name.replace('~', "~0").replace('/', "~1"));
        self::places(value, &place, places);
        places.push(place);
    }
}

/// Damages a place of a JSON.
fn apply(json: &mut Value, at: prop::sample::Index, damage: Damage) {
    let mut found = Vec::new();
    places(json, "", &mut found);
    let Some(place) = (!found.is_empty()).then(|| at.get(&found)) else { return };
    let (parent, name) = place.rsplit_once('/').unwrap();
    let name = name.replace("~1", "/").replace("~0", "~");
    match damage {
        Damage::Value(value) => *json.pointer_mut(place).unwrap() = value,
        Damage::Missing => match json.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.remove(&name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            other => panic!("{other} has nothing below it"),
        },
        Damage::Extra(name, value) => match json.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.insert(name, value)),
            Value::Array(items) => items.push(value),
            other => panic!("{other} has nothing below it"),
        },
    }
}

#[test]
fn what_the_properties_damage_is_in_order() {
    let whole: AttemptRecord = serde_json::from_value(record()).unwrap();
    assert_eq!(serde_json::to_value(&whole).unwrap(), record(), "nothing is left out of it");
    assert_eq!(
        (whole.maker("b").to_string(), whole.maker("c").to_string()),
        ("1.w0.1".into(), "3.w1.7".into())
    );
    assert!(RunSpec::read(&spec(), &"r".parse().unwrap()).is_ok());
}

fn stays_below(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Every part of a name that came from outside is a plain file name and no flag.
fn is_plain(object: &str) -> bool {
    object.split('/').all(|part| {
        !part.is_empty() && !part.starts_with(['.', '-']) && part.bytes().all(|b| b.is_ascii_graphic())
    })
}

fn an_accepted_spec_names_no_path_outside(spec: &RunSpec) -> TestCaseResult {
    for (role, object) in spec.inputs.iter().chain(&spec.drivers) {
        prop_assert!(is_plain(role) && is_plain(&object.object) && object.object.split('/').count() == 3);
        prop_assert_eq!(object.object.split('/').nth(1), Some(object.sha256.as_str()));
        prop_assert!(!object.file_name().starts_with('-'));
    }
    if let common::task::EngineOptions::Command(command) = &spec.engine {
        for path in command.expect.iter().chain(&command.keep).chain([&command.rows]) {
            prop_assert!(stays_below(path) && !path.contains('\0'), "{}", path);
        }
        prop_assert!(command.argv.iter().all(|word| !word.contains('\0')));
    }
    Ok(())
}

/// Four times what the environment or the default says: each case takes some microseconds.
fn cases() -> ProptestConfig {
    let cases = ProptestConfig::default().cases.saturating_mul(4);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A quarter of it, for those that make files.
fn cases_with_files() -> ProptestConfig {
    let cases = (ProptestConfig::default().cases / 4).max(1);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn names_are_refused_or_safe(text in hostile()) {
        if let Ok(run) = text.parse::<RunId>() {
            prop_assert!(is_plain(run.as_str()) && run.as_str() == text && text.len() <= 64);
        }
        if let Ok(worker) = text.parse::<WorkerId>() {
            prop_assert!(is_plain(worker.as_str()) && worker.as_str() == text);
        }
        if let Ok(lease) = text.parse::<LeaseName>() {
            prop_assert!(is_plain(&lease.to_string()) && lease.to_string() == text);
        }
        if let Ok(task) = text.parse::<TaskId>() {
            prop_assert!(is_plain(&task.padded()));
        }
        if let Err(refusal) = text.parse::<State>() {
            prop_assert!(refusal.to_string().chars().count() < 300);
        }
        // Never panics, whatever it holds.
        _ = Timings::parse(&text);
    }

    #[test]
    fn lease_names_survive_the_way_through_text(number: u64, worker in "[a-z0-9]{1,32}", request: u64) {
        let lease = LeaseName { number, worker: worker.parse().unwrap(), request };
        prop_assert_eq!(lease.to_string().parse::<LeaseName>().unwrap(), lease);
    }

    #[test]
    fn molecules_survive_the_way_through_redis(molecules in vec(molecule(), 1..5)) {
        let mut molecules = molecules;
        molecules.sort_by(|a, b| a.id.cmp(&b.id));
        molecules.dedup_by(|a, b| a.id == b.id);
        prop_assert_eq!(decode_molecules(&encode_molecules(&molecules)).unwrap(), molecules);
    }

    #[test]
    fn molecules_of_a_stranger_are_refused_or_safe(
        text in molecule().prop_flat_map(|molecule| damaged(encode_molecules(&[molecule]))), any in hostile(),
        id in hostile(), smiles in hostile(), object in hostile(),
    ) {
        let sdf = MoleculeSource::Sdf { object, offset: 0, length: 1 };
        let strange = [MoleculeSource::Smiles { smiles }, sdf].map(|source| Molecule { id: id.clone(), source });
        let strange = strange.map(|molecule| encode_molecules(&[molecule]));
        for text in strange.iter().chain([&text, &any]) {
            match decode_molecules(text) {
                Ok(molecules) => for molecule in molecules {
                    prop_assert!(is_id(&molecule.id) && !molecule.id.contains('\n'));
                    prop_assert!(molecule.smiles().bytes().all(|byte| byte.is_ascii_graphic()));
                    if let MoleculeSource::Sdf { object, .. } = &molecule.source {
                        prop_assert!(is_plain(object) && object.starts_with("inputs/"));
                    }
                }
                Err(error) => prop_assert!(error.to_string().len() < 1200, "{}", error),
            }
        }
    }

    #[test]
    fn a_damaged_spec_is_refused_or_safe(text in damaged(spec()), any in hostile()) {
        let run: RunId = "r".parse().unwrap();
        for text in [text, any] {
            if let Ok(spec) = RunSpec::read(&text, &run) {
                an_accepted_spec_names_no_path_outside(&spec)?;
            }
        }
    }

    #[test]
    fn a_spec_with_strange_values_is_refused_or_safe(
        value in hostile(),
        pointer in prop::sample::select(vec![
            "/run", "/engine/argv/0", "/engine/versions/py/1", "/engine/rows", "/engine/expect/0", "/engine/keep/0",
            "/engine/columns/0/name", "/engine/score", "/inputs/site/object", "/inputs/site/sha256", "/drivers/driver/object",
        ]),
        role: bool,
    ) {
        let mut json: serde_json::Value = serde_json::from_str(&spec()).unwrap();
        if role {
            let input = json["inputs"]["site"].take();
            json["inputs"] = serde_json::json!({ value: input });
        } else {
            *json.pointer_mut(pointer).unwrap() = value.into();
        }
        match RunSpec::read(&json.to_string(), &"r".parse().unwrap()) {
            Ok(spec) => an_accepted_spec_names_no_path_outside(&spec)?,
            Err(error) => prop_assert!(!error.to_string().contains('\u{1b}'), "{}", error),
        }
    }

    #[test]
    fn a_manifest_survives_and_a_damaged_one_is_refused_or_safe(
        molecules in vec(molecule(), 1..4), (cut, inserted) in (any::<prop::sample::Index>(), vec(any::<u8>(), 0..20)),
    ) {
        let mut writer = ManifestWriter::new(Vec::new());
        for (task, molecule) in molecules.iter().enumerate() {
            writer.write(&ManifestRow::new(TaskId(task as u64), molecule, 1)).unwrap();
        }
        let mut bytes = writer.finish().unwrap();
        let read: Vec<_> = ManifestReader::new(bytes.as_slice()).map(|task| task.unwrap().1.remove(0)).collect();
        prop_assert_eq!(read, molecules);
        let at = cut.index(bytes.len());
        bytes.splice(at..at, inserted);
        for task in ManifestReader::new(bytes.as_slice()).take(100).flatten() {
            for molecule in task.1 {
                prop_assert!(is_id(&molecule.id) && !molecule.smiles().contains(char::is_whitespace));
            }
        }
    }

    #[test]
    fn a_shard_survives_and_a_damaged_one_never_panics(
        ids in vec(any::<String>(), 1..4), note in any::<String>(), (cut, inserted) in (any::<prop::sample::Index>(), vec(any::<u8>(), 0..20)),
    ) {
        let row = |id: &String| Row {
            molecule_id: id.clone(), smiles: "C".into(), verdict: Verdict::Ok, reason: String::new(), score: "-1.5".into(),
            columns: vec![note.clone()],
        };
        let shard = Shard { score_unit: "kcal/mol".into(), columns: vec!["note".into()], rows: ids.iter().map(row).collect() };
        let mut bytes = shard.encode();
        prop_assert_eq!(Shard::parse(&bytes).unwrap(), shard);
        let at = cut.index(bytes.len());
        bytes.splice(at..at, inserted);
        if let Ok(shard) = Shard::parse(&bytes) {
            _ = shard.check_molecules(ids.iter().map(String::as_str));
        }
    }

    #[test]
    fn a_damaged_record_is_refused_or_names_attempts_only(damages in vec((any::<prop::sample::Index>(), damage()), 1..4)) {
        let mut json = record();
        for (at, damage) in damages {
            apply(&mut json, at, damage);
        }
        if let Ok(record) = serde_json::from_value::<AttemptRecord>(json) {
            // Of a name that was refused nothing is left, and nothing that was taken says something else when it is written again.
            for lease in record.carried.iter().map(|rows| &rows.lease).chain([&record.lease, record.maker("a"), record.maker("x")]) {
                prop_assert!(is_plain(&lease.to_string()));
            }
            prop_assert!(is_plain(record.run.as_str()));
            let again = serde_json::from_str::<AttemptRecord>(&serde_json::to_string(&record).unwrap());
            prop_assert_eq!(again.unwrap(), record);
        }
    }

    #[test]
    fn a_spec_with_values_of_other_kinds_is_refused_or_safe(damages in vec((any::<prop::sample::Index>(), damage()), 1..4)) {
        let mut json: Value = serde_json::from_str(&spec()).unwrap();
        for (at, damage) in damages {
            apply(&mut json, at, damage);
        }
        match RunSpec::read(&json.to_string(), &"r".parse().unwrap()) {
            Ok(spec) => an_accepted_spec_names_no_path_outside(&spec)?,
            Err(error) => prop_assert!(!error.to_string().contains('\u{1b}'), "{}", error),
        }
    }

    #[test]
    fn names_of_objects_are_plain(name in hostile(), path in "[a-z]{1,9}") {
        let lease: LeaseName = "1.a.1".parse().unwrap();
        for object in [key::input(&sha256(), &name), key::driver(&sha256(), &name), key::published_driver(&sha256(), &name)] {
            prop_assert!(is_plain(&object) && object.len() < 200, "{}", object);
        }
        prop_assert!(is_plain(&key::attempt_file(TaskId(1), &lease, &path)));
    }

    #[test]
    fn what_is_shown_cannot_disturb_a_terminal(text in hostile()) {
        prop_assert!(!excerpt(&text).chars().any(char::is_control));
        prop_assert!(excerpt(&text).chars().count() <= 61 * 12);
        prop_assert!(!visible(&text).chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
    }

}

proptest! {
    #![proptest_config(cases_with_files())]

    #[test]
    fn no_name_of_an_object_leaves_the_folder_of_its_run(name in hostile()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("store");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let url = format!("file://{}", folder.display());
        let retry = RetryPolicy { tries_max: 1, ..RetryPolicy::default() };
        let store = Store::open(&url).unwrap().with_retry(retry).run(&"r".parse().unwrap());
        for name in [name.clone(), format!("../../{name}secret"), format!("inputs/../../../secret{name}"), "../../secret".into()] {
            runtime.block_on(async {
                let created = store.create(&name, "mine".into()).await;
                let read = store.read(&name).await.map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into());
                prop_assert!(!read.contains("secret"), "{name}: {read}");
                if matches!(created, Ok(Creation::New)) {
                    store.delete(&name).await.unwrap();
                }
                Ok(())
            })?;
        }
        let left: Vec<PathBuf> = std::fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        prop_assert_eq!(left.len(), 2, "{:?}", left);
        prop_assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
    }
}
