//! The JSON that a server answers with, taken apart into one line per row, every number with the server's own digits. Pure; whether a
//! row can be used is for the engine's judge to say.

use std::collections::{BTreeMap, BTreeSet};

use common::excerpt::excerpt;
use serde_json::value::RawValue;

/// The key of a row by which it is found.
const ID: &str = "molecule_id";

/// The rows of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// One JSON object per row, without a line feed.
    pub(crate) lines: Vec<String>,
    /// The ids that have a row.
    pub(crate) ids: BTreeSet<String>,
}

/// Reads an answer, whose rows are where the JSON pointer says.
pub(crate) fn read(text: &str, pointer: &str) -> Result<Answer, String> {
    let text = with_quoted_numbers(text);
    let rows = descend(&text, pointer)?;
    let rows: Vec<&RawValue> =
        serde_json::from_str(rows).map_err(|_| format!("`{}` is no list of rows", excerpt(rows)))?;
    let mut answer = Answer { lines: Vec::with_capacity(rows.len()), ids: BTreeSet::new() };
    for row in rows {
        let line = row.get().replace(['\n', '\r'], " "); // in JSON they are white space, never part of a text
        let cells: BTreeMap<String, &RawValue> = serde_json::from_str(&line)
            .map_err(|_| format!("`{}` is no row (expected an object)", excerpt(&line)))?;
        let id = cells.get(ID).and_then(|id| serde_json::from_str(id.get()).ok());
        let id = id.ok_or_else(|| format!("`{}` is a row without `{ID}`", excerpt(&line)))?;
        answer.ids.insert(id);
        answer.lines.push(line);
    }
    Ok(answer)
}

/// The JSON at a pointer, letter by letter.
fn descend<'a>(text: &'a str, pointer: &str) -> Result<&'a str, String> {
    let not_json = |error: serde_json::Error| format!("`{}` is no JSON: {error}", excerpt(text));
    let mut at: &'a RawValue = serde_json::from_str(text).map_err(not_json)?;
    for part in pointer.split('/').skip(1) {
        let key = part.replace("~1", "/").replace("~0", "~");
        let below = match serde_json::from_str::<BTreeMap<String, &'a RawValue>>(at.get()) {
            Ok(mut object) => object.remove(&key),
            Err(_) => serde_json::from_str::<Vec<&'a RawValue>>(at.get())
                .ok()
                .and_then(|list| list.get(key.parse::<usize>().ok()?).copied()),
        };
        at = below.ok_or_else(|| format!("`{}` has nothing at `{}`", excerpt(text), excerpt(pointer)))?;
    }
    Ok(at.get())
}

/// The same with `NaN` and `Infinity` as texts: Python writes them as if they were JSON, and the other molecules of an answer need not
/// suffer from one's.
fn with_quoted_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    let (mut rest, mut in_text, mut is_escaped) = (text, false, false);
    while let Some(character) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| rest.starts_with(word));
        if let Some(word) = word.filter(|_| !in_text) {
            quoted.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        if character == '"' && !is_escaped {
            in_text = !in_text;
        }
        is_escaped = character == '\\' && !is_escaped;
        quoted.push(character);
        rest = &rest[character.len_utf8()..];
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, pointer: &str) -> Vec<String> {
        read(text, pointer).unwrap().lines
    }

    #[test]
    fn rows_keep_their_own_digits() {
        let row = r#"{"molecule_id": "a", "affinity": -7.10, "p": 1e-3}"#;
        assert_eq!(lines(&format!("[{row}]"), ""), [row]);
        assert_eq!(
            lines(&format!("{{\"model\": \"m\", \"predictions\": [\n{row}\n]}}"), "/predictions"),
            [row]
        );
        assert_eq!(lines(&format!("{{\"a/b\": [0, [{row}]]}}"), "/a~1b/1"), [row]);
        let spread = "{\"molecule_id\":\r\n \"a\\nb\"}";
        assert_eq!(lines(&format!("[{spread}]"), ""), ["{\"molecule_id\":   \"a\\nb\"}"]);
        assert!(read(&format!("[{spread}]"), "").unwrap().ids.contains("a\nb"));
        assert!(lines("[]", "").is_empty());
    }

    #[test]
    fn what_python_takes_for_json_costs_no_neighbour() {
        let text = r#"[{"molecule_id": "NaN \" NaN", "x": NaN}, {"molecule_id": "b", "x": -Infinity, "y": [Infinity]}]"#;
        let expect = [
            r#"{"molecule_id": "NaN \" NaN", "x": "NaN"}"#,
            r#"{"molecule_id": "b", "x": "-Infinity", "y": ["Infinity"]}"#,
        ];
        assert_eq!(lines(text, ""), expect);
    }

    #[test]
    fn what_is_no_answer_is_named() {
        let check = |text: &str, pointer: &str, expect: &str| {
            let error = read(text, pointer).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        };
        check("<html>", "", "`<html>` is no JSON");
        check("", "", "`` is no JSON");
        check(r#"[{"molecule_id": "a", "x": 1"#, "", "`[{\"molecule_id\"");
        check(r#"{"rows": []}"#, "", "`{\"rows\": []}` is no list of rows");
        check(r#"{"rows": []}"#, "/predictions", "`{\"rows\": []}` has nothing at `/predictions`");
        check("[1]", "", "`1` is no row (expected an object)");
        check(r#"[{"id": "a"}]"#, "", "`{\"id\": \"a\"}` is a row without `molecule_id`");
        check(r#"[{"molecule_id": 7}]"#, "", "`{\"molecule_id\": 7}` is a row without `molecule_id`");
    }

    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn hostile_answers_are_refused_or_become_lines(any in any::<String>(), id in any::<String>(), pointer in any::<String>()) {
            _ = read(&any, &pointer);
            let row = serde_json::json!({"molecule_id": id, "x": any});
            let answer = read(&serde_json::to_string_pretty(&[row]).unwrap(), "").unwrap();
            prop_assert!(answer.lines.len() == 1 && !answer.lines[0].contains('\n') && answer.ids.contains(&id));
        }
    }
}
