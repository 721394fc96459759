//! A world: a bridge in a namespace of its own, sites joined to it, a cgroup and a scratch folder. Nothing of the machine's
//! own network is touched, so all worlds use the same addresses:
//!
//! | what | IPv4 | IPv6 |
//! |---|---|---|
//! | bridge, everybody's default route | 10.77.0.1 | fd77::1 |
//! | site `n` of group `g` (node, pods of a node, outsiders) | 10.77.g.n | fd77::g:n |
//! | ClusterIPs, which nothing routes: an uncaptured connection is refused at once | 10.96.0.0/16 | fd96::/64 |

use crate::{
    Doing, Fault, Site,
    cgroup::{self, Cgroup},
    namespace::Namespace,
    sweep,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Everything that one test builds on; undone on drop.
#[derive(Debug)]
pub struct World {
    prefix: String,
    cgroup: Cgroup,
    bridge: Namespace,
    folder: PathBuf,
    ports: AtomicU32,
}

impl World {
    /// Sweeps what dead runs left, then makes the bridge, the cgroup and the scratch folder.
    ///
    /// # Errors
    /// Not root, no `ip`, no cgroup v2.
    pub fn create() -> Result<Self, Fault> {
        sweep::sweep();
        mount_bpffs()?;
        descriptor_limit();
        let prefix = format!("ph{}x{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&folder).doing(format!("make {}", folder.display()))?;
        let cgroup = Cgroup::create(&cgroup::mount_point()?, &prefix)?;
        let bridge = Namespace::create(&format!("{prefix}-br"))?;
        // Without forwarding an unroutable address would be a silent time-out; with it the kernel answers at once.
        bridge.sysctl("net.ipv4.ip_forward", "1")?;
        bridge.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        bridge.ip(
            "link add br0 type bridge mcast_snooping 0\nlink set br0 up\naddr add 10.77.0.1/16 dev br0\n\
             addr add fd77::1/64 dev br0 nodad\nroute add unreachable 10.96.0.0/16\nroute add unreachable fd96::/64\n",
        )?;
        Ok(Self { prefix, cgroup, bridge, folder, ports: AtomicU32::new(0) })
    }

    /// `ph<pid>x<n>`: what the names of this world begin with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Scratch folder: manifests, state, output of programs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The cgroup that agents attach to.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// The namespace of the bridge, where everything between sites can be seen.
    #[must_use]
    pub fn bridge(&self) -> &Namespace {
        &self.bridge
    }

    /// Joins a new site to the bridge: number `number` of `group`, both from 1 to 254.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn site(&self, name: &str, group: u8, number: u8) -> Result<Site, Fault> {
        self.site_in(name, group, number, name)
    }

    /// The same with its cgroup in a folder of choice, below that of the world.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn site_in(&self, name: &str, group: u8, number: u8, folder: &str) -> Result<Site, Fault> {
        let port = format!("port{}", self.ports.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace::create(&format!("{}-{name}", self.prefix))?;
        let v4 = Ipv4Addr::new(10, 77, group, number);
        let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, u16::from(group), u16::from(number));
        let inside = namespace.name();
        // The hardware address follows the IP address: neighbours' caches stay right when a pod comes back.
        self.bridge.ip(&format!(
            "link add {port} type veth peer name eth0 address 02:77:00:00:{group:02x}:{number:02x} netns {inside}\n\
             link set {port} master br0\nlink set {port} up\n"
        ))?;
        let mut batch = String::new();
        let _ =
            write!(batch, "addr add {v4}/16 dev eth0\naddr add {v6}/64 dev eth0 nodad\nlink set eth0 up\n");
        batch.push_str("route add default via 10.77.0.1\nroute add default via fd77::1\n");
        namespace.ip(&batch)?;
        let cgroup = Cgroup::create(self.cgroup.path(), folder)?;
        Ok(Site::new(name, v4, v6, (cgroup, namespace), self.folder.clone()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        cgroup::remove(self.cgroup.path());
        let pinned = Path::new(sweep::BPFFS);
        for name in sweep::of_world(pinned, &self.prefix) {
            let _ = std::fs::remove_dir_all(pinned.join(name));
        }
        if std::env::var_os("POSTHASTE_KEEP_OUTPUT").is_none() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Descriptors that a program of a world may have open: ten thousand connections need some tens of thousands. Raises the limit,
/// which programs inherit, as far as this machine lets root do it.
pub fn descriptor_limit() -> u64 {
    const WANTED: u64 = 1 << 17;
    let raised = Rlimit { current: Some(WANTED), maximum: Some(WANTED) };
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let allowed = Rlimit { current: maximum, maximum };
    let _ = setrlimit(Resource::Nofile, raised).or_else(|_| setrlimit(Resource::Nofile, allowed));
    getrlimit(Resource::Nofile).current.unwrap_or(WANTED)
}

/// Mounts bpffs where programs are pinned, on machines where nobody has.
fn mount_bpffs() -> Result<(), Fault> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing("read /proc/self/mountinfo")?;
    if mounts.lines().any(|line| line.contains(" - bpf ") && line.contains(sweep::BPFFS)) {
        return Ok(());
    }
    let status =
        Command::new("mount").args(["-t", "bpf", "bpf", sweep::BPFFS]).status().doing("run mount")?;
    if status.success() { Ok(()) } else { Err(Fault::new("bpffs cannot be mounted at /sys/fs/bpf")) }
}
