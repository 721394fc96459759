//! The CA's state folder: roots with their keys, readable by its owner only.
//!
//! `roots.json` lists the roots and when each begins to sign; `NAME.crt` and `NAME.key` hold them; `root.pem` is the
//! bundle for others to trust. Files are written aside and renamed, under a lock. A folder or key that others could read is refused.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::fs::FlockOperation;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    roots::{self, LIST, Root, Roots, StoredRoot},
    tokens::{Version, version},
};

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file operation failed.
    #[error("state folder: {path}: {source}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path} has mode {mode:04o}, others could read the CA's key; run `chmod {wanted:o} {path}`")]
    Mode {
        /// The file or folder.
        path: String,
        /// Its permission bits.
        mode: u32,
        /// The mode that it should have.
        wanted: u32,
    },
    /// It belongs to someone else.
    #[error("{path} belongs to user {owner}, not to {us}; run `chown {us} {path}` if it is the CA's")]
    Owner {
        /// The file or folder.
        path: String,
        /// Its owner.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// The content is broken.
    #[error(
        "{path}: {reason}; restore it from a backup, or start with an empty folder (all agents then need the new root.pem)"
    )]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A root could not be made.
    #[error("making a root certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The cluster's Secret is not known, or was last seen too long ago to sign by.
    #[error("the roots of the cluster: {0}")]
    Cluster(String),
}

/// Why a stored root cannot be read.
enum Unread {
    File(StateError),
    List(String),
}

impl From<String> for Unread {
    fn from(reason: String) -> Self {
        Self::List(reason)
    }
}

/// A checked folder.
pub(crate) struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// Opens the folder, making it (0700) where it is missing; refuses one that others can read.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| io_error(path, error))?;
        }
        check(path, 0o700)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The roots, in the order they were added; makes the first one in an empty folder.
    fn load(&self, trust_domain: &str, now: OffsetDateTime) -> Result<Vec<Root>, StateError> {
        if !self.list_path().exists() {
            self.add_root(trust_domain, now, None)?;
        }
        let opened = self.stored()?.iter().map(StoredRoot::open).collect::<Result<_, String>>();
        opened.map_err(|reason| self.broken(&reason))
    }

    /// What changes when a root is added.
    fn version(&self) -> Result<Version, StateError> {
        let path = self.list_path();
        Ok(version(&fs::metadata(&path).map_err(|error| io_error(&path, error))?))
    }

    /// Adds a root that signs from `now + overlap`; the first one of a folder signs at once. Returns when, RFC 3339.
    /// Without `overlap` only the first one is wanted.
    pub(crate) fn add_root(
        &self,
        trust_domain: &str,
        now: OffsetDateTime,
        overlap: Option<std::time::Duration>,
    ) -> Result<String, StateError> {
        let _lock = self.lock()?;
        let mut list = if self.list_path().exists() { self.stored()? } else { Vec::new() };
        // Where two first starts meet, the other one has made the root.
        if overlap.is_some() || list.is_empty() {
            let from = if list.is_empty() { now } else { now + overlap.unwrap_or_default() };
            let root = StoredRoot::make(trust_domain, list.len() + 1, now, from)?;
            for (name, content) in root.files() {
                let mode = if name.ends_with(".key") { 0o600 } else { 0o644 };
                self.write(&name, content.as_bytes(), mode)?;
            }
            list.push(root);
            let text = roots::write_list(&list).map_err(|error| self.broken(&error))?;
            self.write(LIST, text.as_bytes(), 0o600)?;
        }
        let from = list.last().map_or(now, |root| root.signs_from);
        from.format(&Rfc3339).map_err(|error| self.broken(&error))
    }

    /// Writes the bundle for others to trust; leaves it alone when it says that already.
    fn publish(&self, bundle: &str) -> Result<(), StateError> {
        match fs::read(self.path.join("root.pem")) {
            Ok(old) if old == bundle.as_bytes() => Ok(()),
            _ => self.write("root.pem", bundle.as_bytes(), 0o644),
        }
    }

    fn list_path(&self) -> PathBuf {
        self.path.join(LIST)
    }

    fn stored(&self) -> Result<Vec<StoredRoot>, StateError> {
        let path = self.list_path();
        let list = fs::read_to_string(&path).map_err(|error| io_error(&path, error))?;
        let read = |name: &str| self.read(name).map_err(Unread::File);
        roots::read_all(&list, read).map_err(|error| match error {
            Unread::File(error) => error,
            Unread::List(reason) => self.broken(&reason),
        })
    }

    /// The text of a file, `None` where there is none; a key that others can read is refused.
    fn read(&self, name: &str) -> Result<Option<String>, StateError> {
        let path = self.path.join(name);
        if !path.exists() {
            return Ok(None);
        }
        if name.ends_with(".key") {
            check(&path, 0o600)?;
        }
        fs::read_to_string(&path).map(Some).map_err(|error| io_error(&path, error))
    }

    fn write(&self, name: &str, content: &[u8], mode: u32) -> Result<(), StateError> {
        let (aside, path) = (self.path.join(format!(".{name}.new")), self.path.join(name));
        let written = write_through(&aside, content, mode).and_then(|()| fs::rename(&aside, &path));
        written.and_then(|()| File::open(&self.path)?.sync_all()).map_err(|error| io_error(&path, error))
    }

    fn lock(&self) -> Result<File, StateError> {
        let path = self.path.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| io_error(&path, error))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| io_error(&path, error.into()))?;
        Ok(file)
    }

    fn broken(&self, reason: &dyn std::fmt::Display) -> StateError {
        StateError::Content { path: self.list_path().display().to_string(), reason: reason.to_string() }
    }
}

/// The roots of one folder, read again when its list changes.
pub(crate) struct FolderRoots {
    folder: StateFolder,
    trust_domain: String,
    known: Mutex<(Version, Arc<Vec<Root>>)>,
}

impl FolderRoots {
    /// Opens the folder, making the first root where there is none.
    pub(crate) fn open(path: &Path, trust_domain: &str, now: OffsetDateTime) -> Result<Self, StateError> {
        let folder = StateFolder::open(path)?;
        let known = Mutex::new(load(&folder, trust_domain, now)?);
        Ok(Self { folder, trust_domain: trust_domain.to_owned(), known })
    }
}

impl Roots for FolderRoots {
    fn current(&self, now: OffsetDateTime) -> Result<Arc<Vec<Root>>, StateError> {
        let version = self.folder.version()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != version {
            *known = load(&self.folder, &self.trust_domain, now)?;
            tracing::info!(roots = known.1.len(), "the CA's roots changed");
        }
        Ok(known.1.clone())
    }

    fn publish(&self, bundle: &str) -> Result<(), StateError> {
        self.folder.publish(bundle)
    }
}

fn load(
    folder: &StateFolder,
    trust_domain: &str,
    now: OffsetDateTime,
) -> Result<(Version, Arc<Vec<Root>>), StateError> {
    let roots = folder.load(trust_domain, now)?;
    // Taken after reading: a change in between is read again at the next look.
    Ok((folder.version()?, Arc::new(roots)))
}

fn write_through(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
    // The umask may have taken bits away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

fn io_error(path: &Path, source: io::Error) -> StateError {
    StateError::Io { path: path.display().to_string(), source }
}

/// Refuses what others may read or change, or what belongs to someone else.
fn check(path: &Path, wanted: u32) -> Result<(), StateError> {
    let metadata = fs::metadata(path).map_err(|error| io_error(path, error))?;
    let (us, shown) = (rustix::process::geteuid().as_raw(), path.display().to_string());
    if metadata.uid() != us {
        return Err(StateError::Owner { path: shown, owner: metadata.uid(), us });
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StateError::Mode { path: shown, mode, wanted });
    }
    Ok(())
}
