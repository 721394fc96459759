//! The CA's state folder: roots with their keys, readable by its owner only.
//!
//! `roots.json` lists the roots and when each begins to sign; `NAME.crt` and `NAME.key` hold them; `root.pem` is the
//! bundle for others to trust. Files are written aside and renamed, under a lock. A folder or key that others could read is refused.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::tokens::{Version, version};

/// A root lives ten years.
const ROOT_LIFETIME: Duration = Duration::days(3650);
/// Roots begin a little in the past, for clocks that lag.
const BACKDATE: Duration = Duration::minutes(5);

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
}

/// One line of `roots.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    name: String,
    signs_from: String,
}

/// One root as it is stored.
pub(crate) struct StoredRoot {
    pub(crate) certificate: String,
    pub(crate) key: KeyPair,
    pub(crate) signs_from: OffsetDateTime,
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
    pub(crate) fn load(
        &self,
        trust_domain: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<StoredRoot>, StateError> {
        if !self.list_path().exists() {
            self.add_root(trust_domain, now, None)?;
        }
        self.list()?.iter().map(|listed| self.read_root(listed)).collect()
    }

    /// What changes when a root is added.
    pub(crate) fn version(&self) -> Result<Version, StateError> {
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
        let mut list = if self.list_path().exists() { self.list()? } else { Vec::new() };
        if overlap.is_none() && !list.is_empty() {
            // Two first starts met; the other one made the root.
            return Ok(list.last().map(|listed| listed.signs_from.clone()).unwrap_or_default());
        }
        let from = if list.is_empty() { now } else { now + overlap.unwrap_or_default() };
        let signs_from = from.format(&Rfc3339).map_err(|error| self.broken(&error))?;
        let name = format!("root-{}-{}", list.len() + 1, now.unix_timestamp());
        let (certificate, key) = make_root(trust_domain, &name, now)?;
        self.write(&format!("{name}.key"), key.as_bytes(), 0o600)?;
        self.write(&format!("{name}.crt"), certificate.as_bytes(), 0o644)?;
        list.push(Listed { name, signs_from: signs_from.clone() });
        let text = serde_json::to_vec_pretty(&list).map_err(|error| self.broken(&error))?;
        self.write("roots.json", &text, 0o600)?;
        Ok(signs_from)
    }

    /// Writes the bundle for others to trust; leaves it alone when it says that already.
    pub(crate) fn publish(&self, bundle: &str) -> Result<(), StateError> {
        match fs::read(self.path.join("root.pem")) {
            Ok(old) if old == bundle.as_bytes() => Ok(()),
            _ => self.write("root.pem", bundle.as_bytes(), 0o644),
        }
    }

    fn list_path(&self) -> PathBuf {
        self.path.join("roots.json")
    }

    fn list(&self) -> Result<Vec<Listed>, StateError> {
        let path = self.list_path();
        let text = fs::read(&path).map_err(|error| io_error(&path, error))?;
        let list: Vec<Listed> = serde_json::from_slice(&text).map_err(|error| self.broken(&error))?;
        match list.is_empty() {
            true => Err(self.broken(&"it lists no root")),
            false => Ok(list),
        }
    }

    fn read_root(&self, listed: &Listed) -> Result<StoredRoot, StateError> {
        if listed.name.contains(['/', '.']) {
            return Err(self.broken(&format!("`{}` is no name of a root", listed.name)));
        }
        let (certificate, key) =
            (self.path.join(format!("{}.crt", listed.name)), self.path.join(format!("{}.key", listed.name)));
        check(&key, 0o600)?;
        let read = |path: &Path| fs::read_to_string(path).map_err(|error| io_error(path, error));
        let key_pair = KeyPair::from_pem(&read(&key)?).map_err(|error| StateError::Content {
            path: key.display().to_string(),
            reason: error.to_string(),
        })?;
        let signs_from =
            OffsetDateTime::parse(&listed.signs_from, &Rfc3339).map_err(|error| self.broken(&error))?;
        Ok(StoredRoot { certificate: read(&certificate)?, key: key_pair, signs_from })
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

fn make_root(trust_domain: &str, name: &str, now: OffsetDateTime) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // Each root has a name of its own, so that a chain finds its root during a rotation.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::CommonName, format!("posthaste {name}"));
    params.not_before = now - BACKDATE;
    params.not_after = now + ROOT_LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}
