//! The objects of a world: a folder of manifests, as `posthaste agent --manifests` reads it, where every write replaces a whole file at
//! once; and where there is a cluster, the same objects in its API.

use crate::{Doing, Fault, cluster::Mirror};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The objects of a world and the folder that they are written to.
#[derive(Debug)]
pub struct Manifests {
    folder: PathBuf,
    objects: BTreeMap<String, Value>,
    mirror: Option<Mirror>,
}

impl Manifests {
    /// Makes the folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(folder: &Path) -> Result<Self, Fault> {
        fs::create_dir_all(folder).doing(format!("make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), objects: BTreeMap::new(), mirror: None })
    }

    /// Writes to a cluster as well from now on.
    pub fn mirror(&mut self, mirror: Mirror) {
        self.mirror = Some(mirror);
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds an object or replaces the one of the same kind, namespace and name. [`Manifests::apply`] writes it.
    pub fn put(&mut self, object: Value) {
        self.objects.insert(key(&object), object);
    }

    /// Removes an object. [`Manifests::apply`] writes it.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        self.objects.remove(&format!("{kind}/{namespace}/{name}"));
    }

    /// An object, to be changed in place.
    pub fn object(&mut self, kind: &str, namespace: &str, name: &str) -> Option<&mut Value> {
        self.objects.get_mut(&format!("{kind}/{namespace}/{name}"))
    }

    /// Writes all objects to `mesh.yaml` in one step, and what changed to the cluster.
    ///
    /// # Errors
    /// The file cannot be written, or the API server refuses an object.
    pub fn apply(&self) -> Result<(), Fault> {
        self.raw("mesh.yaml", &self.text()?)?;
        self.mirror.as_ref().map_or(Ok(()), |mirror| mirror.follow(&self.objects))
    }

    /// All objects as YAML documents.
    ///
    /// # Errors
    /// An object cannot be written as YAML.
    pub fn text(&self) -> Result<String, Fault> {
        let mut text = String::new();
        for object in self.objects.values() {
            let document = serde_yaml_ng::to_string(object).map_err(|error| Fault::new(error.to_string()))?;
            text.push_str("---\n");
            text.push_str(&document);
        }
        Ok(text)
    }

    /// Writes any text to a file of the folder in one step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn raw(&self, file: &str, text: &str) -> Result<(), Fault> {
        let (partial, whole) = (self.folder.join(format!(".{file}.partial")), self.folder.join(file));
        fs::write(&partial, text).doing(format!("write {}", partial.display()))?;
        fs::rename(&partial, &whole).doing(format!("rename to {}", whole.display()))
    }

    /// Removes a file of the folder.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove_file(&self, file: &str) -> Result<(), Fault> {
        fs::remove_file(self.folder.join(file)).doing(format!("remove {file}"))
    }
}

fn key(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{}/{}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}
