//! `TrafficPolicy` (`posthaste.dev/v1alpha1`) as it is written: these types are its schema. `XBackendTrafficPolicy` of Gateway API
//! comes in the same shape, with `retryConstraint` alone. Pure. What the numbers and texts mean is for [`crate::snapshot::build`] to say.
//!
//! The comments of the fields become the descriptions that `kubectl explain` shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Metadata;
pub use super::duration::Duration;

/// The kind that is ours.
pub const KIND: &str = "TrafficPolicy";

/// A policy and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// Name and namespace.
    pub metadata: Metadata,
    /// `TrafficPolicy` or `XBackendTrafficPolicy`.
    pub kind: &'static str,
    /// What it asks for.
    pub spec: TrafficPolicySpec,
    /// Fields that were given and that the mesh does not honour, each with what to do instead.
    pub not_honoured: Vec<(&'static str, &'static str)>,
}

/// What applies to the traffic that meshed pods send to the targets. Of several policies the more specific one wins, field by field of
/// this object: of a port, of a Service, of a namespace. Of two for the same target the older one is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// To what it applies: Services of its own namespace, or that namespace, which means all Services in it.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// How an endpoint is chosen for a request.
    pub load_balancer: Option<LoadBalancer>,
    /// A second attempt while the first is under way, for idempotent requests. Absent: none.
    pub hedging: Option<Hedging>,
    /// When an endpoint is left alone for a while. Always on; `0` turns a single check off.
    pub outlier_detection: Option<OutlierDetection>,
    /// What one node may have under way to the target. What comes above it is answered 503 at once.
    pub limits: Option<Limits>,
    /// What one calling pod of the namespace may hold inside the agent of its node. Only with a Namespace as target.
    pub bulkhead: Option<Bulkhead>,
    /// Pooled connections to endpoints.
    pub keep_alive: Option<KeepAlive>,
    /// Retries of failed idempotent requests, where no route says otherwise.
    pub retry: Option<Retry>,
    /// How many retries a calling workload may add to its requests, as in XBackendTrafficPolicy of Gateway API. Always on.
    pub retry_constraint: Option<RetryConstraint>,
}

/// An object of the policy's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.kind == 'Service' || !has(self.sectionName)", "message": "sectionName is for a Service: the name of its port"},
]))]
pub struct TargetRef {
    /// Empty: the core group.
    #[serde(default)]
    #[schemars(extend("enum" = [""]))]
    pub group: String,
    /// `Service` or `Namespace`.
    #[schemars(extend("enum" = ["Service", "Namespace"]))]
    pub kind: String,
    /// Name of the Service, or of the policy's own namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of one port of the Service. Absent: all ports.
    #[schemars(length(min = 1, max = 63))]
    pub section_name: Option<String>,
}

/// How an endpoint is chosen for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(has(self.type) && self.type == 'ConsistentHash') == has(self.consistentHash)", "message": "consistentHash is given with type ConsistentHash, and only then"},
]))]
pub struct LoadBalancer {
    /// `PowerOfTwo` (default): the better of two drawn at random, by response time and requests under way. `ConsistentHash`: the same key
    /// goes to the same endpoint while that is healthy.
    pub r#type: Option<LoadBalancerType>,
    /// What makes the key.
    pub consistent_hash: Option<ConsistentHash>,
    /// How long a new endpoint's share grows from a tenth to its full size, at most 1h. Default 0s: it is full at once.
    pub slow_start: Option<Duration>,
}

/// See `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LoadBalancerType {
    /// The better of two.
    PowerOfTwo,
    /// By key.
    ConsistentHash,
}

/// What makes the key of consistent hashing. A request without it is balanced by power of two choices.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "(self.type == 'Source') != has(self.name)", "message": "name is given with Header and Cookie, and not with Source"},
]))]
pub struct ConsistentHash {
    /// `Header` and `Cookie` with a name, or `Source`: the calling pod's address.
    pub r#type: HashType,
    /// Name of the header or cookie.
    #[schemars(length(min = 1, max = 256))]
    pub name: Option<String>,
}

/// See `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HashType {
    /// Value of a request header.
    Header,
    /// Value of a cookie.
    Cookie,
    /// Address of the calling pod.
    Source,
}

/// A second attempt of an idempotent request while the first is under way, within the retry budget; the loser is cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!(has(self.delay) && has(self.minimumDelay))", "message": "minimumDelay is for the observed delay; give it or delay"},
]))]
pub struct Hedging {
    /// Attempts beside the first. Default 1; 0 turns off what a namespace has turned on.
    #[schemars(range(min = 0, max = 4))]
    pub extra_attempts: Option<i64>,
    /// When the next attempt starts, 1ms to 1m. Absent: at the observed 95th percentile of response times.
    pub delay: Option<Duration>,
    /// The observed delay is never shorter than this, 1ms to 1m. Default 5ms.
    pub minimum_delay: Option<Duration>,
}

/// When an endpoint is left alone, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetection {
    /// Gateway failures (502, 503, 504, resets, time-outs, refused connections) in a row. Default 5; 0 is off.
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive_gateway_failures: Option<i64>,
    /// Window over which endpoints are compared, 1s to 1h. Default 10s.
    pub interval: Option<Duration>,
    /// An endpoint is ejected when its success rate is so many tenths of a standard deviation below the mean. Default 19; 0 is off.
    #[schemars(range(min = 0, max = 100))]
    pub success_rate_stdev_tenths: Option<i64>,
    /// Requests within the window below which an endpoint is not judged. Default 50.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub request_volume: Option<i64>,
    /// An endpoint is ejected when its mean response time is so many times the median of the others'. Default 5; 0 is off.
    #[schemars(range(min = 0, max = 1000))]
    pub latency_factor: Option<i64>,
    /// First ejection, 1ms to 1h; each further one is as much longer. Default 5s.
    pub base_ejection_time: Option<Duration>,
    /// Longest ejection, 1ms to 24h. Default 5m.
    pub max_ejection_time: Option<Duration>,
    /// Share of endpoints that may be ejected at once. Default 50.
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<i64>,
    /// Below this share of endpoints that are not ejected, ejections are not honoured. Default 50.
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold_percent: Option<i64>,
}

/// Limits of one node towards one service port, over all its pods, and of each request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Connections. Default 4096.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<i64>,
    /// Requests that wait for a connection. Default 1024.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pending_requests: Option<i64>,
    /// Requests under way. Default 8192.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: Option<i64>,
    /// Retries and hedges under way. Default 64.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub retries: Option<i64>,
    /// Bytes of a request's body. A longer one is answered 413. Default 0: without limit.
    #[schemars(range(min = 0, max = 1_099_511_627_776_i64))]
    pub request_body_bytes: Option<i64>,
    /// Time for a request's head, from its first byte to its end, at most 1h. What takes longer is answered 408 (not over HTTP/2), and
    /// its connection closed. Default 60s; 0s: without limit.
    pub request_headers_timeout: Option<Duration>,
}

/// What one calling pod may hold inside the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bulkhead {
    /// Connections of its application. Default 10000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<i64>,
    /// Requests under way. Default 2000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: Option<i64>,
    /// Bytes of bodies that are buffered for it. Default 33554432 (32 MiB).
    #[schemars(range(min = 65_536, max = 1_099_511_627_776_i64))]
    pub buffered_bytes: Option<i64>,
}

/// Pooled connections to an endpoint, for each calling pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeepAlive {
    /// Idle ones that are kept. Default 64; 0 closes each connection after its request.
    #[schemars(range(min = 0, max = 10_000))]
    pub idle_connections: Option<i64>,
    /// How long an idle one is kept, 1ms to 1h. Default 1m.
    pub idle_timeout: Option<Duration>,
    /// Requests on one connection. Default 0: without limit.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub requests_per_connection: Option<i64>,
}

/// Which failed requests are tried again, on another endpoint. Only idempotent methods (RFC 9110, section 9.2.2), beside what provably
/// never reached the application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Attempts beside the first. Default 2; 0 is off.
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<i64>,
    /// Status codes that are tried again, 400 to 599. Default 502, 503, 504.
    #[schemars(length(max = 32), inner(range(min = 400, max = 599)))]
    pub codes: Option<Vec<i64>>,
    /// gRPC status codes that are tried again, 1 to 16. Default 14 (UNAVAILABLE).
    #[schemars(length(max = 16), inner(range(min = 1, max = 16)))]
    pub grpc_codes: Option<Vec<i64>>,
    /// Time for one attempt, 1ms to 1h. Default: the request's.
    pub per_try_timeout: Option<Duration>,
    /// Base of the jittered exponential backoff, 1ms to 1m. Default 25ms.
    pub backoff: Option<Duration>,
    /// Its longest, 1ms to 10m. Default 250ms.
    pub max_backoff: Option<Duration>,
}

/// How many retries a calling workload may add to its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryConstraint {
    /// A share of the requests.
    pub budget: Option<Budget>,
    /// So many are always allowed.
    pub min_retry_rate: Option<MinRetryRate>,
}

/// A share of the requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Of the requests within the interval. Default 20.
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i64>,
    /// Over which requests count, 1s to 1h. Default 10s.
    pub interval: Option<Duration>,
}

/// So many retries are always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MinRetryRate {
    /// Retries within the interval. Default 10.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub count: Option<i64>,
    /// 1s to 1h. Default 1s.
    pub interval: Option<Duration>,
}
