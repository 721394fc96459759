//! Routes to tables by (ClusterIP, port), apart for the callers of each namespace that has routes of its own (GAMMA, GEP-1294).
//! Pure.
//!
//! A route whose parent is not a Service is another's affair. Where GRPCRoutes and HTTPRoutes meet on one port for the same
//! callers, the GRPCRoutes are in force and the others are said to be conflicted. `group` of a parent of the kind Service may be
//! absent, as in the examples of GEP-1294: there is no other Service.

mod duration;
mod faults;
mod filters;
mod matches;
mod references;
mod rules;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{by_name::ByName, services::Services};
use crate::snapshot::{
    Problem, ServicePort, ServiceRoutes, Snapshot,
    input::{
        Inputs,
        routes::{ParentReference, Route, RouteKind},
    },
    routes::{RouteTable, entry::Entry},
};
use matches::Patterns;
use references::References;
use rules::Compiler;

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// ClusterIP and port.
type Place = (IpAddr, u16);

/// The routes of one place by whose calls they are for: everybody's (none) or a namespace's. Places in the inputs, with the
/// place of the parent reference.
type Attached<'input> = BTreeMap<Option<&'input Arc<str>>, Vec<(usize, usize)>>;

struct Reader<'input> {
    routes: &'input [Arc<Route>],
    compiler: Compiler<'input>,
    /// What a route became, by its place and by whether for IPv6.
    compiled: HashMap<(usize, bool), Vec<Entry>>,
    /// Ports of one service mostly have the same routes.
    tables: HashMap<(Vec<usize>, bool), Arc<RouteTable>>,
}

pub(super) fn read(
    inputs: &Inputs,
    by_name: &ByName<'_>,
    services: &Services,
    previous: Option<&Snapshot>,
    problems: &mut Vec<Problem>,
) -> HashMap<Place, Arc<ServiceRoutes>> {
    if inputs.routes.is_empty() {
        return HashMap::new();
    }
    let attached = attach(&inputs.routes, services, problems);
    let references = References::new(&inputs.reference_grants, by_name, services);
    let compiler = Compiler { references, patterns: Patterns::of(previous), problems };
    let mut reader =
        Reader { routes: &inputs.routes, compiler, compiled: HashMap::new(), tables: HashMap::new() };
    attached.into_iter().map(|(place, attached)| (place, Arc::new(reader.place(place, attached)))).collect()
}

/// Every place with the routes that name it as their parent.
fn attach<'input>(
    routes: &'input [Arc<Route>],
    services: &'input Services,
    problems: &mut Vec<Problem>,
) -> HashMap<Place, Attached<'input>> {
    let mut places: HashMap<(&str, &str), Vec<(Place, &ServicePort)>> = HashMap::new();
    for (place, port) in &services.ports {
        places.entry((&port.service_namespace, &port.service_name)).or_default().push((*place, port));
    }
    let mut attached: HashMap<Place, Attached<'_>> = HashMap::new();
    for (index, route) in routes.iter().enumerate() {
        let mut seen = HashSet::new();
        if route.spec.parent_refs.is_empty() {
            let reason =
                "is empty, so the route is in force nowhere; name a Service (`group: \"\"`, `kind: Service`)";
            problems.push(Problem::of(&route.metadata, route.kind.as_str(), "spec.parentRefs", reason));
        }
        for (number, parent) in route.spec.parent_refs.iter().enumerate() {
            if !is_service(parent) {
                continue;
            }
            let own = &route.metadata.namespace;
            let namespace = parent.namespace.as_deref().unwrap_or(own);
            let of_service = places.get(&(namespace, parent.name.as_str())).map_or(&[][..], Vec::as_slice);
            let chosen: Vec<Place> = of_service
                .iter()
                .filter(|(_, port)| is_meant(parent, port))
                .map(|(place, _)| *place)
                .collect();
            if chosen.is_empty() {
                let reason = unattached(parent, namespace, of_service);
                let field = format!("spec.parentRefs[{number}]");
                problems.push(Problem::of(&route.metadata, route.kind.as_str(), field, reason));
            }
            let callers = (*namespace != **own).then_some(own);
            for place in chosen.into_iter().filter(|place| seen.insert(*place)) {
                attached.entry(place).or_default().entry(callers).or_default().push((index, number));
            }
        }
    }
    attached
}

fn is_service(parent: &ParentReference) -> bool {
    let group = parent.group.as_deref().unwrap_or_default();
    parent.kind.as_deref() == Some("Service") && matches!(group, "" | "core" | GATEWAY_GROUP)
}

fn is_meant(parent: &ParentReference, port: &ServicePort) -> bool {
    parent.port.is_none_or(|number| number == i32::from(port.port))
        && parent.section_name.as_ref().is_none_or(|name| **name == *port.name)
}

fn unattached(parent: &ParentReference, namespace: &str, ports: &[(Place, &ServicePort)]) -> String {
    let service = format!("Service/{namespace}/{}", parent.name);
    if ports.is_empty() {
        return format!(
            "{service} is not there, or has no ClusterIP with a TCP port; name one that has. The route is not in force there"
        );
    }
    let mut known: Vec<String> =
        ports.iter().map(|(_, port)| format!("{} `{}`", port.port, port.name)).collect();
    known.sort();
    known.dedup();
    format!(
        "{service} has no such port; its ports are {} (`port` is the number, `sectionName` the name). The route is not in force there",
        known.join(", ")
    )
}

impl Reader<'_> {
    fn place(&mut self, place: Place, attached: Attached<'_>) -> ServiceRoutes {
        let mut routes = ServiceRoutes::default();
        for (callers, list) in attached {
            let table = self.table(self.of_one_kind(&list), place.0.is_ipv6());
            self.say_conflicts(&list);
            match callers {
                None => routes.producer = Some(table),
                Some(namespace) => _ = routes.consumers.insert(namespace.clone(), table),
            }
        }
        routes
    }

    fn has_grpc(&self, list: &[(usize, usize)]) -> bool {
        list.iter().any(|(index, _)| self.kind(*index) == Some(RouteKind::Grpc))
    }

    fn kind(&self, index: usize) -> Option<RouteKind> {
        self.routes.get(index).map(|route| route.kind)
    }

    /// The routes that stay: of the most specific kind.
    fn of_one_kind(&self, list: &[(usize, usize)]) -> Vec<usize> {
        let kind = if self.has_grpc(list) { RouteKind::Grpc } else { RouteKind::Http };
        list.iter().map(|(index, _)| *index).filter(|index| self.kind(*index) == Some(kind)).collect()
    }

    fn say_conflicts(&mut self, list: &[(usize, usize)]) {
        if !self.has_grpc(list) {
            return;
        }
        for (index, parent) in list {
            let Some(route) = self.routes.get(*index).filter(|route| route.kind == RouteKind::Http) else {
                continue;
            };
            let reason = "is conflicted: a GRPCRoute is attached to the same port, which rules HTTPRoutes out (GEP-1294); attach them to different ports";
            let field = format!("spec.parentRefs[{parent}]");
            self.compiler.problems.push(Problem::of(&route.metadata, route.kind.as_str(), field, reason));
        }
    }

    fn table(&mut self, routes: Vec<usize>, ipv6: bool) -> Arc<RouteTable> {
        if let Some(table) = self.tables.get(&(routes.clone(), ipv6)) {
            return table.clone();
        }
        let mut entries = Vec::new();
        for index in &routes {
            let Some(route) = self.routes.get(*index) else { continue };
            let compiled = self.compiled.entry((*index, ipv6));
            entries.extend(compiled.or_insert_with(|| self.compiler.route(route, ipv6)).iter().cloned());
        }
        let table = Arc::new(RouteTable::of(entries));
        self.tables.insert((routes, ipv6), table.clone());
        table
    }
}
