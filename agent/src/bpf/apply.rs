//! Makes the kernel follow what is wanted: a plan, then one match that executes it. What fails is told as a problem of
//! the pod and is tried again by the next plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
};

use agent_common::{Address, Direction, ExcludedPort, ListenerKey, PodCounters, PodSettings};
use aya::maps::MapError;

use super::{
    Capture, CaptureError, WantedPod, load,
    maps::{self, Plain},
    plan::{self, Family, Listeners, Op, PodState, State},
};
use crate::snapshot::{FailMode, Problem};

impl Capture {
    /// Captures exactly these pods, and lets connections from these addresses of the node pass. A pod that is not
    /// wanted any more leaves without trace. What does not fit is told; the rest is applied.
    pub fn apply(&mut self, wanted: &[WantedPod], node_addresses: &[IpAddr]) -> Vec<Problem> {
        let pods: BTreeMap<u64, &WantedPod> = wanted.iter().map(|pod| (pod.cookie, pod)).collect();
        self.names.extend(pods.values().map(|pod| (pod.cookie, Arc::clone(&pod.uid))));
        let state = State {
            pods: pods.values().map(|pod| (pod.cookie, pod_state(pod))).collect(),
            node_addresses: node_addresses.iter().map(|address| Address::from(*address).words).collect(),
        };
        let mut problems = shared_namespaces(wanted, &pods);
        let mut failed = BTreeSet::new();
        for op in plan::plan(&self.applied, &state) {
            // A pod is not switched on before everything it needs is there.
            if matches!(op, Op::Enrol(cookie, _) if failed.contains(&cookie)) {
                continue;
            }
            match self.execute(&op, &pods) {
                Ok(()) => self.applied.note(&op),
                Err(error) => {
                    failed.extend(op.pod());
                    problems.push(self.problem(&op, &error));
                }
            }
        }
        for (cookie, pod) in &pods {
            let holds = self.applied.pods.get(cookie).map(|held| held.listeners);
            // Where the kernel still holds the former ones, their addresses must not come to stand for others.
            if holds == Some(pod_state(pod).listeners) {
                self.listeners.insert(*cookie, Arc::clone(&pod.listeners));
            }
        }
        self.listeners.retain(|cookie, _| self.applied.pods.contains_key(cookie));
        self.names.retain(|cookie, _| self.applied.pods.contains_key(cookie));
        problems
    }

    fn execute(&mut self, op: &Op, pods: &BTreeMap<u64, &WantedPod>) -> Result<(), CaptureError> {
        let maps = &mut self.maps;
        match op {
            Op::AddNodeAddress(address) => maps
                .node_addresses
                .insert(Plain(*address), 1, 0)
                .map_err(CaptureError::map(maps::NODE_ADDRESSES)),
            Op::RemoveNodeAddress(address) => {
                removed(maps.node_addresses.remove(&Plain(*address)), maps::NODE_ADDRESSES)
            }
            Op::Count(cookie) => {
                let zero = Plain(PodCounters::default());
                maps.counters.insert(*cookie, zero, 0).map_err(CaptureError::map(maps::POD_COUNTERS))
            }
            Op::Uncount(cookie) => {
                removed(maps.reported.remove(cookie), maps::REPORTED)?;
                removed(maps.counters.remove(cookie), maps::POD_COUNTERS)
            }
            Op::Exclude(port) => {
                maps.excluded.insert(Plain(*port), 1, 0).map_err(CaptureError::map(maps::EXCLUDED))
            }
            Op::Include(port) => removed(maps.excluded.remove(&Plain(*port)), maps::EXCLUDED),
            Op::SetListener(cookie, family, _) => self.set_listener(*cookie, *family, pods),
            Op::RemoveListener(cookie, family) => {
                removed(maps.listeners.remove(&Plain(listener_key(*cookie, *family))), maps::LISTENERS)
            }
            Op::Attach(cookie) => match pods.get(cookie) {
                Some(pod) => load::attach_pod(&mut self.source, pod.cookie, pod.netns.as_fd()),
                None => Ok(()),
            },
            Op::Detach(cookie) => load::detach_pod(&self.config, *cookie),
            Op::Enrol(cookie, settings) => {
                maps.pods.insert(*cookie, Plain(*settings), 0).map_err(CaptureError::map(maps::PODS))
            }
            Op::Release(cookie) => removed(maps.pods.remove(cookie), maps::PODS),
        }
    }

    fn set_listener(
        &mut self,
        cookie: u64,
        family: Family,
        pods: &BTreeMap<u64, &WantedPod>,
    ) -> Result<(), CaptureError> {
        let listeners = pods.get(&cookie).map(|pod| &pod.listeners);
        let socket = listeners.and_then(|listeners| match family {
            Family::V4 => listeners.v4.as_ref(),
            Family::V6 => listeners.v6.as_ref(),
        });
        let Some(socket) = socket else { return Ok(()) };
        let key = Plain(listener_key(cookie, family));
        self.maps.listeners.insert(key, socket.as_raw_fd(), 0).map_err(CaptureError::map(maps::LISTENERS))
    }

    fn problem(&mut self, op: &Op, error: &CaptureError) -> Problem {
        let full = full_map(error);
        self.without_room += u64::from(full.is_some());
        let object = op.pod().map_or_else(
            || "Node".to_owned(),
            |cookie| {
                self.names.get(&cookie).map_or_else(|| format!("Pod/{cookie:x}"), |uid| format!("Pod/{uid}"))
            },
        );
        let reason = match full {
            Some(setting) => {
                format!("no room in the kernel: {error}; raise {setting} and restart the agent cleanly")
            }
            None => error.to_string(),
        };
        Problem { origin: "kernel".to_owned(), object, field: String::new(), reason }
    }
}

/// Pods that name a network namespace which another one has: the kernel cannot tell them apart.
fn shared_namespaces(wanted: &[WantedPod], pods: &BTreeMap<u64, &WantedPod>) -> Vec<Problem> {
    let shadowed = wanted.iter().filter_map(|pod| {
        let other = pods.get(&pod.cookie).filter(|other| other.uid != pod.uid)?;
        Some(Problem {
            origin: "kernel".to_owned(),
            object: format!("Pod/{}", pod.uid),
            field: "metadata.annotations[posthaste.dev/netns]".to_owned(),
            reason: format!(
                "has the network namespace of Pod/{} and is not captured by itself; give it its own",
                other.uid
            ),
        })
    });
    shadowed.collect()
}

/// What a pod should look like in the kernel.
fn pod_state(pod: &WantedPod) -> PodState {
    let port = |direction| move |port: &u16| ExcludedPort::new(pod.cookie, *port, direction);
    let outbound = pod.exclude_outbound.iter().map(port(Direction::Outbound));
    let inbound = pod.exclude_inbound.iter().map(port(Direction::Inbound));
    let identity = Arc::as_ptr(&pod.listeners).addr();
    PodState {
        counted: true,
        attached: true,
        settings: Some(flags(pod)),
        excluded: outbound.chain(inbound).collect(),
        listeners: Listeners {
            v4: pod.listeners.v4.as_ref().map_or(0, |_| identity),
            v6: pod.listeners.v6.as_ref().map_or(0, |_| identity),
        },
    }
}

fn flags(pod: &WantedPod) -> u32 {
    let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
    flag(pod.fail_mode == FailMode::Closed, PodSettings::FAIL_CLOSED)
        | flag(!pod.exclude_outbound.is_empty(), PodSettings::EXCLUDES_OUTBOUND)
        | flag(!pod.exclude_inbound.is_empty(), PodSettings::EXCLUDES_INBOUND)
}

fn listener_key(cookie: u64, family: Family) -> ListenerKey {
    match family {
        Family::V4 => ListenerKey::v4(cookie),
        Family::V6 => ListenerKey::v6(cookie),
    }
}

/// Removing what is not there is done.
pub(super) fn removed(result: Result<(), MapError>, map: &'static str) -> Result<(), CaptureError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(CaptureError::map(map)(error)),
    }
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        MapError::IoError(error) => io::Error::raw_os_error(error),
        _ => None,
    }
}

/// The setting that limits the map which had no room.
fn full_map(error: &CaptureError) -> Option<&'static str> {
    let CaptureError::Map { map, source } = error else { return None };
    if errno(source) != Some(libc::E2BIG) {
        return None;
    }
    Some(match *map {
        maps::EXCLUDED => "max_excluded_ports",
        maps::NODE_ADDRESSES => "max_node_addresses",
        _ => "max_pods",
    })
}
