//! What the agent tells other nodes of the pods that it captures: the contract of the annotation, and which pods need another one. Pure.
//!
//! A caller may reach a pod by tunnel only, once its agent captures it. The namespace's label says what is wanted; this annotation
//! says what is: it is written after the pod's listeners are in the kernel, and taken back when the label is. An agent that dies takes
//! nothing back, so that its pods are never called in plain text meanwhile.

use std::{collections::BTreeMap, sync::Arc};

/// Annotation on Pods, written by the agent of their node: `<node>/<generation>`.
pub const CAPTURED_ANNOTATION: &str = "posthaste.dev/captured";

/// The pods that this node captures now, by uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapturedPods {
    /// Value of the annotation.
    pub value: Arc<str>,
    /// The pods.
    pub pods: BTreeMap<Arc<str>, PodName>,
}

/// How the API names a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

/// A pod whose annotation is to be changed. A patch should name the uid, so that it never meets a pod of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// The pod.
    pub pod: PodName,
    /// The value; none takes the annotation away.
    pub value: Option<Arc<str>>,
}

/// Value of the annotation for pods that an agent of this node captures; the generation is that of the agent: when it started, in
/// seconds since 1970.
#[must_use]
pub fn value(node: &str, generation: i64) -> Arc<str> {
    format!("{node}/{generation}").into()
}

/// The node that a value of the annotation names. None for what no agent writes.
#[must_use]
pub fn node_of(value: &str) -> Option<&str> {
    let (node, generation) = value.rsplit_once('/')?;
    (!node.is_empty() && generation.parse::<i64>().is_ok()).then_some(node)
}

/// What leads from what was told to what is so now.
#[must_use]
pub fn changes(told: &CapturedPods, now: &CapturedPods) -> Vec<Change> {
    let change = |uid: &Arc<str>, pod: &PodName, value| Change { uid: uid.clone(), pod: pod.clone(), value };
    let is_news = |uid: &Arc<str>| told.value != now.value || !told.pods.contains_key(uid);
    let gone = told.pods.iter().filter(|(uid, _)| !now.pods.contains_key(*uid));
    let news = now.pods.iter().filter(|(uid, _)| is_news(uid));
    gone.map(|(uid, pod)| change(uid, pod, None))
        .chain(news.map(|(uid, pod)| change(uid, pod, Some(now.value.clone()))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(value: &str, uids: &[&str]) -> CapturedPods {
        let pod = |uid: &&str| {
            let uid: Arc<str> = (*uid).into();
            (uid.clone(), PodName { namespace: "shop".into(), name: uid })
        };
        CapturedPods { value: value.into(), pods: uids.iter().map(pod).collect() }
    }

    #[test]
    fn only_what_changed_is_told() {
        type Uids = &'static [&'static str];
        type Told = &'static [(&'static str, Option<&'static str>)];
        let table: [(Uids, &str, Uids, Told); 4] = [
            (&[], "a/1", &["x", "y"], &[("x", Some("a/1")), ("y", Some("a/1"))]),
            (&["x", "y"], "a/1", &["x", "y"], &[]),
            (&["x", "y"], "a/1", &["y", "z"], &[("x", None), ("z", Some("a/1"))]),
            (&["x"], "a/2", &["x"], &[("x", Some("a/2"))]),
        ];
        for (told, value, now, expected) in table {
            let found = changes(&captured("a/1", told), &captured(value, now));
            let found: Vec<_> = found.iter().map(|change| (&*change.uid, change.value.as_deref())).collect();
            assert_eq!(found, expected, "{told:?} {now:?}");
        }
    }

    #[test]
    fn a_value_names_its_node() {
        assert_eq!(node_of(&value("node-1.example", 17)), Some("node-1.example"));
        for bad in ["", "a", "a/", "/1", "a/b"] {
            assert_eq!(node_of(bad), None, "{bad}");
        }
    }
}
