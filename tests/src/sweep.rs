//! Removes what earlier runs that died left behind. Everything of a world begins with `ph<pid of its owner>x`, so what
//! belongs to a process that is no more is nobody's.

use crate::{cgroup, namespace};
use std::{fs, path::Path};

/// Where programs are pinned.
pub const BPFFS: &str = "/sys/fs/bpf";

/// Removes namespaces, cgroups (with their processes) and pinned programs of runs that are dead.
pub fn sweep() {
    if let Ok(root) = cgroup::mount_point() {
        orphans(&root).iter().for_each(|name| cgroup::remove(&root.join(name)));
    }
    orphans(Path::new(namespace::FOLDER)).iter().for_each(|name| namespace::remove(name));
    for name in orphans(Path::new(BPFFS)) {
        let _ = fs::remove_dir_all(Path::new(BPFFS).join(name));
    }
    let scratch = std::env::temp_dir();
    for name in orphans(&scratch) {
        let _ = fs::remove_dir_all(scratch.join(name));
    }
}

/// Names in a folder that belong to worlds of dead processes.
fn orphans(folder: &Path) -> Vec<String> {
    named(folder, |name| owner(name).is_some_and(|pid| !lives(pid)))
}

/// Whether a process is there and has not ended: one whose end nobody has taken note of yet is dead (proc(5), state `Z`).
#[must_use]
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Names in a folder that begin with `prefix`: what a world still has there.
#[must_use]
pub fn of_world(folder: &Path, prefix: &str) -> Vec<String> {
    named(folder, |name| name.starts_with(prefix))
}

fn named(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| fits(name)).collect()
}

fn owner(name: &str) -> Option<u32> {
    let (pid, rest) = name.strip_prefix("ph")?.split_once('x')?;
    rest.starts_with(|c: char| c.is_ascii_digit()).then(|| pid.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn what_has_ended_does_not_live() {
        assert!(lives(std::process::id()));
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        while lives(ended.id()) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(Path::new("/proc").join(ended.id().to_string()).exists());
        assert!(ended.wait().unwrap().success());
    }

    #[test]
    fn reads_the_owner_from_a_name() {
        assert_eq!(owner("ph123x0-client"), Some(123));
        assert_eq!(owner("ph123x4"), Some(123));
        for other in ["ph123", "phx1", "phpx-1", "php-session", "other", "ph12xa"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
