//! Control groups (version 2): one folder per world, so that kernel programs of two runs never meet, and one per pod.

use crate::{Doing, Fault};
use std::{
    fs,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

/// A folder of the cgroup v2 tree; its processes are killed and the folder is removed on drop.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// Where cgroup v2 is mounted, as `/proc/self/mountinfo` says (`/sys/fs/cgroup`, or a sub-folder in the hybrid layout).
///
/// # Errors
/// The file cannot be read, or there is no cgroup v2.
pub fn mount_point() -> Result<PathBuf, Fault> {
    let table = fs::read_to_string("/proc/self/mountinfo").doing("read /proc/self/mountinfo")?;
    table
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .find(|(_, right)| right.starts_with("cgroup2 "))
        .and_then(|(left, _)| left.split(' ').nth(4))
        .map(PathBuf::from)
        .ok_or_else(|| {
            Fault::new("no cgroup v2 is mounted on this machine; mount one (`mount -t cgroup2 none DIR`)")
        })
}

impl Cgroup {
    /// Makes the folder `name` below `parent`.
    ///
    /// # Errors
    /// The folder cannot be made (root is needed).
    pub fn create(parent: &Path, name: &str) -> Result<Self, Fault> {
        let path = parent.join(name);
        fs::create_dir_all(&path).doing(format!("make the cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Kills what runs in a cgroup and below, and removes the folders; gives up after two seconds.
pub fn remove(path: &Path) {
    for _ in 0..100 {
        if !path.exists() {
            return;
        }
        let _ = fs::write(path.join("cgroup.kill"), "1");
        remove_tree(path);
        if path.exists() {
            sleep(Duration::from_millis(20));
        }
    }
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
