//! Where control groups are mounted, from `/proc/self/mountinfo` (proc(5)), never by a fixed path.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::tree;

/// The folder of a whole hierarchy of version 2 has this inode number (`include/linux/kernfs.h`, ids begin at 1).
const WHOLE_HIERARCHY: u64 = 1;

/// The mount of cgroup v2 (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1) that holds most: a container sees
/// its own part at the usual place and the node's where it was mounted for it. None where there is none.
#[must_use]
pub fn unified_root() -> Option<PathBuf> {
    let found = mounts("cgroup2", &mountinfo());
    let whole = |path: &&PathBuf| fs::metadata(path).is_ok_and(|found| found.ino() == WHOLE_HIERARCHY);
    let with_pods = |path: &&PathBuf| tree::has_pods(path);
    found.iter().find(whole).or_else(|| found.iter().find(with_pods)).or(found.first()).cloned()
}

/// The path of a control group in its hierarchy, as the kernel tells it, without a slash at the end: empty for the whole. None where
/// that is not to be seen from here, as in a cgroup namespace.
#[must_use]
pub fn path_in_hierarchy(group: &Path) -> Option<String> {
    let found = mounts("cgroup2", &mountinfo());
    let holding = found.iter().filter(|mount| group.starts_with(mount));
    let mount = holding.max_by_key(|mount| mount.components().count())?;
    if fs::metadata(mount).ok()?.ino() != WHOLE_HIERARCHY {
        return None;
    }
    let below = group.strip_prefix(mount).ok()?.to_str()?;
    Some(if below.is_empty() { String::new() } else { format!("/{below}") })
}

/// Hierarchies of version 1, the one that systemd keeps first. On a node where only they know the pods, a pod is still found.
pub(super) fn legacy_roots() -> Vec<PathBuf> {
    let mut found = mounts("cgroup", &mountinfo());
    found.sort_by_key(|path| !path.ends_with("systemd"));
    found
}

fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// The mount points of a file system type in the text of a `mountinfo`.
fn mounts(kind: &str, mountinfo: &str) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        (after.split(' ').next()? == kind).then(|| Path::new(&point.replace("\\040", " ")).to_path_buf())
    };
    mountinfo.lines().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn finds_mounts_in_all_layouts() {
        let hybrid = "30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      31 29 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,name=systemd\n\
                      41 29 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let container = "30 24 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n\
                         31 24 0:26 /../../.. /host/sys/fs/cg\\040roup ro - cgroup2 cgroup rw\n";
        let texts =
            |kind, text| mounts(kind, text).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(texts("cgroup2", hybrid), ["/sys/fs/cgroup/unified"]);
        assert_eq!(texts("cgroup", hybrid), ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/systemd"]);
        assert_eq!(texts("cgroup2", unified), ["/sys/fs/cgroup"]);
        assert_eq!(texts("cgroup2", container), ["/sys/fs/cgroup", "/host/sys/fs/cg roup"]);
        assert_eq!(texts("cgroup2", "garbage\n"), Vec::<String>::new());
    }

    #[test]
    fn this_machine_has_one() {
        let root = unified_root().expect("cgroup v2 is mounted");
        assert!(root.join("cgroup.controllers").exists(), "{}", root.display());
        // None in a container that sees only its part.
        let path = |group: &Path| path_in_hierarchy(group);
        assert!(path(&root).is_none_or(|path| path.is_empty()));
        assert!(path(&root.join("a/b")).is_none_or(|path| path == "/a/b"));
        assert_eq!(path(Path::new("/nowhere")), None);
    }
}
