//! Capture against the real kernel: needs root, cgroup v2 and `ip`; a machine that cannot run it fails it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::{
    io::{ErrorKind, Read, Write},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use posthaste::{bpf::Capture, snapshot::FailMode};
use socket2::{Domain, Protocol, Socket, Type};
use world::{
    Inbound, MARK, Outbound, World, accept, address, connect, cookie, is_idle, listen, local, new_netns,
    peer, within,
};

/// A captured pod with an agent that lives.
fn captured(world: &World, fail_mode: FailMode) -> (Capture, Outbound, Inbound) {
    let (outbound, inbound) = (Outbound::open(world), Inbound::open(world));
    let mut capture = world.capture();
    capture.beat();
    let node = ["10.77.0.3".parse().unwrap()];
    assert_eq!(capture.apply(&[world.wanted(fail_mode, &inbound)], &node), []);
    (capture, outbound, inbound)
}

fn flows(capture: &Capture) -> u64 {
    capture.status().maps.iter().find(|map| map.name == "FLOWS").unwrap().entries
}

/// Waits until the kernel has forgotten every flow.
fn no_flows_stay(capture: &Capture) {
    let end = Instant::now() + world::PATIENCE;
    while flows(capture) > 0 {
        assert!(Instant::now() < end, "{} flows stay", flows(capture));
        thread::sleep(Duration::from_millis(10));
    }
}

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
    });
    assert!(is_idle(&outbound.v4) && is_idle(&outbound.v6));
    let counts = world.counts(&capture);
    assert_eq!((counts.excluded_outbound, counts.udp_connects, counts.captured_outbound), (1, 1, 0));
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
    let answer = unsafe { libc::connect(std::os::fd::AsRawFd::as_raw_fd(socket), &raw const nothing, 16) };
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
        socket.connect_timeout(&address("10.77.0.1:7777").into(), world::PATIENCE).unwrap();
        socket
    });
    assert_eq!(accept(&server).1, local(&delivery));
    let probe = || {
        within(&world.outside, || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&address("10.77.0.3:0").into()).unwrap();
            socket.connect_timeout(&address("10.77.0.1:7777").into(), world::PATIENCE).unwrap();
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
    let none = posthaste::bpf::PodListeners { v4: None, v6: None };
    let deaf = posthaste::bpf::WantedPod { listeners: none.into(), ..sockets };
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

#[test]
fn the_next_agent_takes_over_and_reports_the_meantime_once() {
    let world = World::new();
    let (capture, outbound, inbound) = captured(&world, FailMode::Closed);
    let server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let before = capture.status();
    // A crash: the sockets go, the pins stay.
    drop((capture, outbound, inbound));
    for _ in 0..3 {
        within(&world.pod, || connect("10.77.0.2:8080")).unwrap_err();
    }
    within(&world.outside, || connect("10.77.0.1:7777")).unwrap_err();
    let (capture, outbound, inbound) = captured(&world, FailMode::Closed);
    let meanwhile = capture.meanwhile();
    assert_eq!(meanwhile.len(), 1, "{meanwhile:?}");
    assert_eq!((meanwhile[0].refused_outbound, meanwhile[0].refused_inbound), (3, 1));
    assert_eq!(meanwhile[0].uid.as_deref(), Some("shop/web"));
    within(&world.pod, || connect("10.77.0.2:8080")).unwrap();
    let (agent, _) = accept(&outbound.v4);
    assert_eq!(capture.original_destinations().read(agent.as_fd()), Some(address("10.77.0.2:8080")));
    within(&world.outside, || connect("10.77.0.1:7777")).unwrap();
    accept(&inbound.v4);
    let after = capture.status();
    let links = |status: &posthaste::bpf::CaptureStatus| {
        status.hooks.iter().map(|hook| hook.link).collect::<Vec<_>>()
    };
    assert_eq!(links(&before), links(&after), "the same links");
    assert!(
        before.hooks.iter().zip(&after.hooks).all(|(old, new)| old.program != new.program),
        "new programs"
    );
    drop((capture, outbound, inbound));
    let (capture, ..) = captured(&world, FailMode::Closed);
    assert_eq!(capture.meanwhile(), [], "reported once");
    assert!(is_idle(&server), "nothing went straight");
    capture.detach().unwrap();
}

#[test]
fn a_closed_pod_never_leaks_while_agents_come_and_go() {
    let world = World::new();
    let (capture, ..) = captured(&world, FailMode::Closed);
    drop(capture);
    let outside = within(&world.outside, || listen("10.77.0.2:8080", 999));
    let inside = within(&world.pod, || listen("10.77.0.1:7777", 999));
    let stop = AtomicBool::new(false);
    let attempts = thread::scope(|scope| {
        let knock = |netns, to: &'static str| {
            let stop = &stop;
            scope.spawn(move || {
                within(netns, || {
                    let mut attempts = 0;
                    while !stop.load(Ordering::Relaxed) && attempts < 200_000 {
                        let _refused_or_captured = connect(to);
                        attempts += 1;
                    }
                    attempts
                })
            })
        };
        let workers = [knock(&world.pod, "10.77.0.2:8080"), knock(&world.outside, "10.77.0.1:7777")];
        for _ in 0..10 {
            drop(captured(&world, FailMode::Closed));
        }
        stop.store(true, Ordering::Relaxed);
        workers.map(|worker| worker.join().unwrap())
    });
    assert!(is_idle(&outside) && is_idle(&inside), "after {attempts:?} attempts");
    assert!(attempts.iter().all(|attempts| *attempts > 10), "{attempts:?}");
    let capture = world.capture();
    no_flows_stay(&capture);
    capture.detach().unwrap();
}

#[test]
fn a_pod_that_leaves_or_a_clean_stop_leaves_no_trace() {
    let world = World::new();
    let (mut capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    let server = within(&world.outside, || listen("10.77.0.2:8080", 9));
    let inside = within(&world.pod, || listen("10.77.0.1:7777", 9));
    let straight = || {
        let application = within(&world.pod, || connect("10.77.0.2:8080").unwrap());
        assert_eq!(accept(&server).1, local(&application));
        let client = within(&world.outside, || connect("10.77.0.1:7777").unwrap());
        assert_eq!(accept(&inside).1, local(&client));
    };
    assert_eq!(capture.apply(&[], &[]), []);
    straight();
    let status = capture.status();
    assert_eq!(status.pods, 0);
    assert!(status.maps.iter().all(|map| map.entries == 0), "{:?}", status.maps);
    assert_eq!(status.hooks.len(), 5);
    let links: Vec<_> = status.hooks.iter().filter_map(|hook| hook.link).collect();
    assert_eq!(links.len(), 5);
    capture.detach().unwrap();
    assert!(!world.config.bpffs_dir.exists());
    for link in aya::programs::loaded_links().filter_map(Result::ok) {
        assert!(!links.contains(&link.id()), "link {} stays", link.id());
    }
    straight();
    assert!(is_idle(&outbound.v4));
}

#[test]
fn a_pod_whose_namespace_is_gone_is_cleaned_up() {
    let world = World::new();
    let (capture, ..) = captured(&world, FailMode::Closed);
    let mut capture = {
        drop(capture);
        let (mut capture, _outbound, inbound) = captured(&world, FailMode::Closed);
        let brief = new_netns();
        let other = posthaste::bpf::WantedPod {
            cookie: cookie(&brief),
            netns: brief.into(),
            ..world.wanted(FailMode::Closed, &inbound)
        };
        assert_eq!(capture.apply(&[world.wanted(FailMode::Closed, &inbound), other], &[]), []);
        assert_eq!(capture.status().pods, 2);
        drop(capture);
        // The namespace goes when the last descriptor does; the kernel takes a moment.
        thread::sleep(Duration::from_millis(300));
        world.capture()
    };
    assert_eq!(capture.status().pods, 2);
    let inbound = Inbound::open(&world);
    assert_eq!(capture.apply(&[world.wanted(FailMode::Closed, &inbound)], &[]), []);
    assert_eq!(capture.status().pods, 1);
    assert_eq!(std::fs::read_dir(world.config.bpffs_dir.join("pods")).unwrap().count(), 1);
    capture.detach().unwrap();
}

#[test]
fn a_full_map_is_told_and_counted() {
    let mut world = World::new();
    world.config.max_flows = 2;
    world.config.max_pods = 1;
    let inbound = Inbound::open(&world);
    let slow = within(&world.pod, || listen("127.0.0.1:15001", 0));
    let mut capture = world.capture();
    capture.beat();
    let other = new_netns();
    let other = posthaste::bpf::WantedPod {
        cookie: cookie(&other),
        netns: other.into(),
        uid: "shop/second".into(),
        ..world.wanted(FailMode::Closed, &inbound)
    };
    let wanted = [world.wanted(FailMode::Closed, &inbound), other];
    let problems = capture.apply(&wanted, &[]);
    assert!(problems.iter().any(|problem| problem.reason.contains("raise max_pods")), "{problems:?}");
    assert!(capture.status().without_room > 0);
    assert_eq!(capture.status().pods, 1);
    assert_eq!(capture.apply(&wanted[..1], &[]), []);
    // Nobody accepts: the handshakes wait and their flows pile up.
    let waiting: Vec<Socket> = within(&world.pod, || {
        (0..8)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _in_progress = socket.connect(&address("10.77.0.2:8080").into());
                socket
            })
            .collect()
    });
    let has = capture.status().pods;
    let counted = capture.counters().iter().map(|counts| counts.map_full).sum::<u64>();
    assert!(counted > 0, "pods {has}, flows {}", flows(&capture));
    capture.drain_log();
    drop(waiting);
    drop(slow);
    no_flows_stay(&capture);
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
        socket.connect_timeout(&address("10.77.0.2:8080").into(), world::PATIENCE)
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
        socket.connect_timeout(&address("10.77.0.2:8080").into(), world::PATIENCE).unwrap();
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

#[test]
fn this_machine_has_what_capture_needs() {
    let missing: Vec<_> =
        posthaste::bpf::probe().into_iter().filter(|requirement| !requirement.found).collect();
    assert_eq!(missing, []);
}
