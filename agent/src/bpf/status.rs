//! What the kernel holds for this agent, for people.

use std::path::Path;

use aya::{
    Pod,
    maps::{HashMap, MapData},
    programs::links::{FdLink, PinnedLink},
};

use super::{Capture, load, maps};

/// What `posthaste status` shows of capture.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CaptureStatus {
    /// Pods enrolled in the kernel.
    pub pods: usize,
    /// Hooks with a program of ours, of the cgroup and of each pod.
    pub hooks: Vec<HookStatus>,
    /// Maps with their fill.
    pub maps: Vec<MapStatus>,
    /// How often a map had no room for what was wanted, since this agent started.
    pub without_room: u64,
}

/// One pinned link.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct HookStatus {
    /// Where it is pinned.
    pub pin: String,
    /// The kernel's number of the link; absent where the pin cannot be opened.
    pub link: Option<u32>,
    /// The kernel's number of the program in it.
    pub program: Option<u32>,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MapStatus {
    /// Its name.
    pub name: &'static str,
    /// Entries in it.
    pub entries: u64,
    /// Entries it has room for.
    pub room: u32,
}

impl Capture {
    /// Reads it from the kernel; walks every map once.
    pub fn status(&self) -> CaptureStatus {
        let folder = &self.config.bpffs_dir;
        let hooks = load::hook_pins(folder);
        let attached = self.applied.pods.iter().filter(|(_, pod)| pod.attached);
        let pods = attached.map(|(cookie, _)| load::pod_pin(folder, *cookie));
        let kernel = &self.maps;
        CaptureStatus {
            pods: self.applied.pods.values().filter(|pod| pod.settings.is_some()).count(),
            hooks: hooks.chain(pods).map(|pin| hook(&pin)).collect(),
            maps: vec![
                fill(folder, maps::PODS, &kernel.pods),
                fill(folder, maps::EXCLUDED, &kernel.excluded),
                fill(folder, maps::NODE_ADDRESSES, &kernel.node_addresses),
                fill(folder, maps::FLOWS, &kernel.flows),
                fill(folder, maps::POD_COUNTERS, &kernel.counters),
                fill(folder, maps::CGROUPS, &kernel.cgroups),
                fill(folder, maps::UDP_FLOWS, &kernel.udp_flows),
            ],
            without_room: self.without_room,
        }
    }
}

pub(super) fn hook(pin: &Path) -> HookStatus {
    let info = PinnedLink::from_pin(pin).ok().and_then(|link| FdLink::from(link).info().ok());
    HookStatus {
        pin: pin.display().to_string(),
        link: info.as_ref().map(|info| info.id()),
        program: info.as_ref().map(|info| info.program_id()),
    }
}

fn fill<K: Pod, V: Pod>(folder: &Path, name: &'static str, map: &HashMap<MapData, K, V>) -> MapStatus {
    let info = MapData::from_pin(maps::pin(folder, name)).and_then(|map| map.info());
    let entries = map.keys().filter(Result::is_ok).count() as u64;
    MapStatus { name, entries, room: info.map_or(0, |info| info.max_entries()) }
}
