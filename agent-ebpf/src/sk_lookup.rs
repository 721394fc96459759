//! `sk_lookup`: steers connections from outside to the agent's listeners in the pod's own network namespace. One
//! instance of the program per pod (see `COOKIE`). Where the look-up of a listener fails, the pod's fail mode decides.

use core::mem::offset_of;

use agent_common::{
    Address, Counter, Direction, FAMILY_V6, ListenerKey,
    inbound::{self, Arrival, Verdict},
};
use aya_ebpf::{
    bindings::{bpf_sk_lookup, sk_action},
    macros::sk_lookup,
    programs::SkLookupContext,
};

use crate::context::load_v6;
use crate::maps::{COOKIE, LISTENERS, NODE_ADDRESSES, count, heartbeat_is_fresh, is_excluded, settings};

#[sk_lookup]
pub fn on_sk_lookup(ctx: SkLookupContext) -> u32 {
    let cookie = COOKIE.load();
    let Some(settings) = settings(cookie) else { return sk_action::SK_PASS };
    let arrival = arrival(ctx.lookup);
    let port = read!(ctx.lookup, local_port) as u16;
    let from_node = || NODE_ADDRESSES.get_ptr(arrival.remote).is_some();
    let excluded = || is_excluded(cookie, port, Direction::Inbound);
    let mut verdict = inbound::decide(settings, &arrival, from_node, excluded, heartbeat_is_fresh);
    if verdict == Verdict::Steer && !steer(&ctx, cookie) {
        verdict = inbound::without_listener(settings);
    }
    match verdict {
        Verdict::Pass => sk_action::SK_PASS,
        Verdict::PassCounted(counter) => {
            count(cookie, counter);
            sk_action::SK_PASS
        }
        Verdict::Steer => {
            count(cookie, Counter::CapturedInbound);
            sk_action::SK_PASS
        }
        Verdict::Refuse(counter) => {
            count(cookie, counter);
            sk_action::SK_DROP
        }
    }
}

/// False where the agent has no listener of the family: a killed agent's sockets leave the map at once.
#[inline(always)]
fn steer(ctx: &SkLookupContext, cookie: u64) -> bool {
    let v6 = read!(ctx.lookup, family) == FAMILY_V6;
    let key = if v6 { ListenerKey::v6(cookie) } else { ListenerKey::v4(cookie) };
    LISTENERS.redirect_sk_lookup(SkLookupContext::new(ctx.lookup), key, 0).is_ok()
}

#[inline(always)]
fn arrival(lookup: *mut bpf_sk_lookup) -> Arrival {
    let (remote, local) =
        if read!(lookup, family) == FAMILY_V6 { addresses_v6(lookup) } else { addresses_v4(lookup) };
    Arrival { protocol: read!(lookup, protocol), device: read!(lookup, ingress_ifindex), remote, local }
}

#[inline(always)]
fn addresses_v4(lookup: *mut bpf_sk_lookup) -> (Address, Address) {
    (Address::from_v4_word(read!(lookup, remote_ip4)), Address::from_v4_word(read!(lookup, local_ip4)))
}

#[inline(always)]
fn addresses_v6(lookup: *mut bpf_sk_lookup) -> (Address, Address) {
    // SAFETY: the context has an address of 16 bytes there.
    let remote = unsafe { load_v6::<{ offset_of!(bpf_sk_lookup, remote_ip6) }, _>(lookup) };
    // SAFETY: the context has an address of 16 bytes there.
    let local = unsafe { load_v6::<{ offset_of!(bpf_sk_lookup, local_ip6) }, _>(lookup) };
    (remote, local)
}
