//! Where objects live in the API. Pure.

use crate::Fault;
use serde_json::Value;

/// Kinds without a namespace.
const CLUSTER_SCOPED: [&str; 8] = [
    "Namespace",
    "Node",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "GatewayClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

/// The path of an object: `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME`.
pub(super) fn path(object: &Value) -> Result<String, Fault> {
    let text =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(version), Some(kind), Some(name)) =
        (text("/apiVersion"), text("/kind"), text("/metadata/name"))
    else {
        return Err(Fault::new(format!("not an object: {object}")));
    };
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = plural(kind);
    if CLUSTER_SCOPED.contains(&kind) {
        return Ok(format!("{root}/{plural}/{name}"));
    }
    let namespace = text("/metadata/namespace").unwrap_or("default");
    Ok(format!("{root}/namespaces/{namespace}/{plural}/{name}"))
}

/// As Kubernetes guesses it.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !kind.ends_with("ay") => format!("{stem}ies"),
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_the_path() {
        let of = |version: &str, kind: &str| {
            path(&json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}}))
                .unwrap()
        };
        assert_eq!(of("v1", "Pod"), "/api/v1/namespaces/n/pods/x");
        assert_eq!(of("v1", "Namespace"), "/api/v1/namespaces/x");
        assert_eq!(
            of("posthaste.dev/v1alpha1", "TrafficPolicy"),
            "/apis/posthaste.dev/v1alpha1/namespaces/n/trafficpolicies/x"
        );
        assert_eq!(
            of("gateway.networking.k8s.io/v1", "Gateway"),
            "/apis/gateway.networking.k8s.io/v1/namespaces/n/gateways/x"
        );
    }
}
