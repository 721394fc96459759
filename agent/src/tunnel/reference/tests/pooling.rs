//! Which tunnel a stream gets: shared dials, limits, draining, idleness.

use super::*;
use crate::tunnel::Tunnel;

#[test]
fn waiters_share_one_dial() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let opens = (0..50).map(|_| world.open("echo"));
        let opened = futures_util::future::join_all(opens).await;
        assert!(opened.iter().all(Result::is_ok));
        assert_eq!((world.dials.get(), world.pool.size()), (1, (1, 50)));
        drop(opened);
        assert_eq!(world.pool.size(), (1, 0));
    });
}

#[test]
fn waiters_share_one_failure() {
    on_worker(async {
        let world = World::without_server(Settings::default()).await;
        let failed = futures_util::future::join_all((0..20).map(|_| world.open("echo"))).await;
        for result in failed {
            assert!(matches!(result.err(), Some(OpenError::Dial(_))));
        }
        assert_eq!((world.dials.get(), world.pool.size()), (1, (0, 0)));
    });
}

#[test]
fn who_leaves_does_not_take_the_dial_along() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let leaver = spawn_local({
            let world = world.clone();
            async move { world.open("echo").await.map(drop) }
        });
        tokio::task::yield_now().await;
        let (opened, ()) = tokio::join!(world.open("echo"), async { leaver.abort() });
        assert!(opened.is_ok());
        assert_eq!(world.dials.get(), 1);
    });
}

#[test]
fn the_limits_open_further_tunnels() {
    on_worker(async {
        let theirs = World::new(Settings { server_streams: 2, ..Settings::default() }).await;
        let ours = World::new(Settings { pooled_streams: 2, ..Settings::default() }).await;
        for world in [theirs, ours] {
            let opened = futures_util::future::join_all((0..5).map(|_| world.open("echo"))).await;
            assert!(opened.iter().all(Result::is_ok));
            assert_eq!((world.dials.get(), world.pool.size()), (3, (3, 5)));
        }
    });
}

#[test]
fn a_goaway_ends_nothing_that_runs() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut old = world.open("echo").await.unwrap();
        let carrier = old.send.carrier();
        assert!(!carrier.is_leaving());
        world.drain.notify_waiters();
        let first = world.last.borrow().clone().unwrap();
        while !first.is_leaving() || !carrier.is_leaving() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let new = world.open("echo").await.unwrap();
        assert_eq!((world.dials.get(), new.send.carrier().is_leaving()), (2, false));
        write(&mut old.send, Bytes::from_static(b"still")).await.unwrap();
        old.send.finish().unwrap();
        assert_eq!(read_all(&mut old.receive).await.unwrap(), b"still");
        drop(old);
        first.closed().await;
        world.saw("served: Ok(Drained)").await;
    });
}

#[test]
fn a_refused_stream_is_sent_once_more() {
    on_worker(async {
        let world = World::without_server(Settings::default()).await;
        let listener = TcpListener::bind(world.address).await.unwrap();
        let server = spawn_local(refuse_then_serve(world.0.clone(), listener));
        assert!(world.open("echo").await.is_ok());
        assert_eq!(world.dials.get(), 2);
        server.abort();
    });
}

/// The first connection refuses its stream, the second is as it should be.
async fn refuse_then_serve(world: World, listener: TcpListener) {
    let (socket, _) = listener.accept().await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(world.server.clone());
    let mut first = h2::server::handshake(acceptor.accept(socket).await.unwrap()).await.unwrap();
    let (_request, mut respond) = first.accept().await.unwrap().unwrap();
    respond.send_reset(h2::Reason::REFUSED_STREAM);
    spawn_local(async move { while first.accept().await.is_some() {} });
    world.listen(listener).await;
}

#[test]
fn draining_and_forgetting_close_after_the_last_stream() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let opened = world.open("echo").await.unwrap();
        let (first, carrier) = (world.last.borrow().clone().unwrap(), opened.send.carrier());
        world.pool.forget_identity(&world.key().identity, "1");
        assert_eq!(world.pool.size(), (1, 1), "that is the serial in use");
        world.pool.forget(1);
        assert_eq!((world.pool.size(), first.streams()), ((0, 0), 1));
        assert!(carrier.is_leaving(), "whoever keeps the stream for later shall let it go");
        drop(opened);
        assert_eq!(first.closed().await, crate::tunnel::TunnelEnd::Drained);
        world.pool.drain();
        assert_eq!(world.open("echo").await.err(), Some(OpenError::Draining));
    });
}

#[test]
fn an_idle_tunnel_is_closed() {
    on_worker(async {
        let world = World::new(Settings { idle: Duration::from_millis(60), ..Settings::default() }).await;
        drop(world.open("echo").await.unwrap());
        let tunnel = world.last.borrow().clone().unwrap();
        assert_eq!(tunnel.closed().await, crate::tunnel::TunnelEnd::Idle);
        world.saw("served: Ok(Peer)").await;
        assert_eq!(world.pool.size(), (0, 0));
    });
}
