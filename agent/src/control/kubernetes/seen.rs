//! An object as it came over the wire: its text, and of its metadata what a watch needs. It is read as an object of its kind only
//! where it is kept, so that one that does not fit costs itself and not the list that it is in.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::ApiResource;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The whole object, JSON.
    pub(super) text: Box<RawValue>,
    /// Name, namespace and resource version alone.
    metadata: ObjectMeta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: HeadMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HeadMetadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        // Metadata that cannot be read are none: the watch then starts again, and the problem names the object.
        let head: Head = serde_json::from_str(text.get()).unwrap_or_default();
        let HeadMetadata { name, namespace, resource_version } = head.metadata;
        let metadata = ObjectMeta { name, namespace, resource_version, ..ObjectMeta::default() };
        Ok(Self { text, metadata })
    }
}

impl kube::Resource for Seen {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }

    fn api_version(resource: &ApiResource) -> Cow<'_, str> {
        resource.api_version.as_str().into()
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use kube::{Resource, core::WatchEvent};

    #[test]
    fn takes_what_it_needs_of_an_event_and_keeps_the_text() {
        let text = r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7","labels":5},"spec":[]}}"#;
        let event: WatchEvent<Seen> = serde_json::from_str(text).unwrap();
        let WatchEvent::Added(seen) = event else { panic!("{event:?}") };
        assert_eq!(seen.meta().resource_version.as_deref(), Some("7"));
        assert!(seen.text.get().contains(r#""labels":5"#));
    }
}
