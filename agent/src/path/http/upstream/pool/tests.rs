//! Requests on pooled HTTP/1.1 connections, against servers that follow a script, over loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::{sleep, timeout},
};

use super::{
    super::{Answer, Failure, Progress, SendError, http1::exchange},
    *,
};
use crate::{
    http1::Limits,
    path::http::{
        body::{Body, BodyError, Frame},
        io::Wire,
    },
    snapshot::{ServiceState, Shared, policy},
};

fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let within = async { timeout(Duration::from_secs(60), test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, within);
}

/// A place with one connection to the other end of a socket, which the test plays.
struct Bench {
    upstream: Upstream,
    place: Rc<Place>,
    state: Shared<ServiceState>,
    server: TcpStream,
}

impl Bench {
    async fn new(keep: KeepAlive) -> (Self, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let state = Shared::<ServiceState>::default();
        let permit = limits::try_connection(&state, &policy::Limits::default()).unwrap();
        let about = About {
            watch: None,
            carrier: None,
            made_ns: now(),
            used_ns: 0,
            requests: 0,
            keep,
            security: Security::None,
            peer: None,
            permit: Rc::new(permit),
        };
        let wire = Wire::of_socket(ours, Bytes::new());
        let reader = Reader::new(wire.source, Limits::default());
        let connection = Connection { reader, writer: Writer::new(wire.sink), about };
        let upstream = Upstream::default();
        let place = Rc::new(Place::new(&upstream.0));
        let key = Key { pod: 1, address: "127.0.0.1:80".parse().unwrap(), tunnelled: None };
        upstream.0.places.borrow_mut().insert(key, Rc::clone(&place));
        (Self { upstream, place, state, server }, connection)
    }

    async fn send(&self, connection: Connection, request: Request<Body>) -> Result<Answer, SendError> {
        let upgrade = request.headers().contains_key("upgrade");
        exchange(Rc::clone(&self.place), connection, request, upgrade, &mut |_, _| {}).await
    }

    /// Sends, while the server reads the head and writes this; it closes then where it is told to.
    async fn answered(
        &mut self,
        connection: Connection,
        request: Request<Body>,
        answer: &str,
        close: bool,
    ) -> Result<Answer, SendError> {
        let place = Rc::clone(&self.place);
        let mut ignore = |_: StatusCode, _: HeaderMap| {};
        let sending = exchange(place, connection, request, false, &mut ignore);
        let server = &mut self.server;
        let serving = async {
            let mut head = [0; 4096];
            assert!(server.read(&mut head).await.unwrap() > 0);
            server.write_all(answer.as_bytes()).await.unwrap();
            if close {
                server.shutdown().await.unwrap();
            }
        };
        tokio::join!(sending, serving).0
    }

    async fn take(&self, recent_only: bool, now_ns: u64) -> Option<Connection> {
        poll_fn(|context| Poll::Ready(self.place.take(recent_only, now_ns, context))).await
    }

    fn connections(&self) -> u32 {
        let count: &AtomicU32 = &self.state.running.connections;
        count.load(Relaxed)
    }
}

fn get() -> Request<Body> {
    Request::get("/").header("host", "shop").body(Body::Empty).unwrap()
}

async fn read(body: &mut Body) -> Result<Vec<u8>, BodyError> {
    let mut content = Vec::new();
    while let Some(frame) = poll_fn(|context| body.poll_frame(context)).await {
        if let Frame::Data(data) = frame? {
            content.extend_from_slice(&data);
        }
    }
    Ok(content)
}

fn now() -> u64 {
    crate::observe::monotonic_ns()
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    on_worker(async {
        let (mut bench, mut connection) = Bench::new(KeepAlive::default()).await;
        for number in 1..=3 {
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let mut answer = bench.answered(connection, get(), answer, false).await.unwrap();
            assert_eq!(read(answer.response.body_mut()).await.unwrap(), b"ok");
            connection = bench.take(true, now()).await.expect("it was used just now");
            assert_eq!(connection.about.requests, number);
        }
        assert_eq!(bench.connections(), 1);
        drop(connection);
        assert_eq!(bench.connections(), 0, "closed connections count no more");
    });
}

#[test]
fn only_what_ended_in_order_is_kept() {
    on_worker(async {
        let table = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", false),
            // Something came behind the answer.
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n", false),
        ];
        for (answer, kept) in table {
            let (mut bench, connection) = Bench::new(KeepAlive::default()).await;
            let mut answered = bench.answered(connection, get(), answer, false).await.unwrap();
            read(answered.response.body_mut()).await.unwrap();
            drop(answered);
            assert_eq!(bench.take(false, now()).await.is_some(), kept, "{answer:?}");
            assert_eq!(bench.connections(), 0, "{answer:?}");
        }
    });
}

#[test]
fn an_answer_that_is_given_up_or_cut_breaks_its_connection() {
    on_worker(async {
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        let (mut bench, connection) = Bench::new(KeepAlive::default()).await;
        drop(bench.answered(connection, get(), half, false).await.unwrap());
        assert_eq!(bench.connections(), 0);
        assert!(bench.server.read(&mut [0; 1]).await.is_err(), "the server sees a reset, no end");

        let (mut bench, connection) = Bench::new(KeepAlive::default()).await;
        let mut answer = bench.answered(connection, get(), half, true).await.unwrap();
        assert!(matches!(read(answer.response.body_mut()).await, Err(BodyError::Cut(_))));
        drop(answer);
        assert!(bench.take(false, now()).await.is_none());
    });
}

#[test]
fn what_a_missing_answer_proves() {
    on_worker(async {
        let table = [
            ("", true, Failure::ClosedBeforeAnswer),
            ("HTTP/1.1 200 OK\r\nx: ", true, Failure::Reset),
            ("220 mail\r\n\r\n", false, Failure::MalformedAnswer("")),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false, Failure::MalformedAnswer("")),
        ];
        for (answer, close, reason) in table {
            let (mut bench, connection) = Bench::new(KeepAlive::default()).await;
            let error = bench.answered(connection, get(), answer, close).await.err().unwrap();
            assert_eq!(
                std::mem::discriminant(&error.reason),
                std::mem::discriminant(&reason),
                "{answer:?}: {error}"
            );
            assert_eq!((error.progress, error.endpoints_fault), (Progress::Sent, true), "{answer:?}");
            assert_eq!(bench.connections(), 0);
        }
    });
}

#[test]
fn an_idle_connection_is_left_when_its_server_leaves_or_speaks() {
    on_worker(async {
        for spoken in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
            let (mut bench, connection) = Bench::new(KeepAlive::default()).await;
            bench.place.keep(connection, now());
            bench.server.write_all(spoken).await.unwrap();
            bench.server.shutdown().await.unwrap();
            sleep(Duration::from_millis(50)).await;
            assert_eq!(bench.connections(), 0, "nobody had to ask for it");
            assert!(bench.take(false, now()).await.is_none());
        }
    });
}

#[test]
fn policy_and_age_limit_what_is_kept() {
    const SECOND: u64 = 1_000_000_000;
    on_worker(async {
        let keep = KeepAlive { idle_connections: 1, idle_ns: 10 * SECOND, requests: 2 };
        let kept = async |keep: KeepAlive, made_ns: u64, requests: u32| {
            let (bench, mut connection) = Bench::new(keep).await;
            // On a clock of its own.
            (connection.about.made_ns, connection.about.requests) = (made_ns, requests);
            bench.place.keep(connection, 600 * SECOND);
            bench.take(false, 600 * SECOND).await.is_some()
        };
        assert!(kept(keep, SECOND, 0).await);
        assert!(!kept(keep, SECOND, 1).await, "it has had as many requests as it may");
        assert!(!kept(keep, 0, 0).await, "it is ten minutes old");
        assert!(!kept(KeepAlive { idle_connections: 0, ..keep }, SECOND, 0).await);

        let (bench, connection) = Bench::new(keep).await;
        bench.place.keep(connection, 0);
        assert!(bench.take(true, SECOND).await.is_none(), "too old for what must not be sent twice");
        let connection = bench.take(false, SECOND).await.expect("but kept for others");
        bench.place.keep(connection, 0);
        assert!(bench.take(false, 10 * SECOND).await.is_none(), "idle for too long");

        let (bench, connection) = Bench::new(keep).await;
        bench.place.keep(connection, 0);
        bench.upstream.tidy(10 * SECOND);
        assert_eq!(bench.connections(), 0);
        let (bench, connection) = Bench::new(keep).await;
        bench.upstream.forget(1);
        bench.place.keep(connection, 0);
        assert_eq!(bench.connections(), 0, "the pod has left");
        assert!(bench.place.is_closed());
    });
}

#[test]
fn an_upgrade_takes_the_connection_over() {
    on_worker(async {
        let (mut bench, connection) = Bench::new(KeepAlive::default()).await;
        let request =
            Request::get("/").header("host", "shop").header("upgrade", "websocket").body(Body::Empty);
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nfirst";
        bench.server.write_all(answer.as_bytes()).await.unwrap();
        let answer = bench.send(connection, request.unwrap()).await.unwrap();
        let mut wire = answer.upgraded.expect("both ways").wire;
        let first =
            poll_fn(|context| crate::http1::Source::poll_read(&mut wire.source, context)).await.unwrap();
        assert_eq!(first, "first");
        assert!(bench.take(false, now()).await.is_none());
    });
}
