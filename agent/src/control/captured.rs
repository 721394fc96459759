//! What the agent tells other nodes of the pods that it captures: which pods need another annotation. Pure.
//!
//! The namespace's label says what is wanted; this annotation says what is: it is written after the pod's listeners are in the kernel,
//! and taken back when the pod is let go. An agent that dies takes nothing back.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::snapshot::{
    captured::{CAPTURED_ANNOTATION, node_of},
    input::Pod,
};

/// The pods that this node captures now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedPods {
    /// Value of the annotation.
    pub value: Arc<str>,
    /// Their uids.
    pub pods: HashSet<Arc<str>>,
}

/// A pod whose annotation is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `metadata.uid`: a patch names it, so that it never meets a pod of the same name.
    pub uid: Arc<str>,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The value; none takes the annotation away.
    pub value: Option<Arc<str>>,
}

/// What pods were made to say lately, by uid. The watch does not show it yet, and who goes by the watch alone leaves an annotation
/// behind that was written the moment before the pod was let go.
pub type Written = HashMap<Arc<str>, Option<Arc<str>>>;

/// What leads from what the pods of this node say to what is so now. What an earlier agent of the node said of a pod that is still
/// captured stays, so that an update of the agents is no storm of writes.
#[must_use]
pub fn changes<'pods>(
    pods: impl Iterator<Item = &'pods Pod>,
    node: &str,
    written: &Written,
    now: &CapturedPods,
) -> Vec<Change> {
    pods.filter(|pod| *pod.node == *node).filter_map(|pod| change(pod, node, written, now)).collect()
}

fn change(pod: &Pod, node: &str, written: &Written, now: &CapturedPods) -> Option<Change> {
    let said = match written.get(&pod.metadata.uid) {
        Some(lately) => lately.as_deref(),
        None => pod.metadata.annotations.get(CAPTURED_ANNOTATION),
    };
    let value = match (now.pods.contains(&pod.metadata.uid), said) {
        (true, Some(said)) if node_of(said) == Some(node) => return None,
        (true, _) => Some(now.value.clone()),
        (false, Some(_)) => None,
        (false, None) => return None,
    };
    let metadata = &pod.metadata;
    Some(Change {
        uid: metadata.uid.clone(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        value,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use crate::snapshot::{build::tests::inputs, captured::value};

    #[test]
    fn only_what_is_not_said_yet_is_told() {
        // (what, node, annotation, captured, told)
        let table = [
            ("new", "one", "", true, Some(Some("one/7"))),
            ("said", "one", "one/7", true, None),
            ("said by the agent before", "one", "one/3", true, None),
            ("moved with its annotation", "one", "two/3", true, Some(Some("one/7"))),
            ("nonsense", "one", "yes", true, Some(Some("one/7"))),
            ("let go", "one", "one/3", false, Some(None)),
            ("never captured", "one", "", false, None),
            ("of another node", "two", "two/1", false, None),
        ];
        for (what, node, annotation, captured, told) in table {
            let annotations = match annotation {
                "" => String::new(),
                value => format!(", annotations: {{posthaste.dev/captured: '{value}'}}"),
            };
            let inputs = inputs(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: x, namespace: shop, uid: u{annotations}}}, spec: {{nodeName: {node}}}}}"
            ));
            let uids = if captured { vec!["u".into()] } else { Vec::new() };
            let now = CapturedPods { value: value("one", 7), pods: uids.into_iter().collect() };
            let found = changes(inputs.pods.iter().map(|pod| &**pod), "one", &Written::new(), &now);
            let found = found.first().map(|change| change.value.as_deref().map(str::to_owned));
            assert_eq!(found, told.map(|value| value.map(str::to_owned)), "{what}");
        }
    }

    #[test]
    fn what_was_written_lately_counts_more_than_what_the_watch_says() {
        // (what, annotation in the watch, written lately, captured, told)
        let table = [
            ("written, not seen yet, still captured", None, Some("one/7"), true, None),
            ("written, not seen yet, let go", None, Some("one/7"), false, Some(None)),
            ("taken back, still seen", Some("one/7"), None, false, None),
            ("taken back, still seen, captured again", Some("one/7"), None, true, Some(Some("one/7"))),
        ];
        for (what, seen, lately, captured, told) in table {
            let seen = seen.map(|value| format!(", annotations: {{posthaste.dev/captured: '{value}'}}"));
            let inputs = inputs(&format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: x, namespace: shop, uid: u{}}}, spec: {{nodeName: one}}}}",
                seen.unwrap_or_default()
            ));
            let uids = if captured { vec!["u".into()] } else { Vec::new() };
            let now = CapturedPods { value: value("one", 7), pods: uids.into_iter().collect() };
            let written = Written::from([("u".into(), lately.map(Arc::from))]);
            let found = changes(inputs.pods.iter().map(|pod| &**pod), "one", &written, &now);
            let found = found.first().map(|change| change.value.as_deref().map(str::to_owned));
            assert_eq!(found, told.map(|value| value.map(str::to_owned)), "{what}");
        }
    }
}
