//! The source that follows an API server: one watch for each kind of object, put together to the same inputs as a folder of
//! manifests gives.
//!
//! ```text
//! connect     kubeconfig or the pod's own service account
//! kinds       what is watched, and what may be absent
//! watch       one kind, over everything that may happen to it
//! stream      one run of a watch: list, then events
//! events      what comes over the wire, line by line
//! installed   which custom kinds the cluster has
//! store       objects in force, last good ones kept; pure
//! asked       pods of other nodes that this one talks to; pure
//! fetch       fetches those
//! saved       the last inputs on disk, for a restart without an API server
//! source      the task that puts it together
//!
//! annotate    says on this node's pods that they are captured
//!
//! conditions      what became of a policy, as its status says it; pure
//! policy_status   writes that, beside the CA
//! ```

pub mod annotate;
mod asked;
mod backoff;
mod conditions;
pub mod connect;
mod events;
mod fetch;
mod installed;
mod kinds;
pub mod policy_status;
pub mod saved;
mod seen;
mod source;
mod store;
mod stream;
mod watch;

pub use source::{KubernetesSource, Options};

/// What [`crate::snapshot::Problem::origin`] says of objects from here.
pub const ORIGIN: &str = "api-server";
