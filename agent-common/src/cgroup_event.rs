//! What the kernel tells of control groups as they come and go. Pure.

/// Room for a path; what is longer is cut off.
pub const PATH_BYTES: usize = 512;

/// Room for the path of the control group that an agent looks for pods below; a longer one counts as the whole hierarchy.
pub const ROOT_BYTES: usize = 256;
/// The control group that an agent looks for pods below. 4 + 256 = 260 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Bytes of `path` that count; 0 for the whole hierarchy.
    pub length: u32,
    /// Its path in the hierarchy, without a slash at the end.
    pub path: [u8; ROOT_BYTES],
}

const _: () = assert!(size_of::<Root>() == 4 + ROOT_BYTES);

impl Root {
    /// Of this path; the whole hierarchy where it finds no room.
    #[must_use]
    pub fn new(path: &str) -> Self {
        let mut root = Self { length: 0, path: [0; ROOT_BYTES] };
        if let Some(room) = root.path.get_mut(..path.len()) {
            room.copy_from_slice(path.as_bytes());
            root.length = path.len() as u32;
        }
        root
    }
}

/// The last bytes of a path, the zero at the end included, that tell whether it is the folder of all pods.
pub const TAIL_BYTES: usize = 16;

/// Whether a path that ends so is the folder of all pods: kubelet's `kubepods` or `kubepods.slice`, maybe with a prefix of its own. What
/// else ends so is nobody's business for a moment.
#[inline(always)]
pub const fn is_kubepods(tail: [u8; TAIL_BYTES]) -> bool {
    let tail = u128::from_le_bytes(tail);
    let cgroupfs = u128::from_le_bytes(*b"\0\0\0\0\0\0\0kubepods\0");
    let systemd = u128::from_le_bytes(*b"\0kubepods.slice\0");
    tail >> 56 == cgroupfs >> 56 || tail >> 8 == systemd >> 8
}

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
    fn the_end_of_a_path_tells_the_folder_of_all_pods() {
        let tail = |path: &str| {
            let mut tail = [b'x'; TAIL_BYTES];
            let bytes = [path.as_bytes(), b"\0"].concat();
            for (to, from) in tail.iter_mut().rev().zip(bytes.iter().rev()) {
                *to = *from;
            }
            tail
        };
        for path in ["/kubepods", "/kubepods.slice", "/kubelet.slice/kubelet-kubepods.slice", "/k/kubepods"] {
            assert!(is_kubepods(tail(path)), "{path}");
        }
        for path in ["/", "/kubepods/pod1", "/kubepods.slice/kubepods-pod1.slice", "/kubepod", "/a.slice"] {
            assert!(!is_kubepods(tail(path)), "{path}");
        }
    }

    #[test]
    fn a_root_that_finds_no_room_is_the_whole_hierarchy() {
        let root = Root::new("/a");
        assert_eq!((root.length, &root.path[..3]), (2, b"/a\0".as_slice()));
        assert_eq!(Root::new(&"a".repeat(ROOT_BYTES)).length, ROOT_BYTES as u32);
        assert_eq!(Root::new(&"a".repeat(ROOT_BYTES + 1)).length, 0);
    }

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
