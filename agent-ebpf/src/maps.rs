//! The maps, the settings fixed at load time, and the few look-ups that more than one program makes. The sizes here are
//! place holders: the agent sets them from its configuration and pins the maps, so that they outlive it.

use agent_common::{
    Address, COUNTERS, Counter, Destination, Direction, ExcludedPort, FlowKey, Judging, ListenerKey,
    NewFolder, PodCounters, PodSettings, Root, Standing, UdpFlow, cgroup_event::PATH_BYTES, liveness,
};
use aya_ebpf::{
    Global,
    bindings::BPF_NOEXIST,
    btf_maps::SkStorage,
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SockHash},
};
use core::intrinsics::{AtomicOrdering, atomic_xadd};

/// Enrolled pods by network namespace cookie.
#[map]
pub static PODS: HashMap<u64, PodSettings> = HashMap::with_max_entries(1, 0);
/// Ports that pass uncaptured.
#[map]
pub static EXCLUDED: HashMap<ExcludedPort, u8> = HashMap::with_max_entries(1, 0);
/// The node's own addresses, whose connections to pods pass (probes).
#[map]
pub static NODE_ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(1, 0);
/// Captured connections between the client's SYN and the agent's accept.
#[map]
pub static FLOWS: HashMap<FlowKey, Destination> = HashMap::with_max_entries(1, 0);
/// The agent's inbound listeners.
#[map]
pub static LISTENERS: SockHash<ListenerKey> = SockHash::with_max_entries(1, 0);
/// What happened, by network namespace cookie. The agent makes the entries.
#[map]
pub static POD_COUNTERS: HashMap<u64, PodCounters> = HashMap::with_max_entries(1, 0);
/// Where pods send UDP, and how often: packets of sockets that are not connected, and connects. What was not used for the longest time
/// makes room, so that nothing is ever refused for the want of it.
#[map]
pub static UDP_FLOWS: LruHashMap<UdpFlow, u64> = LruHashMap::with_max_entries(1, 0);
/// When the agent last said that it lives, nanoseconds of CLOCK_MONOTONIC.
#[map]
pub static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);
/// Control groups of pods and those that hold them, by id. The agent judges; a pod that nobody has judged is entered by the hook.
#[map]
pub static CGROUPS: HashMap<u64, Standing> = HashMap::with_max_entries(1, 0);
/// What holds for all pods that are not captured.
#[map]
pub static JUDGING: Array<Judging> = Array::with_max_entries(1, 0);
/// The folder of all pods that was made last below the agent's root.
#[map]
pub static NEW_FOLDER: Array<NewFolder> = Array::with_max_entries(1, 0);
/// The control group that the agent looks for pods below.
#[map]
pub static ROOT: Array<Root> = Array::with_max_entries(1, 0);
/// Room for a path that is looked at.
#[map]
pub static PATH: PerCpuArray<[u8; PATH_BYTES]> = PerCpuArray::with_max_entries(1, 0);
/// Control groups as they come and go, for the agent.
#[map]
pub static CGROUP_EVENTS: RingBuf = RingBuf::with_byte_size(1 << 18, 0);
/// On an application's socket: where it wanted to go. Freed by the kernel with the socket.
#[btf_map]
pub static ORIGINAL: SkStorage<Destination> = SkStorage::new();
/// On a socket that the agent accepts: where its client wanted to go. Read by the agent by file descriptor.
#[btf_map]
pub static ACCEPTED: SkStorage<Destination> = SkStorage::new();

/// Mark of the agent's own sockets.
#[unsafe(no_mangle)]
pub static AGENT_MARK: Global<u32> = Global::new(0);
/// Port of the agent's listener on loopback for what pods send.
#[unsafe(no_mangle)]
pub static OUTBOUND_PORT: Global<u32> = Global::new(0);
/// Age in nanoseconds from which a heartbeat means that no agent lives.
#[unsafe(no_mangle)]
pub static HEARTBEAT_LIMIT: Global<u64> = Global::new(0);
/// The pod that this instance of `sk_lookup` serves: its network namespace cookie. `sk_lookup` programs have no helper
/// that tells it, so the agent loads one instance per pod.
#[unsafe(no_mangle)]
pub static COOKIE: Global<u64> = Global::new(0);

/// Settings of the pod, where it is enrolled.
#[inline(always)]
pub fn settings(cookie: u64) -> Option<PodSettings> {
    // SAFETY: a copy is taken at once; a concurrent update replaces four aligned bytes.
    unsafe { PODS.get(cookie) }.copied()
}

/// Whether the port passes uncaptured.
#[inline(always)]
pub fn is_excluded(cookie: u64, port: u16, direction: Direction) -> bool {
    EXCLUDED.get_ptr(ExcludedPort::new(cookie, port, direction)).is_some()
}

/// Whether the agent's heartbeat is fresh.
#[inline(always)]
pub fn heartbeat_is_fresh() -> bool {
    // SAFETY: the helper takes nothing and only reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let last = HEARTBEAT.get(0).copied().unwrap_or(0);
    liveness::is_fresh(last, now, HEARTBEAT_LIMIT.load())
}

/// Notes that the pod sends UDP there; UDP is not captured, so that is all that happens to it.
#[inline(always)]
pub fn note_udp(cookie: u64, destination: Destination) {
    if destination.address.is_loopback() {
        return;
    }
    let key = UdpFlow::new(cookie, destination);
    if let Some(times) = UDP_FLOWS.get_ptr_mut(&key) {
        // SAFETY: the pointer is a live map value of one aligned u64, and all writers are atomic.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(times, 1) };
        return;
    }
    // Whoever comes second on another CPU finds it there, and does not count it again.
    if UDP_FLOWS.insert(&key, 1, u64::from(BPF_NOEXIST)).is_ok() {
        count(cookie, Counter::of_udp_flow(destination.port));
    }
}

/// Adds one to a counter of the pod; nothing where the agent made no entry for it.
#[inline(always)]
pub fn count(cookie: u64, counter: Counter) {
    let Some(counters) = POD_COUNTERS.get_ptr_mut(cookie) else { return };
    let index = counter as usize & (COUNTERS - 1);
    // SAFETY: the pointer is a live map value of 16 aligned u64 and the index is below 16; all writers in the kernel
    // are atomic and the agent writes an entry only before the pod is enrolled.
    unsafe { add_one((&raw mut (*counters).values).cast::<u64>().add(index)) };
}

/// Adds one to a number in a map.
///
/// # Safety
/// The pointer is of a live, aligned map value.
#[inline(always)]
pub unsafe fn add_one(value: *mut u64) {
    // SAFETY: the caller's.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, 1) };
}
