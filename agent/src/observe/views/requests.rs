//! The shapes of the answers about requests: routes, endpoints, rates. Pure.

use serde::{Deserialize, Serialize};

/// One service port with requests: `/top`. Counts are since the start of the agent; two answers make rates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopView {
    /// Namespace of the service.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Requests that are over.
    pub requests: u64,
    /// Of these, failed by the called side or on the way: 5xx, gRPC failures, no answer, answers that broke off.
    pub failures: u64,
    /// Attempts beside the first.
    pub retries: u64,
    /// Attempts started while another was under way.
    pub hedges: u64,
    /// Attempts that the retry budget did not allow.
    pub budget_refused: u64,
    /// Refused by a limit.
    pub overflow: u64,
    /// Durations: place and count of each bucket that is not empty, for `requests::percentile`.
    pub latencies: Vec<(u16, u64)>,
}

/// Routes of one service port for one kind of caller: `/routes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RoutesView {
    /// Namespace of the service.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// Only for callers of this namespace (consumer routes); for all others where absent.
    pub callers: Option<String>,
    /// In order of precedence.
    pub matches: Vec<RouteMatchView>,
}

/// One match of one rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteMatchView {
    /// Path, method, headers, query.
    pub matches: String,
    /// `Kind/namespace/name[rule]`.
    pub route: String,
    /// `forward`, `redirect` or `invalid`.
    pub action: String,
    /// Where it goes.
    pub backends: Vec<RouteBackendView>,
    /// What it changes, in words.
    pub filters: Vec<String>,
    /// For the whole request.
    pub request_timeout_ms: Option<u64>,
    /// For one attempt.
    pub backend_timeout_ms: Option<u64>,
    /// Attempts beside the first, where the rule says.
    pub retries: Option<u32>,
    /// Why its matches are answered 500.
    pub problem: Option<String>,
}

/// A backend of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteBackendView {
    /// `name.namespace:port`; none where it cannot be used.
    pub service: Option<String>,
    /// As the object says.
    pub weight: u32,
    /// Of the requests that match.
    pub percent: f64,
    /// Why its share is answered 500.
    pub problem: Option<String>,
    /// Its endpoints.
    pub endpoints: u32,
    /// Of these, left alone for now (see `/endpoints` for why and until when).
    pub ejected: u32,
    /// Of these, tried with one request at a time.
    pub half_open: u32,
    /// So few endpoints are healthy that ejections are not honoured.
    pub panic: bool,
    /// What this rule has sent there since the start of the agent.
    pub counts: RouteCountsView,
}

/// Requests of one rule to one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCountsView {
    /// That are over.
    pub requests: u64,
    /// Attempts beside the first.
    pub retries: u64,
    /// Attempts started while another was under way.
    pub hedges: u64,
    /// Attempts that the retry budget did not allow.
    pub budget_refused: u64,
    /// Requests and attempts that a limit refused.
    pub overflow: u64,
    /// Endpoints that were ejected because of them.
    pub ejections: u64,
}

/// One service port as requests are balanced over it: `/endpoints`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointsView {
    /// Namespace of the service.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Its port.
    pub port: u16,
    /// `power_of_two`, or `consistent_hash` and by what.
    pub balancer: String,
    /// Policy objects in force, the most specific first; empty where all is default.
    pub policies: Vec<String>,
    /// What this node has under way, and its limits.
    pub running: Vec<RunningView>,
    /// So few endpoints are healthy that ejections are not honoured.
    pub panic: bool,
    /// The endpoints.
    pub endpoints: Vec<HealthView>,
}

/// Something that is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningView {
    /// `connections`, `pending`, `requests`, `retries`.
    pub name: String,
    /// Now.
    pub now: u32,
    /// At most.
    pub limit: u32,
}

/// Load and health of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthView {
    /// Address and port.
    pub address: String,
    /// Pod, where known.
    pub pod: Option<String>,
    /// Of the next requests, so many go there.
    pub weight_percent: f64,
    /// Peak-EWMA of the response time, microseconds; 0 before the first answer.
    pub response_us: u64,
    /// Peak-EWMA of the connect time, microseconds.
    pub connect_us: u64,
    /// Requests under way.
    pub requests: u32,
    /// Connections through this agent.
    pub connections: u32,
    /// `healthy`, `ejected` or `half_open`.
    pub state: String,
    /// Why it is ejected.
    pub why: Option<String>,
    /// For how long it still is, milliseconds.
    pub ejected_ms: Option<u64>,
    /// For how long it is spared because it asked for it (429, 503, `Retry-After`), milliseconds.
    pub penalised_ms: Option<u64>,
    /// Gateway failures in a row.
    pub failures: u32,
}
