//! A process whose network namespace is not captured: finds the pod by the control groups above the process, and does what
//! the verdict says. Where no namespace is strict this costs one look-up.

use agent_common::{
    Standing,
    outbound::Attempt,
    unenrolled::{self, Verdict},
};
use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_ktime_get_ns, generated::bpf_get_current_ancestor_cgroup_id},
};

use crate::maps::{CGROUPS, JUDGING, NEW_FOLDER, add_one, heartbeat_is_fresh};

/// How deep a pod's group may be: a node inside a container inside a slice.
const DEEPEST: i32 = 12;

/// Whether the connection may go where it wants.
#[inline(always)]
pub fn lets_go(cookie: u64, attempt: impl FnOnce() -> Attempt) -> bool {
    let Some(judging) = JUDGING.get(0) else { return true };
    let (has_strict, home, limit_ns) =
        (read!(judging, has_strict), read!(judging, home), read!(judging, unknown_limit_ns));
    if has_strict == 0 || cookie == home {
        return true;
    }
    // SAFETY: the helper takes nothing and only reads the clock.
    let now = unsafe { bpf_ktime_get_ns() };
    let standing = match standing(now) {
        Found::Pod(standing) => standing,
        Found::NoRoom => return is_let_go_without_room(now, limit_ns, attempt),
        Found::Nowhere => return is_let_go_nowhere(now, read!(judging, read_ns), limit_ns, attempt),
    };
    let age_ns = now.saturating_sub(read!(standing, seen_ns));
    let verdict =
        unenrolled::decide(read!(standing, flags), age_ns, limit_ns, &attempt(), heartbeat_is_fresh);
    match verdict {
        Verdict::Pass => true,
        Verdict::PassCounted => {
            // SAFETY: the pointer is a live map value; the number is aligned in it.
            unsafe { add_one(&raw mut (*standing).passed) };
            true
        }
        Verdict::Refuse => {
            // SAFETY: as above.
            unsafe { add_one(&raw mut (*standing).refused) };
            false
        }
    }
}

/// The same for a process that is in no pod that is known.
#[inline(always)]
fn is_let_go_nowhere(now: u64, read_ns: u64, limit_ns: u64, attempt: impl FnOnce() -> Attempt) -> bool {
    let Some(folder) = NEW_FOLDER.get_ptr_mut(0) else { return true };
    let verdict = unenrolled::decide_nowhere(read!(folder, made_ns), read_ns, now, limit_ns, attempt);
    if verdict == Verdict::Refuse {
        // SAFETY: the pointer is a live map value; the number is aligned in it.
        unsafe { add_one(&raw mut (*folder).refused) };
    }
    verdict != Verdict::Refuse
}

/// The same for a pod that nobody has judged and that cannot be entered either: as if it had been seen for ever.
#[inline(always)]
fn is_let_go_without_room(now: u64, limit_ns: u64, attempt: impl FnOnce() -> Attempt) -> bool {
    let verdict = unenrolled::decide(Standing::UNKNOWN, now, limit_ns, &attempt(), heartbeat_is_fresh);
    if let (Verdict::Refuse, Some(folder)) = (verdict, NEW_FOLDER.get_ptr_mut(0)) {
        // SAFETY: the pointer is a live map value; the number is aligned in it.
        unsafe { add_one(&raw mut (*folder).refused) };
    }
    verdict != Verdict::Refuse
}

/// Where the current process belongs.
enum Found {
    /// To this pod.
    Pod(*mut Standing),
    /// To a pod that nobody has judged and for which the map has no room.
    NoRoom,
    /// To no pod that is known, maybe to the node.
    Nowhere,
}

/// The pod that the current process belongs to.
#[inline(always)]
fn standing(now: u64) -> Found {
    let mut among_pods = false;
    for level in 1..=DEEPEST {
        // SAFETY: the helper takes a number and reads the current task, which made the system call.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level) };
        if id == 0 {
            break;
        }
        match CGROUPS.get_ptr_mut(id) {
            Some(found) if read!(found, flags) & Standing::HOLDS_PODS != 0 => among_pods = true,
            Some(found) => return Found::Pod(found),
            None if among_pods => return first_seen(id, now),
            None => {}
        }
    }
    Found::Nowhere
}

/// Enters a pod that nobody has judged.
#[inline(always)]
fn first_seen(id: u64, now: u64) -> Found {
    let standing = Standing { flags: Standing::UNKNOWN, seen_ns: now, ..Standing::default() };
    let _judged_meanwhile = CGROUPS.insert(id, standing, u64::from(BPF_NOEXIST));
    CGROUPS.get_ptr_mut(id).map_or(Found::NoRoom, Found::Pod)
}
