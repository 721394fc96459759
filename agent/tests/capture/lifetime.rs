//! Agents and pods that come and go, and what they leave; full maps; the requirements.

use std::{
    io::Write,
    os::fd::AsFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use posthaste::{
    bpf::{CaptureStatus, WantedPod, probe},
    snapshot::FailMode,
};
use socket2::{Domain, Socket, Type};

use crate::{
    captured, flows, no_flows_stay,
    world::{Inbound, World, accept, address, connect, cookie, is_idle, listen, local, new_netns, within},
};

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
    let links = |status: &CaptureStatus| status.hooks.iter().map(|hook| hook.link).collect::<Vec<_>>();
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
    assert_eq!(status.hooks.len(), 7);
    let links: Vec<_> = status.hooks.iter().filter_map(|hook| hook.link).collect();
    assert_eq!(links.len(), 7);
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
        let other = WantedPod {
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
    let other = WantedPod {
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
    assert!(lines_of(|| capture.drain_log()).contains("raise max_flows"));
    drop(waiting);
    drop(slow);
    no_flows_stay(&capture);
    capture.detach().unwrap();
}

#[test]
fn this_machine_has_what_capture_needs() {
    let missing: Vec<_> = probe().into_iter().filter(|requirement| !requirement.found).collect();
    assert_eq!(missing, []);
}

/// What is logged meanwhile.
fn lines_of(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = lines.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}
