//! A control group whose memory has a limit, for a program that the kernel is to kill. It is made where this user may make one, below the test's own
//! group or the next one above it that can have such, and holds only processes that enter it by themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;

/// So many are made by this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A control group; removed with what is in it when it is dropped.
#[derive(Debug)]
pub struct MemoryCgroup {
    folder: PathBuf,
}

/// Where groups are made, in both versions of the interface.
#[derive(Debug)]
struct Place {
    parent: PathBuf,
    /// Files with what is written into them before anybody enters: the first must be there.
    limits: [(&'static str, u64); 2],
}

impl MemoryCgroup {
    /// Makes a group whose processes have so many bytes together, and no swap. An error says why there is none to be had here.
    pub fn make(limit_bytes: u64) -> Result<Self, String> {
        if !fs::read_to_string("/proc/vmstat").is_ok_and(|vmstat| vmstat.contains("\noom_kill ")) {
            return Err("this kernel does not say how many processes it killed for want of memory".to_owned());
        }
        let [mounts, own] = ["/proc/self/mountinfo", "/proc/self/cgroup"]
            .map(|file| fs::read_to_string(file).unwrap_or_default());
        let places = places(&mounts, &own, limit_bytes);
        let mut why = "no control groups for memory are mounted, or none may be made here".to_owned();
        for place in places {
            match Self::make_in(&place) {
                Ok(group) => return Ok(group),
                Err(error) => {
                    why = format!("no control group can be made in `{}`: {error}", place.parent.display());
                }
            }
        }
        Err(why)
    }

    fn make_in(place: &Place) -> std::io::Result<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = place.parent.join(format!("molfleet-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let group = Self { folder };
        let [(limit, bytes), (swap, with_swap)] = place.limits;
        fs::write(group.folder.join(limit), bytes.to_string())?;
        // A machine without swap has no such file.
        _ = fs::write(group.folder.join(swap), with_swap.to_string());
        Ok(group)
    }

    /// The file into which a process writes its id to enter.
    pub fn door(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Removes it, once all that entered has ended.
    pub async fn remove(self) {
        eventually("the group is empty", || async { fs::remove_dir(&self.folder) }).await;
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let inside = fs::read_to_string(self.door()).unwrap_or_default();
        for pid in inside.lines().filter_map(|line| line.parse().ok()) {
            _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // After a failed test what was killed just now may still be there: then an empty group stays.
        _ = fs::remove_dir(&self.folder);
    }
}

/// Where a group might be made: by version 2 of the interface, then by version 1.
fn places(mounts: &str, own: &str, bytes: u64) -> Vec<Place> {
    let mut places = Vec::new();
    if let Some((top, folder)) = own_folder(mounts, own, "cgroup2", "") {
        let limits = [("memory.max", bytes), ("memory.swap.max", 0)];
        let hands_on = |folder: &&Path| {
            let controllers = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
            controllers.split_whitespace().any(|word| word == "memory")
        };
        // Where processes are, none can be below: often the next one above is the first that may have such a group.
        let above = folder.ancestors().take_while(|folder| folder.starts_with(&top));
        places.extend(above.filter(hands_on).map(|parent| Place { parent: parent.to_owned(), limits }));
    }
    if let Some((_, parent)) = own_folder(mounts, own, "cgroup", "memory") {
        let limits = [("memory.limit_in_bytes", bytes), ("memory.memsw.limit_in_bytes", bytes)];
        places.push(Place { parent, limits });
    }
    places
}

/// Where the groups of a controller are mounted, and the folder of this process there. Version 2 has one tree for all controllers: there,
/// it goes without a name.
fn own_folder(mounts: &str, own: &str, kind: &str, controller: &str) -> Option<(PathBuf, PathBuf)> {
    let has = |list: &str| list.split(',').any(|word| word == controller);
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        has(controllers).then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let file_system: Vec<&str> = file_system.split(' ').collect();
        let (&[_, _, _, root, top, ..], &[its_kind, _, options]) = (&mount[..], &file_system[..]) else {
            return None;
        };
        if its_kind != kind || !(controller.is_empty() || has(options)) {
            return None;
        }
        // A container may see a part of the tree only, its own.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        Some((top.into(), Path::new(top).join(below)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_process_is_found_in_both_versions() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n\
                      33 24 0:30 /docker/ab /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n\
                      34 24 0:31 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "4:memory:/docker/ab/c\n3:cpu,cpuacct:/x\n0::/user.slice/y.scope\n";
        let folder = |kind, controller| {
            let (top, folder) = own_folder(mounts, own, kind, controller).unwrap();
            (top.display().to_string(), folder.display().to_string())
        };
        let pair = |top: &str, folder: &str| (top.to_owned(), folder.to_owned());
        assert_eq!(
            folder("cgroup2", ""),
            pair("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/user.slice/y.scope")
        );
        assert_eq!(folder("cgroup", "memory"), pair("/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/c"));
        assert_eq!(folder("cgroup", "cpuacct"), pair("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu/x"));
        assert_eq!(own_folder(mounts, own, "cgroup", "pids"), None);
        assert_eq!(own_folder("", own, "cgroup2", ""), None);
    }
}
