//! Addresses in and out of a program's context. The verifier takes loads and stores there only at constant offsets from the
//! context's own pointer; the compiler likes to merge the IPv4 and the IPv6 branch into one at a computed address,
//! also where they are volatile. Spelt as instructions they stay as they are.

use core::arch::asm;

use agent_common::Address;

/// The four words at `OFFSET`.
///
/// # Safety
///
/// `context` is a program's context with a readable address of 16 bytes at `OFFSET`.
#[inline(always)]
pub unsafe fn load_v6<const OFFSET: usize, T>(context: *const T) -> Address {
    let (a, b, c, d): (u64, u64, u64, u64);
    // SAFETY: the caller vouches for the place; the verifier checks it.
    unsafe {
        asm!("{0} = *(u32 *)({1} + {2})", out(reg) a, in(reg) context, const OFFSET);
        asm!("{0} = *(u32 *)({1} + {2})", out(reg) b, in(reg) context, const OFFSET + 4);
        asm!("{0} = *(u32 *)({1} + {2})", out(reg) c, in(reg) context, const OFFSET + 8);
        asm!("{0} = *(u32 *)({1} + {2})", out(reg) d, in(reg) context, const OFFSET + 12);
    }
    Address { words: [a as u32, b as u32, c as u32, d as u32] }
}

/// Writes four words at `OFFSET`.
///
/// # Safety
///
/// `context` is a program's context with a writable address of 16 bytes at `OFFSET`.
#[inline(always)]
pub unsafe fn store_v6<const OFFSET: usize, T>(context: *mut T, address: &Address) {
    let [a, b, c, d] = address.words;
    let (a, b, c, d) = (u64::from(a), u64::from(b), u64::from(c), u64::from(d));
    // SAFETY: the caller vouches for the place; the verifier checks it.
    unsafe {
        asm!("*(u32 *)({1} + {2}) = {0}", in(reg) a, in(reg) context, const OFFSET);
        asm!("*(u32 *)({1} + {2}) = {0}", in(reg) b, in(reg) context, const OFFSET + 4);
        asm!("*(u32 *)({1} + {2}) = {0}", in(reg) c, in(reg) context, const OFFSET + 8);
        asm!("*(u32 *)({1} + {2}) = {0}", in(reg) d, in(reg) context, const OFFSET + 12);
    }
}
