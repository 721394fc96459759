//! The only mutable cells a snapshot points to: what this node has learnt of an endpoint and of a service port.
//! They are carried from one snapshot to the next by key, so that a reload forgets nothing. `resilience` reads and
//! writes them. Pure: time is an argument.

mod budget;
mod lazy;
mod percentiles;
mod ring;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicU8, AtomicU32, AtomicU64},
    },
};

use super::protocol::Learnt;
pub use budget::{Budget, Budgets, Retries, SLOTS, Slots};
pub use lazy::{Lazy, Shared};
pub use percentiles::{BUCKETS, Percentiles};
pub use ring::Ring;

/// Load and health of one endpoint of one service port, as this node sees it.
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
    /// Requests under way.
    pub requests: AtomicU32,
    /// Peak-EWMA of response time in nanoseconds; 0 before the first.
    pub response_ns: AtomicU64,
    /// When `response_ns` was last updated, nanoseconds.
    pub response_at_ns: AtomicU64,
    /// It asked to be spared (429, 503, `Retry-After`, pushback) until then, nanoseconds; 0 when it did not.
    pub penalised_until_ns: AtomicU64,
    /// The recent share of attempts that it failed, and when that was last updated; `resilience::load` packs them.
    pub failing: AtomicU64,
    /// When it was first looked at, nanoseconds; 0 before, 1 where it was there before the agent. Slow start counts from it.
    pub since_ns: AtomicU64,
    /// What requests say about its health.
    pub breaker: Breaker,
}

/// The circuit breaker of an endpoint: closed while `until_ns` is 0, open until then, half-open after it.
#[derive(Debug, Default)]
pub struct Breaker {
    /// End of the ejection, nanoseconds; 0 is closed.
    pub until_ns: AtomicU64,
    /// Why it was ejected last, as `resilience::outlier::Why` encodes it.
    pub why: AtomicU8,
    /// Ejections, less one for every interval that it was healthy since.
    pub ejections: AtomicU32,
    /// When it was closed last, nanoseconds.
    pub closed_at_ns: AtomicU64,
    /// When the probing request of the half-open state began, nanoseconds; 0 when none is under way.
    pub probe_at_ns: AtomicU64,
    /// Gateway failures in a row.
    pub failures: AtomicU32,
    /// What the running window holds.
    pub window: Window,
}

/// What an endpoint did in the running window.
#[derive(Debug, Default)]
pub struct Window {
    /// Judged requests.
    pub requests: AtomicU32,
    /// Those that failed.
    pub failed: AtomicU32,
    /// Answers whose time is in `logarithms`.
    pub answers: AtomicU32,
    /// Sum of the binary logarithms of response times in nanoseconds, in 1/1024: robust where a few requests are heavy.
    pub logarithms: AtomicU64,
    /// The shortest response time as `u64::MAX` less nanoseconds; 0 without answers.
    pub quickest: AtomicU64,
    /// Windows over which `answers` were gathered because there were too few of them.
    pub age: AtomicU32,
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
    /// When the running window of outlier detection began, nanoseconds; 0 before the first request.
    pub window_from_ns: AtomicU64,
    /// What the node has under way to the service.
    pub running: Running,
    /// Retry budgets of the calling workloads.
    pub budgets: Mutex<Budgets>,
    /// Response times.
    pub percentiles: Percentiles,
    /// The hash ring of the endpoints, once somebody asked for it.
    pub ring: Mutex<Option<std::sync::Arc<Ring>>>,
}

/// What the node has under way to a service port; `resilience::limits` counts.
#[derive(Debug, Default)]
pub struct Running {
    /// Upstream connections.
    pub connections: AtomicU32,
    /// Requests that wait for a connection.
    pub pending: AtomicU32,
    /// Requests.
    pub requests: AtomicU32,
    /// Retries and hedges.
    pub retries: AtomicU32,
}

/// The endpoint of each client of a service port.
#[derive(Debug, Default)]
pub struct Affinity {
    /// By client: its endpoint and when it was last used (nanoseconds of the agent's monotonic clock).
    pub clients: HashMap<IpAddr, (SocketAddr, u64)>,
    /// Entries that make the next insertion drop what has expired.
    pub sweep_at: usize,
}
