//! The shapes of the admin answers, shared by the agent and the commands that show them. Field names are stable. Pure.

mod coverage;
mod explain;
mod requests;

pub use coverage::{CoverageView, ElsewhereView, PlainView, PodCoverageView, UdpView};
pub use explain::{
    ArrivalView, AskView, ChanceView, ExplainView, OutcomeKind, OutcomeView, RuleView, StepView,
};
pub use requests::{
    EndpointsView, HealthView, RouteBackendView, RouteCountsView, RouteMatchView, RoutesView, RunningView,
    TopView,
};

use super::{CloseReason, Direction, EndedBy, Security, Stages, TcpInfo};
use crate::snapshot::{Protocol, protocol::Why};
use serde::{Deserialize, Serialize};

/// Version of these shapes; a command says so where the agent speaks another one.
pub const ADMIN_VERSION: u32 = 1;

/// `/status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StatusView {
    /// [`ADMIN_VERSION`] of the agent.
    pub admin_version: u32,
    /// Node name.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it is ready.
    pub ready: bool,
    /// Why it is not.
    pub not_ready_reason: Option<String>,
    /// Generation of the snapshot; 0 before the first.
    pub snapshot_generation: u64,
    /// How many pods of the cluster the snapshot knows.
    pub workloads: usize,
    /// How many services.
    pub services: usize,
    /// How many pods of this node are captured.
    pub local_pods: usize,
    /// Pods of this node that are not captured, and why.
    pub uncaptured: Vec<UncapturedView>,
    /// Live connections.
    pub connections: usize,
    /// What does not fit in the objects.
    pub problems: Vec<ProblemView>,
    /// The kernel part.
    pub capture: CaptureView,
    /// Certificates in short.
    pub certificates: CertificateSummary,
    /// The certificate authority.
    pub authority: AuthorityView,
}

/// A pod of this node that is not captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncapturedView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Why.
    pub reason: String,
}

/// One thing that does not fit in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// File and document, or `api-server`.
    pub origin: String,
    /// `Kind/namespace/name`.
    pub object: String,
    /// Path of the field.
    pub field: String,
    /// What is wrong and what to do.
    pub reason: String,
}

/// The kernel part: filled by whoever owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureView {
    /// `attached`, `taken over`, `off`, ...
    pub state: String,
    /// Programs with what they are attached to.
    pub programs: Vec<ProgramView>,
    /// Maps with their fill.
    pub maps: Vec<MapView>,
    /// Counters per pod since the programs were loaded.
    pub pods: Vec<CaptureCount>,
    /// What happened to new connections while no agent lived, read at the last take-over.
    pub meanwhile: Vec<CaptureCount>,
}

/// A kernel program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramView {
    /// Its name.
    pub name: String,
    /// How many places it is attached to.
    pub links: usize,
}

/// A kernel map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapView {
    /// Its name.
    pub name: String,
    /// Entries in it.
    pub entries: u64,
    /// Entries that it can hold.
    pub capacity: u64,
}

/// What the kernel did with new connections of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureCount {
    /// Pod namespace, or empty where the pod is not known any more.
    pub namespace: String,
    /// Pod name, or its uid where the pod is not known any more.
    pub pod: String,
    /// Led to the agent.
    pub captured: u64,
    /// Refused while no agent lived.
    pub refused: u64,
    /// Let go straight while no agent lived.
    pub passed: u64,
    /// Left alone: excluded ports, loopback, node addresses.
    pub excluded: u64,
    /// Refused because a map was full.
    pub map_full: u64,
    /// Not TCP, or bound to a device: the fail mode decided.
    #[serde(default)]
    pub uncapturable: u64,
    /// Destinations of UDP, which is not captured.
    #[serde(default)]
    pub udp_flows: u64,
    /// Destinations of UDP to port 443, taken for QUIC.
    #[serde(default)]
    pub quic_flows: u64,
}

/// Certificates in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    /// Valid now.
    pub valid: usize,
    /// Wanted and not there, or expired.
    pub missing: usize,
    /// Seconds until the first one expires.
    pub first_expiry_seconds: Option<i64>,
}

/// The certificate authority as the agent sees it: filled by whoever owns it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityView {
    /// Its address, or `embedded`.
    pub address: String,
    /// `answering`, `failing`, `not asked yet`.
    pub state: String,
    /// The last error.
    pub last_error: Option<String>,
}

/// One certificate: `/certs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    /// SPIFFE identity.
    pub identity: String,
    /// `valid`, `renewing`, `requested`, `failed`, `expired`.
    pub state: String,
    /// Serial number, hexadecimal.
    pub serial: Option<String>,
    /// Seconds since 1970.
    pub not_before: Option<i64>,
    /// Seconds since 1970.
    pub not_after: Option<i64>,
    /// When it will be renewed, seconds since 1970.
    pub renew_at: Option<i64>,
    /// Why there is none, or why it could not be renewed.
    pub error: Option<String>,
}

/// `/connections`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionsView {
    /// How many live in all, before the filter.
    pub active: usize,
    /// The rows, newest first.
    pub connections: Vec<ConnectionView>,
    /// More rows fitted the filter than are shown.
    pub truncated: bool,
}

/// One side of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyView {
    /// Pod namespace.
    pub namespace: Option<String>,
    /// Pod name.
    pub pod: Option<String>,
    /// Owner's name.
    pub workload: Option<String>,
    /// SPIFFE identity.
    pub principal: Option<String>,
    /// Address as far as it is known.
    pub address: Option<String>,
}

/// One connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConnectionView {
    /// 16 hexadecimal digits, as in the access log.
    pub id: String,
    /// Which side of the local pod.
    pub direction: Direction,
    /// `connecting`, `open` or `closed`.
    pub state: String,
    /// Who calls.
    pub source: PartyView,
    /// Who is called; the address is the one the client asked for.
    pub destination: PartyView,
    /// Host name of the service.
    pub service: Option<String>,
    /// What it speaks, once that is decided.
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// How that is known.
    #[serde(default)]
    pub protocol_why: Option<Why>,
    /// Server name of the application's own TLS.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Where it was taken.
    pub endpoint: Option<String>,
    /// What protects it.
    pub security: Security,
    /// Bytes from the server to the client.
    pub sent_bytes: u64,
    /// Bytes from the client to the server.
    pub received_bytes: u64,
    /// Age, or how long it lived.
    pub age_ms: u64,
    /// Dials.
    pub attempts: u16,
    /// From the accept to the other side's answer.
    pub connect_ms: Option<u64>,
    /// When it reached which stage.
    #[serde(default)]
    pub stages: Stages,
    /// Between the agent and the local application.
    pub application_socket: Option<TcpInfo>,
    /// Between the agent and the other side.
    pub network_socket: Option<TcpInfo>,
    /// Why it closed.
    pub reason: Option<CloseReason>,
    /// Who closed it.
    pub ended_by: Option<EndedBy>,
    /// Istio's response flag.
    pub flag: Option<String>,
    /// The policy that kept it out, or would have.
    #[serde(default)]
    pub policy: Option<String>,
}

/// One pod: `/workloads`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadView {
    /// Namespace.
    pub namespace: String,
    /// Pod name.
    pub pod: String,
    /// Addresses.
    pub addresses: Vec<String>,
    /// Node.
    pub node: String,
    /// SPIFFE identity.
    pub identity: String,
    /// Reached through the tunnel.
    pub meshed: bool,
    /// `permissive` or `strict`, and where single ports differ: `strict, 9090=permissive`.
    pub mtls: String,
    /// Captured on this node.
    pub captured_here: bool,
    /// Why a pod of this node is not.
    #[serde(default)]
    pub not_captured: Option<String>,
    /// From the appearance of its first process to its capture, microseconds; for pods that this agent saw appear.
    #[serde(default)]
    pub capture_window_us: Option<u64>,
    /// Connections from before its capture that live on, left alone.
    #[serde(default)]
    pub connections_before: Vec<ConnectionBeforeView>,
    /// How many connections it has now, of a pod that is not captured; only where it was asked for (`present=NAMESPACE`), and was found.
    #[serde(default)]
    pub connections_present: Option<usize>,
}

/// A connection from before the capture of its pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionBeforeView {
    /// The pod's end.
    pub local: String,
    /// The other end.
    pub remote: String,
}

/// How a pod of this node came to be captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnrolmentView {
    /// What it waits for.
    pub waiting: Option<String>,
    /// See [`WorkloadView::capture_window_us`].
    pub capture_window_us: Option<u64>,
    /// See [`WorkloadView::connections_before`].
    pub connections_before: Vec<ConnectionBeforeView>,
}

/// One service: `/services`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Addresses; none for a headless service.
    pub cluster_ips: Vec<String>,
    /// Session affinity, seconds.
    pub affinity_seconds: Option<u32>,
    /// Its ports.
    pub ports: Vec<ServicePortView>,
}

/// One port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePortView {
    /// Port of the service.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// Endpoints before policy and hints.
    pub known_endpoints: usize,
    /// Endpoints that may be used from here.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Address and port.
    pub address: String,
    /// Pod, where known.
    pub pod: Option<String>,
    /// Connections through this agent.
    pub outstanding: u32,
    /// Peak-EWMA of the connect time, microseconds.
    pub connect_us: u64,
    /// Failures in a row.
    pub failures: u32,
    /// For how long it is not picked, milliseconds.
    pub ejected_ms: Option<u64>,
}

/// One requirement of `check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequirementView {
    /// What is needed.
    pub name: String,
    /// Whether it is there.
    pub found: bool,
    /// Whether the agent cannot run without it.
    pub required: bool,
    /// What was found.
    pub detail: String,
    /// What to do where it is missing.
    pub advice: String,
}
