//! Programs of others at the connect hooks. One that runs before ours and puts a backend in the place of a service's address hides
//! from the agent which service was meant; kube-proxy does not, since it works on packets, later.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use aya::programs::loaded_programs;

use super::link;

/// `BPF_PROG_QUERY` of `enum bpf_cmd`.
const PROGRAM_QUERY: libc::c_int = 16;
/// `BPF_CGROUP_INET4_CONNECT` of `enum bpf_attach_type`.
const CONNECT4: u32 = 10;
/// `BPF_F_QUERY_EFFECTIVE`: those of the groups above too, in the order in which they run.
const EFFECTIVE: u32 = 1;
/// The kernel attaches at most 64 programs to a group (`BPF_CGROUP_MAX_PROGS`); more of those above do not fit here.
const MOST: u32 = 256;

/// The part of `union bpf_attr` for `BPF_PROG_QUERY`. 4 * 4 + 8 + 4 + 4 = 32 bytes.
#[repr(C)]
struct QueryAttributes {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<QueryAttributes>() == 4 * 4 + 8 + 4 + 4);

/// A load balancer at the socket, by the names of its programs (the kernel keeps 15 characters).
struct Balancer {
    names: &'static [&'static str],
    who: &'static str,
    advice: &'static str,
}

const BALANCERS: [Balancer; 2] = [
    Balancer {
        names: &["cil_sock4_conn", "sock4_connect"],
        who: "Cilium",
        advice: "set `socketLB.hostNamespaceOnly: true` in Cilium's Helm values, so that it translates service addresses of \
                 pods at their network devices, after the agent has seen them",
    },
    Balancer {
        names: &["calico_connect", "cali_ctlb_v4"],
        who: "Calico",
        advice: "set `bpfConnectTimeLoadBalancing: Disabled` and `bpfHostNetworkedNATWithoutCTLB: Enabled` in Calico's \
                 FelixConfiguration, so that it translates service addresses of pods on packets",
    },
];

/// A load balancer that hides service addresses, and what to do. Of all programs at the hook, in the order in which they run.
pub(super) fn balancer(programs: &[String]) -> Option<(&'static str, &'static str)> {
    let is_there = |balancer: &&Balancer| {
        balancer.names.iter().any(|name| programs.iter().any(|program| program.starts_with(name)))
    };
    BALANCERS.iter().find(is_there).map(|balancer| (balancer.who, balancer.advice))
}

/// Names of the programs that see an IPv4 `connect` in this cgroup, in the order in which they run.
///
/// # Errors
/// The folder is no cgroup of version 2, or the kernel refuses.
pub fn connect_programs(cgroup: &Path) -> io::Result<Vec<String>> {
    let folder = File::open(cgroup)?;
    let mut ids = vec![0_u32; MOST as usize];
    let mut attributes = QueryAttributes {
        target_fd: folder.as_fd().as_raw_fd().unsigned_abs(),
        attach_type: CONNECT4,
        query_flags: EFFECTIVE,
        attach_flags: 0,
        program_ids: ids.as_mut_ptr() as u64,
        count: MOST,
        reserved: 0,
    };
    link::bpf_answering(PROGRAM_QUERY, &mut attributes)?;
    ids.truncate(attributes.count as usize);
    let known: Vec<(u32, String)> = loaded_programs()
        .filter_map(Result::ok)
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    let name = |id: &u32| {
        let found = known.iter().find(|(one, _)| one == id);
        found.map_or_else(|| format!("program {id}"), |(_, name)| name.clone())
    };
    Ok(ids.iter().map(name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balancers_are_known_by_their_programs() {
        let table: [(&[&str], Option<&str>); 6] = [
            (&[], None),
            (&["on_connect4"], None),
            (&["on_connect4", "sd_fw_ingress"], None),
            (&["cil_sock4_conne", "on_connect4"], Some("Cilium")),
            (&["sock4_connect"], Some("Cilium")),
            (&["calico_connect_"], Some("Calico")),
        ];
        for (programs, who) in table {
            let programs: Vec<String> = programs.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(balancer(&programs).map(|(who, _)| who), who, "{programs:?}");
        }
    }
}
