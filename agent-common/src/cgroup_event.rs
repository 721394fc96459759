//! What the kernel tells of control groups as they come and go. Pure.

/// Room for a path; what is longer is cut off.
pub const PATH_BYTES: usize = 512;

/// Something happened to a control group. 4 + 4 + 8 + 512 = 528 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupEvent {
    /// A [`CgroupChange`].
    pub change: u32,
    /// Bytes of `path` that count, with the zero at the end.
    pub length: u32,
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// Path of the group in its hierarchy.
    pub path: [u8; PATH_BYTES],
}

const _: () = assert!(size_of::<CgroupEvent>() == 4 + 4 + 8 + PATH_BYTES);

/// What happened.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupChange {
    /// The group was made.
    Made = 1,
    /// The first process came into it or below.
    Populated = 2,
    /// The last process has left.
    Emptied = 3,
    /// The group was removed.
    Removed = 4,
}

impl CgroupChange {
    /// By its number.
    pub const fn of(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Made),
            2 => Some(Self::Populated),
            3 => Some(Self::Emptied),
            4 => Some(Self::Removed),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_changes() {
        for change in
            [CgroupChange::Made, CgroupChange::Populated, CgroupChange::Emptied, CgroupChange::Removed]
        {
            assert_eq!(CgroupChange::of(change as u32), Some(change));
        }
        assert_eq!(CgroupChange::of(0), None);
    }
}
