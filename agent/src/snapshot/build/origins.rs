//! What each service was built from, so that the next snapshot builds anew only what changed: of a hundred thousand endpoints a few
//! change in a second. Pure.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use crate::snapshot::{Endpoint, Map, Service, ServicePort, Snapshot, Workload, input};

/// A service without problems and what it came from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(super) service: Arc<input::Service>,
    pub(super) slices: Vec<Arc<input::EndpointSlice>>,
    /// What it became.
    pub(super) built: Arc<Service>,
}

/// Namespace and name.
type Key = (Arc<str>, Arc<str>);

/// Origins by service.
#[derive(Debug, Default, Clone)]
pub(crate) struct Origins(Map<Key, Arc<Origin>>);

impl Origins {
    pub(super) fn note(
        &mut self,
        service: &Arc<input::Service>,
        slices: Vec<Arc<input::EndpointSlice>>,
        built: &Arc<Service>,
    ) {
        let origin = Origin { service: service.clone(), slices, built: built.clone() };
        self.0.insert(key(service), Arc::new(origin));
    }

    /// What a service came from; none where it has problems.
    pub(super) fn get(&self, service: &Service) -> Option<&Arc<Origin>> {
        self.0.get(&(service.namespace.clone(), service.name.clone()))
    }

    pub(super) fn keep(&mut self, service: &input::Service, origin: &Arc<Origin>) {
        self.0.insert(key(service), origin.clone());
    }
}

fn key(service: &input::Service) -> Key {
    (service.metadata.namespace.clone(), service.metadata.name.clone())
}

/// What is the same as in the previous snapshot of this node.
#[derive(Clone, Copy)]
pub(super) struct Unchanged<'last> {
    previous: Option<&'last Snapshot>,
    /// No pod that is known came, went or changed.
    pods: bool,
}

impl<'last> Unchanged<'last> {
    /// Compares the known pods once.
    pub(super) fn since(
        previous: Option<&'last Snapshot>,
        workloads: &HashMap<IpAddr, Arc<Workload>>,
    ) -> Self {
        let is_same = |previous: &Snapshot| {
            let last = &previous.workloads;
            last.len() == workloads.len()
                && workloads.iter().all(|(ip, pod)| last.get(ip).is_some_and(|last| Arc::ptr_eq(last, pod)))
        };
        Self { previous, pods: previous.is_some_and(is_same) }
    }

    /// What a service and its slices became, where they are the very same objects.
    pub(super) fn origin(
        self,
        service: &Arc<input::Service>,
        slices: &[&Arc<input::EndpointSlice>],
    ) -> Option<&'last Arc<Origin>> {
        let origin = self.previous?.origins.0.get(&key(service))?;
        let same = Arc::ptr_eq(&origin.service, service)
            && origin.slices.len() == slices.len()
            && origin.slices.iter().zip(slices).all(|(last, now)| Arc::ptr_eq(last, now));
        same.then_some(origin)
    }

    /// What stood at an address and port.
    pub(super) fn port(self, place: (IpAddr, u16)) -> Option<&'last Arc<ServicePort>> {
        self.previous?.service_ports.get(&place)
    }

    /// Whether an endpoint leads to the same pod as before.
    pub(super) fn is_same_pod(self, endpoint: &Endpoint, workloads: &HashMap<IpAddr, Arc<Workload>>) -> bool {
        if self.pods {
            return true;
        }
        match (&endpoint.workload, workloads.get(&endpoint.address.ip())) {
            (Some(last), Some(now)) => Arc::ptr_eq(last, now),
            (None, None) => true,
            _ => false,
        }
    }
}
