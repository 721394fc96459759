//! The caller's side: a tunnel to a peer's agent, its streams, and the task that drives it.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{
    SendStream,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::{net::TcpStream, sync::Notify, time::timeout};

use super::{
    credit::Credit,
    drive::{Entered, Heartbeat, Life},
    halves::{ReferenceReceive, ReferenceSend, Shared},
};
use crate::{
    observe::TunnelSocket,
    tunnel::{
        Accepted, ConnectRequest, OpenError, Settings, StreamError, Tunnel, TunnelEnd, headers,
        stream::{ClientStream, Coalesced, Counters, Pass, ReadAhead, Sealed},
    },
};

/// The task that drives a connection.
pub type Driving = Pin<Box<dyn Future<Output = ()>>>;

/// A handle on a client connection.
#[derive(Clone)]
pub struct ReferenceTunnel(Rc<Link>);

struct Link {
    life: Rc<Life>,
    /// Taken when the tunnel is drained: with the last of its users the connection closes.
    requests: RefCell<Option<SendRequest<Bytes>>>,
    /// The peer's settings have come.
    settled: Cell<bool>,
    limit: usize,
    socket: Option<Arc<TunnelSocket>>,
    /// Told to end at once.
    cut: Notify,
}

/// Dials, does TLS with `secure` and HTTP/2, each under its deadline. `secure` says which kind of failure it was:
/// [`OpenError::Tls`], or [`OpenError::Identity`] where the peer is somebody else.
///
/// # Errors
/// The step that failed or was too slow.
pub async fn connect<F>(
    settings: &Settings,
    dial: impl Future<Output = io::Result<TcpStream>>,
    secure: impl FnOnce(ReadAhead<TcpStream>) -> F,
) -> Result<ReferenceTunnel, OpenError>
where
    F: Future<Output = Result<ClientStream, OpenError>>,
{
    let socket = timeout(settings.dial_deadline, dial)
        .await
        .map_err(|_| OpenError::DialTimeout(settings.dial_deadline))?
        .map_err(|error| OpenError::Dial(error.to_string().into()))?;
    let descriptor = TunnelSocket::of(&socket);
    let handshake = async {
        let stream = secure(ReadAhead::new(socket)).await?;
        let run = |driving| drop(tokio::task::spawn_local(driving));
        establish(stream, descriptor, settings, run).await
    };
    // Boxed: the TLS handshake's state is large, and dials are rare.
    let deadline = settings.handshake_deadline;
    timeout(deadline, Box::pin(handshake)).await.map_err(|_| OpenError::HandshakeTimeout(deadline))?
}

/// Does HTTP/2 on an established stream, up to the peer's settings. Has no deadline of its own; dropped, it closes. `run`
/// is given the task that drives the connection.
///
/// # Errors
/// The peer does not speak HTTP/2 or closed the connection.
pub async fn establish<S: Sealed>(
    mut stream: S,
    socket: Option<Arc<TunnelSocket>>,
    settings: &Settings,
    run: impl FnOnce(Driving),
) -> Result<ReferenceTunnel, OpenError> {
    stream.widen();
    let life = Rc::new(Life::default());
    let (stream, flusher) = Coalesced::new(stream, life.counters.clone());
    let handshake = builder(settings).handshake(stream).await;
    let (requests, mut connection) =
        handshake.map_err(|error| OpenError::Handshake(error.to_string().into()))?;
    let heartbeat = Heartbeat::new(connection.ping_pong(), settings.client_times());
    let link = Link {
        life: life.clone(),
        requests: RefCell::new(Some(requests)),
        settled: Cell::new(false),
        limit: settings.pooled_streams,
        socket,
        cut: Notify::new(),
    };
    let tunnel = ReferenceTunnel(Rc::new(link));
    let watch = (heartbeat, Credit::new(settings, &life));
    run(Box::pin(drive(connection, Pass::new(flusher), watch, tunnel.0.clone())));
    let unfinished = Unfinished(tunnel);
    let settled = life.wait(|life| match life.end() {
        Some(end @ TunnelEnd::Alert(_)) => Some(Err(OpenError::Tls(end.to_string().into()))),
        // What the peer said were not its settings.
        Some(end) if life.counters.received.get() > 0 => {
            Some(Err(OpenError::NotHttp2(end.to_string().into())))
        }
        Some(end) => Some(Err(OpenError::Handshake(end.to_string().into()))),
        None => unfinished.0.0.settled.get().then_some(Ok(())),
    });
    settled.await?;
    Ok(unfinished.0.clone())
}

/// Closes a tunnel whose handshake nobody waits for any more.
struct Unfinished(ReferenceTunnel);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.0.0.settled.get() {
            self.0.drain();
        }
    }
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(settings.frame)
        .max_header_list_size(settings.header_list)
        .header_table_size(settings.header_table)
        .max_send_buffer_size(settings.send_queue)
        .data_frame_budget(settings.small_frames)
        // None until the peer has said how many: that is how the task sees that its settings came.
        .initial_max_send_streams(0);
    builder
}

/// Runs until the connection is gone.
async fn drive<S: Sealed>(
    mut connection: Connection<Coalesced<S>>,
    mut pass: Pass<S>,
    (mut heartbeat, mut credit): (Heartbeat, Credit),
    link: Rc<Link>,
) {
    let mut farewell = None;
    let mut cut = pin!(link.cut.notified());
    let end = poll_fn(|context| {
        if cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(TunnelEnd::Drained);
        }
        if let Poll::Ready(end) = heartbeat.poll(context, &link.life) {
            // Idle closes in peace; if even that took until the next look, it is over.
            if end != TunnelEnd::Idle || farewell.is_some() {
                return Poll::Ready(end);
            }
            farewell = Some(end);
            link.drain();
        }
        let worked = ready!(pass.poll(context, |context| {
            credit.look(&link.life, &mut connection);
            let worked = Pin::new(&mut connection).poll(context);
            link.settle();
            link.look_for_farewell();
            if worked.is_pending() { Credit::pending(&link.life, context) } else { worked }
        }));
        let drained = link.requests.borrow().is_none();
        Poll::Ready(match worked {
            Err(error) => link.life.describe(&error),
            Ok(()) => farewell.take().unwrap_or(if drained { TunnelEnd::Drained } else { TunnelEnd::Peer }),
        })
    })
    .await;
    link.drain();
    link.life.set_end(end);
}

impl Link {
    fn drain(&self) {
        self.requests.take();
        self.life.leaving.set(true);
    }

    /// Sees whether the peer has said GOAWAY.
    fn look_for_farewell(&self) {
        if self.settled.get() && !self.life.leaving.get() && self.room().is_none() {
            self.life.leaving.set(true);
        }
    }

    /// Sees whether the peer's settings have come.
    fn settle(&self) {
        let allowed =
            || self.requests.borrow().as_ref().is_some_and(|sender| sender.current_max_send_streams() > 0);
        if !self.settled.get() && allowed() {
            self.settled.set(true);
            self.life.notify();
        }
    }

    /// How many more streams the peer and we ourselves allow; `None` when it takes no more at all.
    fn room(&self) -> Option<usize> {
        let mut requests = self.requests.borrow_mut();
        let sender = requests.as_mut().filter(|_| self.life.end().is_none())?;
        // After a GOAWAY this is an error.
        if let Poll::Ready(Err(_)) = sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            return None;
        }
        Some(self.limit.min(sender.current_max_send_streams()).saturating_sub(self.life.open.get()))
    }
}

impl Tunnel for ReferenceTunnel {
    type Send = ReferenceSend;
    type Receive = ReferenceReceive;
    type Answer = ReferenceAnswer;

    fn has_room(&self) -> bool {
        self.0.room().is_some_and(|room| room > 0)
    }

    fn is_leaving(&self) -> bool {
        self.0.room().is_none()
    }

    fn streams(&self) -> usize {
        self.0.life.open.get()
    }

    fn start(&self, request: &ConnectRequest) -> Result<(ReferenceSend, ReferenceAnswer), OpenError> {
        let request = write_request(request)?;
        let begun = self.begin(request, false).map_err(|_| OpenError::NotProcessed)?;
        let shared = Shared::new(begun.entered, begun.send);
        Ok((ReferenceSend(shared.clone()), ReferenceAnswer { response: begun.response, shared }))
    }

    fn socket(&self) -> Option<Arc<TunnelSocket>> {
        self.0.socket.clone()
    }

    fn drain(&self) {
        self.0.drain();
    }

    fn closed(&self) -> impl Future<Output = TunnelEnd> + 'static + use<> {
        let life = self.0.life.clone();
        async move { life.wait(Life::end).await }
    }
}

/// A stream whose request was queued, as `h2` gives it: for requests that are no CONNECT of a tunnel.
pub struct Begun {
    /// Resolves to the answer.
    pub response: ResponseFuture,
    /// The request's body.
    pub send: SendStream<Bytes>,
    /// To be kept for as long as the stream counts.
    pub entered: Entered,
}

impl ReferenceTunnel {
    /// Bytes and writes of this connection.
    #[must_use]
    pub fn counters(&self) -> Rc<Counters> {
        self.0.life.counters.clone()
    }

    /// Why it ended, once it has.
    #[must_use]
    pub fn end(&self) -> Option<TunnelEnd> {
        self.0.life.end()
    }

    /// Ends it at once, with all its streams.
    pub fn cut(&self, why: Arc<str>) {
        self.0.life.set_end(TunnelEnd::Broken(why));
        self.0.drain();
        self.0.cut.notify_one();
    }

    /// Queues the head of any request.
    ///
    /// # Errors
    /// Nothing was queued: the connection takes no more, or the head is not fit for HTTP/2.
    pub fn begin(&self, request: Request<()>, ended: bool) -> Result<Begun, Option<h2::Error>> {
        // A handle of its own: one whose last stream still waits for room refuses the next.
        let mut sender = self.0.requests.borrow().clone().ok_or(None)?;
        // An error here comes before any frame is queued.
        let (response, send) = sender.send_request(request, ended).map_err(Some)?;
        Ok(Begun { response, send, entered: self.0.life.enter() })
    }
}

fn write_request(request: &ConnectRequest) -> Result<Request<()>, OpenError> {
    let mut built = Request::builder().method(Method::CONNECT).uri(request.authority.to_string());
    // Values that differ for each stream stay out of the compression table, where they would push out the lasting ones.
    let once = [
        (headers::FORWARDED, Some(request.forwarded.clone()).filter(|text| !text.is_empty())),
        (headers::TRACEPARENT, request.traceparent.clone()),
        (headers::CONNECTION, Some(request.connection.to_string())),
        (headers::ATTEMPT, request.attempt.as_ref().map(ToString::to_string)),
    ];
    for (name, text) in once.into_iter().filter_map(|(name, text)| Some((name, text?))) {
        let mut value = HeaderValue::try_from(text).map_err(|_| OpenError::Request(name))?;
        value.set_sensitive(true);
        built = built.header(name, value);
    }
    if !request.baggage.is_empty() {
        let value =
            HeaderValue::from_str(&request.baggage).map_err(|_| OpenError::Request(headers::BAGGAGE))?;
        built = built.header(headers::BAGGAGE, value);
    }
    built.body(()).map_err(|_| OpenError::Request(":authority"))
}

/// The answer to a CONNECT. Dropped before it came, it cancels the stream.
pub struct ReferenceAnswer {
    response: ResponseFuture,
    shared: Rc<Shared>,
}

impl Future for ReferenceAnswer {
    type Output = Result<Accepted<ReferenceReceive>, OpenError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.response).poll(context)) {
            Ok(response) => self.read(response),
            Err(error) => Err(self.fail(&error)),
        })
    }
}

impl ReferenceAnswer {
    fn read(&self, response: Response<h2::RecvStream>) -> Result<Accepted<ReferenceReceive>, OpenError> {
        if response.status() != StatusCode::OK {
            return Err(OpenError::Refused(response.status().as_u16()));
        }
        let baggage = response.headers().get(headers::BAGGAGE);
        let baggage = baggage.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Accepted { receive: ReferenceReceive::new(response.into_body(), self.shared.clone()), baggage })
    }

    fn fail(&self, error: &h2::Error) -> OpenError {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // Above the last stream of the peer's GOAWAY.
        if refused || (error.is_go_away() && error.is_remote()) {
            return OpenError::NotProcessed;
        }
        match self.shared.life().stream_error(error) {
            StreamError::Reset(code) => OpenError::Reset(code),
            StreamError::Tunnel(end) => OpenError::Tunnel(end),
            StreamError::Ended => OpenError::Tunnel(TunnelEnd::Drained),
        }
    }
}
