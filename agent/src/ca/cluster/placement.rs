//! Which service accounts run on which node, as the pods of the cluster say. Pure.

use std::{collections::HashMap, sync::Arc};

/// Where a pod runs and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `metadata.namespace`.
    pub(crate) namespace: Arc<str>,
    /// `spec.serviceAccountName`.
    pub(crate) account: Arc<str>,
    /// `spec.nodeName`.
    pub(crate) node: Arc<str>,
}

/// How many pods run as a service account, by its namespace and name.
type Accounts = HashMap<(Arc<str>, Arc<str>), u32>;

/// The pods that run, by uid, and those of each node by service account.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    pods: HashMap<Arc<str>, Place>,
    running: HashMap<Arc<str>, Accounts>,
}

impl Placement {
    /// The pod `uid` is at `place` now; `None` for one that has ended, is deleted or has no node.
    pub(crate) fn set(&mut self, uid: &str, place: Option<Place>) {
        if self.pods.get(uid) == place.as_ref() {
            return;
        }
        if let Some(old) = self.pods.remove(uid) {
            self.leave(&old);
        }
        if let Some(place) = place {
            let accounts = self.running.entry(place.node.clone()).or_default();
            *accounts.entry((place.namespace.clone(), place.account.clone())).or_default() += 1;
            self.pods.insert(uid.into(), place);
        }
    }

    fn leave(&mut self, old: &Place) {
        let Some(accounts) = self.running.get_mut(&old.node) else { return };
        let kind = (old.namespace.clone(), old.account.clone());
        if let Some(count) = accounts.get_mut(&kind) {
            *count -= 1;
            if *count == 0 {
                accounts.remove(&kind);
            }
        }
        if accounts.is_empty() {
            self.running.remove(&old.node);
        }
    }

    /// Whether a pod of that service account runs on `node`.
    pub(crate) fn runs(&self, node: &str, namespace: &str, account: &str) -> bool {
        let accounts = self.running.get(node);
        accounts.is_some_and(|accounts| accounts.contains_key(&(namespace.into(), account.into())))
    }

    /// Where the pod `uid` runs.
    pub(crate) fn place(&self, uid: &str) -> Option<&Place> {
        self.pods.get(uid)
    }

    /// Pods that are known.
    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(node: &str, account: &str) -> Option<Place> {
        Some(Place { namespace: "shop".into(), account: account.into(), node: node.into() })
    }

    #[test]
    fn follows_pods_as_they_come_and_go() {
        let mut placement = Placement::default();
        placement.set("1", at("a", "web"));
        placement.set("2", at("a", "web"));
        placement.set("2", at("a", "web"));
        placement.set("3", at("b", "cart"));
        assert!(placement.runs("a", "shop", "web") && placement.runs("b", "shop", "cart"));
        for (node, namespace, account) in
            [("b", "shop", "web"), ("a", "shop", "cart"), ("a", "other", "web"), ("c", "shop", "web")]
        {
            assert!(!placement.runs(node, namespace, account), "{node} {namespace} {account}");
        }
        placement.set("1", None);
        assert!(placement.runs("a", "shop", "web"), "the second one is still there");
        placement.set("2", None);
        placement.set("2", None);
        assert!(!placement.runs("a", "shop", "web"));
        placement.set("3", at("a", "cart"));
        assert!(placement.runs("a", "shop", "cart") && !placement.runs("b", "shop", "cart"));
        assert_eq!(placement.place("3").map(|place| &*place.node), Some("a"));
        placement.set("3", None);
        assert!(placement.running.is_empty() && placement.len() == 0);
    }
}
