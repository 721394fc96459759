//! One request on a stream of an HTTP/2 connection, which it shares with others of the same pod to the same endpoint.
//!
//! ```text
//! connection   one connection: made, watched, closed
//! lanes        which one carries the next request, who makes a new one
//! asking       from the head of a request to the head of its answer; what a failure proves
//! head         heads as HTTP/2 says them; pure
//! upload       the request's body; received: the answer's
//! ```

mod asking;
mod connection;
mod head;
mod lanes;
mod received;
#[cfg(test)]
mod tests;
mod upload;

use std::rc::Rc;

use http::Request;

use super::{Answer, Caller, Failure, Informational, SendError, SendOptions, link};
use crate::{
    observe::{Security, monotonic_ns},
    path::http::{
        body::{Body, BodyError},
        io::Wire,
        stream::WireStream,
    },
    resilience::limits,
    snapshot::{Endpoint, ServicePort, policy::KeepAlive},
    worker::{PodHere, Worker},
};
use asking::Asking;
pub(super) use {
    connection::Connection,
    lanes::{Lanes, Turn},
    upload::Rest,
};

/// A connection over a stream that stands. What it carries is driven as a task of the pod.
///
/// # Errors
/// Whoever is there does not speak HTTP/2: nothing of a request was sent.
pub(super) async fn over(wire: Wire, worker: &Worker, pod: &PodHere) -> Result<Connection, SendError> {
    let keep = KeepAlive::default();
    let settings = connection::settings(&keep, &worker.shared.tunnels);
    let run = |driving| pod.spawn(driving);
    let stream = WireStream::new(wire, Rc::default());
    let established = connection::establish(stream, &settings, worker.shared.connect.attempt, run);
    let tunnel = Box::pin(established).await?;
    Ok(Connection::new(tunnel, Security::None, None, keep, monotonic_ns()))
}

/// A connection for one request.
pub(super) struct Lane {
    connection: Rc<Connection>,
    /// How long the endpoint took to accept it, nanoseconds; 0 where it stood already.
    connect_ns: u64,
    /// No other request may use it.
    alone: bool,
}

impl Lane {
    /// One that others use as well, and that stood already.
    pub(super) fn shared(connection: Rc<Connection>) -> Self {
        Self { connection, connect_ns: 0, alone: false }
    }

    /// Tells the record of the client's connection. By value, since what is borrowed would have its place in the request's future.
    pub(super) fn noted(self, caller: &Caller<'_>) -> Self {
        caller.record.watch_network(|| self.connection.watch.as_deref().cloned());
        self
    }
}

/// A connection with room for the request that `options` describe. It is to be used before anything is awaited.
///
/// # Errors
/// There is none; nothing of the request was sent.
pub(super) async fn lane(
    caller: &Caller<'_>,
    port: &ServicePort,
    endpoint: &Endpoint,
    options: &SendOptions,
) -> Result<Lane, SendError> {
    let place = caller.worker.upstream.place(caller, endpoint);
    let unshared = options.fresh || options.mark.is_some() || port.policy.keep_alive.idle_connections == 0;
    if unshared || place.is_closed() {
        let (connection, connect_ns) =
            connection::dial(caller, port, endpoint, options.mark.as_ref()).await?;
        return Ok(Lane { connection: Rc::new(connection), connect_ns, alone: true });
    }
    loop {
        if let Some(connection) = place.lanes.pick(monotonic_ns()) {
            return Ok(Lane::shared(connection));
        }
        match place.lanes.turn() {
            Turn::Wait(waiting) => {
                let _pending = limits::try_pending(&port.state, &port.policy.limits).map_err(link::full)?;
                waiting.over().await?;
            }
            Turn::Dial(dial) => {
                let (connection, connect_ns) = match connection::dial(caller, port, endpoint, None).await {
                    Ok(dialled) => dialled,
                    Err(error) => {
                        dial.failed(&error);
                        return Err(error);
                    }
                };
                let connection = Rc::new(connection);
                let alone = place.is_closed();
                if !alone {
                    place.lanes.add(Rc::clone(&connection));
                }
                return Ok(Lane { connection, connect_ns, alone });
            }
        }
    }
}

/// One request and its answer's head.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn exchange(
    lane: Lane,
    request: Request<Body>,
    informational: Informational<'_>,
) -> Result<Answer, SendError> {
    let Lane { connection, connect_ns, alone } = lane;
    let asking = Asking::begin(&connection, request);
    if alone {
        // What has begun goes on.
        connection.leave();
    }
    let mut answer = asking?.answer(&connection, informational).await?;
    answer.connect_ns = connect_ns;
    Ok(answer)
}

/// A head that HTTP/2 cannot carry: nothing was sent, and no endpoint would do better.
fn unfit(what: &'static str) -> SendError {
    SendError {
        endpoints_fault: false,
        elsewhere: false,
        ..SendError::not_sent(Failure::Body(BodyError::Malformed(what)))
    }
}
