//! Records of requests: what the data path tells of each one, and who learns of it: Istio's metrics, `posthaste top`, the
//! access log, taps, spans. A request that nobody watches costs two short locks of the worker's own and one look-up.
//!
//! | file | what |
//! |---|---|
//! | `record` | the handle that the data path fills; records the end exactly once, also when dropped |
//! | `finished` | a request that is over, for those who want more than numbers |
//! | `shard` | a worker's cache of what a request counts in, and its own plain numbers |
//! | `series`, `tally`, `histogram` | the counters: by Istio's labels, by service port, by rule of a route |
//! | `metrics` | what `/metrics` shows of them |
//! | `line` | one JSON line in the access log, or for a tap |
//! | `refused` | what was no request |
//! | `denied` | what policies of the called pod kept out |
//! | `tap` | who listens to which requests |
//! | `trace`, `request_id` | `traceparent` and `X-Request-Id`, made or kept |
//! | `flag` | Envoy's short codes |
//! | `turn` | whether a request was put off |

mod denied;
mod finished;
mod flag;
mod histogram;
mod line;
mod metrics;
mod record;
mod refused;
pub mod request_id;
mod series;
mod shard;
mod tally;
mod tap;
#[cfg(test)]
pub(crate) mod tests;
mod top;
pub mod trace;
pub mod turn;

pub use denied::{DeniedRequest, Heading, Refusal};
pub use finished::{AttemptNote, AttemptOutcome};
pub use flag::{RequestFlag, RequestFlags, RequestProtocol};
pub use histogram::percentile;
pub use record::{RequestOpening, RequestRecord};
pub use refused::RefusedRequest;
pub use trace::{RequestTrace, TraceContext};

pub(crate) use finished::Finished;
pub(crate) use line::RouteText;
pub(crate) use metrics::RequestCollector;
pub(crate) use record::is_grpc_failure;
pub(crate) use tally::{RouteKey, RouteTally};
pub(crate) use tap::{TapFilter, Tapped};

use super::{AccessLog, Connection, SERIES_LIMIT, locked, otlp::SpanQueue};
use crate::snapshot::{ServicePort, Snapshot};
use http::HeaderMap;
use record::Wanted;
use shard::{Books, Outcome, Shard};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tally::{Reasons, ServiceTally, Trouble};
use tap::Taps;

/// What has no status counts as 599.
fn severity(status: u16) -> u16 {
    if status == 0 { 599 } else { status }
}

/// Which requests get a line in the access log. Those with a status of 500 and more, without status, or with a flag always do,
/// as far as `min_status` allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogRule {
    /// Of the others, this share: 0 to 1.
    pub sample: f64,
    /// None with a lower status; what has no status counts as 599.
    pub min_status: u16,
}

impl Default for LogRule {
    fn default() -> Self {
        Self { sample: 1.0, min_status: 0 }
    }
}

/// How requests are recorded.
#[derive(Clone, Debug)]
pub struct RequestOptions {
    /// Label sets at most; further ones share one.
    pub series_limit: usize,
    /// Where lines go.
    pub log: AccessLog,
    /// Which of them.
    pub log_rule: LogRule,
    /// Where spans go.
    pub spans: SpanQueue,
}

impl Default for RequestOptions {
    fn default() -> Self {
        Self {
            series_limit: SERIES_LIMIT,
            log: AccessLog::off(),
            log_rule: LogRule::default(),
            spans: SpanQueue::off(),
        }
    }
}

/// All requests of the agent; cheap to clone.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Vec<Mutex<Shard>>,
    active: Vec<Active>,
    books: Books,
    options: RequestOptions,
    taps: Taps,
    malformed: Reasons,
    /// Refused before their service was known.
    overflow: Reasons,
}

/// Requests under way on one worker, on a line of its own. A counter and not a gauge pair, so that each worker writes only its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Active(AtomicU64);

impl Requests {
    /// For `workers` workers, numbered from 0.
    #[must_use]
    pub fn new(workers: usize, options: RequestOptions) -> Self {
        let workers = workers.max(1);
        Self(Arc::new(Inner {
            shards: std::iter::repeat_with(Mutex::default).take(workers).collect(),
            active: std::iter::repeat_with(Active::default).take(workers).collect(),
            books: Books::new(options.series_limit),
            options,
            taps: Taps::default(),
            malformed: Reasons::default(),
            overflow: Reasons::default(),
        }))
    }

    /// The span of a request that has just been read; leaves in `headers` what goes on to the called side.
    pub fn trace(&self, headers: &mut HeaderMap, random: &mut impl FnMut() -> u64) -> RequestTrace {
        let spans = &self.0.options.spans;
        RequestTrace::prepare(headers, spans.is_on(), spans.share(), random)
    }

    /// A request begins.
    #[must_use]
    pub fn begin(&self, worker: usize, opening: &RequestOpening<'_>) -> RequestRecord {
        let tapped = self.0.taps.any();
        let options = &self.0.options;
        let recorded = options.spans.is_on() && opening.trace.is_some_and(|trace| trace.recorded);
        let wanted = Wanted { details: tapped || recorded || options.log.is_on(), headers: tapped };
        self.active_of(worker, |active| active.fetch_add(1, Relaxed));
        RequestRecord::new(self.clone(), worker, opening, wanted)
    }

    /// What is no request was refused; of a service port, where that is known.
    pub fn refused(&self, worker: usize, request: &RefusedRequest, port: Option<&ServicePort>) {
        match (request.limit, port) {
            (None, _) => self.0.malformed.count(request.what),
            (Some(limit), Some(port)) => self.service(worker, port).overflow.count(limit),
            (Some(limit), None) => self.overflow(limit),
        }
        if severity(request.status) >= self.0.options.log_rule.min_status {
            self.0.options.log.refused(worker, request);
        }
    }

    /// Whether requests have lines at all.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        self.0.options.log.is_on()
    }

    /// A request of a connection was denied, or would have been.
    pub fn denied(&self, worker: usize, connection: &Connection, request: &DeniedRequest<'_>) {
        // Of what is cut off there is no status, as of a failure.
        if request.refusal == Refusal::CutOff || self.0.options.log_rule.min_status <= 403 {
            self.0.options.log.denied(worker, connection.row(), request);
        }
    }

    /// A copy of a request for `port` (`RequestMirror`) is over, by a word of this program.
    pub fn mirrored(&self, worker: usize, port: &ServicePort, outcome: &'static str) {
        self.service(worker, port).mirrored.count(outcome);
    }

    /// How many requests are under way.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.0.active.iter().map(|active| active.0.load(Relaxed)).sum()
    }

    /// Service ports that had requests, by host name and port.
    pub(crate) fn services(&self) -> HashSet<(Arc<str>, u16)> {
        let all = self.0.books.services();
        all.iter().map(|tally| (tally.name.hostname.clone(), tally.port)).collect()
    }

    /// Brings the workers' numbers together, so that a scrape shows them.
    pub(crate) fn gather(&self) {
        self.0.shards.iter().for_each(|shard| locked(shard).hand_over());
    }

    /// Forgets what the snapshot does not know any more. `present` are (namespace, workload); `now_ns` is agent time.
    pub(crate) fn sweep(&self, present: &HashSet<(Arc<str>, Arc<str>)>, snapshot: &Snapshot, now_ns: u64) {
        self.0.books.series.sweep(present, now_ns);
        let ports = snapshot.services.iter().flat_map(|service| &service.ports);
        let services: HashSet<(&str, u16)> = ports.map(|port| (&*port.hostname, port.port)).collect();
        let tables = snapshot
            .routes
            .values()
            .flat_map(|routes| routes.producer.iter().chain(routes.consumers.values()));
        let routes: HashSet<_> = tables.flat_map(|table| table.rules()).map(|rule| &*rule.name).collect();
        self.0
            .books
            .retain(|hostname, port| services.contains(&(hostname, port)), |route| routes.contains(route));
    }

    fn shard(&self, worker: usize) -> Option<&Mutex<Shard>> {
        self.0.shards.get(worker % self.0.shards.len().max(1))
    }

    fn active_of<T>(&self, worker: usize, act: impl FnOnce(&AtomicU64) -> T) -> Option<T> {
        self.0.active.get(worker % self.0.active.len().max(1)).map(|active| act(&active.0))
    }

    fn service(&self, worker: usize, port: &ServicePort) -> Arc<ServiceTally> {
        match self.shard(worker) {
            Some(shard) => locked(shard).service(&self.0.books, port),
            None => Shard::default().service(&self.0.books, port),
        }
    }

    /// A limit refused something before its service was known: a request, or a connection.
    pub fn overflow(&self, limit: &'static str) {
        self.0.overflow.count(limit);
    }

    /// Counts; whether it gets a line.
    fn count(&self, worker: usize, outcome: &Outcome<'_>, took_ns: u64, bytes: (u64, u64)) -> bool {
        self.active_of(worker, |active| active.fetch_sub(1, Relaxed));
        let Some(shard) = self.shard(worker) else { return false };
        let mut shard = locked(shard);
        shard.count(&self.0.books, outcome, took_ns, bytes);
        let rule = self.0.options.log_rule;
        let status = severity(outcome.status);
        let always = status >= 500 || !outcome.flags.is_empty();
        status >= rule.min_status && (always || shard.is_due(rule.sample))
    }

    /// Counts trouble, which is rare, on the rule.
    fn count_trouble(&self, key: RouteKey, trouble: Trouble) {
        self.0.books.route(key).troubled(trouble);
    }

    /// Counts by rule and backend, up to now.
    pub(crate) fn routes(&self) -> HashMap<RouteKey, Arc<RouteTally>> {
        self.gather();
        self.0.books.routes().into_iter().collect()
    }

    /// Hands a finished request to all who want it.
    fn tell(&self, worker: usize, finished: Finished, log: bool) {
        if log {
            self.0.options.log.request(worker, &finished);
        }
        let recorded = finished.details.trace.is_some_and(|trace| trace.recorded);
        let spanned = self.0.options.spans.is_on() && recorded;
        if !spanned && !self.0.taps.any() {
            return;
        }
        let finished = Arc::new(finished);
        if spanned {
            self.0.options.spans.push(&finished);
        }
        self.0.taps.tell(&finished);
    }

    /// Listens to the requests that end from now on and fit; none where too many listen.
    pub(crate) fn tap(&self, filter: TapFilter) -> Option<Tapped> {
        self.0.taps.listen(filter)
    }
}
