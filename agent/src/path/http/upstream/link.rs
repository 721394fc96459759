//! Reaches an endpoint for a pool.

use std::rc::Rc;

use tokio::time::Instant;

use super::{Caller, Failure, Progress, SendError, Upstream};
use crate::{
    observe::{Security, SocketWatch, monotonic_ns},
    path::{
        connect::{Dialled, Journey, Setback},
        http::io::Wire,
    },
    resilience::limits,
    snapshot::{Endpoint, ServicePort, SpiffeId},
    tunnel::{RetryMark, reference::Carrier},
};

/// A new connection.
pub(super) struct Reached {
    pub(super) wire: Wire,
    /// How long the endpoint took to accept, nanoseconds.
    pub(super) took_ns: u64,
    pub(super) made_ns: u64,
    pub(super) security: Security,
    pub(super) peer: Option<SpiffeId>,
    /// Its socket, or that of its tunnel. Behind a pointer, since a request's future has it several times.
    pub(super) watch: Option<Rc<SocketWatch>>,
    /// The tunnel below.
    pub(super) carrier: Option<Carrier>,
    /// Counts on the service's connections; to be kept for as long as the connection.
    pub(super) permit: limits::Permit,
}

/// Connects to an endpoint, by tunnel where it is captured.
pub(super) async fn reach(
    caller: &Caller<'_>,
    port: &ServicePort,
    endpoint: &Endpoint,
    mark: Option<&RetryMark>,
) -> Result<Reached, SendError> {
    let limits = &port.policy.limits;
    let permit = permit(&caller.worker.upstream, port)?;
    // Held until the connection stands.
    let _pending = limits::try_pending(&port.state, limits).map_err(full)?;
    let journey = Journey {
        worker: caller.worker,
        pod: caller.pod,
        here: caller.here,
        client: caller.client,
        service: &port.hostname,
        record: caller.record,
        deadline: Instant::now() + caller.worker.shared.connect.total,
        mark,
    };
    caller.record.endpoint(endpoint.address);
    // Boxed: the state of a dial is large, and most requests need none.
    let dialled = Box::pin(journey.to_endpoint(endpoint.address, endpoint.workload.as_ref())).await;
    let Dialled { far, took, security, peer } = dialled.map_err(error_of)?;
    let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    let (tunnel, carrier) = (far.watch_tunnel(), far.carrier());
    let wire = Wire::of_far(far);
    let watch = tunnel.or_else(|| wire.watch()).map(Rc::new);
    Ok(Reached { wire, took_ns, made_ns: monotonic_ns(), security, peer, watch, carrier, permit })
}

/// For one more connection of the service. Where it has all that it may have, one that is idle makes room.
pub(super) fn permit(upstream: &Upstream, port: &ServicePort) -> Result<limits::Permit, SendError> {
    let limits = &port.policy.limits;
    limits::try_connection(&port.state, limits).or_else(|limit| {
        let freed = upstream.close_idle(&port.state);
        let again = if freed { limits::try_connection(&port.state, limits) } else { Err(limit) };
        again.map_err(full)
    })
}

/// The service has all that it may have from this node: no other endpoint would do better.
pub(super) fn full(limit: limits::Overflow) -> SendError {
    SendError {
        progress: Progress::NotSent,
        reason: Failure::Overflow(limit),
        elsewhere: false,
        endpoints_fault: false,
    }
}

fn error_of(setback: Setback) -> SendError {
    SendError {
        progress: Progress::NotSent,
        reason: Failure::Connect(setback.reason()),
        elsewhere: matches!(setback, Setback::There(_)),
        endpoints_fault: setback.is_endpoints_fault(),
    }
}
