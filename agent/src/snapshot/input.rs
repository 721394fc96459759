//! The objects a source yields, already parsed. Pure. Both sources (files, API server) produce the same: only shapes are
//! settled here (text, numbers, flags); whether an address is an address is for [`super::build`] to say.

pub mod authorization;
pub mod duration;
pub mod endpoints;
pub mod labels;
pub mod policy;
pub mod routes;

use std::sync::Arc;

pub use endpoints::{EndpointOfSlice, EndpointRef, Endpoints, TargetPod};
pub use labels::Labels;

/// Label on EndpointSlices that names their Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Every object that the mesh reads, at one instant. The order is the source's (by file name, or by namespace and name).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// `v1/Namespace`.
    pub namespaces: Vec<Arc<Namespace>>,
    /// `v1/Pod`.
    pub pods: Vec<Arc<Pod>>,
    /// `v1/Service`.
    pub services: Vec<Arc<Service>>,
    /// `discovery.k8s.io/v1/EndpointSlice`.
    pub endpoint_slices: Vec<Arc<EndpointSlice>>,
    /// `posthaste.dev/v1alpha1/TrafficPolicy` and `gateway.networking.x-k8s.io/v1alpha1/XBackendTrafficPolicy`.
    pub traffic_policies: Vec<Arc<policy::TrafficPolicy>>,
    /// `posthaste.dev/v1alpha1`.
    pub authorization_policies: Vec<Arc<authorization::AuthorizationPolicy>>,
    /// HTTPRoutes and GRPCRoutes, `gateway.networking.k8s.io`.
    pub routes: Vec<Arc<routes::Route>>,
    /// `gateway.networking.k8s.io`.
    pub reference_grants: Vec<Arc<routes::ReferenceGrant>>,
}

/// What all objects have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// File and document number, or `api-server`: [`super::Problem::origin`].
    pub origin: Arc<str>,
    /// `metadata.namespace`; empty for a Namespace.
    pub namespace: Arc<str>,
    /// `metadata.name`, a valid Kubernetes name.
    pub name: Arc<str>,
    /// `metadata.uid`, or `namespace/name` where the object has none.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp` in seconds since 1970.
    pub created: Option<i64>,
    /// `metadata.labels`; of an EndpointSlice the one that names its service.
    pub labels: Labels,
    /// `metadata.annotations`, those of `posthaste.dev/` and kubelet's of static pods alone.
    pub annotations: Labels,
}

/// A Namespace: only its metadata speaks to the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Labels enrol, annotations set `mtls` and `fail-mode`.
    pub metadata: Metadata,
}

/// A Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Labels opt out, annotations exclude ports and name the network namespace.
    pub metadata: Metadata,
    /// `metadata.generateName`.
    pub generate_name: Option<String>,
    /// Kind and name of the controlling owner reference, else of the first.
    pub owner: Option<Owner>,
    /// `spec.nodeName`; empty where it is not scheduled.
    pub node: Arc<str>,
    /// `spec.serviceAccountName`, a valid Kubernetes name; `default` where absent.
    pub service_account: String,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `status.phase`; empty where absent.
    pub phase: String,
    /// `status.podIPs`, else `status.podIP`.
    pub addresses: Vec<String>,
}

/// Who made a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `ReplicaSet`, `StatefulSet`, ...
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name and namespace.
    pub metadata: Metadata,
    /// `spec.type`; `ClusterIP` where absent.
    pub kind: String,
    /// `spec.clusterIPs`, else `spec.clusterIP`; `None` is headless.
    pub cluster_ips: Vec<String>,
    /// `spec.ports`.
    pub ports: Vec<PortOfService>,
    /// `spec.sessionAffinity`; empty where absent.
    pub session_affinity: String,
    /// `spec.sessionAffinityConfig.clientIP.timeoutSeconds`.
    pub affinity_seconds: Option<i32>,
    /// `spec.internalTrafficPolicy`; empty where absent.
    pub internal_traffic_policy: String,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready_addresses: bool,
    /// `spec.trafficDistribution`; empty where absent.
    pub traffic_distribution: String,
    /// `spec.selector`; empty where others write the endpoints.
    pub selector: Labels,
}

/// `spec.ports[]` of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOfService {
    /// Name that the slices repeat; empty where absent.
    pub name: Arc<str>,
    /// Port at the ClusterIP.
    pub port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its label `kubernetes.io/service-name` names the service.
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// `ports`.
    pub ports: Vec<PortOfSlice>,
    /// `endpoints`.
    pub endpoints: Endpoints,
}

/// `ports[]` of an EndpointSlice: what a named target port resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOfSlice {
    /// Name of the service's port; empty where absent.
    pub name: String,
    /// Target port.
    pub port: Option<i32>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

impl Metadata {
    /// `Kind/namespace/name` for a problem.
    #[must_use]
    pub fn object(&self, kind: &str) -> String {
        if self.namespace.is_empty() {
            format!("{kind}/{}", self.name)
        } else {
            format!("{kind}/{}/{}", self.namespace, self.name)
        }
    }
}
