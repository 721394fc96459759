//! A request that waits for the head of its answer, and what it proves when there is none.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use h2::{Reason, RecvStream, client::ResponseFuture};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::time::{Sleep, sleep};

use super::{
    super::{Answer, Failure, Informational, Progress, SendError, Sending, http1::CONTINUE, sending::Kind},
    connection::Connection,
    head,
    received::Received,
    unfit,
    upload::{Rest, Stopped, Upload},
};
use crate::{
    http1::Limits,
    path::http::{body::Body, io::Wire, upgrade::Upgraded},
    tunnel::{
        TunnelEnd,
        reference::{Begun, Entered, ReferenceTunnel, both},
        stream::Counters,
    },
};

/// A request whose head is queued.
pub(super) struct Asking {
    method: Method,
    response: ResponseFuture,
    upload: Upload,
    entered: Entered,
    /// Holds the body back until the endpoint asks for it.
    gate: Option<Pin<Box<Sleep>>>,
    /// The endpoint takes no more of the request; it may have answered all the same.
    refused: bool,
    interim: u8,
    reused: bool,
    unsent: Unsent,
}

/// Proves that not a byte of a request left: since before its head was queued, nothing did.
struct Unsent {
    counters: Rc<Counters>,
    before: u64,
}

impl Unsent {
    fn holds(&self) -> bool {
        self.counters.sent.get() == self.before
    }
}

impl Asking {
    /// Queues the head.
    pub(super) fn begin(connection: &Connection, request: Request<Body>) -> Result<Self, SendError> {
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        // After CONNECT the stream stays open.
        let ended = body.is_end() && method != Method::CONNECT;
        let waits = head::expects_continue(&parts.headers) && !ended;
        let length = body.remaining().filter(|length| *length > 0);
        let written = head::request(parts, length).map_err(unfit)?;
        let counters = connection.tunnel.counters();
        let unsent = Unsent { before: counters.sent.get(), counters };
        let begun = connection.tunnel.begin(written, ended).map_err(|error| not_begun(error.as_ref()))?;
        let requests = connection.requests.get();
        connection.requests.set(requests.saturating_add(1));
        let Begun { response, send, entered } = begun;
        Ok(Self {
            response,
            // CONNECT has no body; what goes up follows its answer.
            upload: Upload::new(send, body, ended || method == Method::CONNECT),
            method,
            entered,
            gate: waits.then(|| Box::pin(sleep(CONTINUE))),
            refused: false,
            interim: 0,
            reused: requests > 0,
            unsent,
        })
    }

    /// Waits for the head of the answer.
    pub(super) async fn answer(
        mut self,
        connection: &Connection,
        informational: Informational<'_>,
    ) -> Result<Answer, SendError> {
        let polled = poll_fn(|context| self.poll(&connection.tunnel, context, informational)).await;
        let (mut head, stream) = polled?.into_parts();
        let length = head::answer(head.status, &self.method, &mut head.headers);
        let length = length.map_err(|what| SendError::sent(Failure::MalformedAnswer(what)))?;
        let mut answer = Answer {
            response: Response::new(Body::Empty),
            sending: None,
            upgraded: None,
            reused: self.reused,
            connect_ns: 0,
            security: connection.security,
            peer: connection.peer.clone(),
        };
        if self.method == Method::CONNECT && head.status.is_success() {
            answer.upgraded = Some(Upgraded { wire: self.wire(stream) });
        } else {
            let (body, sending) = self.rest(stream, length).await;
            (*answer.response.body_mut(), answer.sending) = (body, sending);
        }
        answer.response = Response::from_parts(head, answer.response.into_body());
        Ok(answer)
    }

    fn poll(
        &mut self,
        tunnel: &ReferenceTunnel,
        context: &mut Context<'_>,
        informational: &mut dyn FnMut(StatusCode, HeaderMap),
    ) -> Poll<Result<Response<RecvStream>, SendError>> {
        loop {
            self.poll_gate(context);
            self.poll_upload(context)?;
            match self.response.poll_informational(context) {
                Poll::Ready(Some(Ok(interim))) => self.inform(interim, informational)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.no_answer(tunnel, &error))),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        let answered = ready!(Pin::new(&mut self.response).poll(context));
        Poll::Ready(answered.map_err(|error| self.no_answer(tunnel, &error)))
    }

    fn poll_gate(&mut self, context: &mut Context<'_>) {
        if self.gate.as_mut().is_some_and(|gate| gate.as_mut().poll(context).is_ready()) {
            self.gate = None;
        }
    }

    fn poll_upload(&mut self, context: &mut Context<'_>) -> Result<(), SendError> {
        if self.refused || self.upload.ended {
            return Ok(());
        }
        match self.upload.poll(self.gate.is_none(), context) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Stopped::Body(error))) => Err(SendError::body(error)),
            Poll::Ready(Err(Stopped::Refused)) => {
                self.refused = true;
                Ok(())
            }
        }
    }

    fn inform(
        &mut self,
        interim: Response<()>,
        informational: &mut dyn FnMut(StatusCode, HeaderMap),
    ) -> Result<(), SendError> {
        self.interim += 1;
        let (head, ()) = interim.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS
            || self.interim > Limits::default().interim_responses
        {
            self.upload.send.send_reset(Reason::PROTOCOL_ERROR);
            let what = "101 over HTTP/2, or too many interim responses";
            return Err(SendError::sent(Failure::MalformedAnswer(what)));
        }
        if head.status == StatusCode::CONTINUE {
            self.gate = None;
        }
        informational(head.status, head.headers);
        Ok(())
    }

    /// There is no answer. Whoever sent an interim one has seen the request, whatever it says now.
    fn no_answer(&self, tunnel: &ReferenceTunnel, error: &h2::Error) -> SendError {
        let (reason, proved) = judge(error, tunnel.end().as_ref());
        let proved = (proved || self.unsent.holds()) && self.interim == 0;
        let progress = if proved { Progress::NotSent } else { Progress::Sent };
        SendError { progress, endpoints_fault: is_fault(error), ..SendError::sent(reason) }
    }

    /// Both ways after a 2xx to CONNECT.
    fn wire(self, stream: RecvStream) -> Wire {
        let inbox = self.entered.receives(stream);
        let (send, receive) = both(self.entered, self.upload.send, inbox);
        Wire::of_stream(send, receive)
    }

    /// What goes on after the head: the answer's body and the rest of the request.
    async fn rest(self, stream: RecvStream, length: Option<u64>) -> (Body, Option<Sending>) {
        let entered = Rc::new(self.entered);
        // A body that was not asked for, or is not wanted any more, stays with the client.
        let goes_on = !self.upload.ended && !self.refused && self.gate.is_none();
        let sending = goes_on
            .then(|| Sending(Kind::Http2(Rest { upload: self.upload, _entered: Rc::clone(&entered) })));
        let mut stream = Some((stream, entered));
        let body = poll_fn(|context| {
            let begun =
                stream.take().map(|(stream, entered)| Received::body(stream, length, entered, context));
            Poll::Ready(begun.unwrap_or_default())
        });
        (body.await, sending)
    }
}

/// Nothing was queued.
fn not_begun(error: Option<&h2::Error>) -> SendError {
    match error {
        // A fault of the head, and no connection's.
        Some(error) if !error.is_go_away() && !error.is_io() && !error.is_reset() => {
            unfit("it does not fit HTTP/2")
        }
        Some(error) => {
            let (reason, _) = judge(error, None);
            SendError { endpoints_fault: is_fault(error), ..SendError::not_sent(reason) }
        }
        None => SendError { endpoints_fault: false, ..SendError::not_sent(Failure::GoAway) },
    }
}

/// What an error of a stream says, and whether it proves that the endpoint did nothing with the request (RFC 9113, section 8.7).
/// `h2` gives the peer's GOAWAY only to streams above its last one.
fn judge(error: &h2::Error, end: Option<&TunnelEnd>) -> (Failure, bool) {
    if error.is_remote() && error.is_go_away() {
        return (Failure::GoAway, true);
    }
    if error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM) {
        return (Failure::RefusedStream, true);
    }
    if error.is_library() {
        return (Failure::MalformedAnswer("not what HTTP/2 allows"), false);
    }
    let closed = error.get_io().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
    match end {
        Some(TunnelEnd::Silent(_)) => (Failure::Reset, false),
        _ if closed => (Failure::ClosedBeforeAnswer, false),
        _ => (Failure::Reset, false),
    }
}

/// A server that takes no more requests on this connection, as after many of them, does nothing wrong.
fn is_fault(error: &h2::Error) -> bool {
    !(error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR))
}
