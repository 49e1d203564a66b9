//! What a run of the engine `http` asks of a model server: where, in which JSON, and what comes back. Pure; it names no server, since
//! those are the worker's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Column, CommandError, CommandOptions};
use crate::excerpt::excerpt;

/// Parameters of the engine `http`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpOptions {
    /// Where molecules are posted to, below an endpoint's URL; begins with `/`.
    pub path: String,
    /// Where a server says with a status from 200 to 299 that it is well, below an endpoint's URL; begins with `/`.
    pub health: String,
    /// What a request says beside its molecules.
    pub request: Map<String, Value>,
    /// The key of a request that takes the list of molecules.
    pub molecules: String,
    /// What a molecule of that list has, by key. One of them is its id.
    pub fields: BTreeMap<String, MoleculeField>,
    /// Where the list of rows is in an answer, a JSON pointer (RFC 6901); empty if the answer is the list.
    pub answer: String,
    /// The columns of the rows, in the order of the table.
    pub columns: Vec<Column>,
    /// The column that is the score, if one is.
    pub score: Option<String>,
}

/// What can be said of a molecule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoleculeField {
    /// Its id, which its row must have as `molecule_id`.
    Id,
    /// Its SMILES; `null` for an SDF record.
    Smiles,
    /// Its SDF record; `null` for a SMILES.
    Structure,
    /// Its seed, from 1 to 2³¹ − 2.
    Seed,
}

/// The file of rows that a worker writes of the answers.
const ROWS: &str = "answers.jsonl";

/// Says why the parameters of `http` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No path of a URL.
    #[error("{name} is `{}` (expected `/`, then printable ASCII without `#`)", excerpt(found))]
    Path {
        /// `path` or `health`.
        name: &'static str,
        /// What was there.
        found: String,
    },
    /// No pointer into JSON.
    #[error("answer is `{}` (expected nothing, or a JSON pointer such as `/predictions`)", excerpt(found))]
    Answer {
        /// What was there.
        found: String,
    },
    /// Rows are found by id, so a server has to be told it.
    #[error("no field is the molecule's id (expected one, such as molecule_id = 'id')")]
    NoId,
    /// The list of molecules would overwrite it.
    #[error("request has the key `{}`, which takes the molecules", excerpt(key))]
    MoleculesTwice {
        /// The key.
        key: String,
    },
    /// Something about the rows.
    #[error(transparent)]
    Rows(#[from] CommandError),
}

impl HttpOptions {
    /// What every molecule is sent with unless a run says otherwise.
    pub fn fields_default() -> BTreeMap<String, MoleculeField> {
        let fields = [("molecule_id", MoleculeField::Id), ("smiles", MoleculeField::Smiles)];
        fields.map(|(key, field)| (key.to_owned(), field)).into()
    }

    /// The rows of the answers as those of a command, whose rules they follow.
    pub fn rows(&self) -> CommandOptions {
        CommandOptions {
            argv: vec!["http".to_owned()],
            versions: BTreeMap::new(),
            rows: ROWS.to_owned(),
            columns: self.columns.clone(),
            score: self.score.clone(),
            expect: Vec::new(),
            keep: Vec::new(),
        }
    }

    /// Checks each parameter and their relations.
    pub fn validate(&self) -> Result<(), HttpError> {
        for (name, path) in [("path", &self.path), ("health", &self.health)] {
            let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
            if !path.starts_with('/') || !path.bytes().all(printable) {
                return Err(HttpError::Path { name, found: path.clone() });
            }
        }
        if !self.answer.is_empty() && !self.answer.starts_with('/') {
            return Err(HttpError::Answer { found: self.answer.clone() });
        }
        if !self.fields.values().any(|field| *field == MoleculeField::Id) {
            return Err(HttpError::NoId);
        }
        if self.request.contains_key(&self.molecules) {
            return Err(HttpError::MoleculesTwice { key: self.molecules.clone() });
        }
        Ok(self.rows().validate(false)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> HttpOptions {
        HttpOptions {
            path: "/v1/score".into(),
            health: "/health".into(),
            request: Map::new(),
            molecules: "molecules".into(),
            fields: HttpOptions::fields_default(),
            answer: "/predictions".into(),
            columns: vec![
                serde_json::from_str(r#"{"name": "affinity", "unit": "kcal/mol", "max": 0}"#).unwrap(),
            ],
            score: Some("affinity".into()),
        }
    }

    #[test]
    fn a_sound_request_is_accepted() {
        assert_eq!(options().validate(), Ok(()));
        let text = serde_json::to_string(&options()).unwrap();
        assert_eq!(serde_json::from_str::<HttpOptions>(&text).unwrap(), options());
    }

    #[test]
    fn every_contradiction_is_named() {
        let check = |change: fn(&mut HttpOptions), expect: &str| {
            let mut options = options();
            change(&mut options);
            let error = options.validate().unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check(|o| o.path = "score".into(), "path is `score` (expected `/`");
        check(|o| o.path = "/a b".into(), "path is `/a b`");
        check(|o| o.health = "/é".into(), "health is `/é`");
        check(|o| o.health = String::new(), "health is ``");
        check(|o| o.answer = "rows".into(), "answer is `rows`");
        check(|o| _ = o.fields.remove("molecule_id"), "no field is the molecule's id");
        check(|o| _ = o.request.insert("molecules".into(), Value::Null), "request has the key `molecules`");
        check(|o| o.columns.clear(), "the command declares neither a column");
        check(|o| o.score = Some("x".into()), "the score `x` is no column of numbers");
    }
}
