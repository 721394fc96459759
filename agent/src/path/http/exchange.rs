//! One request of a captured application: `read -> plan -> admit -> attempt (again) -> answer -> record`.

use std::{
    cell::RefCell,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use http::{HeaderValue, StatusCode, Version, header, request::Parts};
use tokio::time::timeout;

use super::{
    allowance::PodAllowance,
    answer::{self, Local},
    attempts::{self, Answered, Call},
    body::{Body, BodyError},
    downstream::{Incoming, Replied, Reply, ReplyOutcome},
    head, mirror,
    plan::{self, Decision, Plan},
    replay::Replay,
    watch,
};
use crate::{
    observe::{
        Connection, Stage, monotonic_ns,
        requests::{RequestFlag, RequestOpening, RequestProtocol, RequestRecord, request_id},
    },
    path::identify,
    resilience::{budget::Budget, bulkhead, deadline::Deadline, limits, outlier::Outcome},
    snapshot::{LocalPod, ServicePort, Snapshot},
    worker::{PodHere, Worker},
};

/// How long a gRPC client may take to read the status that says that time is up.
const GRACE: Duration = Duration::from_millis(250);

/// A captured connection that speaks HTTP.
pub struct Session {
    /// The worker that carries it.
    pub worker: Rc<Worker>,
    /// The calling pod.
    pub pod: Rc<PodHere>,
    /// The connection's record.
    pub connection: Rc<Connection>,
    /// The application's end.
    pub client: SocketAddr,
    /// Where the application connected to.
    pub destination: SocketAddr,
    /// The retry budget of the last request's service, and where that service keeps it.
    pub(super) budget: RefCell<Option<(usize, Arc<Budget>)>>,
}

impl Session {
    /// A connection of which no request was read yet.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        pod: &Rc<PodHere>,
        connection: Rc<Connection>,
        client: SocketAddr,
        destination: SocketAddr,
    ) -> Rc<Self> {
        let (worker, pod) = (Rc::clone(worker), Rc::clone(pod));
        Rc::new(Self { worker, pod, connection, client, destination, budget: RefCell::default() })
    }

    /// Connections that the pod has at the moment.
    pub(super) fn connections(&self) -> u32 {
        let snapshot = self.worker.snapshot();
        identify::local_pod(&snapshot, &self.pod).map_or(1, |here| here.load.connections.load(Relaxed))
    }

    /// The service port that the application connected to, unless it is gone.
    pub(super) fn port<'snapshot>(
        &self,
        snapshot: &'snapshot Snapshot,
    ) -> Option<&'snapshot Arc<ServicePort>> {
        snapshot.service_ports.get(&(self.destination.ip(), self.destination.port()))
    }
}

/// A request as it was read, before anything is decided.
struct Asked {
    parts: Parts,
    body: Body,
    http2: bool,
    grpc: bool,
    upgrade: bool,
    deadline: Deadline,
    started_ns: u64,
    origin: Option<HeaderValue>,
}

/// Carries one request to its record. Dropped when the client leaves: what is under way is cancelled, and recorded so.
pub async fn exchange(session: &Session, incoming: Incoming, reply: Reply) {
    let snapshot = session.worker.snapshot();
    let Some(here) = identify::local_pod(&snapshot, &session.pod).map(Arc::clone) else {
        let gone =
            Local::new(StatusCode::SERVICE_UNAVAILABLE, RequestFlag::NoCluster, "this pod left the mesh");
        reply.respond(gone.response(false), None).await;
        return;
    };
    let (asked, record) = Asked::read(session, &here, incoming);
    let grpc = asked.grpc;
    let decision = asked.decide(session, &snapshot, &here);
    drop(snapshot);
    let plan = match decision {
        Decision::Forward(plan) => plan,
        Decision::Answer(name, response) => {
            name.iter().for_each(|name| record.route(name));
            return finish(session, reply, &record, response).await;
        }
        Decision::Refuse(name, local) => {
            name.iter().for_each(|name| record.route(name));
            return refuse(session, reply, &record, &local, grpc).await;
        }
    };
    plan.name().into_iter().for_each(|name| record.route(name));
    record.service(&plan.port);
    let _admitted = match admit(&here, &plan, asked.body.remaining(), &record) {
        Ok(admitted) => admitted,
        Err(local) => return refuse(session, reply, &record, &local, grpc).await,
    };
    let call = asked.call(session, &here, &plan, &record);
    let answered = attempts::run(&call, &mut |status, headers| reply.informational(status, &headers)).await;
    mirror::copies(&call);
    match answered {
        Ok(answered) => conclude(reply, &call, answered).await,
        Err(local) => refuse(session, reply, &record, &local, grpc).await,
    }
}

impl Asked {
    fn read(session: &Session, here: &Arc<LocalPod>, incoming: Incoming) -> (Self, Rc<RequestRecord>) {
        let (mut parts, body) = incoming.request.into_parts();
        let started_ns = monotonic_ns();
        session.connection.stage(Stage::Request);
        let grpc = head::is_grpc(&parts.headers);
        let deadline = head::deadline(&parts.headers, grpc, started_ns);
        let mut random = || fastrand::u64(..);
        let requests = &session.worker.shared.requests;
        let request_id = request_id::of_or_new(&mut parts.headers, &mut random);
        let trace = requests.trace(&mut parts.headers, &mut random);
        let http2 = incoming.version == Version::HTTP_2;
        let protocol = match http2 {
            _ if grpc => RequestProtocol::Grpc,
            true => RequestProtocol::Http2,
            false => RequestProtocol::Http1,
        };
        let opening = RequestOpening {
            connection_id: session.connection.id(),
            pod: &here.workload,
            client: session.client,
            protocol,
            head: &parts,
            request_id: Some(&request_id),
            trace: Some(trace),
            started_ns,
        };
        let record = Rc::new(requests.begin(session.worker.index(), &opening));
        let origin = parts.headers.get(header::ORIGIN).cloned();
        let upgrade = incoming.upgrade;
        (Self { parts, body, http2, grpc, upgrade, deadline, started_ns, origin }, record)
    }

    fn decide(&self, session: &Session, snapshot: &Snapshot, here: &LocalPod) -> Decision {
        let Some(port) = session.port(snapshot) else {
            let text = "the service that this connection was made to is gone";
            let local = Local::new(StatusCode::SERVICE_UNAVAILABLE, RequestFlag::NoCluster, text);
            return Decision::Refuse(None, local);
        };
        let place = (session.destination.ip(), session.destination.port());
        let routes = snapshot.routes.get(&place).map(|routes| &**routes);
        plan::decide(port, routes, &here.workload.namespace, &self.parts, fastrand::u64(..))
    }

    /// The request as it leaves, with all that its attempts need.
    fn call<'a>(
        mut self,
        session: &'a Session,
        here: &'a Arc<LocalPod>,
        plan: &'a Plan,
        record: &'a Rc<RequestRecord>,
    ) -> Call<'a> {
        let limit = Deadline::after_any(self.started_ns, plan.request_timeout_ns());
        let inherited = head::correlations(&self.parts.headers)
            .into_iter()
            .flatten()
            .map(|key| session.pod.inherited_attempts(key, self.started_ns))
            .max()
            .unwrap_or_default();
        plan.change_request(&mut self.parts);
        Call {
            session,
            here,
            plan,
            record,
            idempotent: head::is_idempotent(&self.parts.method, self.grpc),
            parts: self.parts,
            replay: Replay::new(
                self.body,
                limits::body_bytes(&plan.port.policy.limits),
                PodAllowance::new(here, record),
            ),
            http2: self.http2,
            grpc: self.grpc,
            upgrade: self.upgrade,
            deadline: self.deadline.smallest(limit),
            brought: self.deadline,
            inherited,
            origin: self.origin,
            tried: RefCell::default(),
        }
    }
}

/// What a request holds while it is under way.
struct Admitted {
    _pod: bulkhead::Permit,
    _service: limits::Permit,
}

/// `length` is that of the body, where it is known.
fn admit(
    here: &Arc<LocalPod>,
    plan: &Plan,
    length: Option<u64>,
    record: &RequestRecord,
) -> Result<Admitted, Local> {
    let most = limits::body_bytes(&plan.port.policy.limits);
    if let Some(most) = most.filter(|most| length.is_some_and(|length| length > *most)) {
        record.overflow(limits::REQUEST_BODY);
        return Err(body_is_too_long(&plan.port, most));
    }
    let pod = bulkhead::try_request(&here.load, &here.bulkhead).map_err(|limit| {
        record.overflow(limit.as_str());
        pod_is_full(here, limit)
    })?;
    let service = limits::try_request(&plan.port.state, &plan.port.policy.limits).map_err(|limit| {
        record.overflow(limit.as_str());
        service_is_full(&plan.port, limit)
    })?;
    Ok(Admitted { _pod: pod, _service: service })
}

/// What a request is told that its own pod has no room for.
pub fn pod_is_full(here: &LocalPod, limit: bulkhead::Bulkhead) -> Local {
    let (limit, namespace) = (limit.as_str(), &here.workload.namespace);
    full(format!("this pod has reached its bulkhead `{limit}` (TrafficPolicy of namespace {namespace})"))
}

/// What a request is told that the service has no room for.
pub fn service_is_full(port: &ServicePort, limit: limits::Overflow) -> Local {
    full(format!("{} has reached the limit `{}` on this node", port.hostname, limit.as_str()))
}

/// What a request is told whose body is longer than the service's policy allows.
pub fn body_is_too_long(port: &ServicePort, most: u64) -> Local {
    let name = limits::REQUEST_BODY;
    let text =
        format!("{} takes at most {most} bytes in a request's body (its limit `{name}`)", port.hostname);
    Local::new(StatusCode::PAYLOAD_TOO_LARGE, RequestFlag::Overflow, text)
}

fn full(text: String) -> Local {
    Local::new(StatusCode::SERVICE_UNAVAILABLE, RequestFlag::Overflow, text)
}

/// Hands the answer of an endpoint to the application.
async fn conclude(reply: Reply, call: &Call<'_>, answered: Answered) {
    let Answered { mut response, sending, upgraded, outstanding } = answered;
    call.record.first_byte(monotonic_ns());
    call.session.connection.stage(Stage::Answer);
    call.plan.change_response(call.origin.as_ref(), response.headers_mut());
    call.record.response(response.status().as_u16(), answer::grpc_status(response.headers()));
    call.record.response_headers(response.headers());
    if let Some(upgraded) = upgraded {
        let replied = reply.upgrade(response.map(|_| ()), upgraded).await;
        return note(call.session, call.record, &replied);
    }
    let left = call.deadline.remaining(monotonic_ns()).map(Duration::from_nanos);
    let (response, limit, ending) = if call.grpc {
        let (response, ending) = watch::grpc(response, left, call.record);
        // It is ended with a status, for which a client that reads needs no more than a moment.
        (response, left.map(|left| left + GRACE), ending)
    } else {
        (response, left, watch::Ending::default())
    };
    let mut replying = pin!(reply.respond(response, sending));
    let replied = match limit {
        None => replying.as_mut().await,
        Some(limit) => match timeout(limit, replying.as_mut()).await {
            Ok(replied) => replied,
            Err(_) => {
                // The head is gone: all that is left is to cut the body, which the client sees as an error.
                call.record.flag(call.flag_of_time());
                return call.record.finish(monotonic_ns());
            }
        },
    };
    let ending = match replied.outcome {
        ReplyOutcome::BodyFailed(_) => Some(Outcome::GatewayFailure),
        _ => ending.get(),
    };
    if let Some(outcome) = ending {
        call.ended(outstanding.load(), outcome);
    }
    if let Some(BodyError::TooLong(_)) = call.replay.failure() {
        call.record.overflow(limits::REQUEST_BODY);
    }
    note(call.session, call.record, &replied);
    drop(outstanding);
}

fn note(session: &Session, record: &RequestRecord, replied: &Replied) {
    match replied.outcome {
        ReplyOutcome::Finished => {}
        ReplyOutcome::ClientGone => record.flag(RequestFlag::ClientGone),
        ReplyOutcome::BodyFailed(_) => record.flag(RequestFlag::UpstreamClosed),
    }
    record.request_bytes(replied.received);
    record.response_bytes(replied.sent);
    // Of the bodies: what heads take is not the application's.
    session.connection.received(replied.received);
    session.connection.sent(replied.sent);
    record.finish(monotonic_ns());
}

async fn refuse(session: &Session, reply: Reply, record: &RequestRecord, local: &Local, grpc: bool) {
    record.flag(local.flag);
    finish(session, reply, record, local.response(grpc)).await;
}

/// Answers ourselves.
async fn finish(session: &Session, reply: Reply, record: &RequestRecord, response: http::Response<Body>) {
    record.response(response.status().as_u16(), answer::grpc_status(response.headers()));
    let replied = reply.respond(response, None).await;
    note(session, record, &replied);
}
