//! What tasks of a group have from each other by way of the store: the set-up that whichever comes first makes for all, and files of
//! those that a task has waited for. Every name follows from the task's number and from what the results say; nothing is listed.

use std::fs;

use bytes::Bytes;
use common::digest::sha256_hex;
use common::storage::{Creation, key};
use common::task::{AttemptRecord, Shard, Verdict};

use crate::attempt::{Attempt, Halt};
use crate::engine::{GroupSetup, Needed};
use crate::failure;
use crate::stage::Round;

impl Attempt {
    /// Brings the results of other tasks, and a file of each that is ok.
    pub(crate) async fn bring_needed(&mut self, round: &Round, needed: &[Needed]) -> Result<(), Halt> {
        for Needed { task, file, folder } in needed {
            let folder = round.folder.join(folder);
            fs::create_dir_all(&folder)?;
            let name = key::shard(*task);
            let shard = self.read_stored(&name).await?;
            fs::write(folder.join("shard.csv"), &shard)?;
            let parsed = Shard::parse(&shard).map_err(|error| {
                Halt::failed(failure::INPUT_ALTERED, format!("the stored `{name}` can't be read: {error}"))
            })?;
            if parsed.rows.iter().any(|row| row.verdict == Verdict::Bad) {
                continue;
            }
            let index = key::index(*task, &sha256_hex(&shard));
            let record = self.read_stored(&index).await?;
            let record: AttemptRecord = serde_json::from_slice(&record).map_err(|error| {
                Halt::failed(failure::INPUT_ALTERED, format!("the stored `{index}` can't be read: {error}"))
            })?;
            let found = record.files.iter().find(|found| found.object.ends_with(&format!("/{file}")));
            let found = found.ok_or_else(|| {
                Halt::failed(failure::INPUT_MISSING, format!("`{index}` names no `{file}`"))
            })?;
            let bytes = self.read_stored(&found.object).await?;
            if sha256_hex(&bytes) != found.sha256 {
                let detail = format!("`{}` has other bytes than `{index}` says", found.object);
                return Err(Halt::failed(failure::INPUT_ALTERED, detail));
            }
            let last = file.rsplit('/').next().unwrap_or(file);
            fs::write(folder.join(last), &bytes)?;
        }
        Ok(())
    }

    async fn read_stored(&mut self, object: &str) -> Result<Bytes, Halt> {
        let found = self.ask_store("read a needed result", || self.serving.store.find(object)).await?;
        let bytes = found.ok_or_else(|| {
            Halt::failed(failure::INPUT_MISSING, format!("`{object}` of a needed task is not in the store"))
        })?;
        self.bytes_down += bytes.len() as u64;
        Ok(bytes)
    }

    /// Brings the set-up that a task of the group has made, and says whether there is one.
    pub(crate) async fn bring_setup(&mut self, round: &Round, setup: &GroupSetup) -> Result<bool, Halt> {
        let object = key::group_setup(setup.first);
        let find = || self.serving.store.find(&object);
        let Some(bytes) = self.ask_store("look for the set-up", find).await? else { return Ok(false) };
        self.bytes_down += bytes.len() as u64;
        fs::write(round.folder.join(&setup.output), &bytes)?;
        Ok(true)
    }

    /// Gives a set-up that was made here to the group. If another one was first, that one counts, here too.
    pub(crate) async fn share_setup(&mut self, round: &Round, setup: &GroupSetup) -> Result<(), Halt> {
        let path = round.folder.join(&setup.output);
        if !path.is_file() {
            return Ok(());
        }
        let bytes = Bytes::from(fs::read(&path)?);
        let object = key::group_setup(setup.first);
        let create = || self.serving.store.create(&object, bytes.clone());
        match self.ask_store("share the set-up", create).await? {
            Creation::New => self.bytes_up += bytes.len() as u64,
            Creation::Same => {}
            Creation::Differs(stored) => fs::write(&path, &stored)?,
        }
        Ok(())
    }
}
