//! Detection over real sockets, and the server side also over nothing at all: what is decided, that nothing is taken, that nobody waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{cell::Cell, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

use super::*;

const SETTINGS: &[u8] = b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\x10\0\0\0\x06\0\0\x40\0";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(20), test).await.expect("the test hangs") });
}

fn port(protocol: Protocol) -> ServicePort {
    ServicePort {
        service_name: "s".into(),
        service_namespace: "n".into(),
        hostname: "s.n.svc.cluster.local".into(),
        port: 80,
        name: "".into(),
        app_protocol: None,
        protocol,
        protocol_why: if protocol == Protocol::Detect { Why::NotAsked } else { Why::AppProtocol },
        policy: Arc::default(),
        affinity_seconds: None,
        endpoints: Vec::new(),
        known_endpoints: 0,
        state: Arc::default(),
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

/// Client, near, far, server; and how often the far side was asked for.
struct Ends {
    client: TcpStream,
    near: Socket,
    far: Cell<Option<TcpStream>>,
    server: TcpStream,
    connects: Cell<u32>,
}

impl Ends {
    async fn new() -> Self {
        let ((client, near), (far, server)) = (pair().await, pair().await);
        let near = Socket::fresh(near.into_std().unwrap());
        Self { client, near, far: Cell::new(Some(far)), server, connects: Cell::new(0) }
    }

    async fn decide(&self, port: &ServicePort) -> Decided {
        decide(port, &self.near, async {
            self.connects.set(self.connects.get() + 1);
            let far = Far::Socket(self.far.take().unwrap());
            Ok(Reached { far, outstanding: None })
        })
        .await
    }
}

/// `http1`, `http2`, `opaque` or `opaque NAME`.
fn shown(spoken: &Spoken) -> String {
    match spoken {
        Spoken::Http((Version::HTTP_2, _)) => "http2".to_owned(),
        Spoken::Http(_) => "http1".to_owned(),
        Spoken::Opaque { far, sni } => {
            assert!(far.is_some());
            format!("opaque {}", sni.as_deref().unwrap_or_default()).trim().to_owned()
        }
    }
}

fn hello(name: &str) -> Vec<u8> {
    // Version, random, no session, one cipher, no compression, and the one extension.
    let list = [&[0, 0, name.len() as u8][..], name.as_bytes()].concat();
    let content = [&[0, list.len() as u8][..], &list].concat();
    let extension = [&[0, 0, 0, content.len() as u8][..], &content].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0, 0, extension.len() as u8]);
    body.extend(extension);
    [&[0x16, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8][..], &body].concat()
}

#[test]
fn decides_by_what_is_declared_and_what_is_said() {
    use Protocol::{Detect, Grpc, Http, Http2, Tcp, Tls};
    use Why::{AppProtocol, FirstBytes, ServerFirst};
    let hello = hello("shop.example.com");
    let none: &[u8] = b"";
    let get: &[u8] = b"GET / HTTP/1.1\r\n";
    type Case<'case> = (Protocol, &'case [u8], &'case [u8], &'case str, Protocol, Why, Option<Lesson>);
    let table: [Case<'_>; 17] = [
        (Http, get, none, "http1", Http, AppProtocol, None),
        (Http, PREFACE, none, "http2", Http2, FirstBytes, None),
        // HTTP/1 says no to what is neither.
        (Http, b"\x16\x03\x01", none, "http1", Http, AppProtocol, None),
        (Http2, PREFACE, none, "http2", Http2, AppProtocol, None),
        (Grpc, PREFACE, SETTINGS, "http2", Grpc, AppProtocol, None),
        (Http2, get, none, "http1", Http, FirstBytes, None),
        (Grpc, get, none, "http1", Http, FirstBytes, None),
        (Tcp, get, none, "opaque", Tcp, AppProtocol, None),
        (Tls, &hello, none, "opaque shop.example.com", Tls, AppProtocol, None),
        (Tls, none, b"220 plain first\r\n", "opaque", Tls, AppProtocol, None),
        (Detect, get, none, "http1", Http, FirstBytes, Some(Lesson::Http)),
        (Detect, PREFACE, none, "http2", Http2, FirstBytes, Some(Lesson::Http)),
        (Detect, &hello, none, "opaque shop.example.com", Tls, FirstBytes, Some(Lesson::ClientFirst)),
        (Detect, b"\0\0\0\x08", none, "opaque", Tcp, FirstBytes, Some(Lesson::ClientFirst)),
        (Detect, none, b"220 mail\r\n", "opaque", Tcp, ServerFirst, Some(Lesson::ServerFirst)),
        (Detect, none, b"HTTP/1.1 408 \r\n", "opaque", Tcp, ServerFirst, None),
        (Detect, get, b"220 mail\r\n", "http1", Http, FirstBytes, Some(Lesson::Http)),
    ];
    run(async {
        for (declared, client, server, expected, protocol, why, lesson) in table {
            let (mut ends, port) = (Ends::new().await, port(declared));
            ends.client.write_all(client).await.unwrap();
            ends.server.write_all(server).await.unwrap();
            let begin = Instant::now();
            let (spoken, found, known_by) = ends.decide(&port).await.unwrap();
            assert_eq!((shown(&spoken).as_str(), found, known_by), (expected, protocol, why));
            assert_eq!(port.state.learnt.lesson(), lesson, "{expected}");
            assert!(begin.elapsed() < PATIENCE / 2, "{expected} {why:?}: {:?}", begin.elapsed());
            // Nothing was lost of what the client said, and nothing taken where it was not asked for.
            let mut bytes = match &spoken {
                Spoken::Http((_, ahead)) => ahead.to_vec(),
                Spoken::Opaque { .. } => Vec::new(),
            };
            assert!(bytes.is_empty() || matches!(declared, Http | Http2 | Grpc), "{expected}");
            let mut rest = vec![0; client.len() - bytes.len()];
            ends.near.into_told().unwrap().read_exact(&mut rest).await.unwrap();
            bytes.extend(rest);
            assert_eq!(bytes, client);
            // And nothing from the server.
            if let Spoken::Opaque { far: Some(Reached { far: Far::Socket(mut far), .. }), .. } = spoken {
                let mut bytes = vec![0; server.len()];
                far.read_exact(&mut bytes).await.unwrap();
                assert_eq!(bytes, server);
            }
        }
    });
}

#[test]
fn a_client_in_pieces_is_waited_for_without_spinning_and_loses_nothing() {
    run(async {
        let (mut ends, port) = (Ends::new().await, port(Protocol::Http));
        let mut near = ends.near.into_told().unwrap();
        ends.client.write_all(b"GE").await.unwrap();
        let polls = Cell::new(0);
        {
            let mut looking = pin!(first_bytes(&near));
            let counted = poll_fn(|cx| {
                polls.set(polls.get() + 1);
                looking.as_mut().poll(cx)
            });
            assert!(timeout(Duration::from_millis(200), counted).await.is_err());
        }
        assert!(polls.get() < 8, "{} polls", polls.get());
        // Whoever reads now must not wait for bytes that are there already.
        near.readable().await.unwrap();
        assert_eq!(near.try_read(&mut [0; 1]).unwrap(), 1);

        ends.client.write_all(b"G").await.unwrap();
        let rest = async {
            sleep(Duration::from_millis(50)).await;
            ends.client.write_all(b"T").await.unwrap();
            sleep(Duration::from_millis(50)).await;
            ends.client.write_all(b" /x").await.unwrap();
        };
        // What is left is `EG`, then `EGT /x`.
        let (guess, ()) = tokio::join!(first_bytes(&near), rest);
        assert_eq!(guess, Guess::Http1);
        let mut bytes = [0; 6];
        near.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"EGT /x");
        drop(port);
    });
}

#[test]
fn a_client_that_says_too_little_is_carried_after_a_while() {
    run(async {
        let (mut ends, port) = (Ends::new().await, port(Protocol::Detect));
        ends.client.write_all(b"HELLO").await.unwrap();
        let (spoken, protocol, why) = ends.decide(&port).await.unwrap();
        assert_eq!((shown(&spoken).as_str(), protocol, why), ("opaque", Protocol::Tcp, Why::Silence));
        assert_eq!(port.state.learnt.lesson(), None);
        // And before that a server that answers to it.
        let mut ends = Ends::new().await;
        ends.client.write_all(b"HELLO").await.unwrap();
        ends.server.write_all(b"hi").await.unwrap();
        let begin = Instant::now();
        let (_, _, why) = ends.decide(&port).await.unwrap();
        assert_eq!(why, Why::ServerFirst);
        assert!(begin.elapsed() < PATIENCE / 2);
        let mut bytes = [0; 5];
        ends.near.into_told().unwrap().read_exact(&mut bytes).await.unwrap();
    });
}

#[test]
fn a_client_that_leaves_teaches_nothing() {
    run(async {
        for word in ["", "GE"] {
            let (mut ends, port) = (Ends::new().await, port(Protocol::Detect));
            ends.client.write_all(word.as_bytes()).await.unwrap();
            ends.client.shutdown().await.unwrap();
            let (_, protocol, _) = ends.decide(&port).await.unwrap();
            assert_eq!(protocol, Protocol::Tcp);
            let lesson = port.state.learnt.lesson();
            assert_eq!(lesson, (!word.is_empty()).then_some(Lesson::ClientFirst));
        }
        let (ends, port) = (Ends::new().await, port(Protocol::Detect));
        drop(ends.server);
        let far = ends.far.take().unwrap();
        let reached = async { Ok(Reached { far: Far::Socket(far), outstanding: None }) };
        let (_, _, why) = decide(&port, &ends.near, reached).await.unwrap();
        assert_eq!((why, port.state.learnt.lesson()), (Why::ServerFirst, None));
    });
}

#[test]
fn a_port_that_was_learnt_is_not_looked_at_or_not_connected_to() {
    run(async {
        let port = port(Protocol::Detect);
        port.state.learnt.note(Lesson::ServerFirst);
        let mut ends = Ends::new().await;
        ends.client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let (spoken, protocol, why) = ends.decide(&port).await.unwrap();
        assert_eq!((shown(&spoken).as_str(), protocol, why), ("opaque", Protocol::Tcp, Why::Learnt));

        port.state.learnt.note(Lesson::Http);
        let mut ends = Ends::new().await;
        let (decided, ()) = {
            let client = &mut ends.client;
            let near = &ends.near;
            let never = async { panic!("connected before the request came") };
            tokio::join!(decide(&port, near, never), async {
                sleep(Duration::from_millis(100)).await;
                client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            })
        };
        assert_eq!(shown(&decided.unwrap().0), "http1");

        // Silent for too long: the server may be waiting to say something.
        let mut ends = Ends::new().await;
        ends.server.write_all(b"220 mail\r\n").await.unwrap();
        let begin = Instant::now();
        let (spoken, _, why) = ends.decide(&port).await.unwrap();
        assert_eq!((shown(&spoken).as_str(), why), ("opaque", Why::ServerFirst));
        assert!(begin.elapsed() >= PATIENCE && begin.elapsed() < PATIENCE * 2);
        assert_eq!(port.state.learnt.lesson(), Some(Lesson::ServerFirst));
    });
}

#[test]
fn a_server_of_http2_may_begin() {
    run(async {
        let (mut ends, port) = (Ends::new().await, port(Protocol::Detect));
        ends.server.write_all(SETTINGS).await.unwrap();
        let preface = async {
            sleep(Duration::from_millis(50)).await;
            ends.client.writable().await.unwrap();
            assert_eq!(ends.client.try_write(PREFACE).unwrap(), PREFACE.len());
        };
        let (decided, ()) = tokio::join!(ends.decide(&port), preface);
        let (spoken, protocol, why) = decided.unwrap();
        assert_eq!((shown(&spoken).as_str(), protocol, why), ("http2", Protocol::Http2, Why::FirstBytes));
        assert_eq!(port.state.learnt.lesson(), Some(Lesson::Http));
    });
}

#[test]
fn what_cannot_be_reached_is_said() {
    run(async {
        let ends = Ends::new().await;
        let refused = async { Err(CloseReason::ConnectFailed) };
        let decided = decide(&port(Protocol::Detect), &ends.near, refused).await;
        assert_eq!(decided.err(), Some(CloseReason::ConnectFailed));
    });
}
