//! The last inputs on disk, as manifests in JSON, one object a line: what an agent goes on with that is restarted while the API server
//! is away. Written beside and renamed into place, so that a crash leaves the old file or the new one.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::{
    control::{
        document::{self, Format, Item, Object, ObjectKey},
        manifest,
        reading::Reading,
    },
    snapshot::{Problem, input::Inputs},
};

/// Name of the file in the state folder.
const FILE: &str = "inputs.json";
/// Between two writes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Objects that were kept.
pub(super) struct Saved {
    /// Each with its key.
    pub(super) objects: Vec<(ObjectKey, Object)>,
    /// When they were written, as a person reads it.
    pub(super) at: String,
}

/// Where they are kept.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join(FILE)
}

/// Keeps each reading that comes, not more often than that writing takes a hundredth of the time (at most half a minute apart),
/// until there are no more.
pub(super) async fn keep(path: PathBuf, mut readings: watch::Receiver<Arc<Reading>>) {
    while readings.changed().await.is_ok() {
        let (reading, path) = (Arc::clone(&readings.borrow_and_update()), path.clone());
        let mut pause = SHORTEST_PAUSE;
        match spawn_blocking(move || write(&path, &reading.inputs).map_err(|error| (path, error))).await {
            Ok(Ok(work)) => pause = work.saturating_mul(100).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            Ok(Err((path, error))) => {
                tracing::warn!(path = %path.display(), %error, "cannot keep the inputs on disk; an agent that is restarted without an API server would have none");
            }
            Err(error) => tracing::error!(%error, "keeping the inputs on disk"),
        }
        sleep(pause).await;
    }
}

/// What an earlier agent kept; none where nobody did. Objects that do not fit any more are left out. Blocks on the disk.
pub(super) fn read(path: &Path) -> Option<Saved> {
    let (items, at) = match read_items(path) {
        Ok(found) => found?,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the inputs that were kept");
            return None;
        }
    };
    let mut objects = Vec::new();
    for item in items {
        match item {
            Item::Good(key, object) | Item::InPart(key, object, _) => objects.push((key, object)),
            Item::Bad(_, problem) => tracing::warn!(%problem, "of the inputs that were kept"),
            Item::Ignored => {}
        }
    }
    Some(Saved { objects, at })
}

/// The inputs that the agent with this state folder kept last, and when they were written, as a person reads it; none where nobody did.
/// For who must not take a part of them for the whole. Blocks on the disk.
///
/// # Errors
/// They cannot be read, an object does not fit, or they cannot be those of a cluster.
pub fn whole(state: &Path) -> Result<Option<(Inputs, String)>, SavedError> {
    let path = path(state);
    let found = read_items(&path).map_err(|source| SavedError::File { path: path.clone(), source })?;
    let Some((items, at)) = found else { return Ok(None) };
    let mut inputs = Inputs::default();
    for item in items {
        match item {
            Item::Good(_, object) | Item::InPart(_, object, _) => object.add_to(&mut inputs),
            Item::Bad(_, problem) => return Err(SavedError::Object { path, problem: Box::new(problem) }),
            Item::Ignored => {}
        }
    }
    // Every cluster has some.
    if inputs.namespaces.is_empty() { Err(SavedError::Empty { path }) } else { Ok(Some((inputs, at))) }
}

/// Why nobody can say what the kept inputs say.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// The file.
    #[error("{path} cannot be read: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something in it.
    #[error("{path} is not as an agent writes it: {problem}")]
    Object {
        /// The file.
        path: PathBuf,
        /// The object, the field and the reason.
        problem: Box<Problem>,
    },
    /// Nothing in it.
    #[error("{path} holds no Namespace, and every cluster has some")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What the file holds, and when it was written; none where there is no file.
fn read_items(path: &Path) -> io::Result<Option<(Vec<Item>, String)>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let written = fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let at = OffsetDateTime::from(written);
    let at = at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default();
    Ok(Some((document::parse(FILE, &text, Format::Json), at)))
}

/// Keeps inputs; the time that it worked, without the wait for the disk. Blocks on the disk.
///
/// # Errors
/// The folder cannot be made or written; what was kept before stays.
pub(super) fn write(path: &Path, inputs: &Inputs) -> io::Result<Duration> {
    let begun = Instant::now();
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let fresh = path.with_extension("json.new");
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    for object in manifest::objects(inputs) {
        serde_json::to_writer(&mut writer, &object)?;
        writer.write_all(b"\n")?;
    }
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    let work = begun.elapsed();
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    Ok(work)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn comes_back_as_it_was_but_for_its_origin() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("state"));
        assert!(read(&path).is_none());
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, uid: u}\nspec: {nodeName: n}\n";
        let mut inputs = Inputs::default();
        for item in document::parse("f", text, Format::Yaml) {
            let Item::Good(_, object) = item else { panic!("{item:?}") };
            object.add_to(&mut inputs);
        }
        write(&path, &inputs).unwrap();
        let saved = read(&path).unwrap();
        let [(key, Object::Pod(pod))] = &saved.objects[..] else { panic!("{:?}", saved.objects) };
        assert_eq!((&*key.name, &*pod.metadata.uid), ("a", "u"));
        assert!(saved.at.ends_with('Z'), "{}", saved.at);
        // A torn write is never seen.
        fs::write(path.with_extension("json.new"), "{\"half").unwrap();
        assert_eq!(read(&path).unwrap().objects, saved.objects);
    }

    #[test]
    fn a_part_is_not_taken_for_the_whole() {
        const NAMESPACE: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}"#;
        let table = [
            (NAMESPACE.to_owned(), Ok(1)),
            (format!("{NAMESPACE}\n{NAMESPACE}"), Ok(2)),
            (String::new(), Err("holds no Namespace")),
            (format!("{NAMESPACE}\n{}", &NAMESPACE[..40]), Err("inputs.json document 2")),
            (format!("{NAMESPACE}\n{}", NAMESPACE.replace("shop", "Shop!")), Err("Namespace/Shop!")),
        ];
        let folder = tempfile::tempdir().unwrap();
        assert!(whole(folder.path()).unwrap().is_none());
        for (text, expected) in table {
            fs::write(path(folder.path()), &text).unwrap();
            let found =
                whole(folder.path()).map(|found| found.map_or(0, |(inputs, _)| inputs.namespaces.len()));
            match (found, expected) {
                (Ok(count), Ok(wanted)) => assert_eq!(count, wanted, "{text}"),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
            }
        }
        fs::write(path(folder.path()), [0xff, 0xfe]).unwrap();
        assert!(matches!(whole(folder.path()), Err(SavedError::File { .. })));
    }
}
