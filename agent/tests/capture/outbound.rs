//! What a pod connects to.

use std::{
    io::{ErrorKind, Read, Write},
    os::fd::{AsFd, AsRawFd},
    thread,
    time::{Duration, Instant},
};

use posthaste::snapshot::FailMode;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    captured, no_flows_stay,
    world::{MARK, PATIENCE, World, accept, address, connect, is_idle, listen, local, peer, within},
};

#[test]
fn outbound_connections_reach_the_agent_with_their_destination() {
    let world = World::new();
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    let destinations = capture.original_destinations();
    let mapped = "[::ffff:10.77.0.2]:8080";
    for (to, told, listener) in [
        ("10.77.0.2:8080", "10.77.0.2:8080", &outbound.v4),
        ("[fd77::2]:8080", "[fd77::2]:8080", &outbound.v6),
        (mapped, "10.77.0.2:8080", &outbound.v4),
        ("192.0.2.7:443", "192.0.2.7:443", &outbound.v4),
    ] {
        let mut application =
            within(&world.pod, || connect(to).unwrap_or_else(|error| panic!("{to}: {error}")));
        let (mut agent, client) = accept(listener);
        assert_eq!(destinations.read(agent.as_fd()), Some(address(told)), "{to}");
        assert_eq!(peer(&application), address(to), "getpeername of {to}");
        assert_eq!(peer(&agent), client, "the agent's own view is not rewritten");
        assert!(client.ip().to_canonical().is_loopback(), "{client}");
        application.write_all(b"hello").unwrap();
        let mut bytes = [0; 5];
        agent.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
    assert_eq!(world.counts(&capture).captured_outbound, 4);
    no_flows_stay(&capture);
    capture.detach().unwrap();
}

#[test]
fn a_client_that_is_gone_before_the_accept_is_still_known() {
    let world = World::new();
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    within(&world.pod, || {
        for _ in 0..100 {
            let mut application = connect("10.77.0.2:25").unwrap();
            application.write_all(b"bye").unwrap();
        }
    });
    no_flows_stay(&capture);
    for _ in 0..100 {
        let (mut agent, _) = accept(&outbound.v4);
        assert_eq!(capture.original_destinations().read(agent.as_fd()), Some(address("10.77.0.2:25")));
        let mut all = Vec::new();
        agent.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"bye");
    }
    capture.detach().unwrap();
}

#[test]
fn what_is_not_for_the_agent_passes() {
    let world = World::new();
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    let (server, excluded) =
        within(&world.outside, || (listen("10.77.0.2:8080", 9), listen("10.77.0.2:9090", 9)));
    within(&world.pod, || {
        // An excluded port.
        let application = connect("10.77.0.2:9090").unwrap();
        assert_eq!(accept(&excluded).1, local(&application));
        // The agent's own.
        let own = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        own.set_mark(MARK).unwrap();
        own.connect(&address("10.77.0.2:8080").into()).unwrap();
        assert_eq!(accept(&server).1, local(&own));
        // Loopback, in each form.
        let (v4, v6) = (listen("127.0.0.1:7070", 9), listen("[::1]:7070", 9));
        for (to, listener) in [
            ("127.0.0.1:7070", &v4),
            ("[::ffff:127.0.0.1]:7070", &v4),
            ("0.0.0.0:7070", &v4),
            ("[::1]:7070", &v6),
        ] {
            let application = connect(to).unwrap();
            assert_eq!(accept(listener).1.port(), local(&application).port(), "{to}");
        }
        // UDP.
        let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        datagrams.connect(&address("10.77.0.2:53").into()).unwrap();
        assert_eq!(peer(&datagrams), address("10.77.0.2:53"));
        // Not connected: each packet names its destination.
        for (family, to) in [
            (Domain::IPV4, "10.77.0.2:443"),
            (Domain::IPV4, "10.77.0.2:443"),
            (Domain::IPV6, "[fd77::2]:443"),
            (Domain::IPV6, "[::1]:443"),
        ] {
            let unconnected = Socket::new(family, Type::DGRAM, None).unwrap();
            unconnected.send_to(b"x", &address(to).into()).unwrap();
        }
    });
    assert!(is_idle(&outbound.v4) && is_idle(&outbound.v6));
    let counts = world.counts(&capture);
    assert_eq!((counts.excluded_outbound, counts.udp_connects, counts.captured_outbound), (1, 1, 0));
    assert_eq!((counts.udp_flows, counts.quic_flows), (1, 2), "a destination counts once, loopback never");
    let mut flows: Vec<(String, u64)> =
        capture.udp_flows().into_iter().map(|(_, to, times)| (to.to_string(), times)).collect();
    flows.sort();
    let wanted = [("10.77.0.2:443", 2), ("10.77.0.2:53", 1), ("[fd77::2]:443", 1)];
    assert_eq!(flows, wanted.map(|(to, times)| (to.to_owned(), times)));
    capture.detach().unwrap();
}

#[test]
fn a_socket_that_connects_again_shows_its_new_peer() {
    let world = World::new();
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    within(&world.pod, || {
        let local = listen("127.0.0.1:7070", 9);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.connect(&address("10.77.0.2:8080").into()).unwrap();
        drop(accept(&outbound.v4));
        disconnect(&socket);
        socket.connect(&address("127.0.0.1:7070").into()).unwrap();
        accept(&local);
        assert_eq!(peer(&socket), address("127.0.0.1:7070"));
        disconnect(&socket);
        socket.connect(&address("10.77.0.2:8081").into()).unwrap();
        let (agent, _) = accept(&outbound.v4);
        assert_eq!(capture.original_destinations().read(agent.as_fd()), Some(address("10.77.0.2:8081")));
        assert_eq!(peer(&socket), address("10.77.0.2:8081"));
    });
    no_flows_stay(&capture);
    capture.detach().unwrap();
}

fn disconnect(socket: &Socket) {
    let nothing = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: the address is live and of the size given.
    let answer = unsafe { libc::connect(socket.as_raw_fd(), &raw const nothing, 16) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn without_an_agent_the_fail_mode_decides_outbound() {
    let world = World::new();
    let (mut capture, outbound, inbound) = captured(&world, FailMode::Closed);
    let server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let refused = || {
        let error = within(&world.pod, || connect("10.77.0.2:8080")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    };
    capture.heartbeat().stop();
    refused();
    capture.beat();
    drop(outbound);
    refused();
    assert!(is_idle(&server));
    assert_eq!(world.counts(&capture).refused_outbound, 2);
    assert_eq!(capture.apply(&[world.wanted(FailMode::Open, &inbound)], &[]), []);
    let application = within(&world.pod, || connect("10.77.0.2:8080")).unwrap();
    assert_eq!(accept(&server).1, local(&application));
    assert_eq!(world.counts(&capture).passed_outbound, 1);
    capture.detach().unwrap();
}

#[test]
fn a_heartbeat_that_is_late_means_no_agent() {
    let mut world = World::new();
    world.config.heartbeat_limit = Duration::from_millis(200);
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    capture.beat();
    within(&world.pod, || connect("10.77.0.2:8080")).unwrap();
    accept(&outbound.v4);
    thread::sleep(Duration::from_millis(300));
    let error = within(&world.pod, || connect("10.77.0.2:8080")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    capture.beat();
    within(&world.pod, || connect("10.77.0.2:8080")).unwrap();
    capture.detach().unwrap();
}

#[test]
fn what_cannot_be_captured_follows_the_fail_mode() {
    let world = World::new();
    let (capture, _outbound, _inbound) = captured(&world, FailMode::Closed);
    let server = within(&world.outside, || listen("10.77.0.2:8080", 9));
    let bound = within(&world.pod, || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind_device(Some(b"eth0")).unwrap();
        socket.connect_timeout(&address("10.77.0.2:8080").into(), PATIENCE)
    });
    assert_eq!(bound.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(world.counts(&capture).uncapturable, 1);
    assert!(is_idle(&server));
    capture.detach().unwrap();
}

/// The hook sees the TCP subflow of an MPTCP socket, so the application is captured like any other; the agent's listener
/// speaks TCP and the kernel falls back.
#[test]
fn multipath_tcp_is_captured_as_tcp() {
    let world = World::new();
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    let mut application = within(&world.pod, || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::from(262))).unwrap();
        socket.connect_timeout(&address("10.77.0.2:8080").into(), PATIENCE).unwrap();
        socket
    });
    let (mut agent, _) = accept(&outbound.v4);
    assert_eq!(capture.original_destinations().read(agent.as_fd()), Some(address("10.77.0.2:8080")));
    application.write_all(b"hi").unwrap();
    agent.read_exact(&mut [0; 2]).unwrap();
    println!("getpeername of an MPTCP socket: {}", peer(&application));
    drop((application, agent));
    no_flows_stay(&capture);
    capture.detach().unwrap();
}

#[test]
fn reading_a_destination_is_cheap() {
    let world = World::new();
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    let _application = within(&world.pod, || connect("10.77.0.2:8080").unwrap());
    let (agent, _) = accept(&outbound.v4);
    let destinations = capture.original_destinations();
    let begin = Instant::now();
    for _ in 0..100_000 {
        assert!(destinations.read(agent.as_fd()).is_some());
    }
    let each = begin.elapsed() / 100_000;
    println!("OriginalDestinations::read: {each:?} a connection");
    assert!(each < Duration::from_micros(20), "{each:?}");
    capture.detach().unwrap();
}
