//! One open network namespace and the two numbers that name it: the inode (people, files) and the cookie (eBPF).

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::thread::LinkNameSpaceType;

/// An open network namespace. It lives on as long as this value, even when its name is gone.
#[derive(Debug)]
pub struct Namespace {
    descriptor: Arc<OwnedFd>,
    path: PathBuf,
    inode: u64,
    cookie: u64,
}

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The path cannot be opened.
    #[error("cannot open the network namespace {path}: {source}; is the pod still there?")]
    Open {
        /// The path of the annotation.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path is something else.
    #[error("{0} is not a network namespace; name one, as /run/netns/NAME or /proc/PID/ns/net")]
    NotANamespace(PathBuf),
    /// The cookie cannot be read.
    #[error(
        "cannot read the cookie of the network namespace {path}: {source}; SO_NETNS_COOKIE needs Linux 5.14"
    )]
    Cookie {
        /// The path of the annotation.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Namespace {
    /// Opens `path` and reads its cookie. Changes the calling thread's namespace: only for the dedicated threads.
    pub(super) fn open_and_enter(path: &Path) -> Result<Self, NamespaceError> {
        let open = |source| NamespaceError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        let inode = file.metadata().map_err(open)?.ino();
        let descriptor = OwnedFd::from(file);
        enter(descriptor.as_fd()).map_err(|_| NamespaceError::NotANamespace(path.to_owned()))?;
        let cookie = cookie_of_this_thread()
            .map_err(|source| NamespaceError::Cookie { path: path.to_owned(), source })?;
        Ok(Self { descriptor: Arc::new(descriptor), path: path.to_owned(), inode, cookie })
    }

    /// The cookie that `bpf_get_netns_cookie` returns for sockets made here; never used twice until reboot.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The open file, for those who attach to it.
    #[must_use]
    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.descriptor)
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `path` still names this namespace.
    #[must_use]
    pub fn is_current(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Moves the calling thread into the namespace.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// `SO_NETNS_COOKIE` of the thread's own namespace, read from a socket made for it (socket(7)).
fn cookie_of_this_thread() -> io::Result<u64> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(8);
    // SAFETY: the kernel writes at most `length` = 8 bytes into `cookie`, which is 8 bytes and outlives the call.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if answer == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
