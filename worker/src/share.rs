//! What a step makes once for all tasks of all runs, by way of the store: a structure's parameters take minutes, and are wanted by every
//! pose of it. The name of an object is the digest of all that it is made of, so nothing is listed, and it begins with the digest of its
//! own bytes, so that none is believed that is spoiled.
//!
//! It is a help and never needed: without the store a step makes it again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{Creation, key};
use common::task::StepRecord;

use crate::attempt::{Attempt, Halt};
use crate::engine::{Shareable, Step, StepOutcome};
use crate::process::How;
use crate::stage::Round;

/// How many spoiled objects may stand before a good one.
const SPOILED_MAX: u32 = 8;
/// How a step that was not run is said to have ended.
const ENDED: &str = "shared";

impl Attempt {
    /// Runs a step, unless somebody has shared what it makes; shares what it made. On one host, only one at a time makes the same.
    pub(crate) async fn run_shared(
        &mut self,
        step: Step,
        shareable: &Shareable,
        output: &Path,
        round: &Round,
    ) -> Result<StepOutcome, Halt> {
        let made_of = self.made_of(shareable, round)?;
        let shared = Arc::clone(&self.shared);
        let _alone = self.unless_stopped(shared.cache.alone(&made_of)).await??;
        let file = round.folder.join(output);
        if let Some((object, bytes)) = self.find_shared(&made_of).await? {
            fs::write(file, bytes)?;
            tracing::info!(step = step.name, object, "taking what was shared");
            let (name, argv) = (round.step_name(&step), step.argv.clone());
            let record =
                StepRecord { name, argv, ended: ENDED.to_owned(), shared: Some(object), elapsed_ms: 0 };
            self.evidence.steps.push(record);
            return Ok(StepOutcome { step, ended: None });
        }
        let outcome = self.run_program(step, round).await?;
        let is_well = outcome.ended.as_ref().is_some_and(|ended| ended.how == How::Exited(0));
        if is_well && file.is_file() {
            let shared = self.put_shared(&made_of, &file).await?;
            if let Some(record) = self.evidence.steps.last_mut() {
                record.shared = shared;
            }
        }
        Ok(outcome)
    }

    /// The digest of all that decides what a step makes: its input, what is done, the driver that does it, and the versions of its programs.
    fn made_of(&self, shareable: &Shareable, round: &Round) -> Result<String, Halt> {
        let Shareable { input, recipe, programs } = shareable;
        let input = sha256_hex(&fs::read(round.folder.join(input))?);
        let drivers: Vec<_> =
            self.serving.info.spec.drivers.iter().map(|(role, pinned)| (role, &pinned.sha256)).collect();
        let versions = &self.serving.provenance.versions;
        let versions: Vec<_> = programs.iter().map(|program| (program, versions.get(*program))).collect();
        Ok(sha256_hex(format!("{recipe}\n{input}\n{drivers:?}\n{versions:?}").as_bytes()))
    }

    /// What was shared, with the name of its object below the store.
    async fn find_shared(&mut self, made_of: &str) -> Result<Option<(String, Bytes)>, Halt> {
        for number in 0..SPOILED_MAX {
            let object = key::shared_output(made_of, number);
            let store = &self.serving.shared;
            let found = self.ask_store("look for what is shared", || store.find(&object)).await;
            let Some(stored) = unless_broken(found)?.flatten() else { return Ok(None) };
            self.bytes_down += stored.len() as u64;
            if let Some(bytes) = opened(&stored) {
                return Ok(Some((self.serving.shared.name(&object), bytes)));
            }
            tracing::warn!(object, "what was shared is spoiled, doing without it");
        }
        Ok(None)
    }

    /// Shares a file, and gives the name of its object. If another one was first, that one counts, here too. What is spoiled stays as it
    /// is: the next number is free.
    async fn put_shared(&mut self, made_of: &str, file: &Path) -> Result<Option<String>, Halt> {
        let sealed = sealed(&fs::read(file)?);
        for number in 0..SPOILED_MAX {
            let object = key::shared_output(made_of, number);
            let store = &self.serving.shared;
            let created = self.ask_store("share", || store.create(&object, sealed.clone())).await;
            let name = store.name(&object);
            match unless_broken(created)? {
                None => return Ok(None),
                Some(Creation::New) => self.bytes_up += sealed.len() as u64,
                Some(Creation::Same) => {}
                Some(Creation::Differs(stored)) => match opened(&stored) {
                    Some(bytes) => fs::write(file, bytes)?,
                    None => continue,
                },
            }
            return Ok(Some(name));
        }
        Ok(None)
    }
}

/// What a request to the store gave; `None` if it failed for good. Only a stop goes on.
fn unless_broken<T>(asked: Result<T, Halt>) -> Result<Option<T>, Halt> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(Halt::Stopped) => Err(Halt::Stopped),
        Err(halt) => {
            tracing::warn!(?halt, "nothing can be shared through the store, doing without it");
            Ok(None)
        }
    }
}

/// Bytes with their digest in front.
fn sealed(bytes: &[u8]) -> Bytes {
    Bytes::from([sha256_hex(bytes).as_bytes(), b"\n", bytes].concat())
}

/// The bytes behind their digest; `None` if they are others.
fn opened(sealed: &Bytes) -> Option<Bytes> {
    let at = sealed.iter().position(|byte| *byte == b'\n')?;
    let bytes = sealed.slice(at + 1..);
    (sha256_hex(&bytes).as_bytes() == &sealed[..at]).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoiled_is_not_believed() {
        let whole = sealed(b"[ atomtypes ]\n ha\n");
        assert_eq!(opened(&whole).unwrap(), "[ atomtypes ]\n ha\n");
        assert_eq!(opened(&sealed(b"")).unwrap(), "");
        for length in 0..whole.len() {
            assert_eq!(opened(&whole.slice(..length)), None, "{length}");
        }
        let mut other = whole.to_vec();
        for at in 0..other.len() {
            other[at] ^= 1;
            assert_eq!(opened(&Bytes::from(other.clone())), None, "{at}");
            other[at] ^= 1;
        }
    }
}
