//! Where the private Redis and store of a folder are found: `launchpad local up` writes there, both programs look there.

use std::path::{Path, PathBuf};

/// The folder that holds everything private, beside the user's files.
pub const FOLDER: &str = ".molfleet";
/// The file that tells the private Redis's URL, below [`FOLDER`].
pub const REDIS_URL_FILE: &str = "redis/url";
/// Redis where nothing else is said.
pub const DEFAULT_REDIS_URL: &str = "redis://127.0.0.1:6379";

/// The nearest private folder, from `start` upwards, that has had a Redis.
pub fn find_folder(start: &Path) -> Option<PathBuf> {
    start.ancestors().map(|folder| folder.join(FOLDER)).find(|folder| folder.join(REDIS_URL_FILE).is_file())
}

/// The URL of the private Redis nearest to `start`, else [`DEFAULT_REDIS_URL`].
pub fn default_redis_url(start: &Path) -> String {
    let url = find_folder(start).and_then(|folder| std::fs::read_to_string(folder.join(REDIS_URL_FILE)).ok());
    url.map_or_else(|| DEFAULT_REDIS_URL.to_owned(), |url| url.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_private_redis_is_found() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a b/c");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(default_redis_url(&deep), DEFAULT_REDIS_URL);
        let redis = root.path().join("a b").join(FOLDER).join("redis");
        std::fs::create_dir_all(&redis).unwrap();
        std::fs::write(redis.join("url"), "redis://127.0.0.1:7001\n").unwrap();
        assert_eq!(default_redis_url(&deep), "redis://127.0.0.1:7001");
        assert_eq!(find_folder(&deep), Some(root.path().join("a b").join(FOLDER)));
    }
}
