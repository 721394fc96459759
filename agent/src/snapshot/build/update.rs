//! The snapshot after a reading in which nothing but EndpointSlices changed, made from the one before: it costs what changed, not what
//! there is. What a slice may decide beyond the endpoints of its own Service is for the whole [`super::build`]. Pure.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Context, authorization, by_name,
    changes::{self, Change},
    elsewhere, enrolment, policy, services, slices,
};
use crate::snapshot::{Map, Service, ServiceRoutes, Snapshot, input::Inputs};

/// More changes than this part of all slices are built whole.
const WHOLE: usize = 4;

/// A Service by what names it, and the changes to its slices.
type Touched<'input> = Map<(&'input str, &'input str), Vec<Change<'input>>>;

/// The snapshot that follows `previous`, which was built from `before` in the same context but for the generation. Its problems are those
/// of before. None where it has to be built whole.
#[must_use]
pub fn update(before: &Inputs, now: &Inputs, context: &Context, previous: &Snapshot) -> Option<Snapshot> {
    let changes = changes::of_slices(before, now).filter(|_| previous.generation > 0)?;
    if changes.len() > now.endpoint_slices.len() / WHOLE {
        return None;
    }
    // Those of before are said already.
    let mut problems = Vec::new();
    let by_name = by_name::index(&now.services, !now.traffic_policies.is_empty());
    let policies = policy::read(&now.traffic_policies, &by_name, &mut problems);
    let routed = routed(&previous.routes);
    let dependents = authorization::Dependents::of(&now.authorization_policies, &previous.local_pods);
    let mut renewal = services::Renewal::of(previous, &policies, context);
    for ((namespace, name), changes) in touched(&changes)? {
        // Slices of a Service that is not there concern nobody.
        let Some(last) = service(previous, namespace, name) else { continue };
        if routed.contains(&(namespace, name)) {
            return None;
        }
        let built = renewal.service(last, &changes)?;
        if dependents.look_at(last) || dependents.look_at(&built) {
            return None;
        }
    }
    let services = renewal.done();
    let enrolments = enrolment::read(&now.namespaces, context.mtls, &mut problems);
    Some(Snapshot {
        generation: context.generation,
        workloads: previous.workloads.clone(),
        elsewhere: elsewhere::update(&previous.elsewhere, &changes, &enrolments, context),
        on_host: previous.on_host.clone(),
        service_ports: services.ports,
        routes: previous.routes.clone(),
        cluster_ips: services.cluster_ips,
        services: services.all,
        origins: services.origins,
        local_pods: previous.local_pods.clone(),
        not_http: previous.not_http.clone(),
        head_times: previous.head_times.clone(),
        uncaptured: previous.uncaptured.clone(),
        bystanders: previous.bystanders.clone(),
        has_strict: previous.has_strict,
    })
}

/// The Services whose slices changed; none where a slice is one that has problems of its own.
fn touched<'input>(changes: &[Change<'input>]) -> Option<Touched<'input>> {
    let mut touched = Touched::default();
    for change in changes {
        let of = |slice: &'input Arc<_>| slices::is_plain(slice).then(|| slices::service(slice)).flatten();
        let (before, now) = (change.before.map(of), change.now.map(of));
        match (before, now) {
            (Some(None), _) | (_, Some(None)) => return None,
            (Some(Some(before)), Some(Some(now))) if before == now => {
                touched.entry(now).or_default().push(*change);
            }
            (before, now) => {
                let (gone, come) = (Change { now: None, ..*change }, Change { before: None, ..*change });
                before.flatten().into_iter().for_each(|key| touched.entry(key).or_default().push(gone));
                now.flatten().into_iter().for_each(|key| touched.entry(key).or_default().push(come));
            }
        }
    }
    Some(touched)
}

fn service<'last>(previous: &'last Snapshot, namespace: &str, name: &str) -> Option<&'last Arc<Service>> {
    let key = (namespace, name);
    let found = previous.services.binary_search_by_key(&key, |service| (&*service.namespace, &*service.name));
    previous.services.get(found.ok()?)
}

/// The Services that compiled routes lead to, whose ports they hold.
fn routed(routes: &HashMap<(IpAddr, u16), Arc<ServiceRoutes>>) -> HashSet<(&str, &str)> {
    let tables = routes.values().flat_map(|of| of.producer.iter().chain(of.consumers.values()));
    let ports = tables.flat_map(|table| table.rules()).flat_map(|rule| rule.ports());
    ports.map(|port| (&*port.service_namespace, &*port.service_name)).collect()
}
