//! Where cgroup v2 and the BPF file system are mounted: found in `/proc/self/mountinfo`, never by a fixed path.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::CaptureError;

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_MAGIC: u64 = 0xcafe_4a11;
/// Where the BPF file system is by convention; systemd mounts it there.
const BPF_MOUNT: &str = "/sys/fs/bpf";

/// The mount point of cgroup v2 (`/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1). None where there is
/// none.
pub fn cgroup_root() -> Option<PathBuf> {
    mount_of("cgroup2", &fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The first mount of a file system type in the text of a `mountinfo` (proc(5)).
fn mount_of(kind: &str, mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        (after.split(' ').next()? == kind).then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

/// Whether the folder, or the nearest one above it that exists, is on a BPF file system.
pub(super) fn is_on_bpffs(folder: &Path) -> bool {
    let Some(existing) = folder.ancestors().find(|folder| folder.exists()) else { return false };
    rustix::fs::statfs(existing).is_ok_and(|found| found.f_type as u64 == BPF_MAGIC)
}

/// Makes sure that the folder is on a BPF file system. The conventional place is mounted where it is not (as systemd
/// does at boot, and as a container needs); any other place is the owner's to mount.
pub(super) fn ensure_bpffs(folder: &Path) -> Result<(), CaptureError> {
    if is_on_bpffs(folder) {
        return Ok(());
    }
    let missing = |reason: String| CaptureError::NoBpffs { path: folder.to_path_buf(), reason };
    if !folder.starts_with(BPF_MOUNT) {
        return Err(missing("it is outside /sys/fs/bpf, so it is not mounted for you".to_owned()));
    }
    let flags = rustix::mount::MountFlags::NOSUID
        | rustix::mount::MountFlags::NODEV
        | rustix::mount::MountFlags::NOEXEC;
    rustix::mount::mount("bpf", BPF_MOUNT, "bpf", flags, None)
        .map_err(|error| missing(format!("mounting {BPF_MOUNT} failed: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn finds_cgroup2_in_both_layouts() {
        let hybrid = "30 29 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n\
                      41 29 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw\n";
        let unified = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(mount_of("cgroup2", hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_of("cgroup2", unified), Some("/sys/fs/cgroup".into()));
        assert_eq!(mount_of("cgroup2", "garbage\n"), None);
    }
}
