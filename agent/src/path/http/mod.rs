//! HTTP on the calling pod's node: `read -> plan -> admit -> attempt -> answer -> record` for each request of a connection.
//!
//! | file | what |
//! |---|---|
//! | `called` | the called pod's node, where policies ask for requests |
//! | `exchange` | one request from its head to its record: read this first |
//! | `plan` | route, backend, filters and times of a request; pure |
//! | `attempts`, `hedge` | endpoints, retries, budgets, breakers |
//! | `replay`, `allowance` | bodies that more than one attempt may need |
//! | `answer`, `head`, `filters` | what the agent says itself, reads and changes; pure |
//! | `mirror`, `watch` | copies of requests; the status at the end of a gRPC call |
//! | `body` | a body, whatever protocol it comes in |
//! | `downstream`, `upstream` | HTTP/1 and HTTP/2 with the application and with endpoints |
//! | `io`, `stream`, `upgrade` | byte streams under HTTP: sockets and streams of tunnels; both ways after 101 |
//!
//! Between both sides a request has one form, whatever protocol it came in: the target in origin form (CONNECT: in authority
//! form), one `host` header, no hop-by-hop headers but those of an upgrade.

mod allowance;
pub mod answer;
pub mod attempts;
pub mod body;
pub mod called;
pub mod downstream;
pub mod exchange;
pub mod filters;
pub mod head;
mod hedge;
pub mod io;
mod mirror;
pub mod plan;
pub mod replay;
pub mod stream;
pub mod upgrade;
pub mod upstream;
mod watch;

use std::{future::poll_fn, rc::Rc, sync::Arc, task::Poll, time::Duration};

use http::Version;

use crate::{
    observe::{CloseReason, Connection, monotonic_ns, requests::RefusedRequest},
    path::identify,
    resilience::limits,
    worker::PodHere,
};
use downstream::{Handler, Incoming, Reply};
pub use exchange::Session;
use io::Wire;
use stream::WireStream;

/// Serves a captured connection whose client speaks `version`, to its end. When the worker stops or the pod leaves the mesh, running
/// requests are finished and the connection is closed.
pub async fn serve(near: Wire, version: Version, session: Rc<Session>) -> CloseReason {
    let leaving = leaving(&session.pod);
    let near = noted(near, &session.connection);
    if version == Version::HTTP_2 {
        let windows = downstream::Windows::of_one_in(session.connections());
        // Boxed: it is several times as large as what HTTP/1 needs.
        Box::pin(downstream::serve_http2(WireStream::new(near, Rc::default()), windows, session, leaving))
            .await;
    } else {
        downstream::serve_http1(near, session, leaving).await;
    }
    CloseReason::Finished
}

/// Tells the record of the application's socket. By value, since what is borrowed would have its place in the connection's future.
fn noted(near: Wire, record: &Connection) -> Wire {
    record.watch_application(near.watch());
    near
}

/// Resolves when the worker stops or the pod leaves the mesh. To be polled by a task of the pod itself, which is woken then.
fn leaving(pod: &Rc<PodHere>) -> impl Future<Output = ()> + 'static {
    let pod = Rc::clone(pod);
    poll_fn(move |_| if pod.is_leaving() { Poll::Ready(()) } else { Poll::Pending })
}

impl Handler for Session {
    async fn handle(self: Rc<Self>, request: Incoming, reply: Reply) {
        exchange::exchange(&self, request, reply).await;
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.pod.spawn(work);
    }

    fn head_time(&self) -> Option<Duration> {
        let snapshot = self.worker.snapshot();
        let said = self.port(&snapshot).map(|port| port.policy.limits).unwrap_or_default();
        limits::head_time(said.request_headers_ns)
    }

    fn refused(&self, status: u16, what: &'static str, limit: Option<&'static str>) {
        let snapshot = self.worker.snapshot();
        let refused = RefusedRequest {
            connection_id: self.connection.id(),
            pod: identify::local_pod(&snapshot, &self.pod).map(|here| Arc::clone(&here.workload)),
            client: self.client,
            status,
            what,
            limit,
            at_ns: monotonic_ns(),
        };
        tracing::debug!(client = %self.client, status, what, "a request was refused");
        let port = self.port(&snapshot);
        self.worker.shared.requests.refused(self.worker.index(), &refused, port.map(|port| &**port));
    }
}
