//! Pods as kubelet lays them out in the control groups: where the hierarchy is mounted, which folder is which pod, and which
//! process of a pod tells its network namespace. Everything is found by reading; nothing is configured.

pub mod mounts;
pub mod path;
pub mod process;
pub mod tree;

pub use mounts::unified_root;
pub use path::PodPath;
pub use process::Search;
pub use tree::{PodCgroup, Scan, Tree};

/// The kernel tells of a folder a little before it is to be seen, nanoseconds.
pub const APPEARS_NS: u64 = 100_000_000;
