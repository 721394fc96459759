//! One HTTP/2 connection to an endpoint. It is made, driven, pinged and closed like the one of a tunnel, on the same code; its
//! driver is a task of the calling pod.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::time::timeout;

use super::super::{Caller, Failure, SendError, link, pool::LONGEST_NS};
use crate::{
    observe::{CloseReason, Security, SocketWatch},
    path::http::stream::WireStream,
    snapshot::{Endpoint, ServicePort, SpiffeId, policy::KeepAlive},
    tunnel::{
        OpenError, RetryMark, Settings, Tunnel,
        reference::{self, Carrier, Driving, ReferenceTunnel},
        stream::Sealed,
    },
};

/// Streams on one connection, if the endpoint allows as many.
const STREAMS: usize = 100;
/// What an endpoint may send of one answer before it is asked for more, bytes.
const STREAM_WINDOW: u32 = 512 << 10;
/// Of all answers on a connection: one that nobody reads must not hold the others up for long.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The largest frame that is taken, bytes.
const FRAME: u32 = 64 << 10;
/// The largest head that is taken, bytes; as over HTTP/1.1.
const HEAD: u32 = 64 << 10;
/// What one request may queue for sending, bytes.
const SEND_QUEUE: usize = 128 << 10;

/// A connection that stands.
pub(in crate::path::http::upstream) struct Connection {
    pub(super) tunnel: ReferenceTunnel,
    pub(super) security: Security,
    pub(super) peer: Option<SpiffeId>,
    /// Its socket, or that of its tunnel. Behind a pointer, since a request's future has it several times.
    pub(super) watch: Option<Rc<SocketWatch>>,
    /// The tunnel below.
    carrier: Option<Carrier>,
    /// Requests that it was given.
    pub(super) requests: Cell<u32>,
    made_ns: u64,
    keep: KeepAlive,
}

/// What an endpoint is told, and how its connection is watched.
pub(super) fn settings(keep: &KeepAlive, of_tunnels: &Settings) -> Settings {
    Settings {
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        frame: FRAME,
        send_queue: SEND_QUEUE,
        header_list: HEAD,
        pooled_streams: STREAMS,
        idle: Duration::from_nanos(keep.idle_ns),
        ..of_tunnels.clone()
    }
}

/// Connects to an endpoint and does HTTP/2 up to its settings. Also says how long it took to accept, nanoseconds.
///
/// # Errors
/// It was not reached, or does not speak HTTP/2: nothing of a request was sent.
pub(super) async fn dial(
    caller: &Caller<'_>,
    port: &ServicePort,
    endpoint: &Endpoint,
    mark: Option<&RetryMark>,
) -> Result<(Connection, u64), SendError> {
    let reached = link::reach(caller, port, endpoint, mark).await?;
    let shared = &caller.worker.shared;
    let keep = port.policy.keep_alive;
    let (pod, permit) = (caller.pod, reached.permit);
    let run = |driving: Driving| {
        pod.spawn(async move {
            driving.await;
            drop(permit);
        });
    };
    let stream = WireStream::new(reached.wire, Rc::default());
    let settings = settings(&keep, &shared.tunnels);
    let established = establish(stream, &settings, shared.connect.attempt, run);
    // Boxed: the state of a handshake is large, and most requests need none.
    let tunnel = Box::pin(established).await?;
    let (security, peer) = (reached.security, reached.peer);
    let connection = Connection::new(tunnel, security, peer, keep, reached.made_ns);
    let (watch, carrier) = (reached.watch, reached.carrier);
    Ok((Connection { watch, carrier, ..connection }, reached.took_ns))
}

pub(super) async fn establish<S: Sealed>(
    stream: S,
    settings: &Settings,
    within: Duration,
    run: impl FnOnce(Driving),
) -> Result<ReferenceTunnel, SendError> {
    let established = timeout(within, reference::establish(stream, None, settings, run)).await;
    // Who does not even answer the preface was not reached.
    let established =
        established.map_err(|_| SendError::not_sent(Failure::Connect(CloseReason::H2Handshake)))?;
    established.map_err(|error| match error {
        OpenError::NotHttp2(_) => SendError::not_sent(Failure::NotHttp2),
        error => {
            tracing::debug!(%error, "HTTP/2 with an endpoint did not start");
            SendError::not_sent(Failure::Handshake)
        }
    })
}

impl Connection {
    /// Of which no request has made use.
    pub(super) fn new(
        tunnel: ReferenceTunnel,
        security: Security,
        peer: Option<SpiffeId>,
        keep: KeepAlive,
        made_ns: u64,
    ) -> Self {
        Self { tunnel, security, peer, watch: None, carrier: None, requests: Cell::new(0), made_ns, keep }
    }

    /// Whether more requests may come, now or later. Its age, its use, the endpoint's GOAWAY or that of the tunnel below end that.
    pub(super) fn is_usable(&self, now_ns: u64) -> bool {
        let worn = self.keep.requests > 0 && self.requests.get() >= self.keep.requests;
        let old = now_ns.saturating_sub(self.made_ns) >= LONGEST_NS;
        let carried_away = self.carrier.as_ref().is_some_and(Carrier::is_leaving);
        !worn && !old && !carried_away && !self.tunnel.is_leaving()
    }

    /// Whether one more request may start now.
    pub(super) fn has_room(&self) -> bool {
        self.tunnel.has_room()
    }

    /// Takes no more requests; closes after the last.
    pub(super) fn leave(&self) {
        self.tunnel.drain();
    }
}
