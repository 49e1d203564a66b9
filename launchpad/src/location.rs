//! Where Redis and the store are: flags and environment first, then what the run or the folder knows. Opens both; sends nothing.

use std::path::{Path, PathBuf};

use common::local;
use common::queue::Queue;
use common::redis_flags::RedisFlags;
use common::storage::{RunStore, Store};
use common::task::RunId;

use crate::error::LaunchpadError;

/// What was said about the locations, and the folder that answers for the rest.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    redis: Option<String>,
    redis_flags: RedisFlags,
    store: Option<String>,
    folder: PathBuf,
}

impl Location {
    /// Locations from flags or environment, seen from a folder.
    pub(crate) const fn new(
        redis: Option<String>,
        redis_flags: RedisFlags,
        store: Option<String>,
        folder: PathBuf,
    ) -> Self {
        Self { redis, redis_flags, store, folder }
    }

    /// The queue of this location.
    pub(crate) fn queue(&self) -> Result<Queue, LaunchpadError> {
        let url = self.redis.clone().unwrap_or_else(|| local::default_redis_url(&self.folder));
        Ok(Queue::open(self.redis_flags.clone().access(url))?)
    }

    /// The store's URL for a new run: what was said here, what the run's file says, or the folder's own store.
    pub(crate) fn store_url(&self, run_file: Option<&str>) -> Result<String, LaunchpadError> {
        if let Some(said) = self.store.as_deref().or(run_file) {
            return as_url(&self.folder, said);
        }
        let home = local::find_folder(&self.folder).unwrap_or_else(|| self.folder.join(local::FOLDER));
        folder_url(&home.join("store"))
    }

    /// The objects of a run that Redis knows, in the store that it was pushed to unless another one was named here.
    pub(crate) fn run_store(&self, recorded: &str, run: &RunId) -> Result<RunStore, LaunchpadError> {
        Ok(Store::open(&self.run_store_url(recorded)?)?.run(run))
    }

    /// The URL of the store that a run was pushed to, unless another one was named here.
    pub(crate) fn run_store_url(&self, recorded: &str) -> Result<String, LaunchpadError> {
        match &self.store {
            Some(said) => as_url(&self.folder, said),
            None => Ok(recorded.to_owned()),
        }
    }
}

/// A store as a URL: what has a scheme stays, a folder becomes an absolute `file://` URL.
pub(crate) fn as_url(base: &Path, said: &str) -> Result<String, LaunchpadError> {
    if said.contains("://") { Ok(said.to_owned()) } else { folder_url(&base.join(said)) }
}

fn folder_url(folder: &Path) -> Result<String, LaunchpadError> {
    let invalid = || LaunchpadError::Folder { path: folder.to_owned() };
    let absolute = std::path::absolute(folder).map_err(|_| invalid())?;
    url::Url::from_file_path(&absolute).map(String::from).map_err(|()| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(store: Option<&str>, folder: &Path) -> Location {
        Location::new(None, RedisFlags::default(), store.map(str::to_owned), folder.to_owned())
    }

    #[test]
    fn folders_become_absolute_urls_also_with_spaces() {
        let folder = Path::new("/data/my runs");
        assert_eq!(at(None, folder).store_url(None).unwrap(), "file:///data/my%20runs/.molfleet/store");
        assert_eq!(at(None, folder).store_url(Some("s 1")).unwrap(), "file:///data/my%20runs/s%201");
        assert_eq!(at(Some("/x"), folder).store_url(Some("s")).unwrap(), "file:///x");
        assert_eq!(at(Some("gs://b/x"), folder).store_url(None).unwrap(), "gs://b/x");
    }

    #[test]
    fn the_store_stands_beside_the_private_redis() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::create_dir_all(root.path().join(".molfleet/redis")).unwrap();
        std::fs::write(root.path().join(".molfleet/redis/url"), "redis://127.0.0.1:1\n").unwrap();
        let expect = format!("file://{}/.molfleet/store", root.path().display());
        assert_eq!(at(None, &below).store_url(None).unwrap(), expect);
        assert_eq!(at(None, &below).queue().unwrap().url(), "redis://127.0.0.1:1");
    }
}
