//! Peers that fall silent, vanish or never speak.

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::tunnel::TunnelEnd;

fn quick() -> Settings {
    let millis = Duration::from_millis;
    Settings {
        handshake_deadline: millis(200),
        ping_every: millis(40),
        ping_timeout: millis(120),
        ..Settings::default()
    }
}

#[test]
fn a_silent_peer_is_given_up() {
    on_worker(async {
        let world = World::new(quick()).await;
        let mut opened = world.open("stuck").await.unwrap();
        // Answers keep it alive for much longer than the time-out.
        let lives = timeout(Duration::from_millis(500), read(&mut opened.receive)).await;
        assert!(lives.is_err());
        world.freeze.notify_waiters();
        let silent = TunnelEnd::Silent(Duration::from_millis(120));
        assert_eq!(read(&mut opened.receive).await, Some(Err(StreamError::Tunnel(silent))));
        drop(opened);
        assert_eq!(world.pool.size(), (0, 0));
    });
}

#[test]
fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    on_worker(async {
        let world = World::without_server(quick()).await;
        let listener = TcpListener::bind(world.address).await.unwrap();
        let deadline = Some(OpenError::HandshakeTimeout(Duration::from_millis(200)));
        assert_eq!(world.open("echo").await.err(), deadline, "no TLS");
        let acceptor = tokio_rustls::TlsAcceptor::from(world.server.clone());
        let mute = spawn_local(async move {
            let mut kept = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                kept.push(acceptor.accept(socket).await);
            }
        });
        assert_eq!(world.open("echo").await.err(), deadline, "no HTTP/2 settings");
        mute.abort();
    });
}

#[test]
fn a_caller_that_says_nothing_is_given_up() {
    on_worker(async {
        let world = World::new(quick()).await;
        let socket = TcpStream::connect(world.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(world.client.clone());
        let _stream = connector.connect("agent".try_into().unwrap(), socket).await.unwrap();
        world.saw("served: Err(HandshakeTimeout(200ms))").await;
    });
}

#[test]
fn a_peer_that_vanishes_is_noticed_at_once() {
    on_worker(async {
        let world = World::without_server(Settings::default()).await;
        let listener = TcpListener::bind(world.address).await.unwrap();
        let server = spawn_local({
            let world = world.0.clone();
            async move { world.clone().serve_one(listener.accept().await.unwrap().0).await }
        });
        let mut opened = world.open("stuck").await.unwrap();
        server.abort();
        let end = read(&mut opened.receive).await;
        assert!(matches!(end, Some(Err(StreamError::Tunnel(_)))), "{end:?}");
        assert!(matches!(world.open("echo").await.err(), Some(OpenError::Dial(_))));
    });
}

#[test]
fn tls_that_fails_is_told_as_such() {
    on_worker(async {
        let mut world = World::new(Settings::default()).await;
        world.client = tls().0;
        assert!(matches!(world.open("echo").await.err(), Some(OpenError::Tls(_))));
    });
}

#[test]
fn a_caller_that_speaks_something_else_is_told_off() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut random = fastrand::Rng::with_seed(11);
        for length in [1, 24, 300, 70_000] {
            let connector = tokio_rustls::TlsConnector::from(world.client.clone());
            let socket = TcpStream::connect(world.address).await.unwrap();
            let mut stream = connector.connect("agent".try_into().unwrap(), socket).await.unwrap();
            // Half of them start as HTTP/2 does, so that the frames are read too.
            let mut noise = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            noise.truncate(if length > 100 { 24 } else { 0 });
            noise.extend(std::iter::repeat_with(|| random.u8(..)).take(length));
            let _ = stream.write_all(&noise).await;
            let _ = stream.shutdown().await;
        }
        while world.seen.borrow().len() < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let fine = |seen: &String| {
            seen.starts_with("served: Err(Handshake") || seen.starts_with("served: Ok(Broken")
        };
        assert!(world.seen.borrow().iter().all(fine), "{:?}", world.seen.borrow());
        assert!(world.open("echo").await.is_ok());
    });
}

#[test]
fn rapid_resets_end_the_connection() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let _stream = give_up(&world, 1000).await;
        world.saw_some("excessive load").await;
        assert!(world.open("echo").await.is_ok(), "others are not harmed");
    });
}

#[test]
fn callers_who_all_give_up_at_once_leave_the_others_alone() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut stream = give_up(&world, 150).await;
        stream.write_all(&frame(1, 4, 301, b"\x02\x07CONNECT\x01\x07head:80")).await.unwrap();
        world.saw_some("Host(\"head\", 80)").await;
        assert!(
            !world.seen.borrow().iter().any(|seen| seen.starts_with("served:")),
            "{:?}",
            world.seen.borrow()
        );
    });
}

/// A connection on which so many callers ask and give up, all before the server reads.
async fn give_up(world: &World, callers: u32) -> tokio_rustls::client::TlsStream<TcpStream> {
    let socket = TcpStream::connect(world.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(world.client.clone());
    let mut stream = connector.connect("agent".try_into().unwrap(), socket).await.unwrap();
    let mut burst = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    burst.extend(frame(4, 0, 0, b""));
    for caller in 0..callers {
        // CONNECT without compression, and at once RST_STREAM with CANCEL.
        burst.extend(frame(1, 4, 2 * caller + 1, b"\x02\x07CONNECT\x01\x0apatient:80"));
        burst.extend(frame(3, 0, 2 * caller + 1, &8u32.to_be_bytes()));
    }
    stream.write_all(&burst).await.unwrap();
    stream
}

/// A frame of HTTP/2 as it is on the wire (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
