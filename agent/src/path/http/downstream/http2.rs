//! Serves the requests of one HTTP/2 connection.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use tokio::net::TcpStream;

use super::{Handler, Replied, ReplyOutcome};
use crate::path::http::{body::Body, upstream::Sending};

/// Serves a connection of which `ahead` was read already, until it ends, or `leaving` resolves and the running requests have ended.
pub async fn serve_http2<H: Handler>(
    near: TcpStream,
    ahead: Bytes,
    handler: Rc<H>,
    leaving: impl Future<Output = ()>,
) {
    let _ = (near, ahead, handler, leaving);
}

pub(super) struct OverHttp2;

impl OverHttp2 {
    pub(super) fn inform(&self, _status: StatusCode, _headers: &HeaderMap) {}
    pub(super) fn received(&self) -> u64 {
        0
    }
    pub(super) async fn respond(self, _response: Response<Body>, _also: Option<Sending>) -> Replied {
        Replied { outcome: ReplyOutcome::ClientGone, received: 0, sent: 0 }
    }
}
