//! What connects to a pod.

use std::io::{ErrorKind, Read, Write};

use posthaste::{
    bpf::{PodListeners, WantedPod},
    snapshot::FailMode,
};
use socket2::{Domain, Socket, Type};

use crate::{
    captured,
    world::{self, MARK, PATIENCE, World, accept, address, connect, is_idle, listen, local, within},
};

#[test]
fn inbound_connections_are_steered_whatever_their_port() {
    let world = World::new();
    let (capture, _outbound, inbound) = captured(&world, FailMode::Closed);
    for (to, from, listener) in [
        ("10.77.0.1:7777", "10.77.0.2", &inbound.v4),
        ("10.77.0.1:15008", "10.77.0.2", &inbound.v4),
        ("[fd77::1]:7777", "fd77::2", &inbound.v6),
    ] {
        let mut client = within(&world.outside, || connect(to).unwrap());
        let (mut agent, from_whom) = accept(listener);
        assert_eq!(local(&agent), address(to));
        assert_eq!(from_whom, local(&client));
        assert_eq!(from_whom.ip(), from.parse::<std::net::IpAddr>().unwrap());
        client.write_all(b"hi").unwrap();
        agent.read_exact(&mut [0; 2]).unwrap();
    }
    assert_eq!(world.counts(&capture).captured_inbound, 3);
    capture.detach().unwrap();
}

#[test]
fn inbound_delivery_probes_and_excluded_ports_pass() {
    let world = World::new();
    let (capture, _outbound, inbound) = captured(&world, FailMode::Closed);
    let (server, excluded) =
        within(&world.pod, || (listen("10.77.0.1:7777", 9), listen("10.77.0.1:9191", 9)));
    let delivery = within(&world.pod, || {
        world::allow_delivery(MARK + 1);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_mark(MARK + 1).unwrap();
        socket.set_ip_transparent_v4(true).unwrap();
        socket.bind_device(Some(b"lo")).unwrap();
        socket.bind(&address("10.77.0.2:0").into()).unwrap();
        socket.connect_timeout(&address("10.77.0.1:7777").into(), PATIENCE).unwrap();
        socket
    });
    assert_eq!(accept(&server).1, local(&delivery));
    let probe = || {
        within(&world.outside, || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&address("10.77.0.3:0").into()).unwrap();
            socket.connect_timeout(&address("10.77.0.1:7777").into(), PATIENCE).unwrap();
            socket
        })
    };
    let first = probe();
    assert_eq!(accept(&server).1, local(&first));
    capture.heartbeat().stop();
    let second = probe();
    assert_eq!(accept(&server).1, local(&second), "probes pass without an agent too");
    let client = within(&world.outside, || connect("10.77.0.1:9191").unwrap());
    assert_eq!(accept(&excluded).1, local(&client));
    assert!(is_idle(&inbound.v4));
    let counts = world.counts(&capture);
    assert_eq!((counts.node_inbound, counts.excluded_inbound, counts.captured_inbound), (2, 1, 0));
    capture.detach().unwrap();
}

#[test]
fn without_an_agent_the_fail_mode_decides_inbound() {
    let world = World::new();
    let (mut capture, _outbound, inbound) = captured(&world, FailMode::Closed);
    let server = within(&world.pod, || listen("10.77.0.1:7777", 9));
    let refused = || {
        let error = within(&world.outside, || connect("10.77.0.1:7777")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    };
    capture.heartbeat().stop();
    refused();
    capture.beat();
    let sockets = world.wanted(FailMode::Closed, &inbound);
    let none = PodListeners { v4: None, v6: None };
    let deaf = WantedPod { listeners: none.into(), ..sockets };
    assert_eq!(capture.apply(&[deaf], &[]), []);
    refused();
    capture.heartbeat().stop();
    assert_eq!(capture.apply(&[world.wanted(FailMode::Open, &inbound)], &[]), []);
    let client = within(&world.outside, || connect("10.77.0.1:7777").unwrap());
    assert_eq!(accept(&server).1, local(&client));
    let counts = world.counts(&capture);
    assert_eq!((counts.refused_inbound, counts.passed_inbound), (2, 1));
    capture.detach().unwrap();
}
