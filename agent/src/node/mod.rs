//! The life of an agent: starts the parts, makes the node follow what the source says, stops without a trace.
//!
//! One task owns what must not be done twice at once: the capture, the enrolled pods, the published snapshot. It wakes for
//! a change of the source, for the retry tick and for the stop.

pub mod addresses;
pub mod appearances;
pub mod authority;
pub mod guard;
pub mod heartbeat;
mod judging;
pub mod kernel;
pub mod locate;
pub mod machine;
pub mod pods;
pub mod publish;
pub mod revocation;
pub mod servers;
mod settings;
pub mod source;
pub mod standby;
pub mod start;
pub mod wakeups;

pub use start::{StartError, run};
