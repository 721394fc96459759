//! The owner of what the kernel holds for this agent. Dropping it changes nothing in the kernel (as a crash does not);
//! [`Capture::detach`] removes everything.

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use agent_common::{PodCounters, UdpFlow};
use aya::maps::{Array, MapData};
use rustix::time::{ClockId, clock_gettime};

use super::{
    CaptureConfig, CaptureError, GroupEvents, OriginalDestinations, PodCounts, PodListeners, counts, events,
    link::Updated,
    load::{self, Source},
    lock::Lock,
    log_lines::LogLines,
    maps::{self, Maps, Plain},
    mounts,
    plan::{PodState, State},
};
use crate::netns::cookie_of_this_thread;

/// Capture of this node's pods: programs, links and maps, pinned so that they outlive a crash of the agent.
pub struct Capture {
    pub(super) config: Arc<CaptureConfig>,
    pub(super) source: Source,
    pub(super) maps: Maps,
    pub(super) applied: State,
    /// Names of the pods in `applied`, as far as this agent knows them.
    pub(super) names: BTreeMap<u64, Arc<str>>,
    /// Keeps the listeners alive whose addresses stand for them in `applied`.
    pub(super) listeners: BTreeMap<u64, Arc<PodListeners>>,
    /// How often a map had no room for what was wanted.
    pub(super) without_room: u64,
    heartbeat: Heartbeat,
    destinations: OriginalDestinations,
    meanwhile: Vec<PodCounts>,
    log_lines: LogLines,
    /// Cookie of the agent's own network namespace.
    pub(super) home: u64,
    pub(super) events: Option<GroupEvents>,
    took_over: bool,
}

/// It moves between threads of the control runtime.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Capture>();
};

/// Tells the kernel that the agent lives. Cheap to clone; for whichever thread notices first when the agent is stuck.
#[derive(Clone)]
pub struct Heartbeat {
    map: Arc<Mutex<Array<MapData, u64>>>,
}

impl Heartbeat {
    /// The agent lives now. Beat several times within `heartbeat_limit`.
    pub fn beat(&self) {
        self.write(monotonic_nanoseconds());
    }

    /// From now on no agent lives, until the next beat: the fail mode decides at once.
    pub fn stop(&self) {
        self.write(0);
    }

    /// When it was last beaten, as the kernel sees it; 0 is never, or stopped.
    pub(super) fn last(&self) -> u64 {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).get(&0, 0).unwrap_or_default()
    }

    fn write(&self, at: u64) {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        // An array map that is open takes any value at index 0; there is nothing else that could be done here.
        let _written = map.set(0, at, 0);
    }
}

/// The clock that `bpf_ktime_get_ns` reads.
pub(super) fn monotonic_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

impl Capture {
    /// Loads the programs, or takes over what an earlier agent left pinned: its hooks get this agent's programs in
    /// place, its maps are kept, and pods stay captured or refused throughout. Nothing is captured before the first
    /// [`Capture::beat`] and [`Capture::apply`].
    ///
    /// # Errors
    ///
    /// Where the kernel lacks something or the pins are of another release; nothing is left behind that was not there.
    pub fn start(config: &CaptureConfig) -> Result<Self, CaptureError> {
        Self::alone(config, || Self::open(config, |_| Ok(())))
    }

    /// Does work that may attach and pin while no other process does; what it began where nothing was before is undone when it fails.
    pub(super) fn alone<T>(
        config: &CaptureConfig,
        work: impl FnOnce() -> Result<T, CaptureError>,
    ) -> Result<T, CaptureError> {
        mounts::ensure_bpffs(&config.bpffs_dir)?;
        let _lock = Lock::take(&config.bpffs_dir)?;
        let is_fresh = is_empty(&config.bpffs_dir);
        work().inspect_err(|_| {
            if is_fresh {
                // The first error is the one to tell.
                let _second = remove_everything(&config.bpffs_dir);
            }
        })
    }

    /// `prepare` writes what is to hold from the moment on in which the hooks are attached.
    pub(super) fn open(
        config: &CaptureConfig,
        prepare: impl FnOnce(&mut Self) -> Result<(), CaptureError>,
    ) -> Result<Self, CaptureError> {
        let config = Arc::new(config.clone());
        let took_over = load::hook_pins(&config.bpffs_dir).any(|pin| pin.exists());
        let mut source = Source::new(&config);
        let mut object = load::load_hooks(&mut source)?;
        let mut maps = Maps::open(&config)?;
        let applied = read_applied(&mut source, &config.bpffs_dir, &maps)?;
        let meanwhile = report(&mut maps)?;
        let heartbeat = maps::open_heartbeat(&config.bpffs_dir)?;
        let mut capture = Self {
            maps,
            applied,
            names: BTreeMap::new(),
            listeners: BTreeMap::new(),
            without_room: 0,
            heartbeat: Heartbeat { map: Arc::new(Mutex::new(heartbeat)) },
            destinations: OriginalDestinations::open(&config.bpffs_dir)?,
            meanwhile,
            events: start_events(&config, &mut object),
            log_lines: LogLines::open(&mut object),
            home: cookie_of_this_thread().unwrap_or(0),
            took_over,
            source,
            config,
        };
        prepare(&mut capture)?;
        load::attach_hooks(&capture.config, &mut object)?;
        Ok(capture)
    }

    /// Whether an earlier agent, or the boot guard, left hooks that this one took over.
    pub fn took_over(&self) -> bool {
        self.took_over
    }

    /// The agent lives now; see [`Heartbeat::beat`].
    pub fn beat(&self) {
        self.heartbeat.beat();
    }

    /// A handle to beat with from another thread.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// The reader of original destinations, for the workers.
    pub fn original_destinations(&self) -> OriginalDestinations {
        self.destinations.clone()
    }

    /// What the kernel counted for each pod since it was enrolled, also by earlier agents.
    pub fn counters(&self) -> Vec<PodCounts> {
        let entries = self.maps.counters.iter().filter_map(Result::ok);
        entries
            .map(|(cookie, Plain(counters))| PodCounts::new(cookie, self.name(cookie), &counters))
            .collect()
    }

    /// Where pods sent UDP, with how often: the pod's uid where it is known, the destination, connects and packets of sockets that
    /// are not connected. What was not used for long is forgotten.
    pub fn udp_flows(&self) -> Vec<(String, SocketAddr, u64)> {
        let entries = self.maps.udp_flows.iter().filter_map(Result::ok);
        let named = |(Plain(flow), times): (Plain<UdpFlow>, u64)| {
            let port = u16::try_from(flow.port).ok()?;
            Some((self.name(flow.cookie)?, SocketAddr::new(flow.address.into(), port), times))
        };
        entries.filter_map(named).collect()
    }

    /// What the kernel refused or passed while no agent lived, as found at the start. Each event is in the answer of
    /// one agent only. The names are known after [`Capture::apply`].
    pub fn meanwhile(&self) -> Vec<PodCounts> {
        let named = |counts: &PodCounts| PodCounts { uid: self.name(counts.cookie), ..counts.clone() };
        self.meanwhile.iter().map(named).collect()
    }

    /// Control groups as they come and go, once; none where the kernel does not tell.
    pub fn take_events(&mut self) -> Option<GroupEvents> {
        self.events.take()
    }

    /// Writes what the programs have logged since to the agent's log, target `posthaste::kernel`. Call it now and then.
    pub fn drain_log(&mut self) {
        self.log_lines.drain();
    }

    fn name(&self, cookie: u64) -> Option<String> {
        self.names.get(&cookie).map(|name| name.to_string())
    }

    /// A clean stop: takes the programs out of all hooks and removes every pin and the folder. Pods are then as if there
    /// had never been an agent; end it while their connections may go straight.
    ///
    /// # Errors
    ///
    /// Where a pin could not be removed; the others are removed all the same.
    pub fn detach(self) -> Result<(), CaptureError> {
        let folder = self.config.bpffs_dir.clone();
        drop(self);
        remove_everything(&folder)
    }
}

/// The agent can do without: it looks by itself then.
fn start_events(config: &CaptureConfig, object: &mut aya::Ebpf) -> Option<GroupEvents> {
    let folder = &config.bpffs_dir;
    let root = crate::cgroup::mounts::path_in_hierarchy(&config.cgroup_root).unwrap_or_default();
    let started = maps::write_root(folder, agent_common::Root::new(&root))
        .and_then(|()| events::note_folders(object, folder))
        .and_then(|()| maps::open_events(folder))
        .and_then(|ring| GroupEvents::start(object, ring));
    started.inspect_err(|error| tracing::warn!(%error, "the kernel does not tell of control groups")).ok()
}

/// Removes all links, then all pins and the folder. The first error is told after everything was tried.
fn remove_everything(folder: &Path) -> Result<(), CaptureError> {
    let hooks = load::hook_pins(folder).rev();
    let pods = pod_cookies(folder).into_iter().map(|cookie| load::pod_pin(folder, cookie));
    let mut first = Ok(());
    for pin in hooks.chain(pods) {
        // Told later, so that one stubborn pin does not keep the others.
        let removed = load::remove_link(&pin);
        first = first.and(removed);
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            first.and(Err(CaptureError::file("remove the folder", folder)(error)))
        }
        _ => first,
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// The pods that have a folder of links.
fn pod_cookies(folder: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(load::pods_folder(folder)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| u64::from_str_radix(&name, 16).ok()).collect()
}

/// What an earlier agent left, with this agent's program in each pod's hook. A hook whose network namespace is gone
/// is kept in mind as attached, so that the first plan removes its pin with the rest of that pod.
fn read_applied(source: &mut Source, folder: &Path, maps: &Maps) -> Result<State, CaptureError> {
    let mut state = State::default();
    for (address, _) in maps.node_addresses.iter().filter_map(Result::ok) {
        state.node_addresses.insert(address.0.words);
    }
    let pods = &mut state.pods;
    let mut pod = |cookie: u64, change: &dyn Fn(&mut PodState)| change(pods.entry(cookie).or_default());
    for (cookie, Plain(settings)) in maps.pods.iter().filter_map(Result::ok) {
        pod(cookie, &|pod| pod.settings = Some(settings.flags));
    }
    for (cookie, _) in maps.counters.iter().filter_map(Result::ok) {
        pod(cookie, &|pod| pod.counted = true);
    }
    for (Plain(port), _) in maps.excluded.iter().filter_map(Result::ok) {
        pod(port.cookie, &|pod| _ = pod.excluded.insert(port));
    }
    for cookie in pod_cookies(folder) {
        pod(cookie, &|pod| pod.attached = true);
        if load::pod_pin(folder, cookie).exists() {
            match load::renew_pod(source, cookie)? {
                Updated::Yes | Updated::TargetGone => {}
            }
        }
    }
    Ok(state)
}

/// Takes what was counted since the last report and notes that it is reported.
fn report(maps: &mut Maps) -> Result<Vec<PodCounts>, CaptureError> {
    let counters: Vec<_> = maps.counters.iter().filter_map(Result::ok).collect();
    let mut events = Vec::new();
    for (cookie, now) in counters {
        let before =
            maps.reported.get(&cookie, 0).map_or_else(|_| PodCounters::default(), |Plain(before)| before);
        let counts = PodCounts::new(cookie, None, &counts::since(&before, &now.0));
        maps.reported.insert(cookie, now, 0).map_err(CaptureError::map(maps::REPORTED))?;
        events.extend(counts.is_eventful().then_some(counts));
    }
    Ok(events)
}
