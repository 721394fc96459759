//! Single Services built anew on top of those of the snapshot before. Pure.

use std::sync::Arc;

use super::{Learnt, Reader, Services};
use crate::snapshot::{
    Map, Problem, Service, Snapshot,
    build::{
        Context,
        changes::{self, Change},
        policy::Policies,
        slices::Slices,
    },
};

/// The Services of a snapshot, some of them built anew.
pub(in crate::snapshot::build) struct Renewal<'last> {
    previous: &'last Snapshot,
    policies: &'last Policies,
    context: &'last Context,
    services: Services,
}

impl<'last> Renewal<'last> {
    pub(in crate::snapshot::build) fn of(
        previous: &'last Snapshot,
        policies: &'last Policies,
        context: &'last Context,
    ) -> Self {
        let services = Services {
            ports: previous.service_ports.clone(),
            cluster_ips: previous.cluster_ips.clone(),
            all: previous.services.clone(),
            origins: previous.origins.clone(),
        };
        Self { previous, policies, context, services }
    }

    /// Builds a Service of the snapshot anew after changes to its slices; none where it has problems, or had some.
    pub(in crate::snapshot::build) fn service(
        &mut self,
        last: &Arc<Service>,
        changes: &[Change<'_>],
    ) -> Option<Arc<Service>> {
        let origin = self.services.origins.get(last)?.clone();
        let slices = changes::made(origin.slices.iter(), changes);
        let key = (&*last.namespace, &*last.name);
        let slices: Slices<'_> = Map::from_iter([(key, slices)]);
        let (mut services, mut problems) = (std::mem::take(&mut self.services), Vec::<Problem>::new());
        for ip in &last.cluster_ips {
            services.cluster_ips.remove(ip);
            last.ports.iter().for_each(|port| drop(services.ports.remove(&(*ip, port.port))));
        }
        let mut reader = Reader {
            slices: &slices,
            workloads: &self.previous.workloads,
            policies: self.policies,
            context: self.context,
            learnt: Learnt::of(Some(self.previous)),
            problems: &mut problems,
            services,
        };
        reader.service(&origin.service);
        self.services = reader.services;
        // It was put at the end, and belongs where it was.
        let built = self.services.all.pop()?;
        let place = self.services.all.binary_search_by_key(&key, |one| (&*one.namespace, &*one.name)).ok()?;
        *self.services.all.get_mut(place)? = built.clone();
        problems.is_empty().then_some(built)
    }

    pub(in crate::snapshot::build) fn done(self) -> Services {
        self.services
    }
}
