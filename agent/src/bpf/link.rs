//! Pinned links: a hook with a program in it that outlives the agent. Giving a pinned link a new program is one atomic
//! step in the kernel, so that no connection meets a hook without a program; aya has no such call for these links.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// `BPF_OBJ_GET` of `enum bpf_cmd`.
const OBJECT_OPEN: libc::c_int = 7;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: libc::c_int = 28;
/// `BPF_LINK_UPDATE`.
const LINK_UPDATE: libc::c_int = 29;
/// `BPF_LINK_DETACH`.
const LINK_DETACH: libc::c_int = 34;

/// The part of `union bpf_attr` for `BPF_OBJ_GET`. 8 + 4 + 4 = 16 bytes.
#[repr(C)]
struct OpenAttributes {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for `BPF_LINK_UPDATE`. 4 * 4 = 16 bytes.
#[repr(C)]
struct UpdateAttributes {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The part of `union bpf_attr` for `BPF_LINK_DETACH`.
#[repr(C)]
struct DetachAttributes {
    link_fd: u32,
}

const _: () = assert!(size_of::<DetachAttributes>() == 4);
const _: () = assert!(size_of::<OpenAttributes>() == 8 + 4 + 4);
const _: () = assert!(size_of::<UpdateAttributes>() == 4 * 4);

/// What became of a pinned link that was to get a new program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Updated {
    /// It runs the new program.
    Yes,
    /// Its cgroup or network namespace is gone; the pin is an empty shell.
    TargetGone,
}

/// Opens the pinned link and gives it the program.
pub(super) fn update(pin: &Path, program: BorrowedFd<'_>) -> io::Result<Updated> {
    let link = open(pin)?;
    let attributes = UpdateAttributes {
        link_fd: link.as_raw_fd().unsigned_abs(),
        new_prog_fd: program.as_raw_fd().unsigned_abs(),
        flags: 0,
        old_prog_fd: 0,
    };
    match bpf(LINK_UPDATE, &attributes) {
        Ok(_) => Ok(Updated::Yes),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(Updated::TargetGone),
        Err(error) => Err(error),
    }
}

/// Whether the kernel knows links at all: asked to make one of no program, it answers that the descriptor is bad where it
/// does, and that the command is invalid where it does not.
pub(super) fn are_supported() -> bool {
    let nothing = UpdateAttributes { link_fd: u32::MAX, new_prog_fd: u32::MAX, flags: 0, old_prog_fd: 0 };
    bpf(LINK_CREATE, &nothing).is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
}

/// Opens the pinned link and empties the hook, at once. A target that is gone has no hook any more.
pub(super) fn detach(pin: &Path) -> io::Result<()> {
    let link = open(pin)?;
    let attributes = DetachAttributes { link_fd: link.as_raw_fd().unsigned_abs() };
    match bpf(LINK_DETACH, &attributes) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        Err(error) => Err(error),
    }
}

fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let attributes = OpenAttributes { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    let descriptor = bpf(OBJECT_OPEN, &attributes)?;
    // SAFETY: the kernel has just returned this new descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    call(command, std::ptr::from_ref(attributes).cast_mut())
}

/// A command that writes its answer into the attributes.
pub(super) fn bpf_answering<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    call(command, std::ptr::from_mut(attributes))
}

fn call<T>(command: libc::c_int, attributes: *mut T) -> io::Result<i32> {
    // SAFETY: the attributes are a live, fully initialised prefix of `union bpf_attr` of the size given, and what
    // they point to outlives the call; commands that write into them are called with exclusive ones.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}
