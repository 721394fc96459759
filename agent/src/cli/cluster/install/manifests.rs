//! The objects of the mesh, as `kubectl kustomize deploy` would print them; a test holds the two against each other. Pure.

use crate::control::policy::crd::Definition;
use serde::Deserialize;
use serde_json::{Value, json};

/// Namespace of all of them.
const NAMESPACE: &str = "posthaste-system";
/// Name of the image in the manifests.
const IMAGE: &str = "posthaste";
/// Name of the ConfigMap in the manifests.
const SETTINGS: &str = "posthaste";
const DEFAULTS: &str = include_str!("../../../../../deploy/base/settings.env");
/// In the order in which they are applied; the definitions of our kinds come after the namespace.
const FILES: [&str; 6] = [
    include_str!("../../../../../deploy/base/namespace.yaml"),
    include_str!("../../../../../deploy/base/agent-rights.yaml"),
    include_str!("../../../../../deploy/base/agent-admission.yaml"),
    include_str!("../../../../../deploy/base/ca-rights.yaml"),
    include_str!("../../../../../deploy/base/agent.yaml"),
    include_str!("../../../../../deploy/base/ca.yaml"),
];
/// Kinds of these files that have no namespace.
const CLUSTER_SCOPED: [&str; 6] = [
    "Namespace",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A setting that nothing reads.
    #[error("--set {name}: there is no such setting; there are {}", known.join(", "))]
    UnknownSetting {
        /// As it was given.
        name: String,
        /// All of them.
        known: Vec<String>,
    },
    /// A manifest of ours is broken.
    #[error("a manifest in this program cannot be read: {0}")]
    Broken(#[from] serde_yaml_ng::Error),
}

/// All objects, with the image and with settings that differ from the defaults.
///
/// # Errors
/// A setting that nothing reads.
pub(super) fn objects(image: &str, wanted: &[(String, String)]) -> Result<Vec<Value>, ManifestError> {
    let settings = settings(wanted)?;
    let name = format!("{SETTINGS}-{}", fingerprint(&settings));
    let data: serde_json::Map<String, Value> =
        settings.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let mut objects = Vec::new();
    for text in FILES {
        for document in serde_yaml_ng::Deserializer::from_str(text) {
            objects.push(Value::deserialize(document)?);
        }
        if objects.len() == 1 {
            objects.extend(Definition::ALL.map(Definition::object));
            let metadata = json!({"name": name});
            objects
                .push(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
        }
    }
    for object in &mut objects {
        place(object);
        name_parts(object, image, &name);
    }
    Ok(objects)
}

/// The defaults with what is wanted over them.
fn settings(wanted: &[(String, String)]) -> Result<Vec<(String, String)>, ManifestError> {
    let lines = DEFAULTS.lines().filter(|line| !line.starts_with('#'));
    let mut settings: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    for (name, value) in wanted {
        let known: Vec<String> = settings.iter().map(|(name, _)| name.clone()).collect();
        let Some(setting) = settings.iter_mut().find(|(known, _)| known == name) else {
            return Err(ManifestError::UnknownSetting { name: name.clone(), known });
        };
        setting.1.clone_from(value);
    }
    Ok(settings)
}

/// Another content is another name, and so rolls out. FNV-1a.
fn fingerprint(settings: &[(String, String)]) -> String {
    let text = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect::<String>();
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    format!("{:08x}", text.bytes().fold(0x811c_9dc5, step))
}

/// Namespace, and the label of everything that belongs to the mesh.
fn place(object: &mut Value) {
    let scoped = object["kind"].as_str().is_some_and(|kind| CLUSTER_SCOPED.contains(&kind));
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if !scoped {
        metadata.insert("namespace".to_owned(), NAMESPACE.into());
    }
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    labels["app.kubernetes.io/part-of"] = "posthaste".into();
}

/// Images and the ConfigMap by their real names, wherever they are named.
fn name_parts(value: &mut Value, image: &str, settings: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| name_parts(item, image, settings)),
        Value::Object(fields) => {
            for (field, inner) in fields {
                if field == "image" && inner == IMAGE {
                    *inner = image.into();
                } else if field == "configMapRef" && inner["name"] == SETTINGS {
                    inner["name"] = settings.into();
                } else {
                    name_parts(inner, image, settings);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    fn strict() -> Vec<(String, String)> {
        vec![("POSTHASTE_MTLS".to_owned(), "strict".to_owned())]
    }

    #[test]
    fn everything_is_named_and_placed() {
        let objects = objects("registry.example/mesh:7", &strict()).unwrap();
        let text = serde_json::to_string(&objects).unwrap();
        assert_eq!(text.matches("registry.example/mesh:7").count(), 2, "the agent's and the CA's");
        let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        assert_eq!(map["data"]["POSTHASTE_MTLS"], "strict");
        let name = map["metadata"]["name"].as_str().unwrap();
        assert_eq!(text.matches(&format!(r#""configMapRef":{{"name":"{name}"}}"#)).count(), 2);
        for object in &objects {
            let scoped = CLUSTER_SCOPED.contains(&object["kind"].as_str().unwrap());
            assert_eq!(object["metadata"]["namespace"].is_null(), scoped, "{object}");
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/part-of"], "posthaste");
        }
        assert_eq!(objects[0]["kind"], "Namespace", "it comes before what is in it");
    }

    #[test]
    fn another_setting_is_another_name_and_an_unknown_one_is_refused() {
        let name = |settings: &[(String, String)]| {
            let objects = objects("i", settings).unwrap();
            objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap()["metadata"]["name"].clone()
        };
        assert_ne!(name(&[]), name(&strict()));
        let error = objects("i", &[("MTLS".to_owned(), "strict".to_owned())]).unwrap_err().to_string();
        assert!(error.contains("--set MTLS") && error.contains("POSTHASTE_MTLS"), "{error}");
    }
}
