//! Connections: how many requests share one, when it takes no more, when it closes, who makes the next.

use super::{
    super::lanes::{Lanes, Turn},
    *,
};
use crate::tunnel::TunnelEnd;

/// Answers each request after a while, so that they meet.
async fn slow(builder: h2::server::Builder) -> Rc<Connection> {
    served_by(builder, |request, mut respond| async move {
        let wait = request.uri().path().trim_start_matches('/').parse().unwrap();
        sleep(Duration::from_millis(wait)).await;
        respond.send_response(status(200), true).unwrap();
    })
    .await
}

#[test]
fn requests_share_a_connection_and_pass_one_another() {
    on_worker(async {
        let connection = slow(h2::server::Builder::new()).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let asked = (0..50_u64).map(|number| {
            let (connection, order) = (Rc::clone(&connection), Rc::clone(&order));
            async move {
                let answer = send(&connection, get(&format!("/{}", (50 - number) * 4))).await.unwrap();
                order.borrow_mut().push(number);
                answer.reused
            }
        });
        let reused = futures_util::future::join_all(asked).await;
        assert_eq!(reused.iter().filter(|reused| **reused).count(), 49);
        assert_eq!(order.borrow().len(), 50);
        assert_eq!(
            (order.borrow()[0], order.borrow()[49]),
            (49, 0),
            "the slowest did not hold the others up"
        );
        assert_eq!(connection.requests.get(), 50);
        assert_eq!(connection.tunnel.streams(), 0);
    });
}

#[test]
fn the_endpoints_limit_on_streams_is_kept() {
    on_worker(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(2);
        let lanes = Lanes::default();
        let connection = slow(builder).await;
        lanes.add(Rc::clone(&connection));
        let two = async { tokio::join!(send(&connection, get("/100")), send(&connection, get("/100"))) };
        let watching = async {
            sleep(Duration::from_millis(30)).await;
            assert!(lanes.pick(0).is_none(), "both are taken");
            assert!(connection.is_usable(0));
        };
        let ((one, other), ()) = tokio::join!(two, watching);
        drop((one.unwrap(), other.unwrap()));
        assert!(lanes.pick(0).is_some());
    });
}

#[test]
fn a_worn_or_old_connection_is_let_go_and_finishes_what_it_has() {
    on_worker(async {
        let keep = KeepAlive { requests: 2, ..KeepAlive::default() };
        let (ours, theirs) = duplex(1 << 16);
        spawn_local(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                spawn_local(async move {
                    sleep(Duration::from_millis(100)).await;
                    respond.send_response(status(200), true).unwrap();
                });
            }
        });
        let lanes = Lanes::default();
        let connection = connect(ours, keep).await.unwrap();
        lanes.add(Rc::clone(&connection));
        assert!(lanes.pick(599 * 1_000_000_000).is_some());
        let two = async { tokio::join!(send(&connection, get("/")), send(&connection, get("/"))) };
        let watching = async {
            sleep(Duration::from_millis(30)).await;
            assert!(lanes.pick(0).is_none() && lanes.is_unused());
        };
        let ((one, other), ()) = tokio::join!(two, watching);
        assert_eq!(
            (one.unwrap().response.status(), other.unwrap().response.status()),
            (StatusCode::OK, StatusCode::OK)
        );
        assert_eq!(connection.tunnel.closed().await, TunnelEnd::Drained);

        let old = slow(h2::server::Builder::new()).await;
        lanes.add(Rc::clone(&old));
        assert!(lanes.pick(600 * 1_000_000_000).is_none());
        assert_eq!(old.tunnel.closed().await, TunnelEnd::Drained);
    });
}

#[test]
fn an_idle_connection_closes_when_its_time_has_come() {
    on_worker(async {
        let keep = KeepAlive { idle_ns: 100_000_000, ..KeepAlive::default() };
        let (ours, theirs) = duplex(1 << 16);
        spawn_local(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_response(status(200), true).unwrap();
            }
        });
        let connection = connect(ours, keep).await.unwrap();
        send(&connection, get("/")).await.unwrap();
        assert_eq!(connection.tunnel.closed().await, TunnelEnd::Idle);
        assert!(!connection.is_usable(0));
    });
}

#[test]
fn when_the_pod_leaves_requests_under_way_go_on() {
    on_worker(async {
        let lanes = Lanes::default();
        let connection = slow(h2::server::Builder::new()).await;
        lanes.add(Rc::clone(&connection));
        let leaving = async {
            sleep(Duration::from_millis(30)).await;
            lanes.close();
            assert!(!connection.has_room());
        };
        let (answer, ()) = tokio::join!(send(&connection, get("/100")), leaving);
        assert_eq!(answer.unwrap().response.status(), StatusCode::OK);
        assert_eq!(connection.tunnel.closed().await, TunnelEnd::Drained);
    });
}

#[test]
fn one_dials_and_the_others_wait_for_it() {
    on_worker(async {
        let lanes = Lanes::default();
        let Turn::Dial(dial) = lanes.turn() else { panic!("somebody has to") };
        let Turn::Wait(waiting) = lanes.turn() else { panic!("one is enough") };
        assert!(!lanes.is_unused());
        let failed = SendError::not_sent(Failure::Handshake);
        dial.failed(&failed);
        assert_eq!(waiting.over().await, Err(failed), "one failure is told to all");

        let Turn::Dial(dial) = lanes.turn() else { panic!("a failure is not for ever") };
        let Turn::Wait(waiting) = lanes.turn() else { panic!("one is enough") };
        drop(dial);
        assert_eq!(waiting.over().await, Ok(()), "given up: somebody else has to");
        let Turn::Dial(dial) = lanes.turn() else { panic!("that is the first to ask") };
        let Turn::Wait(waiting) = lanes.turn() else { panic!("one is enough") };
        lanes.add(slow(h2::server::Builder::new()).await);
        drop(dial);
        assert_eq!(waiting.over().await, Ok(()));
        assert!(lanes.pick(0).is_some());
    });
}
