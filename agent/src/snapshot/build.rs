//! Builds a snapshot from inputs: one pass over each kind of object, everything by hash maps. Pure.
//!
//! What does not fit is left out with a [`Problem`]; where leaving out would open something (a mistyped `mtls`), the
//! strict meaning is taken instead.

mod authorization;
mod by_name;
mod changes;
mod elsewhere;
mod enrolment;
mod labels;
mod mtls;
pub(super) mod origins;
mod pods;
mod policy;
mod routes;
mod services;
mod slices;
mod topology;
mod update;

use std::{net::IpAddr, sync::Arc};

use super::{MtlsMode, Problem, Snapshot, input::Inputs};
pub use update::update;

/// Label on Namespaces (`enabled`) and Pods (`disabled`).
pub const MESH_LABEL: &str = "posthaste.dev/mesh";
/// Annotation on Pods: the path that names the network namespace, where it is not found by the pod's cgroup.
pub const NETNS_ANNOTATION: &str = "posthaste.dev/netns";
/// Annotation on Pods: destination ports that leave uncaptured.
pub const EXCLUDE_OUTBOUND_ANNOTATION: &str = "posthaste.dev/exclude-outbound-ports";
/// Annotation on Pods: own ports that are reached uncaptured.
pub const EXCLUDE_INBOUND_ANNOTATION: &str = "posthaste.dev/exclude-inbound-ports";
/// Annotation on Namespaces and Pods: `permissive` or `strict`.
pub const MTLS_ANNOTATION: &str = "posthaste.dev/mtls";
/// Annotation on Namespaces and Pods: the same for single ports of a pod, as `8080=permissive,9090=strict`.
pub const MTLS_PORTS_ANNOTATION: &str = "posthaste.dev/mtls-ports";
/// Annotation on Namespaces: `open` or `closed`.
pub const FAIL_MODE_ANNOTATION: &str = "posthaste.dev/fail-mode";

/// Annotation on Namespaces: `allow` or `deny`, for callers that no AuthorizationPolicy speaks of.
pub const DEFAULT_ACCESS_ANNOTATION: &str = "posthaste.dev/default-access";

/// Where and for whom a snapshot is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Name of this node, as in `spec.nodeName`.
    pub node: Arc<str>,
    /// Its `topology.kubernetes.io/zone`, where known.
    pub zone: Option<Arc<str>>,
    /// Trust domain of all identities.
    pub trust_domain: Arc<str>,
    /// Cluster name for metrics.
    pub cluster: Arc<str>,
    /// What holds for namespaces that say nothing of [`MTLS_ANNOTATION`].
    pub mtls: MtlsMode,
    /// Number of the snapshot.
    pub generation: u64,
    /// Which pods the inputs hold.
    pub pods: PodScope,
}

/// Which pods a source reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodScope {
    /// All of them: what is no pod's address is outside the mesh.
    #[default]
    All,
    /// Those of this node, and others that somebody asked for.
    OfThisNode,
}

/// Builds the snapshot that follows `previous`, whose learnt state (endpoint loads, affinity) it takes over.
/// Problems are sorted.
#[must_use]
pub fn build(inputs: &Inputs, context: &Context, previous: Option<&Snapshot>) -> (Snapshot, Vec<Problem>) {
    let mut problems = Vec::new();
    let enrolment = enrolment::read(&inputs.namespaces, context.mtls, &mut problems);
    let by_name = by_name::for_all(inputs);
    let policies = policy::read(&inputs.traffic_policies, &by_name, &mut problems);
    let slices = slices::index(&inputs.endpoint_slices, &mut problems);
    let authorizations =
        authorization::read(&inputs.authorization_policies, &slices, &by_name, &mut problems);
    let asked = pods::Asked { enrolments: &enrolment, policies: &policies, authorizations: &authorizations };
    let pods = pods::read(&inputs.pods, &asked, context, previous, &mut problems);
    let learnt = services::Learnt::of(previous);
    let services = services::read(
        &inputs.services,
        &slices,
        &pods.workloads,
        &policies,
        context,
        (learnt, origins::Unchanged::since(previous, &pods.workloads)),
        &mut problems,
    );
    authorizations.check(&inputs.authorization_policies, &services.all, &mut problems);
    let read = authorization::read_at_pods(&pods.local, &services.all);
    let (not_http, head_times) = (authorization::not_http(&read), authorization::head_times(&read));
    let routes = routes::read(inputs, &by_name, &services, previous, &mut problems);
    let elsewhere = elsewhere::read(&inputs.endpoint_slices, &enrolment, context, previous);
    problems.sort();
    problems.dedup();
    let is_strict = |mtls| mtls == MtlsMode::Strict;
    // Where strict is what holds unsaid, the next namespace may be. Without any nothing is held, so that the mesh can be removed.
    let mut enrolled = enrolment.values().filter(|one| one.enabled);
    let has_strict = enrolled.any(|one| is_strict(one.mtls.mode) || is_strict(context.mtls))
        || pods.local.values().any(|pod| is_strict(pod.workload.mtls));
    let snapshot = Snapshot {
        generation: context.generation,
        workloads: pods.workloads,
        elsewhere,
        on_host: pods.on_host,
        service_ports: services.ports,
        routes,
        cluster_ips: services.cluster_ips,
        services: services.all,
        origins: services.origins,
        local_pods: pods.local,
        not_http,
        head_times,
        uncaptured: pods.uncaptured,
        bystanders: pods.bystanders,
        has_strict,
    };
    (snapshot, problems)
}

/// What does not fit in the policies alone, as [`build`] would say it.
#[must_use]
pub fn policy_problems(inputs: &Inputs) -> Vec<Problem> {
    let mut problems = Vec::new();
    let by_name = by_name::for_all(inputs);
    policy::read(&inputs.traffic_policies, &by_name, &mut problems);
    // What a port is declared as shows only with its endpoints, which are not asked for here.
    let slices = slices::index(&[], &mut problems);
    authorization::read(&inputs.authorization_policies, &slices, &by_name, &mut problems);
    problems
}

/// An address that a pod, service or endpoint can have; IPv4 in IPv6 is IPv4. The reason where it is not one.
fn address(text: &str) -> Result<IpAddr, String> {
    let shown = || text.chars().take(60).collect::<String>();
    let address: IpAddr = text
        .parse()
        .map_err(|_| format!("`{}` is not an IP address; write it as `10.0.0.1` or `fd00::1`", shown()))?;
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err(format!(
            "`{}` is a loopback, unspecified or multicast address; give one that is routed",
            shown()
        ));
    }
    Ok(address)
}

/// A TCP port; the reason where it is not one.
fn port(number: i32) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{number} is not a port; use 1 to 65535")),
    }
}

#[cfg(test)]
pub(crate) mod tests;
