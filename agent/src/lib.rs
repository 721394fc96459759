//! Posthaste: a service mesh without sidecars. One agent per node captures the sockets of enrolled pods with
//! eBPF and carries them through mutual TLS to the agent of the pod they are meant for.
//!
//! Start reading at `path` (what happens to a connection) and `snapshot` (what the node knows).

pub mod bpf;
pub mod ca;
pub mod cgroup;
pub mod cli;
pub mod config;
pub mod control;
pub mod explain;
pub mod http1;
pub mod identity;
pub mod netns;
pub mod node;
pub mod observe;
pub mod path;
pub mod resilience;
pub mod snapshot;
pub mod tls;
pub mod tunnel;
pub mod worker;
