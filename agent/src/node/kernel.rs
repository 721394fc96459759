//! The capture as the node shares it: the one task that changes it, and whoever looks at it.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    bpf::{
        Capture, CaptureError, CaptureStatus, GroupEvents, Heartbeat, HeldCounts, Inbound, Judged,
        Judgements, OriginalDestinations, Outbound, PodCounts, WantedPod,
    },
    observe::{
        monotonic_ns,
        views::{CaptureCount, CaptureView, MapView, ProgramView},
    },
    snapshot::{Problem, Snapshot},
};

/// A handle; cheap to clone. Empty after [`Kernel::release`].
#[derive(Clone)]
pub struct Kernel(Arc<Mutex<Option<Capture>>>);

impl Kernel {
    /// Shares a capture.
    #[must_use]
    pub fn new(capture: Capture) -> Self {
        Self(Arc::new(Mutex::new(Some(capture))))
    }

    /// Makes the kernel follow; see [`Capture::apply`].
    #[must_use]
    pub fn apply(&self, wanted: &[WantedPod], node_addresses: &[IpAddr]) -> Vec<Problem> {
        self.lock().as_mut().map_or_else(Vec::new, |capture| capture.apply(wanted, node_addresses))
    }

    /// Holds or lets go pods that are not captured; see [`Capture::judge`].
    #[must_use]
    pub fn judge(&self, wanted: &Judgements) -> (BTreeMap<u64, HeldCounts>, Vec<Problem>) {
        let mut capture = self.lock();
        capture.as_mut().map_or_else(Default::default, |capture| capture.judge(wanted, monotonic_ns()))
    }

    /// When a folder of all pods was last made; see [`Capture::folder_made_ns`].
    #[must_use]
    pub fn folder_made_ns(&self) -> u64 {
        self.lock().as_ref().map_or(0, Capture::folder_made_ns)
    }

    /// Control groups as they come and go, once; none where the kernel does not tell.
    #[must_use]
    pub fn take_events(&self) -> Option<GroupEvents> {
        self.lock().as_mut().and_then(Capture::take_events)
    }

    /// A clean stop: nothing of ours is left in the kernel.
    ///
    /// # Errors
    /// A pin could not be removed; the others are.
    pub fn release(&self) -> Result<(), CaptureError> {
        let capture = self.lock().take();
        capture.map_or(Ok(()), Capture::detach)
    }

    /// Beats, or stops beating; none after the release.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Heartbeat> {
        self.lock().as_ref().map(Capture::heartbeat)
    }

    /// Uids of the pods that are captured now.
    #[must_use]
    pub fn captured(&self) -> HashSet<String> {
        let counters = self.lock().as_ref().map(Capture::counters).unwrap_or_default();
        counters.into_iter().filter_map(|counts| counts.uid).collect()
    }

    /// The reader of original destinations; none after the release.
    #[must_use]
    pub fn original_destinations(&self) -> Option<OriginalDestinations> {
        self.lock().as_ref().map(Capture::original_destinations)
    }

    /// Brings what the programs have logged to the agent's log; their ring holds only so much.
    pub fn drain_log(&self) {
        if let Some(capture) = &mut *self.lock() {
            capture.drain_log();
        }
    }

    /// What the programs would do with a connection that the pod makes; none where the kernel does not have the pod.
    #[must_use]
    pub fn judge_outbound(&self, uid: &str, destination: SocketAddr) -> Option<Judged<Outbound>> {
        self.lock().as_ref()?.judge_outbound(uid, destination)
    }

    /// What they would do with a connection to the pod.
    #[must_use]
    pub fn judge_inbound(&self, uid: &str, client: IpAddr, address: SocketAddr) -> Option<Judged<Inbound>> {
        self.lock().as_ref()?.judge_inbound(uid, client, address)
    }

    /// Where pods sent UDP; see [`Capture::udp_flows`].
    #[must_use]
    pub fn udp_flows(&self) -> Vec<(String, SocketAddr, u64)> {
        self.lock().as_ref().map(Capture::udp_flows).unwrap_or_default()
    }

    /// What people see of it.
    #[must_use]
    pub fn view(&self, snapshot: &Snapshot) -> CaptureView {
        let (status, counters, meanwhile) = match &*self.lock() {
            Some(capture) => (capture.status(), capture.counters(), capture.meanwhile()),
            None => return CaptureView { state: "released".to_owned(), ..CaptureView::default() },
        };
        CaptureView {
            state: state(&status).to_owned(),
            programs: status.hooks.iter().map(program).collect(),
            maps: status.maps.iter().map(map).collect(),
            pods: counters.iter().map(|counts| count(snapshot, counts)).collect(),
            meanwhile: meanwhile.iter().map(|counts| count(snapshot, counts)).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Capture>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state(status: &CaptureStatus) -> &'static str {
    match status.hooks.iter().all(|hook| hook.program.is_some()) {
        true if status.without_room == 0 => "attached",
        true => "a map is full",
        false => "a hook is missing",
    }
}

fn program(hook: &crate::bpf::HookStatus) -> ProgramView {
    ProgramView { name: hook.pin.clone(), links: usize::from(hook.link.is_some()) }
}

fn map(map: &crate::bpf::MapStatus) -> MapView {
    MapView { name: map.name.to_owned(), entries: map.entries, capacity: u64::from(map.room) }
}

fn count(snapshot: &Snapshot, counts: &PodCounts) -> CaptureCount {
    let pod = counts.uid.as_ref().and_then(|uid| snapshot.local_pods.get(uid.as_str()));
    let name = || counts.uid.as_ref().map_or_else(|| format!("netns {}", counts.cookie), ToString::to_string);
    CaptureCount {
        namespace: pod.map(|pod| pod.workload.namespace.to_string()).unwrap_or_default(),
        pod: pod.map_or_else(name, |pod| pod.workload.name.to_string()),
        captured: counts.captured_outbound + counts.captured_inbound,
        refused: counts.refused_outbound + counts.refused_inbound,
        passed: counts.passed_outbound + counts.passed_inbound,
        excluded: counts.excluded_outbound + counts.excluded_inbound,
        map_full: counts.map_full,
        uncapturable: counts.uncapturable,
        udp_flows: counts.udp_flows,
        quic_flows: counts.quic_flows,
    }
}
