//! What applies to the traffic of a service port, compiled from `TrafficPolicy` and `XBackendTrafficPolicy`, defaults
//! filled in. Times are nanoseconds, shares are percent. Pure.

use std::sync::Arc;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// In force for one service port.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct TrafficPolicy {
    /// Objects it came from (`TrafficPolicy/ns/name`), the most specific first; empty where all is default.
    pub origins: Vec<Arc<str>>,
    /// How an endpoint is chosen.
    pub balancer: Balancer,
    /// How long a new endpoint's share grows to its full size; 0 is off.
    pub slow_start_ns: u64,
    /// A second attempt while the first is under way.
    pub hedging: Option<Hedging>,
    /// When an endpoint is left alone.
    pub outliers: Outliers,
    /// What the node may have under way to the service.
    pub limits: Limits,
    /// How many retries and hedges a calling workload may add.
    pub budget: RetryBudget,
    /// Retries of idempotent requests where no route says otherwise.
    pub retry: RetryPolicy,
    /// Pooled connections to endpoints.
    pub keep_alive: KeepAlive,
}

/// How an endpoint is chosen for a request.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Balancer {
    /// The better of two drawn at random, by peak-EWMA of response time and running requests.
    #[default]
    PowerOfTwo,
    /// The same key goes to the same endpoint, as far as it is healthy.
    ConsistentHash(HashKey),
}

/// What makes the key of consistent hashing; a request without it is balanced by power of two choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The value of a request header, named in lower case.
    Header(http::HeaderName),
    /// The value of a cookie.
    Cookie(Arc<str>),
    /// The calling pod's address.
    Source,
}

/// A second attempt of an idempotent request after a while, within the retry budget; the loser is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedging {
    /// When the next attempt starts.
    pub delay: HedgeDelay,
    /// Attempts beside the first, at most.
    pub extra: u32,
}

/// When a hedge starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeDelay {
    /// So long after the attempt before.
    After(u64),
    /// The observed 95th percentile of the port's response times, at least this; not before enough was observed.
    P95 {
        /// Never earlier than this.
        at_least_ns: u64,
    },
}

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outliers {
    /// Gateway failures (502, 503, 504, resets, time-outs, refused connects) in a row; 0 is off.
    pub consecutive: u32,
    /// Window over which success rate and latency are compared.
    pub interval_ns: u64,
    /// An endpoint is ejected when its success rate is this many tenths of a standard deviation below the mean (19 is
    /// Envoy's 1.9), or 20 percentage points below it where the endpoints are fewer than `hosts`; 0 is off.
    pub success_rate_stdev_tenths: u32,
    /// Requests in the window without which an endpoint is not judged.
    pub request_volume: u32,
    /// An endpoint is ejected when its mean response time in the window is this many times the median of the others'; 0 is off.
    pub latency_factor: u32,
    /// First ejection; each further one is as much longer.
    pub base_ns: u64,
    /// Longest ejection.
    pub longest_ns: u64,
    /// Share of endpoints that may be ejected at once.
    pub max_ejected_percent: u32,
    /// Below this share of endpoints that are not ejected, ejections are not honoured.
    pub panic_percent: u32,
}

/// Limits of one node towards one service port, over all its pods. What comes above is refused at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Upstream connections.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests under way.
    pub requests: u32,
    /// Retries and hedges under way.
    pub retries: u32,
    /// Bytes of one request's body; 0 is without limit.
    pub request_body_bytes: u64,
    /// From the first byte of a request's head to its end; 0 is without limit.
    pub request_headers_ns: u64,
}

/// Retries that a calling workload may add to its requests to a service (Gateway API `retryConstraint`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// `budget.percent`: of the requests in the interval.
    pub percent: u32,
    /// `budget.interval`.
    pub interval_ns: u64,
    /// `minRetryRate.count` in `minRetryRate.interval`: always allowed.
    pub min_retries: u32,
    /// `minRetryRate.interval`.
    pub min_interval_ns: u64,
}

/// Which failed requests are tried again. Without a rule that asks for more, only idempotent methods (RFC 9110, section 9.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts beside the first; 0 is off.
    pub attempts: u32,
    /// Status codes that are tried again.
    pub codes: Vec<u16>,
    /// gRPC status codes that are tried again.
    pub grpc_codes: Vec<u8>,
    /// Time for one attempt; none is the request's.
    pub per_try_ns: Option<u64>,
    /// Base of the jittered exponential backoff.
    pub backoff_ns: u64,
    /// Its longest.
    pub backoff_max_ns: u64,
    /// Whether methods that are not idempotent are tried again too, after an answer with one of the codes: only where a
    /// route's `retry` names codes. What was sent and not answered is never repeated for them.
    pub any_method: bool,
}

/// Pooled connections to an endpoint, for each calling pod and worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Idle ones that are kept; 0 closes each after its request.
    pub idle_connections: u32,
    /// How long one is kept idle.
    pub idle_ns: u64,
    /// Requests on one connection; 0 is without limit.
    pub requests: u32,
}

/// What one calling pod may hold inside the shared agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkheadLimits {
    /// Connections of its application, HTTP or not.
    pub connections: u32,
    /// Requests under way.
    pub requests: u32,
    /// Bytes of bodies buffered for it.
    pub buffered_bytes: u64,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            consecutive: 5,
            interval_ns: 10 * SECOND,
            success_rate_stdev_tenths: 19,
            request_volume: 50,
            latency_factor: 5,
            base_ns: 5 * SECOND,
            longest_ns: 300 * SECOND,
            max_ejected_percent: 50,
            panic_percent: 50,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            pending: 1024,
            requests: 8192,
            retries: 64,
            request_body_bytes: 0,
            request_headers_ns: 60 * SECOND,
        }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, interval_ns: 10 * SECOND, min_retries: 10, min_interval_ns: SECOND }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 2,
            codes: vec![502, 503, 504],
            // UNAVAILABLE (gRPC status codes).
            grpc_codes: vec![14],
            per_try_ns: None,
            backoff_ns: 25 * MILLISECOND,
            backoff_max_ns: 250 * MILLISECOND,
            any_method: false,
        }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle_connections: 64, idle_ns: 60 * SECOND, requests: 0 }
    }
}

impl Default for BulkheadLimits {
    fn default() -> Self {
        Self { connections: 10_000, requests: 2_000, buffered_bytes: 32 << 20 }
    }
}
