//! One open network namespace and the two numbers that name it: the inode (people, files) and the cookie (eBPF).

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::thread::LinkNameSpaceType;

/// An open network namespace. It lives on as long as this value, even when its name is gone.
#[derive(Debug)]
pub struct Namespace {
    descriptor: Arc<OwnedFd>,
    path: PathBuf,
    file: NamespaceFile,
    cookie: u64,
}

/// What tells one network namespace from all others: device and inode of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceFile {
    device: u64,
    inode: u64,
}

impl NamespaceFile {
    /// The namespace that a path names now.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|found| Self::from(&found))
    }
}

impl From<&Metadata> for NamespaceFile {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
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
    /// The agent's own: capturing it would capture the agent's own calls and the node's.
    #[error("{0} is the network namespace of the node, which is never captured; name the pod's own")]
    Nodes(PathBuf),
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
    /// Opens `path` and reads its cookie; refuses `home`, the agent's own namespace. Changes the calling thread's namespace:
    /// only for the dedicated threads.
    pub(super) fn open_and_enter(path: &Path, home: &File) -> Result<Self, NamespaceError> {
        let open = |source| NamespaceError::Open { path: path.to_owned(), source };
        // A pipe in the place of a namespace must not make the thread wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(open)?;
        let name = NamespaceFile::from(&file.metadata().map_err(open)?);
        if home.metadata().is_ok_and(|home| NamespaceFile::from(&home) == name) {
            return Err(NamespaceError::Nodes(path.to_owned()));
        }
        let descriptor = OwnedFd::from(file);
        enter(descriptor.as_fd()).map_err(|_| NamespaceError::NotANamespace(path.to_owned()))?;
        let cookie = cookie_of_this_thread()
            .map_err(|source| NamespaceError::Cookie { path: path.to_owned(), source })?;
        Ok(Self { descriptor: Arc::new(descriptor), path: path.to_owned(), file: name, cookie })
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

    /// What tells it from all others.
    #[must_use]
    pub fn file(&self) -> NamespaceFile {
        self.file
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `path` still names this namespace.
    #[must_use]
    pub fn is_current(&self) -> bool {
        NamespaceFile::of(&self.path) == Some(self.file)
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

/// `SO_NETNS_COOKIE` of the calling thread's network namespace, read from a socket made for it (socket(7)).
///
/// # Errors
/// The kernel has no such option, or no descriptor is left.
pub fn cookie_of_this_thread() -> io::Result<u64> {
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
