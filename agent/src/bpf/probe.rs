//! Whether this machine and kernel can run capture: each requirement is tried, never concluded from a version number.

use std::{fs, path::PathBuf, time::Duration};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};
use socket2::{Domain, Socket, Type};

use super::{CaptureConfig, link, load, mounts, neighbours};
use crate::netns::cookie_of_this_thread;

/// One thing that capture needs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Requirement {
    /// What is needed.
    pub name: &'static str,
    /// Whether it is there.
    pub found: bool,
    /// Whether the agent cannot run without it.
    pub needed: bool,
    /// What was seen.
    pub detail: String,
    /// What to do where it is not.
    pub advice: &'static str,
}

/// Tries everything that capture needs. Attaches and pins nothing.
pub fn probe() -> Vec<Requirement> {
    let mut requirements = vec![rights(), cgroup(), bpffs(), btf()];
    requirements.extend(programs());
    requirements.extend(helpers());
    requirements.extend(maps());
    requirements.extend([links(), memory(), cookie(), transparent(), object(), group_events()]);
    requirements.push(service_addresses());
    requirements
}

fn requirement(name: &'static str, result: Result<String, String>, advice: &'static str) -> Requirement {
    let found = result.is_ok();
    let detail = result.unwrap_or_else(|reason| reason);
    Requirement { name, found, needed: true, detail, advice }
}

/// One that the agent can do without; the advice says what is worse then.
fn wish(name: &'static str, result: Result<String, String>, advice: &'static str) -> Requirement {
    Requirement { needed: false, ..requirement(name, result, advice) }
}

/// CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF by number (`include/uapi/linux/capability.h`).
const CAPABILITIES: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

/// The rights that capture needs.
#[must_use]
pub fn rights() -> Requirement {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    let missing: Vec<_> =
        CAPABILITIES.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect();
    let result = if missing.is_empty() {
        Ok("all effective".to_owned())
    } else {
        Err(format!("lacks {}", missing.join(", ")))
    };
    requirement("capabilities", result, "run the agent as root, in a container as privileged")
}

fn cgroup() -> Requirement {
    let found = crate::cgroup::unified_root().map(|path| path.display().to_string());
    let result = found.ok_or_else(|| "not mounted".to_owned());
    requirement(
        "cgroup v2",
        result,
        "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with the unified hierarchy",
    )
}

fn bpffs() -> Requirement {
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let result = if mounts::is_on_bpffs("/sys/fs/bpf".as_ref()) {
        Ok("mounted at /sys/fs/bpf".to_owned())
    } else if kinds.lines().any(|line| line.trim_end().ends_with("\tbpf")) {
        Ok("known; the agent mounts it at /sys/fs/bpf".to_owned())
    } else {
        Err("the kernel does not know it".to_owned())
    };
    requirement("BPF file system", result, "use a kernel with CONFIG_BPF_SYSCALL")
}

fn btf() -> Requirement {
    let path = "/sys/kernel/btf/vmlinux";
    let result =
        if fs::exists(path).unwrap_or(false) { Ok(path.to_owned()) } else { Err(format!("no {path}")) };
    requirement("kernel BTF", result, "use a kernel with CONFIG_DEBUG_INFO_BTF; socket storage maps need it")
}

fn supported<E: std::fmt::Display>(result: Result<bool, E>) -> Result<String, String> {
    match result {
        Ok(true) => Ok("supported".to_owned()),
        Ok(false) => Err("not supported".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn programs() -> impl Iterator<Item = Requirement> {
    let advice = "use a kernel from 5.15 on with CONFIG_CGROUP_BPF";
    [
        ("program type cgroup/sock_addr", ProgramType::CgroupSockAddr),
        ("program type sock_ops", ProgramType::SockOps),
        ("program type sk_lookup", ProgramType::SkLookup),
    ]
    .into_iter()
    .map(move |(name, kind)| requirement(name, supported(is_program_supported(kind)), advice))
}

fn helpers() -> impl Iterator<Item = Requirement> {
    let advice = "use a kernel from 5.15 on";
    [
        (
            "network namespace cookie in connect",
            ProgramType::CgroupSockAddr,
            BpfHelper::BPF_FUNC_get_netns_cookie,
        ),
        ("socket storage in connect", ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_sk_storage_get),
        ("socket look-up in connect", ProgramType::CgroupSockAddr, BpfHelper::BPF_FUNC_sk_lookup_tcp),
        ("network namespace cookie in sock_ops", ProgramType::SockOps, BpfHelper::BPF_FUNC_get_netns_cookie),
        ("socket storage in sock_ops", ProgramType::SockOps, BpfHelper::BPF_FUNC_sk_storage_get),
        ("socket choice in sk_lookup", ProgramType::SkLookup, BpfHelper::BPF_FUNC_sk_assign),
    ]
    .into_iter()
    .map(move |(name, kind, helper)| requirement(name, supported(is_helper_supported(kind, helper)), advice))
}

fn maps() -> impl Iterator<Item = Requirement> {
    [("socket storage map", MapType::SkStorage), ("socket hash map", MapType::SockHash)]
        .into_iter()
        .map(|(name, kind)| requirement(name, supported(is_map_supported(kind)), "use a kernel from 5.15 on"))
}

fn links() -> Requirement {
    let result = if link::are_supported() { Ok("supported") } else { Err("not supported") };
    let advice = "use a kernel from 5.15 on; links keep the pods' hooks in place while agents come and go";
    requirement("links that outlive the agent", result.map(str::to_owned).map_err(str::to_owned), advice)
}

/// A map of 8 MiB: kernels before 5.11 charge maps to RLIMIT_MEMLOCK.
fn memory() -> Requirement {
    let made = aya::maps::HashMap::<_, u64, [u8; 64]>::create(1 << 17, 0);
    let result = made.map(|_| "a map of 8 MiB was made".to_owned()).map_err(|error| error.to_string());
    requirement("memory for maps", result, "raise RLIMIT_MEMLOCK (ulimit -l unlimited)")
}

fn cookie() -> Requirement {
    let result = cookie_of_this_thread().map(|cookie| format!("this one is {cookie}"));
    requirement("SO_NETNS_COOKIE", result.map_err(|error| error.to_string()), "use a kernel from 5.14 on")
}

fn transparent() -> Requirement {
    let result =
        Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| socket.set_ip_transparent_v4(true));
    requirement(
        "IP_TRANSPARENT",
        result.map(|()| "allowed".to_owned()).map_err(|error| error.to_string()),
        "give the agent CAP_NET_ADMIN; delivery that keeps the client's address needs it",
    )
}

/// The proof of the pudding: the verifier's judgement of the very programs.
fn object() -> Requirement {
    let result = load::try_all(&smallest()).map(|()| "the verifier accepts them all".to_owned());
    requirement(
        "the capture programs",
        result.map_err(|error| error.to_string()),
        "report this with the text shown",
    )
}

fn group_events() -> Requirement {
    let result = load::try_events(&smallest()).map(|()| "raw tracepoints and a ring buffer".to_owned());
    wish(
        "events of control groups",
        result.map_err(|error| error.to_string()),
        "the agent looks for new pods ten times a second instead; a kernel from 5.8 on with tracepoints tells at once",
    )
}

/// Whether the connect hooks see the addresses of services, wherever the programs of others are attached.
fn service_addresses() -> Requirement {
    let programs = crate::cgroup::unified_root().map(|root| neighbours::connect_programs(&root));
    let programs = programs.and_then(Result::ok).unwrap_or_default();
    let (result, advice) = match neighbours::balancer(&programs) {
        Some((who, advice)) => {
            (Err(format!("{who} translates at the socket: {}", programs.join(", "))), advice)
        }
        None if programs.is_empty() => (Ok("no program of others is at the connect hook".to_owned()), ""),
        None => (Ok(format!("at the connect hook, in order: {}", programs.join(", "))), ""),
    };
    wish("service addresses at the socket", result, advice)
}

/// Settings to load with where nothing is attached.
fn smallest() -> CaptureConfig {
    CaptureConfig {
        cgroup_root: PathBuf::new(),
        bpffs_dir: PathBuf::new(),
        mark: 1,
        max_pods: 8,
        max_flows: 8,
        max_excluded_ports: 8,
        max_node_addresses: 8,
        unknown_pod_limit: None,
        heartbeat_limit: Duration::from_secs(1),
        outbound_port: 15001,
        inbound_port: 15006,
    }
}
