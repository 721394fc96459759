//! HTTP on the called pod's node, only where a policy has conditions of HTTP: `read -> authorize -> pass on` for each request, so that
//! what the application gets is what was decided on. Nothing is routed, balanced or repeated here: each connection that came in has its
//! own to the application, in the version of HTTP that the caller speaks.

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Version, header, request::Parts};

use super::{
    answer::Local,
    body::Body,
    downstream::{self, Handler, Incoming, Replied, Reply},
    head,
    io::{Wire, WireSink},
    leaving,
    stream::WireStream,
    upgrade,
    upstream::{Answer, Application},
};
use crate::{
    http1::Sink,
    observe::{
        CloseReason, Connection, Denied, SocketWatch, monotonic_ns,
        requests::{DeniedRequest, Heading, Refusal, RefusedRequest, RequestFlag, RequestProtocol},
        would_deny,
    },
    path::{
        arrival::{Arrival, OverReference},
        authorize,
        connect::Far,
        detect::{self, Guess},
        identify,
    },
    resilience::limits,
    snapshot::{
        Protocol,
        authorization::{Asked, Verdict},
        policy::Limits,
        protocol::Why,
    },
    worker::{Admission, Caller, PodHere, With, Worker},
};

/// What is said to who is not allowed; which policy it was is for the record.
const DENIED: &str = "RBAC: access denied";

/// A connection that came in, whose requests are decided one by one.
struct Called {
    worker: Rc<Worker>,
    pod: Rc<PodHere>,
    connection: Rc<Connection>,
    caller: Caller,
    application: Application,
}

/// Carries a connection of which policies ask what it requests, to its record. `far` leads to the application at `address`, which has
/// not got a byte.
pub async fn carry<I: OverReference>(
    worker: &Rc<Worker>,
    pod: &Rc<PodHere>,
    arrival: Arrival<I>,
    (far, address): (Far, SocketAddr),
    admission: Admission,
    record: Connection,
) {
    record.connected();
    let connection = Rc::new(record);
    let mut work = Box::pin(converse(worker, pod, arrival, (far, address), admission.caller(), &connection));
    let reason = authorize::guard(Some(&admission), &connection, work.as_mut()).await;
    connection.close(reason);
}

async fn converse<I: OverReference>(
    worker: &Rc<Worker>,
    pod: &Rc<PodHere>,
    arrival: Arrival<I>,
    (mut far, address): (Far, SocketAddr),
    caller: &Caller,
    connection: &Rc<Connection>,
) -> CloseReason {
    let near = match arrival {
        Arrival::Tunnelled { request, socket, .. } => {
            connection
                .watch_network(|| socket.as_ref().map(|socket| SocketWatch::Tunnel(Arc::downgrade(socket))));
            let baggage = identify::local_pod(&worker.snapshot(), pod).map(|here| pod.baggage(here));
            match (*request).accept(baggage.as_deref()) {
                Ok((send, receive)) => Wire::of_stream(send, receive),
                Err(_) => return CloseReason::ClientReset,
            }
        }
        Arrival::Plaintext { near, .. } | Arrival::Captured { near, .. } => {
            let near = Wire::of_socket(near, Bytes::new());
            connection.watch_network(|| near.watch());
            near
        }
    };
    let (source, guess) = detect::incoming(near.source, &mut far).await;
    let near = Wire { source, sink: near.sink };
    let (protocol, version) = match guess {
        Guess::Http1 => (Protocol::Http, Version::HTTP_11),
        Guess::Http2 => (Protocol::Http2, Version::HTTP_2),
        Guess::Tls | Guess::Other | Guess::More => {
            return bytes(worker, pod, (near, far), (caller, address), connection).await;
        }
    };
    connection.protocol(protocol, Why::FirstBytes, None);
    let far = watched(far, connection);
    let application = Application::new(worker, pod, address, caller.address, far);
    let called = Rc::new(Called {
        worker: Rc::clone(worker),
        pod: Rc::clone(pod),
        connection: Rc::clone(connection),
        caller: caller.clone(),
        application,
    });
    called.serve(near, version).await
}

/// The way to the application, about whose socket the record may ask the kernel.
fn watched(far: Far, connection: &Connection) -> Wire {
    let far = Wire::of_far(far);
    connection.watch_application(far.watch());
    far
}

/// Not HTTP: carried where that is allowed without knowing a request.
async fn bytes(
    worker: &Rc<Worker>,
    pod: &Rc<PodHere>,
    (mut near, far): (Wire, Far),
    (caller, address): (&Caller, SocketAddr),
    connection: &Connection,
) -> CloseReason {
    let snapshot = worker.snapshot();
    let Some(here) = identify::local_pod(&snapshot, pod).map(Arc::clone) else {
        near.sink.abort();
        return CloseReason::PodLeft;
    };
    drop(snapshot);
    let admission = match authorize::unread(pod, &here, caller.clone(), address, connection) {
        Ok(admission) => admission,
        Err(reason) => {
            near.sink.abort();
            return reason;
        }
    };
    let far = watched(far, connection);
    let work = pin!(async {
        let carried = upgrade::relay(near, far).await;
        connection.received(carried.up);
        connection.sent(carried.down);
        if carried.in_order { CloseReason::Finished } else { CloseReason::ClientReset }
    });
    authorize::guard(Some(&admission), connection, work).await
}

impl Called {
    async fn serve(self: Rc<Self>, mut near: Wire, version: Version) -> CloseReason {
        let leaving = leaving(&self.pod);
        if version != Version::HTTP_2 {
            downstream::serve_http1(near, self, leaving).await;
            return CloseReason::Finished;
        }
        // Who begins with HTTP/2 wants to know whether the application speaks it, before it says anything that must not be lost.
        if let Err(error) = self.application.begin_http2().await {
            tracing::debug!(%error, "the application does not speak HTTP/2");
            say_http1(&mut near.sink).await;
            return CloseReason::H2Handshake;
        }
        let windows = downstream::Windows::of_one_in(self.pod.admissions.count());
        downstream::serve_http2(WireStream::new(near, Rc::default()), windows, self, leaving).await;
        CloseReason::Finished
    }

    /// Lets a request in for as long as it is under way.
    fn admit(&self, head: &Parts, heading: Option<&Heading>) -> Result<Admission, Local> {
        let snapshot = self.worker.snapshot();
        let Some(here) = identify::local_pod(&snapshot, &self.pod) else {
            let text = "this pod left the mesh";
            return Err(Local::new(StatusCode::SERVICE_UNAVAILABLE, RequestFlag::NoCluster, text));
        };
        let asked = Asked::read(head, head::authority(head)).map_err(|fault| {
            self.refused(400, fault.as_str(), None);
            let text = format!("the path has {fault}, which not all servers read alike; policies of this port ask for the path");
            Local::new(StatusCode::BAD_REQUEST, RequestFlag::Malformed, text)
        })?;
        let (policies, facts) = (&here.authorization, self.caller.facts());
        for policy in policies.trials_of(&facts, &asked) {
            self.connection.trial(Denied::Request, &policy);
            self.write(heading, Refusal::Trial, &would_deny(&policy), None);
        }
        let verdict = policies.decide_request(&facts, &asked);
        if !verdict.allows() {
            self.deny(heading, Refusal::Answered, &verdict);
            let (method, path) = (&head.method, head.uri.path());
            tracing::debug!(client = %self.caller.address, %method, path, why = verdict.reason(), "a request was denied");
            return Err(Local::new(StatusCode::FORBIDDEN, RequestFlag::Denied, DENIED));
        }
        Ok(self.pod.admissions.enter(Caller { with: With::Request(asked.into()), ..self.caller.clone() }))
    }

    /// Tells the records of a denial.
    fn deny(&self, heading: Option<&Heading>, refusal: Refusal, verdict: &Verdict) {
        self.connection.denied(Denied::Request, verdict);
        self.write(heading, refusal, &verdict.reason(), Some(verdict.details().into()));
    }

    fn write(&self, heading: Option<&Heading>, refusal: Refusal, policy: &str, details: Option<Arc<str>>) {
        let Some(heading) = heading else { return };
        let denied = DeniedRequest { heading, refusal, policy, details, at_ns: monotonic_ns() };
        self.worker.shared.requests.denied(self.worker.index(), &self.connection, &denied);
    }

    /// An answer that does not come is none for the caller either, as if nobody stood between.
    async fn pass_on(&self, request: Request<Body>, (version, upgrade): (Version, bool), reply: Reply) {
        let mut inform = |status, headers: HeaderMap| reply.informational(status, &headers);
        let answered = if version == Version::HTTP_2 {
            self.application.send_http2(request, &mut inform).await
        } else {
            self.application.send_http1(request, upgrade, &mut inform).await
        };
        let Answer { response, sending, upgraded, .. } = match answered {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "the application did not answer");
                return;
            }
        };
        self.note(&match upgraded {
            Some(upgraded) => reply.upgrade(response.map(drop), upgraded).await,
            None => reply.respond(response, sending).await,
        });
    }

    fn note(&self, replied: &Replied) {
        self.connection.received(replied.received);
        self.connection.sent(replied.sent);
    }
}

impl Handler for Called {
    async fn handle(self: Rc<Self>, incoming: Incoming, reply: Reply) {
        let Incoming { request, version, upgrade, .. } = incoming;
        let (mut head, body) = request.into_parts();
        let grpc = head::is_grpc(&head.headers);
        let protocol = match (version, grpc) {
            (_, true) => RequestProtocol::Grpc,
            (Version::HTTP_2, false) => RequestProtocol::Http2,
            _ => RequestProtocol::Http1,
        };
        let heading = self.worker.shared.requests.has_lines().then(|| Heading::of(&head, protocol));
        let admission = match self.admit(&head, heading.as_ref()) {
            Ok(admission) => admission,
            Err(local) => return self.note(&reply.respond(local.response(grpc), None).await),
        };
        let upgrade = upgrade && (version == Version::HTTP_2 || keeps_upgrade(&mut head.headers));
        let request = Request::from_parts(head, body);
        let passing = Box::pin(self.pass_on(request, (version, upgrade), reply));
        if let Err(verdict) = admission.guard(passing).await {
            // It was dropped: the caller sees it cut off.
            self.deny(heading.as_ref(), Refusal::CutOff, &verdict);
        }
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.pod.spawn(work);
    }

    /// As the Services say that lead here.
    fn head_time(&self) -> Option<Duration> {
        let said = self.worker.snapshot().head_times.get(&self.application.address()).copied();
        limits::head_time(said.unwrap_or_else(|| Limits::default().request_headers_ns))
    }

    fn refused(&self, status: u16, what: &'static str, limit: Option<&'static str>) {
        let Caller { identity, address, .. } = &self.caller;
        let refused = RefusedRequest {
            connection_id: self.connection.id(),
            pod: identify::caller(&self.worker.snapshot(), *address, identity.as_ref()),
            client: self.connection.client(),
            status,
            what,
            limit,
            at_ns: monotonic_ns(),
        };
        tracing::debug!(client = %address, status, what, "a request was refused");
        self.worker.shared.requests.refused(self.worker.index(), &refused, None);
    }
}

/// Whether an upgrade may be: TLS or another HTTP within this connection would carry requests that nobody reads, so the application
/// is not asked for it. (RFC 9110, section 7.8: a server may ignore it.)
fn keeps_upgrade(headers: &mut HeaderMap) -> bool {
    let hides = |value: &http::HeaderValue| {
        let text = value.as_bytes().to_ascii_lowercase();
        text.split(|byte| *byte == b',').any(|name| {
            let name = name.trim_ascii();
            name.starts_with(b"tls") || name.starts_with(b"http") || name.starts_with(b"h2")
        })
    };
    let hidden = headers.get_all(header::UPGRADE).iter().any(hides);
    if hidden {
        headers.remove(header::UPGRADE);
    }
    !hidden
}

/// What tells a client of HTTP/2 that it is not spoken here.
async fn say_http1(sink: &mut WireSink) {
    let answer =
        Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let mut queue = [answer].into();
    // A caller that has gone needs no answer.
    if std::future::poll_fn(|context| sink.poll_write(context, &mut queue)).await.is_ok() {
        let _ = sink.finish();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn upgrades_that_would_hide_requests_are_not_asked_for() {
        let table = [
            ("websocket", true),
            ("TLS/1.0", false),
            ("HTTP/2.0", false),
            ("h2c", false),
            ("websocket, h2", false),
            ("smb", true),
        ];
        for (value, keeps) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::UPGRADE, value.parse().unwrap());
            assert_eq!(keeps_upgrade(&mut headers), keeps, "{value}");
            assert_eq!(headers.contains_key(header::UPGRADE), keeps, "{value}");
        }
    }
}
