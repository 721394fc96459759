//! A pod and something outside it: two network namespaces joined by a veth pair, a BPF file system and a cgroup of the
//! test's own. Nothing has a name on the machine but the cgroup, which goes with the world; what a killed run
//! left is removed by the next.

use std::{
    fs,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use posthaste::{
    bpf::{Capture, CaptureConfig, PodCounts, PodListeners, WantedPod},
    cgroup::unified_root,
    snapshot::FailMode,
};
use socket2::{Domain, Socket, Type};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// Mark of the agent's own sockets.
pub(crate) const MARK: u32 = 0x7068;
const PREFIX: &str = "pht-k";
/// The process can be in one cgroup only, so worlds take turns.
static TURN: Mutex<()> = Mutex::new(());

pub(crate) struct World {
    pub(crate) pod: Arc<OwnedFd>,
    pub(crate) outside: Arc<OwnedFd>,
    pub(crate) config: CaptureConfig,
    home: PathBuf,
    _scratch: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let root = unified_root().expect("cgroup v2 is mounted");
        remove_leftovers(&root);
        let scratch = own_bpffs();
        let (cgroup, home) = enter_cgroup(&root);
        let (pod, outside) = (Arc::new(new_netns()), Arc::new(new_netns()));
        join(&pod, &outside);
        let config = CaptureConfig {
            cgroup_root: cgroup,
            bpffs_dir: scratch.path().join("posthaste"),
            mark: MARK,
            max_pods: 16,
            max_flows: 1024,
            max_excluded_ports: 16,
            max_node_addresses: 16,
            unknown_pod_limit: None,
            heartbeat_limit: Duration::from_secs(60),
            outbound_port: 15001,
            inbound_port: 15006,
        };
        Self { pod, outside, config, home, _scratch: scratch, _turn: turn }
    }

    pub(crate) fn capture(&self) -> Capture {
        Capture::start(&self.config).expect("capture starts")
    }

    pub(crate) fn cookie(&self) -> u64 {
        cookie(&self.pod)
    }

    /// The pod, with its inbound listeners.
    pub(crate) fn wanted(&self, fail_mode: FailMode, inbound: &Inbound) -> WantedPod {
        WantedPod {
            cookie: self.cookie(),
            netns: Arc::clone(&self.pod),
            uid: "shop/web".into(),
            fail_mode,
            exclude_outbound: vec![9090],
            exclude_inbound: vec![9191],
            listeners: inbound.listeners(),
        }
    }

    pub(crate) fn counts(&self, capture: &Capture) -> PodCounts {
        let cookie = self.cookie();
        capture.counters().into_iter().find(|counts| counts.cookie == cookie).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _left = fs::write(self.home.join("cgroup.procs"), std::process::id().to_string());
        let _removed = fs::remove_dir(&self.config.cgroup_root);
        let _unmounted = Command::new("umount").arg(self._scratch.path()).status();
    }
}

/// The agent's outbound listeners in the pod.
pub(crate) struct Outbound {
    pub(crate) v4: Socket,
    pub(crate) v6: Socket,
}

impl Outbound {
    pub(crate) fn open(world: &World) -> Self {
        within(&world.pod, || Self { v4: listen("127.0.0.1:15001", 512), v6: listen("[::1]:15001", 512) })
    }
}

/// The agent's inbound listeners in the pod.
pub(crate) struct Inbound {
    pub(crate) v4: Socket,
    pub(crate) v6: Socket,
}

impl Inbound {
    pub(crate) fn open(world: &World) -> Self {
        within(&world.pod, || Self { v4: listen("127.0.0.1:15006", 512), v6: listen("[::1]:15006", 512) })
    }

    fn listeners(&self) -> Arc<PodListeners> {
        let owned = |socket: &Socket| Some(OwnedFd::from(socket.try_clone().unwrap()));
        Arc::new(PodListeners { v4: owned(&self.v4), v6: owned(&self.v6) })
    }
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn listen(at: &str, backlog: i32) -> Socket {
    let at = address(at);
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_freebind_v4(true).unwrap();
    if at.is_ipv6() {
        socket.set_only_v6(true).unwrap();
    }
    socket.bind(&at.into()).unwrap();
    socket.listen(backlog).unwrap();
    socket
}

/// Connects in this thread's namespace, within our patience.
pub(crate) fn connect(to: &str) -> std::io::Result<Socket> {
    let to = address(to);
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.connect_timeout(&to.into(), PATIENCE).map(|()| socket)
}

/// Accepts within our patience.
pub(crate) fn accept(listener: &Socket) -> (Socket, SocketAddr) {
    listener.set_nonblocking(true).unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((socket, peer)) => {
                socket.set_nonblocking(false).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                return (socket, peer.as_socket().unwrap());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < end => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("nothing to accept: {error}"),
        }
    }
}

/// Whether nothing waits to be accepted.
pub(crate) fn is_idle(listener: &Socket) -> bool {
    listener.set_nonblocking(true).unwrap();
    listener.accept().is_err()
}

pub(crate) fn peer(socket: &Socket) -> SocketAddr {
    socket.peer_addr().unwrap().as_socket().unwrap()
}

pub(crate) fn local(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// Runs something on a thread in that network namespace; sockets made there stay there.
pub(crate) fn within<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // SAFETY: setns moves this thread only, which ends after the work.
            assert_eq!(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn cookie(netns: &OwnedFd) -> u64 {
    within(netns, || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let (mut cookie, mut size) = (0_u64, 8);
        // SAFETY: pointer and size describe one live u64.
        let answer = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                71,
                (&raw mut cookie).cast(),
                &raw mut size,
            )
        };
        assert_eq!(answer, 0);
        cookie
    })
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}");
}

pub(crate) fn new_netns() -> OwnedFd {
    thread::spawn(|| {
        // SAFETY: unshare moves this thread only, which ends at once.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0, "needs root");
        ip("link set lo up");
        // SAFETY: gettid has no preconditions.
        let path = format!("/proc/self/task/{}/ns/net", unsafe { libc::gettid() });
        OwnedFd::from(fs::File::open(path).unwrap())
    })
    .join()
    .unwrap()
}

fn join(pod: &OwnedFd, outside: &OwnedFd) {
    let other = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
    within(pod, || {
        ip(&format!("link add eth0 type veth peer name eth0 netns {other}"));
        ip("addr add 10.77.0.1/24 dev eth0");
        ip("addr add fd77::1/64 dev eth0 nodad");
        ip("link set eth0 up");
    });
    within(outside, || {
        ip("addr add 10.77.0.2/24 dev eth0");
        ip("addr add 10.77.0.3/24 dev eth0");
        ip("addr add fd77::2/64 dev eth0 nodad");
        ip("link set eth0 up");
    });
}

/// What delivery with the client's address needs in this thread's namespace: answers to it come back by `lo`.
pub(crate) fn allow_delivery(mark: u32) {
    fs::write("/proc/sys/net/ipv4/tcp_fwmark_accept", "1").unwrap();
    ip(&format!("rule add fwmark {mark} lookup 100"));
    ip("route add local 0.0.0.0/0 dev lo table 100");
}

fn own_bpffs() -> tempfile::TempDir {
    let scratch = tempfile::Builder::new().prefix(PREFIX).tempdir().unwrap();
    // SAFETY: unshare moves this thread only (and those it starts).
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "needs root");
    let private = Command::new("mount").args(["--make-rprivate", "/"]).status().unwrap();
    let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(scratch.path()).status().unwrap();
    assert!(private.success() && mounted.success());
    scratch
}

fn enter_cgroup(root: &Path) -> (PathBuf, PathBuf) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let home = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let cgroup = root.join(format!("{PREFIX}{}", std::process::id()));
    fs::create_dir_all(&cgroup).unwrap();
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    (cgroup, root.join(home))
}

/// Cgroups of runs whose process is gone.
fn remove_leftovers(root: &Path) {
    for entry in fs::read_dir(root).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(process) = name.strip_prefix(PREFIX) else { continue };
        if !Path::new("/proc").join(process).exists() {
            let _raced = fs::remove_dir(entry.path());
        }
    }
}
