//! Where the BPF file system is mounted, and mounting it at its conventional place.

use std::path::Path;

use super::CaptureError;

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_MAGIC: u64 = 0xcafe_4a11;
/// Where the BPF file system is by convention; systemd mounts it there.
const BPF_MOUNT: &str = "/sys/fs/bpf";

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
