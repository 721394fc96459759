//! Services to ports by (ClusterIP, port), with the endpoints that this node may use. TCP only. Pure.

mod renewal;

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Context, PodScope, address,
    origins::{Origins, Unchanged},
    policy::Policies,
    port, slices,
    slices::Slices,
    topology,
};
use crate::snapshot::{
    Endpoint, EndpointLoad, Map, Problem, Service, ServicePort, Shared, Snapshot, Workload, input,
    load::Lazy, protocol,
};

pub(super) use renewal::Renewal;

/// Kubernetes' default for `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_SECONDS: u32 = 10_800;

/// What the services amount to; the fields are the snapshot's.
#[derive(Clone, Default)]
pub(super) struct Services {
    pub(super) ports: Map<(IpAddr, u16), Arc<ServicePort>>,
    pub(super) cluster_ips: Map<IpAddr, Arc<Service>>,
    pub(super) all: Vec<Arc<Service>>,
    pub(super) origins: Origins,
}

/// What the data path learnt on the previous snapshot.
#[derive(Clone, Copy)]
pub(super) struct Learnt<'last>(Option<&'last Snapshot>);

impl<'last> Learnt<'last> {
    pub(super) fn of(previous: Option<&'last Snapshot>) -> Self {
        Self(previous)
    }

    /// The port of this name in one address family. Looked up and not indexed: few services are built anew.
    fn port(self, service: &input::Service, name: &str, ipv6: bool) -> Option<&'last ServicePort> {
        let previous = self.0?;
        let key = (&service.metadata.namespace, &service.metadata.name);
        let index =
            previous.services.binary_search_by_key(&key, |last| (&last.namespace, &last.name)).ok()?;
        let last = previous.services.get(index)?;
        let of_family = last.cluster_ips.iter().filter(|ip| ip.is_ipv6() == ipv6);
        let mut places = of_family.flat_map(|ip| last.ports.iter().map(move |port| (*ip, port.port)));
        places.find_map(|place| {
            previous.service_ports.get(&place).map(|port| &**port).filter(|port| *port.name == *name)
        })
    }
}

/// The load of an endpoint that stayed. One among the first endpoints of a port is not new beside any other, so that slow
/// start does not concern it.
fn load(last: Option<&ServicePort>, address: SocketAddr) -> Shared<EndpointLoad> {
    if last.is_none_or(|last| last.endpoints.is_empty()) {
        return Arc::new(Lazy::new(|| EndpointLoad { since_ns: 1.into(), ..EndpointLoad::default() }));
    }
    let found = last.and_then(|last| {
        let index = last.endpoints.binary_search_by_key(&address, |endpoint| endpoint.address).ok()?;
        last.endpoints.get(index)
    });
    found.map(|endpoint| endpoint.load.clone()).unwrap_or_default()
}

struct Reader<'input, 'last> {
    slices: &'input Slices<'input>,
    workloads: &'input HashMap<IpAddr, Arc<Workload>>,
    policies: &'input Policies,
    context: &'input Context,
    learnt: Learnt<'last>,
    problems: &'input mut Vec<Problem>,
    services: Services,
}

pub(super) fn read(
    services: &[Arc<input::Service>],
    slices: &Slices<'_>,
    workloads: &HashMap<IpAddr, Arc<Workload>>,
    policies: &Policies,
    context: &Context,
    (learnt, unchanged): (Learnt<'_>, Unchanged<'_>),
    problems: &mut Vec<Problem>,
) -> Services {
    let mut oldest: Vec<&Arc<input::Service>> = services.iter().collect();
    // The oldest keeps a ClusterIP that two claim; one without a time comes last, equals in their order.
    oldest.sort_by_key(|service| service.metadata.created.unwrap_or(i64::MAX));
    let mut reader =
        Reader { slices, workloads, policies, context, learnt, problems, services: Services::default() };
    for service in oldest {
        if !reader.reuse(service, unchanged) {
            reader.service(service);
        }
    }
    let mut services = reader.services;
    services.all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    services
}

impl Reader<'_, '_> {
    fn service(&mut self, service: &Arc<input::Service>) {
        let found = self.problems.len();
        let metadata = &service.metadata;
        let hostname: Arc<str> = format!("{}.{}.svc.cluster.local", metadata.name, metadata.namespace).into();
        let cluster_ips = self.cluster_ips(service);
        let affinity_seconds = self.affinity(service);
        self.check(service);
        let headless = cluster_ips.is_empty();
        let families = self.families(service, &cluster_ips);
        let mut ports = Vec::new();
        for (index, given) in service.ports.iter().enumerate() {
            let Some(number) = self.number(service, index, given) else { continue };
            for ipv6 in &families {
                let built = self.port(service, given, number, *ipv6, affinity_seconds, &hostname);
                let built = Arc::new(built);
                let of_family = cluster_ips.iter().filter(|ip| ip.is_ipv6() == *ipv6);
                if self.publish(service, index, of_family.map(|ip| (*ip, number)), &built) || headless {
                    ports.push(built);
                }
            }
        }
        let built = Arc::new(Service {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            hostname,
            cluster_ips,
            affinity_seconds,
            ports,
        });
        // What had a problem is built again each time, since it may be another object's doing.
        if found == self.problems.len() {
            let slices = slices::of(self.slices, service).iter().map(|slice| Arc::clone(slice)).collect();
            self.services.origins.note(service, slices, &built);
        }
        self.add(built);
    }

    fn add(&mut self, built: Arc<Service>) {
        for ip in &built.cluster_ips {
            self.services.cluster_ips.insert(*ip, built.clone());
        }
        self.services.all.push(built);
    }

    /// Takes the service over from the previous snapshot where everything that it was built from is the same; whether it was.
    fn reuse(&mut self, service: &Arc<input::Service>, unchanged: Unchanged<'_>) -> bool {
        let Some(origin) = unchanged.origin(service, slices::of(self.slices, service)) else { return false };
        let built = &origin.built;
        let same_policy = |port: &Arc<ServicePort>| self.policies.is_same(service, port);
        let same_pods = |port: &Arc<ServicePort>| {
            port.endpoints.iter().all(|endpoint| unchanged.is_same_pod(endpoint, self.workloads))
        };
        let free = built.cluster_ips.iter().all(|ip| !self.services.cluster_ips.contains_key(ip));
        if !free || !built.ports.iter().all(|port| same_policy(port) && same_pods(port)) {
            return false;
        }
        for ip in &built.cluster_ips {
            let places = built.ports.iter().map(|port| (*ip, port.port));
            self.services
                .ports
                .extend(places.filter_map(|place| Some((place, unchanged.port(place)?.clone()))));
        }
        self.services.origins.keep(service, origin);
        self.add(built.clone());
        true
    }

    /// Whether it is of IPv4 (false), of IPv6 (true): by its addresses, a headless service by its endpoints.
    fn families(&self, service: &input::Service, cluster_ips: &[IpAddr]) -> Vec<bool> {
        let slices = slices::of(self.slices, service);
        let is_of = |ipv6: &bool| match cluster_ips {
            [] => slices.iter().any(|slice| (slice.address_type == "IPv6") == *ipv6),
            _ => cluster_ips.iter().any(|ip| ip.is_ipv6() == *ipv6),
        };
        [false, true].into_iter().filter(is_of).collect()
    }

    /// Those that are in order and not another service's.
    fn cluster_ips(&mut self, service: &input::Service) -> Vec<IpAddr> {
        let headless = service.cluster_ips.iter().any(|ip| ip == "None");
        match service.kind.as_str() {
            "ExternalName" => return Vec::new(),
            "ClusterIP" | "NodePort" | "LoadBalancer" => {}
            other => {
                let reason =
                    format!("`{other}` is not a type of service; use `ClusterIP`. It has no address");
                self.problem(service, "spec.type", reason);
                return Vec::new();
            }
        }
        if headless {
            return Vec::new();
        }
        if service.cluster_ips.is_empty() {
            let reason = "is missing; give the service an address, or `None` for a headless one";
            self.problem(service, "spec.clusterIP", reason);
        }
        let mut addresses: Vec<IpAddr> = Vec::new();
        for (index, text) in service.cluster_ips.iter().enumerate() {
            let checked = address(text).and_then(|address| self.unclaimed(address));
            match checked {
                Ok(address) if addresses.contains(&address) => {}
                Ok(address) => addresses.push(address),
                Err(reason) => self.problem(service, &format!("spec.clusterIPs[{index}]"), reason),
            }
        }
        addresses
    }

    fn unclaimed(&self, address: IpAddr) -> Result<IpAddr, String> {
        match self.services.cluster_ips.get(&address) {
            None => Ok(address),
            Some(other) => Err(format!(
                "{address} is the address of Service/{}/{}, which came first and keeps it; choose another",
                other.namespace, other.name
            )),
        }
    }

    fn affinity(&mut self, service: &input::Service) -> Option<u32> {
        match (service.session_affinity.as_str(), service.affinity_seconds) {
            ("" | "None", _) => None,
            ("ClientIP", None) => Some(AFFINITY_SECONDS),
            ("ClientIP", Some(seconds @ 1..=86_400)) => u32::try_from(seconds).ok(),
            ("ClientIP", Some(seconds)) => {
                let reason = format!("{seconds} is not between 1 and 86400; {AFFINITY_SECONDS} is in force");
                self.problem(service, "spec.sessionAffinityConfig.clientIP.timeoutSeconds", reason);
                Some(AFFINITY_SECONDS)
            }
            (other, _) => {
                let reason = format!("`{other}` is neither `ClientIP` nor `None`; there is no affinity");
                self.problem(service, "spec.sessionAffinity", reason);
                None
            }
        }
    }

    /// Values that choose endpoints: an unknown one is said and means the default.
    fn check(&mut self, service: &input::Service) {
        let known = |value: &str, values: &[&str]| value.is_empty() || values.contains(&value);
        if !known(&service.internal_traffic_policy, &["Cluster", "Local"]) {
            let reason = format!(
                "`{}` is neither `Cluster` nor `Local`; Cluster is in force",
                service.internal_traffic_policy
            );
            self.problem(service, "spec.internalTrafficPolicy", reason);
        }
        if !known(&service.traffic_distribution, &["PreferClose", "PreferSameZone", "PreferSameNode"]) {
            let reason = format!(
                "`{}` is not known; use `PreferSameZone`, `PreferSameNode` or `PreferClose`. All endpoints are used",
                service.traffic_distribution
            );
            self.problem(service, "spec.trafficDistribution", reason);
        }
    }

    /// The number of a TCP port.
    fn number(
        &mut self,
        service: &input::Service,
        index: usize,
        given: &input::PortOfService,
    ) -> Option<u16> {
        match given.protocol.as_str() {
            "TCP" => {}
            "UDP" | "SCTP" => return None,
            other => {
                let reason = format!("`{other}` is not a protocol; use `TCP`, `UDP` or `SCTP`");
                self.problem(service, &format!("spec.ports[{index}].protocol"), reason);
                return None;
            }
        }
        let field = format!("spec.ports[{index}].port");
        port(given.port).map_err(|reason| self.problem(service, &field, reason)).ok()
    }

    fn port(
        &mut self,
        service: &input::Service,
        given: &input::PortOfService,
        number: u16,
        ipv6: bool,
        affinity_seconds: Option<u32>,
        hostname: &Arc<str>,
    ) -> ServicePort {
        let metadata = &service.metadata;
        let slices = slices::of(self.slices, service);
        let publish_not_ready = service.publish_not_ready_addresses;
        let candidates = slices::candidates(slices, &given.name, ipv6, publish_not_ready, self.problems);
        let known_endpoints = candidates.len();
        let last = self.learnt.port(service, &given.name, ipv6);
        let endpoints =
            topology::choose(candidates, service, self.context).into_iter().map(|candidate| Endpoint {
                address: candidate.address,
                workload: self.workload(&candidate),
                load: load(last, candidate.address),
            });
        let (protocol, protocol_why) = protocol::declared(given.app_protocol.as_deref(), &given.name);
        ServicePort {
            service_name: metadata.name.clone(),
            service_namespace: metadata.namespace.clone(),
            hostname: hostname.clone(),
            port: number,
            name: given.name.clone(),
            app_protocol: given.app_protocol.clone(),
            protocol,
            protocol_why,
            policy: self.policies.of(service, &given.name, last),
            affinity_seconds,
            endpoints: endpoints.collect(),
            known_endpoints,
            state: last.map(|last| last.state.clone()).unwrap_or_default(),
        }
    }

    /// The pod of an endpoint; none where the slice names another one than is known at the address, which is to be asked for then.
    fn workload(&self, candidate: &slices::Candidate<'_>) -> Option<Arc<Workload>> {
        let known = self.workloads.get(&candidate.address.ip())?;
        let named = candidate.from.pod().map_or("", |pod| pod.uid);
        let other = self.context.pods == PodScope::OfThisNode && !named.is_empty() && *named != *known.uid;
        (!other).then(|| known.clone())
    }

    /// Whether the port is in the snapshot now: not where another port of the service has its number.
    fn publish(
        &mut self,
        service: &input::Service,
        index: usize,
        places: impl Iterator<Item = (IpAddr, u16)>,
        built: &Arc<ServicePort>,
    ) -> bool {
        let mut published = false;
        for place in places {
            match self.services.ports.entry(place) {
                Entry::Vacant(entry) => {
                    entry.insert(built.clone());
                    published = true;
                }
                Entry::Occupied(_) => {
                    let reason = format!("{} is the number of an earlier port; choose another", place.1);
                    self.problem(service, &format!("spec.ports[{index}].port"), reason);
                }
            }
        }
        published
    }

    fn problem(&mut self, service: &input::Service, field: &str, reason: impl Into<String>) {
        self.problems.push(Problem::of(&service.metadata, "Service", field, reason));
    }
}
