//! The pod's own application, for the requests of one connection that came in: one connection to it for each that came in, or as many
//! of HTTP/2 as it needs for its streams. Each request is sent once: what fails, the caller's agent may try again.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    task::Poll,
};

use http::Request;
use tokio::time::timeout;

use super::{
    Answer, Failure, Informational, SendError, http1,
    http2::{self, Lane, Lanes, Turn},
    pool::{About, Connection, Place},
};
use crate::{
    http1::{Limits, Reader, Writer},
    observe::{CloseReason, Security, monotonic_ns},
    path::http::{
        body::Body,
        io::{Wire, WireSink, WireSource},
    },
    snapshot::SpiffeId,
    worker::{PodHere, Worker},
};

type Halves = (Reader<WireSource>, Writer<WireSink>);

/// A connection of HTTP/1.1 between two requests.
#[derive(Default)]
pub(super) struct Kept(RefCell<Option<Halves>>);

impl Kept {
    /// For the next request.
    pub(super) fn keep(&self, reader: Reader<WireSource>, writer: Writer<WireSink>) {
        self.0.replace(Some((reader, writer)));
    }

    /// The connection, unless the application has closed it or spoke unasked.
    async fn take(&self) -> Option<Halves> {
        let (mut reader, writer) = self.0.take()?;
        let idle = poll_fn(|context| Poll::Ready(reader.poll_idle(context).is_pending())).await;
        idle.then_some((reader, writer))
    }
}

/// Where a connection goes when its request is sent and the answer read.
pub(super) enum Home {
    /// Among those of its endpoint.
    Pool(Rc<Place>, About),
    /// To the requests of one connection that came in.
    Own(Rc<Kept>),
}

impl Home {
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Pool(place, _) => place.is_closed(),
            Self::Own(_) => false,
        }
    }

    pub(super) fn peer(&self) -> (Security, Option<SpiffeId>) {
        match self {
            Self::Pool(_, about) => (about.security, about.peer.clone()),
            Self::Own(_) => (Security::None, None),
        }
    }

    pub(super) fn keep(self, reader: Reader<WireSource>, writer: Writer<WireSink>) {
        match self {
            Self::Pool(place, about) => place.keep(Connection { reader, writer, about }, monotonic_ns()),
            Self::Own(kept) => kept.keep(reader, writer),
        }
    }
}

/// See the head of this file.
pub struct Application {
    worker: Rc<Worker>,
    pod: Rc<PodHere>,
    address: SocketAddr,
    client: IpAddr,
    /// What was connected before it was known what comes.
    first: Cell<Option<Wire>>,
    kept: Rc<Kept>,
    lanes: Lanes,
}

impl Application {
    /// At an address of the pod, in the name of `client`; `first` leads there already.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        pod: &Rc<PodHere>,
        address: SocketAddr,
        client: IpAddr,
        first: Wire,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            pod: Rc::clone(pod),
            address,
            client,
            first: Cell::new(Some(first)),
            kept: Rc::default(),
            lanes: Lanes::default(),
        }
    }

    /// Where it is reached.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one request in HTTP/1.1.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send_http1(
        &self,
        request: Request<Body>,
        upgrade: bool,
        informational: Informational<'_>,
    ) -> Result<Answer, SendError> {
        let halves = match self.kept.take().await {
            Some(halves) => halves,
            None => {
                let Wire { source, sink } = self.wire().await?;
                (Reader::new(source, Limits::default()), Writer::new(sink))
            }
        };
        http1::ask(Home::Own(Rc::clone(&self.kept)), halves, request, upgrade, informational).await
    }

    /// Begins HTTP/2, before the caller is told that it is spoken here.
    ///
    /// # Errors
    /// The application does not.
    pub async fn begin_http2(&self) -> Result<(), SendError> {
        let connection = http2::over(self.wire().await?, &self.worker, &self.pod).await?;
        self.lanes.add(Rc::new(connection));
        Ok(())
    }

    /// Sends one request in HTTP/2.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send_http2(
        &self,
        request: Request<Body>,
        informational: Informational<'_>,
    ) -> Result<Answer, SendError> {
        loop {
            if let Some(connection) = self.lanes.pick(monotonic_ns()) {
                return http2::exchange(Lane::shared(connection), request, informational).await;
            }
            match self.lanes.turn() {
                Turn::Wait(waiting) => waiting.over().await?,
                Turn::Dial(dial) => {
                    if let Err(error) = self.begin_http2().await {
                        dial.failed(&error);
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn wire(&self) -> Result<Wire, SendError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let delivered = self.worker.stock.deliver(&self.pod.namespace, self.client, self.address);
        match timeout(self.worker.shared.connect.attempt, delivered).await {
            Ok(Ok(socket)) => Ok(Wire::of_socket(socket, bytes::Bytes::new())),
            Ok(Err(error)) => {
                tracing::debug!(address = %self.address, %error, "the application does not accept");
                Err(refused())
            }
            Err(_) => Err(refused()),
        }
    }
}

fn refused() -> SendError {
    SendError::not_sent(Failure::Connect(CloseReason::ApplicationRefused))
}

impl Drop for Application {
    fn drop(&mut self) {
        self.lanes.close();
    }
}
