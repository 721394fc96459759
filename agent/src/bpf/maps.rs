//! The pinned maps as typed handles. The wrapper [`Plain`] tells aya which of the shared types are plain bytes.

use std::path::{Path, PathBuf};

use agent_common::{
    Address, Destination, ExcludedPort, FlowKey, Judging, ListenerKey, NewFolder, PodCounters, PodSettings,
    Root, Standing, UdpFlow,
};
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, RingBuf, SkStorage, SockHash},
};

use super::{CaptureConfig, CaptureError};

/// A type shared with the kernel programs.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain<T>(pub(super) T);

macro_rules! plain {
    ($($shared:ty),+) => {$(
        // SAFETY: repr(C) without padding (asserted where it is defined), of integers only: every byte pattern is a
        // value and no byte is uninitialised.
        unsafe impl Pod for Plain<$shared> {}
    )+};
}

plain!(Address, Destination, ExcludedPort, FlowKey, Judging, ListenerKey);
plain!(NewFolder, PodCounters, PodSettings, Root, Standing, UdpFlow);

/// Names of the maps, as the programs call them; they are the names of the pins too.
pub(super) const PODS: &str = "PODS";
pub(super) const EXCLUDED: &str = "EXCLUDED";
pub(super) const NODE_ADDRESSES: &str = "NODE_ADDRESSES";
pub(super) const FLOWS: &str = "FLOWS";
pub(super) const LISTENERS: &str = "LISTENERS";
pub(super) const POD_COUNTERS: &str = "POD_COUNTERS";
pub(super) const UDP_FLOWS: &str = "UDP_FLOWS";
/// Destinations of UDP that are kept, over all pods.
const UDP_ENTRIES: u32 = 16_384;
pub(super) const HEARTBEAT: &str = "HEARTBEAT";
pub(super) const ORIGINAL: &str = "ORIGINAL";
pub(super) const ACCEPTED: &str = "ACCEPTED";
pub(super) const CGROUPS: &str = "CGROUPS";
pub(super) const JUDGING: &str = "JUDGING";
pub(super) const NEW_FOLDER: &str = "NEW_FOLDER";
pub(super) const ROOT: &str = "ROOT";
pub(super) const CGROUP_EVENTS: &str = "CGROUP_EVENTS";
/// Its size in bytes: some hundreds of events.
const EVENT_BYTES: u32 = 1 << 18;
/// Groups of pods, known or not, for each captured pod that there may be.
const GROUPS_PER_POD: u32 = 4;
/// The ring of the programs' log, as aya-log calls it.
pub(super) const LOG: &str = "AYA_LOGS";
/// Its size in bytes.
const LOG_BYTES: u32 = 1 << 17;
/// Counters as an agent last reported them; the programs do not know it.
pub(super) const REPORTED: &str = "REPORTED";

/// Name, key size, value size and number of entries of a map.
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) key: usize,
    pub(super) value: usize,
    pub(super) entries: u32,
}

fn shape<K, V>(name: &'static str, entries: u32) -> Shape {
    Shape { name, key: size_of::<K>(), value: size_of::<V>(), entries }
}

/// All maps of the programs, with the sizes of the configuration.
pub(super) fn shapes(config: &CaptureConfig) -> [Shape; 16] {
    [
        shape::<u64, PodSettings>(PODS, config.max_pods),
        shape::<ExcludedPort, u8>(EXCLUDED, config.max_excluded_ports),
        shape::<Address, u8>(NODE_ADDRESSES, config.max_node_addresses),
        shape::<FlowKey, Destination>(FLOWS, config.max_flows),
        shape::<ListenerKey, u32>(LISTENERS, config.max_pods.saturating_mul(2)),
        shape::<u64, PodCounters>(POD_COUNTERS, config.max_pods),
        shape::<UdpFlow, u64>(UDP_FLOWS, UDP_ENTRIES),
        shape::<u32, u64>(HEARTBEAT, 1),
        shape::<i32, Destination>(ORIGINAL, 0),
        shape::<i32, Destination>(ACCEPTED, 0),
        shape::<u64, Standing>(CGROUPS, config.max_pods.saturating_mul(GROUPS_PER_POD)),
        shape::<u32, Judging>(JUDGING, 1),
        shape::<u32, NewFolder>(NEW_FOLDER, 1),
        shape::<u32, Root>(ROOT, 1),
        shape::<(), ()>(CGROUP_EVENTS, EVENT_BYTES),
        shape::<(), ()>(LOG, LOG_BYTES),
    ]
}

/// Where a map is pinned.
pub(super) fn pin(folder: &Path, name: &str) -> PathBuf {
    folder.join("maps").join(name)
}

/// The maps that userspace reads and writes.
pub(super) struct Maps {
    pub(super) pods: HashMap<MapData, u64, Plain<PodSettings>>,
    pub(super) excluded: HashMap<MapData, Plain<ExcludedPort>, u8>,
    pub(super) node_addresses: HashMap<MapData, Plain<Address>, u8>,
    pub(super) flows: HashMap<MapData, Plain<FlowKey>, Plain<Destination>>,
    pub(super) listeners: SockHash<MapData, Plain<ListenerKey>>,
    pub(super) counters: HashMap<MapData, u64, Plain<PodCounters>>,
    pub(super) udp_flows: HashMap<MapData, Plain<UdpFlow>, u64>,
    pub(super) reported: HashMap<MapData, u64, Plain<PodCounters>>,
    pub(super) cgroups: HashMap<MapData, u64, Plain<Standing>>,
    pub(super) judging: Array<MapData, Plain<Judging>>,
    pub(super) new_folder: Array<MapData, Plain<NewFolder>>,
}

impl Maps {
    /// Opens the pins; makes the map of reported counters where there is none.
    pub(super) fn open(config: &CaptureConfig) -> Result<Self, CaptureError> {
        let folder = &config.bpffs_dir;
        if !pin(folder, REPORTED).exists() {
            make_reported(folder, config.max_pods)?;
        }
        Ok(Self {
            pods: open(folder, PODS)?,
            excluded: open(folder, EXCLUDED)?,
            node_addresses: open(folder, NODE_ADDRESSES)?,
            flows: open(folder, FLOWS)?,
            listeners: open(folder, LISTENERS)?,
            counters: open(folder, POD_COUNTERS)?,
            udp_flows: open(folder, UDP_FLOWS)?,
            reported: open(folder, REPORTED)?,
            cgroups: open(folder, CGROUPS)?,
            judging: open(folder, JUDGING)?,
            new_folder: open(folder, NEW_FOLDER)?,
        })
    }
}

fn make_reported(folder: &Path, entries: u32) -> Result<(), CaptureError> {
    let map = HashMap::<MapData, u64, Plain<PodCounters>>::create(entries, 0)
        .map_err(CaptureError::map(REPORTED))?;
    map.pin(pin(folder, REPORTED)).map_err(|error| CaptureError::File {
        action: "pin",
        path: pin(folder, REPORTED),
        source: std::io::Error::other(error),
    })
}

fn open<M: TryFrom<Map, Error = aya::maps::MapError>>(
    folder: &Path,
    name: &'static str,
) -> Result<M, CaptureError> {
    let data = MapData::from_pin(pin(folder, name)).map_err(CaptureError::map(name))?;
    Map::from_map_data(data).and_then(M::try_from).map_err(CaptureError::map(name))
}

/// The heartbeat.
pub(super) fn open_heartbeat(folder: &Path) -> Result<Array<MapData, u64>, CaptureError> {
    open(folder, HEARTBEAT)
}

/// Tells the programs which part of the hierarchy is the agent's.
pub(super) fn write_root(folder: &Path, root: Root) -> Result<(), CaptureError> {
    let mut map: Array<MapData, Plain<Root>> = open(folder, ROOT)?;
    map.set(0, Plain(root), 0).map_err(CaptureError::map(ROOT))
}

/// The ring of control groups that come and go.
pub(super) fn open_events(folder: &Path) -> Result<RingBuf<MapData>, CaptureError> {
    open(folder, CGROUP_EVENTS)
}

/// The storage on the agent's accepted sockets.
pub(super) fn open_accepted(folder: &Path) -> Result<SkStorage<MapData, Plain<Destination>>, CaptureError> {
    open(folder, ACCEPTED)
}
