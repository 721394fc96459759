//! Both loops over loopback sockets, in front of one small site.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod http1;
mod http2;
mod malformed;
mod pressure;

use std::{
    cell::{Cell, RefCell},
    future::{Future, pending},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, LocalSet, spawn_local},
    time::timeout,
};

use super::{Handler, Incoming, Reply, ReplyOutcome, Windows, serve_http1, serve_http2};
use crate::path::http::{
    body::{Body, BodyError, BodySource, Frame},
    io::Wire,
    upgrade::Upgraded,
};

/// Runs a test as a worker thread would, and not for ever.
fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let within = async { timeout(Duration::from_secs(60), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, within);
}

/// Two ends of one connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

/// Waits until something is so.
async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A handler with a page for each thing that an answer can be.
#[derive(Default)]
struct Site {
    malformed: RefCell<Vec<&'static str>>,
    /// How long heads may take, and how many took longer.
    head_time: Cell<Option<Duration>>,
    late: Cell<usize>,
    /// Handlers at work, dropped before their end, and those that have ended with what became of their answers.
    running: Cell<usize>,
    dropped: Cell<usize>,
    outcomes: RefCell<Vec<ReplyOutcome>>,
    /// Frames that were taken from endless bodies.
    pulled: Rc<Cell<usize>>,
    /// Request bodies that nobody reads.
    kept: RefCell<Vec<Body>>,
    tunnel: RefCell<Option<TcpStream>>,
}

/// Counts a handler.
struct Running<'site>(&'site Site, bool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.dropped.set(self.0.dropped.get() + usize::from(!self.1));
    }
}

impl Handler for Site {
    async fn handle(self: Rc<Self>, request: Incoming, reply: Reply) {
        self.running.set(self.running.get() + 1);
        let mut running = Running(&self, false);
        self.answer(request, reply).await;
        running.1 = true;
    }

    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        spawn_local(work);
    }

    fn head_time(&self) -> Option<Duration> {
        self.head_time.get()
    }

    fn refused(&self, _: u16, what: &'static str, limit: Option<&'static str>) {
        match limit {
            Some(_) => self.late.set(self.late.get() + 1),
            None => self.malformed.borrow_mut().push(what),
        }
    }
}

impl Site {
    async fn answer(&self, incoming: Incoming, reply: Reply) {
        let (parts, body) = incoming.request.into_parts();
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        for name in ["host", "cookie", "te", "content-length"] {
            for value in parts.headers.get_all(name) {
                headers.append(http::HeaderName::try_from(format!("x-{name}")).unwrap(), value.clone());
            }
        }
        headers.insert("x-target", parts.uri.to_string().parse().unwrap());
        headers.insert(
            "x-whole",
            HeaderValue::from_static(if matches!(body, Body::Source(_)) { "no" } else { "yes" }),
        );
        match parts.uri.path() {
            "/echo" => *response.body_mut() = body,
            "/whole" => *response.body_mut() = Body::Whole(read(body).await),
            "/never" => pending().await,
            "/unused" => return,
            "/hints" => {
                let hints = HeaderMap::from_iter([("link".parse().unwrap(), "</a>".parse().unwrap())]);
                reply.informational(StatusCode::EARLY_HINTS, &hints);
                *response.body_mut() = Body::Whole(Bytes::from_static(b"hinted"));
            }
            "/endless" => *response.body_mut() = Body::Source(Box::new(Endless(Rc::clone(&self.pulled)))),
            "/broken" => *response.body_mut() = Body::Source(Box::new(Broken(false))),
            "/empty" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/connection" => {
                response.headers_mut().insert("connection", HeaderValue::from_static("close"));
                response.headers_mut().insert("upgrade", HeaderValue::from_static("h2c"));
            }
            "/unread" => {
                self.kept.borrow_mut().push(body);
                return pending().await;
            }
            _ if incoming.upgrade => {
                let wire = Wire::of_socket(self.tunnel.take().unwrap(), Bytes::new());
                let replied = reply.upgrade(response.map(drop), Upgraded { wire }).await;
                return self.outcomes.borrow_mut().push(replied.outcome);
            }
            _ => *response.body_mut() = Body::Whole(Bytes::from_static(b"hello")),
        }
        let replied = reply.respond(response, None).await;
        self.outcomes.borrow_mut().push(replied.outcome);
    }
}

/// All content of a body.
async fn read(mut body: Body) -> Bytes {
    let mut content = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.poll_frame(context)).await {
        if let Ok(Frame::Data(data)) = frame {
            content.extend_from_slice(&data);
        }
    }
    content.into()
}

/// Frames of 1 KiB for as long as somebody asks.
struct Endless(Rc<Cell<usize>>);

impl BodySource for Endless {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.set(self.0.get() + 1);
        Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(&[7; 1024])))))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }

    fn is_end(&self) -> bool {
        false
    }
}

/// One piece, then an error.
struct Broken(bool);

impl BodySource for Broken {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let piece = Ok(Frame::Data(Bytes::from_static(b"some")));
        let broken = std::mem::replace(&mut self.0, true);
        Poll::Ready(Some(if broken { Err(BodyError::Cut("in a test")) } else { piece }))
    }

    fn remaining(&self) -> Option<u64> {
        None
    }

    fn is_end(&self) -> bool {
        false
    }
}

/// A loop that serves one connection.
struct Served {
    site: Rc<Site>,
    /// To be dropped or used when the worker leaves.
    leave: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

impl Served {
    fn http1(near: TcpStream) -> Self {
        Self::start(|site, leaving| serve_http1(Wire::of_socket(near, Bytes::new()), site, leaving))
    }

    fn http2(near: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static) -> Self {
        Self::start(|site, leaving| serve_http2(near, Windows::of_one_in(1), site, leaving))
    }

    fn start<F>(serve: impl FnOnce(Rc<Site>, std::pin::Pin<Box<dyn Future<Output = ()>>>) -> F) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let site = Rc::new(Site::default());
        let (leave, left) = oneshot::channel();
        let leaving = Box::pin(async move {
            if left.await.is_err() {
                pending::<()>().await;
            }
        });
        let ended = spawn_local(serve(Rc::clone(&site), leaving));
        Self { site, leave: Some(leave), ended }
    }

    fn leave(&mut self) {
        self.leave.take().unwrap().send(()).unwrap();
    }
}
