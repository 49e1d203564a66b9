//! What the machine itself has: cores, memory, room on disk. Starts no program.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use common::checkup::Check;

use crate::config::Config;
use crate::scratch::free_bytes;

/// Bytes of a MiB, in which the worker's flag counts.
const MIB: u64 = 1024 * 1024;

/// All checks that need nothing but the machine; `probe` names the files that are tried out.
pub(super) fn examine(config: &Config, probe: &str) -> Vec<Check> {
    let here = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    vec![
        cores(config.cores, u32::try_from(here).unwrap_or(u32::MAX)),
        memory(fs::read_to_string("/proc/meminfo").unwrap_or_default().as_str()),
        folder("scratch", &config.scratch, config.scratch_free_bytes_min, probe),
        folder("cache", &config.cache, 0, probe),
    ]
}

fn cores(used: u32, here: u32) -> Check {
    let found = format!("{used} of {here} will be used");
    let hint = format!("engines would share cores and slow each other down: --cores {here} at most");
    Check::judge("cores", used <= here, found, hint)
}

/// Reads `/proc/meminfo`, whose kB are KiB.
fn memory(meminfo: &str) -> Check {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
    };
    match (field("MemTotal"), field("MemAvailable")) {
        (Some(total), Some(available)) => {
            Check::note("memory", format!("{} MiB of {} MiB are available", available / 1024, total / 1024))
        }
        _ => Check::note("memory", "can't tell: `/proc/meminfo` does not say"),
    }
}

/// Whether a file can be made durable in a folder, and whether there is room.
fn folder(name: &'static str, folder: &Path, free_bytes_min: u64, probe: &str) -> Check {
    let tried = try_out(&folder.join(format!(".doctor-{probe}")));
    let free = match tried.and_then(|()| free_bytes(folder)) {
        Ok(free) => free,
        Err(error) => {
            let hint = format!("name a folder that this user may write to with --{name}");
            return Check::wrong(name, format!("`{}` can't be used: {error}", folder.display()), hint);
        }
    };
    let floor = if free_bytes_min == 0 {
        String::new()
    } else {
        format!(", {} MiB are needed", free_bytes_min / MIB)
    };
    let found = format!("`{}` is writable, {} MiB are free{floor}", folder.display(), free / MIB);
    Check::judge(name, free >= free_bytes_min, found, "free some room, or lower --scratch-free-mib-min")
}

fn try_out(file: &Path) -> io::Result<()> {
    let write = || {
        let mut probe = OpenOptions::new().create_new(true).write(true).open(file)?;
        probe.write_all(b"molfleet worker doctor")?;
        probe.sync_all()
    };
    let written = write();
    // Nothing is there to be removed where nothing could be made.
    let removed = fs::remove_file(file);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use common::checkup::Verdict;

    use super::*;

    #[test]
    fn a_folder_needs_to_be_writable_and_to_have_room() {
        let root = tempfile::tempdir().unwrap();
        let check = folder("scratch", root.path(), 1, "p");
        assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
        assert!(fs::read_dir(root.path()).unwrap().next().is_none(), "the probe is gone");
        assert_eq!(folder("scratch", root.path(), u64::MAX, "p").verdict, Verdict::Wrong);
        let absent = folder("cache", &root.path().join("absent"), 0, "p");
        assert_eq!(absent.verdict, Verdict::Wrong);
        assert!(absent.hint.unwrap().contains("--cache"));
    }

    #[test]
    fn more_cores_than_there_are_is_wrong() {
        assert_eq!(cores(4, 4).verdict, Verdict::Ok);
        assert_eq!(cores(5, 4).verdict, Verdict::Wrong);
    }

    #[test]
    fn memory_is_read_in_mib() {
        let check =
            memory("MemTotal:       24684092 kB\nMemFree:         1 kB\nMemAvailable:   10240000 kB\n");
        assert_eq!(check.found, "10000 MiB of 24105 MiB are available");
        assert!(memory("").found.starts_with("can't tell"));
    }
}
