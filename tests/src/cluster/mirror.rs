//! Makes the API of a cluster follow a set of objects: what is new or changed is applied, what is gone is deleted.

use super::Cluster;
use crate::Fault;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The objects as they were last sent, by key.
#[derive(Debug)]
pub struct Mirror {
    cluster: Shared,
    sent: Mutex<BTreeMap<String, Value>>,
}

/// A cluster that a test stops and starts while others write to it.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Cluster>>);

impl Shared {
    /// Shares it.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        Self(Arc::new(Mutex::new(cluster)))
    }

    /// The cluster.
    pub fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirror {
    /// Nothing sent yet.
    #[must_use]
    pub fn new(cluster: Shared) -> Self {
        Self { cluster, sent: Mutex::default() }
    }

    /// Sends the difference to what was sent before.
    ///
    /// # Errors
    /// The server does not answer or refuses an object.
    pub fn follow(&self, objects: &BTreeMap<String, Value>) -> Result<(), Fault> {
        let cluster = self.cluster.lock();
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed: Vec<_> =
            objects.iter().filter(|(key, object)| sent.get(*key) != Some(object)).collect();
        changed.sort_by_key(|(_, object)| rank(object));
        for (key, object) in changed {
            cluster.apply(&with_uids(&cluster, object))?;
            sent.insert(key.clone(), object.clone());
        }
        let gone: Vec<_> = sent.extract_if(.., |key, _| !objects.contains_key(key)).collect();
        for (_, object) in gone.iter().rev() {
            cluster.delete(object)?;
        }
        Ok(())
    }
}

/// Namespaces before what is in them, pods before the slices that name them.
fn rank(object: &Value) -> u8 {
    match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("Pod") => 1,
        _ => 2,
    }
}

/// As the endpoint controller writes slices: with the uids of the pods. The object's own uid is the server's to give.
fn with_uids(cluster: &Cluster, object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("uid");
    }
    let namespace = object["metadata"]["namespace"].clone();
    // Not by index, which would put a null there into whatever has no endpoints.
    let endpoints = object.get_mut("endpoints").and_then(Value::as_array_mut);
    for endpoint in endpoints.into_iter().flatten() {
        let Some(target) = endpoint.get_mut("targetRef") else { continue };
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": target["name"], "namespace": namespace},
        });
        if let Ok(pod) = cluster.read(&pod) {
            target["uid"] = pod["metadata"]["uid"].clone();
            target["namespace"] = namespace.clone();
        }
    }
    object
}
