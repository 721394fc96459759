//! Writes sysctls of the calling thread's network namespace. Container runtimes mount `/proc/sys` read-only in what is not
//! privileged; a proc file system of our own, mounted nowhere, is writable with the same rights (fsmount(2), Linux 5.2).

use std::{io, io::Write, path::Path};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, openat},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// Writes `value` into `path`, which begins with `/proc/`.
pub(super) fn write(path: &str, value: &str) -> io::Result<()> {
    match std::fs::write(path, value) {
        Err(error) if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => {
            let below = Path::new(path).strip_prefix("/proc").map_err(io::Error::other)?;
            let file = openat(&private_proc()?, below, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            std::fs::File::from(file).write_all(value.as_bytes())
        }
        written => written,
    }
}

/// Entries below `sys/net` are those of the namespace of whoever opens them, so one needs no other per pod.
fn private_proc() -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}
