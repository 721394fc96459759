//! The commands from outside: a cluster through its API server, by a kubeconfig.
//!
//! ```text
//! place      which agent, by flags
//! connect    client of the API server; refusals in words
//! find       the agent of a node or pod; pure
//! everywhere all agents
//! forward    a connection to its admin port
//! check      nodes, conflicts, policies (each pure) -> findings
//! enroll     enrolment (pure) -> a plan, and the label
//! install    manifests (pure) -> printed or applied
//! ```

pub mod check;
mod conflicts;
mod connect;
pub mod enroll;
mod enrolment;
pub mod everywhere;
mod find;
mod finding;
pub mod forward;
pub mod install;
mod nodes;
pub mod place;
mod policies;
mod selector;

pub use connect::ClusterError;
