//! The data path's handle on one request. Each stage tells it what it did; whatever happens, the end is recorded exactly once:
//! by [`RequestRecord::finish`], or, where the work was dropped, by `Drop` with the flag `DC`.

use super::{
    AttemptNote, RequestFlag, RequestFlags, RequestProtocol, RequestTrace, Requests,
    finished::{Details, Finished},
    shard::Outcome,
    tally::{RouteKey, ServiceTally, Trouble},
    turn,
};
use crate::{
    observe::{Security, monotonic_ns},
    snapshot::{ServicePort, Workload, routes::RouteName},
};
use http::{HeaderMap, HeaderValue, request};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// What is known when the head of a request has been read.
#[derive(Debug)]
pub struct RequestOpening<'head> {
    /// [`crate::observe::Connection::id`] of the client's connection.
    pub connection_id: u64,
    /// The calling pod.
    pub pod: &'head Arc<Workload>,
    /// The client's address.
    pub client: SocketAddr,
    /// What it speaks.
    pub protocol: RequestProtocol,
    /// The head as the client sent it: method, target and headers are copied only where somebody wants them.
    pub head: &'head request::Parts,
    /// `X-Request-Id`, kept or made.
    pub request_id: Option<&'head HeaderValue>,
    /// Its span.
    pub trace: Option<RequestTrace>,
    /// When its head had been read, agent time.
    pub started_ns: u64,
}

/// A request under way; lives on the worker that carries it. All methods take `&self`, so that attempts can share it.
///
/// ```ignore
/// let record = shared.requests.begin(worker, RequestOpening { .. });
/// record.route(&rule.name);
/// record.service(port);
/// record.endpoint(endpoint.address, endpoint.workload.as_ref(), Security::MutualTls);
/// record.attempt(AttemptNote { .. });
/// record.response(200, None);
/// record.first_byte(now_ns);
/// record.response_bytes(bytes.len() as u64);
/// record.finish(now_ns);
/// ```
#[derive(Debug)]
pub struct RequestRecord {
    requests: Requests,
    worker: usize,
    pod: Arc<Workload>,
    protocol: RequestProtocol,
    started_ns: u64,
    first_byte_ns: Cell<u64>,
    request_bytes: Cell<u64>,
    response_bytes: Cell<u64>,
    status: Cell<u16>,
    grpc: Cell<Option<u8>>,
    flags: Cell<RequestFlags>,
    finished: Cell<bool>,
    /// How often its task had been put off before it.
    put_off_before: u64,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    route: Option<Arc<RouteName>>,
    service: Option<Arc<ServiceTally>>,
    peer: Option<Arc<Workload>>,
    endpoint: Option<SocketAddr>,
    details: Option<Box<Details>>,
    limit: Option<&'static str>,
    security: Security,
    /// Attempts that are no hedges.
    attempts: u16,
    trouble: Trouble,
}

impl RequestRecord {
    pub(super) fn new(
        requests: Requests,
        worker: usize,
        opening: &RequestOpening<'_>,
        wanted: Wanted,
    ) -> Self {
        let state = State { details: wanted.details(opening), ..State::default() };
        Self {
            requests,
            worker,
            pod: opening.pod.clone(),
            protocol: opening.protocol,
            started_ns: opening.started_ns,
            first_byte_ns: Cell::new(0),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            status: Cell::new(0),
            grpc: Cell::new(None),
            flags: Cell::default(),
            finished: Cell::new(false),
            put_off_before: turn::before(),
            state: RefCell::new(state),
        }
    }

    /// The rule that it matched.
    pub fn route(&self, name: &Arc<RouteName>) {
        self.state.borrow_mut().route = Some(name.clone());
    }

    /// The service port that it is sent to: the backend, where a route chose one.
    pub fn service(&self, port: &ServicePort) {
        let tally = self.requests.service(self.worker, port);
        self.state.borrow_mut().service = Some(tally);
    }

    /// Where it is sent now; the last one stays.
    pub fn endpoint(&self, address: SocketAddr, workload: Option<&Arc<Workload>>, security: Security) {
        let mut state = self.state.borrow_mut();
        state.endpoint = Some(address);
        state.peer = workload.cloned();
        state.security = security;
    }

    /// An attempt that is over, the last one too: all but the first are retries, or hedges.
    pub fn attempt(&self, note: AttemptNote) {
        let mut state = self.state.borrow_mut();
        let count = if note.hedge { &mut state.trouble.hedges } else { &mut state.attempts };
        *count = count.saturating_add(1);
        if let Some(details) = &mut state.details {
            details.attempts.push(note);
        }
    }

    /// The retry budget allowed no further attempt.
    pub fn budget_refused(&self) {
        let mut state = self.state.borrow_mut();
        state.trouble.budget_refused = true;
        if let Some(service) = &state.service {
            service.budget_refused.fetch_add(1, Relaxed);
        }
    }

    /// A limit refused it, or one of its attempts: `Overflow::as_str` and `Bulkhead::as_str` of `resilience`.
    pub fn overflow(&self, limit: &'static str) {
        let mut state = self.state.borrow_mut();
        state.limit = Some(limit);
        state.trouble.overflows = state.trouble.overflows.saturating_add(1);
        match &state.service {
            Some(service) => service.overflow.count(limit),
            None => self.requests.overflow(limit),
        }
    }

    /// One of its attempts made an endpoint be ejected until then (agent time).
    pub fn ejected(&self, address: SocketAddr, why: &'static str, until_ns: u64) {
        let mut state = self.state.borrow_mut();
        state.trouble.ejections = state.trouble.ejections.saturating_add(1);
        let Some(service) = &state.service else { return };
        service.ejections.count(why);
        let seconds = until_ns.saturating_sub(monotonic_ns()) / 1_000_000_000;
        tracing::info!(service = %service.name.hostname, port = service.port, %address, why, seconds, "endpoint ejected");
    }

    /// What was not as it should be; flags add up.
    pub fn flag(&self, flag: RequestFlag) {
        let mut flags = self.flags.get();
        flags.add(flag);
        self.flags.set(flags);
    }

    /// The status that the client gets; for gRPC also `grpc-status`, which may come as late as the trailers: call it again then.
    pub fn response(&self, status: u16, grpc_status: Option<u8>) {
        self.status.set(status);
        if grpc_status.is_some() {
            self.grpc.set(grpc_status);
        }
    }

    /// Headers of the answer; kept only where a tap listens.
    pub fn response_headers(&self, headers: &HeaderMap) {
        if let Some(details) = &mut self.state.borrow_mut().details
            && details.request_headers.is_some()
        {
            details.response_headers = Some(headers.clone());
        }
    }

    /// The head of the answer goes to the client; only the first call counts.
    pub fn first_byte(&self, now_ns: u64) {
        if self.first_byte_ns.get() == 0 {
            self.first_byte_ns.set(now_ns);
        }
    }

    /// So many more bytes of the request's body.
    pub fn request_bytes(&self, bytes: u64) {
        self.request_bytes.set(self.request_bytes.get().wrapping_add(bytes));
    }

    /// So many more bytes of the answer's body.
    pub fn response_bytes(&self, bytes: u64) {
        self.response_bytes.set(self.response_bytes.get().wrapping_add(bytes));
    }

    /// Records the end: counters, the log line, taps, the span. Only the first call counts.
    pub fn finish(&self, now_ns: u64) {
        if self.finished.replace(true) {
            return;
        }
        let state = self.state.take();
        let outcome = Outcome {
            pod: &self.pod,
            peer: state.peer.as_ref(),
            service: state.service.as_ref(),
            route: state.route.as_ref(),
            security: state.security,
            protocol: self.protocol,
            status: self.status.get(),
            grpc: self.grpc.get(),
            flags: self.flags.get(),
        };
        let took_ns = now_ns.saturating_sub(self.started_ns);
        let bytes = (self.request_bytes.get(), self.response_bytes.get());
        let trouble = Trouble { retries: state.attempts.saturating_sub(1), ..state.trouble };
        let Trouble { retries, hedges, budget_refused, .. } = trouble;
        let put_off = turn::since(self.put_off_before);
        if let Some(service) = &state.service {
            service.finished(is_failure(&outcome), took_ns, retries, hedges);
            if put_off > 0 {
                service.put_off.fetch_add(1, Relaxed);
            }
        }
        if let Some(route) = &state.route
            && trouble != Trouble::default()
        {
            let key = RouteKey::new(route, state.service.as_ref());
            self.requests.count_trouble(key, trouble);
        }
        let log = self.requests.count(self.worker, &outcome, took_ns, bytes);
        if let Some(details) = state.details {
            let finished = Finished {
                details,
                pod: self.pod.clone(),
                protocol: self.protocol,
                status: outcome.status,
                grpc: outcome.grpc,
                flags: outcome.flags,
                route: state.route,
                service: state.service,
                endpoint: state.endpoint,
                peer: state.peer,
                security: state.security,
                limit: state.limit,
                put_off,
                budget_refused,
                retries,
                hedges,
                started_ns: self.started_ns,
                first_byte_ns: self.first_byte_ns.get(),
                finished_ns: now_ns,
                request_bytes: bytes.0,
                response_bytes: bytes.1,
            };
            self.requests.tell(self.worker, finished, log);
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        if !self.finished.get() {
            self.flag(RequestFlag::ClientGone);
            self.finish(monotonic_ns());
        }
    }
}

/// Who will want more than numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) details: bool,
    pub(super) headers: bool,
}

impl Wanted {
    fn details(self, opening: &RequestOpening<'_>) -> Option<Box<Details>> {
        let head = opening.head;
        self.details.then(|| {
            Box::new(Details {
                connection_id: opening.connection_id,
                client: opening.client,
                method: head.method.clone(),
                uri: head.uri.clone(),
                host: head.headers.get(http::header::HOST).cloned(),
                user_agent: head.headers.get(http::header::USER_AGENT).cloned(),
                request_id: opening.request_id.cloned(),
                trace: opening.trace,
                attempts: Vec::new(),
                request_headers: self.headers.then(|| head.headers.clone()),
                response_headers: None,
            })
        })
    }
}

/// gRPC statuses that are the server's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS, as
/// OpenTelemetry's conventions for servers have it.
pub(crate) fn is_grpc_failure(status: u8) -> bool {
    matches!(status, 2 | 4 | 12..=15)
}

/// The called side, or the way to it, failed. A client that went away, and what it did wrong, is no failure.
fn is_failure(outcome: &Outcome<'_>) -> bool {
    const LATE: [RequestFlag; 4] = [
        RequestFlag::UpstreamClosed,
        RequestFlag::UpstreamReset,
        RequestFlag::UpstreamTimeout,
        RequestFlag::UpstreamProtocolError,
    ];
    let unanswered = outcome.status == 0 && !outcome.flags.has(RequestFlag::ClientGone);
    unanswered
        || outcome.status >= 500
        || outcome.grpc.is_some_and(is_grpc_failure)
        || LATE.into_iter().any(|flag| outcome.flags.has(flag))
}
