//! The folder source: every `*.yaml`, `*.yml` and `*.json` of one folder (not of its sub-folders), read whole again
//! whenever something in it changes. Hidden names are left out, so that a mounted ConfigMap (`..data`) is read once.
//!
//! **What stays in force.** An object that was good and becomes bad keeps its last good version, and its problem says
//! so. A document or file that cannot be read at all keeps every object that came from that file and is not seen
//! elsewhere. A folder that cannot be read keeps everything. An object or file that is gone is gone:
//! write files elsewhere and rename them into place, since half a file may read as a whole one with fewer objects.

mod merge;
mod read;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch as channel;

use super::reading::Reading;
use merge::Kept;

/// Largest file that is read, in bytes.
pub const MAX_FILE: u64 = 16 << 20;
/// Read again after this long even if nothing was heard.
const POLL: Duration = Duration::from_secs(30);

/// Why the folder source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The folder is not there or not readable.
    #[error("manifests folder {folder}: {source}; give `--manifests` a folder that the agent can read")]
    Folder {
        /// As it was given.
        folder: PathBuf,
        /// From the system.
        source: std::io::Error,
    },
}

/// A folder of manifests and what was last good in it.
#[derive(Debug)]
pub struct FileSource {
    folder: PathBuf,
    kept: Kept,
}

impl FileSource {
    /// Reads the folder and keeps reading it: the receiver holds the first reading at once and sees each that differs.
    /// Ends when every receiver is dropped. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The folder cannot be read now; later that is a problem in a [`Reading`].
    pub fn start(folder: &Path) -> Result<channel::Receiver<Arc<Reading>>, FilesError> {
        let mut source = Self::open(folder)?;
        // Watched before it is read, so that no change falls between.
        let changes = watch::Changes::new(folder);
        let (sender, receiver) = channel::channel(Arc::new(source.read()));
        tokio::spawn(source.follow(changes, sender));
        Ok(receiver)
    }

    /// Only opens it, to read by hand.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(folder: &Path) -> Result<Self, FilesError> {
        let folder = folder.to_owned();
        match std::fs::read_dir(&folder) {
            Ok(_) => Ok(Self { folder, kept: Kept::default() }),
            Err(source) => Err(FilesError::Folder { folder, source }),
        }
    }

    /// Reads everything now. Blocks on the disk.
    pub fn read(&mut self) -> Reading {
        self.kept.merge(read::folder(&self.folder))
    }

    async fn follow(mut self, mut changes: watch::Changes, sender: channel::Sender<Arc<Reading>>) {
        loop {
            tokio::select! {
                () = changes.settled(POLL) => {}
                () = sender.closed() => return,
            }
            changes.renew();
            let Ok((source, reading)) = tokio::task::spawn_blocking(move || {
                let reading = self.read();
                (self, reading)
            })
            .await
            else {
                return tracing::error!("reading the manifests folder panicked; it is not followed any more");
            };
            self = source;
            sender.send_if_modified(|last| replace(last, reading));
        }
    }
}

fn replace(last: &mut Arc<Reading>, reading: Reading) -> bool {
    let differs = **last != reading;
    if differs {
        *last = Arc::new(reading);
    }
    differs
}

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod tests;
