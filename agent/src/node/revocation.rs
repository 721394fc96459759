//! The files by which trust is taken back, looked at every second: the revocation lists of `--crl`, and the CA's root file, whose change
//! makes the agent ask the CA for the roots of now instead of at the next renewal.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{task::spawn_blocking, time::sleep};

use crate::{
    identity::IdentityStore,
    tls::{MalformedList, Revocations},
};

const LOOK: Duration = Duration::from_secs(1);

/// Why lists cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// A file or folder.
    #[error("--crl {path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it.
    #[error("--crl {0}")]
    Malformed(#[from] MalformedList),
}

/// Tells one state of files from another.
type Stamp = Vec<(PathBuf, Option<SystemTime>, u64)>;

/// Takes over the lists now, and from now on whatever changes.
///
/// # Errors
/// The lists cannot be read at the start. Later what was read last stays in force, and the log says why.
pub fn start(
    crl: Option<&Path>,
    root: Option<&Path>,
    identities: &IdentityStore,
) -> Result<(), RevocationError> {
    if let Some(path) = crl {
        let before = stamp(path)?;
        identities.revoke(read(path)?);
        tokio::spawn(follow_lists(path.to_owned(), before, identities.clone()));
    }
    if let Some(path) = root {
        tokio::spawn(follow_root(path.to_owned(), identities.clone()));
    }
    Ok(())
}

async fn follow_lists(path: PathBuf, mut before: Stamp, identities: IdentityStore) {
    loop {
        sleep(LOOK).await;
        let (of, known) = (path.clone(), before.clone());
        let look = spawn_blocking(move || -> Result<_, RevocationError> {
            let now = stamp(&of)?;
            Ok(if now == known { None } else { Some((now, read(&of))) })
        });
        match look.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some((now, lists)))) => {
                before = now;
                match lists {
                    Ok(lists) => {
                        tracing::info!(lists = lists.count(), "revocation lists were read");
                        identities.revoke(lists);
                    }
                    Err(error) => {
                        tracing::error!(%error, "revocation lists: those that were read last stay in force")
                    }
                }
            }
            Ok(Err(error)) if before.is_empty() => tracing::debug!(%error, "still not there"),
            Ok(Err(error)) => {
                before = Stamp::new();
                tracing::error!(%error, "revocation lists: those that were read last stay in force");
            }
            Err(error) => tracing::error!(%error, "looking at revocation lists"),
        }
    }
}

async fn follow_root(path: PathBuf, identities: IdentityStore) {
    let look = || {
        let path = path.clone();
        async { spawn_blocking(move || fs::read(path).ok()).await.ok().flatten() }
    };
    let mut before = look().await;
    loop {
        sleep(LOOK).await;
        let now = look().await;
        if now.is_some() && now != before {
            before = now;
            tracing::info!(path = %path.display(), "the CA's root file changed: asking for the roots of now");
            identities.refresh();
        }
    }
}

/// The files of `path`: itself, or those of a folder but hidden ones (as a mounted ConfigMap has).
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && fs::metadata(entry.path())?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn stamp(path: &Path) -> Result<Stamp, RevocationError> {
    let look = || -> io::Result<Stamp> {
        let of = |file: PathBuf| {
            let metadata = fs::metadata(&file)?;
            Ok((file, metadata.modified().ok(), metadata.len()))
        };
        files(path)?.into_iter().map(of).collect()
    };
    look().map_err(|source| RevocationError::Io { path: path.display().to_string(), source })
}

fn read(path: &Path) -> Result<Revocations, RevocationError> {
    let failed = |source| RevocationError::Io { path: path.display().to_string(), source };
    let mut contents = Vec::new();
    for file in files(path).map_err(failed)? {
        contents.push((file.display().to_string(), fs::read(&file).map_err(failed)?));
    }
    Ok(Revocations::read(contents.iter().map(|(file, content)| (file.as_str(), content.as_slice())))?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_folder_is_all_its_files_and_an_empty_one_revokes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap().count(), 0);
        let before = stamp(folder.path()).unwrap();
        fs::write(folder.path().join("bad.crl"), "hello").unwrap();
        fs::write(folder.path().join(".hidden"), "hello").unwrap();
        assert_ne!(stamp(folder.path()).unwrap(), before);
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("bad.crl: holds no revocation list"), "{error}");
        let missing = read(&folder.path().join("nothing")).unwrap_err().to_string();
        assert!(missing.starts_with("--crl "), "{missing}");
    }
}
