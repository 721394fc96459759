//! What a backend reference leads to. Pure.
//!
//! A reference into another namespace needs a ReferenceGrant there. One is not needed to reach a Service that is a parent of the
//! same route: the caller asked for it, so nothing is reached that was not (GEP-1294 would let a mesh do without grants at all).

use std::{collections::HashMap, sync::Arc};

use super::{GATEWAY_GROUP, is_service};
use crate::snapshot::{
    ServicePort,
    build::{by_name::ByName, services::Services},
    input::routes::{BackendReference, ReferenceGrant, Route},
};

/// Namespace, name and port of a service.
type PortKey<'input> = (&'input str, &'input str, u16);

/// Services and grants by what references name.
pub(super) struct References<'input> {
    services: &'input ByName<'input>,
    /// For IPv4 and for IPv6.
    ports: HashMap<PortKey<'input>, [Option<&'input Arc<ServicePort>>; 2]>,
    grants: HashMap<&'input str, Vec<&'input ReferenceGrant>>,
}

impl<'input> References<'input> {
    pub(super) fn new(
        granted: &'input [Arc<ReferenceGrant>],
        services: &'input ByName<'input>,
        built: &'input Services,
    ) -> Self {
        let mut ports: HashMap<PortKey<'_>, [Option<&Arc<ServicePort>>; 2]> = HashMap::new();
        let headless = built.all.iter().filter(|service| service.cluster_ips.is_empty());
        let headless = headless.flat_map(|service| &service.ports).map(|port| {
            let first = port.endpoints.first();
            (first.is_some_and(|endpoint| endpoint.address.is_ipv6()), port)
        });
        let with_address = built.ports.iter().map(|((ip, _), port)| (ip.is_ipv6(), port));
        for (ipv6, port) in with_address.chain(headless) {
            let [v4, v6] = ports.entry((&port.service_namespace, &port.service_name, port.port)).or_default();
            *(if ipv6 { v6 } else { v4 }) = Some(port);
        }
        let mut grants: HashMap<&str, Vec<&ReferenceGrant>> = HashMap::new();
        for grant in granted {
            grants.entry(&grant.metadata.namespace).or_default().push(grant);
        }
        Self { services, ports, grants }
    }

    /// The port that a reference of a route means, of the family of the caller's address where there is one.
    ///
    /// # Errors
    /// Field below the reference, and why it leads nowhere.
    pub(super) fn resolve(
        &self,
        route: &Route,
        reference: &BackendReference,
        ipv6: bool,
    ) -> Result<Arc<ServicePort>, (&'static str, String)> {
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Service");
        if !matches!(group, "" | "core") || kind != "Service" {
            let reason =
                format!("`{kind}` of the group `{group}` cannot be a backend; use a Service (`group: \"\"`)");
            return Err(("kind", reason));
        }
        let own: &str = &route.metadata.namespace;
        let namespace = reference.namespace.as_deref().unwrap_or(own);
        if namespace != own && !self.is_granted(route, namespace, &reference.name) {
            let reason = format!(
                "is another namespace, which must allow it; add a ReferenceGrant to `{namespace}` from {} of `{own}` to the Service `{}`",
                route.kind.as_str(),
                reference.name
            );
            return Err(("namespace", reason));
        }
        let service = self.services.get(&(namespace, reference.name.as_str()));
        let shown = format!("Service/{namespace}/{}", reference.name);
        let service =
            service.ok_or_else(|| ("name", format!("{shown} is not there; create it or name another")))?;
        let Some(number) = reference.port else {
            return Err(("port", format!("is missing; give the port of {shown}")));
        };
        let of_number = |port: &&crate::snapshot::input::PortOfService| port.port == number;
        if service.kind == "ExternalName" {
            let reason =
                format!("{shown} is of the type ExternalName, which cannot be a backend; use a ClusterIP");
            return Err(("name", reason));
        }
        let declared: Vec<_> = service.ports.iter().filter(of_number).collect();
        if declared.is_empty() {
            let known: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
            let reason = format!("{shown} has no port {number}; its ports are {}", known.join(", "));
            return Err(("port", reason));
        }
        if !declared.iter().any(|port| port.protocol == "TCP") {
            return Err(("port", format!("port {number} of {shown} is not TCP; use a TCP port")));
        }
        let found = u16::try_from(number).ok().and_then(|number| {
            let [v4, v6] = self.ports.get(&(namespace, reference.name.as_str(), number))?;
            if ipv6 { v6.or(*v4) } else { v4.or(*v6) }
        });
        let reason = || format!("{shown} has no address and no endpoint; see its own problems");
        found.cloned().ok_or_else(|| ("name", reason()))
    }

    fn is_granted(&self, route: &Route, namespace: &str, name: &str) -> bool {
        let own: &str = &route.metadata.namespace;
        let is_parent = route.spec.parent_refs.iter().any(|parent| {
            is_service(parent)
                && *parent.name == *name
                && parent.namespace.as_deref().unwrap_or(own) == namespace
        });
        let grants = self.grants.get(namespace).map_or(&[][..], Vec::as_slice);
        is_parent || grants.iter().any(|grant| grants_it(grant, route, name))
    }
}

fn grants_it(grant: &ReferenceGrant, route: &Route, name: &str) -> bool {
    let from = grant.spec.from.iter().any(|from| {
        from.group == GATEWAY_GROUP
            && from.kind == route.kind.as_str()
            && *from.namespace == *route.metadata.namespace
    });
    let named =
        |given: &Option<String>| given.as_deref().is_none_or(|given| given.is_empty() || given == name);
    let to = grant
        .spec
        .to
        .iter()
        .any(|to| matches!(to.group.as_str(), "" | "core") && to.kind == "Service" && named(&to.name));
    from && to
}
