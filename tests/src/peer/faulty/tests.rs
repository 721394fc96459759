//! Each trouble is what its name says, seen by a client on loopback: the fakes are proved before a mesh is judged by them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use super::{Plan, Seen, Trouble, ask, control_address, run};
use crate::peer::load::{Report, Spec, drive};
use serde_json::json;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

struct Server {
    port: u16,
}

impl Server {
    /// On a free port with a free one after it; it serves until the test program ends.
    fn start() -> Self {
        let port = loop {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            if port < u16::MAX && TcpListener::bind(control_address(port)).is_ok() {
                break port;
            }
        };
        thread::spawn(move || run(port, "one").unwrap());
        let server = Self { port };
        for _ in 0..500 {
            // Counted before it is forgotten: else the count of connections would hold one of ours.
            if TcpStream::connect(server.address()).is_ok() {
                while server.seen().connections == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
                server.forget();
                return server;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("nobody listens on {port}");
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn plan(&self, plan: &Plan) {
        let answer = ask(control_address(self.port), &json!({"plan": plan})).unwrap();
        assert_eq!(answer, json!({}));
        self.forget();
    }

    fn forget(&self) {
        ask(control_address(self.port), &json!({"forget": true})).unwrap();
    }

    fn seen(&self) -> Seen {
        serde_json::from_value(ask(control_address(self.port), &json!({"seen": true})).unwrap()).unwrap()
    }

    fn load(&self, spec: Spec) -> Report {
        drive(self.address(), spec).unwrap()
    }
}

#[test]
fn a_good_server_over_both_versions() {
    let server = Server::start();
    for http2 in [false, true] {
        let spec = Spec { http2, body: 10, method: "POST".to_owned(), ..Spec::requests(100, 4) };
        let report = server.load(spec);
        assert_eq!((report.status(200), report.servers.get("one")), (100, Some(&100)), "{report:?}");
        assert_eq!(report.bytes, 6400);
        let seen = server.seen();
        assert_eq!((seen.requests, seen.ids.len(), seen.ambiguous, seen.connections), (100, 100, 0, 4));
        assert!(seen.repeated().is_empty());
        server.forget();
    }
}

#[test]
fn every_trouble_is_what_its_name_says() {
    let server = Server::start();
    // (trouble, what one request of HTTP/1.1 meets, of HTTP/2, requests that the server counts over HTTP/1.1)
    let table = [
        (Trouble::Refuse, "connect: ConnectionRefused", "connect: ConnectionRefused", 0),
        (Trouble::ResetMidRequest, "", "", 1),
        (Trouble::ResetBeforeHead, "ConnectionReset", "", 1),
        (Trouble::CloseBeforeHead, "before message completed", "", 1),
        (Trouble::ResetMidHead, "ConnectionReset", "", 1),
        (Trouble::ResetMidBody, "body:", "body:", 1),
        (Trouble::CloseMidBody, "body:", "body:", 1),
        (Trouble::Silence, "timeout", "timeout", 1),
        (Trouble::Garbage, "invalid HTTP", "", 1),
    ];
    for (trouble, one, two, counted) in table {
        server.plan(&Plan::always(trouble));
        for (http2, word) in [(false, one), (true, two)] {
            let report = server.load(Spec { http2, timeout_ms: 300, ..Spec::requests(1, 1) });
            let error = report.errors.keys().next().cloned().unwrap_or_default();
            assert!(report.statuses.is_empty() || trouble == Trouble::ResetMidBody, "{trouble:?} {report:?}");
            assert!(!error.is_empty() && error.contains(word), "{trouble:?} http2={http2}: {report:?}");
            if !http2 {
                assert_eq!(server.seen().requests, counted, "{trouble:?}");
            }
        }
    }
    server.plan(&Plan::default());
    assert_eq!(server.load(Spec::requests(1, 1)).status(200), 1);
}

#[test]
fn statuses_in_shares_and_ends_of_connections() {
    let server = Server::start();
    server.plan(&Plan { share: 0.5, retry_after: Some("3".to_owned()), ..Plan::always(Trouble::Status) });
    let report = server.load(Spec::requests(100, 1));
    assert_eq!((report.status(200), report.status(503)), (50, 50), "{report:?}");
    server.plan(&Plan { keep_alive_requests: 10, ..Plan::default() });
    assert_eq!(server.load(Spec::requests(100, 1)).status(200), 100);
    assert_eq!(server.seen().connections, 10);
    server.plan(&Plan::always(Trouble::GoAway));
    for http2 in [false, true] {
        assert_eq!(server.load(Spec { http2, ..Spec::requests(1, 1) }).status(200), 1);
    }
    server.plan(&Plan { share: 0.5, ..Plan::always(Trouble::RefusedStream) });
    let report = server.load(Spec { http2: true, ..Spec::requests(20, 1) });
    let seen = server.seen();
    assert_eq!((report.status(200), seen.refused, seen.requests), (10, 10, 10), "{report:?}");
}

#[test]
fn slow_ones_are_slow_and_grpc_is_refused_in_its_own_way() {
    let server = Server::start();
    for trouble in [Trouble::SlowHead, Trouble::SlowBody] {
        for http2 in [false, true] {
            server.plan(&Plan { delay_ms: 200, ..Plan::always(trouble) });
            let report = server.load(Spec { http2, ..Spec::requests(1, 1) });
            assert!(report.status(200) == 1 && report.p50_ms >= 190.0, "{trouble:?} {report:?}");
        }
    }
    let headers = vec![("content-type".to_owned(), "application/grpc".to_owned())];
    let call = Spec { http2: true, headers, method: "POST".to_owned(), body: 5, ..Spec::requests(1, 1) };
    server.plan(&Plan::default());
    assert_eq!(server.load(call.clone()).grpc.get("0"), Some(&1));
    server.plan(&Plan { status: 14, ..Plan::always(Trouble::GrpcStatus) });
    assert_eq!(server.load(call).grpc.get("14"), Some(&1));
}

#[test]
fn a_rate_is_kept() {
    let server = Server::start();
    let report = server.load(Spec { rate: 200.0, seconds: 1.0, connections: 4, ..Spec::default() });
    assert!((180..=205).contains(&report.requests), "{report:?}");
    assert_eq!(report.success(), 1.0);
}
