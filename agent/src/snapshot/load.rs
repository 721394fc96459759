//! The only mutable cells a snapshot points to: what this node has learnt of an endpoint and of a service port.
//! They are carried from one snapshot to the next by key, so that a reload forgets nothing. Pure: time is an argument.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64},
    },
};

use super::protocol::Learnt;

/// Load and health of one endpoint of one service port, as this node sees it. `resilience` reads and writes it.
#[derive(Debug, Default)]
pub struct EndpointLoad {
    /// Connections open or being opened through this agent.
    pub outstanding: AtomicU32,
    /// Peak-EWMA of connect time in nanoseconds; 0 before the first.
    pub ewma_ns: AtomicU64,
    /// When `ewma_ns` was last updated, nanoseconds of the agent's monotonic clock.
    pub ewma_at_ns: AtomicU64,
    /// Failures in a row.
    pub failures: AtomicU32,
    /// Not picked before this time (nanoseconds of the agent's monotonic clock); 0 when not ejected.
    pub ejected_until_ns: AtomicU64,
    /// How often it was ejected without a success in between; the ejection grows with it.
    pub ejections: AtomicU32,
}

/// What one local pod holds inside the agent, over all workers. `resilience::bulkhead` reads and writes it.
#[derive(Debug, Default)]
pub struct PodLoad {
    /// Connections of its application.
    pub connections: AtomicU32,
    /// Requests under way.
    pub requests: AtomicU32,
    /// Bytes of bodies buffered for it.
    pub buffered_bytes: AtomicU64,
}

impl PartialEq for PodLoad {
    /// What is learnt makes no difference between two pods.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for PodLoad {}

/// What is shared by the endpoints of one service port.
#[derive(Debug, Default)]
pub struct ServiceState {
    /// What its connections speak.
    pub learnt: Learnt,
    /// `sessionAffinity: ClientIP`: who goes where.
    pub affinity: Mutex<Affinity>,
    /// At least as many endpoints as are ejected now; exact right after a recount.
    pub ejected: AtomicU32,
    /// When `ejected` was last counted (nanoseconds); held while an ejection is decided.
    pub counted_at_ns: Mutex<u64>,
}

/// The endpoint of each client of a service port.
#[derive(Debug, Default)]
pub struct Affinity {
    /// By client: its endpoint and when it was last used (nanoseconds of the agent's monotonic clock).
    pub clients: HashMap<IpAddr, (SocketAddr, u64)>,
    /// Entries that make the next insertion drop what has expired.
    pub sweep_at: usize,
}
