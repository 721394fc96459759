//! Capture: the eBPF programs, their maps and links, and the only user of aya. [`Capture::start`] loads the programs or
//! takes over what an earlier agent or the boot guard pinned; [`Capture::apply`] makes the kernel follow what is wanted through a pure
//! plan; [`OriginalDestinations`] tells a worker where an accepted connection wanted to go.

mod apply;
mod capture;
mod counts;
mod error;
mod events;
mod guard;
mod judge;
mod link;
mod load;
mod lock;
mod log_lines;
mod maps;
mod mounts;
mod neighbours;
mod plan;
mod probe;
mod read;
mod status;
mod verdict;
mod wanted;

pub use capture::{Capture, Heartbeat};
pub use counts::PodCounts;
pub use error::CaptureError;
pub use events::{GroupEvent, GroupEvents};
pub use guard::{Guarded, Unjudged, has_hooks};
pub use judge::{HeldCounts, Judgement, Judgements};
pub use neighbours::connect_programs;
pub use probe::{Requirement, probe, rights as probe_rights};
pub use read::OriginalDestinations;
pub use status::{CaptureStatus, HookStatus, MapStatus};
pub use verdict::{Inbound, Judged, Outbound};
pub use wanted::{CaptureConfig, PodListeners, WantedPod};
