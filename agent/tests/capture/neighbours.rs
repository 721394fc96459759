//! A program of somebody else at the connect hook: seen, in the order in which they run, and no hindrance.

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use posthaste::{bpf::connect_programs, snapshot::FailMode};

use crate::{
    captured,
    world::{World, accept, connect, within},
};

/// The part of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    version_and_flags: u64,
    name: [u8; 16],
    device: u32,
    attach_type: u32,
}

/// The part for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> i64 {
    // SAFETY: the attributes are a live prefix of `union bpf_attr` of the size given.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    assert!(answer >= 0, "{}", std::io::Error::last_os_error());
    answer
}

/// `return 1` at `connect4`, named as Cilium names its own.
fn somebody_elses(cgroup: &File) -> OwnedFd {
    let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let load = Load {
        kind: 18,
        count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 2],
        version_and_flags: 0,
        name: *b"cil_sock4_conne\0",
        device: 0,
        attach_type: 10,
    };
    let program = i32::try_from(bpf(5, &load)).unwrap();
    // SAFETY: the kernel has just returned this new descriptor to us alone.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let attach = Attach {
        target: cgroup.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: 10,
        flags: 2,
    };
    bpf(8, &attach);
    program
}

#[test]
fn programs_of_others_are_seen_in_their_order() {
    let world = World::new();
    let cgroup = File::open(&world.config.cgroup_root).unwrap();
    assert_eq!(connect_programs(&world.config.cgroup_root).unwrap(), Vec::<String>::new());
    let _program = somebody_elses(&cgroup);
    let (capture, outbound, _inbound) = captured(&world, FailMode::Closed);
    let names = connect_programs(&world.config.cgroup_root).unwrap();
    assert_eq!(names, ["cil_sock4_conne", "on_connect4"]);
    within(&world.pod, || connect("10.77.0.2:8080")).unwrap();
    accept(&outbound.v4);
    capture.detach().unwrap();
    assert_eq!(connect_programs(&world.config.cgroup_root).unwrap(), ["cil_sock4_conne"]);
}
