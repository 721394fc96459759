//! Pods that are not captured, found by their control groups: refused where they are strict or may be; and what the kernel tells
//! of control groups.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use agent_common::CgroupChange;
use posthaste::{
    bpf::{Capture, GroupEvent, Judgement, Judgements},
    observe::monotonic_ns,
    snapshot::FailMode,
};
use socket2::Socket;

use crate::{
    captured,
    world::{PATIENCE, World, accept, connect, is_idle, listen, within},
};

const UID: &str = "4f0e0b9c-1d2e-4a5b-8c7d-0123456789ab";

/// A pod's folder as kubelet's `cgroupfs` driver makes it, with a container.
pub(crate) struct Group {
    root: PathBuf,
    pod: PathBuf,
}

impl Group {
    pub(crate) fn make(world: &World) -> Self {
        let root = world.config.cgroup_root.clone();
        let pod = root.join(format!("kubepods/burstable/pod{UID}"));
        fs::create_dir_all(pod.join("container")).unwrap();
        Self { root, pod }
    }

    /// Moves this process into the container.
    pub(crate) fn enter(&self) {
        fs::write(self.pod.join("container/cgroup.procs"), std::process::id().to_string()).unwrap();
    }

    pub(crate) fn leave(&self) {
        fs::write(self.root.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    }

    pub(crate) fn judgements(&self, judgement: Option<Judgement>) -> Judgements {
        let pod = id(&self.pod);
        Judgements {
            has_strict: true,
            read_ns: monotonic_ns(),
            groups: BTreeSet::from([
                id(&self.root.join("kubepods")),
                id(&self.root.join("kubepods/burstable")),
            ]),
            pods: judgement.map(|judgement| (pod, judgement)).into_iter().collect(),
            present: BTreeSet::from([pod]),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.leave();
        for folder in [
            &self.pod.join("container"),
            &self.pod,
            &self.root.join("kubepods/burstable"),
            &self.root.join("kubepods"),
        ] {
            let _gone = fs::remove_dir(folder);
        }
    }
}

fn id(folder: &Path) -> u64 {
    fs::metadata(folder).unwrap().ino()
}

pub(crate) fn judge(capture: &mut Capture, wanted: &Judgements) -> (u64, u64) {
    let (counts, problems) = capture.judge(wanted, monotonic_ns());
    assert_eq!(problems, []);
    let pods = counts.iter().filter(|(id, _)| !wanted.groups.contains(id));
    pods.fold((0, 0), |(refused, passed), (_, counts)| (refused + counts.refused, passed + counts.passed))
}

pub(crate) fn straight(world: &World) -> std::io::Result<Socket> {
    within(&world.pod, || connect("10.77.0.2:8080"))
}

pub(crate) fn is_refused(world: &World) -> bool {
    straight(world).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn a_strict_pod_is_refused_until_it_is_captured() {
    let world = World::new();
    let group = Group::make(&world);
    let server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let mut capture = world.capture();
    capture.beat();
    group.enter();
    straight(&world).unwrap();
    accept(&server);
    let strict = group.judgements(Some(Judgement::Strict { fail_open: false }));
    judge(&mut capture, &strict);
    assert!(is_refused(&world) && is_refused(&world));
    within(&world.pod, || connect("10.77.0.1:9")).unwrap_err();
    assert_eq!(
        within(&world.pod, || connect("127.0.0.1:9")).unwrap_err().kind(),
        ErrorKind::ConnectionRefused,
        "loopback is nobody's business"
    );
    assert_eq!(judge(&mut capture, &strict).0, 3);
    // A process of the node in the same network namespace is not of the pod.
    group.leave();
    straight(&world).unwrap();
    accept(&server);
    group.enter();
    assert!(is_refused(&world));
    drop(capture);
    assert!(is_refused(&world), "also when the agent has crashed");
    {
        let (mut capture, outbound, _inbound) = captured(&world, FailMode::Closed);
        judge(&mut capture, &strict);
        straight(&world).unwrap();
        accept(&outbound.v4);
        judge(&mut capture, &group.judgements(Some(Judgement::Free)));
        assert_eq!(capture.apply(&[], &[]), []);
        straight(&world).unwrap();
        accept(&server);
        assert!(is_idle(&server));
        capture.detach().unwrap();
    }
    straight(&world).unwrap();
}

#[test]
fn a_strict_pod_that_fails_open_is_let_go_without_an_agent_only() {
    let world = World::new();
    let group = Group::make(&world);
    let _server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let mut capture = world.capture();
    let open = group.judgements(Some(Judgement::Strict { fail_open: true }));
    judge(&mut capture, &open);
    group.enter();
    straight(&world).unwrap();
    capture.beat();
    assert!(is_refused(&world));
    assert_eq!(judge(&mut capture, &open), (1, 1));
    capture.detach().unwrap();
}

#[test]
fn a_pod_that_nobody_knows_is_refused_for_a_while_where_something_is_strict() {
    let mut world = World::new();
    world.config.unknown_pod_limit = Some(Duration::from_secs(1));
    let group = Group::make(&world);
    let _server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let mut capture = world.capture();
    capture.beat();
    group.enter();
    judge(&mut capture, &Judgements { has_strict: false, ..group.judgements(None) });
    straight(&world).unwrap();
    judge(&mut capture, &group.judgements(None));
    assert!(is_refused(&world));
    let end = Instant::now() + PATIENCE;
    while is_refused(&world) {
        assert!(Instant::now() < end, "refused for ever");
        thread::sleep(Duration::from_millis(50));
    }
    let (refused, passed) = judge(&mut capture, &group.judgements(None));
    assert!(refused > 1 && passed == 1, "{refused} {passed}");
    // Judged now, with what was counted.
    judge(&mut capture, &group.judgements(Some(Judgement::Free)));
    straight(&world).unwrap();
    assert_eq!(judge(&mut capture, &group.judgements(Some(Judgement::Free))), (refused, passed));
    capture.detach().unwrap();
}

#[test]
fn a_pod_that_nobody_knows_is_refused_until_it_is_judged_also_without_room_for_it() {
    let mut world = World::new();
    world.config.max_pods = 1;
    let group = Group::make(&world);
    let _server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let mut capture = world.capture();
    group.enter();
    let mut full = group.judgements(None);
    // Four groups for each pod that there may be.
    full.groups.extend([u64::MAX, u64::MAX - 1]);
    judge(&mut capture, &full);
    assert!(is_refused(&world) && is_refused(&world), "no room");
    assert_eq!(judge(&mut capture, &full), (2, 0));
    judge(&mut capture, &group.judgements(None));
    assert!(is_refused(&world) && is_refused(&world), "room");
    assert_eq!(judge(&mut capture, &group.judgements(None)), (4, 0));
    judge(&mut capture, &group.judgements(Some(Judgement::Free)));
    straight(&world).unwrap();
    capture.detach().unwrap();
}

/// Kubelet makes the folder of all pods, and a pod in it, faster than the agent reads.
#[test]
fn a_folder_of_pods_that_nobody_has_read_yet_holds_what_may_be_in_it() {
    let world = World::new();
    let _server = within(&world.outside, || listen("10.77.0.2:8080", 99));
    let mut capture = world.capture();
    let unread = Judgements { has_strict: true, ..Judgements::default() };
    judge(&mut capture, &unread);
    // Of another part of the hierarchy.
    let elsewhere = world.config.cgroup_root.with_extension("elsewhere");
    fs::create_dir_all(elsewhere.join("kubepods")).unwrap();
    fs::remove_dir(elsewhere.join("kubepods")).unwrap();
    fs::remove_dir(&elsewhere).unwrap();
    assert_eq!(capture.folder_made_ns(), 0);
    straight(&world).unwrap();
    let group = Group::make(&world);
    group.enter();
    assert!(capture.folder_made_ns() > 0);
    assert!(is_refused(&world) && is_refused(&world));
    let read = Judgements { read_ns: monotonic_ns() + 1_000_000_000, ..unread };
    assert_eq!(judge(&mut capture, &read), (2, 0));
    straight(&world).unwrap();
    capture.detach().unwrap();
}

#[test]
fn the_kernel_tells_of_groups() {
    let world = World::new();
    let mut capture = world.capture();
    let mut events = capture.take_events().expect("this kernel has the tracepoints");
    assert!(capture.take_events().is_none());
    let group = Group::make(&world);
    let container = group.pod.join("container");
    let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
    fs::write(container.join("cgroup.procs"), process.id().to_string()).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    drop(group);
    let end = Instant::now() + PATIENCE;
    let mut seen: Vec<GroupEvent> = Vec::new();
    let name = format!("/{}/", world.config.cgroup_root.file_name().unwrap().to_str().unwrap());
    let of_container = |event: &GroupEvent| event.path.contains(&name) && event.path.ends_with("/container");
    loop {
        seen.extend(events.drain().into_iter().filter(of_container));
        if seen.iter().any(|event| event.change == CgroupChange::Removed) {
            break;
        }
        assert!(Instant::now() < end, "{seen:?}");
        thread::sleep(Duration::from_millis(5));
    }
    let changes: Vec<CgroupChange> = seen.iter().map(|event| event.change).collect();
    use CgroupChange::{Emptied, Made, Populated, Removed};
    assert_eq!(changes, [Made, Populated, Emptied, Removed]);
    assert!(seen.iter().all(|event| event.path.contains(UID)));
    assert!(seen.windows(2).all(|pair| pair[0].at_ns <= pair[1].at_ns));
    capture.detach().unwrap();
}
