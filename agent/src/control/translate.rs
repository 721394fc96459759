//! Kubernetes' own types to [`input`]: Pure, the same for every source. Absent fields get the defaults that Kubernetes
//! documents. Refuses objects whose names could not be told apart later: they end in identities and keys.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{core::v1 as core, discovery::v1 as discovery},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::snapshot::{Problem, input};

/// Longest name of an object (RFC 1123 subdomain).
const MAX_NAME: usize = 253;
/// What our annotations begin with.
const OUR_PREFIX: &str = "posthaste.dev/";
/// What kubelet calls a static pod in its cgroup.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";

/// Reads a Namespace.
///
/// # Errors
/// The name is missing or not a Kubernetes name.
pub fn namespace(object: core::Namespace, origin: &Arc<str>) -> Result<input::Namespace, Problem> {
    Ok(input::Namespace { metadata: metadata(object.metadata, origin, "Namespace", false)? })
}

/// Reads a Pod.
///
/// # Errors
/// Its name, namespace or service account is missing or not a Kubernetes name.
pub fn pod(object: core::Pod, origin: &Arc<str>) -> Result<input::Pod, Problem> {
    let (mut meta, spec, status) =
        (object.metadata, object.spec.unwrap_or_default(), object.status.unwrap_or_default());
    let owners = meta.owner_references.take().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true)).or(owners.first());
    let owner = owner.map(|owner| input::Owner { kind: owner.kind.clone(), name: owner.name.clone() });
    let generate_name = meta.generate_name.take().filter(|name| !name.is_empty());
    let metadata = metadata(meta, origin, "Pod", true)?;
    let service_account =
        given(spec.service_account_name).or(given(spec.service_account)).unwrap_or_else(|| "default".into());
    if !is_name(&service_account) {
        return Err(Problem::of(&metadata, "Pod", "spec.serviceAccountName", not_a_name(&service_account)));
    }
    let mut addresses: Vec<String> = status.pod_ips.into_iter().flatten().map(|ip| ip.ip).collect();
    if addresses.is_empty() {
        addresses.extend(given(status.pod_ip));
    }
    Ok(input::Pod {
        metadata,
        generate_name,
        owner,
        node: spec.node_name.unwrap_or_default().into(),
        service_account,
        host_network: spec.host_network.unwrap_or_default(),
        phase: status.phase.unwrap_or_default(),
        addresses,
    })
}

/// Reads a Service.
///
/// # Errors
/// Its name or namespace is missing or not a Kubernetes name.
pub fn service(object: core::Service, origin: &Arc<str>) -> Result<input::Service, Problem> {
    let spec = object.spec.unwrap_or_default();
    let mut cluster_ips = spec.cluster_ips.unwrap_or_default();
    if cluster_ips.is_empty() {
        cluster_ips.extend(given(spec.cluster_ip));
    }
    let client_ip = spec.session_affinity_config.and_then(|config| config.client_ip);
    Ok(input::Service {
        metadata: metadata(object.metadata, origin, "Service", true)?,
        kind: given(spec.type_).unwrap_or_else(|| "ClusterIP".into()),
        cluster_ips,
        ports: spec.ports.into_iter().flatten().map(service_port).collect(),
        session_affinity: spec.session_affinity.unwrap_or_default(),
        affinity_seconds: client_ip.and_then(|client_ip| client_ip.timeout_seconds),
        internal_traffic_policy: spec.internal_traffic_policy.unwrap_or_default(),
        publish_not_ready_addresses: spec.publish_not_ready_addresses.unwrap_or_default(),
        selector: spec.selector.unwrap_or_default().into(),
        traffic_distribution: spec.traffic_distribution.unwrap_or_default(),
    })
}

fn service_port(port: core::ServicePort) -> input::PortOfService {
    input::PortOfService {
        name: port.name.unwrap_or_default().into(),
        port: port.port,
        protocol: given(port.protocol).unwrap_or_else(|| "TCP".into()),
        app_protocol: given(port.app_protocol).map(Into::into),
    }
}

/// Reads an EndpointSlice.
///
/// # Errors
/// Its name or namespace is missing or not a Kubernetes name.
pub fn endpoint_slice(
    object: discovery::EndpointSlice,
    origin: &Arc<str>,
) -> Result<input::EndpointSlice, Problem> {
    let mut metadata = metadata(object.metadata, origin, "EndpointSlice", true)?;
    // Nothing reads the others, and each node keeps every slice of the cluster.
    metadata.labels = metadata.labels.only(input::SERVICE_LABEL);
    Ok(input::EndpointSlice {
        metadata,
        address_type: object.address_type,
        ports: object.ports.into_iter().flatten().map(slice_port).collect(),
        endpoints: object.endpoints.into_iter().map(endpoint).collect(),
    })
}

fn slice_port(port: discovery::EndpointPort) -> input::PortOfSlice {
    input::PortOfSlice {
        name: port.name.unwrap_or_default(),
        port: port.port,
        protocol: given(port.protocol).unwrap_or_else(|| "TCP".into()),
    }
}

fn endpoint(endpoint: discovery::Endpoint) -> input::EndpointOfSlice {
    let conditions = endpoint.conditions.unwrap_or_default();
    let hints = endpoint.hints.unwrap_or_default();
    input::EndpointOfSlice {
        addresses: endpoint.addresses,
        ready: conditions.ready.unwrap_or(true),
        serving: conditions.serving.unwrap_or(true),
        terminating: conditions.terminating.unwrap_or(false),
        node: endpoint.node_name.unwrap_or_default(),
        zone: endpoint.zone.unwrap_or_default(),
        for_zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
        for_nodes: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
        pod: endpoint.target_ref.and_then(target_pod),
    }
}

fn target_pod(reference: core::ObjectReference) -> Option<(String, String)> {
    let name = given(reference.name).filter(|_| reference.kind.as_deref() == Some("Pod"))?;
    Some((name, reference.uid.unwrap_or_default()))
}

/// What all objects have.
pub(super) fn metadata(
    meta: ObjectMeta,
    origin: &Arc<str>,
    kind: &str,
    namespaced: bool,
) -> Result<input::Metadata, Problem> {
    let namespace = match namespaced {
        true => given(meta.namespace).unwrap_or_else(|| "default".into()),
        false => String::new(),
    };
    let name = meta.name.unwrap_or_default();
    let uid = given(meta.uid).unwrap_or_else(|| format!("{namespace}/{name}"));
    let metadata = input::Metadata {
        origin: origin.clone(),
        namespace: namespace.into(),
        name: name.into(),
        uid: uid.into(),
        created: meta.creation_timestamp.map(|time| time.0.as_second()),
        labels: meta.labels.unwrap_or_default().into(),
        annotations: ours(meta.annotations.unwrap_or_default()),
    };
    if !is_name(&metadata.name) {
        return Err(Problem::of(&metadata, kind, "metadata.name", not_a_name(&metadata.name)));
    }
    if namespaced && !is_name(&metadata.namespace) {
        return Err(Problem::of(&metadata, kind, "metadata.namespace", not_a_name(&metadata.namespace)));
    }
    Ok(metadata)
}

/// Other tools' annotations may be as large as the object; nothing reads them here.
fn ours(mut annotations: BTreeMap<String, String>) -> input::Labels {
    annotations.retain(|key, _| key.starts_with(OUR_PREFIX) || key == MIRROR_ANNOTATION);
    annotations.into()
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// RFC 1123 subdomain, as Kubernetes wants object names.
fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let ends = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_NAME
        && text.bytes().all(inner)
        && text.bytes().next().is_some_and(ends)
        && text.bytes().last().is_some_and(ends)
}

fn not_a_name(text: &str) -> String {
    if text.is_empty() {
        return "is missing; give the object a name".into();
    }
    let shown: String = text.chars().take(80).collect();
    format!(
        "`{shown}` is not a Kubernetes name; use lower-case letters, digits, `-` and `.`, at most {MAX_NAME}"
    )
}
