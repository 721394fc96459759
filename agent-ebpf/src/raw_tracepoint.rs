//! Raw tracepoints of control groups: tell the agent when the groups of pods come, get their first process, and go; and note folders of
//! all pods for the connect hooks, also while no agent lives. They happen a few times in the life of a container, so nothing is
//! filtered here.

use agent_common::cgroup_event::{
    CgroupChange, CgroupEvent, PATH_BYTES, ROOT_BYTES, Root, TAIL_BYTES, is_kubepods,
};
use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};

use crate::maps::{CGROUP_EVENTS, NEW_FOLDER, PATH, ROOT};

/// `cgroup_mkdir(struct cgroup *, const char *path)`: what the connect hooks need. Its link is pinned like theirs.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn on_cgroup_folder(ctx: RawTracePointContext) -> i32 {
    note_folder(ctx.arg::<*const u8>(1));
    0
}

/// The same tracepoint: what an agent that lives wants to know.
#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn on_cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    tell(&ctx, CgroupChange::Made)
}

/// `cgroup_rmdir(struct cgroup *, const char *path)`.
#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub fn on_cgroup_rmdir(ctx: RawTracePointContext) -> i32 {
    tell(&ctx, CgroupChange::Removed)
}

/// `cgroup_notify_populated(struct cgroup *, const char *path, int value)`: also for a process that is born in the group
/// (`CLONE_INTO_CGROUP`), which no other event tells.
#[raw_tracepoint(tracepoint = "cgroup_notify_populated")]
pub fn on_cgroup_populated(ctx: RawTracePointContext) -> i32 {
    let populated = ctx.arg::<u64>(2) as u32 != 0;
    tell(&ctx, if populated { CgroupChange::Populated } else { CgroupChange::Emptied })
}

/// An event that finds no room is lost: the agent looks at all groups now and then anyway.
#[inline(always)]
fn tell(ctx: &RawTracePointContext, change: CgroupChange) -> i32 {
    let path = ctx.arg::<*const u8>(1);
    let Some(mut entry) = CGROUP_EVENTS.reserve::<CgroupEvent>(0) else { return 0 };
    let event = entry.as_mut_ptr();
    // SAFETY: the entry is ours until it is submitted, and of this type.
    let to = unsafe { &raw mut (*event).path };
    // SAFETY: the helper checks the address it reads from; the destination has this many bytes.
    let length = unsafe { bpf_probe_read_kernel_str(to.cast(), PATH_BYTES as u32, path.cast()) };
    // SAFETY: the helper takes nothing and only reads the clock.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: as above.
    unsafe {
        (&raw mut (*event).change).write(change as u32);
        (&raw mut (*event).length).write(if length < 0 { 0 } else { length as u32 });
        (&raw mut (*event).at_ns).write(at_ns);
    }
    entry.submit(0);
    0
}

/// A folder of all pods: what is in it is held by the connect hooks until the agent has read it.
#[inline(always)]
fn note_folder(path: *const u8) {
    let (Some(copy), Some(root), Some(folder)) =
        (PATH.get_ptr_mut(0), ROOT.get_ptr(0), NEW_FOLDER.get_ptr_mut(0))
    else {
        return;
    };
    // SAFETY: the helper checks the address it reads from; the destination has this many bytes.
    let length = unsafe { bpf_probe_read_kernel_str(copy.cast(), PATH_BYTES as u32, path.cast()) };
    if length <= 0 || !is_below(copy.cast(), root) {
        return;
    }
    let mut tail = [0_u8; TAIL_BYTES];
    let from = path.wrapping_add(length as usize).wrapping_sub(TAIL_BYTES);
    // SAFETY: as above; what is before a short path counts for nothing.
    let read = unsafe { bpf_probe_read_kernel((&raw mut tail).cast(), TAIL_BYTES as u32, from.cast()) };
    if read == 0 && is_kubepods(tail) {
        // SAFETY: the helper takes nothing and only reads the clock; the pointer is a live map value.
        unsafe { (&raw mut (*folder).made_ns).write_volatile(bpf_ktime_get_ns()) };
    }
}

/// Whether a path is below the root.
#[inline(always)]
fn is_below(path: *const u8, root: *const Root) -> bool {
    let length = read!(root, length) as usize;
    for index in 0..ROOT_BYTES {
        // SAFETY: the pointer is a live map value of more bytes than the index may be.
        let byte = unsafe { path.add(index).read() };
        if index >= length {
            return byte == b'/';
        }
        // SAFETY: as above, of as many bytes.
        if byte != unsafe { (&raw const (*root).path).cast::<u8>().add(index).read() } {
            return false;
        }
    }
    false
}
