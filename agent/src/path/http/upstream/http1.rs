//! One request on an HTTP/1.1 connection. The connection goes back to its pool when the request is sent and the answer read;
//! whatever stops earlier closes it.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use tokio::time::{Sleep, sleep};

use super::{
    Answer, Caller, Failure, Informational, SendError, SendOptions, Sending,
    application::Home,
    link,
    pool::{About, Connection, Place},
    sending::{Kind, Pump, PumpError, Rest},
};
use crate::{
    http1::{BodyLength, HeadError, HeadFault, Limits, Reader, ResponseHead, Writer, hop::strip_hop_by_hop},
    observe::monotonic_ns,
    path::http::{
        body::{Body, BodyError, BodySource, Frame, content},
        io::{Wire, WireSink, WireSource},
        upgrade::Upgraded,
    },
    snapshot::{Endpoint, ServicePort},
};

/// How long a body waits for the endpoint's 100 (RFC 9110, section 10.1.1: not indefinitely).
pub(super) const CONTINUE: Duration = Duration::from_secs(1);

/// Sends a request and waits for the head of its answer.
pub(super) async fn send(
    caller: &Caller<'_>,
    port: &ServicePort,
    endpoint: &Endpoint,
    request: Request<Body>,
    options: &SendOptions,
    informational: Informational<'_>,
) -> Result<Answer, SendError> {
    let place = caller.worker.upstream.place(caller, endpoint);
    let alone = options.fresh || options.mark.is_some() || options.upgrade;
    let recent_only = !request.method().is_idempotent();
    let pooled = if alone {
        None
    } else {
        let now = monotonic_ns();
        poll_fn(|context| Poll::Ready(place.take(recent_only, now, context))).await
    };
    let reused = pooled.is_some();
    let (connection, connect_ns) = match pooled {
        Some(mut connection) => {
            connection.about.adopt(&caller.worker.upstream, port)?;
            (connection, 0)
        }
        None => {
            let reached = link::reach(caller, port, endpoint, options.mark.as_ref()).await?;
            let about = About {
                made_ns: reached.made_ns,
                used_ns: reached.made_ns,
                requests: 0,
                keep: port.policy.keep_alive,
                security: reached.security,
                peer: reached.peer,
                watch: reached.watch,
                carrier: reached.carrier,
                permit: Rc::new(reached.permit),
            };
            let reader = Reader::new(reached.wire.source, Limits::default());
            (Connection { reader, writer: Writer::new(reached.wire.sink), about }, reached.took_ns)
        }
    };
    let mut answer =
        exchange(place, noted(connection, caller), request, options.upgrade, informational).await?;
    (answer.reused, answer.connect_ns) = (reused, connect_ns);
    Ok(answer)
}

/// Tells the record of the client's connection. By value, since what is borrowed would have its place in the request's future.
fn noted(connection: Connection, caller: &Caller<'_>) -> Connection {
    caller.record.watch_network(|| connection.about.watch.as_deref().cloned());
    connection
}

/// One request and its answer's head on a connection of a pool.
pub(super) async fn exchange(
    place: Rc<Place>,
    connection: Connection,
    request: Request<Body>,
    upgrade: bool,
    informational: Informational<'_>,
) -> Result<Answer, SendError> {
    let Connection { reader, writer, about } = connection;
    ask(Home::Pool(place, about), (reader, writer), request, upgrade, informational).await
}

/// One request and its answer's head on a connection.
pub(super) async fn ask(
    home: Home,
    (reader, mut writer): (Reader<WireSource>, Writer<WireSink>),
    request: Request<Body>,
    upgrade: bool,
    informational: Informational<'_>,
) -> Result<Answer, SendError> {
    let (head, body) = request.into_parts();
    writer.request(&head, BodyLength::of_request(body.is_end(), body.remaining()));
    let continues = head.headers.get(http::header::EXPECT);
    let continues = continues.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let gate = (continues && !body.is_end()).then(|| Box::pin(sleep(CONTINUE)));
    let pump = Pump::new(writer, body);
    let asking = Asking { method: head.method, reader, pump, gate, sent: false, refused: false };
    let mut under_way = Some((asking, home));
    poll_fn(|context| {
        let Some((asking, _)) = &mut under_way else { return Poll::Pending };
        let answered = ready!(asking.poll(context, informational));
        let Some((mut asking, home)) = under_way.take() else { return Poll::Pending };
        Poll::Ready(match answered {
            Ok(head) => asking.answer(home, head, upgrade, context),
            Err(error) => {
                asking.pump.writer.abort();
                Err(error)
            }
        })
    })
    .await
}

/// A request that waits for the head of its answer.
struct Asking {
    method: Method,
    reader: Reader<WireSource>,
    pump: Pump,
    /// Holds the body back until the endpoint asks for it.
    gate: Option<Pin<Box<Sleep>>>,
    /// All of the request was written.
    sent: bool,
    /// The endpoint takes no more of it; it may have answered all the same.
    refused: bool,
}

impl Asking {
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        informational: &mut dyn FnMut(StatusCode, http::HeaderMap),
    ) -> Poll<Result<ResponseHead, SendError>> {
        loop {
            self.poll_gate(context);
            self.poll_pump(context)?;
            let head = ready!(self.reader.poll_response(context, &self.method));
            let head = head.map_err(|error| self.no_answer(&error))?;
            if !head.parts.status.is_informational() || head.parts.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(head));
            }
            if head.parts.status == StatusCode::CONTINUE {
                self.gate = None;
            }
            informational(head.parts.status, head.parts.headers);
        }
    }

    fn poll_gate(&mut self, context: &mut Context<'_>) {
        if self.gate.as_mut().is_some_and(|gate| gate.as_mut().poll(context).is_ready()) {
            self.gate = None;
        }
    }

    fn poll_pump(&mut self, context: &mut Context<'_>) -> Result<(), SendError> {
        if self.sent || self.refused {
            return Ok(());
        }
        match self.pump.poll(self.gate.is_none(), context) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.sent = true;
                Ok(())
            }
            Poll::Ready(Err(PumpError::Body(error))) => Err(SendError::body(error)),
            Poll::Ready(Err(PumpError::Write(_))) if !self.pump.begun => {
                Err(SendError::not_sent(Failure::Reset))
            }
            Poll::Ready(Err(PumpError::Write(error))) => {
                tracing::debug!(%error, "the endpoint takes no more of a request");
                self.refused = true;
                Ok(())
            }
        }
    }

    fn no_answer(&self, error: &HeadError) -> SendError {
        let reason = match error.fault {
            HeadFault::Malformed => Failure::MalformedAnswer(error.what),
            HeadFault::Closed if !error.what.starts_with("reset") && !self.refused => {
                Failure::ClosedBeforeAnswer
            }
            HeadFault::Closed | HeadFault::Cut => Failure::Reset,
        };
        // Before anything of it was taken from us, nobody can have seen it.
        if self.pump.begun { SendError::sent(reason) } else { SendError::not_sent(reason) }
    }

    /// The answer whose head came.
    fn answer(
        mut self,
        home: Home,
        head: ResponseHead,
        upgrade: bool,
        context: &mut Context<'_>,
    ) -> Result<Answer, SendError> {
        let ResponseHead { mut parts, keep_alive, .. } = head;
        let (security, peer) = home.peer();
        let switched = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        strip_hop_by_hop(&mut parts.headers, switched);
        let mut answer = Answer {
            response: Response::new(Body::Empty),
            sending: None,
            upgraded: None,
            reused: false,
            connect_ns: 0,
            security,
            peer,
        };
        if switched && !(upgrade && self.sent) {
            self.pump.writer.abort();
            return Err(SendError::sent(Failure::MalformedAnswer("101 without an upgrade")));
        }
        if switched || (self.method == Method::CONNECT && parts.status.is_success()) {
            let (source, ahead) = self.reader.into_parts();
            let sink = self.pump.writer.into_sink();
            answer.upgraded = Some(Upgraded { wire: Wire { source: source.with_ahead(ahead), sink } });
            answer.response = Response::from_parts(parts, Body::Empty);
            return Ok(answer);
        }
        let reusable = keep_alive && !self.refused && self.gate.is_none() && !home.is_closed();
        let joint = Joint::new(home, reusable);
        let (body, sending) = self.rest(joint, context);
        answer.response = Response::from_parts(parts, body);
        answer.sending = sending;
        Ok(answer)
    }

    /// What goes on after the head: the answer's body and the rest of the request.
    fn rest(self, joint: Rc<Joint>, context: &mut Context<'_>) -> (Body, Option<Sending>) {
        let sending = match (self.sent, self.refused || self.gate.is_some()) {
            (true, _) => {
                joint.return_writer(self.pump.writer);
                None
            }
            // A body that was not asked for, or is not wanted any more, stays with the client.
            (false, true) => None,
            (false, false) => {
                Some(Sending(Kind::Http1(Rest { pump: Some(self.pump), joint: Rc::clone(&joint) })))
            }
        };
        let mut received = Received { reader: Some(self.reader), joint, first: None };
        let body = received.whole(context);
        (body.unwrap_or_else(|| Body::Source(Box::new(received))), sending)
    }
}

/// Where both halves of a connection meet again.
pub(super) struct Joint {
    home: RefCell<Option<Home>>,
    reader: RefCell<Option<Reader<WireSource>>>,
    writer: RefCell<Option<Writer<WireSink>>>,
    reusable: Cell<bool>,
}

impl Joint {
    fn new(home: Home, reusable: bool) -> Rc<Self> {
        Rc::new(Self {
            home: RefCell::new(Some(home)),
            reader: RefCell::default(),
            writer: RefCell::default(),
            reusable: Cell::new(reusable),
        })
    }

    /// The request is sent.
    pub(super) fn return_writer(&self, writer: Writer<WireSink>) {
        self.writer.replace(Some(writer));
        self.meet();
    }

    /// The answer is read.
    fn return_reader(&self, reader: Reader<WireSource>) {
        self.reader.replace(Some(reader));
        self.meet();
    }

    /// The connection is not to be used again.
    pub(super) fn spoil(&self) {
        self.reusable.set(false);
    }

    /// The answer is given up: the endpoint shall notice.
    fn break_off(&self) {
        self.spoil();
        if let Some(mut writer) = self.writer.take() {
            writer.abort();
        }
    }

    fn meet(&self) {
        if self.reader.borrow().is_none() || self.writer.borrow().is_none() {
            return;
        }
        let halves = self.reader.take().zip(self.writer.take()).zip(self.home.take());
        let Some(((reader, mut writer), home)) = halves else { return };
        if self.reusable.get() {
            home.keep(reader, writer);
        } else {
            // A peer that has gone needs no end.
            let _ = writer.finish();
        }
    }
}

/// The body of an answer, read while it is asked for.
struct Received {
    reader: Option<Reader<WireSource>>,
    joint: Rc<Joint>,
    /// A frame that came with the head.
    first: Option<Frame>,
}

impl Received {
    /// The body, where all of it came with the head.
    fn whole(&mut self, context: &mut Context<'_>) -> Option<Body> {
        let reader = self.reader.as_mut()?;
        if reader.body_ended() {
            self.end();
            return Some(Body::Empty);
        }
        // An error or an end the reader tells again.
        let Poll::Ready(Some(Ok(frame))) = reader.poll_body(context) else { return None };
        match frame {
            Frame::Data(data) if reader.body_ended() => {
                self.end();
                Some(Body::Whole(data))
            }
            frame => {
                self.first = Some(frame);
                None
            }
        }
    }

    fn end(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.joint.return_reader(reader);
        }
    }
}

impl BodySource for Received {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(reader) = &mut self.reader else { return Poll::Ready(None) };
        let frame = ready!(reader.poll_body(context));
        if frame.is_none() {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn remaining(&self) -> Option<u64> {
        let first = content(self.first.as_ref());
        self.reader.as_ref().map_or(Some(0), Reader::remaining).map(|left| left + first)
    }

    fn is_end(&self) -> bool {
        self.first.is_none() && self.reader.as_ref().is_none_or(Reader::body_ended)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.is_end() {
            self.end();
        } else {
            self.joint.break_off();
        }
    }
}
