//! `connect4` and `connect6`: send a pod's connection to the agent; `sendmsg4` and `sendmsg6` count where UDP goes; `getpeername4` and `getpeername6`: show the
//! application the destination it asked for. What happens where something fails is the pod's fail mode, never a choice
//! made here.

use core::mem::offset_of;

use agent_common::{
    Address, Counter, Destination, Direction,
    outbound::{self, Attempt, Verdict},
};
use aya_ebpf::{
    bindings::{
        BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_addr, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1 as Tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as TupleV4,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as TupleV6,
    },
    helpers::generated::{bpf_get_netns_cookie, bpf_sk_lookup_tcp, bpf_sk_release},
    macros::cgroup_sock_addr,
    programs::SockAddrContext,
};

use aya_log_ebpf::warn;

use crate::context::{load_v6, store_v6};
use crate::maps::{
    AGENT_MARK, ORIGINAL, OUTBOUND_PORT, count, heartbeat_is_fresh, is_excluded, note_udp, settings,
};
use crate::unenrolled;

/// The system call goes on.
const PROCEED: i32 = 1;
/// The system call fails with EPERM.
const REFUSE: i32 = 0;

/// Which of the context's address fields the kernel reads: that of the socket, not that of the address.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

#[cgroup_sock_addr(connect4)]
pub fn on_connect4(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V4)
}

#[cgroup_sock_addr(connect6)]
pub fn on_connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Family::V6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn on_sendmsg4(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn on_sendmsg6(ctx: SockAddrContext) -> i32 {
    sendmsg(&ctx, Family::V6)
}

#[cgroup_sock_addr(getpeername4)]
pub fn on_getpeername4(ctx: SockAddrContext) -> i32 {
    show_original(&ctx, Family::V4)
}

#[cgroup_sock_addr(getpeername6)]
pub fn on_getpeername6(ctx: SockAddrContext) -> i32 {
    show_original(&ctx, Family::V6)
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, family: Family) -> i32 {
    // SAFETY: the helper takes the context of a socket address program.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    let Some(settings) = settings(cookie) else { return without_agent(ctx, family, cookie) };
    let attempt = attempt(ctx, family);
    let destination = destination(ctx, family);
    let port = destination.port;
    let excluded = || is_excluded(cookie, port, Direction::Outbound);
    let alive = || heartbeat_is_fresh() && has_listener(ctx, &destination.address);
    let mut verdict = outbound::decide(settings, &attempt, excluded, alive);
    if verdict == Verdict::Capture && !keep_original(ctx, destination) {
        warn!(ctx, "no memory for the destination of a connection of the network namespace {}", cookie);
        verdict = outbound::without_room(settings);
    }
    match verdict {
        Verdict::Capture => {
            redirect(ctx, family, &destination.address);
            count(cookie, Counter::CapturedOutbound);
            PROCEED
        }
        Verdict::Pass => {
            forget_original(ctx);
            PROCEED
        }
        Verdict::PassCounted(counter) => {
            forget_original(ctx);
            count(cookie, counter);
            if counter == Counter::UdpConnects {
                note_udp(cookie, destination);
            }
            PROCEED
        }
        Verdict::Refuse(counter) => {
            count(cookie, counter);
            REFUSE
        }
    }
}

/// A process whose network namespace is not captured: the node's own, of a pod outside of the mesh, or of one that is just
/// being made.
#[inline(always)]
fn without_agent(ctx: &SockAddrContext, family: Family, cookie: u64) -> i32 {
    if unenrolled::lets_go(cookie, || attempt(ctx, family)) { PROCEED } else { REFUSE }
}

#[inline(always)]
fn attempt(ctx: &SockAddrContext, family: Family) -> Attempt {
    let socket = socket(ctx);
    Attempt {
        kind: read!(ctx.sock_addr, type_),
        protocol: read!(ctx.sock_addr, protocol),
        mark: read!(socket, mark),
        agent_mark: AGENT_MARK.load(),
        device: read!(socket, bound_dev_if),
        destination: destination(ctx, family).address,
    }
}

#[inline(always)]
fn destination(ctx: &SockAddrContext, family: Family) -> Destination {
    let address = match family {
        Family::V4 => Address::from_v4_word(read!(ctx.sock_addr, user_ip4)),
        // SAFETY: the context has an address of 16 bytes there.
        Family::V6 => unsafe { load_v6::<{ offset_of!(bpf_sock_addr, user_ip6) }, _>(ctx.sock_addr) },
    };
    Destination { address, port: u16::from_be(read!(ctx.sock_addr, user_port) as u16), reserved: 0 }
}

/// A packet of a UDP socket that is not connected: only looked at.
#[inline(always)]
fn sendmsg(ctx: &SockAddrContext, family: Family) -> i32 {
    // SAFETY: the helper takes the context of a socket address program.
    let cookie = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    if settings(cookie).is_some() {
        note_udp(cookie, destination(ctx, family));
    }
    PROCEED
}

#[inline(always)]
fn socket(ctx: &SockAddrContext) -> *mut bpf_sock {
    read!(ctx.sock_addr, __bindgen_anon_1.sk)
}

/// Whether the agent listens on loopback in this network namespace: a killed agent's sockets are gone at once, long
/// before its heartbeat is stale.
#[inline(always)]
fn has_listener(ctx: &SockAddrContext, destination: &Address) -> bool {
    let dport = (OUTBOUND_PORT.load() as u16).to_be();
    let (tuple, size) = if destination.is_v4() {
        let word = Address::LOOPBACK_V4.v4_word();
        let ipv4 = TupleV4 { saddr: word, daddr: word, sport: 0, dport };
        (Tuple { ipv4 }, size_of::<TupleV4>())
    } else {
        let words = Address::LOOPBACK_V6.words;
        let ipv6 = TupleV6 { saddr: words, daddr: words, sport: 0, dport };
        (Tuple { ipv6 }, size_of::<TupleV6>())
    };
    let mut tuple = bpf_sock_tuple { __bindgen_anon_1: tuple };
    let context = ctx.sock_addr.cast();
    let here = BPF_F_CURRENT_NETNS as i64 as u64;
    // SAFETY: the tuple lives on the stack and its size says which family it holds.
    let listener = unsafe { bpf_sk_lookup_tcp(context, &raw mut tuple, size as u32, here, 0) };
    if listener.is_null() {
        return false;
    }
    // SAFETY: the pointer is the referenced socket that the look-up returned; it is released once.
    unsafe { bpf_sk_release(listener.cast()) };
    true
}

/// Notes the destination on the application's socket; false where there is no memory for it.
#[inline(always)]
fn keep_original(ctx: &SockAddrContext, mut destination: Destination) -> bool {
    // SAFETY: the context's socket is valid while the program runs.
    let kept = unsafe { ORIGINAL.get_or_insert_ptr_mut(ctx, Some(&mut destination)) };
    if kept.is_null() {
        return false;
    }
    // SAFETY: the pointer is the socket's own storage; a socket that connects again finds its old value there.
    unsafe { *kept = destination };
    true
}

/// A socket that was captured once may connect again to something that is not captured.
#[inline(always)]
fn forget_original(ctx: &SockAddrContext) {
    // SAFETY: the context's socket is valid while the program runs. A socket without storage is no error.
    let _absent = unsafe { ORIGINAL.delete(socket(ctx)) };
}

#[inline(always)]
fn redirect(ctx: &SockAddrContext, family: Family, destination: &Address) {
    write!(u32::from((OUTBOUND_PORT.load() as u16).to_be()), ctx.sock_addr, user_port);
    match family {
        Family::V4 => write!(Address::LOOPBACK_V4.v4_word(), ctx.sock_addr, user_ip4),
        Family::V6 if destination.is_v4() => write_v6(ctx, &Address::LOOPBACK_V4),
        Family::V6 => write_v6(ctx, &Address::LOOPBACK_V6),
    }
}

#[inline(always)]
fn write_v6(ctx: &SockAddrContext, address: &Address) {
    // SAFETY: the context of connect6 and getpeername6 has an address of 16 bytes there that may be written.
    unsafe { store_v6::<{ offset_of!(bpf_sock_addr, user_ip6) }, _>(ctx.sock_addr, address) }
}

#[inline(always)]
fn show_original(ctx: &SockAddrContext, family: Family) -> i32 {
    // SAFETY: the context's socket is valid while the program runs.
    let original = unsafe { ORIGINAL.get_ptr_mut(ctx) };
    if original.is_null() {
        return PROCEED;
    }
    // SAFETY: the pointer is the socket's own storage.
    let original = unsafe { *original };
    write!(u32::from(original.port.to_be()), ctx.sock_addr, user_port);
    match family {
        Family::V4 => write!(original.address.v4_word(), ctx.sock_addr, user_ip4),
        Family::V6 => write_v6(ctx, &original.address),
    }
    PROCEED
}
