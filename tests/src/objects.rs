//! Kubernetes objects as the tests write them. Pure.

use serde_json::{Value, json};
use std::net::IpAddr;

/// A Namespace; `mesh` enrols its pods, the annotations are given without the prefix `posthaste.dev/`.
#[must_use]
pub fn namespace(name: &str, mesh: bool, annotations: &[(&str, &str)]) -> Value {
    let enrolled = if mesh { "enabled" } else { "disabled" };
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": name, "labels": {"posthaste.dev/mesh": enrolled}, "annotations": ours(annotations),
        },
    })
}

/// What a Pod object says.
#[derive(Debug, Clone, Default)]
pub struct PodSpec {
    /// `metadata.name`, also the service account and the label `app`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `spec.nodeName`.
    pub node: String,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// `metadata.uid`; made of namespace and name where it is empty.
    pub uid: String,
    /// Path of the network namespace; no annotation where it is empty.
    pub netns: String,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// Other annotations, without the prefix `posthaste.dev/`.
    pub annotations: Vec<(String, String)>,
    /// Other labels.
    pub labels: Vec<(String, String)>,
}

impl PodSpec {
    /// The object.
    #[must_use]
    pub fn object(&self) -> Value {
        let mut annotations = json!({});
        if !self.netns.is_empty() {
            annotations["posthaste.dev/netns"] = json!(self.netns);
        }
        let made = format!("uid-{}-{}", self.namespace, self.name);
        let uid = if self.uid.is_empty() { &made } else { &self.uid };
        for (name, value) in &self.annotations {
            annotations[format!("posthaste.dev/{name}")] = json!(value);
        }
        let mut labels = json!({"app": self.name, "version": "v1"});
        for (name, value) in &self.labels {
            labels[name] = json!(value);
        }
        let addresses: Vec<Value> = self.addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": self.name, "namespace": self.namespace, "uid": uid,
                "labels": labels, "annotations": annotations,
            },
            "spec": {
                "nodeName": self.node, "serviceAccountName": self.name, "hostNetwork": self.host_network,
                "containers": [{"name": "main", "image": "none"}],
            },
            "status": {"phase": "Running", "podIP": self.addresses.first().map(ToString::to_string), "podIPs": addresses},
        })
    }
}

/// One endpoint of a service.
#[derive(Debug, Clone)]
pub struct EndpointSpec {
    /// Addresses of the pod, one for each family.
    pub addresses: Vec<IpAddr>,
    /// Name of the pod (`targetRef`).
    pub pod: String,
    /// `nodeName`.
    pub node: String,
    /// `zone`.
    pub zone: Option<String>,
    /// `hints.forZones`.
    pub hints: Vec<String>,
    /// `conditions`: ready, serving, terminating.
    pub conditions: (bool, bool, bool),
}

/// A Service with its endpoints.
#[derive(Debug, Clone)]
pub struct ServiceSpec {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `spec.clusterIPs`; empty for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// Name, service port, port of the pods.
    pub ports: Vec<(String, u16, u16)>,
    /// `appProtocol` of all ports.
    pub app_protocol: Option<String>,
    /// The endpoints, for both families.
    pub endpoints: Vec<EndpointSpec>,
    /// Further fields of `spec`, merged into it.
    pub spec: Value,
}

impl ServiceSpec {
    /// The Service and one EndpointSlice for each address family.
    #[must_use]
    pub fn objects(&self) -> Vec<Value> {
        vec![self.service(), self.slice("IPv4", IpAddr::is_ipv4), self.slice("IPv6", IpAddr::is_ipv6)]
    }

    fn service(&self) -> Value {
        let addresses: Vec<String> = self.cluster_ips.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { vec!["None".to_owned()] } else { addresses };
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|(name, port, _)| json!({"name": name, "port": port, "protocol": "TCP", "targetPort": name}))
            .map(|port| self.with_protocol(port))
            .collect();
        let mut spec = json!({
            "type": "ClusterIP", "clusterIP": addresses.first(), "clusterIPs": addresses,
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            "selector": {"app": self.name}, "ports": ports,
        });
        for (field, value) in self.spec.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let metadata = json!({"name": self.name, "namespace": self.namespace});
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    }

    fn with_protocol(&self, mut port: Value) -> Value {
        if let Some(protocol) = &self.app_protocol {
            port["appProtocol"] = json!(protocol);
        }
        port
    }

    fn slice(&self, family: &str, fits: fn(&IpAddr) -> bool) -> Value {
        let endpoints: Vec<Value> = self.endpoints.iter().map(|endpoint| endpoint.object(fits)).collect();
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|(name, _, target)| json!({"name": name, "port": target, "protocol": "TCP"}))
            .map(|port| self.with_protocol(port))
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", self.name, family.to_lowercase()), "namespace": self.namespace,
                "labels": {"kubernetes.io/service-name": self.name},
            },
            "addressType": family, "endpoints": endpoints, "ports": ports,
        })
    }
}

impl EndpointSpec {
    fn object(&self, fits: fn(&IpAddr) -> bool) -> Value {
        let addresses: Vec<String> =
            self.addresses.iter().filter(|ip| fits(ip)).map(ToString::to_string).collect();
        let (ready, serving, terminating) = self.conditions;
        let mut object = json!({
            "addresses": addresses, "nodeName": self.node,
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            "targetRef": {"kind": "Pod", "name": self.pod},
        });
        if let Some(zone) = &self.zone {
            object["zone"] = json!(zone);
        }
        if !self.hints.is_empty() {
            let zones: Vec<Value> = self.hints.iter().map(|zone| json!({"name": zone})).collect();
            object["hints"] = json!({"forZones": zones});
        }
        object
    }
}

fn ours(annotations: &[(&str, &str)]) -> Value {
    annotations.iter().map(|(name, value)| (format!("posthaste.dev/{name}"), json!(value))).collect()
}
