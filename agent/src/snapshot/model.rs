//! The shapes of a snapshot: workloads, services, endpoints, the pods of this node. Pure.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Authorization, Elsewhere, EndpointLoad, Map, PodLoad, Protocol, ServiceRoutes, ServiceState, Shared,
    SpiffeId, TrafficPolicy, build::origins::Origins, policy::BulkheadLimits, protocol,
};

/// What plaintext may do at a pod: `posthaste.dev/mtls` on the Pod or its Namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MtlsMode {
    /// Plaintext from outside the mesh is let in and recorded.
    #[default]
    Permissive,
    /// Plaintext is refused.
    Strict,
}

/// What the kernel does with new connections of a pod while no agent lives: `posthaste.dev/fail-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailMode {
    /// Refuse them, both ways.
    Closed,
    /// Let them go straight, in plaintext.
    Open,
}

/// A pod as the mesh knows it, on whatever node.
#[derive(Debug, PartialEq, Eq)]
pub struct Workload {
    /// `metadata.uid`, or `namespace/name` where the object has none.
    pub uid: Arc<str>,
    /// Pod name.
    pub name: Arc<str>,
    /// Pod namespace.
    pub namespace: Arc<str>,
    /// `spec.nodeName`; empty where it is not scheduled.
    pub node: Arc<str>,
    /// Trust domain, namespace and `spec.serviceAccountName` (`default` where absent).
    pub identity: SpiffeId,
    /// All of `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// The mesh captures this pod, so that callers must use the tunnel and never plaintext.
    pub meshed: bool,
    /// It is known to be so: this node's own, or by the annotation that its agent writes.
    pub captured: bool,
    /// What its agent does with plaintext.
    pub mtls: MtlsMode,
    /// The same at ports where it is another: `posthaste.dev/mtls-ports`.
    pub mtls_ports: BTreeMap<u16, MtlsMode>,
    /// Names for metrics and the `baggage` header.
    pub labels: WorkloadLabels,
}

impl Workload {
    /// What its agent does with plaintext at this port.
    #[must_use]
    pub fn mtls_at(&self, port: u16) -> MtlsMode {
        self.mtls_ports.get(&port).copied().unwrap_or(self.mtls)
    }

    /// Nobody has said that it is captured, and it takes plaintext, also at this port: no agent may be on its node.
    #[must_use]
    pub fn may_be_uncaptured(&self, port: u16) -> bool {
        let modes = [self.mtls, self.mtls_at(port)];
        !self.captured && modes == [MtlsMode::Permissive; 2]
    }
}

/// What Istio's standard metrics call a workload; `unknown` where a pod does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadLabels {
    /// Owner's name without its hashes (the Deployment), else the pod's name.
    pub workload: Arc<str>,
    /// Label `app` or `app.kubernetes.io/name`.
    pub app: Arc<str>,
    /// Label `version` or `app.kubernetes.io/version`.
    pub version: Arc<str>,
    /// `service.istio.io/canonical-name`, `app.kubernetes.io/name`, `app`, else the workload.
    pub canonical_service: Arc<str>,
    /// `service.istio.io/canonical-revision`, `app.kubernetes.io/version`, `version`, else `latest`.
    pub canonical_revision: Arc<str>,
    /// Cluster name; `Kubernetes` unless configured.
    pub cluster: Arc<str>,
}

/// How the network namespace of a pod is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NetnsSource {
    /// By the path that the annotation `posthaste.dev/netns` names.
    Path(PathBuf),
    /// By a process in the pod's cgroup, which kubelet names by this uid.
    Cgroup(Arc<str>),
}

/// An enrolled pod of this node.
#[derive(Debug, PartialEq, Eq)]
pub struct LocalPod {
    /// The pod itself.
    pub workload: Arc<Workload>,
    /// How its network namespace is found.
    pub netns: NetnsSource,
    /// Kubelet says that it runs.
    pub runs: bool,
    /// What the kernel does while no agent lives.
    pub fail_mode: FailMode,
    /// Destination ports that leave uncaptured, sorted.
    pub exclude_outbound_ports: Vec<u16>,
    /// Own ports that are reached uncaptured, sorted.
    pub exclude_inbound_ports: Vec<u16>,
    /// Who may call it.
    pub authorization: Arc<Authorization>,
    /// What it may hold inside the agent.
    pub bulkhead: BulkheadLimits,
    /// What it holds, kept over snapshots.
    pub load: Arc<PodLoad>,
}

/// A Kubernetes Service.
#[derive(Debug)]
pub struct Service {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `<name>.<namespace>.svc.cluster.local`, for metrics and authorities.
    pub hostname: Arc<str>,
    /// ClusterIPs; empty for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// `sessionAffinity: ClientIP` with its time-out in seconds.
    pub affinity_seconds: Option<u32>,
    /// Its TCP ports, one for each address family. Those of a headless service are for people: no connection is for them.
    pub ports: Vec<Arc<ServicePort>>,
}

/// One port of a service for one address family, with the endpoints that this node may pick from.
#[derive(Debug)]
pub struct ServicePort {
    /// `metadata.name` of the service.
    pub service_name: Arc<str>,
    /// `metadata.namespace` of the service.
    pub service_namespace: Arc<str>,
    /// Host name of the service.
    pub hostname: Arc<str>,
    /// `port` of the Service.
    pub port: u16,
    /// `name` of the port; empty where it has none.
    pub name: Arc<str>,
    /// `appProtocol`, where given.
    pub app_protocol: Option<Arc<str>>,
    /// What it speaks, by `appProtocol` or by its name.
    pub protocol: Protocol,
    /// Which of them said so.
    pub protocol_why: protocol::Why,
    /// What applies to its traffic.
    pub policy: Arc<TrafficPolicy>,
    /// `sessionAffinity: ClientIP` with its time-out in seconds.
    pub affinity_seconds: Option<u32>,
    /// Endpoints that are eligible from this node, after conditions, traffic policy, hints and distribution; sorted by
    /// address, each address once.
    pub endpoints: Vec<Endpoint>,
    /// All endpoints of the port before policy and hints chose (for people).
    pub known_endpoints: usize,
    /// What the data path has learnt, kept over snapshots.
    pub state: Shared<ServiceState>,
}

/// Where a connection to a service can go.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Pod address and target port.
    pub address: SocketAddr,
    /// The pod, where the mesh knows one at that address.
    pub workload: Option<Arc<Workload>>,
    /// What the data path has learnt about it, kept over snapshots.
    pub load: Shared<EndpointLoad>,
}

/// Everything the data path decides from. Immutable; replaced whole.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts the snapshots of this agent from 1; 0 is the empty one before the first.
    pub generation: u64,
    /// Pods by each of their addresses. Host-network pods are not in it.
    pub workloads: HashMap<IpAddr, Arc<Workload>>,
    /// Pods of other nodes that are not known beyond their names.
    pub elsewhere: Elsewhere,
    /// Uids of pods in their host's network, whose addresses are their nodes'.
    pub on_host: HashSet<Arc<str>>,
    /// Services by (ClusterIP, port).
    pub service_ports: Map<(IpAddr, u16), Arc<ServicePort>>,
    /// Routes attached to service ports, by (ClusterIP, port).
    pub routes: HashMap<(IpAddr, u16), Arc<ServiceRoutes>>,
    /// Every ClusterIP, so that a wrong port of a service is not taken for an outside address.
    pub cluster_ips: Map<IpAddr, Arc<Service>>,
    /// All services, sorted by namespace and name.
    pub services: Vec<Arc<Service>>,
    /// What they were built from.
    pub(crate) origins: Origins,
    /// Enrolled pods of this node by uid.
    pub local_pods: HashMap<Arc<str>, Arc<LocalPod>>,
    /// Ports of this node's pods that are declared not to be HTTP, where policies have conditions of HTTP: no request is read there.
    pub not_http: HashSet<SocketAddr>,
    /// How long the head of a request may take at ports of this node's pods where policies have conditions of HTTP, nanoseconds; 0: for
    /// ever. By what holds for the Services that lead there, where that is not the default.
    pub head_times: HashMap<SocketAddr, u64>,
    /// Pods of this node that are not captured, with the reason (host network, not labelled, ...).
    pub uncaptured: Vec<(Arc<Workload>, String)>,
    /// The uids of the same pods, by those that kubelet names their cgroups by.
    pub bystanders: HashMap<Arc<str>, Arc<str>>,
    /// Some namespace is enrolled and strict, or the next one may be: a pod which nobody knows yet may be one of its own.
    pub has_strict: bool,
}
