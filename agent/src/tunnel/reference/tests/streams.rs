//! One stream: bytes both ways, half-close, resets, refusals.

use super::*;

#[test]
fn bytes_go_both_ways_and_ends_arrive() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut opened = world.open("echo").await.unwrap();
        assert_eq!(opened.baggage.as_deref(), Some("service.name=server"));
        assert!(opened.socket.is_some());
        write(&mut opened.send, Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!(read(&mut opened.receive).await, Some(Ok(Bytes::from_static(b"hello"))));
        opened.send.finish().unwrap();
        assert_eq!(read(&mut opened.receive).await, None);
    });
}

#[test]
fn what_is_looked_at_stays() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut opened = world.open("goodbye").await.unwrap();
        for _ in 0..2 {
            poll_fn(|context| {
                opened.receive.poll_peek(context).map(|seen| assert_eq!(seen.as_deref(), Some(&b"bye"[..])))
            })
            .await;
        }
        assert_eq!(read(&mut opened.receive).await, Some(Ok(Bytes::from_static(b"bye"))));
        poll_fn(|context| opened.receive.poll_peek(context).map(|seen| assert_eq!(seen, None))).await;
        assert_eq!(read(&mut opened.receive).await, None);
        let mut reset = world.open("reset").await.unwrap();
        poll_fn(|context| reset.receive.poll_peek(context).map(|seen| assert_eq!(seen, None))).await;
        assert_eq!(read(&mut reset.receive).await, Some(Err(StreamError::Reset(0xa))));
    });
}

#[test]
fn the_other_side_may_close_first() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut opened = world.open("goodbye").await.unwrap();
        assert_eq!(read_all(&mut opened.receive).await.unwrap(), b"bye");
        write(&mut opened.send, Bytes::from_static(b"later")).await.unwrap();
        opened.send.finish().unwrap();
        world.saw("got later").await;
        assert_eq!(opened.send.send(Bytes::from_static(b"x")), Err(StreamError::Ended));
    });
}

#[test]
fn the_head_arrives() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let _opened = world.open("head").await.unwrap();
        let seen = world.seen.borrow().join("");
        for part in ["Host(\"head\", 80)", "ConnectionId(7)", "k8s.namespace.name=shop", "10.0.0.1:4711"] {
            assert!(seen.contains(part), "{part} in {seen}");
        }
    });
}

#[test]
fn a_reset_is_a_reset_and_a_cancel_is_an_end() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut reset = world.open("reset").await.unwrap();
        assert_eq!(read(&mut reset.receive).await, Some(Err(StreamError::Reset(0xa))));
        let seen = poll_fn(|context| reset.send.poll_reset(context)).await;
        assert_eq!(seen, StreamError::Reset(0xa));
        let room = poll_fn(|context| reset.send.poll_capacity(context, 1)).await;
        assert_eq!(room, Err(StreamError::Reset(0xa)));
        let mut cancelled = world.open("cancel").await.unwrap();
        assert_eq!(read(&mut cancelled.receive).await, None);
    });
}

#[test]
fn our_resets_reach_the_peer() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut broken = world.open("watch").await.unwrap();
        broken.send.reset(Reset::ConnectError);
        world.saw("end Err(Reset(10))").await;
        drop(broken);
        let dropped = world.open("watch").await.unwrap();
        drop(dropped);
        world.saw("end Ok([])").await;
        assert_eq!(world.pool.size(), (1, 0));
    });
}

#[test]
fn refusals_carry_their_status() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        for status in [400, 401, 503] {
            let refused = world.open(&format!("refuse-{status}")).await.err();
            assert_eq!(refused, Some(OpenError::Refused(status)));
        }
        assert_eq!(world.open("forget").await.err(), Some(OpenError::Refused(503)));
        assert_eq!((world.dials.get(), world.pool.size()), (1, (1, 0)));
    });
}

#[test]
fn a_caller_who_leaves_before_the_answer_is_noticed() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let leaving = spawn_local({
            let world = world.clone();
            async move { world.open("patient").await.map(drop) }
        });
        world.saw("asked").await;
        leaving.abort();
        world.saw("gone Reset(8)").await;
        assert_eq!(world.pool.size(), (1, 0));
    });
}

#[test]
fn bytes_may_go_before_the_answer() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let mut begun = world.pool.begin(&world.key(), &request("echo"), world.dial()).await.unwrap();
        write(&mut begun.send, Bytes::from_static(b"early")).await.unwrap();
        begun.send.finish().unwrap();
        let mut accepted = begun.answer.await.unwrap();
        assert_eq!(read_all(&mut accepted.receive).await.unwrap(), b"early");
    });
}

#[test]
fn what_is_no_connect_gets_400() {
    on_worker(async {
        let world = World::new(Settings::default()).await;
        let socket = TcpStream::connect(world.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(world.client.clone());
        let stream = connector.connect("agent".try_into().unwrap(), socket).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        spawn_local(connection);
        let get = http::Request::get("https://echo/").body(()).unwrap();
        let mut requests = vec![get];
        for authority in ["user@echo:80", "echo", "echo:0", "10.0.0.256:80", "[fd00::1]"] {
            requests.push(http::Request::builder().method("CONNECT").uri(authority).body(()).unwrap());
        }
        for request in requests {
            let shown = request.uri().to_string();
            let (response, _send) = sender.send_request(request, false).unwrap();
            assert_eq!(response.await.unwrap().status(), 400, "{shown}");
        }
    });
}
