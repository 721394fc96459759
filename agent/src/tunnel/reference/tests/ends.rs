//! Peers that fall silent, vanish or never speak.

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
