//! Inputs back to manifests, from which the file source reads the same inputs again: `posthaste dump`, and what an agent keeps on disk.
//! Pure. Only what the mesh reads is written; it is not the object that somebody applied.

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    document::Kind,
    policy::{API_VERSION, EXPERIMENTS},
};
use crate::snapshot::input::{self, Inputs, policy::KIND, routes::RouteKind};

/// Every object, in the order of the inputs.
pub fn objects(inputs: &Inputs) -> impl Iterator<Item = Value> {
    let namespaces = inputs.namespaces.iter().map(|object| namespace(object));
    let pods = inputs.pods.iter().map(|object| pod(object));
    let services = inputs.services.iter().map(|object| service(object));
    let slices = inputs.endpoint_slices.iter().map(|object| endpoint_slice(object));
    let policies = inputs.traffic_policies.iter().map(|object| traffic_policy(object));
    let authorizations = inputs.authorization_policies.iter().map(|object| authorization_policy(object));
    let routes = inputs.routes.iter().map(|object| route(object));
    let grants = inputs.reference_grants.iter().map(|object| reference_grant(object));
    let policies = policies.chain(authorizations);
    namespaces.chain(pods).chain(services).chain(slices).chain(policies).chain(routes).chain(grants)
}

/// The same as JSON, one object a line.
#[must_use]
pub fn lines(inputs: &Inputs) -> String {
    objects(inputs).fold(String::new(), |text, object| text + &object.to_string() + "\n")
}

fn namespace(object: &input::Namespace) -> Value {
    envelope("v1", Kind::Namespace.as_str(), metadata(&object.metadata), [])
}

fn pod(object: &input::Pod) -> Value {
    let mut metadata = metadata(&object.metadata);
    metadata.insert("generateName".into(), json!(object.generate_name));
    if let Some(owner) = &object.owner {
        let reference = json!({"apiVersion": "v1", "kind": owner.kind, "name": owner.name, "uid": "", "controller": true});
        metadata.insert("ownerReferences".into(), json!([reference]));
    }
    let addresses: Vec<Value> = object.addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let spec = json!({
        "nodeName": &*object.node, "serviceAccountName": object.service_account,
        "hostNetwork": object.host_network, "containers": [],
    });
    let status = json!({"phase": object.phase, "podIPs": addresses});
    envelope("v1", Kind::Pod.as_str(), metadata, [("spec", spec), ("status", status)])
}

fn service(object: &input::Service) -> Value {
    let port = |port: &input::PortOfService| {
        json!({
            "name": &*port.name, "port": port.port, "protocol": port.protocol,
            "appProtocol": port.app_protocol.as_deref(),
        })
    };
    let affinity = object.affinity_seconds.map(|seconds| json!({"clientIP": {"timeoutSeconds": seconds}}));
    let spec = json!({
        "type": object.kind, "clusterIPs": object.cluster_ips,
        "ports": object.ports.iter().map(port).collect::<Vec<_>>(),
        "sessionAffinity": object.session_affinity, "sessionAffinityConfig": affinity,
        "internalTrafficPolicy": object.internal_traffic_policy,
        "publishNotReadyAddresses": object.publish_not_ready_addresses,
        "trafficDistribution": object.traffic_distribution,
        "selector": object.selector,
    });
    envelope("v1", Kind::Service.as_str(), metadata(&object.metadata), [("spec", spec)])
}

fn endpoint_slice(object: &input::EndpointSlice) -> Value {
    let port =
        |port: &input::PortOfSlice| json!({"name": port.name, "port": port.port, "protocol": port.protocol});
    let fields = [
        ("addressType", json!(object.address_type)),
        ("ports", object.ports.iter().map(port).collect()),
        ("endpoints", object.endpoints.iter().map(endpoint).collect()),
    ];
    envelope("discovery.k8s.io/v1", Kind::EndpointSlice.as_str(), metadata(&object.metadata), fields)
}

fn endpoint(object: input::EndpointRef<'_>) -> Value {
    let pod = object.pod().map(|pod| json!({"kind": "Pod", "name": pod.name, "uid": pod.uid}));
    json!({
        "addresses": object.addresses().collect::<Vec<_>>(),
        "conditions": {"ready": object.ready(), "serving": object.serving(), "terminating": object.terminating()},
        "nodeName": object.node(), "zone": object.zone(),
        "hints": {"forZones": named(object.for_zones()), "forNodes": named(object.for_nodes())},
        "targetRef": pod,
    })
}

/// None where there are none.
fn named<'name>(names: impl Iterator<Item = &'name str>) -> Option<Vec<Value>> {
    let named: Vec<Value> = names.map(|name| json!({"name": name})).collect();
    (!named.is_empty()).then_some(named)
}

fn traffic_policy(object: &input::policy::TrafficPolicy) -> Value {
    let version = if object.kind == KIND { API_VERSION } else { EXPERIMENTS };
    let mut spec = value(&object.spec);
    // Of the fields that are not honoured only that they were there is known, and all that is asked.
    for (field, _) in &object.not_honoured {
        if let (Some(spec), Some(field)) = (spec.as_object_mut(), field.strip_prefix("spec.")) {
            spec.insert(field.to_owned(), json!({}));
        }
    }
    envelope(version, object.kind, metadata(&object.metadata), [("spec", spec)])
}

fn authorization_policy(object: &input::authorization::AuthorizationPolicy) -> Value {
    let kind = Kind::AuthorizationPolicy;
    // What was cut out of it must not be missing where it is read again.
    let spec = object.unread.as_ref().map_or_else(|| value(&object.spec), |unread| unread.written.clone());
    envelope(kind.version(), kind.as_str(), metadata(&object.metadata), [("spec", spec)])
}

fn route(object: &input::routes::Route) -> Value {
    let kind = match object.kind {
        RouteKind::Http => Kind::HttpRoute,
        RouteKind::Grpc => Kind::GrpcRoute,
    };
    envelope(kind.version(), kind.as_str(), metadata(&object.metadata), [("spec", value(&object.spec))])
}

fn reference_grant(object: &input::routes::ReferenceGrant) -> Value {
    let kind = Kind::ReferenceGrant;
    envelope(kind.version(), kind.as_str(), metadata(&object.metadata), [("spec", value(&object.spec))])
}

fn metadata(metadata: &input::Metadata) -> Map<String, Value> {
    let created = metadata.created.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let namespace = Some(&*metadata.namespace).filter(|namespace| !namespace.is_empty());
    let fields = [
        ("name", json!(&*metadata.name)),
        ("namespace", json!(namespace)),
        ("uid", json!(&*metadata.uid)),
        ("creationTimestamp", json!(created.map(|time| time.to_string()))),
        ("labels", json!(metadata.labels)),
        ("annotations", json!(metadata.annotations)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn envelope<const N: usize>(
    version: &str,
    kind: &str,
    metadata: Map<String, Value>,
    fields: [(&str, Value); N],
) -> Value {
    let head = [("apiVersion", json!(version)), ("kind", json!(kind)), ("metadata", metadata.into())];
    let fields = head.into_iter().chain(fields).map(|(name, field)| (name.to_owned(), field));
    let mut object = Value::Object(fields.collect());
    without_nulls(&mut object);
    object
}

fn value(spec: &impl Serialize) -> Value {
    // Plain structs of texts and numbers always have a value.
    serde_json::to_value(spec).unwrap_or_default()
}

/// What is absent is not written; an empty list is, since it may mean something else.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(members) => members.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
