//! Pods of other nodes that this node asked for: which are known, which are to be fetched, which go. Pure: the time is an argument.
//!
//! A pod is fetched when somebody wants to talk to it. With it come the other pods of its services, in one list where they are many,
//! since the next connection goes to one of them. A service that was talked to is in use for an hour; new endpoints of such a
//! service are fetched before anybody asks. A pod goes when no slice names it any more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::store::Name;
use crate::snapshot::{
    PodKey,
    input::{EndpointRef, EndpointSlice, Pod, SERVICE_LABEL, Service, TargetPod},
};

/// A service that was talked to is in use for so long.
const IN_USE: Duration = Duration::from_hours(1);
/// So many pods of one service are fetched one by one; more of them by one list.
const ONE_BY_ONE: usize = 3;
/// What was asked for is not asked for again within this, answered or not.
const PATIENCE: Duration = Duration::from_secs(1);

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetch {
    /// One pod.
    One(Name),
    /// All pods of a namespace with these labels.
    Selected(Arc<str>, String),
}

/// What is known of the cluster beside these pods.
pub(super) trait Cluster {
    /// The slices of a namespace.
    fn slices(&self, namespace: &str) -> Vec<&EndpointSlice>;
    /// A service.
    fn service(&self, name: &Name) -> Option<&Service>;
    /// Whether a pod is read by the watch of this node's pods.
    fn is_local(&self, name: &Name) -> bool;
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pods: BTreeMap<Name, Arc<Pod>>,
    /// When a pod was last asked for.
    asked: HashMap<Name, Instant>,
    in_use: HashMap<Name, Instant>,
}

impl Asked {
    /// Takes over a pod that an earlier agent knew; its services are in use.
    pub(super) fn take_over(&mut self, pod: Arc<Pod>) {
        self.pods.insert((pod.metadata.namespace.clone(), pod.metadata.name.clone()), pod);
    }

    /// The pods that are known.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// Somebody wants to talk to a pod.
    pub(super) fn want(&mut self, pod: &PodKey, cluster: &impl Cluster, now: Instant) -> Vec<Fetch> {
        let name: Name = (pod.namespace.clone(), (*pod.name).into());
        // Also one that is known: what is known of it was not enough, or it would not be asked for.
        if cluster.is_local(&name) || !self.is_due(&name, now) {
            return Vec::new();
        }
        self.asked.retain(|_, since| now.duration_since(*since) < PATIENCE);
        self.asked.insert(name.clone(), now);
        let mut fetches = vec![Fetch::One(name)];
        let slices = cluster.slices(&pod.namespace);
        let with_it = slices.iter().filter(|slice| targets(slice).any(|target| *target.name == *pod.name));
        let services: BTreeSet<Name> = with_it.filter_map(|slice| service_of(slice)).collect();
        for service in services {
            self.in_use.insert(service.clone(), now + IN_USE);
            fetches.extend(self.prefetch(&service, cluster, now));
        }
        fetches
    }

    /// The services in use.
    pub(super) fn in_use(&self) -> impl Iterator<Item = &Name> {
        self.in_use.keys()
    }

    /// The pods of a service in use that are not known yet.
    pub(super) fn prefetch(&mut self, service: &Name, cluster: &impl Cluster, now: Instant) -> Vec<Fetch> {
        if self.in_use.get(service).is_none_or(|until| *until < now) {
            self.in_use.remove(service);
            return Vec::new();
        }
        let slices = cluster.slices(&service.0);
        let of_service = slices.iter().filter(|slice| service_of(slice).as_ref() == Some(service));
        let missing: BTreeSet<Name> = of_service
            .flat_map(|slice| targets(slice))
            .map(|target| ((service.0.clone(), Arc::from(target.name)), target.uid))
            .filter(|(name, uid)| !cluster.is_local(name) && !self.knows(name, uid) && self.is_due(name, now))
            .map(|(name, _)| name)
            .collect();
        self.asked.extend(missing.iter().map(|name| (name.clone(), now)));
        let selector = cluster.service(service).map(selector).filter(|selector| !selector.is_empty());
        match selector {
            Some(selector) if missing.len() > ONE_BY_ONE => {
                vec![Fetch::Selected(service.0.clone(), selector)]
            }
            _ => missing.into_iter().map(Fetch::One).collect(),
        }
    }

    /// What a slice that changed asks for: the service whose new endpoints are to be fetched.
    pub(super) fn concerns(&self, slice: &EndpointSlice) -> Option<Name> {
        service_of(slice).filter(|service| self.in_use.contains_key(service))
    }

    /// Pods that the server answered with, of this namespace; whether any is new. Those that no slice names are not kept.
    pub(super) fn answer(&mut self, namespace: &str, pods: Vec<Arc<Pod>>, cluster: &impl Cluster) -> bool {
        let slices = cluster.slices(namespace);
        let named: HashSet<&str> =
            slices.iter().flat_map(|slice| targets(slice)).map(|target| target.name).collect();
        let mut any = false;
        for pod in pods {
            let name: Name = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
            if named.contains(&*name.1) && !cluster.is_local(&name) {
                any |= self.pods.get(&name) != Some(&pod);
                self.pods.insert(name, pod);
            }
        }
        any
    }

    /// The endpoints of a slice are others now: forgets pods that no slice names any more; whether there was one.
    pub(super) fn forget(&mut self, before: &EndpointSlice, cluster: &impl Cluster) -> bool {
        let namespace = &before.metadata.namespace;
        let candidates: Vec<Name> = targets(before)
            .map(|target| (namespace.clone(), Arc::from(target.name)))
            .filter(|name| self.pods.contains_key(name))
            .collect();
        if candidates.is_empty() {
            return false;
        }
        let slices = cluster.slices(namespace);
        let named: HashMap<&str, &str> =
            slices.iter().flat_map(|slice| targets(slice)).map(|target| (target.name, target.uid)).collect();
        let mut any = false;
        for name in candidates {
            let uid = named.get(&*name.1).copied();
            let gone = self.pods.get(&name).is_some_and(|pod| uid.is_none_or(|uid| !is_it(pod, uid)));
            if gone {
                self.pods.remove(&name);
                any = true;
            }
        }
        any
    }

    /// After everything was listed anew: only what the slices name stays, and what is known of a service says that it is in use.
    pub(super) fn forget_all_but(&mut self, cluster: &impl Cluster, now: Instant) {
        let namespaces: BTreeSet<Arc<str>> =
            self.pods.keys().map(|(namespace, _)| namespace.clone()).collect();
        for namespace in namespaces {
            let slices = cluster.slices(&namespace);
            let named: HashMap<&str, &str> = slices
                .iter()
                .flat_map(|slice| targets(slice))
                .map(|target| (target.name, target.uid))
                .collect();
            self.pods.retain(|name, pod| {
                name.0 != namespace || named.get(&*name.1).is_some_and(|uid| is_it(pod, uid))
            });
            let known =
                |target: TargetPod<'_>| self.pods.contains_key(&(namespace.clone(), target.name.into()));
            let used =
                slices.iter().filter(|slice| targets(slice).any(known)).filter_map(|slice| service_of(slice));
            self.in_use.extend(used.map(|service| (service, now + IN_USE)));
        }
    }

    fn knows(&self, name: &Name, uid: &str) -> bool {
        self.pods.get(name).is_some_and(|pod| is_it(pod, uid))
    }

    /// Whether a pod was not asked for just now.
    fn is_due(&self, name: &Name, now: Instant) -> bool {
        self.asked.get(name).is_none_or(|since| now.duration_since(*since) >= PATIENCE)
    }
}

/// A reference without a uid means whoever has the name.
fn is_it(pod: &Pod, uid: &str) -> bool {
    uid.is_empty() || *pod.metadata.uid == *uid
}

fn targets(slice: &EndpointSlice) -> impl Iterator<Item = TargetPod<'_>> {
    slice.endpoints.iter().filter_map(EndpointRef::pod)
}

fn service_of(slice: &EndpointSlice) -> Option<Name> {
    let name = slice.metadata.labels.get(SERVICE_LABEL)?;
    Some((slice.metadata.namespace.clone(), name.into()))
}

fn selector(service: &Service) -> String {
    let pairs: Vec<String> = service.selector.pairs().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests;
