//! One process at a time loads programs and pins them: agents and the boot guard may start in the same moment.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::fs::FlockOperation;

use super::CaptureError;

/// How often a folder may go away under whoever waits for it.
const TRIES: usize = 100;

/// The right to load and pin in a folder, until it is dropped.
pub(super) struct Lock(#[expect(dead_code, reason = "the lock is on the open file")] File);

impl Lock {
    /// Makes the folder where there is none, and waits until nobody else loads there.
    pub(super) fn take(folder: &Path) -> Result<Self, CaptureError> {
        for _ in 0..TRIES {
            fs::create_dir_all(folder).map_err(CaptureError::file("make the folder", folder))?;
            // An agent that stops removes the folder.
            if let Some(lock) = wait(folder).map_err(CaptureError::file("lock", folder))? {
                return Ok(lock);
            }
        }
        let gone = io::Error::other("it goes away again and again");
        Err(CaptureError::file("lock", folder)(gone))
    }
}

/// None where the folder is another one by then.
fn wait(folder: &Path) -> io::Result<Option<Lock>> {
    let Some(file) = unless_gone(File::open(folder))? else { return Ok(None) };
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    let Some(now) = unless_gone(fs::metadata(folder))? else { return Ok(None) };
    Ok((now.ino() == file.metadata()?.ino()).then_some(Lock(file)))
}

fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
