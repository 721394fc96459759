//! The shape of the answer to `posthaste coverage`. Pure.

use serde::{Deserialize, Serialize};

use crate::observe::Direction;

/// What the mesh covers on one node: `/coverage`. Connections are counted since the agent started, UDP since the pod was enrolled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageView {
    /// The node.
    pub node: String,
    /// Its pods.
    pub pods: Vec<PodCoverageView>,
    /// Pods of the mesh that run on other nodes, of which only their agents can tell.
    pub elsewhere: Vec<ElsewhereView>,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCoverageView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its connections go through the agent.
    pub captured: bool,
    /// Why they do not.
    pub why: Option<String>,
    /// `permissive` or `strict`.
    pub mtls: String,
    /// What of it does not go through the mesh although it is captured, in words.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Connections that it had when it was captured, and still has: nobody carries them.
    #[serde(default)]
    pub connections_before: usize,
    /// Destination ports that leave uncaptured.
    pub excluded_outbound_ports: Vec<u16>,
    /// Own ports that are reached uncaptured.
    pub excluded_inbound_ports: Vec<u16>,
    /// Connections with mutual TLS.
    pub mutual_tls: u64,
    /// Connections through the agent in plain text, by who is on the other side; those within the pod do not count.
    pub plain: Vec<PlainView>,
    /// Connections that went past the agent: excluded ports, probes of the node, and while no agent lived.
    pub uncaptured_connections: u64,
    /// Destinations of UDP, but for those to port 443.
    pub udp_flows: u64,
    /// Destinations of UDP to port 443, taken for QUIC.
    pub quic_flows: u64,
    /// Those of them that are remembered, the most used first.
    pub udp: Vec<UdpView>,
}

/// Connections in plain text with one other side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainView {
    /// Whether the pod called or was called.
    pub direction: Direction,
    /// `namespace/pod`, or an address.
    pub other: String,
    /// Nobody that the mesh knows.
    pub outside: bool,
    /// How many.
    pub connections: u64,
}

/// Where UDP went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpView {
    /// Address and port.
    pub address: String,
    /// Connects, and packets of sockets that are not connected.
    pub times: u64,
}

/// A pod of another node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElsewhereView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its node.
    pub node: String,
}
