//! The boot guard's hooks: what they hold before there is an agent, and that nothing leaves while one takes them over.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use posthaste::{
    bpf::{Capture, Guarded, Judgement, Judgements, Unjudged},
    observe::monotonic_ns,
    snapshot::FailMode,
};

use crate::{
    captured,
    unenrolled::{Group, is_refused, judge, straight},
    world::{PATIENCE, World, accept, connect, is_idle, listen, within},
};

/// A node without pods.
fn bare() -> Unjudged {
    let judgements = Judgements { has_strict: true, read_ns: monotonic_ns(), ..Judgements::default() };
    Unjudged { judgements, beyond_groups: false }
}

/// Attaches a guard whose node is the namespace outside the pod.
fn guard(world: &World, unjudged: Unjudged) -> Guarded {
    within(&world.outside, || Capture::guard(&world.config, || unjudged)).unwrap()
}

fn agent(world: &World) -> Capture {
    within(&world.outside, || world.capture())
}

#[test]
fn a_pod_is_held_from_before_kubelet_until_an_agent_has_judged_it() {
    let world = World::new();
    let server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let inside = within(&world.pod, || listen("10.77.0.1:7777", 99));
    assert_eq!(guard(&world, bare()), Guarded::Pods);
    // No folder of pods was made yet: what else has a network namespace of its own is nobody's business.
    straight(&world).unwrap();
    accept(&server);
    let group = Group::make(&world);
    group.enter();
    assert!(is_refused(&world) && is_refused(&world));
    within(&world.outside, || connect("10.77.0.1:7777")).expect("the node itself is never held");
    accept(&inside);
    let mut capture = agent(&world);
    assert!(capture.took_over());
    assert!(is_refused(&world), "an agent that has read nothing");
    let strict = group.judgements(Some(Judgement::Strict { fail_open: false }));
    assert_eq!(judge(&mut capture, &strict), (3, 0), "told by the agent");
    assert!(is_refused(&world));
    judge(&mut capture, &group.judgements(Some(Judgement::Free)));
    straight(&world).unwrap();
    accept(&server);
    capture.detach().unwrap();
    assert!(!world.config.bpffs_dir.exists());
    straight(&world).unwrap();
}

#[test]
fn folders_that_are_there_already_are_held_too() {
    let world = World::new();
    let _server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let group = Group::make(&world);
    group.enter();
    straight(&world).unwrap();
    let unjudged = || Unjudged { judgements: group.judgements(None), beyond_groups: false };
    assert_eq!(guard(&world, unjudged()), Guarded::Pods);
    assert!(is_refused(&world));
    group.leave();
    straight(&world).expect("in no folder of pods");
    // What an administrator does who wants none of it.
    fs::remove_dir_all(&world.config.bpffs_dir).unwrap();
    group.enter();
    let end = Instant::now() + PATIENCE;
    while is_refused(&world) {
        assert!(Instant::now() < end, "held for ever");
        thread::sleep(Duration::from_millis(10));
    }
    // Pods in the groups of version 1.
    let unjudged = Unjudged { beyond_groups: true, ..bare() };
    group.leave();
    assert_eq!(guard(&world, unjudged), Guarded::EverythingButTheNode);
    assert!(is_refused(&world));
    agent(&world).detach().unwrap();
    straight(&world).unwrap();
}

#[test]
fn nothing_leaves_a_strict_pod_while_agents_take_over_from_a_guard() {
    let world = World::new();
    let server = within(&world.outside, || listen("10.77.0.2:8080", 999));
    guard(&world, bare());
    let group = Group::make(&world);
    group.enter();
    let stop = AtomicBool::new(false);
    let (attempts, reached) = thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            within(&world.pod, || {
                let mut attempts = 0;
                while !stop.load(Ordering::Relaxed) && attempts < 200_000 {
                    let _refused_or_captured = connect("10.77.0.2:8080");
                    attempts += 1;
                }
                attempts
            })
        });
        // Agents that die before they have read anything, then one that captures the pod.
        for _ in 0..5 {
            drop(agent(&world));
        }
        let (mut capture, outbound, inbound) = captured(&world, FailMode::Closed);
        let strict = group.judgements(Some(Judgement::Strict { fail_open: false }));
        judge(&mut capture, &strict);
        let (reached, _) = accept(&outbound.v4);
        stop.store(true, Ordering::Relaxed);
        let attempts = knocking.join().unwrap();
        drop((inbound, outbound));
        capture.detach().unwrap();
        (attempts, reached)
    });
    drop(reached);
    assert!(is_idle(&server), "after {attempts} attempts");
    assert!(attempts > 10, "{attempts}");
}

#[test]
fn whoever_comes_second_changes_nothing() {
    let world = World::new();
    let _server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let mut capture = agent(&world);
    let group = Group::make(&world);
    group.enter();
    judge(&mut capture, &group.judgements(Some(Judgement::Free)));
    let before = capture.status();
    assert_eq!(guard(&world, bare()), Guarded::AlreadyThere);
    assert_eq!(capture.status().hooks, before.hooks);
    straight(&world).unwrap();
    capture.detach().unwrap();
    let all = thread::scope(|scope| {
        let guards = [(); 4].map(|()| scope.spawn(|| guard(&world, bare())));
        guards.map(|guard| guard.join().unwrap())
    });
    assert_eq!(all.iter().filter(|one| **one == Guarded::Pods).count(), 1, "{all:?}");
    // One of a guard's hooks went missing: the next one brings it.
    fs::remove_file(world.config.bpffs_dir.join("hooks/on_connect4")).unwrap();
    assert_eq!(guard(&world, bare()), Guarded::Pods);
    // An agent that starts in the same moment as a guard has all of it, whoever was first.
    agent(&world).detach().unwrap();
    let capture = thread::scope(|scope| {
        let guard = scope.spawn(|| guard(&world, bare()));
        let capture = agent(&world);
        guard.join().unwrap();
        capture
    });
    assert!(capture.status().hooks.iter().all(|hook| hook.program.is_some()));
    capture.detach().unwrap();
}

#[test]
fn a_guard_that_fails_leaves_nothing() {
    let mut world = World::new();
    let cgroup = world.config.cgroup_root.clone();
    world.config.cgroup_root = cgroup.join("nothing-here");
    let error = Capture::guard(&world.config, bare).unwrap_err().to_string();
    assert!(error.contains("nothing-here"), "{error}");
    assert!(!world.config.bpffs_dir.exists());
    world.config.cgroup_root = cgroup;
    assert!(!is_refused(&world));
}
