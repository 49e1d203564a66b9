//! What a spec has to be before anything is made of it. Push makes no other; but a worker reads it from Redis, and roles, names and
//! arguments in it become paths and command lines.

use super::command::CommandError;
use super::object_name::{Folder, ObjectNameError, check_object};
use super::{
    CnnScoring, DRIVER_ROLE, EngineOptions, GninaOptions, HttpError, MmgbsaError, ObjectRef, RunId, RunSpec,
    SPEC_SCHEMA, TerachemError, VinaOptions,
};
use crate::excerpt::excerpt;

/// The longest spec, in bytes of its JSON.
pub const SPEC_BYTES_MAX: usize = 1 << 20; // 1 MiB

/// Says why a spec can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Too long to be one.
    #[error("it has {bytes} bytes (expected {SPEC_BYTES_MAX} at most)")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON of a spec.
    #[error("it is not the JSON of a spec")]
    Json(#[from] serde_json::Error),
    /// From another version.
    #[error("its schema is {theirs} (expected {SPEC_SCHEMA})")]
    Schema {
        /// The version that was there.
        theirs: u32,
    },
    /// Another run's.
    #[error("it is of run `{theirs}` (expected `{ours}`)")]
    Run {
        /// The run that it names.
        theirs: RunId,
        /// The run under whose name it was found.
        ours: RunId,
    },
    /// Engines need a thread.
    #[error("threads_per_task is 0 (expected 1 or more)")]
    NoThreads,
    /// A role that can't name a file.
    #[error(
        "the role `{role}` can't be named so (expected a-z first, then at most 31 of a-z 0-9 _; drivers: a role of their own)"
    )]
    Role {
        /// The role.
        role: String,
    },
    /// An object that is not where push puts it.
    #[error("the object of role `{role}` can't be used")]
    Object {
        /// Its role.
        role: String,
        /// What is wrong with its name.
        #[source]
        source: ObjectNameError,
    },
    /// The name of an object holds another digest than its pin.
    #[error("the object of role `{role}` is pinned to `{pinned}` and named after `{named}`")]
    Digest {
        /// Its role.
        role: String,
        /// The digest that its bytes must have.
        pinned: String,
        /// The digest in its name.
        named: String,
    },
    /// A parameter that no docking can have.
    #[error("`{name}` is {found} (expected {expected})")]
    Docking {
        /// The parameter.
        name: &'static str,
        /// Its value.
        found: String,
        /// What would be one.
        expected: &'static str,
    },
    /// A parameter of a command.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A parameter of `gromacs-mmgbsa`.
    #[error(transparent)]
    Mmgbsa(#[from] MmgbsaError),
    /// A parameter of `http`.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A parameter of `terachem`.
    #[error(transparent)]
    Terachem(#[from] TerachemError),
}

/// Whether a text can be the role of an input: it becomes part of a file's name.
pub fn is_role(role: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    role.starts_with(|c: char| c.is_ascii_lowercase()) && role.len() <= 32 && role.chars().all(allowed)
}

impl RunSpec {
    /// Reads the spec of a run and checks all of it.
    pub fn read(json: &str, run: &RunId) -> Result<Self, SpecError> {
        if json.len() > SPEC_BYTES_MAX {
            return Err(SpecError::TooLong { bytes: json.len() });
        }
        let spec: Self = serde_json::from_str(json)?;
        if spec.schema != SPEC_SCHEMA {
            return Err(SpecError::Schema { theirs: spec.schema });
        }
        if spec.run != *run {
            return Err(SpecError::Run { theirs: spec.run, ours: run.clone() });
        }
        spec.validate()?;
        Ok(spec)
    }

    /// Checks each part and their relations.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.threads_per_task == 0 {
            return Err(SpecError::NoThreads);
        }
        for (role, object) in &self.inputs {
            check_pinned(role, object, Folder::Inputs)?;
            // Workers keep both in one table.
            if self.drivers.contains_key(role) || role == DRIVER_ROLE {
                return Err(SpecError::Role { role: excerpt(role) });
            }
        }
        for (role, object) in &self.drivers {
            check_pinned(role, object, Folder::Drivers)?;
        }
        match &self.engine {
            EngineOptions::Vina(vina) => vina.validate(),
            EngineOptions::Gnina(gnina) => gnina.validate(),
            EngineOptions::Command(command) => Ok(command.validate(self.drivers.contains_key(DRIVER_ROLE))?),
            EngineOptions::GromacsMmgbsa(mmgbsa) => {
                Ok(mmgbsa.validate(self.drivers.contains_key(DRIVER_ROLE))?)
            }
            EngineOptions::Http(http) => Ok(http.validate()?),
            EngineOptions::Terachem(terachem) => Ok(terachem.validate()?),
        }
    }
}

fn check_pinned(role: &str, pinned: &ObjectRef, folder: Folder) -> Result<(), SpecError> {
    if !is_role(role) {
        return Err(SpecError::Role { role: excerpt(role) });
    }
    let named = check_object(&pinned.object, folder)
        .map_err(|source| SpecError::Object { role: role.to_owned(), source })?;
    if named == pinned.sha256 {
        return Ok(());
    }
    let (role, pinned, named) = (role.to_owned(), excerpt(&pinned.sha256), named.to_owned());
    Err(SpecError::Digest { role, pinned, named })
}

impl VinaOptions {
    fn validate(&self) -> Result<(), SpecError> {
        check_search(self.center, self.size, [("exhaustiveness", self.exhaustiveness), ("modes", self.modes)])
    }
}

impl GninaOptions {
    /// Checks each part and their relations.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_search(
            self.center,
            self.size,
            [("exhaustiveness", self.exhaustiveness), ("modes", self.modes)],
        )?;
        if self.cnn_scoring == CnnScoring::None && self.score.is_of_cnn() {
            let (name, found) = ("score", self.score.tag().to_owned());
            let expected = "minimizedAffinity, since cnn_scoring is none";
            return Err(SpecError::Docking { name, found, expected });
        }
        Ok(())
    }
}

fn check_search(center: [f64; 3], size: [f64; 3], counts: [(&'static str, u32); 2]) -> Result<(), SpecError> {
    let refuse = |name, found: String, expected| Err(SpecError::Docking { name, found, expected });
    if center.iter().any(|x| !x.is_finite()) {
        return refuse("center", format!("{center:?}"), "three finite numbers");
    }
    if size.iter().any(|edge| !edge.is_finite() || *edge <= 0.0) {
        return refuse("size", format!("{size:?}"), "three finite numbers above 0");
    }
    match counts.into_iter().find(|(_, count)| *count == 0) {
        Some((name, _)) => refuse(name, "0".to_owned(), "1 or more"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> String {
        let sha256 = "0f".repeat(32);
        format!(
            r#"{{"schema":1,"run":"r","engine":{{"name":"command","argv":["python3","{{driver}}"],"versions":{{}},
            "rows":"rows.csv","columns":[{{"name":"mw"}}],"score":null,"expect":[],"keep":[]}},"seed":1,"threads_per_task":1,
            "inputs":{{"site":{{"object":"inputs/{sha256}/site.pdb","sha256":"{sha256}","bytes":1}}}},
            "drivers":{{"driver":{{"object":"drivers/{sha256}/mw.py","sha256":"{sha256}","bytes":1}}}},
            "manifest":{{"sha256":"{sha256}","tasks":1,"molecules":1}}}}"#
        )
    }

    #[test]
    fn a_spec_of_a_push_is_read() {
        let spec = RunSpec::read(&json(), &"r".parse().unwrap()).unwrap();
        assert_eq!(spec.inputs["site"].file_name(), "site.pdb");
    }

    #[test]
    fn what_no_push_makes_is_refused_by_name() {
        let check = |from: &str, to: &str, expect: &str| {
            assert!(json().contains(from), "{from}");
            let error = RunSpec::read(&json().replace(from, to), &"r".parse().unwrap()).unwrap_err();
            let chain = format!(
                "{error}: {}",
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
            );
            assert!(chain.contains(expect), "{chain}");
        };
        check(r#""schema":1"#, r#""schema":9"#, "its schema is 9 (expected 1)");
        check(r#""run":"r""#, r#""run":"other""#, "it is of run `other` (expected `r`)");
        check(r#""run":"r""#, r#""run":"../r""#, "it is not the JSON of a spec: run id `../r` is not valid");
        check(r#""seed":1"#, r#""seed":1,"x":1"#, "unknown field `x`");
        check(r#""site":"#, r#""../../site":"#, "the role `../../site` can't be named so");
        check(r#""site":"#, r#""driver":"#, "the role `driver` can't be named so");
        check("mw.py", "-rf", "the object of role `driver` can't be used: the object `drivers/0f");
        check("/site.pdb", "/..", "the object of role `site` can't be used");
        check(r#""sha256":"0f"#, r#""sha256":"1f"#, "the object of role `site` is pinned to `1f");
        check(
            r#""rows":"rows.csv""#,
            r#""rows":"../rows.csv""#,
            "the file of rows `../rows.csv` can't be used",
        );
        check("python3", "python3\\u0000", "an argument of the command has a NUL");
        check(r#""threads_per_task":1"#, r#""threads_per_task":0"#, "threads_per_task is 0");
        let command =
            json().split_once("\"engine\":").unwrap().1.split_once(",\"seed\"").unwrap().0.to_owned();
        let gnina = r#"{"name":"gnina","center":[0,0,0],"size":[9,9,0],"exhaustiveness":8,"modes":9,"cnn_scoring":"none",
            "score":"CNN_VS","device":0}"#;
        check(&command, gnina, "`size` is [9.0, 9.0, 0.0] (expected three finite numbers above 0)");
        let gnina = gnina.replace("9,9,0", "9,9,9");
        check(&command, &gnina, "`score` is CNN_VS (expected minimizedAffinity, since cnn_scoring is none)");
        let long = format!("{}{}", json(), " ".repeat(SPEC_BYTES_MAX));
        let error = RunSpec::read(&long, &"r".parse().unwrap()).unwrap_err().to_string();
        assert!(error.ends_with("bytes (expected 1048576 at most)"), "{error}");
    }
}
