//! Requests over HTTP/2 against servers of the `h2` crate, and against peers that send single frames, in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bodies;
mod connections;
mod failures;
mod heads;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use super::{Connection, Lane, connection, exchange};
use crate::{
    observe::Security,
    path::http::{
        body::{Body, BodyError, BodySource, Frame},
        upstream::{Answer, Failure, Progress, SendError},
    },
    snapshot::policy::KeepAlive,
    tunnel::{Settings, Tunnel, stream::Sealed},
};

impl Sealed for DuplexStream {}

/// Runs a test as a worker thread would, and not for ever.
fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let within = async { timeout(Duration::from_secs(60), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, within);
}

fn settings(keep: &KeepAlive) -> Settings {
    connection::settings(keep, &Settings::default())
}

/// HTTP/2 on our end of a pipe.
async fn connect(io: DuplexStream, keep: KeepAlive) -> Result<Rc<Connection>, SendError> {
    let run = |driving| drop(spawn_local(driving));
    let tunnel = connection::establish(io, &settings(&keep), Duration::from_secs(5), run).await?;
    Ok(Rc::new(Connection::new(tunnel, Security::None, None, keep, 0)))
}

/// A connection to a server whose handler is given each request.
async fn served<F>(
    handler: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + 'static,
) -> Rc<Connection>
where
    F: Future<Output = ()> + 'static,
{
    served_by(h2::server::Builder::new(), handler).await
}

async fn served_by<F>(
    builder: h2::server::Builder,
    handler: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + 'static,
) -> Rc<Connection>
where
    F: Future<Output = ()> + 'static,
{
    let (ours, theirs) = duplex(1 << 16);
    spawn_local(async move {
        let mut connection = builder.handshake::<_, Bytes>(theirs).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            spawn_local(handler(request, respond));
        }
    });
    connect(ours, KeepAlive::default()).await.unwrap()
}

/// A connection to a peer that speaks frame by frame, after both settings.
async fn framed() -> (Rc<Connection>, DuplexStream) {
    let (ours, mut theirs) = duplex(1 << 16);
    theirs.write_all(&frame(4, 0, 0, b"")).await.unwrap();
    let connection = connect(ours, KeepAlive::default()).await.unwrap();
    (connection, theirs)
}

/// A frame (RFC 9113, section 4.1) of this type with these flags on a stream.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// Reads frames up to the head of a request; its stream.
async fn until_headers(io: &mut DuplexStream) -> u32 {
    let mut preface = [0; 24];
    io.read_exact(&mut preface).await.unwrap();
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        io.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == 1 {
            return u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        }
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "shop").body(Body::Empty).unwrap()
}

fn post(body: Body) -> Request<Body> {
    Request::post("/").header("host", "shop").body(body).unwrap()
}

async fn send(connection: &Rc<Connection>, request: Request<Body>) -> Result<Answer, SendError> {
    let lane = Lane { connection: Rc::clone(connection), connect_ns: 0, alone: false };
    exchange(lane, request, &mut |_, _| {}).await
}

/// Content and trailers up to the end or an error.
async fn read(body: &mut Body) -> (Vec<u8>, Option<HeaderMap>, Option<BodyError>) {
    let mut content = Vec::new();
    loop {
        match poll_fn(|context| body.poll_frame(context)).await {
            None => return (content, None, None),
            Some(Ok(Frame::Data(data))) => content.extend_from_slice(&data),
            Some(Ok(Frame::Trailers(trailers))) => return (content, Some(trailers), None),
            Some(Err(error)) => return (content, None, Some(error)),
        }
    }
}

/// A body that is given piece by piece by the test, and counts how much was taken.
#[derive(Clone, Default)]
struct Feed(Rc<Fed>);

#[derive(Default)]
struct Fed {
    frames: RefCell<VecDeque<Result<Frame, BodyError>>>,
    ended: Cell<bool>,
    taken: Cell<usize>,
    waker: RefCell<Option<std::task::Waker>>,
}

impl Feed {
    fn body(&self) -> Body {
        Body::Source(Box::new(self.clone()))
    }

    fn give(&self, frame: Result<Frame, BodyError>) {
        self.0.frames.borrow_mut().push_back(frame);
        self.wake();
    }

    fn data(&self, text: &'static str) {
        self.give(Ok(Frame::Data(Bytes::from_static(text.as_bytes()))));
    }

    fn end(&self) {
        self.0.ended.set(true);
        self.wake();
    }

    fn wake(&self) {
        self.0.waker.take().into_iter().for_each(std::task::Waker::wake);
    }
}

impl BodySource for Feed {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.0.frames.borrow_mut().pop_front() {
            Some(frame) => {
                self.0.taken.set(self.0.taken.get() + 1);
                Poll::Ready(Some(frame))
            }
            None if self.0.ended.get() => Poll::Ready(None),
            None => {
                self.0.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        None
    }

    fn is_end(&self) -> bool {
        self.0.ended.get() && self.0.frames.borrow().is_empty()
    }
}

/// What came of a request, read to its end.
async fn collected(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut content = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        content.extend_from_slice(&data);
    }
    (content, body.trailers().await.unwrap_or_default())
}

fn status(code: u16) -> Response<()> {
    Response::builder().status(code).body(()).unwrap()
}

fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}
