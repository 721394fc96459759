//! `sock_ops`: carries the destination from the application's socket to the one that the agent accepts. At the client's
//! SYN it goes into FLOWS under the client's end; when the agent's side is established, before `accept` can return it,
//! it moves onto that socket; a flow that never got there is removed when the client's socket closes. So nothing is
//! lost to eviction, and a client that has already gone is still known.

use core::mem::offset_of;

use agent_common::{Address, Counter, Destination, FAMILY_V6, FlowKey};
use aya_ebpf::{
    bindings::{
        BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB,
        BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB, BPF_TCP_CLOSE, bpf_sock_ops,
    },
    btf_maps::SkStorage,
    helpers::generated::{bpf_get_netns_cookie, bpf_sk_storage_get, bpf_sock_ops_cb_flags_set},
    macros::sock_ops,
    programs::SockOpsContext,
};

use aya_log_ebpf::warn;

use crate::context::load_v6;
use crate::maps::{ACCEPTED, FLOWS, ORIGINAL, OUTBOUND_PORT, count, settings};

/// The kernel goes on with its own values for whatever it asked.
const PROCEED: u32 = 1;

#[sock_ops]
pub fn on_sock_ops(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    let port = OUTBOUND_PORT.load();
    match read!(ops, op) {
        BPF_SOCK_OPS_TCP_CONNECT_CB if remote_port(ops) == port => note_flow(&ctx),
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB if read!(ops, local_port) == port => move_flow(&ctx),
        BPF_SOCK_OPS_STATE_CB if remote_port(ops) == port => forget_flow(ops),
        _ => {}
    }
    PROCEED
}

/// The application's SYN is about to leave and its local end is known.
#[inline(always)]
fn note_flow(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    let Some(original) = stored(&ORIGINAL, ops) else { return };
    let cookie = cookie(ops);
    // SAFETY: the pointer is the socket's own storage.
    let destination = unsafe { *original };
    if FLOWS.insert(local_end(ops, cookie), destination, 0).is_err() {
        warn!(ctx, "no room for a flow of the network namespace {}: raise max_flows", cookie);
        count(cookie, Counter::MapFull);
        return;
    }
    let flags = read!(ops, bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_STATE_CB_FLAG;
    // SAFETY: the helper takes the context of a socket operations program.
    unsafe { bpf_sock_ops_cb_flags_set(ops, flags as i32) };
}

/// The agent's side is established; the socket is locked, so `accept` cannot return it before this is done.
#[inline(always)]
fn move_flow(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    let cookie = cookie(ops);
    if settings(cookie).is_none() {
        return;
    }
    let key = remote_end(ops, cookie);
    // SAFETY: a copy is taken at once, before the entry is removed.
    let Some(mut destination) = (unsafe { FLOWS.get(key) }).copied() else { return };
    if !store(&ACCEPTED, ops, &mut destination) {
        warn!(ctx, "no memory for the destination of a connection of the network namespace {}", cookie);
        count(cookie, Counter::MapFull);
    }
    let _closed_meanwhile = FLOWS.remove(key);
}

/// The application's socket has changed its state; once it is closed, a flow that was not moved has no use.
#[inline(always)]
fn forget_flow(ops: *mut bpf_sock_ops) {
    if read!(ops, __bindgen_anon_1.args[1]) == BPF_TCP_CLOSE {
        let _moved = FLOWS.remove(local_end(ops, cookie(ops)));
    }
}

#[inline(always)]
fn cookie(ops: *mut bpf_sock_ops) -> u64 {
    // SAFETY: the helper takes the context of a socket operations program.
    unsafe { bpf_get_netns_cookie(ops.cast()) }
}

#[inline(always)]
fn remote_port(ops: *mut bpf_sock_ops) -> u32 {
    u32::from_be(read!(ops, remote_port))
}

#[inline(always)]
fn local_end(ops: *mut bpf_sock_ops, cookie: u64) -> FlowKey {
    let address = if read!(ops, family) == FAMILY_V6 {
        // SAFETY: the context has an address of 16 bytes there.
        unsafe { load_v6::<{ offset_of!(bpf_sock_ops, local_ip6) }, _>(ops) }
    } else {
        Address::from_v4_word(read!(ops, local_ip4))
    };
    FlowKey::new(cookie, address, read!(ops, local_port))
}

#[inline(always)]
fn remote_end(ops: *mut bpf_sock_ops, cookie: u64) -> FlowKey {
    let address = if read!(ops, family) == FAMILY_V6 {
        // SAFETY: the context has an address of 16 bytes there.
        unsafe { load_v6::<{ offset_of!(bpf_sock_ops, remote_ip6) }, _>(ops) }
    } else {
        Address::from_v4_word(read!(ops, remote_ip4))
    };
    FlowKey::new(cookie, address, remote_port(ops))
}

#[inline(always)]
fn stored(map: &SkStorage<Destination>, ops: *mut bpf_sock_ops) -> Option<*const Destination> {
    let socket = read!(ops, __bindgen_anon_2.sk);
    if socket.is_null() {
        return None;
    }
    let map = core::ptr::from_ref(map).cast_mut().cast();
    // SAFETY: the socket is the context's own and not null; without the create flag nothing is made.
    let value = unsafe { bpf_sk_storage_get(map, socket.cast(), core::ptr::null_mut(), 0) };
    (!value.is_null()).then_some(value.cast_const().cast())
}

#[inline(always)]
fn store(map: &SkStorage<Destination>, ops: *mut bpf_sock_ops, value: &mut Destination) -> bool {
    let socket = read!(ops, __bindgen_anon_2.sk);
    if socket.is_null() {
        return false;
    }
    let map = core::ptr::from_ref(map).cast_mut().cast();
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: the socket is the context's own and not null; the kernel copies the value from the stack.
    let kept = unsafe { bpf_sk_storage_get(map, socket.cast(), core::ptr::from_mut(value).cast(), create) };
    !kept.is_null()
}
