//! What the architecture says of the code, held against the code: who may name keys, start programs, print, list, and depend on whom.
#![expect(clippy::unwrap_used, reason = "a panic is the report")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The project's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// All files below some folders with one of these endings, as paths below the project's folder.
fn files(folders: &[&str], endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
            if path.is_dir() {
                folders.push(path);
            } else if endings.contains(&ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    assert!(!found.is_empty());
    found.sort();
    found
}

const PRODUCT: &[&str] = &["common/src", "worker/src", "launchpad/src"];

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The code of a file that ships: without comments and without its tests.
fn shipped(path: &Path) -> String {
    let text = read(path);
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Panics for each shipped file outside `allowed` that holds one of `words`.
fn only_in(allowed: &[&str], words: &[&str], rule: &str) {
    let mut seen = 0;
    for path in files(PRODUCT, &["rs", "lua"]) {
        let code = shipped(&path);
        let Some(word) = words.iter().find(|word| code.contains(**word)) else { continue };
        let is_allowed = allowed.iter().any(|allowed| path.starts_with(allowed));
        assert!(is_allowed, "{}: `{word}`, but {rule}", path.display());
        seen += 1;
    }
    assert!(seen > 0 || allowed.is_empty(), "nothing holds {words:?}: this check looks for the wrong words");
}

#[test]
fn only_the_queue_names_redis_keys_and_runs_commands() {
    let words = [
        "\"molfleet:",
        "'molfleet:",
        "use redis",
        " redis::",
        "(redis::",
        "<redis::",
        "redis.call",
        "deadpool::",
    ];
    only_in(&["common/src/queue"], &words, "only common/src/queue talks to Redis");
}

#[test]
fn only_process_and_local_redis_start_programs() {
    let allowed = ["worker/src/process", "launchpad/src/local_redis.rs"];
    only_in(&allowed, &["Command::new", "process::Command"], "only worker/src/process starts programs");
}

#[test]
fn only_output_prints() {
    let words = ["print!(", "println!(", "eprint!(", "eprintln!(", "io::stdout()"];
    only_in(
        &["launchpad/src/output", "worker/src/output.rs", "worker/src/process/guardian"],
        &words,
        "only launchpad/src/output and worker/src/output.rs print",
    );
}

#[test]
fn nothing_lists_a_store() {
    only_in(&[], &[".list(", ".list_with_delimiter(", ".list_with_offset("], "no command lists a bucket");
}

#[test]
fn the_task_model_is_pure() {
    for path in files(&["common/src/task"], &["rs"]) {
        let code = shipped(&path);
        for word in ["tokio", "redis", "Instant", "SystemTime", "std::fs", "std::env"] {
            assert!(!code.contains(word), "{}: `{word}` in the pure task model", path.display());
        }
    }
}

#[test]
fn engines_neither_spawn_nor_upload() {
    for path in files(&["worker/src/engine"], &["rs"]) {
        let code = shipped(&path);
        for word in ["Launcher", "common::queue", "common::storage", "std::env", "tokio"] {
            assert!(!code.contains(word), "{}: `{word}` in an engine", path.display());
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    let allowed = [
        ("common", &[][..], true),
        ("worker", &["common"][..], false),
        ("launchpad", &["common"][..], false),
        ("tests", &["common", "worker", "launchpad"][..], true),
    ];
    for (package, members, talks_to_redis) in allowed {
        let manifest = read(&Path::new(package).join("Cargo.toml"));
        let names: BTreeSet<&str> =
            manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).collect();
        for member in ["common", "worker", "launchpad", "tests"] {
            let depends = names.contains(member);
            assert_eq!(depends, members.contains(&member), "{package} and {member}");
        }
        assert_eq!(names.contains("redis"), talks_to_redis, "{package} and redis");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in files(&["common", "worker", "launchpad", "tests"], &["rs"]) {
        assert!(read(&path).starts_with("//!"), "{}: no `//!` at its start", path.display());
    }
}

#[test]
fn tests_wait_for_conditions_and_not_for_durations() {
    // They play what takes its time: engines, stores, lines, and weather. Benches keep the pace of a real fleet.
    let stand_ins = [
        "tests/src/bin/stub-engine.rs",
        "tests/src/unruly_store.rs",
        "tests/src/flaky_proxy.rs",
        "tests/src/chaos",
        "tests/benches",
        "tests/tests/tidy.rs",
    ];
    for path in files(&["tests"], &["rs"]) {
        let text = read(&path);
        let sleeps = text.contains("thread::sleep") || text.contains("time::sleep");
        assert!(
            !sleeps || stand_ins.iter().any(|stand_in| path.starts_with(stand_in)),
            "{}: a sleep",
            path.display()
        );
    }
    for path in files(PRODUCT, &["rs"]) {
        for word in ["#[ignore", "#[should_panic"] {
            assert!(!read(&path).contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn the_checker_of_the_chaos_knows_nothing_of_the_code() {
    for path in files(&["tests/src/chaos/checker"], &["rs"]) {
        let code = shipped(&path);
        for word in ["common::", "worker::", "launchpad::", "use common", "use worker"] {
            assert!(!code.contains(word), "{}: `{word}`, but the checker is independent", path.display());
        }
    }
}

#[test]
fn one_spelling_of_cancelled() {
    let other = ["cance", "led"].concat();
    for path in
        files(&["common", "worker", "launchpad", "tests", "docs", "drivers"], &["rs", "lua", "md", "py"])
    {
        let is_this_file = path.ends_with("state.rs") || path.ends_with("tidy.rs");
        assert!(is_this_file || !read(&path).to_lowercase().contains(&other), "{}: {other}", path.display());
    }
}

#[test]
fn the_documents_name_files_that_are_there() {
    let mut documents = files(&["docs", "examples"], &["md"]);
    documents.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from));
    for document in documents {
        let text = read(&document);
        let folder = root().join(document.parent().unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(folder.join(file).exists(), "{}: no `{file}`", document.display());
        }
    }
    assert!(read(Path::new("ARCHITECTURE.md")).lines().count() <= 200);
}

#[test]
fn commands_stay_short() {
    for path in files(&["launchpad/src/commands"], &["rs"]) {
        let lines = read(&path).lines().count();
        assert!(
            lines <= 220,
            "{}: {lines} lines, a command decides and leaves the rest to others",
            path.display()
        );
    }
}
