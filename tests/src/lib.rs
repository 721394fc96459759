//! The harness of the integration tests, the demo and the benchmarks: a [`Mesh`] of "nodes" and "pods" on one machine.
//!
//! Every node, pod and outsider is a network namespace joined to a bridge, which lives in a namespace of its own, so that
//! nothing touches the machine's network and worlds may use the same addresses side by side. Agents and the CA are
//! real processes of the real binary (`POSTHASTE_BIN`, else the one that was built beside the tests); kernel programs,
//! sockets and TLS are real too. Nothing is faked here.
//!
//! It needs root, `ip` (iproute2) and cgroup v2. What an earlier run that died left behind is removed at the next start.

// A JSON value answers null for a field that it lacks; nothing panics.
#![allow(clippy::indexing_slicing)]

pub mod agent;
pub mod authority;
pub mod bench;
pub mod boot_guard;
pub mod browser;
pub mod certificates;
pub mod cgroup;
pub mod cluster;
pub mod collector;
pub mod fault;
pub mod http;
pub mod kube_proxy;
pub mod kubelet;
pub mod manifests;
pub mod mesh;
pub mod metrics;
pub mod namespace;
pub mod nginx;
pub mod objects;
pub mod peer;
pub mod process;
pub mod python;
pub mod site;
pub mod sniffer;
pub mod sweep;
pub mod tools;
pub mod wait;
pub mod world;

pub use agent::Agent;
pub use authority::Authority;
pub use browser::Browser;
pub use cluster::Cluster;
pub use fault::{Doing, Fault};
pub use kubelet::{Driver, KubeletPod};
pub use mesh::{Mesh, Pod};
pub use objects::{EndpointSpec, ServiceSpec};
pub use process::{Finished, Running};
pub use site::{Family, Site};
pub use sniffer::Sniffer;
pub use wait::eventually;
pub use world::World;
