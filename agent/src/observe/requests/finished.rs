//! A request as it was, for those who want to know more than numbers: the access log, the taps, the exporter of spans. Pure.

use super::{RequestFlags, RequestProtocol, RequestTrace, tally::ServiceTally};
use crate::{
    observe::Security,
    snapshot::{Workload, routes::RouteName},
};
use http::{HeaderMap, HeaderValue, Method, Uri};
use std::{net::SocketAddr, sync::Arc};

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The endpoint answered with this status, whether it was handed on or tried again.
    Status(u16),
    /// It did not, by a word of this program: `connect_failed`, `reset`, `timeout`, `cancelled`, ...
    Failed(&'static str),
}

/// One attempt, noted when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptNote {
    /// Of the endpoint.
    pub address: SocketAddr,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Agent time.
    pub started_ns: u64,
    /// To the head of the answer, or to its failure.
    pub took_ns: u64,
    /// It was started while another one was under way.
    pub hedge: bool,
}

/// What is kept of a request from its beginning on, where somebody will want it.
#[derive(Debug)]
pub(crate) struct Details {
    pub(crate) connection_id: u64,
    pub(crate) client: SocketAddr,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) request_id: Option<HeaderValue>,
    pub(crate) trace: Option<RequestTrace>,
    pub(crate) attempts: Vec<AttemptNote>,
    /// Only where a tap listens.
    pub(crate) request_headers: Option<HeaderMap>,
    /// Only where a tap listens.
    pub(crate) response_headers: Option<HeaderMap>,
}

impl Details {
    /// Host and port as the client wrote them.
    pub(crate) fn authority(&self) -> Option<&str> {
        let host = || self.host.as_ref().and_then(|host| host.to_str().ok());
        self.uri.authority().map(http::uri::Authority::as_str).or_else(host)
    }
}

/// A request that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) details: Box<Details>,
    pub(crate) pod: Arc<Workload>,
    pub(crate) protocol: RequestProtocol,
    pub(crate) route: Option<Arc<RouteName>>,
    pub(crate) service: Option<Arc<ServiceTally>>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) peer: Option<Arc<Workload>>,
    pub(crate) security: Security,
    /// 0 where there was no answer.
    pub(crate) status: u16,
    pub(crate) grpc: Option<u8>,
    pub(crate) flags: RequestFlags,
    /// The limit that refused it or one of its attempts.
    pub(crate) limit: Option<&'static str>,
    /// How often it was put off because its pod had used up its turn.
    pub(crate) put_off: u64,
    pub(crate) budget_refused: bool,
    pub(crate) retries: u16,
    pub(crate) hedges: u16,
    pub(crate) started_ns: u64,
    /// 0 where there was none.
    pub(crate) first_byte_ns: u64,
    pub(crate) finished_ns: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

impl Finished {
    pub(crate) fn took_ns(&self) -> u64 {
        self.finished_ns.saturating_sub(self.started_ns)
    }

    /// From the beginning to the head of the answer.
    pub(crate) fn first_byte_after_ns(&self) -> Option<u64> {
        (self.first_byte_ns != 0).then(|| self.first_byte_ns.saturating_sub(self.started_ns))
    }
}
