//! The eBPF programs that capture the sockets of enrolled pods: one file per program type, `maps` for what they share.
//! They collect facts and do what the verdicts in `agent-common` say; they decide nothing themselves.

#![no_std]
#![no_main]
// The BPF target has no compare-and-swap in its baseline, so `AtomicU64` offers no `fetch_add` there; the kernel's atomic
// add is reached by the intrinsic.
#![feature(core_intrinsics)]
#![allow(internal_features)]
// See `context`.
#![feature(asm_experimental_arch)]

/// Reads one field of a context with a load of exactly its size: the verifier refuses merged loads.
macro_rules! read {
    ($context:expr, $($field:tt)+) => {
        // SAFETY: the kernel hands a context that lives as long as the program runs; the verifier checks the offset.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($field)+) }
    };
}

/// Writes one field of a context, as `read!` reads it.
macro_rules! write {
    ($value:expr, $context:expr, $($field:tt)+) => {
        // SAFETY: as for `read!`; the verifier refuses fields that may not be written.
        unsafe { core::ptr::write_volatile(&raw mut (*$context).$($field)+, $value) }
    };
}

mod cgroup_sock_addr;
mod context;
mod maps;
mod raw_tracepoint;
mod sk_lookup;
mod sock_ops;
mod unenrolled;

/// The verifier proves that nothing panics; the compiler still wants to know where it would go.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Some helpers are for programs under a licence compatible with the GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
